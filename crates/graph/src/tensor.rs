//! Dense tensors and weights by name.

use std::collections::BTreeMap;

/// A dense, row-major tensor: of `f32`, but for the reference interpreter's `f64`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<T = f32> {
    /// Sizes, outermost first; `[N, C, H, W]` for images. Empty for a scalar.
    pub shape: Vec<usize>,
    /// `shape.iter().product()` values, the last dimension fastest.
    pub data: Vec<T>,
}

impl Tensor {
    /// A tensor of `shape` over `data`; `None` where their sizes disagree.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Option<Self> {
        let shape = shape.into();
        (shape.iter().product::<usize>() == data.len()).then_some(Self { shape, data })
    }

    /// A tensor of zeros.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let data = vec![0.0; shape.iter().product()];
        Self { shape, data }
    }

    /// The same values with more digits.
    pub fn to_f64(&self) -> Tensor<f64> {
        Tensor { shape: self.shape.clone(), data: self.data.iter().map(|&v| f64::from(v)).collect() }
    }
}

/// Weights by name, in the order of their names.
pub type Weights<T = f32> = BTreeMap<String, Tensor<T>>;
