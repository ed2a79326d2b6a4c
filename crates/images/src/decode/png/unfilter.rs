//! Filters undone (section 9). The Paeth filter goes from pixel to pixel, each waiting for the one on its left; rows are independent but for
//! the pixel above. So several rows are undone at once, each one pixel behind the row above it.

use std::ops::Range;

/// Rows that are undone together: what fills the time that one waits.
const ROWS: usize = 4;

/// Undoes the filters of rows of `stride` bytes, each with its filter's number in front, into rows without. A pixel has `N` bytes. `None`
/// where a number is no filter's.
pub(super) fn undo<const N: usize>(filtered: &[u8], stride: usize, pixels: &mut [u8]) -> Option<()> {
    let zeros = vec![[0; N]; stride / N];
    let mut above = &zeros[..];
    let (mut filtered, mut pixels) = (filtered, pixels);
    while !pixels.is_empty() {
        let count = filtered.chunks_exact(1 + stride).take(ROWS).take_while(|row| row[0] == 4).count();
        let count = if count == ROWS { ROWS } else { 1 };
        let (from, after) = filtered.split_at(count * (1 + stride));
        let (to, others) = pixels.split_at_mut(count * stride);
        if count == ROWS {
            paeth_rows(above, from, to);
        } else {
            row(from[0], above, &from[1..], to)?;
        }
        above = &as_pixels(to)[(count - 1) * (stride / N)..];
        (filtered, pixels) = (after, others);
    }
    Some(())
}

/// Rows are whole pixels.
fn as_pixels<const N: usize>(row: &[u8]) -> &[[u8; N]] {
    row.as_chunks().0
}

fn row<const N: usize>(filter: u8, above: &[[u8; N]], from: &[u8], to: &mut [u8]) -> Option<()> {
    let (from, to) = (as_pixels::<N>(from), to.as_chunks_mut::<N>().0);
    let pixels = to.iter_mut().zip(from).zip(above);
    let mut left = [0; N];
    match filter {
        0 => to.copy_from_slice(from),
        1 => pixels.for_each(|((to, from), _)| {
            left = added(from, |i| left[i]);
            *to = left;
        }),
        2 => pixels.for_each(|((to, from), above)| *to = added(from, |i| above[i])),
        3 => pixels.for_each(|((to, from), above)| {
            left = added(from, |i| ((u16::from(left[i]) + u16::from(above[i])) / 2) as u8);
            *to = left;
        }),
        4 => {
            let mut corner = [0; N];
            pixels.for_each(|((to, from), above)| {
                left = added(from, |i| nearest(left[i], above[i], corner[i]));
                (corner, *to) = (*above, left);
            });
        }
        _ => return None,
    }
    Some(())
}

fn added<const N: usize>(from: &[u8; N], predicted: impl Fn(usize) -> u8) -> [u8; N] {
    std::array::from_fn(|i| from[i].wrapping_add(predicted(i)))
}

/// Of three neighbours the one nearest to `left + above - corner`, in this order where two are equally near (section 9.4).
fn nearest(left: u8, above: u8, corner: u8) -> u8 {
    // The corner unless it lies outside of the two others; then the one on its other side.
    let [left, above, corner] = [left, above, corner].map(i16::from);
    let beyond = 3 * corner - (left + above);
    let (low, high) = (left.min(above), left.max(above));
    let or_low = if high <= beyond { low } else { corner };
    (if beyond <= low { high } else { or_low }) as u8
}

