//! Nearest features among millions, approximately: an inverted file over principal components, with re-ranking on whole rows.
//!
//! 1. Rows are scaled to length 1 and kept in 16 bits (bfloat16): half the memory of `f32`, cosines to about 2e-3.
//! 2. The first principal components (uncentred, by orthogonal iteration on a sample) keep the products of rows as well as that many numbers
//!    can; each is coded in 8 bits.
//! 3. k-means on a sample cuts the set into lists (J. Sivic and A. Zisserman, "Video Google", ICCV 2003; H. Jégou, M. Douze and C. Schmid,
//!    "Product Quantization for Nearest Neighbor Search", PAMI 2011). A query scans the lists of the nearest centres and ranks what is best
//!    by its whole rows.
//!
//! Sets too small to gain have one list and are searched exhaustively by code. Everything is a function of rows, options and seed, for any
//! number of threads.

mod components;
mod lists;

use std::ops::Range;

use kernels::{Loops, Matrix, gemm, vectorized};
use rayon::prelude::*;

use crate::InputError;

/// Rows in memory as `f32` at once.
const BLOCK: usize = 2048;

/// How an index is built and asked.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexOptions {
    /// Principal components that are kept.
    pub components: usize,
    /// Lists; 0 means 4 √n, one list below 20,000 rows.
    pub lists: usize,
    /// Lists that a query scans.
    pub probes: usize,
    /// Candidates that are ranked by their whole rows, for each neighbour asked for; at least 64 in all.
    pub spare: usize,
    /// Seed of the sample and of the first centres.
    pub seed: u64,
}

impl Default for IndexOptions {
    fn default() -> IndexOptions {
        IndexOptions { components: 128, lists: 0, probes: 24, spare: 8, seed: 0 }
    }
}

/// An index of feature rows by cosine similarity.
#[derive(Debug, Clone)]
pub struct FeatureIndex {
    columns: usize,
    dims: usize,
    options: IndexOptions,
    /// `[n, columns]`, length 1, bfloat16.
    rows: Vec<u16>,
    /// `[dims, columns]`, orthonormal rows.
    components: Vec<f32>,
    /// What a step of a code is worth, for each component.
    steps: Vec<f32>,
    /// `[lists, dims]`, length 1.
    centers: Vec<f32>,
    /// Where each list starts; one more at the end.
    starts: Vec<u32>,
    /// Rows in the order of lists.
    ids: Vec<u32>,
    /// `[n, dims]` in the order of lists.
    codes: Vec<i8>,
}

