//! The way back through self-attention; the probabilities are computed anew, head by head, so that nothing quadratic is kept.

use super::activation::SoftmaxBack;
use super::outer::Outer;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::gemm::{Shared, multiply_at};
use crate::normalise::softmax_rows;
use crate::pack::{Matrix, PackedB};
use crate::scratch::{self, Slot};
use crate::threads::{each_chunk, parallel};
use crate::value::{Values, ValuesMut, copy, each_kind, in_f32};

/// Self-attention as [`attention`](crate::attention()).
///
/// # Panics
/// Where sizes disagree.
pub fn attention<'a, 'b>(y: impl Into<ValuesMut<'a>>, qkv: impl Into<Values<'b>>, tokens: usize, width: usize, heads: usize) {
    each_kind!((y; qkv) => { crate::attention(y, qkv, tokens, width, heads) } or {
        assert_eq!(qkv.len(), y.len() * 3, "qkv and output");
        let (isa, image) = (Isa::best(), tokens * width);
        each_chunk(y, image, |n, y| {
            let qkv = &qkv[n * 3 * image..(n + 1) * 3 * image];
            in_f32(isa, y, false, |y| {
                scratch::for_use(Slot::Wider, qkv.len(), |wide| {
                    copy(&mut *wide, qkv);
                    crate::attention(y, wide, tokens, width, heads);
                });
            });
        });
    });
}

/// The gradient by the joined queries, keys and values `qkv` `[N, T, 3 D]` of [`attention`], from `dy` `[N, T, D]`.
///
/// # Panics
/// Where sizes disagree.
pub fn attention_gradient<'a, 'b, 'c>(
    dqkv: impl Into<ValuesMut<'a>>,
    qkv: impl Into<Values<'b>>,
    dy: impl Into<Values<'c>>,
    tokens: usize,
    width: usize,
    heads: usize,
) {
    each_kind!((dqkv; qkv, dy) => { gradient(dqkv, qkv, dy, tokens, width, heads) } or {
        assert!(dy.len() * 3 == qkv.len() && dqkv.len() == qkv.len(), "qkv and gradients");
        let (isa, image) = (Isa::best(), tokens * width);
        each_chunk(dqkv, 3 * image, |n, dqkv| {
            let (qkv, dy) = (&qkv[n * 3 * image..(n + 1) * 3 * image], &dy[n * image..(n + 1) * image]);
            in_f32(isa, dqkv, false, |dqkv| {
                scratch::for_use(Slot::Wider, qkv.len() + dy.len(), |memory| {
                    let (wide_qkv, wide_dy) = memory.split_at_mut(qkv.len());
                    copy(&mut *wide_qkv, qkv);
                    copy(&mut *wide_dy, dy);
                    gradient(dqkv, wide_qkv, wide_dy, tokens, width, heads);
                });
            });
        });
    });
}

fn gradient(dqkv: &mut [f32], qkv: &[f32], dy: &[f32], tokens: usize, width: usize, heads: usize) {
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
        let part = |which: usize| Shared(dqkv.get().wrapping_add(which * width + h * d));
        scratch::for_use(Slot::Part, 2 * t * t, |memory| {
            let (p, ds) = memory.split_at_mut(t * t);
            scratch::for_packed(|packed| {
                packed.retain(|p| p.isa == isa);
                packed.resize_with(packed.len().max(1), || PackedB::for_isa(isa, Matrix::new(&[], 0, 0)));
                let mut product = |c: Shared, stride: usize, a: Matrix, b: Matrix| {
                    packed[0].repack(b);
                    // SAFETY: `p` and `ds` hold `t` rows of `t` values; the head's columns of the gradient are this part's own.
                    unsafe { multiply_at(c, stride, t, &a, &packed[0]) };
                };
                product(Shared(p.as_mut_ptr()), t, rows(0), rows(1).t());
                softmax_rows(isa, p, t, scale);
                product(Shared(ds.as_mut_ptr()), t, dy, rows(2).t());
                isa.run(SoftmaxBack { dx: ds, y: p, columns: t, scale });
                product(part(0), 3 * width, Matrix::new(ds, t, t), rows(1));
            });
            isa.run(Turned { a: ds, b: rows(0), c: part(1), c_stride: 3 * width });
            isa.run(Turned { a: p, b: dy, c: part(2), c_stride: 3 * width });
        });
    }
}

/// `c = aᵀ b` of a square `a`.
struct Turned<'a> {
    a: &'a [f32],
    b: Matrix<'a>,
    c: Shared,
    c_stride: usize,
}

impl Kernel for Turned<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let t = self.b.rows;
        assert_eq!(self.a.len(), t * t, "a square");
        let outer = Outer {
            m: t,
            n: self.b.cols,
            u: self.a.as_ptr(),
            u_step: t,
            v: self.b.data.as_ptr(),
            v_step: self.b.row_stride,
            runs: &[(0, 0)],
            run: t,
            c: self.c.get(),
            c_stride: self.c_stride,
            first: true,
            ahead: [(self.a.as_ptr(), 0); 2],
        };
        // SAFETY: `t` rows of both operands; the head's columns of the gradient, `t` rows, are this part's own.
        unsafe { outer.run(s) };
    }
}