/// [`ROWS`] rows of the Paeth filter.
fn paeth_rows<const N: usize>(above: &[[u8; N]], from: &[u8], to: &mut [u8]) {
    let stride = to.len() / ROWS;
    let mut rows = from.chunks_exact(1 + stride).map(|row| as_pixels::<N>(&row[1..]));
    let from: [&[[u8; N]]; ROWS] = std::array::from_fn(|_| rows.next().unwrap_or_default());
    let mut rows = to.chunks_exact_mut(stride).map(|row| row.as_chunks_mut::<N>().0);
    let mut to: [&mut [[u8; N]]; ROWS] = std::array::from_fn(|_| rows.next().unwrap_or_default());
    let mut wave = Wave { left: [[0; N]; ROWS], corner: [[0; N]; ROWS] };
    let width = above.len();
    // Row k is at pixel `step - k`: not all rows are inside at the first and last steps.
    let slanted = |wave: &mut Wave<N>, to: &mut [&mut [[u8; N]]; ROWS], steps: Range<usize>| {
        for step in steps {
            for k in (0..ROWS).rev() {
                if let Some(x) = step.checked_sub(k).filter(|&x| x < width) {
                    to[k][x] = wave.next(k, above[x], &from[k][x]);
                }
            }
        }
    };
    let first = (ROWS - 1).min(width);
    slanted(&mut wave, &mut to, 0..first);
    if let Some(inside) = width.checked_sub(ROWS - 1) {
        let above = &above[ROWS - 1..][..inside];
        let mut k = ROWS;
        let from: [_; ROWS] = std::array::from_fn(|k| &from[k][ROWS - 1 - k..][..inside]);
        let to = to.each_mut().map(|row| {
            k -= 1;
            &mut row[k..][..inside]
        });
        for x in 0..inside {
            for k in (0..ROWS).rev() {
                to[k][x] = wave.next(k, above[x], &from[k][x]);
            }
        }
    }
    slanted(&mut wave, &mut to, first.max(width)..width + ROWS - 1);
}

/// Where each row is: the pixels on the left of the next, and above that.
struct Wave<const N: usize> {
    left: [[u8; N]; ROWS],
    corner: [[u8; N]; ROWS],
}

impl<const N: usize> Wave<N> {
    /// The next pixel of row `k`; within a step later rows come first, so that what is left in the row above is the pixel above.
    fn next(&mut self, k: usize, above_all: [u8; N], from: &[u8; N]) -> [u8; N] {
        let above = if k == 0 { above_all } else { self.left[k - 1] };
        let value = added(from, |i| nearest(self.left[k][i], above[i], self.corner[k][i]));
        (self.corner[k], self.left[k]) = (above, value);
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// The text of the specification, byte by byte: the twin.
    fn naive(n: usize, filtered: &[u8], stride: usize) -> Vec<u8> {
        let mut out: Vec<Vec<i32>> = vec![vec![0; stride]];
        for row in filtered.chunks_exact(1 + stride) {
            let above = out[out.len() - 1].clone();
            let mut line: Vec<i32> = Vec::new();
            for (x, &from) in row[1..].iter().enumerate() {
                let [a, c] = if x < n { [0, 0] } else { [line[x - n], above[x - n]] };
                let b = above[x];
                let p = a + b - c;
                let (pa, pb, pc) = ((p - a).abs(), (p - b).abs(), (p - c).abs());
                let paeth = if pa <= pb && pa <= pc {
                    a
                } else if pb <= pc {
                    b
                } else {
                    c
                };
                let predicted = [0, a, b, (a + b) / 2, paeth][usize::from(row[0])];
                line.push((i32::from(from) + predicted) % 256);
            }
            out.push(line);
        }
        out[1..].iter().flatten().map(|&value| value as u8).collect()
    }

    fn undone<const N: usize>(filtered: &[u8], stride: usize, rows: usize) -> Option<Vec<u8>> {
        let mut pixels = vec![0; rows * stride];
        super::undo::<N>(filtered, stride, &mut pixels).map(|()| pixels)
    }

    proptest! {
        #[test]
        fn filters_are_undone(width in 1usize..20, filters in prop::collection::vec(prop_oneof![3 => Just(4u8), 1 => 0u8..5], 1..20), seed: u64) {
            use rand::{Rng, SeedableRng};
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            for n in [1, 3] {
                let filtered: Vec<u8> = filters
                    .iter()
                    .flat_map(|&filter| std::iter::once(filter).chain((0..width * n).map(|_| random.random::<u8>() % 16 * 17)).collect::<Vec<_>>())
                    .collect();
                let found = if n == 1 { undone::<1>(&filtered, width, filters.len()) } else { undone::<3>(&filtered, 3 * width, filters.len()) };
                prop_assert_eq!(found, Some(naive(n, &filtered, width * n)));
            }
        }
    }

    #[test]
    fn other_filters_are_refused() {
        assert_eq!(undone::<1>(&[5, 1, 2], 2, 1), None);
        assert_eq!(undone::<1>(&[4, 1, 2, 4, 1, 2, 4, 1, 2, 9, 1, 2], 2, 4), None);
    }
}
