//! Layer normalisation and softmax over rows.

use crate::dispatch::{Isa, Kernel, Simd};
use crate::elementwise::exp;
use crate::threads::each_chunk;

/// Partial sums: enough to fill a vector of any instruction set, and the same for each, so that the order of additions is one.
const PARTS: usize = 16;

#[inline(always)]
pub(crate) fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut parts = [0.0f32; PARTS];
    let (chunks, rest) = values.as_chunks::<PARTS>();
    for chunk in chunks {
        for i in 0..PARTS {
            parts[i] += f(chunk[i]);
        }
    }
    parts.iter().sum::<f32>() + rest.iter().map(|&x| f(x)).sum::<f32>()
}

#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let mut parts = [f32::NEG_INFINITY; PARTS];
    let (chunks, rest) = values.as_chunks::<PARTS>();
    for chunk in chunks {
        for i in 0..PARTS {
            parts[i] = if chunk[i] > parts[i] { chunk[i] } else { parts[i] };
        }
    }
    parts.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

struct SoftmaxRows<'a>(&'a mut [f32], usize, f32);

impl Kernel for SoftmaxRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self(values, columns, scale) = self;
        for row in values.chunks_exact_mut(columns) {
            let top = largest(row) * scale;
            row.iter_mut().for_each(|x| *x = exp(*x * scale - top));
            let scale = 1.0 / sum(row, |x| x);
            row.iter_mut().for_each(|x| *x *= scale);
        }
    }
}

/// Softmax of `scale * row` for each row of `columns` values, in place, on this thread.
pub(crate) fn softmax_rows(isa: Isa, values: &mut [f32], columns: usize, scale: f32) {
    isa.run(SoftmaxRows(values, columns, scale));
}

fn rows_per_task(columns: usize) -> usize {
    (8192 / columns.max(1)).max(1) * columns.max(1)
}

/// Softmax over rows of `columns` values, in place.
pub fn softmax(values: &mut [f32], columns: usize) {
    assert!(columns > 0 && values.len().is_multiple_of(columns), "whole rows");
    let isa = Isa::best();
    each_chunk(values, rows_per_task(columns), |_, rows| softmax_rows(isa, rows, columns, 1.0));
}

struct LayerNormRows<'a> {
    output: &'a mut [f32],
    input: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
}

impl Kernel for LayerNormRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let n = self.weight.len();
        for (out, row) in self.output.chunks_exact_mut(n).zip(self.input.chunks_exact(n)) {
            let mean = sum(row, |x| x) / n as f32;
            let variance = sum(row, |x| (x - mean) * (x - mean)) / n as f32;
            let scale = 1.0 / (variance + self.eps).sqrt();
            for (((o, &x), &w), &b) in out.iter_mut().zip(row).zip(self.weight).zip(self.bias) {
                *o = (x - mean) * scale * w + b;
            }
        }
    }
}

/// Layer normalisation over rows of `weight.len()` values.
pub fn layer_norm(output: &mut [f32], input: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
    let n = weight.len();
    assert!(n > 0 && bias.len() == n && output.len() == input.len() && input.len().is_multiple_of(n), "whole rows");
    let (isa, chunk) = (Isa::best(), rows_per_task(n));
    each_chunk(output, chunk, |index, output| {
        let input = &input[index * chunk..index * chunk + output.len()];
        isa.run(LayerNormRows { output, input, weight, bias, eps });
    });
}
