//! Batch norm with the residual and the activation behind it, forward and back, on `[rows, channels]`: two passes over memory each way.

use std::ops::Range;

use super::sums::{block_rows, by_blocks};
use crate::dispatch::{Isa, Kernel, Simd};
use crate::gemm::{Clamp, Shared};
use crate::scratch::{self, Slot};
use crate::threads::parallel;
use crate::value::{Value, Values, ValuesMut, alike};

/// Mean and biased variance of each channel of `x` `[rows, C]`, in one pass over memory: sums of distances from the first row.
///
/// # Panics
/// Where sizes disagree.
pub fn moments<'a>(mean: &mut [f32], variance: &mut [f32], x: impl Into<Values<'a>>) {
    alike!((; x) => moments_on(Isa::best(), mean, variance, x));
}

pub(super) fn moments_on<T: Value>(isa: Isa, mean: &mut [f32], variance: &mut [f32], x: &[T]) {
    let c = mean.len();
    assert!(c > 0 && variance.len() == c && x.len().is_multiple_of(c), "whole rows of {c} channels");
    let Some(origin) = x.get(..c) else {
        mean.fill(0.0);
        return variance.fill(0.0);
    };
    let origin: &[f32] = &origin.iter().map(|x| x.get()).collect::<Vec<_>>();
    let rows = x.len() / c;
    let block = |rows: Range<usize>, sums: &mut [f32]| {
        sums.fill(0.0);
        isa.run(Distances { rows: &x[rows.start * c..rows.end * c], origin, sums: Shared(sums.as_mut_ptr()) });
    };
    by_blocks(rows, c, 2 * c, block, |totals| {
        for (i, (mean, variance)) in mean.iter_mut().zip(variance).enumerate() {
            let (first, second) = (totals[i] / rows as f64, totals[c + i] / rows as f64);
            *mean = (first + f64::from(origin[i])) as f32;
            *variance = (second - first * first).max(0.0) as f32;
        }
    });
}

/// A batch norm with what is known of it: `clamp((x - mean) * inverse * gamma + beta + residual)`. One value a channel in each slice.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a> {
    /// Of the batch, or running.
    pub mean: &'a [f32],
    /// `1 / sqrt(variance + eps)`.
    pub inverse: &'a [f32],
    /// Learned scale.
    pub gamma: &'a [f32],
    /// Learned shift.
    pub beta: &'a [f32],
    /// The activation behind it.
    pub clamp: Option<Clamp>,
    /// Whether mean and inverse are those of the batch, and so depend on the input.
    pub by_batch: bool,
}

/// The gradients of a pass back. `dx` may be the memory of `dy`.
struct Gradients<'a, T> {
    dx: Shared<T>,
    dy: Shared<T>,
    /// Whether the masked gradient is wanted in `dy`; else that is only read.
    masked: bool,
    x: &'a [T],
    /// The output, where a residual makes it more than a function of `x`.
    y: Option<&'a [T]>,
}

