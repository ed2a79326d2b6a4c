//! The slow, obvious interpreter: the oracle of every test.

use crate::interpreter::RunError;
use crate::ir::{Graph, NodeId};
use crate::tensor::{Tensor, Weights};

/// Runs `graph` on `input` `[N, C, H, W]` in inference mode and returns the activations of `taps`, each with the batch dimension in
/// front; no taps means the logits `[N, num_classes]`. Values are `f32`; sums are taken in `f64`.
///
/// # Errors
/// An input of the wrong shape, a tap out of range, a weight that is missing or wrongly shaped.
pub fn run(graph: &Graph, weights: &Weights, input: &Tensor, taps: &[NodeId]) -> Result<Vec<Tensor>, RunError> {
    let _ = (graph, weights, input, taps);
    unimplemented!()
}
