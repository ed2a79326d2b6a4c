//! What the way back through a batch norm needs of the way there.

use kernels::Clamp;
use kernels::train::BatchNorm;

/// Values a channel.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    pub(super) mean: Vec<f32>,
    /// `1 / sqrt(variance + eps)`.
    pub(super) inverse: Vec<f32>,
    pub(super) gamma: Vec<f32>,
    pub(super) beta: Vec<f32>,
    pub(super) clamp: Option<Clamp>,
    /// Whether mean and variance come from the batch, and so depend on the input.
    pub(super) by_batch: bool,
}

impl Norm {
    /// The kernel.
    pub(super) fn lent(&self) -> BatchNorm<'_> {
        let Self { mean, inverse, gamma, beta, clamp, by_batch } = self;
        BatchNorm { mean, inverse, gamma, beta, clamp: *clamp, by_batch: *by_batch }
    }
}
