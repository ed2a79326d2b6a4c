//! Depthwise convolutions forward and back, vectors over channels.

use std::ops::Range;

use super::convolution::Convolution;
use crate::conv::ConvShape;
use crate::depthwise::depthwise_for;
use crate::dispatch::{Kernel, Simd};
use crate::gemm::{Epilogue, Shared, share};
use crate::scratch::{self, Slot};
use crate::threads::{each_chunk, parallel};
use crate::value::{Value, wide};

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

pub(super) fn forward<T: Value>(c: &Convolution, y: &mut [T], x: &[T], weight: &[f32], epilogue: &Epilogue) {
    by_tap(c, weight, false, |taps| depthwise_for(c.isa, y, x, &c.shape, taps, epilogue.bias, epilogue.clamp));
}

pub(super) fn input_gradient<T: Value>(c: &Convolution, dx: &mut [T], dy: &[T], weight: &[f32], accumulate: bool) {
    match c.mirrored() {
        Some(shape) if !accumulate => {
            by_tap(c, weight, true, |taps| depthwise_for(c.isa, dx, dy, &shape, taps, None, None));
        }
        _ => gathered(c, dx, dy, weight, accumulate),
    }
}

/// Each row of the input gathers from the outputs that read it.
fn gathered<T: Value>(c: &Convolution, dx: &mut [T], dy: &[T], weight: &[f32], accumulate: bool) {
    let row = c.shape.input[1] * c.outputs;
    by_tap(c, weight, false, |taps| {
        each_chunk(dx, row, |line, row| c.isa.run(Gather { row, line, dy, taps, shape: &c.shape, accumulate }));
    });
}

/// A row of the input's gradient.
struct Gather<'a, T> {
    row: &'a mut [T],
    line: usize,
    dy: &'a [T],
    taps: &'a [f32],
    shape: &'a ConvShape,
    accumulate: bool,
}

/// Pixels, a stride apart, whose sums are held in registers together.
const SPAN: usize = 8;

impl<T: Value> Kernel for Gather<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ConvShape { input: [h, w], output: [oh, ow], channels: c, window, .. } = *self.shape;
        let n = self.line / h;
        assert!(
            self.row.len() == w * c && self.dy.len() >= (n + 1) * oh * ow * c && self.taps.len() >= window.kernel[0] * window.kernel[1] * c
        );
        let stride = window.stride[1];
        // By blocks of columns, so that memory is touched nearly in its order.
        for start in (0..w).step_by(SPAN * stride) {
            for channel in (0..c).step_by(S::LANES) {
                for first in start..w.min(start + stride) {
                    let count = (w.min(start + SPAN * stride) - first).div_ceil(stride);
                    if count == SPAN {
                        self.span::<S, SPAN>(s, first, channel);
                    } else {
                        (0..count).for_each(|i| self.span::<S, 1>(s, first + i * stride, channel));
                    }
                }
            }
        }
    }
}

impl<T: Value> Gather<'_, T> {
    /// `N` pixels from `x` on, a stride apart: they meet the same taps, in outputs side by side.
    #[inline(always)]
    fn span<S: Simd, const N: usize>(&self, s: S, x: usize, channel: usize) {
        let ConvShape { input: [h, _], output: [oh, ow], channels: c, window, .. } = *self.shape;
        let (n, y, count) = (self.line / h, self.line % h, S::LANES.min(c - channel));
        let [down, across] = window.stride;
        // SAFETY: `count` channels from `channel` lie in each pixel and tap; the caller gives pixels of the row; only outputs that exist
        // are read.
        unsafe {
            let out = self.row.as_ptr().cast_mut().add(x * c + channel);
            let mut sums = [s.splat(0.0); N];
            if self.accumulate {
                sums = std::array::from_fn(|i| T::load_first(s, out.add(i * across * c), count));
            }
            for ky in 0..window.kernel[0] {
                let Some(from) = (y + window.padding[0]).checked_sub(ky * window.dilation[0]) else { continue };
                if !from.is_multiple_of(down) || from / down >= oh {
                    continue;
                }
                let line = self.dy.as_ptr().add((n * oh + from / down) * ow * c + channel);
                for kx in 0..window.kernel[1] {
                    let from = (x + window.padding[1]) as isize - (kx * window.dilation[1]) as isize;
                    if from.rem_euclid(across as isize) != 0 {
                        continue;
                    }
                    let first = from.div_euclid(across as isize);
                    let tap = s.load_first(self.taps.as_ptr().add((ky * window.kernel[1] + kx) * c + channel), count);
                    if first >= 0 && first as usize + N <= ow {
                        let source = line.add(first as usize * c);
                        for (i, sum) in sums.iter_mut().enumerate() {
                            *sum = s.fma(T::load_first(s, source.add(i * c), count), tap, *sum);
                        }
                    } else {
                        for (i, sum) in sums.iter_mut().enumerate() {
                            let at = first + i as isize;
                            if at >= 0 && (at as usize) < ow {
                                *sum = s.fma(T::load_first(s, line.add(at as usize * c), count), tap, *sum);
                            }
                        }
                    }
                }
            }
            for (i, &sum) in sums.iter().enumerate() {
                T::store_first(s, out.add(i * across * c), count, sum);
            }
        }
    }
}

