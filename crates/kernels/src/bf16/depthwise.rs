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
    unsafe fn write<const N: usize>(&self, sums: &[f32; N], at: usize, channel: usize) {
        // SAFETY: the caller's promise; any bits of the right number make an array.
        let bias = if self.bias.is_null() { [0.0; N] } else { unsafe { self.bias.add(channel).cast::<[f32; N]>().read_unaligned() } };
        let mut halves = [0u16; N];
        for i in 0..N {
            let v = sums[i] + bias[i];
            let v = if self.clamp.low > v { self.clamp.low } else { v };
            halves[i] = round(if self.clamp.high < v { self.clamp.high } else { v });
        }
        // SAFETY: the caller's promise.
        unsafe { self.out.add(at).cast::<[u16; N]>().write_unaligned(halves) };
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
