//! Elementwise functions and softmax, back.

use crate::bf16;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::elementwise::{CHUNK, Function, exp, sigmoid};
use crate::gemm::{Clamp, Shared};
use crate::normalise::sum;
use crate::threads::{each_chunk, parallel};
use crate::value::{Value, Values, ValuesMut, alike, each_kind, in_f32};

/// `y = min(max(x, low), high)`; NaN passes through.
///
/// # Panics
/// Where lengths differ.
pub fn clamp<'a, 'b>(y: impl Into<ValuesMut<'a>>, x: impl Into<Values<'b>>, clamp: Clamp) {
    alike!((y; x) => clamp_of(y, x, clamp));
}

fn clamp_of<T: Value>(y: &mut [T], x: &[T], clamp: Clamp) {
    assert_eq!(y.len(), x.len(), "equal lengths");
    let isa = Isa::best();
    each_chunk(y, CHUNK, |index, y| isa.run(ClampChunk { y, x: &x[index * CHUNK..], clamp }));
}

struct ClampChunk<'a, T> {
    y: &'a mut [T],
    x: &'a [T],
    clamp: Clamp,
}

impl<T: Value> Kernel for ClampChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Clamp { low, high } = self.clamp;
        for (y, &v) in self.y.iter_mut().zip(self.x) {
            let v = v.get();
            let v = if v < low { low } else { v };
            *y = T::of(if v > high { high } else { v });
        }
    }
}

/// `dx = dy` where the clamped value `y` lies inside the bounds, else 0.
///
/// # Panics
/// Where lengths differ.
pub fn clamp_gradient(dx: &mut [f32], y: &[f32], dy: &[f32], clamp: Clamp) {
    assert!(dx.len() == y.len() && dy.len() == y.len(), "equal lengths");
    let isa = Isa::best();
    each_chunk(dx, CHUNK, |index, dx| {
        let at = index * CHUNK;
        dx.copy_from_slice(&dy[at..at + dx.len()]);
        isa.run(ClampBack { dx, y: &y[at..], clamp });
    });
}

/// As [`clamp_gradient`], in the memory of `dy`.
///
/// # Panics
/// Where lengths differ.
pub fn clamp_gradient_in_place<'a, 'b>(dy: impl Into<ValuesMut<'a>>, y: impl Into<Values<'b>>, clamp: Clamp) {
    alike!((dy; y) => clamp_back(dy, y, clamp));
}

fn clamp_back<T: Value>(dy: &mut [T], y: &[T], clamp: Clamp) {
    assert_eq!(dy.len(), y.len(), "equal lengths");
    let isa = Isa::best();
    each_chunk(dy, CHUNK, |index, dx| isa.run(ClampBack { dx, y: &y[index * CHUNK..], clamp }));
}

struct ClampBack<'a, T> {
    dx: &'a mut [T],
    y: &'a [T],
    clamp: Clamp,
}

impl<T: Value> Kernel for ClampBack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Clamp { low, high } = self.clamp;
        for (dx, &y) in self.dx.iter_mut().zip(self.y) {
            let y = y.get();
            *dx = if y > low && y < high { *dx } else { T::of(0.0) };
        }
    }
}

impl Function {
    /// The slope at `x`; where there is a corner, that from inside PyTorch's formula.
    #[inline(always)]
    pub fn slope(self, x: f32) -> f32 {
        let inside = |low: f32, high: f32| if x > low && x < high { 1.0 } else { 0.0 };
        match self {
            Self::Relu => inside(0.0, f32::INFINITY),
            Self::Relu6 => inside(0.0, 6.0),
            Self::Gelu => {
                let density = exp(-0.5 * x * x) * 0.398_942_3;
                0.5 * (1.0 + crate::elementwise::erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * density
            }
            Self::Silu => {
                let s = sigmoid(x);
                s * (1.0 + x * (1.0 - s))
            }
            Self::HardSwish => {
                let middle = x * (1.0 / 3.0) + 0.5;
                let middle = if x < 3.0 { middle } else { 1.0 };
                if x > -3.0 { middle } else { 0.0 }
            }
            Self::HardSigmoid => inside(-3.0, 3.0) * (1.0 / 6.0),
            Self::Sigmoid => {
                let s = sigmoid(x);
                s * (1.0 - s)
            }
            Self::Tanh => {
                let t = x.tanh();
                1.0 - t * t
            }
        }
    }
}

/// `y = function(x)`, keeping `x` for the way back.
///
/// # Panics
/// Where lengths differ.
pub fn apply<'a, 'b>(y: impl Into<ValuesMut<'a>>, x: impl Into<Values<'b>>, function: Function) {
    alike!((y; x) => apply_of(y, x, function));
}

fn apply_of<T: Value>(y: &mut [T], x: &[T], function: Function) {
    assert_eq!(y.len(), x.len(), "equal lengths");
    let isa = Isa::best();
    each_chunk(y, CHUNK, |index, y| isa.run(Apply { y, x: &x[index * CHUNK..], function }));
}

struct Apply<'a, T> {
    y: &'a mut [T],
    x: &'a [T],
    function: Function,
}

