//! Conversions, sums and pooling of byte maps, NHWC.

use crate::int8::{LIMIT, nearest, requantize};
use crate::largest::{each_row, largest_row};
use crate::pool::PoolShape;
use crate::threads::each_chunk;
use crate::vectorize::{Loops, vectorized};

/// Values a task.
const CHUNK: usize = 16_384;

/// What a byte stands for: `scale * (q - zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quant {
    /// Above 0.
    pub scale: f32,
    /// The byte of 0.
    pub zero: u8,
}

impl Default for Quant {
    fn default() -> Self {
        Self { scale: 1.0, zero: 0 }
    }
}

impl Quant {
    /// The least step that covers `low..=high` and 0, which gets a byte of its own.
    pub fn covering(low: f32, high: f32) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = ((high - low) / 255.0).max(f32::MIN_POSITIVE);
        Self { scale, zero: (-low / scale).round_ties_even().clamp(0.0, 255.0) as u8 }
    }

    /// The value of a byte.
    #[inline(always)]
    pub fn value(self, q: u8) -> f32 {
        (i32::from(q) - i32::from(self.zero)) as f32 * self.scale
    }

    /// Bounds in real units as bounds of 16-bit values.
    pub(crate) fn half_bounds(self, low: f32, high: f32) -> (f32, f32) {
        let limit = f32::from(LIMIT);
        let half = |v: f32| (v / self.scale).round_ties_even().clamp(-limit, limit);
        (half(low), half(high))
    }

    /// Bounds in real units as bounds of bytes less the zero point.
    pub(crate) fn bounds(self, low: f32, high: f32) -> (f32, f32) {
        let zero = f32::from(self.zero);
        let byte = |v: f32| (v / self.scale).round_ties_even().clamp(-zero, 255.0 - zero);
        (byte(low), byte(high))
    }
}

/// The byte nearest to each value.
///
/// # Panics
/// Where lengths differ.
pub fn quantize(output: &mut [u8], input: &[f32], quant: Quant) {
    struct Each<'a>(&'a mut [u8], &'a [f32], Quant);
    impl Loops for Each<'_> {
        #[inline(always)]
        fn run(self) {
            let (zero, inverse) = (f32::from(self.2.zero), 1.0 / self.2.scale);
            self.0.iter_mut().zip(self.1).for_each(|(o, &x)| *o = requantize(x * inverse, -zero, 255.0 - zero, i32::from(self.2.zero)));
        }
    }
    assert_eq!(output.len(), input.len(), "equal lengths");
    each_chunk(output, CHUNK, |i, o| vectorized(Each(o, &input[i * CHUNK..i * CHUNK + o.len()], quant)));
}

/// The value of each byte.
///
/// # Panics
/// Where lengths differ.
pub fn dequantize(output: &mut [f32], input: &[u8], quant: Quant) {
    struct Each<'a>(&'a mut [f32], &'a [u8], Quant);
    impl Loops for Each<'_> {
        #[inline(always)]
        fn run(self) {
            self.0.iter_mut().zip(self.1).for_each(|(o, &q)| *o = self.2.value(q));
        }
    }
    assert_eq!(output.len(), input.len(), "equal lengths");
    each_chunk(output, CHUNK, |i, o| vectorized(Each(o, &input[i * CHUNK..i * CHUNK + o.len()], quant)));
}

/// The 16-bit integer nearest to each value, within [`LIMIT`](crate::int8::LIMIT).
///
/// # Panics
/// Where lengths differ.
pub fn to_halves(output: &mut [i16], input: &[f32], scale: f32) {
    struct Each<'a>(&'a mut [i16], &'a [f32], f32);
    impl Loops for Each<'_> {
        #[inline(always)]
        fn run(self) {
            let limit = f32::from(LIMIT);
            self.0.iter_mut().zip(self.1).for_each(|(o, &x)| *o = nearest(x * self.2, -limit, limit) as i16);
        }
    }
    assert_eq!(output.len(), input.len(), "equal lengths");
    each_chunk(output, CHUNK, |i, o| vectorized(Each(o, &input[i * CHUNK..i * CHUNK + o.len()], 1.0 / scale)));
}

