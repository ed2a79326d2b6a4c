//! bf16 depthwise convolution.

use crate::bf16::{round, widen};
use crate::conv::ConvShape;
use crate::dispatch::Isa;
use crate::dot::{self, Sink, Taps};
use crate::gemm::Clamp;

/// Taps of a depthwise convolution, rounded to bf16.
#[derive(Debug, Clone)]
pub struct DepthwiseWeights(Taps);

impl DepthwiseWeights {
    /// Packs `weight` `[C, 1, KH, KW]`.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn new(weight: &[f32], channels: usize, kernel: [usize; 2]) -> Self {
        let taps = kernel[0] * kernel[1];
        assert_eq!(weight.len(), channels * taps, "weights");
        Self(Taps::new(kernel, channels, |channel, tap| widen(round(weight[channel * taps + tap]))))
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.0.channels
    }
}

struct Rounded {
    out: *mut u16,
    bias: *const f32,
    clamp: Clamp,
}

// SAFETY: the pointers are those of borrows that outlive the call; each task writes outputs of its own.
unsafe impl Sync for Rounded {}

impl Sink for Rounded {
    #[inline(always)]
    unsafe fn write(&self, sums: &[f32], at: usize, channel: usize, n: usize) {
        for (i, &sum) in sums.iter().enumerate().take(n) {
            // SAFETY: the caller's promise.
            unsafe {
                let v = if self.bias.is_null() { sum } else { sum + *self.bias.add(channel + i) };
                let v = if self.clamp.low > v { self.clamp.low } else { v };
                let v = if self.clamp.high < v { self.clamp.high } else { v };
                *self.out.add(at + i) = round(v);
            }
        }
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
    depthwise_for(Isa::best(), output, input, shape, weights, bias, clamp);
}

pub(crate) fn depthwise_for(
    isa: Isa,
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
    let sink = Rounded { out: output.as_mut_ptr(), bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr), clamp };
    // SAFETY: output and bias were checked above, and are borrowed until the end.
    unsafe { dot::depthwise(isa, input, shape, &weights.0, 0, &sink) };
}
