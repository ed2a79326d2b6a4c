//! Pooling, NHWC.

use crate::conv::ConvShape;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::gemm::Shared;
use crate::threads::{each_chunk, parallel};
use crate::value::Value;

/// A pooling: the same sizes as a convolution's.
pub type PoolShape = ConvShape;

impl PoolShape {
    /// Taps of output `out` along `axis` that lie inside the padded input, `end` being the padding behind it: PyTorch's divisor.
    pub(crate) fn padded_taps(&self, axis: usize, out: usize, end: usize) -> usize {
        let (window, end) = (&self.window, self.input[axis] + self.window.padding[axis] + end);
        (0..window.kernel[axis]).filter(|tap| out * window.stride[axis] + tap * window.dilation[axis] < end).count()
    }
}

/// One row of the output, made pixel by pixel.
struct Row<'a, P> {
    out: &'a mut [f32],
    image: &'a [f32],
    y: usize,
    channels: usize,
    pixel: &'a P,
}

impl<P: Fn(&[f32], usize, usize, &mut [f32])> Kernel for Row<'_, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (x, out) in self.out.chunks_exact_mut(self.channels).enumerate() {
            (self.pixel)(self.image, self.y, x, out);
        }
    }
}

/// Runs `pixel(image, y, x, out)` (to be marked `#[inline(always)]`) for every output pixel, rows in parallel.
fn each_pixel(output: &mut [f32], input: &[f32], shape: &PoolShape, pixel: impl Fn(&[f32], usize, usize, &mut [f32]) + Sync) {
    let (channels, [h, w], [oh, ow]) = (shape.channels, shape.input, shape.output);
    assert_eq!(input.len(), shape.batch * h * w * channels, "input");
    assert_eq!(output.len(), shape.pixels() * channels, "output");
    let isa = Isa::best();
    each_chunk(output, ow * channels, |row, out| {
        let image = &input[row / oh * h * w * channels..][..h * w * channels];
        isa.run(Row { out, image, y: row % oh, channels, pixel: &pixel });
    });
}

/// Runs `each(position)` for every pixel of the input under a window.
#[inline(always)]
pub(crate) fn each_tap(shape: &PoolShape, y: usize, x: usize, mut each: impl FnMut(usize)) {
    let ([h, w], window) = (shape.input, shape.window);
    for ky in 0..window.kernel[0] {
        let Some(sy) = window.source(0, y, ky, h) else { continue };
        for kx in 0..window.kernel[1] {
            if let Some(sx) = window.source(1, x, kx, w) {
                each(sy * w + sx);
            }
        }
    }
}

#[inline(always)]
fn larger(o: &mut f32, v: f32) {
    *o = if v > *o || v.is_nan() { v } else { *o };
}

/// Channels whose maxima are held in registers.
const LANES: usize = 32;

/// Maxima; padding never wins, NaN always does.
pub fn max_pool(output: &mut [f32], input: &[f32], shape: &PoolShape) {
    let c = shape.channels;
    each_pixel(
        output,
        input,
        shape,
        #[inline(always)]
        |image: &[f32], y, x, out: &mut [f32]| {
            let (blocks, rest) = out.as_chunks_mut::<LANES>();
            for (index, out) in blocks.iter_mut().enumerate() {
                let mut top = [f32::NEG_INFINITY; LANES];
                each_tap(
                    shape,
                    y,
                    x,
                    #[inline(always)]
                    |at| {
                        if let Some(values) = image[at * c + index * LANES..].first_chunk::<LANES>() {
                            top.iter_mut().zip(values).for_each(|(o, &v)| larger(o, v));
                        }
                    },
                );
                *out = top;
            }
            let first = c - rest.len();
            rest.fill(f32::NEG_INFINITY);
            each_tap(shape, y, x, |at| rest.iter_mut().zip(&image[at * c + first..]).for_each(|(o, &v)| larger(o, v)));
        },
    );
}

/// Maxima, and for each the position `y * W + x` in its image that gave it (the first of equals): what the backward pass needs.
pub fn max_pool_with_argmax(output: &mut [f32], argmax: &mut [u32], input: &[f32], shape: &PoolShape) {
    maxima(output, argmax, input, shape);
}

pub(crate) fn maxima<T: Value>(output: &mut [T], argmax: &mut [u32], input: &[T], shape: &PoolShape) {
    let (c, [h, w], [oh, ow]) = (shape.channels, shape.input, shape.output);
    assert_eq!(input.len(), shape.batch * h * w * c, "input");
    assert!(output.len() == shape.pixels() * c && argmax.len() == output.len(), "output and argmax");
    let (isa, row, len) = (Isa::best(), ow * c, argmax.len());
    let positions = Positions(argmax.as_mut_ptr());
    each_chunk(output, row, |index, out| {
        let from = index * row;
        assert!(from + out.len() <= len);
        // SAFETY: the rows of the positions are those of the output, which do not overlap, and there are as many.
        let argmax = unsafe { std::slice::from_raw_parts_mut(positions.get().add(from), out.len()) };
        let image = &input[index / oh * h * w * c..][..h * w * c];
        isa.run(Maxima { out, argmax, image, y: index % oh, shape });
    });
}

