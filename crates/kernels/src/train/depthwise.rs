//! Depthwise convolutions forward and back, vectors over channels.

use super::convolution::Convolution;
use crate::conv::ConvShape;
use crate::depthwise::depthwise_for;
use crate::dispatch::{Kernel, Simd};
use crate::gemm::{Epilogue, Shared, share};
use crate::scratch::{self, Slot};
use crate::threads::{each_chunk, parallel};

/// Gives `f` the weight `[C, taps]` as `[taps, C]`, the last tap first where `mirrored`.
fn by_tap<R>(c: &Convolution, weight: &[f32], mirrored: bool, f: impl FnOnce(&[f32]) -> R) -> R {
    let (taps, channels) = (c.taps(), c.outputs);
    scratch::for_use(Slot::Weights, weight.len(), |turned| {
        for (t, row) in turned.chunks_exact_mut(channels.max(1)).enumerate() {
            let t = if mirrored { taps - 1 - t } else { t };
            row.iter_mut().enumerate().for_each(|(i, w)| *w = weight[i * taps + t]);
        }
        f(turned)
    })
}

pub(super) fn forward(c: &Convolution, y: &mut [f32], x: &[f32], weight: &[f32], epilogue: &Epilogue) {
    by_tap(c, weight, false, |taps| depthwise_for(c.isa, y, x, &c.shape, taps, epilogue.bias, epilogue.clamp));
}

pub(super) fn input_gradient(c: &Convolution, dx: &mut [f32], dy: &[f32], weight: &[f32], accumulate: bool) {
    match c.mirrored() {
        Some(shape) if !accumulate => {
            by_tap(c, weight, true, |taps| depthwise_for(c.isa, dx, dy, &shape, taps, None, None));
        }
        _ => gathered(c, dx, dy, weight, accumulate),
    }
}

/// Each row of the input gathers from the outputs that read it.
fn gathered(c: &Convolution, dx: &mut [f32], dy: &[f32], weight: &[f32], accumulate: bool) {
    let row = c.shape.input[1] * c.outputs;
    by_tap(c, weight, false, |taps| {
        each_chunk(dx, row, |line, row| c.isa.run(Gather { row, line, dy, taps, shape: &c.shape, accumulate }));
    });
}

/// A row of the input's gradient.
struct Gather<'a> {
    row: &'a mut [f32],
    line: usize,
    dy: &'a [f32],
    taps: &'a [f32],
    shape: &'a ConvShape,
    accumulate: bool,
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ConvShape { input: [h, w], output: [oh, ow], channels: c, window, .. } = *self.shape;
        let (n, y) = (self.line / h, self.line % h);
        let target = |axis: usize, at: usize, tap: usize, size: usize| {
            let offset = (at + window.padding[axis]).checked_sub(tap * window.dilation[axis])?;
            let out = offset / window.stride[axis];
            (offset.is_multiple_of(window.stride[axis]) && out < size).then_some(out)
        };
        assert!(
            self.row.len() == w * c && self.dy.len() >= (n + 1) * oh * ow * c && self.taps.len() >= window.kernel[0] * window.kernel[1] * c
        );
        for x in 0..w {
            let mut channel = 0;
            while channel < c {
                let count = S::LANES.min(c - channel);
                // SAFETY: `count` channels from `channel` lie in each pixel and tap; `target` gives pixels of the output alone.
                unsafe {
                    let out = self.row.as_mut_ptr().add(x * c + channel);
                    let mut sum = if self.accumulate { s.load_first(out, count) } else { s.splat(0.0) };
                    for ky in 0..window.kernel[0] {
                        let Some(oy) = target(0, y, ky, oh) else { continue };
                        for kx in 0..window.kernel[1] {
                            let Some(ox) = target(1, x, kx, ow) else { continue };
                            let dy = s.load_first(self.dy.as_ptr().add(((n * oh + oy) * ow + ox) * c + channel), count);
                            let tap = s.load_first(self.taps.as_ptr().add((ky * window.kernel[1] + kx) * c + channel), count);
                            sum = s.fma(dy, tap, sum);
                        }
                    }
                    s.store_first(out, count, sum);
                }
                channel += count;
            }
        }
    }
}

/// Rows of the output in a part, about: the split depends on the sizes alone.
const PARTS: usize = 16;

pub(super) fn weight_gradient(c: &Convolution, dw: &mut [f32], dy: &[f32], x: &[f32]) {
    let (len, rows) = (c.weight_len(), c.shape.batch * c.shape.output[0]);
    let parts = rows.clamp(1, PARTS);
    scratch::for_use(Slot::Sums, parts * len, |sums| {
        let shared = Shared(sums.as_mut_ptr());
        parallel(parts, |part| {
            // SAFETY: each part has `len` sums of its own.
            let sums = unsafe { std::slice::from_raw_parts_mut(shared.get().add(part * len), len) };
            sums.fill(0.0);
            for row in share(rows, parts, part) {
                c.isa.run(Meeting { dw: sums, dy, x, row, shape: &c.shape });
            }
        });
        let (taps, channels) = (c.taps(), c.outputs);
        for (channel, dw) in dw.chunks_exact_mut(taps.max(1)).enumerate() {
            for (t, dw) in dw.iter_mut().enumerate() {
                *dw = sums.chunks_exact(len).map(|part| part[t * channels + channel]).sum();
            }
        }
    });
}

/// A row of output gradients meets the rows of inputs under it: `dw` `[taps, C]` grows by their products.
struct Meeting<'a> {
    dw: &'a mut [f32],
    dy: &'a [f32],
    x: &'a [f32],
    row: usize,
    shape: &'a ConvShape,
}

impl Kernel for Meeting<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ConvShape { input: [h, w], output: [oh, ow], channels: c, window, .. } = *self.shape;
        let (n, oy) = (self.row / oh, self.row % oh);
        for ky in window.taps(0, oy, h) {
            let sy = oy * window.stride[0] + ky * window.dilation[0] - window.padding[0];
            let x = &self.x[(n * h + sy) * w * c..][..w * c];
            let dy = &self.dy[self.row * ow * c..][..ow * c];
            for kx in 0..window.kernel[1] {
                let dw = &mut self.dw[(ky * window.kernel[1] + kx) * c..][..c];
                let mut channel = 0;
                while channel < c {
                    let count = S::LANES.min(c - channel);
                    // SAFETY: `count` channels from `channel` lie in each pixel and tap; `source` gives pixels of the input alone.
                    unsafe {
                        let mut sum = s.load_first(dw.as_ptr().add(channel), count);
                        for ox in 0..ow {
                            let Some(sx) = window.source(1, ox, kx, w) else { continue };
                            let a = s.load_first(dy.as_ptr().add(ox * c + channel), count);
                            let b = s.load_first(x.as_ptr().add(sx * c + channel), count);
                            sum = s.fma(a, b, sum);
                        }
                        s.store_first(dw.as_mut_ptr().add(channel), count, sum);
                    }
                    channel += count;
                }
            }
        }
    }
}
