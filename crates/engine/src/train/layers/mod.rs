//! The layers: one type a way of computing.

mod affine;
mod elementwise;
mod join;
mod norm;
mod pool;
mod tokens;
mod transposed;

pub(super) use affine::{Conv, Linear};
pub(super) use elementwise::{Activate, AddTwo, Bounds, Gate, Multiply, Noise, Softmax};
pub(super) use join::{Concat, Flatten, Load, Rows};
pub(super) use norm::{LayerNorm, Norm};
pub(super) use pool::{AveragePool, GlobalAverage, MaxPool};
pub(super) use tokens::{Attention, Position, Prepend};
pub(super) use transposed::Transposed;

use kernels::{Buffer, Values, ValuesMut};

use super::layer::Sink;

/// Runs `write` on the sink of an input, if a gradient by it is wanted.
fn into(sinks: &mut [Option<Sink<'_>>], input: usize, write: impl FnOnce(ValuesMut<'_>)) {
    if let Some(Some(sink)) = sinks.get_mut(input) {
        write(sink.values.reborrow());
    }
}

/// Where the gradient by an input goes: to its sink, or aside where nobody wants it, of the kind and number of `like`.
fn sink_or<'a>(sinks: &'a mut [Option<Sink<'_>>], input: usize, aside: &'a mut Buffer, like: Values<'_>) -> ValuesMut<'a> {
    match (sinks.get_mut(input), like) {
        (Some(Some(sink)), _) => sink.values.reborrow(),
        (_, Values::F32(values)) => ValuesMut::F32(aside.resize_for(values.len())),
        (_, Values::Bf16(values)) => ValuesMut::Bf16(aside.resize_for(values.len())),
    }
}

/// Where the gradients by the first two parameters go, of `len` values each: as wanted, or aside.
fn two<'a>(gradients: &'a mut [&mut [f32]], unwanted: &'a mut [Vec<f32>; 2], len: usize) -> (&'a mut [f32], &'a mut [f32]) {
    match gradients {
        [first, second, ..] if !first.is_empty() => (first, second),
        _ => {
            unwanted.iter_mut().for_each(|sums| sums.resize(len, 0.0));
            let [first, second] = unwanted;
            (first, second)
        }
    }
}
