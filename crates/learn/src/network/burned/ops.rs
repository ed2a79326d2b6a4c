//! One function an op, on Burn tensors.

use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Tensor, TensorData, activation, module};
use graph::{Activation, BatchNorm, Conv2d, Padding, Pool2d};

use super::value::{Value, each};
use crate::network::NoiseKey;

/// An op's result, or what does not fit (a graph that passed its check never gets here).
pub(super) type Computed = Result<Value, String>;

fn map(x: Value) -> Result<Tensor<4>, String> {
    match x {
        Value::Map(t) => Ok(t),
        Value::Vector(_) | Value::Tokens(_) => Err(format!("expected a feature map, got {:?}", x.dims())),
    }
}

fn tokens(x: Value) -> Result<Tensor<3>, String> {
    match x {
        Value::Tokens(t) => Ok(t),
        Value::Vector(_) | Value::Map(_) => Err(format!("expected tokens, got {:?}", x.dims())),
    }
}

/// Runs `f` on a map in `[N, C, H, W]`.
fn channels_first(x: Tensor<4>, f: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    f(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1])
}

/// Weight flat, in the graph's shape.
pub(super) fn conv2d(x: Value, c: &Conv2d, weight: Tensor<1>, bias: Option<Tensor<1>>) -> Computed {
    let x = map(x)?;
    let pointwise = c.kernel == [1; 2] && c.stride == [1; 2] && c.padding == Padding::default() && c.groups == 1;
    if pointwise {
        let [n, h, w, _] = x.dims();
        let weight = weight.reshape([c.out_channels, c.in_channels]).transpose();
        let y = x.reshape([n * h * w, c.in_channels]).matmul(weight);
        let y = match bias {
            Some(bias) => y + bias.unsqueeze(),
            None => y,
        };
        return Ok(Value::Map(y.reshape([n, h, w, c.out_channels])));
    }
    let weight = weight.reshape([c.out_channels, c.in_channels / c.groups, c.kernel[0], c.kernel[1]]);
    let options = ConvOptions { stride: c.stride, padding: pairs(c.padding), dilation: c.dilation, groups: c.groups };
    Ok(Value::Map(channels_first(x, |x| module::conv2d(x, weight, bias, options))))
}

fn pairs(p: Padding) -> [(usize, usize); 2] {
    [(p.top, p.bottom), (p.left, p.right)]
}

/// `x Wᵀ + b` over the graph's last dimension.
pub(super) fn linear(x: Value, out: usize, weight: Tensor<1>, bias: Option<Tensor<1>>) -> Computed {
    let rows = |x: Tensor<2>| {
        let inner = x.dims()[1];
        let y = x.matmul(weight.reshape([out, inner]).transpose());
        match bias {
            Some(bias) => y + bias.unsqueeze(),
            None => y,
        }
    };
    Ok(match x {
        Value::Vector(t) => Value::Vector(rows(t)),
        Value::Tokens(t) => {
            let [n, tokens, inner] = t.dims();
            Value::Tokens(rows(t.reshape([n * tokens, inner])).reshape([n, tokens, out]))
        }
        Value::Map(t) => Value::Map(channels_first(t, |t| {
            let [n, c, h, w] = t.dims();
            rows(t.reshape([n * c * h, w])).reshape([n, c, h, out])
        })),
    })
}

/// A batch norm's statistics of one batch: mean, biased variance, and the number of values each was taken over.
pub(super) struct BatchStatistics {
    pub(super) mean: Tensor<1>,
    pub(super) variance: Tensor<1>,
    pub(super) count: usize,
}

/// Normalises by the batch.
pub(super) fn batch_norm_by_batch(x: Value, b: &BatchNorm, gamma: Tensor<1>, beta: Tensor<1>) -> Result<(Value, BatchStatistics), String> {
    let eps = f64::from(b.eps);
    let (value, mean, variance, count) = match x {
        Value::Vector(t) => {
            let count = t.dims()[0];
            let out = module::batch_norm_train(t, gamma, beta, eps);
            (Value::Vector(out.output), out.mean, out.variance, count)
        }
        Value::Tokens(t) => {
            let [n, _, d] = t.dims();
            let out = module::batch_norm_train(t, gamma, beta, eps);
            (Value::Tokens(out.output), out.mean, out.variance, n * d)
        }
        Value::Map(t) => {
            let [n, h, w, c] = t.dims();
            let out = module::batch_norm_train(t.reshape([n * h * w, c]), gamma, beta, eps);
            (Value::Map(out.output.reshape([n, h, w, c])), out.mean, out.variance, n * h * w)
        }
    };
    Ok((value, BatchStatistics { mean, variance, count }))
}

