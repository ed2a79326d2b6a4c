//! Tensors that are known when the file is read: weights, shapes, and whatever follows from them.

use std::rc::Rc;

use crate::onnx::error::OnnxError;
use crate::onnx::proto::{TensorProto, data_type};

/// Most values of one constant.
pub(super) const MAX_VALUES: usize = 1 << 28;
/// Most values of one that is made by computing, where the file does not hold as many.
pub(super) const MAX_COMPUTED: usize = 1 << 22;

/// Most dimensions of a value.
pub(super) const MAX_RANK: usize = 16;

/// Most bytes of a tensor of integers: they are shapes and indices, and take more room here than there.
const MAX_INTEGER_BYTES: usize = 1 << 24;

/// An integer that may be a multiple of the batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dim {
    Known(i64),
    /// So many times the batch size.
    Batch(i64),
}

impl Dim {
    pub fn known(self) -> Option<i64> {
        match self {
            Self::Known(value) => Some(value),
            Self::Batch(_) => None,
        }
    }

    pub fn add(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a.checked_add(b).map(Self::Known),
            (Self::Batch(a), Self::Batch(b)) => a.checked_add(b).map(Self::Batch),
            (Self::Batch(a), Self::Known(0)) | (Self::Known(0), Self::Batch(a)) => Some(Self::Batch(a)),
            _ => None,
        }
    }

    pub fn mul(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a.checked_mul(b).map(Self::Known),
            (Self::Batch(a), Self::Known(b)) | (Self::Known(b), Self::Batch(a)) => a.checked_mul(b).map(Self::Batch),
            (Self::Batch(_), Self::Batch(_)) => None,
        }
    }

    /// Towards zero, as ONNX divides integers.
    pub fn div(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a.checked_div(b).map(Self::Known),
            (Self::Batch(a), Self::Known(b)) if b != 0 && a.checked_rem(b) == Some(0) => Some(Self::Batch(a / b)),
            (Self::Batch(a), Self::Batch(b)) if b != 0 && a.checked_rem(b) == Some(0) => Some(Self::Known(a / b)),
            _ => None,
        }
    }
}

/// Values in row-major order; cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    Float(Rc<Vec<f32>>),
    /// Integers and booleans.
    Int(Rc<Vec<Dim>>),
}

/// A known tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    pub dims: Vec<usize>,
    pub data: Data,
}

impl Constant {
    pub fn floats(dims: Vec<usize>, data: Vec<f32>) -> Self {
        Self { dims, data: Data::Float(Rc::new(data)) }
    }

    pub fn ints(dims: Vec<usize>, data: Vec<Dim>) -> Self {
        Self { dims, data: Data::Int(Rc::new(data)) }
    }

    pub fn vector(values: impl IntoIterator<Item = i64>) -> Self {
        let data: Vec<Dim> = values.into_iter().map(Dim::Known).collect();
        Self::ints(vec![data.len()], data)
    }

    pub fn len(&self) -> usize {
        match &self.data {
            Data::Float(data) => data.len(),
            Data::Int(data) => data.len(),
        }
    }

    /// The numbers of a float tensor.
    pub fn as_floats(&self) -> Option<&Rc<Vec<f32>>> {
        match &self.data {
            Data::Float(data) => Some(data),
            Data::Int(_) => None,
        }
    }

    /// The values of an integer tensor.
    pub fn as_dims(&self) -> Option<&[Dim]> {
        match &self.data {
            Data::Int(data) => Some(data),
            Data::Float(_) => None,
        }
    }

    /// Integers that do not depend on the batch size.
    pub fn as_ints(&self) -> Option<Vec<i64>> {
        self.as_dims()?.iter().map(|d| d.known()).collect()
    }

    /// As floats, whatever they were; not where the batch size is in them.
    pub fn to_floats(&self) -> Option<Vec<f32>> {
        match &self.data {
            Data::Float(data) => Some(data.to_vec()),
            Data::Int(data) => data.iter().map(|d| d.known().map(|v| v as f32)).collect(),
        }
    }

    /// The value of a tensor with one value.
    pub fn scalar(&self) -> Option<f32> {
        match (&self.data, self.len()) {
            (Data::Float(data), 1) => Some(data[0]),
            (Data::Int(data), 1) => data[0].known().map(|v| v as f32),
            _ => None,
        }
    }