/// As [`to_halves`] of a map `[.., C]` whose channels have a scale each.
///
/// # Panics
/// Where lengths differ, or are no multiple of the scales'.
pub fn to_halves_by_channel(output: &mut [i16], input: &[f32], scales: &[f32]) {
    struct Each<'a>(&'a mut [i16], &'a [f32], &'a [f32]);
    impl Loops for Each<'_> {
        #[inline(always)]
        fn run(self) {
            let (limit, inverse) = (f32::from(LIMIT), self.2);
            for (out, pixel) in self.0.chunks_exact_mut(inverse.len()).zip(self.1.chunks_exact(inverse.len())) {
                out.iter_mut().zip(pixel).zip(inverse).for_each(|((o, &x), &by)| *o = nearest(x * by, -limit, limit) as i16);
            }
        }
    }
    let channels = scales.len().max(1);
    assert!(output.len() == input.len() && output.len().is_multiple_of(channels), "equal lengths, whole pixels");
    let (inverse, part): (Vec<f32>, usize) = (scales.iter().map(|s| 1.0 / s).collect(), (CHUNK / channels).max(1) * channels);
    each_chunk(output, part, |i, o| vectorized(Each(o, &input[i * part..i * part + o.len()], &inverse)));
}

/// The value of each 16-bit integer.
///
/// # Panics
/// Where lengths differ.
pub fn from_halves(output: &mut [f32], input: &[i16], scale: f32) {
    struct Each<'a>(&'a mut [f32], &'a [i16], f32);
    impl Loops for Each<'_> {
        #[inline(always)]
        fn run(self) {
            self.0.iter_mut().zip(self.1).for_each(|(o, &q)| *o = f32::from(q) * self.2);
        }
    }
    assert_eq!(output.len(), input.len(), "equal lengths");
    each_chunk(output, CHUNK, |i, o| vectorized(Each(o, &input[i * CHUNK..i * CHUNK + o.len()], scale)));
}

/// `[N, C, H, W]` in f32 to bytes `[N, H, W, stored]`, `stored >= channels`; further channels have the zero point.
///
/// # Panics
/// Where sizes disagree.
pub fn load_nchw(output: &mut [u8], input: &[f32], channels: usize, pixels: usize, stored: usize, quant: Quant) {
    struct Part<'a> {
        out: &'a mut [u8],
        image: &'a [f32],
        from: usize,
        pixels: usize,
        channels: usize,
        stored: usize,
        quant: Quant,
    }
    impl Loops for Part<'_> {
        #[inline(always)]
        fn run(self) {
            let (zero, inverse) = (f32::from(self.quant.zero), 1.0 / self.quant.scale);
            let byte = |x: f32| requantize(x * inverse, -zero, 255.0 - zero, i32::from(self.quant.zero));
            let count = self.out.len() / self.stored;
            if (self.channels, self.stored) == (3, 4) {
                let plane = |c: usize| &self.image[c * self.pixels + self.from..][..count];
                let (r, g, b) = (plane(0), plane(1), plane(2));
                for (i, out) in self.out.chunks_exact_mut(4).enumerate() {
                    out.copy_from_slice(&[byte(r[i]), byte(g[i]), byte(b[i]), self.quant.zero]);
                }
                return;
            }
            for (i, out) in self.out.chunks_exact_mut(self.stored).enumerate() {
                for (c, o) in out.iter_mut().enumerate() {
                    *o = if c < self.channels { byte(self.image[c * self.pixels + self.from + i]) } else { self.quant.zero };
                }
            }
        }
    }
    assert!(stored >= channels && output.len() * channels == input.len() * stored, "output and input");
    if channels * pixels == 0 {
        return;
    }
    // As many pixels a part as divide the image, where that is not too few: a part lies in one image.
    let parts = (1..=pixels).find(|parts| pixels.is_multiple_of(*parts) && pixels / parts <= CHUNK).unwrap_or(1);
    let each = pixels / parts;
    each_chunk(output, each * stored, |index, out| {
        let (n, part) = (index / parts, index % parts);
        let image = &input[n * pixels * channels..(n + 1) * pixels * channels];
        vectorized(Part { out, image, from: part * each, pixels, channels, stored, quant });
    });
}

/// `output = a + b`, each with a scale of its own, clamped to `low..=high` in real units.
///
/// # Panics
/// Where lengths differ.
pub fn add(output: &mut [u8], quant: Quant, (a, qa): (&[u8], Quant), (b, qb): (&[u8], Quant), low: f32, high: f32) {
    struct Sum<'a> {
        out: &'a mut [u8],
        a: &'a [u8],
        b: &'a [u8],
        zeros: [i32; 3],
        scales: [f32; 2],
        bounds: (f32, f32),
    }
    impl Loops for Sum<'_> {
        #[inline(always)]
        fn run(self) {
            let ([za, zb, zero], [sa, sb], (low, high)) = (self.zeros, self.scales, self.bounds);
            self.out.iter_mut().zip(self.a).zip(self.b).for_each(|((o, &a), &b)| {
                let v = (i32::from(a) - za) as f32 * sa + (i32::from(b) - zb) as f32 * sb;
                *o = requantize(v, low, high, zero);
            });
        }
    }
    assert!(output.len() == a.len() && a.len() == b.len(), "equal lengths");
    let zeros = [qa.zero, qb.zero, quant.zero].map(i32::from);
    let (scales, bounds) = ([qa.scale / quant.scale, qb.scale / quant.scale], quant.bounds(low, high));
    each_chunk(output, CHUNK, |i, out| {
        let part = i * CHUNK..i * CHUNK + out.len();
        vectorized(Sum { out, a: &a[part.clone()], b: &b[part], zeros, scales, bounds });
    });
}

