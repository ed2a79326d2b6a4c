//! Activations of whatever rank, channels last.

use burn::tensor::{Device, Tensor, TensorData};

/// An activation with its batch. Feature maps are kept channels last, the layout in which convolutions are matrix products.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// `[N, D]`.
    Vector(Tensor<2>),
    /// `[N, T, D]`.
    Tokens(Tensor<3>),
    /// `[N, H, W, C]` for a graph's `[C, H, W]`.
    Map(Tensor<4>),
}

impl Value {
    /// From a flat tensor in the graph's order (`[N, C, H, W]` for maps); `None` where the rank is not 1 to 3 without the batch.
    pub(super) fn from_flat(flat: Tensor<1>, shape: &[usize]) -> Option<Self> {
        match *shape {
            [n, d] => Some(Self::Vector(flat.reshape([n, d]))),
            [n, t, d] => Some(Self::Tokens(flat.reshape([n, t, d]))),
            [n, c, h, w] => Some(Self::Map(flat.reshape([n, c, h, w]).permute([0, 2, 3, 1]))),
            _ => None,
        }
    }

    /// To host values in the graph's order.
    pub(super) fn into_host(self) -> Result<graph::Tensor, String> {
        match self {
            Self::Vector(t) => host(t),
            Self::Tokens(t) => host(t),
            Self::Map(t) => host(t.permute([0, 3, 1, 2])),
        }
    }

    /// `[N, ...]` in the order of this layout.
    pub(super) fn dims(&self) -> Vec<usize> {
        match self {
            Self::Vector(t) => t.dims().to_vec(),
            Self::Tokens(t) => t.dims().to_vec(),
            Self::Map(t) => t.dims().to_vec(),
        }
    }
}

/// The values of `tensor` on the host.
pub(super) fn host<const D: usize>(tensor: Tensor<D>) -> Result<graph::Tensor, String> {
    let shape = tensor.dims().to_vec();
    let data = tensor.into_data().try_into_vec::<f32>().map_err(|e| e.to_string())?;
    Ok(graph::Tensor { shape, data })
}

/// A flat tensor of host values.
pub(super) fn flat(data: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = data.len();
    Tensor::from_data(TensorData::new(data, [len]), device)
}

/// Applies a rank-blind expression to a [`Value`].
macro_rules! each {
    ($value:expr, $t:ident => $body:expr) => {
        match $value {
            Value::Vector($t) => Value::Vector($body),
            Value::Tokens($t) => Value::Tokens($body),
            Value::Map($t) => Value::Map($body),
        }
    };
}
pub(super) use each;