/// Parts whose sums are taken apart, at most: their number depends on the sizes alone.
const PARTS: usize = 16;
/// Values of both maps that a part works on at a time.
const BLOCK: usize = 1 << 16;

/// `dw` `[C, taps]`.
pub(super) fn weight_gradient<T: Value>(c: &Convolution, dw: &mut [f32], dy: &[T], x: &[T]) {
    let (len, rows) = (c.weight_len(), c.shape.batch * c.shape.output[0]);
    let parts = rows.clamp(1, PARTS);
    scratch::for_use(Slot::Sums, parts * len, |sums| {
        let shared = Shared(sums.as_mut_ptr());
        parallel(parts, |part| {
            let rows = share(rows, parts, part);
            // SAFETY: each part has `len` sums of its own.
            let dw = unsafe { std::slice::from_raw_parts_mut(shared.get().add(part * len), len) };
            dw.fill(0.0);
            scratch::for_use(Slot::Part, c.shape.input[1] * c.outputs, |zeros| {
                zeros.fill(0.0);
                c.isa.run(Meeting { dw, dy, x, rows, zeros, shape: &c.shape });
            });
        });
        let (taps, channels) = (c.taps(), c.outputs);
        for (channel, dw) in dw.chunks_exact_mut(taps.max(1)).enumerate() {
            for (t, dw) in dw.iter_mut().enumerate() {
                *dw = sums.chunks_exact(len).map(|part| part[t * channels + channel]).sum();
            }
        }
    });
}

/// Rows of output gradients meet the rows of inputs under them: `dw` `[taps, C]` grows by their products.
struct Meeting<'a, T> {
    dw: &'a mut [f32],
    dy: &'a [T],
    x: &'a [T],
    rows: Range<usize>,
    /// A row of the input outside the map.
    zeros: &'a [f32],
    shape: &'a ConvShape,
}

impl<T: Value> Kernel for Meeting<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ConvShape { input: [h, w], output: [oh, ow], channels: c, window, .. } = *self.shape;
        let block = (BLOCK / ((ow + w * window.stride[0]) * c).max(1)).max(1);
        // Rows of the input under a row of the output.
        let (stride, pad, reach) = (window.stride[0], window.padding[0], (window.kernel[0] - 1) * window.dilation[0]);
        let start = |row: usize| row / oh * h + (row % oh * stride).saturating_sub(pad).min(h);
        let end = |row: usize| row / oh * h + (row % oh * stride + reach + 1).saturating_sub(pad).min(h);
        for from in self.rows.clone().step_by(block) {
            let rows = from..self.rows.end.min(from + block);
            let (first, last) = (start(rows.start), end(rows.end - 1).max(start(rows.start)));
            let (x, dy) = (&self.x[first * w * c..last * w * c], &self.dy[rows.start * ow * c..rows.end * ow * c]);
            let needs = |len: usize| if T::WIDE { 0 } else { len };
            scratch::for_use(Slot::Wide, needs(x.len()), |wide_x| {
                scratch::for_use(Slot::Wider, needs(dy.len()), |wide_dy| {
                    let (x, dy) = (wide(s, x, wide_x), wide(s, dy, wide_dy));
                    let (zeros, shape, first) = (self.zeros, self.shape, [rows.start, first]);
                    s.vectorize(Block { dw: &mut *self.dw, dy, x, first, rows: rows.clone(), zeros, shape });
                });
            });
        }
    }
}

