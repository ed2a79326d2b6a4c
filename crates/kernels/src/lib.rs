//! CPU microkernels of Fieldmark: slices in, slices out.
//!
//! Values are `f32`; [`bf16`] and [`int8`] hold the products of narrower ones, [`train`] the gradients. Feature maps are NHWC: `[N, H, W, C]`,
//! channels fastest. The instruction set is chosen at run time ([`Isa::best`]); the environment variable `FIELDMARK_ISA` (`avx512`, `avx2` or
//! `portable`) forces a lower one. Work is spread over the installed [`Threads`], else over rayon's current pool, and no sum is ever split
//! between threads: results are the same, bit for bit, for any number of threads.
//!
//! Functions panic where a slice's length and the stated shape disagree: that is a bug of the caller, never of a user's data.

mod attention;
pub mod bf16;
mod bottleneck;
mod buffer;
mod conv;
mod depthwise;
mod direct;
mod dispatch;
mod dot;
mod elementwise;
mod filter;
mod gemm;
pub mod int8;
mod largest;
mod layout;
mod memory;
mod normalise;
mod pack;
mod peak;
mod pool;
mod scratch;
#[cfg(test)]
mod tests;
mod threads;
mod tile;
pub mod train;
mod value;
mod vectorize;
mod winograd;

pub use attention::attention;
pub use bottleneck::{Bottleneck, Pointwise};
pub use buffer::{Buffer, Number};
pub use conv::{ConvShape, Window, conv2d, conv2d_planar};
pub use depthwise::depthwise;
pub use dispatch::Isa;
pub use elementwise::{Function, activate, add, gate_channels, multiply, scale_shift};
pub use gemm::{Clamp, Epilogue, gemm, gemm_packed};
pub use layout::{nchw_to_nhwc, nhwc_to_nchw};
pub use memory::keep_freed_memory;
pub use normalise::{layer_norm, softmax};
pub use pack::{Matrix, PackedB};
pub use peak::multiply_adds;
pub use pool::{PoolShape, average_pool, global_average, max_pool, max_pool_with_argmax};
pub use threads::Threads;
pub use value::{Values, ValuesMut, copy};
pub use vectorize::{Loops, vectorized};
pub use winograd::{WinogradWeights, winograd, winograd_side};