impl BatchNorm<'_> {
    /// The output `y` of `x`, both `[rows, C]`, with a residual of the same shape.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn forward<'a, 'b>(&self, y: impl Into<ValuesMut<'a>>, x: impl Into<Values<'b>>, residual: Option<Values<'_>>) {
        match residual {
            Some(residual) => alike!((y; x, residual) => self.forward_on(Isa::best(), y, x, Some(residual))),
            None => alike!((y; x) => self.forward_on(Isa::best(), y, x, None)),
        }
    }

    pub(super) fn forward_on<T: Value>(&self, isa: Isa, y: &mut [T], x: &[T], residual: Option<&[T]>) {
        let c = self.check(x.len());
        assert!(y.len() == x.len() && residual.is_none_or(|r| r.len() == x.len()), "output and residual");
        let out = Shared(y.as_mut_ptr());
        self.with_lines(|lines| {
            each_block(x.len() / c, c, |rows| {
                let (from, to) = (rows.start * c, rows.end * c);
                let y = Shared(out.get().wrapping_add(from));
                isa.run(Forward { y, x: &x[from..to], residual: residual.map(|r| &r[from..to]), lines });
            });
        });
    }

    /// Gradients by the input, by gamma and by beta, for a norm without residual.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn backward<'a, 'b, 'c>(
        &self,
        dx: impl Into<ValuesMut<'a>>,
        dgamma: &mut [f32],
        dbeta: &mut [f32],
        x: impl Into<Values<'b>>,
        dy: impl Into<Values<'c>>,
    ) {
        alike!((dx; x, dy) => self.backward_on(Isa::best(), dx, [dgamma, dbeta], x, dy));
    }

    pub(super) fn backward_on<T: Value>(&self, isa: Isa, dx: &mut [T], [dgamma, dbeta]: [&mut [f32]; 2], x: &[T], dy: &[T]) {
        assert!(dx.len() == x.len() && dy.len() == x.len(), "gradients");
        // What is not wanted masked is only read.
        let gradients = Gradients { dx: Shared(dx.as_mut_ptr()), dy: Shared(dy.as_ptr().cast_mut()), masked: false, x, y: None };
        self.back(isa, &gradients, dgamma, dbeta);
    }

    /// As [`Self::backward`], but the gradient by the input takes the place of the one by the output.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn backward_in_place<'a, 'b>(
        &self,
        gradient: impl Into<ValuesMut<'a>>,
        dgamma: &mut [f32],
        dbeta: &mut [f32],
        x: impl Into<Values<'b>>,
    ) {
        alike!((gradient; x) => self.back_in_place(gradient, [dgamma, dbeta], x));
    }

    fn back_in_place<T: Value>(&self, gradient: &mut [T], [dgamma, dbeta]: [&mut [f32]; 2], x: &[T]) {
        assert_eq!(gradient.len(), x.len(), "gradient");
        let gradient = Shared(gradient.as_mut_ptr());
        self.back(Isa::best(), &Gradients { dx: gradient, dy: gradient, masked: false, x, y: None }, dgamma, dbeta);
    }

    /// As [`Self::backward`] for a norm with a residual, whose output was `y`: `dy` becomes the gradient by the residual.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn backward_added<'a, 'b, 'c, 'd>(
        &self,
        dx: impl Into<ValuesMut<'a>>,
        dy: impl Into<ValuesMut<'b>>,
        dgamma: &mut [f32],
        dbeta: &mut [f32],
        x: impl Into<Values<'c>>,
        y: impl Into<Values<'d>>,
    ) {
        alike!((dx, dy; x, y) => self.backward_added_on(Isa::best(), [dx, dy], [dgamma, dbeta], x, y));
    }

    pub(super) fn backward_added_on<T: Value>(
        &self,
        isa: Isa,
        [dx, dy]: [&mut [T]; 2],
        [dgamma, dbeta]: [&mut [f32]; 2],
        x: &[T],
        y: &[T],
    ) {
        assert!(dx.len() == x.len() && dy.len() == x.len() && y.len() == x.len(), "gradients and output");
        let (dx, dy) = (Shared(dx.as_mut_ptr()), Shared(dy.as_mut_ptr()));
        self.back(isa, &Gradients { dx, dy, masked: self.clamp.is_some(), x, y: Some(y) }, dgamma, dbeta);
    }

    fn back<T: Value>(&self, isa: Isa, g: &Gradients<T>, dgamma: &mut [f32], dbeta: &mut [f32]) {
        let c = self.check(g.x.len());
        assert!(dgamma.len() == c && dbeta.len() == c, "one gradient a channel");
        let rows = g.x.len() / c;
        let run =
            |rows: Range<usize>, job: Job, lines: Lines| isa.run(Block { rows: rows.len(), first: rows.start, lines, gradients: g, job });
        self.with_lines(|lines| {
            // Σ dz and Σ dz (x - mean), where dz is dy inside the bounds.
            let block = |rows: Range<usize>, sums: &mut [f32]| {
                sums.fill(0.0);
                run(rows, Job::Products(Shared(sums.as_mut_ptr())), lines);
            };
            scratch::for_use(Slot::Part, 2 * c, |line| {
                line.fill(0.0);
                let (slope, offset) = line.split_at_mut(c);
                by_blocks(rows, c, 2 * c, block, |totals| {
                    // dx = scale (dz - Σdz / M - x̂ Σ(dz x̂) / M) = scale dz + slope (x - mean) + offset.
                    for i in 0..c {
                        let inverse = f64::from(self.inverse[i]);
                        let (scale, by_gamma) = (f64::from(lines.scale[i]), totals[c + i] * inverse);
                        (dbeta[i], dgamma[i]) = (totals[i] as f32, by_gamma as f32);
                        if self.by_batch {
                            slope[i] = (-scale * inverse * by_gamma / rows as f64) as f32;
                            offset[i] = (-scale * totals[i] / rows as f64) as f32;
                        }
                    }
                });
                let (slope, offset) = (&*slope, &*offset);
                // A gradient that was masked needs no mask.
                let lines = Lines { bounded: lines.bounded && !g.masked, ..lines };
                each_block(rows, c, |rows| run(rows, Job::Back { slope, offset }, lines));
            });
        });
    }

    /// Channels, of a slice of `len` values.
    fn check(&self, len: usize) -> usize {
        let c = self.gamma.len();
        let whole = c > 0 && [self.mean, self.inverse, self.beta].iter().all(|s| s.len() == c) && len.is_multiple_of(c);
        assert!(whole, "one value a channel, whole rows of {c} channels");
        c
    }

    /// Gives `f` the norm as `x * scale + shift`, inside bounds.
    fn with_lines<R>(&self, f: impl FnOnce(Lines) -> R) -> R {
        let c = self.gamma.len();
        scratch::for_use(Slot::Weights, 2 * c, |values| {
            let (scale, shift) = values.split_at_mut(c);
            for i in 0..c {
                scale[i] = self.gamma[i] * self.inverse[i];
                shift[i] = self.beta[i] - self.mean[i] * scale[i];
            }
            let (low, high) = self.clamp.map_or((f32::NEG_INFINITY, f32::INFINITY), |c| (c.low, c.high));
            f(Lines { scale, shift, mean: self.mean, low, high, bounded: self.clamp.is_some() })
        })
    }
}

