//! int8: maps of `u8` with a scale and a zero point or, where those lose too much, of `i16` with a scale; weights of `i8` with a scale for
//! each output channel (for `i16` maps, of as many bits as sums have room for); sums of `i32`.
//!
//! A value is `scale * (q - zero)`. Results are the same bits on every instruction set: sums are exact, and what becomes of them is a fixed
//! sequence of roundings in f32 (`requantize`).

mod depthwise;
mod isa;
mod maps;
mod product;

pub use depthwise::{DepthwiseWeights, depthwise};
#[cfg(test)]
pub(crate) use isa::{Int8, Integers};
pub use maps::{
    Quant, add, average_pool, dequantize, from_halves, global_average, load_nchw, max_pool, quantize, to_halves, to_halves_by_channel,
};
pub use product::{ConvWeights, Epilogue, Input, Output, Residual, conv2d, quantize_channels};

/// Adding it to a value below 2^22 rounds that to an integer, ties to even.
const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23

/// `zero + round(clamp(v, low - zero, high - zero))`, ties to even: what every kernel does to a result in units of the output's scale.
#[inline(always)]
pub(crate) fn requantize(v: f32, low: f32, high: f32, zero: i32) -> u8 {
    (nearest(v, low, high) + zero) as u8
}

/// `round(clamp(v, low, high))`, ties to even, for bounds below 2^22.
#[inline(always)]
pub(crate) fn nearest(v: f32, low: f32, high: f32) -> i32 {
    let v = if v > low { v } else { low };
    let v = if v < high { v } else { high };
    (v + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
}

/// How wide the integers of maps are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Width {
    /// `u8` with a zero point.
    #[default]
    Bytes,
    /// `i16` within [`LIMIT`], no zero point.
    Halves,
}

/// Largest magnitude of 16-bit values of maps: sums of products with bytes fit 32 bits as long as the magnitudes of an output's weights
/// sum to less than [`MOST_WEIGHT`].
pub const LIMIT: i16 = 4095;

/// Largest sum of the magnitudes of the weights of an output, for maps of 16 bits.
pub const MOST_WEIGHT: i64 = 260_000;
