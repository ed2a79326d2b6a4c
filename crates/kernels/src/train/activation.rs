//! Elementwise functions and softmax, back.

use crate::dispatch::{Isa, Kernel, Simd};
use crate::elementwise::{CHUNK, Function, exp, sigmoid};
use crate::gemm::{Clamp, Shared};
use crate::normalise::sum;
use crate::threads::{each_chunk, parallel};

/// `y = min(max(x, low), high)`; NaN passes through.
///
/// # Panics
/// Where lengths differ.
pub fn clamp(y: &mut [f32], x: &[f32], clamp: Clamp) {
    assert_eq!(y.len(), x.len(), "equal lengths");
    let isa = Isa::best();
    each_chunk(y, CHUNK, |index, y| isa.run(ClampChunk { y, x: &x[index * CHUNK..], clamp }));
}

struct ClampChunk<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
    clamp: Clamp,
}

impl Kernel for ClampChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Clamp { low, high } = self.clamp;
        for (y, &v) in self.y.iter_mut().zip(self.x) {
            let v = if v < low { low } else { v };
            *y = if v > high { high } else { v };
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
pub fn clamp_gradient_in_place(dy: &mut [f32], y: &[f32], clamp: Clamp) {
    assert_eq!(dy.len(), y.len(), "equal lengths");
    let isa = Isa::best();
    each_chunk(dy, CHUNK, |index, dx| isa.run(ClampBack { dx, y: &y[index * CHUNK..], clamp }));
}

struct ClampBack<'a> {
    dx: &'a mut [f32],
    y: &'a [f32],
    clamp: Clamp,
}

impl Kernel for ClampBack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Clamp { low, high } = self.clamp;
        for (dx, &y) in self.dx.iter_mut().zip(self.y) {
            *dx = if y > low && y < high { *dx } else { 0.0 };
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
pub fn apply(y: &mut [f32], x: &[f32], function: Function) {
    assert_eq!(y.len(), x.len(), "equal lengths");
    let isa = Isa::best();
    each_chunk(y, CHUNK, |index, y| isa.run(Apply { y, x: &x[index * CHUNK..], function }));
}

struct Apply<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
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

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        each_function!(self.function, f => self.y.iter_mut().zip(self.x).for_each(|(y, &x)| *y = f.of(x)));
    }
}

/// `dx = dy * function'(x)`, from the input of [`apply`].
///
/// # Panics
/// Where lengths differ.
pub fn function_gradient(dx: &mut [f32], x: &[f32], dy: &[f32], function: Function) {
    assert!(dx.len() == x.len() && dy.len() == x.len(), "equal lengths");
    let isa = Isa::best();
    each_chunk(dx, CHUNK, |index, dx| {
        let at = index * CHUNK;
        isa.run(Slopes { dx, x: &x[at..], dy: &dy[at..], function });
    });
}

struct Slopes<'a> {
    dx: &'a mut [f32],
    x: &'a [f32],
    dy: &'a [f32],
    function: Function,
}

impl Kernel for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { dx, x, dy, function } = self;
        each_function!(function, f => dx.iter_mut().zip(x).zip(dy).for_each(|((d, &x), &g)| *d = g * f.slope(x)));
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
pub fn add_into(sum: &mut [f32], more: &[f32]) {
    assert_eq!(sum.len(), more.len(), "equal lengths");
    let isa = Isa::best();
    each_chunk(sum, CHUNK, |index, sum| isa.run(AddInto(sum, &more[index * CHUNK..])));
}

struct AddInto<'a>(&'a mut [f32], &'a [f32]);

impl Kernel for AddInto<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.0.iter_mut().zip(self.1).for_each(|(a, &b)| *a += b);
    }
}

/// The way back through [`gate_channels`](crate::gate_channels): `dx` `[N, pixels, C] = dy * gates`, `dgates` `[N, C]` = sums of `dy * x` over
/// the pixels of an image.
///
/// # Panics
/// Where sizes disagree.
pub fn gate_gradient(dx: &mut [f32], dgates: &mut [f32], x: &[f32], gates: &[f32], dy: &[f32], pixels: usize, channels: usize) {
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
        isa.run(GateBack { dx, dgates, x: &x[from..to], gates, dy: &dy[from..to] });
    });
}

struct GateBack<'a> {
    dx: &'a mut [f32],
    dgates: &'a mut [f32],
    x: &'a [f32],
    gates: &'a [f32],
    dy: &'a [f32],
}

impl Kernel for GateBack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let c = self.gates.len();
        self.dgates.fill(0.0);
        for ((dx, x), dy) in self.dx.chunks_exact_mut(c).zip(self.x.chunks_exact(c)).zip(self.dy.chunks_exact(c)) {
            dx.iter_mut().zip(dy).zip(self.gates).for_each(|((d, &dy), &g)| *d = dy * g);
            self.dgates.iter_mut().zip(x).zip(dy).for_each(|((d, &x), &dy)| *d += x * dy);
        }
    }
}
