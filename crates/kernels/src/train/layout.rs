//! Between `[N, C, H, W]` and `[N, H, W, C]`, from and to either kind of value.

use crate::layout::transpose;
use crate::value::{Values, ValuesMut};

/// `[N, C, pixels] -> [N, pixels, C]`; with channels and pixels changed over, the way back.
///
/// # Panics
/// Where sizes disagree.
pub fn channels_last<'a, 'b>(output: impl Into<ValuesMut<'a>>, input: impl Into<Values<'b>>, channels: usize, pixels: usize) {
    match (output.into(), input.into()) {
        (ValuesMut::F32(output), Values::F32(input)) => transpose(output, input, channels, pixels),
        (ValuesMut::F32(output), Values::Bf16(input)) => transpose(output, input, channels, pixels),
        (ValuesMut::Bf16(output), Values::F32(input)) => transpose(output, input, channels, pixels),
        (ValuesMut::Bf16(output), Values::Bf16(input)) => transpose(output, input, channels, pixels),
    }
}