    /// The values at `indices`, which must be within.
    pub fn pick(&self, dims: Vec<usize>, indices: impl Iterator<Item = usize>) -> Self {
        match &self.data {
            Data::Float(data) => Self::floats(dims, indices.map(|i| data[i]).collect()),
            Data::Int(data) => Self::ints(dims, indices.map(|i| data[i]).collect()),
        }
    }
}

/// The number of values of a shape, bounded; also without the dimensions that are 0, so that no part of it overflows.
pub(super) fn volume(dims: &[usize]) -> Option<usize> {
    if dims.len() > MAX_RANK {
        return None;
    }
    let bound = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1))).filter(|&n| n <= MAX_VALUES)?;
    Some(if dims.contains(&0) { 0 } else { bound })
}

/// Reads a tensor of the file.
pub(super) fn read(tensor: TensorProto) -> Result<Constant, OnnxError> {
    if tensor.data_location == Some(1) || !tensor.external_data.is_empty() {
        return Err(OnnxError::ExternalData { tensor: tensor.name });
    }
    let name = tensor.name.clone();
    let problem = |problem: String| OnnxError::Tensor { tensor: name.clone(), problem };
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let (dims, count) = dims
        .and_then(|dims| volume(&dims).map(|count| (dims, count)))
        .ok_or_else(|| problem(format!("a shape {:?}; expected sizes of at least 0 and at most {MAX_VALUES} values", tensor.dims)))?;
    let kind = tensor.data_type.unwrap_or(0);
    let data = values(tensor, kind).ok_or_else(|| {
        problem(format!("elements of ONNX type {kind} in this form; expected float, double, float16, bfloat16, bool or a whole number"))
    })?;
    let constant = Constant { dims, data };
    match constant.len() == count {
        true => Ok(constant),
        false => Err(problem(format!("shape {:?} but {} values; the file may be cut short", constant.dims, constant.len()))),
    }
}

fn values(tensor: TensorProto, kind: i32) -> Option<Data> {
    use data_type::{BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64};
    let float = |data: Vec<f32>| Some(Data::Float(Rc::new(data)));
    let int = |data: Vec<i64>| Some(Data::Int(Rc::new(data.into_iter().map(Dim::Known).collect())));
    let half = |bits: u16| half::f16::from_bits(bits).to_f32();
    let brain = |bits: u16| half::bf16::from_bits(bits).to_f32();
    let stored = tensor.raw_data.as_ref().map_or(0, Vec::len).max(tensor.int32_data.len()).max(tensor.int64_data.len());
    if stored > MAX_INTEGER_BYTES && !matches!(kind, FLOAT | DOUBLE | FLOAT16 | BFLOAT16) {
        return None;
    }
    let Some(raw) = tensor.raw_data else {
        let small = tensor.int32_data;
        return match kind {
            FLOAT => float(tensor.float_data),
            DOUBLE => float(tensor.double_data.iter().map(|&v| v as f32).collect()),
            FLOAT16 => float(small.iter().map(|&v| half(v as u16)).collect()),
            BFLOAT16 => float(small.iter().map(|&v| brain(v as u16)).collect()),
            INT64 => int(tensor.int64_data),
            UINT32 | UINT64 => int(tensor.uint64_data.iter().map(|&v| v as i64).collect()),
            BOOL | INT8 | INT16 | INT32 | UINT8 | UINT16 => int(small.into_iter().map(i64::from).collect()),
            _ => None,
        };
    };
    macro_rules! each {
        ($type:ty) => {
            raw.as_chunks().0.iter().map(|&bytes| <$type>::from_le_bytes(bytes))
        };
    }
    match kind {
        FLOAT => float(each!(f32).collect()),
        DOUBLE => float(each!(f64).map(|v| v as f32).collect()),
        FLOAT16 => float(each!(u16).map(half).collect()),
        BFLOAT16 => float(each!(u16).map(brain).collect()),
        INT64 => int(each!(i64).collect()),
        UINT64 => int(each!(u64).map(|v| v as i64).collect()),
        UINT32 => int(each!(u32).map(i64::from).collect()),
        INT32 => int(each!(i32).map(i64::from).collect()),
        INT16 => int(each!(i16).map(i64::from).collect()),
        UINT16 => int(each!(u16).map(i64::from).collect()),
        INT8 => int(each!(i8).map(i64::from).collect()),
        BOOL | UINT8 => int(raw.into_iter().map(i64::from).collect()),
        _ => None,
    }
}