/// Normalises by the running statistics: one multiplication and one addition a value.
pub(super) fn batch_norm_by_running(x: Value, b: &BatchNorm, [gamma, beta, mean, variance]: [Tensor<1>; 4]) -> Computed {
    let scale = gamma / (variance + f64::from(b.eps)).sqrt();
    let shift = beta - mean * scale.clone();
    Ok(match x {
        Value::Vector(t) => Value::Vector(t * scale.unsqueeze() + shift.unsqueeze()),
        Value::Tokens(t) => Value::Tokens(t * scale.reshape([1, b.channels, 1]) + shift.reshape([1, b.channels, 1])),
        Value::Map(t) => Value::Map(t * scale.unsqueeze() + shift.unsqueeze()),
    })
}

pub(super) fn layer_norm(x: Value, eps: f32, gamma: Tensor<1>, beta: Tensor<1>) -> Computed {
    let eps = f64::from(eps);
    Ok(match x {
        Value::Vector(t) => Value::Vector(module::layer_norm(t, gamma, Some(beta), eps)),
        Value::Tokens(t) => Value::Tokens(module::layer_norm(t, gamma, Some(beta), eps)),
        Value::Map(t) => Value::Map(channels_first(t, |t| module::layer_norm(t, gamma, Some(beta), eps))),
    })
}

pub(super) fn activate(x: Value, kind: Activation) -> Computed {
    Ok(each!(x, t => activate_tensor(t, kind)))
}

