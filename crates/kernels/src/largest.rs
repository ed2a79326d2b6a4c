//! Pools of narrow maps row by row, and the largest of the values under each window, for numbers that are ordered by an integer.

use crate::buffer::Number;
use crate::pool::PoolShape;
use crate::threads::each_chunk;

/// `row(output row, y, image)` for each row of the output of a pooling.
///
/// # Panics
/// Where sizes disagree.
pub(crate) fn each_row<'a, T: Number>(output: &mut [T], input: &'a [T], shape: &PoolShape, row: impl Fn(&mut [T], usize, &'a [T]) + Sync) {
    let (c, [h, w], [oh, ow]) = (shape.channels, shape.input, shape.output);
    assert_eq!(input.len(), shape.batch * h * w * c, "input");
    assert_eq!(output.len(), shape.pixels() * c, "output");
    each_chunk(output, ow * c, |index, out| row(out, index % oh, &input[index / oh * h * w * c..][..h * w * c]));
}

/// A number that an integer orders.
pub(crate) trait Ordered: Number {
    type Key: Copy + Ord;
    /// That of the least number.
    const LEAST: Self::Key;
    fn key(self) -> Self::Key;
    fn of(key: Self::Key) -> Self;
}

impl Ordered for u8 {
    type Key = Self;
    const LEAST: Self = 0;
    #[inline(always)]
    fn key(self) -> Self {
        self
    }
    #[inline(always)]
    fn of(key: Self) -> Self {
        key
    }
}

/// bf16. Keys of negative numbers are turned round, and all are moved so that those below minus infinity (negative NaNs) become the largest, as
/// those of other NaNs are.
impl Ordered for u16 {
    type Key = i16;
    const LEAST: i16 = i16::MIN;
    #[inline(always)]
    fn key(self) -> i16 {
        let signed = self as i16;
        (signed ^ ((signed >> 15) & 0x7fff)).wrapping_sub(127)
    }
    #[inline(always)]
    fn of(key: i16) -> Self {
        let key = key.wrapping_add(127);
        (key ^ ((key >> 15) & 0x7fff)) as Self
    }
}

/// Row `y` of the output `[OW, C]` of an image `[H, W, C]`; a window of padding alone gives the least number. To be compiled into a function for an
/// instruction set.
#[inline(always)]
pub(crate) fn largest_row<T: Ordered>(out: &mut [T], image: &[T], shape: &PoolShape, y: usize) {
    let (c, [h, w], window) = (shape.channels, shape.input, &shape.window);
    let rows = window.taps(0, y, h);
    let first = window.source(0, y, rows.start, h).unwrap_or(0);
    for (x, out) in out.chunks_exact_mut(c).enumerate() {
        let columns = window.taps(1, x, w);
        let start = (first * w + window.source(1, x, columns.start, w).unwrap_or(0)) * c;
        let steps = [window.dilation[0] * w * c, window.dilation[1] * c];
        let under = Under { values: &image[start.min(image.len())..], counts: [rows.len(), columns.len()], steps };
        let mut channel = 0;
        while channel + 32 <= c {
            under.largest::<32>(&mut out[channel..channel + 32], channel);
            channel += 32;
        }
        while channel < c {
            under.largest::<1>(&mut out[channel..=channel], channel);
            channel += 1;
        }
    }
}

/// The values under a window, from the first of them on.
struct Under<'a, T> {
    values: &'a [T],
    /// Rows and columns, and how far apart they are.
    counts: [usize; 2],
    steps: [usize; 2],
}

impl<T: Ordered> Under<'_, T> {
    /// `N` channels from `channel`, held in registers.
    #[inline(always)]
    fn largest<const N: usize>(&self, out: &mut [T], channel: usize) {
        let mut largest = [T::LEAST; N];
        for row in 0..self.counts[0] {
            for column in 0..self.counts[1] {
                let pixel = &self.values[row * self.steps[0] + column * self.steps[1] + channel..][..N];
                for i in 0..N {
                    largest[i] = largest[i].max(pixel[i].key());
                }
            }
        }
        out[..N].iter_mut().zip(largest).for_each(|(out, key)| *out = T::of(key));
    }
}

#[cfg(test)]
mod tests {
    use super::Ordered;
    use crate::bf16::{round, widen};

    #[test]
    fn keys_order_every_number_and_give_it_back() {
        let mut finite: Vec<u16> = (0..=u16::MAX).filter(|&bits| !widen(bits).is_nan()).collect();
        finite.sort_by_key(|bits| bits.key());
        assert!(finite.iter().zip(&finite[1..]).all(|(&a, &b)| widen(a) <= widen(b)));
        assert_eq!((u16::LEAST, u16::of(u16::LEAST)), (finite[0].key(), round(f32::NEG_INFINITY)));
        let infinity = round(f32::INFINITY).key();
        for bits in 0..=u16::MAX {
            assert_eq!(u16::of(bits.key()), bits);
            assert_eq!(bits.key() > infinity, widen(bits).is_nan(), "{bits:x}");
        }
    }
}
