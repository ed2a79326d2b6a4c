//! The engine: compiled plans run on a pool of threads.

use graph::{Graph, Interpreter, NodeId, RunError, Tensor, Weights};

/// How an [`Engine`] runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineOptions {
    /// Threads; 0 means one for each core. Results are the same, bit for bit, for any number.
    pub threads: usize,
}

/// Runs a graph on the CPU: batch norms folded, activations fused, weights packed once, buffers kept between calls.
#[derive(Debug)]
pub struct Engine {
    graph: Graph,
}

impl Engine {
    /// Prepares a checked graph and its weights.
    ///
    /// # Errors
    /// A weight that is missing or has the wrong shape.
    pub fn new(graph: &Graph, weights: &Weights, options: EngineOptions) -> Result<Self, RunError> {
        let _ = (weights, options);
        Ok(Self { graph: graph.clone() })
    }

    /// The graph it runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Runs on `input` `[N, C, H, W]`; returns the activations of `outputs` (none: the logits `[N, num_classes]`), feature maps as
    /// `[N, C, H, W]`.
    ///
    /// # Errors
    /// An input of the wrong shape, or a node that does not exist.
    pub fn run(&mut self, input: &Tensor, outputs: &[NodeId]) -> Result<Vec<Tensor>, RunError> {
        let _ = (input, outputs);
        unimplemented!()
    }

    /// Runs on `input`, the values of whole images `[C, H, W]` one after the other, and writes the activation of `output` into `into`,
    /// resized to `N × size`; feature maps as `[N, C, H, W]`.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run_into(&mut self, input: &[f32], output: NodeId, into: &mut Vec<f32>) -> Result<(), RunError> {
        let _ = (input, output, into);
        unimplemented!()
    }
}

impl Interpreter for Engine {
    fn run(&mut self, input: &Tensor, outputs: &[NodeId]) -> Result<Vec<Tensor>, RunError> {
        Engine::run(self, input, outputs)
    }
}
