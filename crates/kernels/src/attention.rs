//! Multi-head self-attention from matrix products.

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::dispatch::Isa;
use crate::gemm::{Epilogue, multiply_here};
use crate::normalise::softmax_rows;
use crate::pack::{Matrix, PackedB};

/// Self-attention on joined queries, keys and values: `qkv` `[N, T, 3 * D] -> output [N, T, D]`, scale `1 / sqrt(D / heads)`.
///
/// # Panics
/// Where sizes disagree.
pub fn attention(output: &mut [f32], qkv: &[f32], tokens: usize, width: usize, heads: usize) {
    assert!(heads > 0 && width.is_multiple_of(heads), "{heads} heads of {width}");
    assert!(output.len() * 3 == qkv.len() && output.len().is_multiple_of((tokens * width).max(1)), "qkv and output");
    if output.is_empty() {
        return;
    }
    let (isa, batch, d) = (Isa::best(), output.len() / (tokens * width), width / heads);
    // One head a task, each into its own part; joined afterwards.
    let mut parts = Buffer::zeros(output.len());
    let head = |index: usize, out: &mut [f32]| {
        let image = &qkv[index / heads * tokens * 3 * width..][..tokens * 3 * width];
        let part = |which: usize| Matrix::strided(&image[which * width + index % heads * d..], tokens, d, 3 * width);
        let mut scores = Buffer::zeros(tokens * tokens);
        multiply_here(&mut scores, tokens, tokens, &part(0), &PackedB::for_isa(isa, part(1).t()), &Epilogue::default());
        softmax_rows(isa, &mut scores, tokens, 1.0 / (d as f32).sqrt());
        let scores = Matrix::new(&scores, tokens, tokens);
        multiply_here(out, d, tokens, &scores, &PackedB::for_isa(isa, part(2)), &Epilogue::default());
    };
    parts.par_chunks_mut(tokens * d).enumerate().take(batch * heads).for_each(|(index, out)| head(index, out));
    output.par_chunks_mut(width).enumerate().for_each(|(row, out)| {
        let (n, t) = (row / tokens, row % tokens);
        for (h, out) in out.chunks_exact_mut(d).enumerate() {
            out.copy_from_slice(&parts[((n * heads + h) * tokens + t) * d..][..d]);
        }
    });
}
