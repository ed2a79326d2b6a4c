//! Dense `f32` tensors and weights by name.

use std::collections::BTreeMap;

/// A dense, row-major tensor of `f32`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Sizes, outermost first; `[N, C, H, W]` for images. Empty for a scalar.
    pub shape: Vec<usize>,
    /// `shape.iter().product()` values, the last dimension fastest.
    pub data: Vec<f32>,
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
}

/// Weights by name, in the order of their names.
pub type Weights = BTreeMap<String, Tensor>;
