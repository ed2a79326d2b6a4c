//! Update rules, one pass over each parameter.

use crate::dispatch::{Isa, Kernel, Simd};
use crate::gemm::Shared;
use crate::threads::{each_chunk, parallel};

/// Values a task.
const CHUNK: usize = 1 << 15;

/// Stochastic gradient descent as `torch.optim.SGD`, with an L1 penalty.
#[derive(Debug, Clone, Copy)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f32,
    /// Share of the buffer that stays.
    pub momentum: f32,
    /// Nesterov's momentum.
    pub nesterov: bool,
    /// L2 penalty, added to the gradient.
    pub decay: f32,
    /// L1 penalty, its sign added to the gradient.
    pub l1: f32,
    /// Whether the buffer holds nothing yet.
    pub first: bool,
}

impl Sgd {
    /// One update of `weight` and of its momentum `buffer`.
    ///
    /// # Panics
    /// Where lengths differ.
    pub fn step(&self, weight: &mut [f32], gradient: &[f32], buffer: &mut [f32]) {
        assert!(weight.len() == gradient.len() && buffer.len() == weight.len(), "equal lengths");
        let (isa, len) = (Isa::best(), weight.len());
        let (weight, buffer) = (Shared(weight.as_mut_ptr()), Shared(buffer.as_mut_ptr()));
        parallel(len.div_ceil(CHUNK), |index| {
            let (from, count) = (index * CHUNK, CHUNK.min(len - index * CHUNK));
            // SAFETY: chunks do not overlap and lie in slices of `len` values.
            let (w, m) = unsafe { (chunk(weight, from, count), chunk(buffer, from, count)) };
            isa.run(SgdChunk { w, m, g: &gradient[from..from + count], rule: *self });
        });
    }
}

/// # Safety
/// `count` values from `from` exist, and nobody else has them.
unsafe fn chunk<'a>(start: Shared, from: usize, count: usize) -> &'a mut [f32] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(start.get().add(from), count) }
}

struct SgdChunk<'a> {
    w: &'a mut [f32],
    m: &'a mut [f32],
    g: &'a [f32],
    rule: Sgd,
}

impl Kernel for SgdChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Sgd { lr, momentum, nesterov, decay, l1, first } = self.rule;
        let keep = if first { 0.0 } else { momentum };
        let ahead = if nesterov { momentum } else { 1.0 };
        for ((w, m), &g) in self.w.iter_mut().zip(self.m).zip(self.g) {
            let g = g + decay * *w + l1 * sign(*w);
            *m = if first { g } else { keep * *m + g };
            *w -= lr * if nesterov { g + ahead * *m } else { *m };
        }
    }
}

#[inline(always)]
fn sign(x: f32) -> f32 {
    let above = if x > 0.0 { 1.0 } else { 0.0 };
    if x < 0.0 { -1.0 } else { above }
}

/// Adam with decoupled weight decay as `torch.optim.AdamW`, with an L1 penalty.
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and second moments.
    pub betas: [f64; 2],
    /// Added to the root.
    pub eps: f32,
    /// Decoupled weight decay.
    pub decay: f64,
    /// L1 penalty, its sign added to the gradient.
    pub l1: f32,
    /// Which update this is, from 1.
    pub update: u64,
}

impl AdamW {
    /// One update of `weight` and of its moments.
    ///
    /// # Panics
    /// Where lengths differ.
    pub fn step(&self, weight: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        assert!(weight.len() == gradient.len() && first.len() == weight.len() && second.len() == weight.len(), "equal lengths");
        let (isa, len) = (Isa::best(), weight.len());
        let (weight, first, second) = (Shared(weight.as_mut_ptr()), Shared(first.as_mut_ptr()), Shared(second.as_mut_ptr()));
        parallel(len.div_ceil(CHUNK), |index| {
            let (from, count) = (index * CHUNK, CHUNK.min(len - index * CHUNK));
            // SAFETY: chunks do not overlap and lie in slices of `len` values.
            let (w, m, v) = unsafe { (chunk(weight, from, count), chunk(first, from, count), chunk(second, from, count)) };
            isa.run(AdamChunk { w, m, v, g: &gradient[from..from + count], rule: *self });
        });
    }
}

struct AdamChunk<'a> {
    w: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    g: &'a [f32],
    rule: AdamW,
}

impl Kernel for AdamChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let AdamW { lr, betas: [b1, b2], eps, decay, l1, update } = self.rule;
        let keep = (1.0 - lr * decay) as f32;
        let size = (lr / (1.0 - b1.powf(update as f64))) as f32;
        let root = (1.0 - b2.powf(update as f64)).sqrt() as f32;
        let (c1, c2, b2) = ((1.0 - b1) as f32, (1.0 - b2) as f32, b2 as f32);
        for (((w, m), v), &g) in self.w.iter_mut().zip(self.m).zip(self.v).zip(self.g) {
            let g = g + l1 * sign(*w);
            *m += c1 * (g - *m);
            *v = b2 * *v + c2 * g * g;
            *w = *w * keep - size * *m / (v.sqrt() / root + eps);
        }
    }
}

/// Moves a moving average: `average += share (values - average)`.
///
/// # Panics
/// Where lengths differ.
pub fn average(average: &mut [f32], values: &[f32], share: f32) {
    assert_eq!(average.len(), values.len(), "equal lengths");
    let isa = Isa::best();
    each_chunk(average, CHUNK, |index, average| isa.run(Toward(average, &values[index * CHUNK..], share)));
}

struct Toward<'a>(&'a mut [f32], &'a [f32], f32);

impl Kernel for Toward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let share = self.2;
        self.0.iter_mut().zip(self.1).for_each(|(a, &v)| *a += share * (v - *a));
    }
}
