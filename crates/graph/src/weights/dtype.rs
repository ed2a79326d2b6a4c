//! Number types of weights files, all of which become `f32`.

use half::{bf16, f16};

/// A type that has an `f32` meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    Bool,
}

impl Dtype {
    /// Bytes a value.
    pub(super) fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// Whole values of `bytes`; a rest is left out.
    pub(super) fn decode(self, bytes: &[u8], big_endian: bool) -> Vec<f32> {
        macro_rules! each {
            ($t:ty, $size:literal, $convert:expr) => {
                bytes
                    .as_chunks::<$size>()
                    .0
                    .iter()
                    .map(|&b| $convert(if big_endian { <$t>::from_be_bytes(b) } else { <$t>::from_le_bytes(b) }))
                    .collect()
            };
        }
        match self {
            Self::F16 => each!(f16, 2, f16::to_f32),
            Self::Bf16 => each!(bf16, 2, bf16::to_f32),
            Self::F32 => each!(f32, 4, |v| v),
            Self::F64 => each!(f64, 8, |v| v as f32),
            Self::I8 => each!(i8, 1, f32::from),
            Self::U8 => each!(u8, 1, f32::from),
            Self::I16 => each!(i16, 2, f32::from),
            Self::U16 => each!(u16, 2, f32::from),
            Self::I32 => each!(i32, 4, |v| v as f32),
            Self::U32 => each!(u32, 4, |v| v as f32),
            Self::I64 => each!(i64, 8, |v| v as f32),
            Self::U64 => each!(u64, 8, |v| v as f32),
            Self::Bool => bytes.iter().map(|&b| f32::from(u8::from(b != 0))).collect(),
        }
    }

    /// The type of `torch.FloatStorage` and its like.
    pub(super) fn of_torch_storage(name: &str) -> Option<Self> {
        Some(match name {
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "FloatStorage" => Self::F32,
            "DoubleStorage" => Self::F64,
            "CharStorage" => Self::I8,
            "ByteStorage" => Self::U8,
            "ShortStorage" => Self::I16,
            "IntStorage" => Self::I32,
            "LongStorage" => Self::I64,
            "BoolStorage" => Self::Bool,
            _ => return None,
        })
    }

    pub(super) fn of_safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        Some(match dtype {
            safetensors::Dtype::F16 => Self::F16,
            safetensors::Dtype::BF16 => Self::Bf16,
            safetensors::Dtype::F32 => Self::F32,
            safetensors::Dtype::F64 => Self::F64,
            safetensors::Dtype::I8 => Self::I8,
            safetensors::Dtype::U8 => Self::U8,
            safetensors::Dtype::I16 => Self::I16,
            safetensors::Dtype::U16 => Self::U16,
            safetensors::Dtype::I32 => Self::I32,
            safetensors::Dtype::U32 => Self::U32,
            safetensors::Dtype::I64 => Self::I64,
            safetensors::Dtype::U64 => Self::U64,
            safetensors::Dtype::BOOL => Self::Bool,
            _ => return None,
        })
    }
}