/// `x * scale + shift` and its bounds.
#[derive(Clone, Copy)]
struct Lines<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
    mean: &'a [f32],
    low: f32,
    high: f32,
    bounded: bool,
}

/// Runs `task` for blocks of rows.
fn each_block(rows: usize, channels: usize, task: impl Fn(Range<usize>) + Sync) {
    let each = block_rows(channels);
    parallel(rows.div_ceil(each), |index| task(index * each..rows.min((index + 1) * each)));
}

/// Rows that are worked on together: what is one a channel is loaded once for all, and sums grow by their sum.
const TOGETHER: usize = 4;

/// Calls `self.rows::<S, N>(s, first)` for groups of [`TOGETHER`] of `rows` rows, then for single ones. Rows lie one after the other in
/// memory, and are read so.
macro_rules! each_row {
    ($self:ident, $s:ident, $rows:expr) => {
        let (rows, mut row) = ($rows, 0);
        while row + TOGETHER <= rows {
            $self.rows::<S, TOGETHER>($s, row);
            row += TOGETHER;
        }
        while row < rows {
            $self.rows::<S, 1>($s, row);
            row += 1;
        }
    };
}

/// The sum of the values of `N` rows.
#[inline(always)]
fn total<S: Simd, const N: usize>(s: S, v: [S::V; N]) -> S::V {
    if N == TOGETHER { s.add(s.add(v[0], v[1]), s.add(v[N - 2], v[N - 1])) } else { v[0] }
}

/// `sums[at..] += v`, `count` values.
///
/// # Safety
/// They exist, and are this block's own.
#[inline(always)]
unsafe fn grow<S: Simd, const WHOLE: bool>(s: S, sums: Shared, at: usize, count: usize, v: S::V) {
    let p = sums.get().wrapping_add(at);
    // SAFETY: the caller's promise.
    unsafe { f32::store_n::<S, WHOLE>(s, p, count, s.add(f32::load_n::<S, WHOLE>(s, p, count), v)) };
}

/// Calls `self.channels::<S, N, WHOLE>(s, first, channel, count)` for vectors of channels.
macro_rules! each_vector {
    ($self:ident, $s:ident, $n:ident, $first:ident, $channels:expr) => {
        let (channels, mut channel) = ($channels, 0);
        while channel + S::LANES <= channels {
            $self.channels::<S, $n, true>($s, $first, channel, S::LANES);
            channel += S::LANES;
        }
        if channel < channels {
            $self.channels::<S, $n, false>($s, $first, channel, channels - channel);
        }
    };
}

