//! NHWC convolution: im2col by blocks of rows, straight into the matrix product.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::direct::Direct;
use crate::dispatch::Simd;
use crate::gemm::{Epilogue, Rows, multiply};
use crate::pack::{Matrix, PackedB};
use crate::value::{Value, convert};

/// A sliding window over a feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// `[height, width]`.
    pub kernel: [usize; 2],
    /// `[rows, columns]` between windows.
    pub stride: [usize; 2],
    /// `[rows, columns]` between taps.
    pub dilation: [usize; 2],
    /// Zeros above and to the left; those below and to the right follow from the output's size.
    pub padding: [usize; 2],
}

impl Window {
    /// The input position of tap `tap` of output `out` along `axis` (0: rows, 1: columns), or none in the padding.
    #[inline(always)]
    pub(crate) fn source(&self, axis: usize, out: usize, tap: usize, size: usize) -> Option<usize> {
        let at = out * self.stride[axis] + tap * self.dilation[axis];
        at.checked_sub(self.padding[axis]).filter(|&at| at < size)
    }

    /// The taps of output `out` along `axis` that lie in the input.
    #[inline(always)]
    pub(crate) fn taps(&self, axis: usize, out: usize, size: usize) -> Range<usize> {
        let (start, step) = (out * self.stride[axis], self.dilation[axis]);
        let first = self.padding[axis].saturating_sub(start).div_ceil(step);
        let end = (size + self.padding[axis]).saturating_sub(start).div_ceil(step).min(self.kernel[axis]);
        first.min(end)..end
    }
}

/// Sizes of a feature map and of what a window makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Images.
    pub batch: usize,
    /// `[H, W]` read.
    pub input: [usize; 2],
    /// Channels of a pixel of the input.
    pub channels: usize,
    /// `[H, W]` written.
    pub output: [usize; 2],
    /// The window.
    pub window: Window,
}

impl ConvShape {
    pub(crate) fn pixels(&self) -> usize {
        self.batch * self.output[0] * self.output[1]
    }

    pub(crate) fn is_pointwise(&self) -> bool {
        let w = &self.window;
        w.kernel == [1, 1] && w.stride == [1, 1] && w.padding == [0, 0] && self.input == self.output
    }
}

/// Patches of a feature map as rows: column `(ky * KW + kx) * C + c`.
pub(crate) struct Patches<'a, T = f32> {
    pub input: &'a [T],
    pub shape: ConvShape,
    /// First channel read, and how many: a group.
    pub first: usize,
    pub count: usize,
}

impl<T: Value> Rows for Patches<'_, T> {
    #[inline(always)]
    fn block<'a, S: Simd>(&'a self, s: S, rows: Range<usize>, ks: Range<usize>, scratch: &'a mut Buffer) -> (&'a [f32], usize) {
        let ConvShape { input: [h, w], channels, output: [oh, ow], window, .. } = self.shape;
        let (c, k) = (self.count, ks.len());
        scratch.resize(rows.len() * k);
        for (row, patch) in rows.zip(scratch.chunks_exact_mut(k.max(1))) {
            let (n, y, x) = (row / (oh * ow), row / ow % oh, row % ow);
            let mut at = ks.start;
            while at < ks.end {
                let (tap, channel) = (at / c, at % c);
                let run = (c - channel).min(ks.end - at);
                let target = &mut patch[at - ks.start..at - ks.start + run];
                let sy = window.source(0, y, tap / window.kernel[1], h);
                let sx = window.source(1, x, tap % window.kernel[1], w);
                match (sy, sx) {
                    (Some(sy), Some(sx)) => {
                        let from = ((n * h + sy) * w + sx) * channels + self.first + channel;
                        let source = &self.input[from..from + run];
                        if run == 3 {
                            target.iter_mut().zip(source).for_each(|(t, s)| *t = s.get());
                        } else {
                            convert(s, target, source);
                        }
                    }
                    _ => target.fill(0.0),
                }
                at += run;
            }
        }
        (scratch, k)
    }
}

/// A convolution that reads an image as it comes: `input` `[N, C, H, W]`, a packed operand `[KH * C * KW, out]`, `output`
/// `[N, OH, OW, out]`; no dilation. Made for the few channels of a stem.
///
/// # Panics
/// Where sizes disagree.
pub fn conv2d_planar(output: &mut [f32], input: &[f32], shape: &ConvShape, b: &PackedB, epilogue: &Epilogue) {
    assert_eq!(input.len(), shape.batch * shape.input[0] * shape.input[1] * shape.channels, "input");
    assert_eq!(output.len(), shape.pixels() * b.n, "output");
    assert!(Direct::fits(shape), "no dilation");
    assert_eq!(b.k, shape.window.kernel[0] * shape.window.kernel[1] * shape.channels, "weights");
    let epilogue_fits = epilogue.bias.is_none_or(|bias| bias.len() == b.n) && epilogue.residual.is_none_or(|r| r.len() == output.len());
    assert!(epilogue_fits, "a bias a channel and a residual of the output's shape");
    Direct { input, planar: true, shape: *shape, b, epilogue, accumulate: false, place: None }.run(output);
}

/// A convolution: `input` `[N, H, W, C]`, one packed operand `[KH * KW * C / groups, out / groups]` for each group, `output`
/// `[N, OH, OW, out]`; bias, residual and activation as in [`Epilogue`].
///
/// # Panics
/// Where sizes disagree.
pub fn conv2d(output: &mut [f32], input: &[f32], shape: &ConvShape, groups: &[PackedB], epilogue: &Epilogue) {
    conv2d_into(output, input, shape, groups, epilogue, false);
}

/// As [`conv2d`]; with `accumulate`, and then no residual, the result is added to the output.
pub(crate) fn conv2d_into<T: Value>(
    output: &mut [T],
    input: &[T],
    shape: &ConvShape,
    groups: &[PackedB],
    epilogue: &Epilogue,
    accumulate: bool,
) {
    assert!(!accumulate || epilogue.residual.is_none(), "either a residual or old values are added");
    assert_eq!(input.len(), shape.batch * shape.input[0] * shape.input[1] * shape.channels, "input");
    let out: usize = groups.iter().map(|b| b.n).sum();
    let m = shape.pixels();
    assert_eq!(output.len(), m * out, "output");
    let count = shape.channels / groups.len().max(1);
    let taps = shape.window.kernel[0] * shape.window.kernel[1];
    assert!(groups.iter().all(|b| b.k == taps * count), "weights of {taps} taps of {count} channels");
    if let ([b], true) = (groups, shape.is_pointwise()) {
        return multiply(output, out, m, &Matrix::new(input, m, shape.channels), b, accumulate, epilogue);
    }
    if let ([b], true) = (groups, Direct::fits(shape)) {
        let epilogue_fits = epilogue.bias.is_none_or(|bias| bias.len() == out) && epilogue.residual.is_none_or(|r| r.len() == output.len());
        assert!(epilogue_fits, "a bias a channel and a residual of the output's shape");
        return Direct { input, planar: false, shape: *shape, b, epilogue, accumulate, place: None }.run(output);
    }
    let mut column = 0;
    for (group, b) in groups.iter().enumerate() {
        let patches = Patches { input, shape: *shape, first: group * count, count };
        let part = Epilogue {
            bias: epilogue.bias.map(|bias| &bias[column..column + b.n]),
            residual: epilogue.residual.map(|r| &r[column..]),
            clamp: epilogue.clamp,
        };
        multiply(&mut output[column..], out, m, &patches, b, accumulate, &part);
        column += b.n;
    }
}