impl FeatureIndex {
    /// Builds an index of `count` rows of `columns` values. `fill` writes the rows of a range, one after the other; it is called for
    /// consecutive ranges, so that rows can be read from a file. Rows of zeros are nobody's neighbours.
    ///
    /// # Errors
    /// No rows, no columns, more than 2³² − 1 rows, or values that are not finite.
    pub fn build(
        count: usize,
        columns: usize,
        mut fill: impl FnMut(Range<usize>, &mut [f32]),
        options: &IndexOptions,
    ) -> Result<FeatureIndex, InputError> {
        if count == 0 || columns == 0 || u32::try_from(count).is_err() {
            return Err(InputError::Length { what: "features", expected: 1, found: count * columns });
        }
        let mut rows = vec![0u16; count * columns];
        let mut block = vec![0f32; BLOCK.min(count) * columns];
        for start in (0..count).step_by(BLOCK) {
            let range = start..(start + BLOCK).min(count);
            let values = &mut block[..range.len() * columns];
            fill(range.clone(), values);
            if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
                return Err(InputError::NotFinite { what: "features", sample: start + bad / columns, column: bad % columns });
            }
            let kept = &mut rows[range.start * columns..range.end * columns];
            values.par_chunks_mut(columns).zip(kept.par_chunks_mut(columns)).for_each(|(row, kept)| narrow(row, kept));
        }
        let mut index = FeatureIndex {
            columns,
            dims: options.components.clamp(1, columns),
            options: options.clone(),
            rows,
            components: Vec::new(),
            steps: Vec::new(),
            centers: Vec::new(),
            starts: Vec::new(),
            ids: Vec::new(),
            codes: Vec::new(),
        };
        index.components = components::principal(&index);
        index.fill_lists();
        Ok(index)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len() / self.columns
    }

    /// Whether there is none; never so.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of memory that the index takes.
    pub fn bytes(&self) -> usize {
        let words = self.components.len() + self.steps.len() + self.centers.len() + self.starts.len() + self.ids.len();
        self.rows.len() * 2 + self.codes.len() + words * 4
    }

    /// Row `i`, of length 1.
    pub fn row(&self, i: usize) -> Vec<f32> {
        self.rows[i * self.columns..(i + 1) * self.columns].iter().map(|&v| widen(v)).collect()
    }

    /// For each row of `queries` `[m, columns]` its `k` most similar rows and their cosines, most similar first; equals in the order of rows.
    ///
    /// # Errors
    /// Queries that are not whole rows.
    pub fn nearest(&self, queries: &[f32], k: usize) -> Result<Vec<Vec<(usize, f32)>>, InputError> {
        if !queries.len().is_multiple_of(self.columns) {
            return Err(InputError::Length {
                what: "queries",
                expected: queries.len().next_multiple_of(self.columns),
                found: queries.len(),
            });
        }
        let mut found = Vec::with_capacity(queries.len() / self.columns);
        for block in queries.chunks(BLOCK * self.columns) {
            found.extend(self.nearest_of(block.to_vec(), k));
        }
        Ok(found)
    }

    /// Pairs of rows whose cosine is at least `least`, each once, smaller row first; of each row the `most` nearest are looked at.
    pub fn similar_pairs(&self, least: f32, most: usize) -> Vec<(usize, usize, f32)> {
        let mut pairs = Vec::new();
        for start in (0..self.len()).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(self.len());
            let queries = block.clone().flat_map(|i| self.row(i)).collect();
            for (i, near) in block.zip(self.nearest_of(queries, most + 1)) {
                pairs.extend(near.into_iter().filter(|&(j, cosine)| j != i && cosine >= least).map(|(j, c)| (i.min(j), i.max(j), c)));
            }
        }
        pairs.sort_by_key(|pair| (pair.0, pair.1));
        pairs.dedup_by_key(|p| (p.0, p.1));
        pairs
    }

    fn nearest_of(&self, mut queries: Vec<f32>, k: usize) -> Vec<Vec<(usize, f32)>> {
        queries.par_chunks_mut(self.columns).for_each(normalise);
        let count = queries.len() / self.columns;
        let reduced = self.reduce(&queries);
        let lists = self.starts.len() - 1;
        let mut near = vec![0f32; count * lists];
        let (a, b) = (Matrix::new(&reduced, count, self.dims), Matrix::new(&self.centers, lists, self.dims).t());
        gemm(&mut near, a, b, false);
        let one = |i: usize| {
            let part = |values: &'_ [f32], width: usize| values[i * width..(i + 1) * width].to_vec();
            self.search(&part(&queries, self.columns), part(&reduced, self.dims), &part(&near, lists), k)
        };
        (0..count).into_par_iter().map(one).collect()
    }

    /// `[m, columns]` to `[m, dims]`.
    fn reduce(&self, rows: &[f32]) -> Vec<f32> {
        let count = rows.len() / self.columns;
        let mut out = vec![0f32; count * self.dims];
        let (a, b) = (Matrix::new(rows, count, self.columns), Matrix::new(&self.components, self.dims, self.columns).t());
        gemm(&mut out, a, b, false);
        out
    }

    fn search(&self, query: &[f32], mut reduced: Vec<f32>, near: &[f32], k: usize) -> Vec<(usize, f32)> {
        let probes = self.options.probes.clamp(1, near.len());
        let lists = largest(near.iter().copied().enumerate().map(|(list, v)| (list as u32, v)).collect(), probes);
        reduced.iter_mut().zip(&self.steps).for_each(|(v, step)| *v *= step);
        let mut candidates = Vec::new();
        for (list, _) in lists {
            let range = self.starts[list as usize] as usize..self.starts[list as usize + 1] as usize;
            let first = candidates.len();
            candidates.extend(self.ids[range.clone()].iter().map(|&id| (id, 0.0)));
            let codes = &self.codes[range.start * self.dims..range.end * self.dims];
            vectorized(Scan { query: &reduced, codes, out: &mut candidates[first..] });
        }
        let ranked = largest(candidates, (k * self.options.spare).max(64));
        let mut exact: Vec<(usize, f32)> = ranked.into_iter().map(|(id, _)| (id as usize, self.cosine(query, id as usize))).collect();
        exact.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        exact.truncate(k);
        exact
    }

    /// Product of a query of length 1 with a row.
    fn cosine(&self, query: &[f32], id: usize) -> f32 {
        let mut out = 0.0;
        vectorized(Product { query, row: &self.rows[id * self.columns..(id + 1) * self.columns], out: &mut out });
        out
    }
}