/// One row of a pooling's output: the mean of the bytes under each window, by the divisor of column `x` with so many taps.
struct MeanRow<'a, F> {
    out: &'a mut [u8],
    image: &'a [u8],
    shape: &'a PoolShape,
    y: usize,
    zero: u8,
    divisor: F,
}

impl<F: Fn(usize, usize) -> usize> Loops for MeanRow<'_, F> {
    #[inline(always)]
    fn run(self) {
        let (c, [h, w], window) = (self.shape.channels, self.shape.input, self.shape.window);
        let mut sums = vec![0i32; c];
        for (x, out) in self.out.chunks_exact_mut(c).enumerate() {
            let rows = (0..window.kernel[0]).filter_map(|ky| window.source(0, self.y, ky, h));
            let taps = rows.flat_map(|sy| (0..window.kernel[1]).filter_map(move |kx| Some((sy, window.source(1, x, kx, w)?))));
            sums.fill(0);
            let mut count = 0;
            for pixel in taps.map(|(sy, sx)| &self.image[(sy * w + sx) * c..][..c]) {
                count += 1;
                sums.iter_mut().zip(pixel).for_each(|(s, &v)| *s += i32::from(v));
            }
            let zero = i32::from(self.zero);
            let (low, high, scale) = (-zero as f32, (255 - zero) as f32, 1.0 / (self.divisor)(x, count).max(1) as f32);
            out.iter_mut().zip(&sums).for_each(|(o, &s)| *o = requantize((s - count as i32 * zero) as f32 * scale, low, high, zero));
        }
    }
}

/// One row of a pooling's output: the largest byte under each window.
struct LargestRow<'a> {
    out: &'a mut [u8],
    image: &'a [u8],
    shape: &'a PoolShape,
    y: usize,
}

impl Loops for LargestRow<'_> {
    #[inline(always)]
    fn run(self) {
        largest_row(self.out, self.image, self.shape, self.y);
    }
}

/// Maxima, in the scale of the input; padding never wins, and a window of padding alone gives the least value.
///
/// # Panics
/// Where sizes disagree.
pub fn max_pool(output: &mut [u8], input: &[u8], shape: &PoolShape) {
    each_row(output, input, shape, |out, y, image| vectorized(LargestRow { out, image, shape, y }));
}

/// Means, in the scale of the input, whose zero point is `zero`; `padding_end` and `count_padding` as in [`crate::average_pool`].
///
/// # Panics
/// Where sizes disagree.
pub fn average_pool(output: &mut [u8], input: &[u8], zero: u8, shape: &PoolShape, padding_end: [usize; 2], count_padding: bool) {
    each_row(output, input, shape, |out, y, image| {
        let divisor = |x: usize, count: usize| {
            if count_padding { shape.padded_taps(0, y, padding_end[0]) * shape.padded_taps(1, x, padding_end[1]) } else { count }
        };
        vectorized(MeanRow { out, image, shape, y, zero, divisor });
    });
}

/// Means over all `pixels` of each image: `[N, pixels, C] -> [N, C]`, in f32.
///
/// # Panics
/// Where sizes disagree.
pub fn global_average(output: &mut [f32], input: &[u8], pixels: usize, channels: usize, quant: Quant) {
    struct Mean<'a>(&'a mut [f32], &'a [u8], Quant);
    impl Loops for Mean<'_> {
        #[inline(always)]
        fn run(self) {
            let Self(out, image, quant) = self;
            let mut sums = vec![0i32; out.len()];
            for pixel in image.chunks_exact(out.len()) {
                sums.iter_mut().zip(pixel).for_each(|(s, &v)| *s += i32::from(v));
            }
            let pixels = (image.len() / out.len()) as i32;
            let scale = quant.scale / pixels.max(1) as f32;
            out.iter_mut().zip(&sums).for_each(|(o, &s)| *o = (s - pixels * i32::from(quant.zero)) as f32 * scale);
        }
    }
    assert_eq!(output.len() * pixels, input.len(), "input and output");
    let image = pixels * channels;
    each_chunk(output, channels, |n, out| vectorized(Mean(out, &input[n * image..(n + 1) * image], quant)));
}
