//! The way back through layer normalisation; mean and deviation of a row are computed anew.

use super::sums::by_blocks;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::gemm::Shared;
use crate::normalise::sum;

/// Gradients by the input, by the weight and by the bias of [`layer_norm`](crate::layer_norm) of `x` `[rows, C]`.
///
/// # Panics
/// Where sizes disagree.
pub fn layer_norm_gradient(dx: &mut [f32], dweight: &mut [f32], dbias: &mut [f32], x: &[f32], dy: &[f32], weight: &[f32], eps: f32) {
    layer_norm_gradient_on(Isa::best(), [dx, dweight, dbias], x, dy, weight, eps);
}

pub(super) fn layer_norm_gradient_on(isa: Isa, [dx, dweight, dbias]: [&mut [f32]; 3], x: &[f32], dy: &[f32], weight: &[f32], eps: f32) {
    let c = weight.len();
    assert!(c > 0 && dweight.len() == c && dbias.len() == c, "one weight and bias a channel");
    assert!(dx.len() == x.len() && dy.len() == x.len() && x.len().is_multiple_of(c), "whole rows of {c} channels");
    let out = Shared(dx.as_mut_ptr());
    let block = |rows: std::ops::Range<usize>, sums: &mut [f32]| {
        let (from, len) = (rows.start * c, rows.len() * c);
        // SAFETY: blocks are disjoint runs of the rows of `dx`, which has as many values as `x`.
        let dx = unsafe { std::slice::from_raw_parts_mut(out.get().add(from), len) };
        sums.fill(0.0);
        isa.run(Rows { dx, x: &x[from..from + len], dy: &dy[from..from + len], weight, sums, eps });
    };
    by_blocks(x.len() / c, c, 2 * c, block, |totals| {
        let (by_weight, by_bias) = totals.split_at(c);
        dweight.iter_mut().zip(by_weight).for_each(|(d, &t)| *d = t as f32);
        dbias.iter_mut().zip(by_bias).for_each(|(d, &t)| *d = t as f32);
    });
}

struct Rows<'a> {
    dx: &'a mut [f32],
    x: &'a [f32],
    dy: &'a [f32],
    weight: &'a [f32],
    sums: &'a mut [f32],
    eps: f32,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let c = self.weight.len();
        let (by_weight, by_bias) = self.sums.split_at_mut(c);
        for ((dx, x), dy) in self.dx.chunks_exact_mut(c).zip(self.x.chunks_exact(c)).zip(self.dy.chunks_exact(c)) {
            let mean = sum(x, |x| x) / c as f32;
            let inverse = 1.0 / (sum(x, |x| (x - mean) * (x - mean)) / c as f32 + self.eps).sqrt();
            // dx = inverse (g - mean(g) - x̂ mean(g x̂)), g = dy weight: `dx` holds g meanwhile.
            dx.iter_mut().zip(dy).zip(self.weight).for_each(|((d, &dy), &w)| *d = dy * w);
            for (((&x, &dy), w), b) in x.iter().zip(dy).zip(by_weight.iter_mut()).zip(by_bias.iter_mut()) {
                *w += dy * ((x - mean) * inverse);
                *b += dy;
            }
            let first = sum(dx, |g| g) / c as f32;
            let second = product(dx, x, mean) * inverse / c as f32;
            for (d, &x) in dx.iter_mut().zip(x) {
                *d = inverse * (*d - first - (x - mean) * inverse * second);
            }
        }
    }
}

/// `Σ g (x - mean)` by sixteen partial sums.
#[inline(always)]
fn product(g: &[f32], x: &[f32], mean: f32) -> f32 {
    let mut parts = [0.0f32; 16];
    let (gs, rest) = g.as_chunks::<16>();
    let (xs, last) = x.as_chunks::<16>();
    for (g, x) in gs.iter().zip(xs) {
        for i in 0..16 {
            parts[i] += g[i] * (x[i] - mean);
        }
    }
    parts.iter().sum::<f32>() + rest.iter().zip(last).map(|(g, x)| g * (x - mean)).sum::<f32>()
}