/// The `count` largest values, largest first; equals in the order of ids.
fn largest(mut values: Vec<(u32, f32)>, count: usize) -> Vec<(u32, f32)> {
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if values.len() > count && count > 0 {
        values.select_nth_unstable_by(count - 1, order);
    }
    values.truncate(count);
    values.sort_unstable_by(order);
    values
}

fn normalise(row: &mut [f32]) {
    let norm = crate::duplicates::dot(row, row).sqrt();
    if norm > 0.0 {
        row.iter_mut().for_each(|v| *v /= norm);
    }
}

/// Length 1, to the nearest bfloat16 (ties to even).
fn narrow(row: &mut [f32], kept: &mut [u16]) {
    normalise(row);
    for (slot, value) in kept.iter_mut().zip(row) {
        let bits = value.to_bits();
        *slot = ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    }
}

#[inline(always)]
fn widen(value: u16) -> f32 {
    f32::from_bits(u32::from(value) << 16)
}

struct Scan<'a> {
    query: &'a [f32],
    codes: &'a [i8],
    out: &'a mut [(u32, f32)],
}

impl Loops for Scan<'_> {
    #[inline(always)]
    fn run(self) {
        for (slot, code) in self.out.iter_mut().zip(self.codes.chunks_exact(self.query.len())) {
            let mut sums = [0f32; 16];
            for (q, c) in self.query.chunks_exact(16).zip(code.chunks_exact(16)) {
                for i in 0..16 {
                    sums[i] += q[i] * f32::from(c[i]);
                }
            }
            let rest = self.query.len() / 16 * 16;
            let tail: f32 = self.query[rest..].iter().zip(&code[rest..]).map(|(q, &c)| q * f32::from(c)).sum();
            slot.1 = sums.iter().sum::<f32>() + tail;
        }
    }
}

struct Product<'a> {
    query: &'a [f32],
    row: &'a [u16],
    out: &'a mut f32,
}

