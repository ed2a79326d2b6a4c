//! Depthwise convolution of narrow maps: a slice of the channels of a band of the input is widened into a padded copy, where every window
//! is whole and every vector aligned; sums are f32 (of bytes: exact integers).

use std::cell::Cell;
use std::ops::Range;

use crate::buffer::{Buffer, Number};
use crate::conv::ConvShape;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::threads;

/// Channels of a slice: a cache line of bf16.
pub(crate) const SLICE: usize = 32;
/// Values of a padded copy, at most (but for a single row of output): it stays in the second level of the cache.
const BAND: usize = 40_000;

/// A narrow number.
pub(crate) trait Narrow: Number {
    fn widen(self) -> f32;
}

impl Narrow for u8 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from(self)
    }
}

impl Narrow for u16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        crate::bf16::widen(self)
    }
}

/// What becomes of sums.
pub(crate) trait Sink: Sync {
    /// Writes the results of `sums` at values `at..` of the output, channels `channel..`. Must be `#[inline(always)]`, and read all that
    /// it needs before it writes: then it compiles into vectors.
    ///
    /// # Safety
    /// `N` values are there, in the output and in what belongs to the channels; nothing else writes there meanwhile.
    unsafe fn write<const N: usize>(&self, sums: &[f32; N], at: usize, channel: usize);
}

/// Taps `[KH * KW, C]` as slices of channels: `[slices, KH * KW, SLICE]`, zeros behind the last channel.
#[derive(Debug, Clone)]
pub(crate) struct Taps {
    pub kernel: [usize; 2],
    pub channels: usize,
    values: Buffer,
}

impl Taps {
    /// `value(channel, tap)`.
    pub fn new(kernel: [usize; 2], channels: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let taps = kernel[0] * kernel[1];
        let mut values = Buffer::zeros(channels.div_ceil(SLICE) * taps * SLICE);
        for (i, v) in values.iter_mut().enumerate() {
            let (channel, tap) = (i / (taps * SLICE) * SLICE + i % SLICE, i / SLICE % taps);
            if channel < channels {
                *v = value(channel, tap);
            }
        }
        Self { kernel, channels, values }
    }
}

/// Runs a depthwise convolution; the padding has the value `padding`.
///
/// # Safety
/// `sink` covers every output value.
pub(crate) unsafe fn depthwise<T: Narrow>(isa: Isa, input: &[T], shape: &ConvShape, taps: &Taps, padding: T, sink: &impl Sink) {
    let (c, [h, w], [oh, ow], window) = (shape.channels, shape.input, shape.output, &shape.window);
    assert_eq!(input.len(), shape.batch * h * w * c, "input");
    assert_eq!((taps.kernel, taps.channels), (window.kernel, c), "taps of another convolution");
    if shape.batch * oh * ow * c == 0 {
        return;
    }
    let reach = |axis: usize, out: usize| (out - 1) * window.stride[axis] + (window.kernel[axis] - 1) * window.dilation[axis] + 1;
    let width = reach(1, ow);
    // The most rows whose band is small enough.
    let rows = (1..=oh).rev().find(|&rows| reach(0, rows) * width * SLICE <= BAND).unwrap_or(1);
    let rows = oh.div_ceil(oh.div_ceil(rows));
    let (bands, slices) = (oh.div_ceil(rows), c.div_ceil(SLICE));
    let task = |index: usize| {
        let (n, band, slice) = (index / (bands * slices), index / slices % bands, index % slices);
        let ys = band * rows..oh.min((band + 1) * rows);
        let image = &input[n * h * w * c..(n + 1) * h * w * c];
        isa.run(Task { image, n, ys, slice, width, shape, taps, padding, sink });
    };
    threads::parallel(shape.batch * bands * slices, task);
}

thread_local! {
    static BAND_COPY: Cell<Buffer> = const { Cell::new(Buffer::new()) };
}

