//! int8 depthwise convolution.

use crate::conv::ConvShape;
use crate::dot::{self, Taps};
use crate::int8::isa::Int8;
use crate::int8::product::{Epilogue, Finish};

/// Taps of a depthwise convolution.
#[derive(Debug, Clone)]
pub struct DepthwiseWeights(Taps<Int8>);

impl DepthwiseWeights {
    /// Packs `weight` `[C, 1, KH, KW]`.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn new(weight: &[i8], channels: usize, kernel: [usize; 2]) -> Self {
        Self::for_isa(Int8::best(), weight, channels, kernel)
    }

    pub(crate) fn for_isa(isa: Int8, weight: &[i8], channels: usize, kernel: [usize; 2]) -> Self {
        let taps = kernel[0] * kernel[1];
        assert_eq!(weight.len(), channels * taps, "weights");
        Self(Taps::new(isa, kernel, channels, |channel, tap| u32::from(weight[channel * taps + tap] as u8)))
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.0.channels
    }
}

/// A depthwise convolution of `input` `[N, H, W, C]`, bytes whose zero point (and so padding) is `zero`, into `output` `[N, OH, OW, C]`;
/// no residual.
///
/// # Panics
/// Where sizes disagree.
pub fn depthwise(output: &mut [u8], input: &[u8], zero: u8, shape: &ConvShape, weights: &DepthwiseWeights, epilogue: &Epilogue) {
    assert_eq!(output.len(), shape.batch * shape.output[0] * shape.output[1] * shape.channels, "output");
    assert!(epilogue.bias.len() == shape.channels && epilogue.scale.len() == shape.channels, "one bias and scale a channel");
    assert!(epilogue.residual.is_none(), "no residual");
    let (low, high) = epilogue.output.bounds(epilogue.low, epilogue.high);
    let finish = Finish {
        bias: epilogue.bias.as_ptr(),
        scale: epilogue.scale.as_ptr(),
        residual: std::ptr::null(),
        residual_scale: 0.0,
        residual_zero: 0,
        low,
        high,
        zero: i32::from(epilogue.output.zero),
        out: output.as_mut_ptr(),
        wide: false,
        stride: shape.channels,
    };
    // SAFETY: output, bias and scale were checked above, and are borrowed until the end.
    unsafe { dot::depthwise(input, shape, &weights.0, zero, &finish) };
}