/// One loop a function: the match leaves the loop, and each vectorises.
macro_rules! each_function {
    ($function:expr, $name:ident => $body:expr) => {
        each_function!(@ $function, $name, $body, Relu Relu6 Gelu Silu HardSwish HardSigmoid Sigmoid Tanh)
    };
    (@ $function:expr, $name:ident, $body:expr, $($kind:ident)*) => {
        match $function { $(Function::$kind => { let $name = Function::$kind; $body })* }
    };
}

impl<T: Value> Kernel for Apply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        each_function!(self.function, f => self.y.iter_mut().zip(self.x).for_each(|(y, &x)| *y = T::of(f.of(x.get()))));
    }
}

/// `dx = dy * function'(x)`, from the input of [`apply`].
///
/// # Panics
/// Where lengths differ.
pub fn function_gradient<'a, 'b, 'c>(
    dx: impl Into<ValuesMut<'a>>,
    x: impl Into<Values<'b>>,
    dy: impl Into<Values<'c>>,
    function: Function,
) {
    alike!((dx; x, dy) => function_back(dx, x, dy, function));
}

fn function_back<T: Value>(dx: &mut [T], x: &[T], dy: &[T], function: Function) {
    assert!(dx.len() == x.len() && dy.len() == x.len(), "equal lengths");
    let isa = Isa::best();
    each_chunk(dx, CHUNK, |index, dx| {
        let at = index * CHUNK;
        isa.run(Slopes { dx, x: &x[at..], dy: &dy[at..], function });
    });
}

struct Slopes<'a, T> {
    dx: &'a mut [T],
    x: &'a [T],
    dy: &'a [T],
    function: Function,
}

impl<T: Value> Kernel for Slopes<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { dx, x, dy, function } = self;
        each_function!(function, f => dx.iter_mut().zip(x).zip(dy).for_each(|((d, &x), &g)| *d = T::of(g.get() * f.slope(x.get()))));
    }
}

/// `dx = y (dy - Σ dy y)` for each row of `columns` values of a softmax `y`.
///
/// # Panics
/// Where lengths differ or rows are not whole.
pub fn softmax_gradient(dx: &mut [f32], y: &[f32], dy: &[f32], columns: usize) {
    assert!(columns > 0 && dx.len() == y.len() && dy.len() == y.len() && y.len().is_multiple_of(columns), "whole rows of {columns}");
    let (isa, chunk) = (Isa::best(), (CHUNK / columns).max(1) * columns);
    each_chunk(dx, chunk, |index, dx| {
        let at = index * chunk;
        dx.copy_from_slice(&dy[at..at + dx.len()]);
        isa.run(SoftmaxBack { dx, y: &y[at..], columns, scale: 1.0 });
    });
}

/// Turns gradients by softmax rows into gradients by what was scaled and exponentiated, in place.
pub(super) struct SoftmaxBack<'a> {
    pub dx: &'a mut [f32],
    pub y: &'a [f32],
    pub columns: usize,
    pub scale: f32,
}

impl Kernel for SoftmaxBack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (dx, y) in self.dx.chunks_exact_mut(self.columns).zip(self.y.chunks_exact(self.columns)) {
            dx.iter_mut().zip(y).for_each(|(d, &y)| *d *= y);
            let total = sum(dx, |v| v);
            dx.iter_mut().zip(y).for_each(|(d, &y)| *d = (*d - y * total) * self.scale);
        }
    }
}

/// `sum += more`.
///
/// # Panics
/// Where lengths differ.
pub fn add_into<'a, 'b>(sum: impl Into<ValuesMut<'a>>, more: impl Into<Values<'b>>) {
    alike!((sum; more) => add_into_of(sum, more));
}

fn add_into_of<T: Value>(sum: &mut [T], more: &[T]) {
    assert_eq!(sum.len(), more.len(), "equal lengths");
    let isa = Isa::best();
    each_chunk(sum, CHUNK, |index, sum| isa.run(AddInto(sum, &more[index * CHUNK..])));
}

struct AddInto<'a, T>(&'a mut [T], &'a [T]);

impl<T: Value> Kernel for AddInto<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.0.iter_mut().zip(self.1).for_each(|(a, &b)| *a = T::of(a.get() + b.get()));
    }
}

/// `y = a + b`.
///
/// # Panics
/// Where lengths differ.
pub fn add<'a, 'b, 'c>(y: impl Into<ValuesMut<'a>>, a: impl Into<Values<'b>>, b: impl Into<Values<'c>>) {
    each_kind!((y; a, b) => { crate::add(y, a, b) } or { bf16::add(y, a, b) });
}

/// `y = a * b`.
///
/// # Panics
/// Where lengths differ.
pub fn multiply<'a, 'b, 'c>(y: impl Into<ValuesMut<'a>>, a: impl Into<Values<'b>>, b: impl Into<Values<'c>>) {
    each_kind!((y; a, b) => { crate::multiply(y, a, b) } or { bf16::multiply(y, a, b) });
}

