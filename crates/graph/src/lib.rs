//! Fieldmark's networks as data.
//!
//! A [`Graph`] is a small, ONNX-like intermediate representation: nodes in topological order, each with one [`Op`], the
//! nodes it reads and the names of its weights. The batch size stays symbolic; every other dimension is known and
//! checked. Everything that touches a network reads the same graph.

mod builder;
mod check_weights;
mod error;
mod infer;
mod init;
mod interpreter;
mod ir;
pub mod onnx;
mod op;
mod passes;
pub mod reference;
mod tensor;
pub mod weights;

pub use builder::GraphBuilder;
pub use error::GraphError;
pub use interpreter::{Differentiable, Interpreter, RunError};
pub use ir::{Graph, Node, NodeId, Parameter};
pub use op::{Activation, BatchNorm, Conv2d, LayerNorm, Linear, Op, Padding, Pool2d, Role};
pub use tensor::{Tensor, Weights};
pub use weights::WeightsError;
