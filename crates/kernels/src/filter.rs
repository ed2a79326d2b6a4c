//! The depthwise microkernel: one row of a panel of channels, from rows that are framed in zeros.

use crate::dispatch::{Kernel, Simd};
use crate::gemm::Clamp;
use crate::value::Value;

/// A row of a depthwise convolution. Column `x` of the output lies under columns `x * stride ..` of each line, so that no window leaves it.
pub(crate) struct Filter<T = f32> {
    /// `pixels` groups of `width` values, `out_stride` apart.
    pub out: *mut T,
    pub out_stride: usize,
    pub pixels: usize,
    /// The row under each row of the kernel, or none where it lies outside the map; values rounded up to vectors are readable.
    pub lines: [Option<*const T>; 5],
    /// Values between the pixels of a line.
    pub pixel: usize,
    pub width: usize,
    /// `width` values for each tap, `tap_stride` apart.
    pub taps: *const f32,
    pub tap_stride: usize,
    pub bias: Option<*const f32>,
    pub clamp: Option<Clamp>,
}

impl<T: Value> Filter<T> {
    /// Runs a square kernel of 3 or 5 with stride 1 or 2.
    ///
    /// # Safety
    /// All pointers cover what the fields say, and nothing else writes to `out` meanwhile.
    #[inline(always)]
    pub unsafe fn run<S: Simd>(&self, s: S, kernel: usize, stride: usize) {
        match (kernel, stride) {
            // Values that are widened when they are loaded are better loaded once.
            (_, 1) if S::LANES != 16 && size_of::<T>() == 4 => s.vectorize(Narrow::<T, 1>(self, kernel)),
            (_, 2) if S::LANES != 16 && size_of::<T>() == 4 => s.vectorize(Narrow::<T, 2>(self, kernel)),
            (3, 1) => s.vectorize(Line::<T, 3, 1>(self)),
            (3, 2) => s.vectorize(Line::<T, 3, 2>(self)),
            (5, 1) => s.vectorize(Line::<T, 5, 1>(self)),
            (5, 2) => s.vectorize(Line::<T, 5, 2>(self)),
            _ => unreachable!("a kernel of {kernel} with stride {stride}"),
        }
    }
}

struct Line<'a, T, const K: usize, const ST: usize>(&'a Filter<T>);

impl<T: Value, const K: usize, const ST: usize> Kernel for Line<'_, T, K, ST> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for channel in (0..self.0.width).step_by(S::LANES) {
            match (K, ST) {
                (3, 1) => self.line::<S, 10, 9, 6, 3>(s, channel),
                (3, _) => self.line::<S, 17, 15, 9, 3>(s, channel),
                (_, 1) => self.line::<S, 12, 11, 8, 5>(s, channel),
                (_, _) => self.line::<S, 19, 17, 11, 5>(s, channel),
            }
        }
    }
}

