//! Training plans: a graph compiled for the way there and back on the CPU.
//!
//! A [`TrainPlan`] is made once for a graph, the outputs that are wanted and a [`Scope`] (what is trained, how norms normalise). It knows
//! ahead what an interpreter with a tape finds out in each step: which additions and activations a norm or a convolution does in passing,
//! which values the way back reads and until when, where no gradient is needed at all, and which memory is free when. Values are
//! `[N, H, W, C]`, `[N, T, D]` and `[N, D]`; the batch size may change from pass to pass. Weights stay where they are, by name, and
//! gradients are written to slices by the same names, so that optimisers and checkpoints know nothing of plans.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use fieldmark_engine::train::{Scope, TrainPlan};
//! use graph::{GraphBuilder, Op};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut b = GraphBuilder::new("tiny", [1, 2, 2]);
//! let x = b.input();
//! let x = b.add("flat", Op::Flatten, &[x]);
//! let x = b.linear("fc", x, 3);
//! let graph = b.finish(x)?;
//! let weights = graph.init_weights(0);
//! let mut plan = TrainPlan::new(&graph, &[graph.output], &Scope::training(&graph))?;
//! plan.forward(&weights, &[1.0, 2.0, 3.0, 4.0], &|_, _, _| ())?;
//! assert_eq!(plan.output(0).len(), 3);
//! // The gradient of the first logit: the input, in the first row of the weight.
//! let mut gradients = BTreeMap::new();
//! plan.backward(&weights, &[1.0, 0.0, 0.0], &mut gradients, false)?;
//! assert_eq!(gradients["fc.weight"][..4], [1.0, 2.0, 3.0, 4.0]);
//! # Ok(())
//! # }
//! ```

mod compile;
mod layer;
mod layers;
mod lower;
mod memory;
mod plan;
mod script;

pub use plan::{Gradients, Noise, NormStatistics, TrainPlan};

use graph::Graph;

/// How the nodes of a stage compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageMode {
    /// As in inference: running statistics, no dropout; its weights get no gradients.
    Frozen,
    /// Trained: dropout and stochastic depth, norms by the statistics of the batch.
    Trained,
    /// Trained, but norms go by the running statistics.
    TrainedByRunning,
}

impl StageMode {
    fn is_trained(self) -> bool {
        self != Self::Frozen
    }
}

/// What of a graph is trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// One mode a stage.
    pub stages: Vec<StageMode>,
    /// Whether the gradient by the input is wanted.
    pub by_input: bool,
    /// Parts whose activations are computed again on the way back instead of being kept: about the square root of the number of layers
    /// takes least memory. 0 and 1 keep everything.
    pub segments: usize,
    /// Whether values and the gradients by them lie in memory as bf16. Arithmetic is f32; the outputs, the gradients by them, by the input
    /// and by weights, the statistics of norms and the weights themselves stay f32.
    pub bf16: bool,
}

impl Scope {
    /// All stages are trained.
    pub fn training(graph: &Graph) -> Self {
        Self { stages: vec![StageMode::Trained; graph.stages.len()], by_input: false, segments: 0, bf16: false }
    }

    /// Nothing is trained; with `by_input`, the gradient goes back to the input.
    pub fn inference(graph: &Graph, by_input: bool) -> Self {
        Self { stages: vec![StageMode::Frozen; graph.stages.len()], by_input, segments: 0, bf16: false }
    }

    fn stage(&self, stage: usize) -> StageMode {
        self.stages.get(stage).copied().unwrap_or(StageMode::Frozen)
    }
}
