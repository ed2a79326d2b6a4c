//! Multi-head self-attention from matrix products.

use std::cell::Cell;

use crate::buffer::Buffer;
use crate::dispatch::Isa;
use crate::gemm::{Shared, multiply_at, share};
use crate::normalise::softmax_rows;
use crate::pack::{Matrix, PackedB};
use crate::threads::{count, parallel};

/// What a thread needs for one head, kept from call to call.
struct Head {
    keys: PackedB,
    values: PackedB,
    scores: Buffer,
}

thread_local! {
    static HEAD: Cell<Option<Box<Head>>> = const { Cell::new(None) };
}

impl Head {
    fn new(isa: Isa) -> Self {
        let empty = || PackedB::for_isa(isa, Matrix::new(&[], 0, 0));
        Self { keys: empty(), values: empty(), scores: Buffer::new() }
    }
}

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
    let shared = Shared(output.as_mut_ptr());
    // Few heads are shared out by their queries too; each part packs the keys for itself.
    let threads = count();
    let splits = if threads > 1 && batch * heads < threads * 4 && tokens > 64 { 2 } else { 1 };
    parallel(batch * heads * splits, |part| {
        let (n, h, queries) = (part / splits / heads, part / splits % heads, share(tokens, splits, part % splits));
        let image = &qkv[n * tokens * 3 * width..][..tokens * 3 * width];
        let rows = |which: usize, from: usize, count: usize| {
            Matrix::strided(&image[from * 3 * width + which * width + h * d..], count, d, 3 * width)
        };
        let mut head = HEAD.take().unwrap_or_else(|| Box::new(Head::new(isa)));
        head.keys.repack(rows(1, 0, tokens).t());
        head.values.repack(rows(2, 0, tokens));
        head.scores.resize(queries.len() * tokens);
        let scores = Shared(head.scores.as_mut_ptr());
        // SAFETY: the scores are this thread's own.
        unsafe { multiply_at(scores, tokens, queries.len(), &rows(0, queries.start, queries.len()), &head.keys) };
        softmax_rows(isa, &mut head.scores, tokens, 1.0 / (d as f32).sqrt());
        let out = Shared(shared.get().wrapping_add((n * tokens + queries.start) * width + h * d));
        // SAFETY: each part has rows of an image and columns of a head of its own, inside the output.
        unsafe { multiply_at(out, width, queries.len(), &Matrix::new(&head.scores, queries.len(), tokens), &head.values) };
        HEAD.set(Some(head));
    });
}
