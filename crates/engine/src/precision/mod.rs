//! Numbers narrower than f32: which layers use them, and plans whose values have a kind.
//!
//! A value between layers is f32, bf16, or bytes with a scale and a zero point ([`Kind`]). Convolutions, linear layers and pooling have
//! kernels for all three; other operations run in f32, and values are converted at their border. Input and outputs stay f32, and so do
//! vectors and tokens: what a linear layer writes.

mod lower;
mod policy;
mod step;
mod typed;

pub(crate) use lower::NarrowWeights;
pub(crate) use policy::{Kind, Layer, Policy};
pub(crate) use step::Narrow;
pub(crate) use typed::Typed;

use serde::{Deserialize, Serialize};

/// Numbers that an engine computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// Maps and weights in bfloat16, sums in f32.
    Bf16,
    /// Maps in 8-bit integers with a scale and a zero point, weights in 8-bit integers, after a calibration ([`crate::quantize`]).
    Int8,
    /// What the calibration measured to be fastest within its bounds, and f32 where nothing was measured.
    Auto,
}

impl Precision {
    /// `f32`, `bf16`, `int8` or `auto`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Auto => "auto",
        }
    }
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::F32, Self::Bf16, Self::Int8, Self::Auto]
            .into_iter()
            .find(|p| p.name() == name)
            .ok_or_else(|| format!("unknown precision {name:?}; expected f32, bf16, int8 or auto"))
    }
}