/// The sums of distances of some rows.
struct Distances<'a, T> {
    rows: &'a [T],
    origin: &'a [f32],
    /// Zeros at first.
    sums: Shared,
}

impl<T: Value> Kernel for Distances<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        each_row!(self, s, self.rows.len() / self.origin.len());
    }
}

impl<T: Value> Distances<'_, T> {
    #[inline(always)]
    fn rows<S: Simd, const N: usize>(&self, s: S, first: usize) {
        assert!((first + N) * self.origin.len() <= self.rows.len(), "rows");
        each_vector!(self, s, N, first, self.origin.len());
    }

    #[inline(always)]
    fn channels<S: Simd, const N: usize, const WHOLE: bool>(&self, s: S, first: usize, channel: usize, count: usize) {
        let (c, rows) = (self.origin.len(), self.rows.as_ptr());
        // SAFETY: the vectors lie below `c` in the origin and in each row, of which there are enough; there are `2 * c` sums, this block's
        // own.
        unsafe {
            let origin = f32::load_n::<S, WHOLE>(s, self.origin.as_ptr().add(channel), count);
            let d: [S::V; N] = std::array::from_fn(|i| s.sub(T::load_n::<S, WHOLE>(s, rows.add((first + i) * c + channel), count), origin));
            grow::<S, WHOLE>(s, self.sums, channel, count, total(s, d));
            grow::<S, WHOLE>(s, self.sums, c + channel, count, total(s, d.map(|d| s.mul(d, d))));
        }
    }
}

/// The outputs of some rows.
struct Forward<'a, T> {
    y: Shared<T>,
    x: &'a [T],
    residual: Option<&'a [T]>,
    lines: Lines<'a>,
}

impl<T: Value> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        each_row!(self, s, self.x.len() / self.lines.scale.len());
    }
}

impl<T: Value> Forward<'_, T> {
    #[inline(always)]
    fn rows<S: Simd, const N: usize>(&self, s: S, first: usize) {
        let c = self.lines.scale.len();
        let fits = |values: &[T]| (first + N) * c <= values.len();
        assert!(fits(self.x) && self.residual.is_none_or(fits), "rows");
        each_vector!(self, s, N, first, c);
    }

    #[inline(always)]
    fn channels<S: Simd, const N: usize, const WHOLE: bool>(&self, s: S, first: usize, channel: usize, count: usize) {
        let Lines { scale, shift, low, high, .. } = self.lines;
        let (c, low, high) = (scale.len(), s.splat(low), s.splat(high));
        // SAFETY: the vectors lie below `c` in each row, of which `x`, `y` and the residual have the same number.
        unsafe {
            let scale = f32::load_n::<S, WHOLE>(s, scale.as_ptr().add(channel), count);
            let shift = f32::load_n::<S, WHOLE>(s, shift.as_ptr().add(channel), count);
            for i in 0..N {
                let at = (first + i) * c + channel;
                let mut v = s.fma(T::load_n::<S, WHOLE>(s, self.x.as_ptr().add(at), count), scale, shift);
                if let Some(residual) = self.residual {
                    v = s.add(v, T::load_n::<S, WHOLE>(s, residual.as_ptr().add(at), count));
                }
                T::store_n::<S, WHOLE>(s, self.y.get().add(at), count, s.min(high, s.max(low, v)));
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Job<'a> {
    /// Sums of masked gradients and of their products with distances from the mean; zeros at first.
    Products(Shared),
    /// Gradients by the input.
    Back { slope: &'a [f32], offset: &'a [f32] },
}

/// Some rows of a pass back.
struct Block<'a, T> {
    rows: usize,
    first: usize,
    lines: Lines<'a>,
    gradients: &'a Gradients<'a, T>,
    job: Job<'a>,
}

impl<T: Value> Kernel for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.job {
            Job::Products(sums) => {
                let this = Products { block: &self, sums };
                each_row!(this, s, self.rows);
            }
            Job::Back { slope, offset } => {
                let this = Back { block: &self, slope, offset };
                each_row!(this, s, self.rows);
            }
        }
    }
}

