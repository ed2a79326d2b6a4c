//! Fieldmark's networks as data.
//!
//! A [`Graph`] is a small, ONNX-like intermediate representation: nodes in topological order, each with one [`Op`], the
//! nodes it reads and the names of its weights. The batch size stays symbolic; every other dimension is known and
//! checked. Everything that touches a network reads the same graph.

mod builder;
mod error;
mod infer;
mod ir;
mod op;
mod tensor;

pub use builder::GraphBuilder;
pub use error::GraphError;
pub use ir::{Graph, Node, NodeId, Parameter};
pub use op::{Activation, BatchNorm, Conv2d, LayerNorm, Linear, Op, Padding, Pool2d, Role};
pub use tensor::{Tensor, Weights};
