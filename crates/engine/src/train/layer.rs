//! What every step of a training plan can do.

use std::fmt::Debug;

use kernels::{Buffer, Values, ValuesMut};

use super::plan::Noise;

/// What a layer reads on the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Keeps {
    pub inputs: bool,
    pub output: bool,
}

impl Keeps {
    pub const NOTHING: Self = Self { inputs: false, output: false };
    pub const INPUTS: Self = Self { inputs: true, output: false };
    pub const OUTPUT: Self = Self { inputs: false, output: true };
}

/// How values lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    Bf16,
}

impl Kind {
    /// Words of memory that so many values take.
    pub fn words(self, values: usize) -> usize {
        match self {
            Self::F32 => values,
            Self::Bf16 => values.div_ceil(2),
        }
    }

    /// The first `len` values in a piece of memory.
    pub fn view(self, memory: &Buffer, len: usize) -> Values<'_> {
        match self {
            Self::F32 => Values::F32(memory.numbers(len)),
            Self::Bf16 => Values::Bf16(memory.numbers(len)),
        }
    }

    /// As [`Self::view`], to write.
    pub fn view_mut(self, memory: &mut Buffer, len: usize) -> ValuesMut<'_> {
        match self {
            Self::F32 => ValuesMut::F32(memory.numbers_mut(len)),
            Self::Bf16 => ValuesMut::Bf16(memory.numbers_mut(len)),
        }
    }
}

/// One step: some nodes that are computed together, with whatever small the way back needs of the way there.
pub(super) trait Layer: Debug + Send {
    /// What it does, in a word.
    fn name(&self) -> &'static str;

    /// Which values the way back reads.
    fn keeps(&self) -> Keeps;

    /// Words an image of what else it keeps: masks, positions of maxima.
    fn state(&self) -> usize {
        0
    }

    /// Whether the gradient by this input is what [`Layer::backward`] leaves in the memory of the gradient by the output.
    fn passes(&self, _input: usize) -> bool {
        false
    }

    /// Whether it can add to the gradient by its inputs rather than write it.
    fn adds(&self) -> bool {
        false
    }

    /// Whether its loops know bf16. Others get values widened to f32, and what they write is rounded.
    fn takes_bf16(&self) -> bool {
        false
    }

    fn forward(&mut self, there: There<'_>);

    fn backward(&mut self, back: Back<'_>);

    /// Mean and biased variance of the batch, and over how many values each was taken.
    fn statistics(&self) -> Option<(&[f32], &[f32], usize)> {
        None
    }
}

/// What a layer gets on the way there. Values are all of one kind.
pub(super) struct There<'a> {
    /// Images.
    pub batch: usize,
    pub inputs: &'a [Values<'a>],
    pub out: ValuesMut<'a>,
    /// As many words as asked for.
    pub state: &'a mut Buffer,
    pub parameters: &'a [&'a [f32]],
    /// The batch of images as it came, `[N, C, H, W]`.
    pub image: &'a [f32],
    pub noise: Noise<'a>,
    /// The second time in this pass: statistics are known.
    pub again: bool,
}

/// Where the gradient by an input goes.
pub(super) struct Sink<'a> {
    pub values: ValuesMut<'a>,
    /// Added to what is there.
    pub add: bool,
}

/// What a layer gets on the way back. Values and gradients by values are all of one kind.
pub(super) struct Back<'a> {
    pub batch: usize,
    /// Empty where they were not kept.
    pub inputs: &'a [Values<'a>],
    /// Empty where it was not kept.
    pub output: Values<'a>,
    /// The gradient by the output; the layer may use its memory.
    pub dy: ValuesMut<'a>,
    pub state: &'a Buffer,
    pub parameters: &'a [&'a [f32]],
    /// None where no gradient is needed, and where it is what is left in `dy`.
    pub sinks: &'a mut [Option<Sink<'a>>],
    /// Gradients by the parameters; empty where none is wanted.
    pub gradients: &'a mut [&'a mut [f32]],
}
