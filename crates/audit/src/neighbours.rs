//! Exact nearest neighbours by cosine distance, the ground of several checks.

use kernels::{Epilogue, Matrix, PackedB, gemm_packed};
use rayon::prelude::*;

use crate::InputError;

/// Queries whose products are in memory at once.
const QUERIES: usize = 1024;
/// Rows that they are compared with at once.
const PANEL: usize = 2048;
/// Neighbours that single precision finds beyond those asked for; double precision then decides the order.
const SPARE: usize = 6;

/// The nearest other samples of every sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// Neighbours of each sample: the number asked for, or all others where there are fewer.
    pub k: usize,
    /// `[n, k]`, nearest first, never the sample itself; of equals, the lower index first.
    pub indices: Vec<u32>,
    /// `[n, k]` cosine distances, `1 - cos` in `0..=2`.
    pub distances: Vec<f32>,
}

impl Neighbours {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.indices.len().checked_div(self.k).unwrap_or(0)
    }

    /// Whether there are no samples, or no neighbours.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Indices of the neighbours of a sample.
    pub fn of(&self, sample: usize) -> &[u32] {
        &self.indices[sample * self.k..(sample + 1) * self.k]
    }

    /// Distances of the neighbours of a sample.
    pub fn distances_of(&self, sample: usize) -> &[f32] {
        &self.distances[sample * self.k..(sample + 1) * self.k]
    }

    /// Mean distance of the neighbours of each sample.
    pub fn mean_distances(&self) -> Vec<f64> {
        self.distances.chunks_exact(self.k.max(1)).map(|row| row.iter().map(|&d| f64::from(d)).sum::<f64>() / row.len() as f64).collect()
    }

    /// The `k` nearest neighbours among the rows of `features` `[n, columns]`, exactly: products of blocks in single precision choose, double
    /// precision measures and sorts. Time grows with `n²`; memory with `n · k`.
    ///
    /// A row of zeros has distance 1 from everything.
    ///
    /// # Errors
    /// Fewer than two rows, no columns, `k` of 0, sizes that disagree, or values that are not finite.
    pub fn exact(features: &[f32], columns: usize, k: usize) -> Result<Self, InputError> {
        let n = checked_rows(features, columns)?;
        if n < 2 {
            return Err(InputError::TooFew { what: "rows of features", least: 2, found: n });
        }
        if k == 0 {
            return Err(InputError::Option { option: "k", found: k.to_string(), expected: "at least 1 neighbour" });
        }
        let k = k.min(n - 1);
        let unit = normalised(features, columns);
        let mut out = Self { k, indices: Vec::with_capacity(n * k), distances: Vec::with_capacity(n * k) };
        for first in (0..n).step_by(QUERIES) {
            let queries = first..(first + QUERIES).min(n);
            let nearest = candidates(&unit, columns, n, queries.clone(), k + SPARE);
            let measured: Vec<Vec<(f64, u32)>> =
                queries.into_par_iter().zip(nearest).map(|(query, near)| measured(features, columns, query, &near, k)).collect();
            for row in measured {
                out.indices.extend(row.iter().map(|&(_, index)| index));
                out.distances.extend(row.iter().map(|&(distance, _)| distance as f32));
            }
        }
        Ok(out)
    }
}

/// Number of rows of `[n, columns]` values, all finite.
pub(crate) fn checked_rows(features: &[f32], columns: usize) -> Result<usize, InputError> {
    if columns == 0 || !features.len().is_multiple_of(columns) {
        let expected = features.len().div_ceil(columns.max(1)) * columns;
        return Err(InputError::Length { what: "features", expected, found: features.len() });
    }
    if let Some(at) = features.iter().position(|v| !v.is_finite()) {
        return Err(InputError::NotFinite { what: "features", sample: at / columns, column: at % columns });
    }
    Ok(features.len() / columns)
}

/// Rows of length 1; a row of zeros stays.
pub(crate) fn normalised(features: &[f32], columns: usize) -> Vec<f32> {
    let mut out = features.to_vec();
    out.par_chunks_mut(columns).for_each(|row| {
        let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        if norm > 0.0 {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        }
    });
    out
}

/// For each query, the `wanted` rows with the largest product, in no particular order.
fn candidates(unit: &[f32], columns: usize, n: usize, queries: std::ops::Range<usize>, wanted: usize) -> Vec<Vec<(f32, u32)>> {
    let (first, count) = (queries.start, queries.len());
    let a = Matrix::new(&unit[first * columns..queries.end * columns], count, columns);
    let mut best: Vec<Best> = (0..count).map(|_| Best::new(wanted)).collect();
    let mut products = vec![0.0f32; count * PANEL.min(n)];
    for start in (0..n).step_by(PANEL) {
        let width = PANEL.min(n - start);
        let panel = PackedB::new(Matrix::new(&unit[start * columns..(start + width) * columns], width, columns).t());
        let c = &mut products[..count * width];
        gemm_packed(c, a, &panel, false, &Epilogue::default());
        best.par_iter_mut().zip(c.par_chunks(width)).enumerate().for_each(|(query, (best, row))| {
            let own = first + query;
            best.scan(row, start, own);
        });
    }
    best.into_iter().map(|b| b.entries).collect()
}

/// The largest products so far.
struct Best {
    wanted: usize,
    /// Falling products.
    entries: Vec<(f32, u32)>,
    /// What a product must exceed.
    bar: f32,
}

impl Best {
    fn new(wanted: usize) -> Self {
        Self { wanted, entries: Vec::with_capacity(wanted + 1), bar: f32::NEG_INFINITY }
    }

    fn scan(&mut self, row: &[f32], start: usize, own: usize) {
        for (block, values) in row.chunks(16).enumerate() {
            // Most blocks hold nothing near: one comparison for all of them.
            if values.iter().fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m }) <= self.bar {
                continue;
            }
            for (offset, &value) in values.iter().enumerate() {
                let index = start + block * 16 + offset;
                if value > self.bar && index != own {
                    self.insert(value, index as u32);
                }
            }
        }
    }

    fn insert(&mut self, value: f32, index: u32) {
        let at = self.entries.partition_point(|e| e.0 >= value);
        self.entries.insert(at, (value, index));
        self.entries.truncate(self.wanted);
        if self.entries.len() == self.wanted {
            self.bar = self.entries[self.wanted - 1].0;
        }
    }
}

/// Distances in double precision, sorted, the first `k`.
fn measured(features: &[f32], columns: usize, query: usize, near: &[(f32, u32)], k: usize) -> Vec<(f64, u32)> {
    let row = |i: usize| &features[i * columns..(i + 1) * columns];
    let a = row(query);
    let mut out: Vec<(f64, u32)> = near.iter().map(|&(_, index)| (cosine_distance(a, row(index as usize)), index)).collect();
    out.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    out.truncate(k);
    out
}

/// `1 - cos` of two rows, exactly 0 for equal rows, 1 where one is all zeros.
pub(crate) fn cosine_distance(a: &[f32], b: &[f32]) -> f64 {
    if a == b && a.iter().any(|v| *v != 0.0) {
        return 0.0;
    }
    let (mut ab, mut aa, mut bb) = (0.0f64, 0.0f64, 0.0f64);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x), f64::from(y));
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    if aa == 0.0 || bb == 0.0 { 1.0 } else { (1.0 - ab / (aa.sqrt() * bb.sqrt())).clamp(0.0, 2.0) }
}