impl<T: Value> Block<'_, T> {
    /// The masked gradient at `at` for the input `x` there.
    ///
    /// # Safety
    /// `count` values lie there in the maps, and nobody else writes there.
    #[inline(always)]
    unsafe fn masked<S: Simd, const WHOLE: bool>(&self, s: S, at: usize, count: usize, x: S::V, [scale, shift]: [S::V; 2]) -> S::V {
        // SAFETY: the caller's promise.
        unsafe {
            let dy = T::load_n::<S, WHOLE>(s, self.gradients.dy.get().add(at), count);
            if !self.lines.bounded {
                return dy;
            }
            let y = match self.gradients.y {
                Some(y) => T::load_n::<S, WHOLE>(s, y.as_ptr().add(at), count),
                None => s.fma(x, scale, shift),
            };
            s.inside(y, s.splat(self.lines.low), s.splat(self.lines.high), dy)
        }
    }
}

struct Products<'a, 'b, T> {
    block: &'a Block<'b, T>,
    sums: Shared,
}

impl<T: Value> Products<'_, '_, T> {
    #[inline(always)]
    fn rows<S: Simd, const N: usize>(&self, s: S, first: usize) {
        each_vector!(self, s, N, first, self.block.lines.scale.len());
    }

    #[inline(always)]
    fn channels<S: Simd, const N: usize, const WHOLE: bool>(&self, s: S, first: usize, channel: usize, count: usize) {
        let (block, Lines { scale, shift, mean, .. }) = (self.block, self.block.lines);
        let c = scale.len();
        let start = (block.first + first) * c;
        // SAFETY: the vectors lie below `c` in each row of maps whose sizes were checked; there are `2 * c` sums, this block's own.
        unsafe {
            let line = [scale, shift].map(|v| f32::load_n::<S, WHOLE>(s, v.as_ptr().add(channel), count));
            let mean = f32::load_n::<S, WHOLE>(s, mean.as_ptr().add(channel), count);
            let (mut dz, mut products) = ([mean; N], [mean; N]);
            for i in 0..N {
                let at = start + i * c + channel;
                let x = T::load_n::<S, WHOLE>(s, block.gradients.x.as_ptr().add(at), count);
                dz[i] = block.masked::<S, WHOLE>(s, at, count, x, line);
                if block.gradients.masked {
                    T::store_n::<S, WHOLE>(s, block.gradients.dy.get().add(at), count, dz[i]);
                }
                products[i] = s.mul(dz[i], s.sub(x, mean));
            }
            grow::<S, WHOLE>(s, self.sums, channel, count, total(s, dz));
            grow::<S, WHOLE>(s, self.sums, c + channel, count, total(s, products));
        }
    }
}

struct Back<'a, 'b, T> {
    block: &'a Block<'b, T>,
    slope: &'a [f32],
    offset: &'a [f32],
}

impl<T: Value> Back<'_, '_, T> {
    #[inline(always)]
    fn rows<S: Simd, const N: usize>(&self, s: S, first: usize) {
        each_vector!(self, s, N, first, self.block.lines.scale.len());
    }

    #[inline(always)]
    fn channels<S: Simd, const N: usize, const WHOLE: bool>(&self, s: S, first: usize, channel: usize, count: usize) {
        let (block, Lines { scale, shift, mean, .. }) = (self.block, self.block.lines);
        let c = scale.len();
        let start = (block.first + first) * c;
        // SAFETY: the vectors lie below `c` in each row of maps whose sizes were checked, and each block has rows of its own.
        unsafe {
            let load = |v: &[f32]| f32::load_n::<S, WHOLE>(s, v.as_ptr().add(channel), count);
            let (line, mean, slope, offset) = ([load(scale), load(shift)], load(mean), load(self.slope), load(self.offset));
            for i in 0..N {
                let at = start + i * c + channel;
                let x = T::load_n::<S, WHOLE>(s, block.gradients.x.as_ptr().add(at), count);
                let dz = block.masked::<S, WHOLE>(s, at, count, x, line);
                let dx = s.fma(dz, line[0], s.fma(s.sub(x, mean), slope, offset));
                T::store_n::<S, WHOLE>(s, block.gradients.dx.get().add(at), count, dx);
            }
        }
    }
}
