//! Ops over features and tokens, and elementwise ones.

use super::number::Number;
use crate::op::{Activation, BatchNorm, LayerNorm, Linear};
use crate::tensor::Tensor;

/// `[N, .., in] -> [N, .., out]`.
pub(super) fn linear<T: Number>(linear: &Linear, x: &Tensor<T>, parameters: &[&Tensor<T>]) -> Tensor<T> {
    let (weight, bias) = (&parameters[0].data, parameters.get(1));
    let rows = x.data.chunks_exact(linear.in_features);
    let data = rows
        .flat_map(|row| {
            weight.chunks_exact(linear.in_features).enumerate().map(move |(o, w)| {
                let bias = bias.map_or(0.0, |b| b.data[o].wide());
                T::narrow(dot(row, w) + bias)
            })
        })
        .collect();
    let mut shape = x.shape.clone();
    if let Some(last) = shape.last_mut() {
        *last = linear.out_features;
    }
    Tensor { shape, data }
}

/// Channels are the first dimension after the batch. Normalises by the mean and the biased variance of the batch, or by the running ones.
pub(super) fn batch_norm<T: Number>(norm: &BatchNorm, x: &Tensor<T>, parameters: &[&Tensor<T>], by_batch: bool) -> Tensor<T> {
    let [weight, bias, mean, var] = [0, 1, 2, 3].map(|i| &parameters[i].data);
    let plane: usize = x.shape[2..].iter().product();
    let (mean, var) = if by_batch { moments(x, norm.channels, plane) } else { (wide(mean), wide(var)) };
    let normalised = |(i, values): (usize, &[T])| {
        let c = i % norm.channels;
        let scale = weight[c].wide() / (var[c] + f64::from(norm.eps)).sqrt();
        let (mean, bias) = (mean[c], bias[c].wide());
        values.iter().map(|v| T::narrow((v.wide() - mean) * scale + bias)).collect::<Vec<_>>()
    };
    Tensor { shape: x.shape.clone(), data: x.data.chunks_exact(plane).enumerate().flat_map(normalised).collect() }
}

/// Mean and biased variance of each channel over the batch, whose planes have so many values.
fn moments<T: Number>(x: &Tensor<T>, channels: usize, plane: usize) -> (Vec<f64>, Vec<f64>) {
    let count = (x.data.len() / channels.max(1)) as f64;
    let average = |of: &dyn Fn(usize, f64) -> f64| {
        let mut sums = vec![0.0; channels];
        for (i, values) in x.data.chunks_exact(plane).enumerate() {
            let c = i % channels;
            sums[c] += values.iter().map(|v| of(c, v.wide())).sum::<f64>();
        }
        sums.into_iter().map(|sum| sum / count).collect::<Vec<f64>>()
    };
    let mean = average(&|_, v| v);
    let var = average(&|c, v| (v - mean[c]).powi(2));
    (mean, var)
}

fn wide<T: Number>(values: &[T]) -> Vec<f64> {
    values.iter().map(|v| v.wide()).collect()
}

