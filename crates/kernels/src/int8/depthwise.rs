//! Depthwise convolution of integers.

use crate::conv::ConvShape;
use crate::dot::{self, Taps};
use crate::int8::Width;
use crate::int8::isa::Integers;
use crate::int8::product::{Epilogue, Input, Output};

/// Taps of a depthwise convolution.
#[derive(Debug, Clone)]
pub struct DepthwiseWeights(Taps<Integers>);

impl DepthwiseWeights {
    /// Packs `weight` `[C, 1, KH, KW]` for maps of a width; for bytes its values are those of `i8`.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn new(width: Width, weight: &[i16], channels: usize, kernel: [usize; 2]) -> Self {
        Self::for_family(Integers::best(width), weight, channels, kernel)
    }

    pub(crate) fn for_family(family: Integers, weight: &[i16], channels: usize, kernel: [usize; 2]) -> Self {
        let taps = kernel[0] * kernel[1];
        assert_eq!(weight.len(), channels * taps, "weights");
        Self(Taps::new(family, kernel, channels, |channel, tap| match family.width {
            Width::Bytes => u32::from(weight[channel * taps + tap] as i8 as u8),
            Width::Halves => u32::from(weight[channel * taps + tap] as u16),
        }))
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.0.channels
    }
}

/// A depthwise convolution of `input` `[N, H, W, C]` into `output` `[N, OH, OW, C]`.
///
/// # Panics
/// Where sizes disagree, weights are packed for maps of another width, or residual and output are of different kinds.
pub fn depthwise(output: Output, input: Input, shape: &ConvShape, weights: &DepthwiseWeights, epilogue: &Epilogue) {
    let length = shape.batch * shape.output[0] * shape.output[1] * shape.channels;
    let finish = epilogue.finish(output, length, shape.channels);
    assert_eq!(weights.0.family.width, input.width(), "weights for maps of another width");
    // SAFETY: `finish` checked output, bias, scale and residual, which are borrowed until the end.
    unsafe {
        match input {
            Input::U8(bytes, zero) => dot::depthwise(bytes, shape, &weights.0, zero, &finish),
            Input::I16(halves) => dot::depthwise(halves, shape, &weights.0, 0, &finish),
        }
    }
}
