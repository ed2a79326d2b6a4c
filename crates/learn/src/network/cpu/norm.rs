//! Batch norm with the activation behind it, forward and back, on `[rows, channels]`.

// Loops by index over arrays of fixed size: the form that becomes vectors in registers.
#![allow(clippy::needless_range_loop)]

use kernels::{Clamp, Loops, vectorized};
use rayon::prelude::*;

/// Rows a task: the split depends on the sizes alone, so that sums do not depend on the number of threads.
fn rows_a_task(channels: usize) -> usize {
    (1 << 16) / channels.max(1) + 1
}

/// Calls `$block::<W>(args, first channel)` for blocks of channels that fit the vectors, so that sums stay in registers.
macro_rules! by_channel_blocks {
    ($channels:expr, $block:ident, $args:expr) => {
        let mut c = 0;
        while c < $channels {
            c += match $channels - c {
                32.. => $block::<32>($args, c),
                16.. => $block::<16>($args, c),
                8.. => $block::<8>($args, c),
                _ => $block::<1>($args, c),
            };
        }
    };
}

/// `W` values from `at`.
#[inline(always)]
fn load<const W: usize>(from: &[f32], at: usize) -> [f32; W] {
    let mut values = [0.0; W];
    values.copy_from_slice(&from[at..at + W]);
    values
}

/// Mean and biased variance of each channel, in one pass: sums of distances from the first row.
pub(super) fn statistics(x: &[f32], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let Some(origin) = x.get(..channels) else { return (vec![0.0; channels], vec![0.0; channels]) };
    let parts: Vec<Sums> = x
        .par_chunks(rows_a_task(channels) * channels)
        .map(|x| {
            let mut sums = Sums::new(channels);
            vectorized(Distances { x, origin, sums: &mut sums });
            sums
        })
        .collect();
    let rows = (x.len() / channels) as f64;
    let total = Sums::total(&parts, channels);
    let moments = total.into_iter().zip(origin).map(|((sum, square), &o)| {
        let (mean, square) = (sum / rows, square / rows);
        ((mean + f64::from(o)) as f32, (square - mean * mean).max(0.0) as f32)
    });
    moments.unzip()
}

/// Two sums a channel.
struct Sums {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Sums {
    fn new(channels: usize) -> Self {
        Self { first: vec![0.0; channels], second: vec![0.0; channels] }
    }

    fn total(parts: &[Self], channels: usize) -> Vec<(f64, f64)> {
        let mut total = vec![(0.0, 0.0); channels];
        for part in parts {
            for (t, (&a, &b)) in total.iter_mut().zip(part.first.iter().zip(&part.second)) {
                *t = (t.0 + f64::from(a), t.1 + f64::from(b));
            }
        }
        total
    }
}

struct Distances<'a> {
    x: &'a [f32],
    origin: &'a [f32],
    sums: &'a mut Sums,
}

impl Loops for Distances<'_> {
    #[inline(always)]
    fn run(mut self) {
        let channels = self.origin.len();
        by_channel_blocks!(channels, distances_block, &mut self);
    }
}

#[inline(always)]
fn distances_block<const W: usize>(d: &mut Distances<'_>, c: usize) -> usize {
    let origin: [f32; W] = load(d.origin, c);
    let (mut sums, mut squares) = ([0.0f32; W], [0.0f32; W]);
    for row in d.x.chunks_exact(d.origin.len()) {
        let x: [f32; W] = load(row, c);
        for i in 0..W {
            let distance = x[i] - origin[i];
            sums[i] += distance;
            squares[i] += distance * distance;
        }
    }
    d.sums.first[c..c + W].copy_from_slice(&sums);
    d.sums.second[c..c + W].copy_from_slice(&squares);
    W
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

/// `x * scale + shift`, and its bounds.
struct Line {
    scale: Vec<f32>,
    shift: Vec<f32>,
    low: f32,
    high: f32,
}

impl Norm {
    fn line(&self) -> Line {
        let scale: Vec<f32> = self.gamma.iter().zip(&self.inverse).map(|(g, i)| g * i).collect();
        let shift = self.beta.iter().zip(&self.mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        let (low, high) = self.clamp.map_or((f32::NEG_INFINITY, f32::INFINITY), |c| (c.low, c.high));
        Line { scale, shift, low, high }
    }

    pub(super) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let line = self.line();
        let mut y = vec![0.0; x.len()];
        let task = rows_a_task(self.gamma.len()) * self.gamma.len();
        y.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(y, x)| vectorized(There { y, x, line: &line }));
        y
    }

    /// Gradients by the input, by gamma and by beta.
    pub(super) fn backward(&self, x: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let channels = self.gamma.len();
        let line = self.line();
        let task = rows_a_task(channels) * channels;
        // Σ dz and Σ dz (x - mean), where dz is dy inside the bounds.
        let parts: Vec<Sums> = x
            .par_chunks(task)
            .zip(dy.par_chunks(task))
            .map(|(x, dy)| {
                let mut sums = Sums::new(channels);
                vectorized(Products { x, dy, mean: &self.mean, line: &line, sums: &mut sums });
                sums
            })
            .collect();
        let total = Sums::total(&parts, channels);
        let dgamma: Vec<f32> = total.iter().zip(&self.inverse).map(|(t, &i)| (t.1 * f64::from(i)) as f32).collect();
        // dx = scale (dz - Σdz / M - x̂ Σ(dz x̂) / M) = scale dz + slope (x - mean) + offset.
        let rows = (x.len() / channels.max(1)) as f64;
        let (mut slope, mut offset) = (vec![0.0f32; channels], vec![0.0f32; channels]);
        if self.by_batch {
            for c in 0..channels {
                let (a, i) = (f64::from(line.scale[c]), f64::from(self.inverse[c]));
                slope[c] = (-a * i * f64::from(dgamma[c]) / rows) as f32;
                offset[c] = (-a * total[c].0 / rows) as f32;
            }
        }
        let mut dx = vec![0.0; x.len()];
        let tasks = dx.par_chunks_mut(task).zip(x.par_chunks(task)).zip(dy.par_chunks(task));
        let (mean, line, slope, offset) = (&self.mean, &line, &slope, &offset);
        tasks.for_each(|((dx, x), dy)| vectorized(Back { dx, x, dy, mean, line, slope, offset }));
        (dx, dgamma, total.into_iter().map(|t| t.0 as f32).collect())
    }
}