impl<T: Value, const K: usize, const ST: usize> Line<'_, T, K, ST> {
    /// One vector of channels. `N8`, `N7`, `N4` and `N1` are the columns under 8, 7, 4 and 1 columns of the output.
    #[inline(always)]
    fn line<S: Simd, const N8: usize, const N7: usize, const N4: usize, const N1: usize>(&self, s: S, channel: usize) {
        let pixels = self.0.pixels;
        let mut x = 0;
        // Eight sums hide the latency of their additions; only 32 registers hold them and their inputs.
        if S::LANES == 16 {
            if pixels.is_multiple_of(7) && !pixels.is_multiple_of(8) {
                while x < pixels {
                    self.tile::<S, 7, N7>(s, channel, x);
                    x += 7;
                }
            }
            while x + 8 <= pixels {
                self.tile::<S, 8, N8>(s, channel, x);
                x += 8;
            }
        }
        while x + 4 <= pixels {
            self.tile::<S, 4, N4>(s, channel, x);
            x += 4;
        }
        while x < pixels {
            self.tile::<S, 1, N1>(s, channel, x);
            x += 1;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const XT: usize, const N: usize>(&self, s: S, channel: usize, x: usize) {
        let f = self.0;
        let count = S::LANES.min(f.width - channel);
        // SAFETY: `Filter::run`'s promise: whole vectors are readable in the lines, `count` values in taps, bias and output.
        unsafe {
            let mut acc = [f.bias.map_or(s.splat(0.0), |bias| s.load_first(bias.add(channel), count)); XT];
            for ky in 0..K {
                let Some(line) = f.lines[ky] else { continue };
                let line = line.add(x * ST * f.pixel + channel);
                let input: [S::V; N] = std::array::from_fn(|i| T::load(s, line.add(i * f.pixel)));
                for kx in 0..K {
                    let tap = s.load_first(f.taps.add((ky * K + kx) * f.tap_stride + channel), count);
                    for i in 0..XT {
                        acc[i] = s.fma(input[i * ST + kx], tap, acc[i]);
                    }
                }
            }
            for (i, &v) in acc.iter().enumerate() {
                let v = match f.clamp {
                    Some(clamp) => s.min(s.splat(clamp.high), s.max(s.splat(clamp.low), v)),
                    None => v,
                };
                T::store_first(s, f.out.add((x + i) * f.out_stride + channel), count, v);
            }
        }
    }
}

/// A row where 16 registers are all there are: sums of up to eight columns stay in them, inputs are read from the cache again for each tap
/// of `1` a row.
struct Narrow<'a, T, const ST: usize>(&'a Filter<T>, usize);

impl<T: Value, const ST: usize> Kernel for Narrow<'_, T, ST> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for channel in (0..self.0.width).step_by(S::LANES) {
            self.line(s, channel);
        }
    }
}

impl<T: Value, const ST: usize> Narrow<'_, T, ST> {
    #[inline(always)]
    fn line<S: Simd>(&self, s: S, channel: usize) {
        let tiles = self.0.pixels.div_ceil(8);
        let mut x = 0;
        for left in (1..=tiles).rev() {
            // Tiles of nearly equal width: a single column waits for each of its additions.
            let width = (self.0.pixels - x).div_ceil(left);
            match width {
                8 => self.columns::<S, 8>(s, channel, x),
                7 => self.columns::<S, 7>(s, channel, x),
                6 => self.columns::<S, 6>(s, channel, x),
                5 => self.columns::<S, 5>(s, channel, x),
                4 => self.columns::<S, 4>(s, channel, x),
                3 => self.columns::<S, 3>(s, channel, x),
                2 => self.columns::<S, 2>(s, channel, x),
                _ => self.columns::<S, 1>(s, channel, x),
            }
            x += width;
        }
    }

    #[inline(always)]
    fn columns<S: Simd, const XT: usize>(&self, s: S, channel: usize, x: usize) {
        let Self(f, kernel) = *self;
        let count = S::LANES.min(f.width - channel);
        // SAFETY: `Filter::run`'s promise: whole vectors are readable in the lines, `count` values in taps, bias and output.
        unsafe {
            let mut acc = [f.bias.map_or(s.splat(0.0), |bias| s.load_first(bias.add(channel), count)); XT];
            for (ky, line) in f.lines.iter().enumerate().take(kernel) {
                let Some(line) = line else { continue };
                let (mut line, mut tap) = (line.add(x * ST * f.pixel + channel), f.taps.add(ky * kernel * f.tap_stride + channel));
                for _ in 0..kernel {
                    let value = s.load_first(tap, count);
                    for (i, acc) in acc.iter_mut().enumerate() {
                        *acc = s.fma(T::load(s, line.add(i * ST * f.pixel)), value, *acc);
                    }
                    (line, tap) = (line.wrapping_add(f.pixel), tap.wrapping_add(f.tap_stride));
                }
            }
            for (i, &v) in acc.iter().enumerate() {
                let v = match f.clamp {
                    Some(clamp) => s.min(s.splat(clamp.high), s.max(s.splat(clamp.low), v)),
                    None => v,
                };
                T::store_first(s, f.out.add((x + i) * f.out_stride + channel), count, v);
            }
        }
    }
}
