//! Cutting the set into lists, and the codes of their members.

use kernels::{Matrix, gemm};
use rand::SeedableRng;
use rand::seq::index::sample as draw;
use rayon::prelude::*;

use super::{BLOCK, FeatureIndex, components::sample, normalise};

/// Rows for each list that k-means is trained on.
const TRAINED_ON: usize = 32;
const ROUNDS: usize = 6;
/// Rows below which one list is enough.
const SMALL: usize = 20_000;
/// Deviations that the largest code stands for.
const REACH: f32 = 4.0;

impl FeatureIndex {
    pub(super) fn fill_lists(&mut self) {
        let count = self.len();
        let lists = match self.options.lists {
            0 if count < SMALL => 1,
            0 => 4 * count.isqrt(),
            asked => asked.min(count),
        };
        let chosen = sample(self, (lists * TRAINED_ON).max(SMALL));
        let training = self.reduce_rows(&chosen);
        self.steps = steps(&training, self.dims);
        self.centers = centers(&training, self.dims, lists, self.options.seed);
        let mut codes = vec![0i8; count * self.dims];
        let mut list_of = Vec::with_capacity(count);
        for start in (0..count).step_by(BLOCK) {
            let block: Vec<usize> = (start..(start + BLOCK).min(count)).collect();
            let reduced = self.reduce_rows(&block);
            list_of.extend(assign(&reduced, self.dims, &self.centers));
            let steps = &self.steps;
            let out = &mut codes[start * self.dims..][..reduced.len()];
            out.par_chunks_mut(self.dims).zip(reduced.par_chunks(self.dims)).for_each(|(code, row)| {
                for ((slot, value), step) in code.iter_mut().zip(row).zip(steps) {
                    *slot = (value / step).round().clamp(-127.0, 127.0) as i8;
                }
            });
        }
        self.sort_into_lists(&list_of, &codes, lists);
    }

    /// Rows by number, reduced to their components.
    fn reduce_rows(&self, chosen: &[usize]) -> Vec<f32> {
        let mut out = Vec::with_capacity(chosen.len() * self.dims);
        for block in chosen.chunks(BLOCK) {
            let rows: Vec<f32> = block.iter().flat_map(|&i| self.row(i)).collect();
            out.extend(self.reduce(&rows));
        }
        out
    }

    /// Counting sort.
    fn sort_into_lists(&mut self, list_of: &[u32], codes: &[i8], lists: usize) {
        let mut starts = vec![0u32; lists + 1];
        list_of.iter().for_each(|&list| starts[list as usize + 1] += 1);
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts.clone();
        self.ids = vec![0; list_of.len()];
        self.codes = vec![0; codes.len()];
        for (id, &list) in list_of.iter().enumerate() {
            let place = next[list as usize] as usize;
            next[list as usize] += 1;
            self.ids[place] = id as u32;
            self.codes[place * self.dims..(place + 1) * self.dims].copy_from_slice(&codes[id * self.dims..(id + 1) * self.dims]);
        }
        self.starts = starts;
    }
}

/// What a step of a code is worth: the largest reaches four root mean squares of its component.
fn steps(rows: &[f32], dims: usize) -> Vec<f32> {
    let mut squares = vec![0f64; dims];
    for row in rows.chunks_exact(dims) {
        squares.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v) * f64::from(*v));
    }
    let count = (rows.len() / dims) as f64;
    squares.iter().map(|sum| ((sum / count).sqrt() as f32 * REACH / 127.0).max(1e-9)).collect()
}

/// Spherical k-means (I. Dhillon and D. Modha, Machine Learning 2001) from drawn rows; a centre without rows stays where it is.
fn centers(rows: &[f32], dims: usize, lists: usize, seed: u64) -> Vec<f32> {
    let count = rows.len() / dims;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut first: Vec<usize> = draw(&mut rng, count, lists.min(count)).into_vec();
    first.sort_unstable();
    let mut centers: Vec<f32> = first.iter().flat_map(|&i| rows[i * dims..(i + 1) * dims].to_vec()).collect();
    centers.resize(lists * dims, 0.0);
    centers.chunks_exact_mut(dims).for_each(normalise);
    if lists == 1 {
        return centers;
    }
    for _ in 0..ROUNDS {
        let of = assign(rows, dims, &centers);
        let mut sums = vec![0f32; centers.len()];
        for (row, &list) in rows.chunks_exact(dims).zip(&of) {
            let sum = &mut sums[list as usize * dims..(list as usize + 1) * dims];
            sum.iter_mut().zip(row).for_each(|(s, v)| *s += v);
        }
        for (center, sum) in centers.chunks_exact_mut(dims).zip(sums.chunks_exact_mut(dims)) {
            if sum.iter().any(|v| *v != 0.0) {
                normalise(sum);
                center.copy_from_slice(sum);
            }
        }
    }
    centers
}

/// The nearest centre of each row by their product; of equals the first.
fn assign(rows: &[f32], dims: usize, centers: &[f32]) -> Vec<u32> {
    let lists = centers.len() / dims;
    let mut out = Vec::with_capacity(rows.len() / dims);
    for block in rows.chunks(BLOCK * dims) {
        let count = block.len() / dims;
        let mut products = vec![0f32; count * lists];
        gemm(&mut products, Matrix::new(block, count, dims), Matrix::new(centers, lists, dims).t(), false);
        out.par_extend(products.par_chunks(lists).map(|row| {
            let best = row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &v)| if v > best.1 { (i, v) } else { best });
            best.0 as u32
        }));
    }
    out
}
