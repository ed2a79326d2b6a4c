//! The way back through self-attention; the probabilities are computed anew, head by head, so that nothing quadratic is kept.

use super::activation::SoftmaxBack;
use crate::dispatch::Isa;
use crate::gemm::{Epilogue, Shared, gemm_for, multiply};
use crate::normalise::softmax_rows;
use crate::pack::{Matrix, PackedB};
use crate::scratch::{self, Slot};
use crate::threads::parallel;

/// The gradient by the joined queries, keys and values `qkv` `[N, T, 3 D]` of [`attention`](crate::attention), from `dy` `[N, T, D]`.
///
/// # Panics
/// Where sizes disagree.
pub fn attention_gradient(dqkv: &mut [f32], qkv: &[f32], dy: &[f32], tokens: usize, width: usize, heads: usize) {
    assert!(heads > 0 && width.is_multiple_of(heads), "{heads} heads of {width}");
    assert!(dy.len() * 3 == qkv.len() && dqkv.len() == qkv.len() && dy.len().is_multiple_of((tokens * width).max(1)), "qkv and gradients");
    if dy.is_empty() {
        return;
    }
    let (isa, batch) = (Isa::best(), dy.len() / (tokens * width));
    let out = Shared(dqkv.as_mut_ptr());
    parallel(batch * heads, |part| {
        let (n, h) = (part / heads, part % heads);
        let head = Head { isa, tokens, width, size: width / heads, h };
        let dqkv = Shared(out.get().wrapping_add(n * tokens * 3 * width));
        head.run(dqkv, &qkv[n * tokens * 3 * width..][..tokens * 3 * width], &dy[n * tokens * width..][..tokens * width]);
    });
}

/// One head of one image.
struct Head {
    isa: Isa,
    tokens: usize,
    width: usize,
    size: usize,
    h: usize,
}

impl Head {
    fn run(&self, dqkv: Shared, qkv: &[f32], dy: &[f32]) {
        let Self { isa, tokens: t, width, size: d, h } = *self;
        let rows = |which: usize| Matrix::strided(&qkv[which * width + h * d..], t, d, 3 * width);
        let dy = Matrix::strided(&dy[h * d..], t, d, width);
        let scale = 1.0 / (d as f32).sqrt();
        scratch::for_use(Slot::Part, 2 * t * t + t * d, |memory| {
            let (p, memory) = memory.split_at_mut(t * t);
            let (ds, part) = memory.split_at_mut(t * t);
            let product = |c: &mut [f32], a: Matrix, b: Matrix| {
                multiply(c, b.cols, a.rows, &a, &PackedB::for_isa(isa, b), false, &Epilogue::default());
            };
            product(p, rows(0), rows(1).t());
            softmax_rows(isa, p, t, scale);
            product(ds, dy, rows(2).t());
            isa.run(SoftmaxBack { dx: ds, y: p, columns: t, scale });
            let mut write = |which: usize, a: Matrix, b: Matrix| {
                gemm_for(isa, part, a, b, false);
                for (i, row) in part.chunks_exact(d).enumerate() {
                    let at = i * 3 * width + which * width + h * d;
                    // SAFETY: `at + d` lies in the image's `t * 3 * width` values, and each head has columns of its own.
                    unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), dqkv.get().add(at), d) };
                }
            };
            write(0, Matrix::new(ds, t, t), rows(1));
            write(1, Matrix::new(ds, t, t).t(), rows(0));
            write(2, Matrix::new(p, t, t).t(), dy);
        });
    }
}