struct Task<'a, T, K> {
    image: &'a [T],
    n: usize,
    ys: Range<usize>,
    slice: usize,
    width: usize,
    shape: &'a ConvShape,
    taps: &'a Taps,
    padding: T,
    sink: &'a K,
}

impl<T: Narrow, K: Sink> Kernel for Task<'_, T, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Taken and put back, not borrowed in a closure: that would be a function without this one's instructions.
        let mut band = BAND_COPY.take();
        self.copy(&mut band);
        let w = &self.shape.window;
        match (w.kernel, w.stride, w.dilation) {
            ([3, 3], [1, 1], [1, 1]) => self.rows::<S, 3, 1>(s, &band),
            ([3, 3], [2, 2], [1, 1]) => self.rows::<S, 3, 2>(s, &band),
            ([5, 5], [1, 1], [1, 1]) => self.rows::<S, 5, 1>(s, &band),
            ([5, 5], [2, 2], [1, 1]) => self.rows::<S, 5, 2>(s, &band),
            _ => self.any(s, &band),
        }
        BAND_COPY.set(band);
    }
}

impl<T: Narrow, K: Sink> Task<'_, T, K> {
    /// The band of the slice, padded: `[rows, width, SLICE]`.
    #[inline(always)]
    fn copy(&self, band: &mut Buffer) {
        let (c, [h, w], window) = (self.shape.channels, self.shape.input, &self.shape.window);
        let [top, left] = window.padding;
        let rows = (self.ys.len() - 1) * window.stride[0] + (window.kernel[0] - 1) * window.dilation[0] + 1;
        band.resize(rows * self.width * SLICE);
        let (first, padding) = (self.slice * SLICE, self.padding.widen());
        let count = SLICE.min(c - first);
        for (r, row) in band.chunks_exact_mut(self.width * SLICE).enumerate() {
            let Some(y) = (self.ys.start * window.stride[0] + r).checked_sub(top).filter(|&y| y < h) else {
                row.fill(padding);
                continue;
            };
            let end = (left + w).min(self.width);
            row[..left.min(self.width) * SLICE].fill(padding);
            row[end * SLICE..].fill(padding);
            let source = &self.image[y * w * c..(y + 1) * w * c];
            let inner = row.get_mut(left * SLICE..end * SLICE).unwrap_or_default();
            for (to, from) in inner.chunks_exact_mut(SLICE).zip(source.chunks_exact(c)) {
                let from = &from[first..first + count];
                if count == SLICE {
                    for i in 0..SLICE {
                        to[i] = from[i].widen();
                    }
                } else {
                    to.iter_mut().zip(from).for_each(|(t, f)| *t = f.widen());
                }
            }
        }
    }

    #[inline(always)]
    fn rows<S: Simd, const KS: usize, const ST: usize>(&self, s: S, band: &[f32]) {
        let [_, ow] = self.shape.output;
        for y in 0..self.ys.len() {
            let mut x = 0;
            while x + 8 <= ow {
                self.tile::<S, KS, ST, 8>(s, band, y, x);
                x += 8;
            }
            // The rest: one more tile that ends at the last column and computes some outputs twice, or columns one by one.
            if x + 4 <= ow {
                self.tile::<S, KS, ST, 4>(s, band, y, x);
                x += 4;
            }
            if x < ow && ow >= 4 {
                self.tile::<S, KS, ST, 4>(s, band, y, ow - 4);
                x = ow;
            }
            while x < ow {
                self.tile::<S, KS, ST, 1>(s, band, y, x);
                x += 1;
            }
        }
    }

    /// `XT` columns of row `y` of the task from column `x`.
    #[inline(always)]
    fn tile<S: Simd, const KS: usize, const ST: usize, const XT: usize>(&self, s: S, band: &[f32], y: usize, x: usize) {
        let first = self.slice * SLICE;
        let count = SLICE.min(self.shape.channels - first);
        let taps = &self.taps.values[self.slice * KS * KS * SLICE..][..KS * KS * SLICE];
        let from = (y * ST * self.width + x * ST) * SLICE;
        assert!(band.len() >= from + ((KS - 1) * self.width + (XT - 1) * ST + KS) * SLICE);
        let mut sums = [0.0f32; 16 * 8];
        let mut channel = 0;
        while channel < count {
            let mut acc = [s.splat(0.0); XT];
            for ky in 0..KS {
                // SAFETY: the assertion covers KS rows and the columns of XT windows, whole slices each; `channel + LANES <= SLICE`.
                unsafe {
                    let row = band.as_ptr().add(from + ky * self.width * SLICE + channel);
                    let mut tap = [s.splat(0.0); KS];
                    for (kx, tap) in tap.iter_mut().enumerate() {
                        *tap = s.load(taps.as_ptr().add((ky * KS + kx) * SLICE + channel));
                    }
                    for (kx, &tap) in tap.iter().enumerate() {
                        for (i, acc) in acc.iter_mut().enumerate() {
                            *acc = s.fma(s.load(row.add((i * ST + kx) * SLICE)), tap, *acc);
                        }
                    }
                }
            }
            for (i, &v) in acc.iter().enumerate() {
                // SAFETY: eight vectors of sixteen fit.
                unsafe { s.store(sums.as_mut_ptr().add(i * S::LANES), v) };
            }
            let n = S::LANES.min(count - channel);
            for i in 0..XT {
                self.write::<S>(&sums[i * S::LANES..(i + 1) * S::LANES], y, x + i, first + channel, n);
            }
            channel += S::LANES;
        }
    }

    /// Any window, column by column.
    #[inline(always)]
    fn any<S: Simd>(&self, s: S, band: &[f32]) {
        let (window, first) = (&self.shape.window, self.slice * SLICE);
        let (count, all) = (SLICE.min(self.shape.channels - first), window.kernel[0] * window.kernel[1]);
        let taps = &self.taps.values[self.slice * all * SLICE..][..all * SLICE];
        let mut sums = [0.0f32; 16];
        for (y, x) in (0..self.ys.len()).flat_map(|y| (0..self.shape.output[1]).map(move |x| (y, x))) {
            for channel in (0..count).step_by(S::LANES) {
                let mut acc = s.splat(0.0);
                for tap in 0..all {
                    let (ky, kx) = (tap / window.kernel[1], tap % window.kernel[1]);
                    let at = (y * window.stride[0] + ky * window.dilation[0]) * self.width + x * window.stride[1] + kx * window.dilation[1];
                    let (pixel, tap) = (&band[at * SLICE..(at + 1) * SLICE], &taps[tap * SLICE..(tap + 1) * SLICE]);
                    // SAFETY: both are whole slices, and `channel + LANES <= SLICE`.
                    unsafe { acc = s.fma(s.load(pixel.as_ptr().add(channel)), s.load(tap.as_ptr().add(channel)), acc) };
                }
                // SAFETY: a vector has at most sixteen lanes.
                unsafe { s.store(sums.as_mut_ptr(), acc) };
                self.write::<S>(&sums[..S::LANES], y, x, first + channel, S::LANES.min(count - channel));
            }
        }
    }

    #[inline(always)]
    fn write<S: Simd>(&self, sums: &[f32], y: usize, x: usize, channel: usize, n: usize) {
        let [oh, ow] = self.shape.output;
        let at = ((self.n * oh + self.ys.start + y) * ow + x) * self.shape.channels + channel;
        // SAFETY: the pixel and the `n` channels exist; `depthwise`'s caller vouches for the sink, and tasks have outputs of their own.
        unsafe {
            match (n, sums.first_chunk::<16>(), sums.first_chunk::<8>(), sums.first_chunk::<4>()) {
                (16, Some(sums), _, _) => self.sink.write(sums, at, channel),
                (8, _, Some(sums), _) => self.sink.write(sums, at, channel),
                (4, _, _, Some(sums)) => self.sink.write(sums, at, channel),
                _ => sums.iter().take(n).enumerate().for_each(|(i, &sum)| self.sink.write(&[sum], at + i, channel + i)),
            }
        }
    }
}
