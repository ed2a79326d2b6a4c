//! bf16 depthwise convolution.

use crate::bf16::isa::Bf16;
use crate::bf16::product::Finish;
use crate::bf16::round;
use crate::conv::ConvShape;
use crate::dot::{self, Taps};
use crate::gemm::Clamp;

/// Taps of a depthwise convolution, rounded to bf16.
#[derive(Debug, Clone)]
pub struct DepthwiseWeights(Taps<Bf16>);

impl DepthwiseWeights {
    /// Packs `weight` `[C, 1, KH, KW]`.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn new(weight: &[f32], channels: usize, kernel: [usize; 2]) -> Self {
        Self::for_isa(Bf16::best(), weight, channels, kernel)
    }

    pub(crate) fn for_isa(isa: Bf16, weight: &[f32], channels: usize, kernel: [usize; 2]) -> Self {
        let taps = kernel[0] * kernel[1];
        assert_eq!(weight.len(), channels * taps, "weights");
        Self(Taps::new(isa, kernel, channels, |channel, tap| isa.bits(round(weight[channel * taps + tap]))))
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.0.channels
    }
}

/// A depthwise convolution of bf16 `input` `[N, H, W, C]` into `output` `[N, OH, OW, C]`, with `bias` `[C]`.
///
/// # Panics
/// Where sizes disagree.
pub fn depthwise(
    output: &mut [u16],
    input: &[u16],
    shape: &ConvShape,
    weights: &DepthwiseWeights,
    bias: Option<&[f32]>,
    clamp: Option<Clamp>,
) {
    assert_eq!(output.len(), shape.batch * shape.output[0] * shape.output[1] * shape.channels, "output");
    assert!(bias.is_none_or(|bias| bias.len() == shape.channels), "bias");
    let clamp = clamp.unwrap_or(Clamp { low: f32::NEG_INFINITY, high: f32::INFINITY });
    let finish = Finish {
        bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
        residual: std::ptr::null(),
        low: clamp.low,
        high: clamp.high,
        out: output.as_mut_ptr().cast(),
        wide: false,
        stride: shape.channels,
    };
    // SAFETY: output and bias were checked above, and are borrowed until the end.
    unsafe { dot::depthwise(input, shape, &weights.0, 0, &finish) };
}
