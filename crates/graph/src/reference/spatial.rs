//! Ops over height and width.

use super::number::Number;
use crate::op::{Conv2d, Pool2d};
use crate::tensor::Tensor;

/// Where a window starts in the input and which of its taps lie inside: `(tap, row or column)` pairs for the `out`-th window.
fn taps(out: usize, stride: usize, before: usize, kernel: usize, dilation: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..kernel).filter_map(move |k| {
        let padded = out * stride + k * dilation;
        (padded >= before && padded - before < size).then(|| (k, padded - before))
    })
}

fn out_size(size: usize, before: usize, after: usize, kernel: usize, dilation: usize, stride: usize) -> usize {
    (size + before + after - dilation * (kernel - 1) - 1) / stride + 1
}

/// `[N, C, H, W] -> [N, C', H', W']`.
pub(super) fn conv2d<T: Number>(conv: &Conv2d, x: &Tensor<T>, parameters: &[&Tensor<T>]) -> Tensor<T> {
    let [n, c, h, w] = dims(x);
    let ([kh, kw], [sh, sw], [dh, dw], p) = (conv.kernel, conv.stride, conv.dilation, conv.padding);
    let (oh, ow) = (out_size(h, p.top, p.bottom, kh, dh, sh), out_size(w, p.left, p.right, kw, dw, sw));
    let (in_group, out_group) = (c / conv.groups, conv.out_channels / conv.groups);
    let (kernel, bias) = (&parameters[0].data, parameters.get(1));
    let mut out = Vec::with_capacity(n * conv.out_channels * oh * ow);
    for image in 0..n {
        for oc in 0..conv.out_channels {
            let mut sums = vec![bias.map_or(0.0, |b| b.data[oc].wide()); oh * ow];
            for ic in 0..in_group {
                let channel = oc / out_group * in_group + ic;
                let plane = &x.data[(image * c + channel) * h * w..][..h * w];
                let kernel = &kernel[(oc * in_group + ic) * kh * kw..][..kh * kw];
                for oy in 0..oh {
                    for (ky, iy) in taps(oy, sh, p.top, kh, dh, h) {
                        let row = &plane[iy * w..][..w];
                        let sums = &mut sums[oy * ow..][..ow];
                        for kx in 0..kw {
                            add_row(sums, row, kernel[ky * kw + kx].wide(), kx * dw, p.left, sw);
                        }
                    }
                }
            }
            out.extend(sums.into_iter().map(T::narrow));
        }
    }
    Tensor { shape: vec![n, conv.out_channels, oh, ow], data: out }
}

/// Adds `weight * row[ox * stride + offset - left]` to `sums[ox]` wherever that column exists.
pub(super) fn add_row<T: Number>(sums: &mut [f64], row: &[T], weight: f64, offset: usize, left: usize, stride: usize) {
    let first = left.saturating_sub(offset).div_ceil(stride);
    let end = if row.len() + left > offset { (row.len() + left - offset).div_ceil(stride).min(sums.len()) } else { 0 };
    if first >= end {
        return;
    }
    let start = first * stride + offset - left;
    if stride == 1 {
        for (sum, value) in sums[first..end].iter_mut().zip(&row[start..]) {
            *sum += weight * value.wide();
        }
    } else {
        for (sum, value) in sums[first..end].iter_mut().zip(row[start..].iter().step_by(stride)) {
            *sum += weight * value.wide();
        }
    }
}

/// `[N, C, H, W] -> [N, C, H', W']`; padding never wins, a NaN always does.
pub(super) fn max_pool<T: Number>(pool: &Pool2d, x: &Tensor<T>) -> Tensor<T> {
    let greater = |best: f64, value: f64| if best.is_nan() || value <= best { best } else { value };
    pooled(pool, x, |values| values.fold(f64::NEG_INFINITY, greater))
}

/// `[N, C, H, W] -> [N, C, H', W']`.
pub(super) fn avg_pool<T: Number>(pool: &Pool2d, x: &Tensor<T>) -> Tensor<T> {
    let area = pool.kernel[0] * pool.kernel[1];
    pooled(pool, x, |values| {
        let (sum, inside) = values.fold((0.0, 0usize), |(sum, inside), value| (sum + value, inside + 1));
        let divisor = if pool.count_include_pad { area } else { inside.max(1) };
        sum / divisor as f64
    })
}

fn pooled<T: Number>(pool: &Pool2d, x: &Tensor<T>, reduce: impl Fn(&mut dyn Iterator<Item = f64>) -> f64) -> Tensor<T> {
    let [n, c, h, w] = dims(x);
    let ([kh, kw], [sh, sw], p) = (pool.kernel, pool.stride, pool.padding);
    let (oh, ow) = (out_size(h, p.top, p.bottom, kh, 1, sh), out_size(w, p.left, p.right, kw, 1, sw));
    let mut out = Vec::with_capacity(n * c * oh * ow);
    for plane in x.data.chunks_exact(h * w) {
        for oy in 0..oh {
            for ox in 0..ow {
                let columns = |iy: usize| taps(ox, sw, p.left, kw, 1, w).map(move |(_, ix)| plane[iy * w + ix].wide());
                let mut values = taps(oy, sh, p.top, kh, 1, h).flat_map(|(_, iy)| columns(iy));
                out.push(T::narrow(reduce(&mut values)));
            }
        }
    }
    Tensor { shape: vec![n, c, oh, ow], data: out }
}

/// `[N, C, H, W] -> [N, C]`.
pub(super) fn global_avg_pool<T: Number>(x: &Tensor<T>) -> Tensor<T> {
    let [n, c, h, w] = dims(x);
    let mean = |plane: &[T]| T::narrow(plane.iter().map(|v| v.wide()).sum::<f64>() / (h * w) as f64);
    Tensor { shape: vec![n, c], data: x.data.chunks_exact(h * w).map(mean).collect() }
}

fn dims<T>(x: &Tensor<T>) -> [usize; 4] {
    [x.shape[0], x.shape[1], x.shape[2], x.shape[3]]
}
