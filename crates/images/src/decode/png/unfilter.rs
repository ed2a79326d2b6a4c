//! Filters undone (section 9). The Paeth filter goes from pixel to pixel, each waiting for the one on its left; rows are independent but for
//! the pixel above. So several rows are undone at once, each one pixel behind the row above it.

use std::ops::Range;

/// Undoes the filters of rows of `stride` bytes, each with its filter's number in front, into rows without. A pixel has `N` bytes. `None`
/// where a number is no filter's.
pub(super) fn undo<const N: usize>(filtered: &[u8], stride: usize, pixels: &mut [u8]) -> Option<()> {
    let zeros = vec![[0; N]; stride / N];
    let mut above = &zeros[..];
    let (mut filtered, mut pixels) = (filtered, pixels);
    while !pixels.is_empty() {
        let paeth = filtered.chunks_exact(1 + stride).take(MANY).take_while(|row| row[0] == 4).count();
        let count = [MANY, SOME].into_iter().find(|&count| count <= paeth).unwrap_or(1);
        let (from, after) = filtered.split_at(count * (1 + stride));
        let (to, others) = pixels.split_at_mut(count * stride);
        match count {
            MANY => paeth_rows::<N, MANY>(above, from, to),
            SOME => paeth_rows::<N, SOME>(above, from, to),
            _ => row(from[0], above, &from[1..], to)?,
        }
        above = &as_pixels(to)[(count - 1) * (stride / N)..];
        (filtered, pixels) = (after, others);
    }
    Some(())
}

/// Rows that are undone together: as many as fill vectors, or what fills the time that one waits.
const MANY: usize = 16;
const SOME: usize = 4;

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
                left = added(from, |i| nearest(left[i].into(), above[i].into(), corner[i].into()) as u8);
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
#[inline(always)]
fn nearest(left: i16, above: i16, corner: i16) -> i16 {
    // The corner unless it lies outside of the two others; then the one on its other side.
    let beyond = 3 * corner - (left + above);
    let (low, high) = (left.min(above), left.max(above));
    let or_low = if high <= beyond { low } else { corner };
    if beyond <= low { high } else { or_low }
}

/// `R` rows of the Paeth filter.
fn paeth_rows<const N: usize, const R: usize>(above: &[[u8; N]], from: &[u8], to: &mut [u8]) {
    let stride = to.len() / R;
    let mut rows = from.chunks_exact(1 + stride).map(|row| as_pixels::<N>(&row[1..]));
    let from: [&[[u8; N]]; R] = std::array::from_fn(|_| rows.next().unwrap_or_default());
    let mut rows = to.chunks_exact_mut(stride).map(|row| row.as_chunks_mut::<N>().0);
    let mut to: [&mut [[u8; N]]; R] = std::array::from_fn(|_| rows.next().unwrap_or_default());
    let mut wave = Wave { left: [[0; R]; N], corner: [[0; R]; N] };
    let width = above.len();
    // Row k is at pixel `step - k`. At the first and last steps not all rows are inside; those stay where they are.
    let slanted = |wave: &mut Wave<N, R>, to: &mut [&mut [[u8; N]]; R], steps: Range<usize>| {
        for step in steps {
            let inside = |k: usize| step.checked_sub(k).filter(|&x| x < width);
            let next =
                wave.next(inside(0).map_or([0; N], |x| above[x]), |k| inside(k).map_or([0; N], |x| from[k][x]), |k| inside(k).is_some());
            for k in 0..R {
                if let Some(x) = inside(k) {
                    to[k][x] = std::array::from_fn(|i| next[i][k] as u8);
                }
            }
        }
    };
    let first = (R - 1).min(width);
    slanted(&mut wave, &mut to, 0..first);
    if let Some(inside) = width.checked_sub(R - 1) {
        let above = &above[R - 1..][..inside];
        let from: [_; R] = std::array::from_fn(|k| &from[k][R - 1 - k..][..inside]);
        let mut k = R;
        let to = to.each_mut().map(|row| {
            k -= 1;
            &mut row[k..][..inside]
        });
        for x in 0..inside {
            let next = wave.next(above[x], |k| from[k][x], |_| true);
            for k in 0..R {
                to[k][x] = std::array::from_fn(|i| next[i][k] as u8);
            }
        }
    }
    slanted(&mut wave, &mut to, first.max(width)..width + R - 1);
}

/// Where each row is: the pixel on the left of the next, and the one above that; rows side by side, so that the loops become vectors.
struct Wave<const N: usize, const R: usize> {
    left: [[i16; R]; N],
    corner: [[i16; R]; N],
}

impl<const N: usize, const R: usize> Wave<N, R> {
    /// The next pixel of each row that is `inside`; `above` is the one above the first. What is left in a row is what is above in the next, which
    /// is a pixel behind.
    #[allow(clippy::needless_range_loop, reason = "plain loops over whole arrays: the compiler makes vectors of them")]
    #[inline(always)]
    fn next(&mut self, above: [u8; N], from: impl Fn(usize) -> [u8; N], inside: impl Fn(usize) -> bool) -> [[i16; R]; N] {
        for i in 0..N {
            let (left, corner) = (self.left[i], self.corner[i]);
            let (mut added, mut over, mut next) = ([0i16; R], [0i16; R], [0i16; R]);
            for k in 0..R {
                added[k] = from(k)[i].into();
            }
            over[0] = above[i].into();
            over[1..].copy_from_slice(&left[..R - 1]);
            for k in 0..R {
                next[k] = (nearest(left[k], over[k], corner[k]) + added[k]) & 255;
            }
            for k in 0..R {
                if !inside(k) {
                    (next[k], over[k]) = (left[k], corner[k]);
                }
            }
            (self.left[i], self.corner[i]) = (next, over);
        }
        self.left
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
        fn filters_are_undone(width in 1usize..40, filters in prop::collection::vec(prop_oneof![30 => Just(4u8), 1 => 0u8..5], 1..60), seed: u64) {
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
