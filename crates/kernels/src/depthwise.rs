//! Depthwise convolution, NHWC: every channel its own small filter; vectors run over channels.

use crate::conv::ConvShape;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::filter::Filter;
use crate::gemm::Clamp;
use crate::threads::each_chunk;
use crate::value::Value;

/// A depthwise convolution: `input` `[N, H, W, C]`, `weights` `[KH * KW, C]`, `bias` `[C]`, `output` `[N, OH, OW, C]`.
///
/// # Panics
/// Where sizes disagree.
pub fn depthwise(output: &mut [f32], input: &[f32], shape: &ConvShape, weights: &[f32], bias: Option<&[f32]>, clamp: Option<Clamp>) {
    depthwise_for(Isa::best(), output, input, shape, weights, bias, clamp);
}

pub(crate) fn depthwise_for<T: Value>(
    isa: Isa,
    output: &mut [T],
    input: &[T],
    shape: &ConvShape,
    weights: &[f32],
    bias: Option<&[f32]>,
    clamp: Option<Clamp>,
) {
    let (c, [h, w], [oh, ow]) = (shape.channels, shape.input, shape.output);
    assert_eq!(input.len(), shape.batch * h * w * c, "input");
    assert_eq!(output.len(), shape.batch * oh * ow * c, "output");
    assert_eq!(weights.len(), shape.window.kernel[0] * shape.window.kernel[1] * c, "weights");
    assert!(bias.is_none_or(|bias| bias.len() == c), "bias");
    if output.is_empty() {
        return;
    }
    let row = ow * c;
    // Some thousands of outputs a task: enough to pay for handing it out.
    let rows = (16_384 / row.max(1)).clamp(1, oh);
    each_chunk(output, rows * row, |task, out| {
        for (i, out) in out.chunks_exact_mut(row).enumerate() {
            let (n, y) = ((task * rows + i) / oh, (task * rows + i) % oh);
            let image = &input[n * h * w * c..(n + 1) * h * w * c];
            isa.run(Row { out, image, shape, weights, bias, clamp, y });
        }
    });
}

/// One row of the output.
struct Row<'a, T> {
    out: &'a mut [T],
    image: &'a [T],
    shape: &'a ConvShape,
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    clamp: Option<Clamp>,
    y: usize,
}

impl<T: Value> Kernel for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (window, channels, [_, w], [_, ow]) = (self.shape.window, self.shape.channels, self.shape.input, self.shape.output);
        let fast = matches!((window.kernel, window.stride, window.dilation), ([3, 3] | [5, 5], [1, 1] | [2, 2], [1, 1]));
        if !fast || !channels.is_multiple_of(S::LANES) {
            return self.columns(s, 0, ow);
        }
        // Columns whose windows lie inside the image, and those on either side.
        let (kernel, stride, left) = (window.kernel[1], window.stride[1], window.padding[1]);
        let first = left.div_ceil(stride).min(ow);
        let last = if w + left >= kernel { ((w + left - kernel) / stride + 1).clamp(first, ow) } else { first };
        self.columns(s, 0, first);
        if first < last {
            self.inner(s, first, last);
        }
        self.columns(s, last, ow);
    }
}

impl<T: Value> Row<'_, T> {
    /// Columns `first..last`, all of whose taps exist sideways, of whole vectors of channels.
    #[inline(always)]
    fn inner<S: Simd>(&mut self, s: S, first: usize, last: usize) {
        let (c, [h, w], window) = (self.shape.channels, self.shape.input, self.shape.window);
        let (kernel, stride) = (window.kernel[0], window.stride[1]);
        let sx = first * stride - window.padding[1];
        assert!(sx + (last - first - 1) * stride + kernel <= w && self.out.len() >= last * c);
        let line = |tap: usize| window.source(0, self.y, tap, h).map(|sy| self.image[(sy * w + sx) * c..].as_ptr());
        let filter = Filter {
            out: self.out[first * c..].as_mut_ptr(),
            out_stride: c,
            pixels: last - first,
            lines: std::array::from_fn(|tap| if tap < kernel { line(tap) } else { None }),
            pixel: c,
            width: c,
            taps: self.weights.as_ptr(),
            tap_stride: c,
            bias: self.bias.map(<[f32]>::as_ptr),
            clamp: self.clamp,
        };
        // SAFETY: rows come from `source`, columns were checked above, channels are whole vectors; weights and bias were checked at the
        // door; the output row is borrowed exclusively.
        unsafe { filter.run(s, kernel, stride) };
    }

    #[inline(always)]
    fn columns<S: Simd>(&mut self, s: S, from: usize, to: usize) {
        for x in from..to {
            let rest = self.pixel::<S, 4>(s, x, 0);
            self.pixel::<S, 1>(s, x, rest);
        }
    }

    /// One column, any window: channels from `channel` by `NB` whole vectors; a ragged last vector where `NB` is 1. Returns where it ended.
    #[inline(always)]
    fn pixel<S: Simd, const NB: usize>(&mut self, s: S, x: usize, mut channel: usize) -> usize {
        let (c, [h, w], window) = (self.shape.channels, self.shape.input, self.shape.window);
        assert!(self.out.len() >= (x + 1) * c);
        let (kys, kxs) = (window.taps(0, self.y, h), window.taps(1, x, w));
        let sx = (x * window.stride[1] + kxs.start * window.dilation[1]).wrapping_sub(window.padding[1]);
        while channel + NB * S::LANES <= c || (NB == 1 && channel < c) {
            let n = (c - channel).min(S::LANES);
            // SAFETY: each vector covers `n` values (whole vectors where NB > 1) before channel `c` of a pixel that exists: `taps` gives
            // those alone. Where it gives none, no pointer is read.
            unsafe {
                let mut acc = [s.splat(0.0); NB];
                if let Some(b) = self.bias {
                    for (j, acc) in acc.iter_mut().enumerate() {
                        *acc = s.load_first(b.as_ptr().add(channel + j * S::LANES), n);
                    }
                }
                for ky in kys.clone() {
                    let sy = ky * window.dilation[0] + self.y * window.stride[0] - window.padding[0];
                    let mut pixel = self.image.as_ptr().wrapping_add((sy * w).wrapping_add(sx).wrapping_mul(c).wrapping_add(channel));
                    let mut tap = self.weights.as_ptr().wrapping_add((ky * window.kernel[1] + kxs.start) * c + channel);
                    for _ in kxs.clone() {
                        for (j, acc) in acc.iter_mut().enumerate() {
                            let (pixel, tap) = (pixel.add(j * S::LANES), tap.add(j * S::LANES));
                            let (pixel, tap) =
                                if NB > 1 { (T::load(s, pixel), s.load(tap)) } else { (T::load_first(s, pixel, n), s.load_first(tap, n)) };
                            *acc = s.fma(pixel, tap, *acc);
                        }
                        pixel = pixel.wrapping_add(window.dilation[1] * c);
                        tap = tap.wrapping_add(c);
                    }
                }
                for (j, &v) in acc.iter().enumerate() {
                    T::store_first(s, self.out.as_mut_ptr().add(x * c + channel + j * S::LANES), n, self.clamped(s, v));
                }
            }
            channel += NB * S::LANES;
        }
        channel.min(c)
    }

    #[inline(always)]
    fn clamped<S: Simd>(&self, s: S, v: S::V) -> S::V {
        match self.clamp {
            Some(clamp) => s.min(s.splat(clamp.high), s.max(s.splat(clamp.low), v)),
            None => v,
        }
    }
}