/// Over the last dimension; the variance is the biased one.
pub(super) fn layer_norm<T: Number>(norm: &LayerNorm, x: &Tensor<T>, parameters: &[&Tensor<T>]) -> Tensor<T> {
    let (weight, bias, n) = (&parameters[0].data, &parameters[1].data, norm.features as f64);
    let normalised = |row: &[T]| {
        let mean = row.iter().map(|v| v.wide()).sum::<f64>() / n;
        let var = row.iter().map(|v| (v.wide() - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (var + f64::from(norm.eps)).sqrt();
        let one = |(i, v): (usize, &T)| T::narrow((v.wide() - mean) * scale * weight[i].wide() + bias[i].wide());
        row.iter().enumerate().map(one).collect::<Vec<_>>()
    };
    Tensor { shape: x.shape.clone(), data: x.data.chunks_exact(norm.features).flat_map(normalised).collect() }
}

pub(super) fn activation<T: Number>(activation: Activation, x: &Tensor<T>) -> Tensor<T> {
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    let relu6 = |v: f64| v.clamp(0.0, 6.0);
    let one = |v: f64| match activation {
        Activation::Relu => {
            if v < 0.0 {
                0.0
            } else {
                v
            }
        }
        Activation::Relu6 => relu6(v),
        Activation::Gelu => v * 0.5 * (1.0 + libm::erf(v * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::Silu => v * sigmoid(v),
        Activation::HardSwish => v * relu6(v + 3.0) / 6.0,
        Activation::HardSigmoid => relu6(v + 3.0) / 6.0,
        Activation::Sigmoid => sigmoid(v),
        Activation::Tanh => v.tanh(),
    };
    Tensor { shape: x.shape.clone(), data: x.data.iter().map(|v| T::narrow(one(v.wide()))).collect() }
}

pub(super) fn add<T: Number>(a: &Tensor<T>, b: &Tensor<T>) -> Tensor<T> {
    Tensor { shape: a.shape.clone(), data: a.data.iter().zip(&b.data).map(|(x, y)| T::narrow(x.wide() + y.wide())).collect() }
}

/// Two equal shapes, or maps times one gate a channel.
pub(super) fn mul<T: Number>(a: &Tensor<T>, b: &Tensor<T>) -> Tensor<T> {
    let plane = a.data.len() / b.data.len().max(1);
    let data = a.data.iter().enumerate().map(|(i, x)| T::narrow(x.wide() * b.data[i / plane].wide())).collect();
    Tensor { shape: a.shape.clone(), data }
}

/// Times a mask of one factor for each value, or for each image; the identity without one.
pub(super) fn masked<T: Number>(x: &Tensor<T>, mask: Option<Vec<f64>>) -> Tensor<T> {
    let Some(mask) = mask else { return x.clone() };
    let each = x.data.len() / mask.len().max(1);
    let data = x.data.iter().enumerate().map(|(i, x)| T::narrow(x.wide() * mask[i / each])).collect();
    Tensor { shape: x.shape.clone(), data }
}

/// Along the first dimension after the batch.
pub(super) fn concat<T: Number>(inputs: &[&Tensor<T>]) -> Tensor<T> {
    let n = inputs[0].shape[0];
    let mut shape = inputs[0].shape.clone();
    shape[1] = inputs.iter().map(|x| x.shape[1]).sum();
    let mut data = Vec::new();
    for image in 0..n {
        for x in inputs {
            let size = x.data.len() / n;
            data.extend_from_slice(&x.data[image * size..][..size]);
        }
    }
    Tensor { shape, data }
}

/// `[N, D, H, W] -> [N, H * W, D]`.
pub(super) fn to_tokens<T: Number>(x: &Tensor<T>) -> Tensor<T> {
    let (n, d, t) = (x.shape[0], x.shape[1], x.shape[2] * x.shape[3]);
    let mut data = Vec::with_capacity(x.data.len());
    for image in 0..n {
        for token in 0..t {
            data.extend((0..d).map(|feature| x.data[(image * d + feature) * t + token]));
        }
    }
    Tensor { shape: vec![n, t, d], data }
}

/// `[N, H * W, D] -> [N, D, H, W]`.
pub(super) fn to_map<T: Number>(x: &Tensor<T>, [h, w]: [usize; 2]) -> Tensor<T> {
    let [n, t, d] = token_dims(x);
    let mut data = Vec::with_capacity(x.data.len());
    for image in 0..n {
        for feature in 0..d {
            data.extend((0..t).map(|token| x.data[(image * t + token) * d + feature]));
        }
    }
    Tensor { shape: vec![n, d, h, w], data }
}

/// `[N, F, ..] -> [N, len, ..]`.
pub(super) fn slice<T: Number>(x: &Tensor<T>, start: usize, len: usize) -> Tensor<T> {
    let inner: usize = x.shape[2..].iter().product();
    let images = x.data.chunks_exact(x.shape[1] * inner);
    let data = images.flat_map(|image| &image[start * inner..(start + len) * inner]).copied().collect();
    let mut shape = x.shape.clone();
    shape[1] = len;
    Tensor { shape, data }
}

/// `[N, T, D] -> [N, T + 1, D]`.
pub(super) fn prepend_token<T: Number>(x: &Tensor<T>, token: &Tensor<T>) -> Tensor<T> {
    let [n, t, d] = token_dims(x);
    let data = x.data.chunks_exact(t * d).flat_map(|image| token.data.iter().chain(image).copied()).collect();
    Tensor { shape: vec![n, t + 1, d], data }
}

/// `[N, T, D]` plus a table `[1, T, D]`.
pub(super) fn add_position<T: Number>(x: &Tensor<T>, table: &Tensor<T>) -> Tensor<T> {
    Tensor {
        shape: x.shape.clone(),
        data: x.data.iter().zip(table.data.iter().cycle()).map(|(a, b)| T::narrow(a.wide() + b.wide())).collect(),
    }
}

/// `[N, T, D] -> [N, D]`.
pub(super) fn select_token<T: Number>(x: &Tensor<T>, index: usize) -> Tensor<T> {
    let [n, t, d] = token_dims(x);
    let data = x.data.chunks_exact(t * d).flat_map(|image| &image[index * d..][..d]).copied().collect();
    Tensor { shape: vec![n, d], data }
}

/// `[N, T, 3 * D] -> [N, T, D]`: `softmax(q kᵀ / sqrt(D / heads)) v` for each head (Vaswani et al., 2017, equation 1). A row holds
/// all queries, then all keys, then all values, each head after head.
pub(super) fn attention<T: Number>(x: &Tensor<T>, heads: usize) -> Tensor<T> {
    let [n, t, joined] = token_dims(x);
    let d = joined / 3;
    let size = d / heads;
    let scale = 1.0 / (size as f64).sqrt();
    let mut data = vec![T::narrow(0.0); n * t * d];
    for image in 0..n {
        let part = |token: usize, which: usize, head: usize| &x.data[(image * t + token) * joined + which * d + head * size..][..size];
        for head in 0..heads {
            for query in 0..t {
                let mut scores: Vec<f64> = (0..t).map(|key| dot(part(query, 0, head), part(key, 1, head)) * scale).collect();
                softmax_in_place(&mut scores);
                let out = &mut data[(image * t + query) * d + head * size..][..size];
                for (feature, out) in out.iter_mut().enumerate() {
                    let weighted = |(token, score): (usize, &f64)| score * part(token, 2, head)[feature].wide();
                    *out = T::narrow(scores.iter().enumerate().map(weighted).sum());
                }
            }
        }
    }
    Tensor { shape: vec![n, t, d], data }
}

/// Over the last dimension.
pub(super) fn softmax<T: Number>(x: &Tensor<T>) -> Tensor<T> {
    let size = x.shape.last().copied().unwrap_or(1);
    let one = |row: &[T]| {
        let mut row = wide(row);
        softmax_in_place(&mut row);
        row.into_iter().map(T::narrow)
    };
    Tensor { shape: x.shape.clone(), data: x.data.chunks_exact(size).flat_map(one).collect() }
}

fn softmax_in_place(row: &mut [f64]) {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row.iter_mut().for_each(|v| *v = (*v - max).exp());
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|v| *v /= sum);
}

fn dot<T: Number>(a: &[T], b: &[T]) -> f64 {
    // Eight sums side by side, so that the compiler may keep them in vector registers.
    let mut sums = [0.0f64; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x.wide() * y.wide()).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for i in 0..8 {
            sums[i] += x[i].wide() * y[i].wide();
        }
    }
    sums.iter().sum::<f64>() + rest
}

fn token_dims<T>(x: &Tensor<T>) -> [usize; 3] {
    [x.shape[0], x.shape[1], x.shape[2]]
}
