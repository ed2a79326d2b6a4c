//! Products of low precision: words of 32 bits hold neighbours along k (two bf16, four bytes), and a dot-product instruction takes a word
//! of A and a vector of words of B to a vector of sums.
//!
//! The walk over a convolution, the packing and the tile are written once, generic over the instruction set and the kind of number
//! ([`Dot`]); what becomes of the sums (bias, residual, rounding) is the kind's own `finish`.

mod conv;
mod depthwise;
mod pack;
mod simd;
#[cfg(test)]
mod tests;
mod tile;

pub(crate) use conv::{Geometry, Sizes, convolve};
pub(crate) use depthwise::{Taps, depthwise};
pub(crate) use pack::{Layout, PackedWords};
pub(crate) use simd::{Dot, DotKernel, Family};
