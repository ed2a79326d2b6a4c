//! The way back through layer normalisation; mean and deviation of a row are computed anew.

use super::sums::by_blocks;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::gemm::Shared;
use crate::normalise::sum;
use crate::scratch::{self, Slot};
use crate::threads::each_chunk;
use crate::value::{Value, Values, ValuesMut, alike, convert, copy, each_kind, in_f32};

/// Layer normalisation over rows of `weight.len()` values, as [`layer_norm`](crate::layer_norm()).
///
/// # Panics
/// Where sizes disagree.
pub fn layer_norm<'a, 'b>(y: impl Into<ValuesMut<'a>>, x: impl Into<Values<'b>>, weight: &[f32], bias: &[f32], eps: f32) {
    each_kind!((y; x) => { crate::layer_norm(y, x, weight, bias, eps) } or {
        let (isa, chunk) = (Isa::best(), (CHUNK / weight.len().max(1)).max(1) * weight.len());
        each_chunk(y, chunk, |index, y| {
            let x = &x[index * chunk..index * chunk + y.len()];
            in_f32(isa, y, false, |y| {
                scratch::for_use(Slot::Wider, x.len(), |wide| {
                    copy(&mut *wide, x);
                    crate::layer_norm(y, wide, weight, bias, eps);
                });
            });
        });
    });
}

/// Values a task.
const CHUNK: usize = 8192;

/// Gradients by the input, by the weight and by the bias of [`layer_norm`] of `x` `[rows, C]`.
///
/// # Panics
/// Where sizes disagree.
pub fn layer_norm_gradient<'a, 'b, 'c>(
    dx: impl Into<ValuesMut<'a>>,
    dweight: &mut [f32],
    dbias: &mut [f32],
    x: impl Into<Values<'b>>,
    dy: impl Into<Values<'c>>,
    weight: &[f32],
    eps: f32,
) {
    alike!((dx; x, dy) => gradient(dx, [dweight, dbias], [x, dy], weight, eps));
}

fn gradient<T: Value>(dx: &mut [T], [dweight, dbias]: [&mut [f32]; 2], [x, dy]: [&[T]; 2], weight: &[f32], eps: f32) {
    let isa = Isa::best();
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

struct Rows<'a, T> {
    dx: &'a mut [T],
    x: &'a [T],
    dy: &'a [T],
    weight: &'a [f32],
    sums: &'a mut [f32],
    eps: f32,
}

impl<T: Value> Kernel for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { dx, x, dy, weight, sums, eps } = self;
        let c = weight.len();
        scratch::for_use(Slot::Wide, if T::WIDE { 0 } else { 3 * c }, |memory| {
            for (at, dx) in dx.chunks_exact_mut(c).enumerate() {
                let (x, dy) = (&x[at * c..(at + 1) * c], &dy[at * c..(at + 1) * c]);
                if let (Some(dx), Some(x), Some(dy)) = (T::as_f32_mut(dx), T::as_f32(x), T::as_f32(dy)) {
                    s.vectorize(Row { dx, x, dy, weight, sums: &mut *sums, eps });
                    continue;
                }
                let (wide_x, rest) = memory.split_at_mut(c);
                let (wide_dy, wide_dx) = rest.split_at_mut(c);
                convert(s, wide_x, x);
                convert(s, wide_dy, dy);
                s.vectorize(Row { dx: &mut *wide_dx, x: wide_x, dy: wide_dy, weight, sums: &mut *sums, eps });
                convert(s, dx, wide_dx);
            }
        });
    }
}

/// One row.
struct Row<'a> {
    dx: &'a mut [f32],
    x: &'a [f32],
    dy: &'a [f32],
    weight: &'a [f32],
    sums: &'a mut [f32],
    eps: f32,
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { dx, x, dy, weight, sums, eps } = self;
        let c = weight.len();
        let (by_weight, by_bias) = sums.split_at_mut(c);
        let mean = sum(x, |x| x) / c as f32;
        let inverse = 1.0 / (sum(x, |x| (x - mean) * (x - mean)) / c as f32 + eps).sqrt();
        // dx = inverse (g - mean(g) - x̂ mean(g x̂)), g = dy weight: `dx` holds g meanwhile.
        dx.iter_mut().zip(dy).zip(weight).for_each(|((d, &dy), &w)| *d = dy * w);
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
