//! int8: maps of `u8` with a scale and a zero point, weights of `i8` with a scale for each output channel, sums of `i32`.
//!
//! A value is `scale * (q - zero)`. Results are the same bits on every instruction set: sums are exact, and what becomes of them is a fixed
//! sequence of roundings in f32 (`requantize`).

mod depthwise;
mod isa;
mod maps;
mod product;

pub use depthwise::{DepthwiseWeights, depthwise};
#[cfg(test)]
pub(crate) use isa::Int8;
pub use maps::{Quant, add, average_pool, dequantize, global_average, load_nchw, max_pool, quantize};
pub use product::{ConvWeights, Epilogue, Output, Residual, conv2d, quantize_channels};

/// Adding it to a value below 2^22 rounds that to an integer, ties to even.
const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23

/// `zero + round(clamp(v, low - zero, high - zero))`, ties to even: what every kernel does to a result in units of the output's scale.
#[inline(always)]
pub(crate) fn requantize(v: f32, low: f32, high: f32, zero: i32) -> u8 {
    let v = if v > low { v } else { low };
    let v = if v < high { v } else { high };
    ((v + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32 + zero) as u8
}
