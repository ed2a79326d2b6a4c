//! Operations of our own on Burn's CPU back end: feature maps channels last, kernels of the `kernels` crate, gradients by hand.
//!
//! Each is a node of Burn's autodiff graph, so that they mix freely with Burn's own operations.

mod norm;
mod shape;
mod tape;

use burn::tensor::Tensor;
use graph::{Activation, Conv2d, Pool2d};
use kernels::Clamp;

use super::ops::BatchStatistics;

/// The bounds of an activation that is a clamp.
pub(super) fn clamp_of(kind: Activation) -> Option<Clamp> {
    match kind {
        Activation::Relu => Some(Clamp::RELU),
        Activation::Relu6 => Some(Clamp::RELU6),
        Activation::Gelu | Activation::Silu | Activation::HardSwish | Activation::HardSigmoid | Activation::Sigmoid | Activation::Tanh => {
            None
        }
    }
}

/// `x` `[N, H, W, C]`, weight and bias flat.
pub(super) fn conv2d(x: Tensor<4>, c: &Conv2d, weight: Tensor<1>, bias: Option<Tensor<1>>) -> Tensor<4> {
    let conv = shape::convolution(c, x.dims());
    tape::conv(x, weight, bias, conv)
}

/// Normalises `[N, H, W, C]` (or `[N, 1, 1, C]`) by its own statistics, then clamps.
pub(super) fn batch_norm_by_batch(
    x: Tensor<4>,
    eps: f32,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    clamp: Option<Clamp>,
) -> (Tensor<4>, BatchStatistics) {
    let [n, h, w, c] = x.dims();
    let device = x.device().inner();
    let (mut mean, mut variance) = (vec![0.0; c], vec![0.0; c]);
    tape::with_values(&x, |x| kernels::train::moments(&mut mean, &mut variance, x));
    let statistics = |v: &[f32]| super::value::flat(v.to_vec(), &device);
    let batch = BatchStatistics { mean: statistics(&mean), variance: statistics(&variance), count: n * h * w };
    (tape::norm(x, gamma, beta, mean, inverse(&variance, eps), clamp, true), batch)
}

/// Normalises by given statistics, then clamps.
pub(super) fn batch_norm_by_running(x: Tensor<4>, eps: f32, parameters: [Tensor<1>; 4], clamp: Option<Clamp>) -> Tensor<4> {
    let [gamma, beta, mean, variance] = parameters;
    let mean = tape::with_values(&mean, <[f32]>::to_vec);
    let variance = tape::with_values(&variance, <[f32]>::to_vec);
    tape::norm(x, gamma, beta, mean, inverse(&variance, eps), clamp, false)
}

fn inverse(variance: &[f32], eps: f32) -> Vec<f32> {
    variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect()
}

/// `max(x, 0)` and the like.
pub(super) fn clamp<const D: usize>(x: Tensor<D>, clamp: Clamp) -> Tensor<D> {
    tape::clamp(x, clamp)
}

/// Maxima of windows.
pub(super) fn max_pool(x: Tensor<4>, p: &Pool2d) -> Tensor<4> {
    let shape = shape::pool(p, x.dims());
    tape::max_pool(x, shape)
}

/// `[N, H, W, C] -> [N, C]`.
pub(super) fn global_avg_pool(x: Tensor<4>) -> Tensor<2> {
    tape::global_avg_pool(x)
}
