//! int8 depthwise convolution.

use crate::conv::ConvShape;
use crate::dispatch::Isa;
use crate::dot::{self, Sink, Taps};
use crate::int8::product::Epilogue;
use crate::int8::requantize;

/// Taps of a depthwise convolution.
#[derive(Debug, Clone)]
pub struct DepthwiseWeights(Taps);

impl DepthwiseWeights {
    /// Packs `weight` `[C, 1, KH, KW]`.
    ///
    /// # Panics
    /// Where sizes disagree, and for windows of more than 512 taps (their sums would not be exact).
    pub fn new(weight: &[i8], channels: usize, kernel: [usize; 2]) -> Self {
        let taps = kernel[0] * kernel[1];
        assert!(weight.len() == channels * taps && taps <= 512, "weights");
        Self(Taps::new(kernel, channels, |channel, tap| f32::from(weight[channel * taps + tap])))
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.0.channels
    }
}

struct Requantized {
    out: *mut u8,
    bias: *const i32,
    scale: *const f32,
    low: f32,
    high: f32,
    zero: i32,
}

// SAFETY: the pointers are those of borrows that outlive the call; each task writes outputs of its own.
unsafe impl Sync for Requantized {}

impl Sink for Requantized {
    #[inline(always)]
    unsafe fn write<const N: usize>(&self, sums: &[f32; N], at: usize, channel: usize) {
        // SAFETY: the caller's promise; any bits of the right number make an array.
        let (bias, scale) = unsafe {
            (self.bias.add(channel).cast::<[i32; N]>().read_unaligned(), self.scale.add(channel).cast::<[f32; N]>().read_unaligned())
        };
        let mut bytes = [0u8; N];
        for i in 0..N {
            // SAFETY: a sum of at most 512 products of bytes is an integer below 2^24.
            let sum = unsafe { sums[i].to_int_unchecked::<i32>() } + bias[i];
            bytes[i] = requantize(sum as f32 * scale[i], self.low, self.high, self.zero);
        }
        // SAFETY: the caller's promise.
        unsafe { self.out.add(at).cast::<[u8; N]>().write_unaligned(bytes) };
    }
}

/// A depthwise convolution of `input` `[N, H, W, C]`, bytes whose zero point (and so padding) is `zero`, into `output` `[N, OH, OW, C]`;
/// no residual.
///
/// # Panics
/// Where sizes disagree.
pub fn depthwise(output: &mut [u8], input: &[u8], zero: u8, shape: &ConvShape, weights: &DepthwiseWeights, epilogue: &Epilogue) {
    depthwise_for(Isa::best(), output, input, zero, shape, weights, epilogue);
}

pub(crate) fn depthwise_for(
    isa: Isa,
    output: &mut [u8],
    input: &[u8],
    zero: u8,
    shape: &ConvShape,
    weights: &DepthwiseWeights,
    epilogue: &Epilogue,
) {
    assert_eq!(output.len(), shape.batch * shape.output[0] * shape.output[1] * shape.channels, "output");
    assert!(epilogue.bias.len() == shape.channels && epilogue.scale.len() == shape.channels, "one bias and scale a channel");
    assert!(epilogue.residual.is_none(), "no residual");
    let (low, high) = epilogue.output.bounds(epilogue.low, epilogue.high);
    let (bias, scale) = (epilogue.bias.as_ptr(), epilogue.scale.as_ptr());
    let sink = Requantized { out: output.as_mut_ptr(), bias, scale, low, high, zero: i32::from(epilogue.output.zero) };
    // SAFETY: output, bias and scale were checked above, and are borrowed until the end.
    unsafe { dot::depthwise(isa, input, shape, &weights.0, zero, &sink) };
}