fn activate_tensor<const D: usize>(t: Tensor<D>, kind: Activation) -> Tensor<D> {
    match kind {
        Activation::Relu => activation::relu(t),
        Activation::Relu6 => t.clamp(0.0, 6.0),
        Activation::Gelu => activation::gelu(t),
        Activation::Silu => activation::silu(t),
        Activation::HardSwish => t.clone() * ((t + 3.0).clamp(0.0, 6.0) / 6.0),
        Activation::HardSigmoid => (t + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Sigmoid => activation::sigmoid(t),
        Activation::Tanh => t.tanh(),
    }
}

pub(super) fn max_pool(x: Value, p: &Pool2d) -> Computed {
    let options = MaxPoolOptions::new(p.kernel).with_stride(p.stride).with_padding_pairs(pairs(p.padding));
    Ok(Value::Map(channels_first(map(x)?, |x| module::max_pool2d(x, options))))
}

pub(super) fn avg_pool(x: Value, p: &Pool2d) -> Computed {
    let options = AvgPoolOptions::new(p.kernel)
        .with_stride(p.stride)
        .with_padding_pairs(pairs(p.padding))
        .with_count_include_pad(p.count_include_pad);
    Ok(Value::Map(channels_first(map(x)?, |x| module::avg_pool2d(x, options))))
}

pub(super) fn global_avg_pool(x: Value) -> Computed {
    let x = map(x)?;
    let [n, h, w, c] = x.dims();
    Ok(Value::Vector(x.reshape([n, h * w, c]).mean_dim(1).reshape([n, c])))
}

/// In the graph's order, channels first.
pub(super) fn flatten(x: Value) -> Computed {
    Ok(Value::Vector(match x {
        Value::Vector(t) => t,
        Value::Tokens(t) => {
            let [n, tokens, d] = t.dims();
            t.reshape([n, tokens * d])
        }
        Value::Map(t) => {
            let [n, h, w, c] = t.dims();
            t.permute([0, 3, 1, 2]).reshape([n, c * h * w])
        }
    }))
}

pub(super) fn add(a: Value, b: Value) -> Computed {
    match (a, b) {
        (Value::Vector(a), Value::Vector(b)) => Ok(Value::Vector(a + b)),
        (Value::Tokens(a), Value::Tokens(b)) => Ok(Value::Tokens(a + b)),
        (Value::Map(a), Value::Map(b)) => Ok(Value::Map(a + b)),
        (a, b) => Err(format!("expected equal shapes, got {:?} and {:?}", a.dims(), b.dims())),
    }
}

pub(super) fn multiply(a: Value, b: Value) -> Computed {
    match (a, b) {
        (Value::Vector(a), Value::Vector(b)) => Ok(Value::Vector(a * b)),
        (Value::Tokens(a), Value::Tokens(b)) => Ok(Value::Tokens(a * b)),
        (Value::Map(a), Value::Map(b)) => Ok(Value::Map(a * b)),
        (Value::Map(a), Value::Vector(b)) => {
            let [n, c] = b.dims();
            Ok(Value::Map(a * b.reshape([n, 1, 1, c])))
        }
        (a, b) => Err(format!("expected equal shapes or a channel gate, got {:?} and {:?}", a.dims(), b.dims())),
    }
}

/// Joins along the graph's first dimension.
pub(super) fn concat(values: Vec<Value>) -> Computed {
    let shapes: Vec<_> = values.iter().map(Value::dims).collect();
    let (mut vectors, mut tokens, mut maps) = (Vec::new(), Vec::new(), Vec::new());
    for value in values {
        match value {
            Value::Vector(t) => vectors.push(t),
            Value::Tokens(t) => tokens.push(t),
            Value::Map(t) => maps.push(t),
        }
    }
    match (vectors.is_empty(), tokens.is_empty(), maps.is_empty()) {
        (false, true, true) => Ok(Value::Vector(Tensor::cat(vectors, 1))),
        (true, false, true) => Ok(Value::Tokens(Tensor::cat(tokens, 1))),
        (true, true, false) => Ok(Value::Map(Tensor::cat(maps, 3))),
        _ => Err(format!("expected inputs of one rank, got {shapes:?}")),
    }
}

/// Zeroes single values.
pub(super) fn dropout(x: Value, p: f32, key: NoiseKey, node: usize) -> Computed {
    let dims = x.dims();
    let mask = key.mask(node, p, dims.iter().product());
    Ok(each!(x, t => { let device = t.device().inner(); t * Tensor::from_data(TensorData::new(mask, dims), &device) }))
}

/// Zeroes whole samples.
pub(super) fn drop_path(x: Value, p: f32, key: NoiseKey, node: usize) -> Computed {
    let mut dims = x.dims();
    dims[1..].fill(1);
    let mask = key.mask(node, p, dims[0]);
    Ok(each!(x, t => { let device = t.device().inner(); t * Tensor::from_data(TensorData::new(mask, dims), &device) }))
}

pub(super) fn to_tokens(x: Value) -> Computed {
    let x = map(x)?;
    let [n, h, w, d] = x.dims();
    Ok(Value::Tokens(x.reshape([n, h * w, d])))
}

pub(super) fn to_map(x: Value, [h, w]: [usize; 2]) -> Computed {
    let x = tokens(x)?;
    let [n, _, d] = x.dims();
    Ok(Value::Map(x.reshape([n, h, w, d])))
}

/// A range of the graph's first dimension.
pub(super) fn slice(x: Value, start: usize, len: usize) -> Computed {
    Ok(match x {
        Value::Vector(t) => Value::Vector(t.narrow(1, start, len)),
        Value::Tokens(t) => Value::Tokens(t.narrow(1, start, len)),
        Value::Map(t) => Value::Map(t.narrow(3, start, len)),
    })
}

pub(super) fn prepend_token(x: Value, token: Tensor<1>) -> Computed {
    let x = tokens(x)?;
    let [n, _, d] = x.dims();
    Ok(Value::Tokens(Tensor::cat(vec![token.reshape([1, 1, d]).expand([n, 1, d]), x], 1)))
}

pub(super) fn add_position(x: Value, table: Tensor<1>) -> Computed {
    let x = tokens(x)?;
    let [_, t, d] = x.dims();
    Ok(Value::Tokens(x + table.reshape([1, t, d])))
}

pub(super) fn select_token(x: Value, index: usize) -> Computed {
    let x = tokens(x)?;
    let [n, _, d] = x.dims();
    Ok(Value::Vector(x.narrow(1, index, 1).reshape([n, d])))
}

pub(super) fn attention(x: Value, heads: usize) -> Computed {
    let x = tokens(x)?;
    let [n, t, d3] = x.dims();
    let (d, size) = (d3 / 3, d3 / 3 / heads);
    let part = |i: usize| x.clone().narrow(2, i * d, d).reshape([n, t, heads, size]).permute([0, 2, 1, 3]);
    let scores = part(0).matmul(part(1).transpose()) / (size as f64).sqrt();
    let y = activation::softmax(scores, 3).matmul(part(2));
    Ok(Value::Tokens(y.permute([0, 2, 1, 3]).reshape([n, t, d])))
}

/// Over the graph's last dimension.
pub(super) fn softmax(x: Value) -> Computed {
    Ok(match x {
        Value::Vector(t) => Value::Vector(activation::softmax(t, 1)),
        Value::Tokens(t) => Value::Tokens(activation::softmax(t, 2)),
        Value::Map(t) => Value::Map(activation::softmax(t, 2)),
    })
}
