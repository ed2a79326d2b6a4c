//! bf16: the upper half of an `f32`. Maps and weights are bf16, sums are f32, results are rounded to nearest even.
//!
//! Values are `u16`, the bits. Products use `vdpbf16ps` where the processor runs it at full
//! rate, elsewhere operands are widened to f32 ([`method`]).

mod convert;
mod depthwise;
mod isa;
mod maps;
mod product;

pub use convert::{from_f32, load_nchw, round, to_f32, widen};
pub use depthwise::{DepthwiseWeights, depthwise};
#[cfg(test)]
pub(crate) use isa::Bf16;
pub use isa::method;
pub use maps::{activate, add, average_pool, gate_channels, global_average, max_pool, multiply};
pub use product::{ConvWeights, Epilogue, Output, Residual, conv2d};
