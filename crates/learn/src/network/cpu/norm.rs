//! Batch norm with the activation behind it, forward and back, on `[rows, channels]`.

use kernels::{Clamp, vectorized};
use rayon::prelude::*;

/// Rows a task: the split depends on the sizes alone, so that sums do not depend on the number of threads.
fn rows_a_task(channels: usize) -> usize {
    (1 << 16) / channels.max(1) + 1
}

/// Mean and biased variance of each channel, in one pass: sums of distances from the first row.
pub(super) fn statistics(x: &[f32], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let Some(origin) = x.get(..channels) else { return (vec![0.0; channels], vec![0.0; channels]) };
    let parts: Vec<(Vec<f32>, Vec<f32>)> = x
        .par_chunks(rows_a_task(channels) * channels)
        .map(|rows| {
            let (mut sums, mut squares) = (vec![0.0f32; channels], vec![0.0f32; channels]);
            vectorized(|| {
                for row in rows.chunks_exact(channels) {
                    for (((s, q), &v), &o) in sums.iter_mut().zip(&mut squares).zip(row).zip(origin) {
                        let d = v - o;
                        *s += d;
                        *q += d * d;
                    }
                }
            });
            (sums, squares)
        })
        .collect();
    let rows = (x.len() / channels) as f64;
    let total = |pick: fn(&(Vec<f32>, Vec<f32>)) -> &Vec<f32>, c: usize| parts.iter().map(|p| f64::from(pick(p)[c])).sum::<f64>() / rows;
    (0..channels)
        .map(|c| {
            let (mean, square) = (total(|p| &p.0, c), total(|p| &p.1, c));
            ((mean + f64::from(origin[c])) as f32, (square - mean * mean).max(0.0) as f32)
        })
        .unzip()
}

/// What the way back needs of the way there.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    pub(super) mean: Vec<f32>,
    /// `1 / sqrt(variance + eps)`.
    pub(super) inverse: Vec<f32>,
    pub(super) gamma: Vec<f32>,
    pub(super) beta: Vec<f32>,
    pub(super) clamp: Option<Clamp>,
    /// Whether mean and variance come from the batch, and so depend on the input.
    pub(super) by_batch: bool,
}

impl Norm {
    /// `x * scale + shift`.
    fn line(&self) -> (Vec<f32>, Vec<f32>) {
        let scale: Vec<f32> = self.gamma.iter().zip(&self.inverse).map(|(g, i)| g * i).collect();
        let shift = self.beta.iter().zip(&self.mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        (scale, shift)
    }

    fn bounds(&self) -> (f32, f32) {
        self.clamp.map_or((f32::NEG_INFINITY, f32::INFINITY), |c| (c.low, c.high))
    }

    pub(super) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let channels = self.gamma.len();
        let (scale, shift) = self.line();
        let (low, high) = self.bounds();
        let mut y = vec![0.0; x.len()];
        let task = rows_a_task(channels) * channels;
        y.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(y, x)| {
            vectorized(|| {
                for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                    for (((y, &x), &a), &b) in y.iter_mut().zip(x).zip(&scale).zip(&shift) {
                        let v = x * a + b;
                        // Written so that NaN passes through.
                        let v = if v < low { low } else { v };
                        *y = if v > high { high } else { v };
                    }
                }
            });
        });
        y
    }

    /// Gradients by the input, by gamma and by beta.
    pub(super) fn backward(&self, x: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let channels = self.gamma.len();
        let (scale, shift) = self.line();
        let (low, high) = self.bounds();
        let task = rows_a_task(channels) * channels;
        // Σ dz and Σ dz (x - mean), where dz is dy inside the bounds.
        let parts: Vec<(Vec<f32>, Vec<f32>)> = x
            .par_chunks(task)
            .zip(dy.par_chunks(task))
            .map(|(x, dy)| {
                let (mut sums, mut products) = (vec![0.0f32; channels], vec![0.0f32; channels]);
                vectorized(|| {
                    for (x, dy) in x.chunks_exact(channels).zip(dy.chunks_exact(channels)) {
                        let row = x.iter().zip(dy).zip(&scale).zip(&shift).zip(&self.mean);
                        for (((((&x, &dy), &a), &b), &m), (s, p)) in row.zip(sums.iter_mut().zip(&mut products)) {
                            let v = x * a + b;
                            let dz = if v > low && v < high { dy } else { 0.0 };
                            *s += dz;
                            *p += dz * (x - m);
                        }
                    }
                });
                (sums, products)
            })
            .collect();
        let total = |pick: fn(&(Vec<f32>, Vec<f32>)) -> &Vec<f32>, c: usize| parts.iter().map(|p| f64::from(pick(p)[c])).sum::<f64>();
        let sums: Vec<f64> = (0..channels).map(|c| total(|p| &p.0, c)).collect();
        let dgamma: Vec<f32> = (0..channels).map(|c| (total(|p| &p.1, c) * f64::from(self.inverse[c])) as f32).collect();
        // dx = scale (dz - Σdz / M - x̂ Σ(dz x̂) / M) = scale dz + slope (x - mean) + offset.
        let rows = (x.len() / channels.max(1)) as f64;
        let (mut slope, mut offset) = (vec![0.0f32; channels], vec![0.0f32; channels]);
        if self.by_batch {
            for c in 0..channels {
                let (a, i) = (f64::from(scale[c]), f64::from(self.inverse[c]));
                slope[c] = (-a * i * f64::from(dgamma[c]) / rows) as f32;
                offset[c] = (-a * sums[c] / rows) as f32;
            }
        }
        let mut dx = vec![0.0; x.len()];
        dx.par_chunks_mut(task).zip(x.par_chunks(task)).zip(dy.par_chunks(task)).for_each(|((dx, x), dy)| {
            vectorized(|| {
                for ((dx, x), dy) in dx.chunks_exact_mut(channels).zip(x.chunks_exact(channels)).zip(dy.chunks_exact(channels)) {
                    let row = x.iter().zip(dy).zip(&scale).zip(&shift).zip(&self.mean).zip(slope.iter().zip(&offset));
                    for ((((((&x, &dy), &a), &b), &m), (&s, &o)), dx) in row.zip(dx) {
                        let v = x * a + b;
                        let dz = if v > low && v < high { dy } else { 0.0 };
                        *dx = dz * a + ((x - m) * s + o);
                    }
                }
            });
        });
        (dx, dgamma, sums.into_iter().map(|s| s as f32).collect())
    }
}