/// Where positions begin of which each task gets a row of its own.
struct Positions(*mut u32);
// SAFETY: rows do not overlap.
unsafe impl Sync for Positions {}

impl Positions {
    fn get(&self) -> *mut u32 {
        self.0
    }
}

/// A row of maxima with their positions.
struct Maxima<'a, T> {
    out: &'a mut [T],
    argmax: &'a mut [u32],
    image: &'a [T],
    y: usize,
    shape: &'a PoolShape,
}

/// Channels whose maxima and positions are held in registers.
const PAIRS: usize = 16;

impl<T: Value> Kernel for Maxima<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (c, y) = (self.shape.channels, self.y);
        for (x, (out, argmax)) in self.out.chunks_exact_mut(c).zip(self.argmax.chunks_exact_mut(c)).enumerate() {
            let (outs, rest) = out.as_chunks_mut::<PAIRS>();
            let (positions, last) = argmax.as_chunks_mut::<PAIRS>();
            for (index, (out, argmax)) in outs.iter_mut().zip(positions).enumerate() {
                let (mut top, mut place) = ([f32::NEG_INFINITY; PAIRS], [u32::MAX; PAIRS]);
                each_tap(
                    self.shape,
                    y,
                    x,
                    #[inline(always)]
                    |at| {
                        if let Some(values) = self.image[at * c + index * PAIRS..].first_chunk::<PAIRS>() {
                            for i in 0..PAIRS {
                                larger_at(&mut top[i], &mut place[i], values[i].get(), at);
                            }
                        }
                    },
                );
                (*out, *argmax) = (top.map(T::of), place);
            }
            rest.fill(T::of(f32::NEG_INFINITY));
            last.fill(u32::MAX);
            let first = c - rest.len();
            each_tap(self.shape, y, x, |at| {
                for ((out, place), v) in rest.iter_mut().zip(last.iter_mut()).zip(&self.image[at * c + first..]) {
                    let mut top = out.get();
                    larger_at(&mut top, place, v.get(), at);
                    *out = T::of(top);
                }
            });
        }
    }
}

#[inline(always)]
fn larger_at(top: &mut f32, place: &mut u32, v: f32, at: usize) {
    let better = (v > *top) | v.is_nan() | (*place == u32::MAX);
    *top = if better { v } else { *top };
    *place = if better { at as u32 } else { *place };
}

/// Means; `padding_end` is the padding below and to the right, `count_padding` whether padded zeros count in the divisor.
pub fn average_pool(output: &mut [f32], input: &[f32], shape: &PoolShape, padding_end: [usize; 2], count_padding: bool) {
    let c = shape.channels;
    let padded = |axis: usize, out: usize| shape.padded_taps(axis, out, padding_end[axis]);
    each_pixel(
        output,
        input,
        shape,
        #[inline(always)]
        |image: &[f32], y, x, out: &mut [f32]| {
            out.fill(0.0);
            let mut count = 0;
            each_tap(shape, y, x, |at| {
                count += 1;
                for (o, &v) in out.iter_mut().zip(&image[at * c..(at + 1) * c]) {
                    *o += v;
                }
            });
            let divisor = if count_padding { padded(0, y) * padded(1, x) } else { count };
            let scale = 1.0 / divisor.max(1) as f32;
            out.iter_mut().for_each(|o| *o *= scale);
        },
    );
}

/// Means over all `pixels` of each image: `[N, pixels, C] -> [N, C]`.
pub fn global_average(output: &mut [f32], input: &[f32], pixels: usize, channels: usize) {
    assert_eq!(output.len() * pixels, input.len(), "input and output");
    let isa = Isa::best();
    let blocks = channels.div_ceil(BLOCK);
    let shared = Shared(output.as_mut_ptr());
    parallel(output.len() / channels.max(1) * blocks, |part| {
        let (image, from) = (part / blocks, part % blocks * BLOCK);
        let width = BLOCK.min(channels - from);
        // SAFETY: `from + width <= channels`: a block of an image's row, and each part has its own.
        let out = unsafe { std::slice::from_raw_parts_mut(shared.get().add(image * channels + from), width) };
        isa.run(Means { out, image: &input[image * pixels * channels..(image + 1) * pixels * channels], from, channels });
    });
}

/// Channels that are averaged together.
const BLOCK: usize = 64;

struct Means<'a> {
    out: &'a mut [f32],
    image: &'a [f32],
    from: usize,
    channels: usize,
}

impl Kernel for Means<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { out, image, from, channels } = self;
        let mut sums = [0.0; BLOCK];
        for pixel in image.chunks_exact(channels) {
            let pixel = &pixel[from..from + out.len()];
            match pixel.as_array::<BLOCK>() {
                Some(pixel) => sums.iter_mut().zip(pixel).for_each(|(sum, &v)| *sum += v),
                None => sums.iter_mut().zip(pixel).for_each(|(sum, &v)| *sum += v),
            }
        }
        let scale = 1.0 / (image.len() / channels).max(1) as f32;
        out.iter_mut().zip(&sums).for_each(|(o, sum)| *o = sum * scale);
    }
}
