//! Elementwise functions.

use crate::dispatch::{Isa, Kernel, Simd};
use crate::threads::each_chunk;

/// Values a task: some tens of microseconds.
pub(crate) const CHUNK: usize = 16_384;

/// A non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x Φ(x)` by erf.
    Gelu,
    /// `x σ(x)`.
    Silu,
    /// `x relu6(x + 3) / 6`.
    HardSwish,
    /// `relu6(x + 3) / 6`.
    HardSigmoid,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

/// `e^x` within 2 units in the last place, branch free (Cephes' polynomial).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    let x = if x > 88.3 { 88.3 } else { x };
    let x = if x < -87.3 { -87.3 } else { x };
    let t = x * std::f32::consts::LOG2_E + MAGIC;
    let n = t - MAGIC;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let scale = f32::from_bits(t.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127) << 23);
    (p * r * r + r + 1.0) * scale
}

/// erf within 2e-7, branch free (Abramowitz and Stegun 7.1.26).
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = ((((1.061_405_4 * t - 1.453_152_1) * t + 1.421_413_8) * t - 0.284_496_72) * t + 0.254_829_6) * t;
    (1.0 - p * exp(-a * a)).copysign(x)
}

#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

impl Function {
    /// The function of one value.
    #[inline(always)]
    pub fn of(self, x: f32) -> f32 {
        match self {
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::Relu6 => {
                let x = if x < 0.0 { 0.0 } else { x };
                if x > 6.0 { 6.0 } else { x }
            }
            Self::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
            Self::Silu => x * sigmoid(x),
            Self::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) * (1.0 / 6.0),
            Self::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) * (1.0 / 6.0),
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => x.tanh(),
        }
    }
}

struct Apply<'a>(&'a mut [f32], Function);

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        // One loop a function: the match leaves the loop, and each vectorises.
        macro_rules! each {
            ($($name:ident),*) => { match self.1 { $(Function::$name => self.0.iter_mut().for_each(|x| *x = Function::$name.of(*x)),)* } };
        }
        each!(Relu, Relu6, Gelu, Silu, HardSwish, HardSigmoid, Sigmoid, Tanh);
    }
}

/// Applies a function in place.
pub fn activate(values: &mut [f32], function: Function) {
    let isa = Isa::best();
    each_chunk(values, CHUNK, |_, chunk| isa.run(Apply(chunk, function)));
}

fn zip(output: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    assert!(output.len() == a.len() && a.len() == b.len(), "equal lengths");
    each_chunk(output, CHUNK, |index, o| {
        let (a, b) = (&a[index * CHUNK..], &b[index * CHUNK..]);
        o.iter_mut().zip(a).zip(b).for_each(|((o, &a), &b)| *o = f(a, b));
    });
}

/// `output = a + b`.
pub fn add(output: &mut [f32], a: &[f32], b: &[f32]) {
    zip(output, a, b, |a, b| a + b);
}

/// `output = a * b`.
pub fn multiply(output: &mut [f32], a: &[f32], b: &[f32]) {
    zip(output, a, b, |a, b| a * b);
}

/// `output [N, pixels, C] = input [N, pixels, C] * gates [N, C]`.
pub fn gate_channels(output: &mut [f32], input: &[f32], gates: &[f32], pixels: usize, channels: usize) {
    assert!(output.len() == input.len() && input.len() == gates.len() * pixels, "one gate a channel and image");
    let image = (pixels * channels).max(1);
    each_chunk(output, image, |index, o| {
        let gates = &gates[index * channels..(index + 1) * channels];
        for (o, x) in o.chunks_exact_mut(channels).zip(input[index * image..].chunks_exact(channels)) {
            o.iter_mut().zip(x).zip(gates).for_each(|((o, &x), &g)| *o = x * g);
        }
    });
}

/// `output [.., C] = input [.., C] * scale [C] + shift [C]`: a batch norm that nothing absorbed.
pub fn scale_shift(output: &mut [f32], input: &[f32], scale: &[f32], shift: &[f32]) {
    let c = scale.len();
    assert!(output.len() == input.len() && shift.len() == c && input.len().is_multiple_of(c.max(1)), "one scale and shift a channel");
    let rows = (CHUNK / c.max(1)).max(1) * c.max(1);
    each_chunk(output, rows, |index, o| {
        for (o, x) in o.chunks_exact_mut(c).zip(input[index * rows..].chunks_exact(c)) {
            o.iter_mut().zip(x).zip(scale.iter().zip(shift)).for_each(|((o, &x), (&a, &b))| *o = x * a + b);
        }
    });
}