impl Loops for Product<'_> {
    #[inline(always)]
    fn run(self) {
        let mut sums = [0f32; 16];
        for (q, r) in self.query.chunks_exact(16).zip(self.row.chunks_exact(16)) {
            for i in 0..16 {
                sums[i] += q[i] * widen(r[i]);
            }
        }
        let rest = self.query.len() / 16 * 16;
        let tail: f32 = self.query[rest..].iter().zip(&self.row[rest..]).map(|(q, &r)| q * widen(r)).sum();
        *self.out = sums.iter().sum::<f32>() + tail;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::{Rng, SeedableRng};

    /// Rows around centres in a few hidden dimensions, as features are.
    fn features(count: usize, columns: usize, seed: u64) -> Vec<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let hidden = 12;
        let mix: Vec<f32> = (0..hidden * columns).map(|_| rng.random_range(-1.0..1.0)).collect();
        let centers: Vec<f32> = (0..50 * hidden).map(|_| rng.random_range(-1.0f32..1.0)).collect();
        let mut out = Vec::new();
        for _ in 0..count {
            let center = rng.random_range(0..50) * hidden;
            let z: Vec<f32> = (0..hidden).map(|h| centers[center + h] + rng.random_range(-0.3..0.3)).collect();
            out.extend(
                (0..columns).map(|c| (0..hidden).map(|h| z[h] * mix[h * columns + c]).sum::<f32>().max(0.0) + rng.random_range(0.0..0.05)),
            );
        }
        out
    }

    fn build(data: &[f32], columns: usize, options: &IndexOptions) -> FeatureIndex {
        let fill = |range: Range<usize>, out: &mut [f32]| out.copy_from_slice(&data[range.start * columns..range.end * columns]);
        FeatureIndex::build(data.len() / columns, columns, fill, options).unwrap()
    }

    fn exact(data: &[f32], columns: usize, query: &[f32], k: usize) -> Vec<usize> {
        let cosine = |row: &[f32]| {
            let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
            product(row, query) / product(row, row).sqrt()
        };
        let mut all: Vec<(f64, usize)> = data.chunks_exact(columns).enumerate().map(|(i, row)| (-cosine(row), i)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all[..k].iter().map(|(_, i)| *i).collect()
    }

    #[test]
    fn nearly_all_neighbours_are_found() {
        let (columns, count) = (70, 6000);
        let data = features(count, columns, 1);
        for lists in [1, 60] {
            let index = build(&data, columns, &IndexOptions { components: 32, lists, probes: 12, ..IndexOptions::default() });
            let queries = &data[..100 * columns];
            let found = index.nearest(queries, 10).unwrap();
            let hits: usize = found
                .iter()
                .zip(queries.chunks_exact(columns))
                .map(|(near, query)| {
                    let truth = exact(&data, columns, query, 10);
                    near.iter().filter(|(i, _)| truth.contains(i)).count()
                })
                .sum();
            assert!(hits >= 950, "{lists} lists: {hits} of 1000");
            assert!((0..100).all(|i| found[i][0].0 == i && (found[i][0].1 - 1.0).abs() < 0.01));
        }
    }

    #[test]
    fn copies_are_paired_and_threads_change_nothing() {
        let columns = 40;
        let mut data = features(3000, columns, 2);
        for i in 0..20 {
            let copy: Vec<f32> = data[i * columns..(i + 1) * columns].iter().map(|v| v * 1.7 + 0.001).collect();
            data.extend(copy);
        }
        let options = IndexOptions { components: 24, lists: 30, probes: 5, ..IndexOptions::default() };
        let pairs = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| build(&data, columns, &options).similar_pairs(0.998, 5))
        };
        let found = pairs(1);
        assert_eq!(found, pairs(3));
        let copies = found.iter().filter(|(a, b, _)| *b == a + 3000).count();
        assert_eq!(copies, 20, "{found:?}");
    }

    #[test]
    fn wrong_sizes_and_values_are_refused() {
        let options = IndexOptions::default();
        assert!(FeatureIndex::build(0, 4, |_, _| (), &options).is_err());
        assert!(FeatureIndex::build(1, 2, |_, out| out.fill(f32::NAN), &options).is_err());
        let one = FeatureIndex::build(1, 2, |_, out| out.fill(3.0), &options).unwrap();
        assert_eq!(one.nearest(&[1.0, 1.0], 3).unwrap()[0].len(), 1);
        assert!(one.nearest(&[1.0], 1).is_err());
    }
}