/// Some rows in f32: `dy` and `x` begin at the rows `first`.
struct Block<'a> {
    dw: &'a mut [f32],
    dy: &'a [f32],
    x: &'a [f32],
    first: [usize; 2],
    rows: Range<usize>,
    zeros: &'a [f32],
    shape: &'a ConvShape,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for channel in (0..self.shape.channels).step_by(S::LANES) {
            match self.shape.window.kernel {
                [3, 3] => self.all_taps::<S, 3, 9>(s, self.rows.clone(), channel),
                [5, 5] if S::LANES == 16 => self.all_taps::<S, 5, 25>(s, self.rows.clone(), channel),
                _ => self.tap_by_tap(s, self.rows.clone(), channel),
            }
        }
    }
}

impl Block<'_> {
    /// The row under tap row `ky` of row `row`, from `channel` on.
    #[inline(always)]
    fn line(&self, row: usize, ky: usize, channel: usize) -> *const f32 {
        let ConvShape { input: [h, w], output: [oh, _], channels: c, window, .. } = *self.shape;
        match window.source(0, row % oh, ky, h) {
            Some(y) => self.x[(row / oh * h + y - self.first[1]) * w * c + channel..].as_ptr(),
            None => self.zeros[channel..].as_ptr(),
        }
    }

    /// One vector of channels; the sums of all `T` taps, `K` a row, stay in registers.
    #[inline(always)]
    fn all_taps<S: Simd, const K: usize, const T: usize>(&self, s: S, rows: Range<usize>, channel: usize) {
        let ConvShape { input: [_, w], output: [_, ow], channels: c, window, .. } = *self.shape;
        let (count, [_, stride], [_, dilation], [_, pad]) = (S::LANES.min(c - channel), window.stride, window.dilation, window.padding);
        // Columns all of whose taps lie in the map.
        let first = pad.div_ceil(stride).min(ow);
        let reach = (K - 1) * dilation;
        let last = if w + pad > reach { ((w + pad - reach - 1) / stride + 1).clamp(first, ow) } else { first };
        let whole = count == S::LANES;
        // SAFETY: `count` channels from `channel` lie in each pixel and tap; taps of columns from `first` to `last` lie in the map, and of
        // others those that `source` gives.
        unsafe {
            let load = |p: *const f32| if whole { s.load(p) } else { s.load_first(p, count) };
            let sums = self.dw.as_ptr().cast_mut().add(channel);
            let mut acc: [S::V; T] = std::array::from_fn(|t| load(sums.add(t * c)));
            for row in rows {
                let dy = self.dy[(row - self.first[0]) * ow * c..][..ow * c].as_ptr().add(channel);
                let lines: [*const f32; K] = std::array::from_fn(|ky| self.line(row, ky, channel));
                for ox in (0..first).chain(last..ow) {
                    let g = load(dy.add(ox * c));
                    for kx in 0..K {
                        let Some(x) = window.source(1, ox, kx, w) else { continue };
                        for ky in 0..K {
                            acc[ky * K + kx] = s.fma(g, load(lines[ky].add(x * c)), acc[ky * K + kx]);
                        }
                    }
                }
                for ox in first..last {
                    let g = load(dy.add(ox * c));
                    let x = (ox * stride - pad) * c;
                    for ky in 0..K {
                        for kx in 0..K {
                            acc[ky * K + kx] = s.fma(g, load(lines[ky].add(x + kx * dilation * c)), acc[ky * K + kx]);
                        }
                    }
                }
            }
            for (t, &v) in acc.iter().enumerate() {
                s.store_first(sums.add(t * c), count, v);
            }
        }
    }

    /// One vector of channels, any window.
    #[inline(always)]
    fn tap_by_tap<S: Simd>(&self, s: S, rows: Range<usize>, channel: usize) {
        let ConvShape { input: [_, w], output: [_, ow], channels: c, window, .. } = *self.shape;
        let count = S::LANES.min(c - channel);
        for (ky, kx) in (0..window.kernel[0] * window.kernel[1]).map(|t| (t / window.kernel[1], t % window.kernel[1])) {
            // SAFETY: as in `all_taps`.
            unsafe {
                let to = self.dw.as_ptr().cast_mut().add((ky * window.kernel[1] + kx) * c + channel);
                let mut sum = s.load_first(to, count);
                for row in rows.clone() {
                    let dy = self.dy[(row - self.first[0]) * ow * c..][..ow * c].as_ptr().add(channel);
                    let line = self.line(row, ky, channel);
                    for ox in 0..ow {
                        if let Some(x) = window.source(1, ox, kx, w) {
                            sum = s.fma(s.load_first(dy.add(ox * c), count), s.load_first(line.add(x * c), count), sum);
                        }
                    }
                }
                s.store_first(to, count, sum);
            }
        }
    }
}
