//! What every interpreter of a graph can do, and how a run can fail.

use thiserror::Error;

use crate::ir::NodeId;
use crate::tensor::Tensor;

/// Runs a graph on batches: the reference, the CPU engine, Burn.
pub trait Interpreter {
    /// Runs on `input` `[N, C, H, W]` and returns the activations of `outputs`, each with the batch dimension in front, in that
    /// order; no `outputs` means the logits `[N, num_classes]`.
    ///
    /// # Errors
    /// An input of the wrong shape, a node id out of range, or whatever the interpreter cannot compute.
    fn run(&mut self, input: &Tensor, outputs: &[NodeId]) -> Result<Vec<Tensor>, RunError>;
}

/// An interpreter that also has the gradient of its logits by its input.
pub trait Differentiable: Interpreter {
    /// The gradient by `input` `[N, C, H, W]` of a loss whose gradient by the logits is `output_gradient` `[N, num_classes]`
    /// (inference mode: no dropout, batch norms by their running statistics). Shape of `input`.
    ///
    /// # Errors
    /// As [`Interpreter::run`], or an `output_gradient` of the wrong shape.
    fn input_gradient(&mut self, input: &Tensor, output_gradient: &Tensor) -> Result<Tensor, RunError>;
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The input batch does not fit.
    #[error("expected an input [N, {}], got {found:?}", list(expected))]
    Input {
        /// Shape without the batch.
        expected: Vec<usize>,
        /// Shape with the batch, as given.
        found: Vec<usize>,
    },
    /// A wanted node does not exist.
    #[error("expected a node below {nodes}, got node {node}")]
    NoSuchNode {
        /// Wanted.
        node: usize,
        /// Number of nodes.
        nodes: usize,
    },
    /// A node's weight is missing.
    #[error("in node {node:?}: weight {weight:?} is missing; load it or initialise it first")]
    MissingWeight {
        /// Node name.
        node: String,
        /// Weight name.
        weight: String,
    },
    /// A node's weight has the wrong shape or number of values.
    #[error("in node {node:?}: weight {weight:?}: expected shape {expected:?}, got {found:?} with {values} values")]
    WeightShape {
        /// Node name.
        node: String,
        /// Weight name.
        weight: String,
        /// What the node wants.
        expected: Vec<usize>,
        /// What the weights hold.
        found: Vec<usize>,
        /// Number of values there.
        values: usize,
    },
    /// A node cannot be computed.
    #[error("in node {node:?} ({op}): {problem}")]
    Node {
        /// Node name.
        node: String,
        /// Op kind.
        op: &'static str,
        /// What was expected and what was found.
        problem: String,
    },
    /// Anything else in the interpreter behind the trait.
    #[error("{0}")]
    Interpreter(String),
}

fn list(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
