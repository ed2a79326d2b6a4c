//! Pools forward and back, and clamps, on slices.

use graph::Pool2d;
use kernels::{Clamp, ConvShape, Loops, Window, vectorized};
use rayon::prelude::*;

const CHUNK: usize = 1 << 16;

/// A pool over `[n, h, w, c]`.
pub(super) fn shape(p: &Pool2d, [n, h, w, c]: [usize; 4]) -> ConvShape {
    let size = |i: usize, size: usize, pad: usize| (size + pad - p.kernel[i]) / p.stride[i] + 1;
    let output = [size(0, h, p.padding.top + p.padding.bottom), size(1, w, p.padding.left + p.padding.right)];
    let window = Window { kernel: p.kernel, stride: p.stride, dilation: [1; 2], padding: [p.padding.top, p.padding.left] };
    ConvShape { batch: n, input: [h, w], channels: c, output, window }
}

/// Sends each gradient to the position that gave the maximum.
pub(super) fn max_pool_gradient(dy: &[f32], argmax: &[u32], shape: &ConvShape) -> Vec<f32> {
    let c = shape.channels;
    let (image, out) = (shape.input[0] * shape.input[1] * c, shape.output[0] * shape.output[1] * c);
    let mut dx = vec![0.0; shape.batch * image];
    dx.par_chunks_mut(image.max(1)).zip(dy.par_chunks(out.max(1))).zip(argmax.par_chunks(out.max(1))).for_each(|((dx, dy), argmax)| {
        for (dy, argmax) in dy.chunks_exact(c).zip(argmax.chunks_exact(c)) {
            for (channel, (&g, &at)) in dy.iter().zip(argmax).enumerate() {
                if let Some(d) = dx.get_mut(at as usize * c + channel) {
                    *d += g;
                }
            }
        }
    });
    dx
}

/// Spreads each gradient evenly over the pixels of its channel.
pub(super) fn global_average_gradient(dy: &[f32], pixels: usize, channels: usize) -> Vec<f32> {
    let mut dx = vec![0.0; dy.len() * pixels];
    let factor = 1.0 / pixels.max(1) as f32;
    dx.par_chunks_mut((pixels * channels).max(1)).zip(dy.par_chunks(channels.max(1))).for_each(|(dx, dy)| {
        dx.chunks_exact_mut(channels).for_each(|pixel| pixel.iter_mut().zip(dy).for_each(|(d, &g)| *d = g * factor));
    });
    dx
}

pub(super) fn clamp(x: &[f32], clamp: Clamp) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| vectorized(ClampChunk { y, x, clamp }));
    y
}

struct ClampChunk<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
    clamp: Clamp,
}

impl Loops for ClampChunk<'_> {
    #[inline(always)]
    fn run(self) {
        let Clamp { low, high } = self.clamp;
        for (y, &v) in self.y.iter_mut().zip(self.x) {
            // Written so that NaN passes through.
            let v = if v < low { low } else { v };
            *y = if v > high { high } else { v };
        }
    }
}

/// From the clamped values: the gradient where they lie inside the bounds.
pub(super) fn clamp_gradient(y: &[f32], dy: &[f32], clamp: Clamp) -> Vec<f32> {
    let mut dx = vec![0.0; y.len()];
    let tasks = dx.par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK)).zip(dy.par_chunks(CHUNK));
    tasks.for_each(|((dx, y), dy)| vectorized(ClampBack { dx, y, dy, clamp }));
    dx
}

struct ClampBack<'a> {
    dx: &'a mut [f32],
    y: &'a [f32],
    dy: &'a [f32],
    clamp: Clamp,
}

impl Loops for ClampBack<'_> {
    #[inline(always)]
    fn run(self) {
        let Clamp { low, high } = self.clamp;
        for ((dx, &y), &dy) in self.dx.iter_mut().zip(self.y).zip(self.dy) {
            *dx = if y > low && y < high { dy } else { 0.0 };
        }
    }
}