struct There<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
    line: &'a Line,
}

impl Loops for There<'_> {
    #[inline(always)]
    fn run(mut self) {
        let channels = self.line.scale.len();
        by_channel_blocks!(channels, there_block, &mut self);
    }
}

#[inline(always)]
fn there_block<const W: usize>(t: &mut There<'_>, c: usize) -> usize {
    let (scale, shift): ([f32; W], [f32; W]) = (load(&t.line.scale, c), load(&t.line.shift, c));
    let (channels, low, high) = (t.line.scale.len(), t.line.low, t.line.high);
    for (y, x) in t.y.chunks_exact_mut(channels).zip(t.x.chunks_exact(channels)) {
        let x: [f32; W] = load(x, c);
        let mut out = [0.0f32; W];
        for i in 0..W {
            // Written so that NaN passes through.
            let v = x[i] * scale[i] + shift[i];
            let v = if v < low { low } else { v };
            out[i] = if v > high { high } else { v };
        }
        y[c..c + W].copy_from_slice(&out);
    }
    W
}

struct Products<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    mean: &'a [f32],
    line: &'a Line,
    sums: &'a mut Sums,
}

impl Loops for Products<'_> {
    #[inline(always)]
    fn run(mut self) {
        let channels = self.mean.len();
        by_channel_blocks!(channels, products_block, &mut self);
    }
}

#[inline(always)]
fn products_block<const W: usize>(p: &mut Products<'_>, c: usize) -> usize {
    let (scale, shift): ([f32; W], [f32; W]) = (load(&p.line.scale, c), load(&p.line.shift, c));
    let (mean, channels, low, high): ([f32; W], _, _, _) = (load(p.mean, c), p.mean.len(), p.line.low, p.line.high);
    let (mut sums, mut products) = ([0.0f32; W], [0.0f32; W]);
    for (x, dy) in p.x.chunks_exact(channels).zip(p.dy.chunks_exact(channels)) {
        let (x, dy): ([f32; W], [f32; W]) = (load(x, c), load(dy, c));
        for i in 0..W {
            let v = x[i] * scale[i] + shift[i];
            let dz = if v > low && v < high { dy[i] } else { 0.0 };
            sums[i] += dz;
            products[i] += dz * (x[i] - mean[i]);
        }
    }
    p.sums.first[c..c + W].copy_from_slice(&sums);
    p.sums.second[c..c + W].copy_from_slice(&products);
    W
}

struct Back<'a> {
    dx: &'a mut [f32],
    x: &'a [f32],
    dy: &'a [f32],
    mean: &'a [f32],
    line: &'a Line,
    slope: &'a [f32],
    offset: &'a [f32],
}

impl Loops for Back<'_> {
    #[inline(always)]
    fn run(mut self) {
        let channels = self.mean.len();
        by_channel_blocks!(channels, back_block, &mut self);
    }
}

#[inline(always)]
fn back_block<const W: usize>(b: &mut Back<'_>, c: usize) -> usize {
    let (scale, shift): ([f32; W], [f32; W]) = (load(&b.line.scale, c), load(&b.line.shift, c));
    let (slope, offset): ([f32; W], [f32; W]) = (load(b.slope, c), load(b.offset, c));
    let (mean, channels, low, high): ([f32; W], _, _, _) = (load(b.mean, c), b.mean.len(), b.line.low, b.line.high);
    let rows = b.x.chunks_exact(channels).zip(b.dy.chunks_exact(channels));
    for (dx, (x, dy)) in b.dx.chunks_exact_mut(channels).zip(rows) {
        let (x, dy): ([f32; W], [f32; W]) = (load(x, c), load(dy, c));
        let mut out = [0.0f32; W];
        for i in 0..W {
            let v = x[i] * scale[i] + shift[i];
            let dz = if v > low && v < high { dy[i] } else { 0.0 };
            out[i] = dz * scale[i] + ((x[i] - mean[i]) * slope[i] + offset[i]);
        }
        dx[c..c + W].copy_from_slice(&out);
    }
    W
}