/// `y = x * mask`, one value of the mask for `each` values.
///
/// # Panics
/// Where lengths disagree.
pub fn mask<'a, 'b>(y: impl Into<ValuesMut<'a>>, x: impl Into<Values<'b>>, mask: &[f32], each: usize) {
    alike!((y; x) => {
        assert_eq!(y.len(), x.len(), "equal lengths");
        masked(y, Some(x), mask, each);
    });
}

/// As [`mask()`], in the memory of `x`.
///
/// # Panics
/// Where lengths disagree.
pub fn mask_in_place<'a>(x: impl Into<ValuesMut<'a>>, mask: &[f32], each: usize) {
    alike!((x;) => masked(x, None, mask, each));
}

fn masked<T: Value>(y: &mut [T], x: Option<&[T]>, mask: &[f32], each: usize) {
    assert_eq!(y.len(), mask.len() * each, "one value of the mask for {each}");
    let (isa, chunk) = (Isa::best(), if each == 1 { CHUNK } else { each });
    each_chunk(y, chunk, |index, y| {
        let from = index * chunk;
        let mask = if each == 1 { &mask[from..from + y.len()] } else { &mask[index..index + 1] };
        isa.run(Masked { x: x.map(|x| &x[from..from + y.len()]), y, mask });
    });
}

/// Values times a mask of as many, or of one for all.
struct Masked<'a, T> {
    y: &'a mut [T],
    x: Option<&'a [T]>,
    mask: &'a [f32],
}

impl<T: Value> Kernel for Masked<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { y, x, mask } = self;
        if let Some(x) = x {
            y.copy_from_slice(x);
        }
        match mask {
            &[m] => y.iter_mut().for_each(|y| *y = T::of(y.get() * m)),
            mask => y.iter_mut().zip(mask).for_each(|(y, m)| *y = T::of(y.get() * m)),
        }
    }
}

/// `y [N, pixels, C] = x [N, pixels, C] * gates [N, C]`.
///
/// # Panics
/// Where sizes disagree.
pub fn gate<'a, 'b, 'c>(
    y: impl Into<ValuesMut<'a>>,
    x: impl Into<Values<'b>>,
    gates: impl Into<Values<'c>>,
    pixels: usize,
    channels: usize,
) {
    each_kind!((y; x, gates) => { crate::gate_channels(y, x, gates, pixels, channels) } or {
        bf16::gate_channels(y, x, gates, pixels, channels)
    });
}

/// The way back through [`gate`]: `dx` `[N, pixels, C] = dy * gates`, `dgates` `[N, C]` = sums of `dy * x` over
/// the pixels of an image.
///
/// # Panics
/// Where sizes disagree.
pub fn gate_gradient<'a, 'b, 'c, 'd, 'e>(
    dx: impl Into<ValuesMut<'a>>,
    dgates: impl Into<ValuesMut<'b>>,
    x: impl Into<Values<'c>>,
    gates: impl Into<Values<'d>>,
    dy: impl Into<Values<'e>>,
    pixels: usize,
    channels: usize,
) {
    alike!((dx, dgates; x, gates, dy) => gate_back([dx, dgates], [x, gates, dy], pixels, channels));
}

fn gate_back<T: Value>([dx, dgates]: [&mut [T]; 2], [x, gates, dy]: [&[T]; 3], pixels: usize, channels: usize) {
    assert!(dx.len() == x.len() && dy.len() == x.len() && x.len() == gates.len() * pixels && dgates.len() == gates.len(), "sizes");
    assert!(channels > 0 && gates.len().is_multiple_of(channels), "whole rows of {channels} gates");
    let isa = Isa::best();
    let (dx, dgates) = (Shared(dx.as_mut_ptr()), Shared(dgates.as_mut_ptr()));
    let image = pixels * channels;
    parallel(gates.len() / channels, |n| {
        let (from, to) = (n * image, (n + 1) * image);
        // SAFETY: each part has an image and its gates for itself, inside slices whose lengths were checked.
        let (dx, dgates) = unsafe {
            let dx = std::slice::from_raw_parts_mut(dx.get().add(from), image);
            (dx, std::slice::from_raw_parts_mut(dgates.get().add(n * channels), channels))
        };
        let gates = &gates[n * channels..(n + 1) * channels];
        in_f32(isa, dgates, false, |dgates| isa.run(GateBack { dx, dgates, x: &x[from..to], gates, dy: &dy[from..to] }));
    });
}

struct GateBack<'a, T> {
    dx: &'a mut [T],
    dgates: &'a mut [f32],
    x: &'a [T],
    gates: &'a [T],
    dy: &'a [T],
}

impl<T: Value> Kernel for GateBack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let c = self.gates.len();
        self.dgates.fill(0.0);
        for ((dx, x), dy) in self.dx.chunks_exact_mut(c).zip(self.x.chunks_exact(c)).zip(self.dy.chunks_exact(c)) {
            dx.iter_mut().zip(dy).zip(self.gates).for_each(|((d, dy), g)| *d = T::of(dy.get() * g.get()));
            self.dgates.iter_mut().zip(x).zip(dy).for_each(|((d, x), dy)| *d += x.get() * dy.get());
        }
    }
}
