//! Duplicates and neighbours among a million: time, memory and recall on made-up hashes and features.
//!
//! usage: cargo run --release -p fieldmark-audit --example scale -- [COUNT] [COLUMNS]   (default 1000000 1280)
//!
//! Hashes: random, one in a hundred of them a copy of another with up to ten bits turned. Features: 64 hidden values around one of COUNT / 100
//! centres, mixed into COLUMNS values, the negative ones cut to zero; one row in a hundred is a noisy copy of another.

use std::ops::Range;
use std::time::Instant;

use audit::duplicates::HammingIndex;
use audit::index::{FeatureIndex, IndexOptions};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

const HIDDEN: usize = 64;
const ASKED: usize = 500;
const K: usize = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().map_or(Ok(1_000_000), |t| t.parse())?;
    let columns: usize = arguments.next().map_or(Ok(1280), |t| t.parse())?;
    println!("{count} pictures, {} threads", rayon::current_num_threads());
    hashes(count);
    features(count, columns)?;
    Ok(())
}

/// One row in a hundred is a copy of the row 50 before it, which is none.
fn copies(i: usize) -> Option<usize> {
    (i % 100 == 99).then(|| i - 50)
}

fn hashes(count: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut all: Vec<u64> = Vec::with_capacity(count);
    for i in 0..count {
        let hash = match copies(i) {
            Some(original) => (0..rng.random_range(0..=10)).fold(all[original], |h, _| h ^ 1 << rng.random_range(0..64)),
            None => rng.random(),
        };
        all.push(hash);
    }
    let start = Instant::now();
    let index = HammingIndex::new(&all);
    println!("hashes: index built in {:.2} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let pairs: usize = (0..count)
        .into_par_iter()
        .map(|i| {
            let mut found = 0;
            index.within(all[i], 10, |j, _| found += usize::from(j > i));
            found
        })
        .sum();
    let seconds = start.elapsed().as_secs_f64();
    println!("hashes: every pair within 10 bits: {pairs} in {seconds:.2} s, {:.0} queries/s", count as f64 / seconds);
    let start = Instant::now();
    let asked = 200.min(count);
    let agree = (0..asked).all(|q| {
        let at = q * (count / asked);
        let mut found = Vec::new();
        index.within(all[at], 10, |j, _| found.push(j));
        found.sort_unstable();
        let brute: Vec<usize> = (0..count).filter(|&j| (all[at] ^ all[j]).count_ones() <= 10).collect();
        brute == found
    });
    println!("hashes: {asked} queries equal to brute force: {agree} ({:.2} s)", start.elapsed().as_secs_f64());
}

/// Rows made from their number, so that they need not be kept.
struct Made {
    columns: usize,
    /// `[HIDDEN, columns]`.
    mix: Vec<f32>,
    /// `[centres, HIDDEN]`.
    centers: Vec<f32>,
}

impl Made {
    fn new(count: usize, columns: usize) -> Made {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mix = (0..HIDDEN * columns).map(|_| rng.random_range(-1.0..1.0)).collect();
        let centers = (0..(count / 100).max(1) * HIDDEN).map(|_| rng.random_range(-1.0..1.0)).collect();
        Made { columns, mix, centers }
    }

    fn hidden(&self, i: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(1000 + i as u64);
        if let Some(original) = copies(i) {
            return self.hidden(original).iter().map(|z| z + rng.random_range(-0.1..0.1)).collect();
        }
        let center = rng.random_range(0..self.centers.len() / HIDDEN) * HIDDEN;
        self.centers[center..center + HIDDEN].iter().map(|c| c + rng.random_range(-0.5..0.5)).collect()
    }

    fn fill(&self, rows: Range<usize>, out: &mut [f32]) {
        let hidden: Vec<f32> = rows.clone().into_par_iter().flat_map_iter(|i| self.hidden(i)).collect();
        let (a, b) = (kernels::Matrix::new(&hidden, rows.len(), HIDDEN), kernels::Matrix::new(&self.mix, HIDDEN, self.columns));
        kernels::gemm(out, a, b, false);
        out.par_iter_mut().for_each(|v| *v = v.max(0.0));
    }
}

fn features(count: usize, columns: usize) -> Result<(), Box<dyn std::error::Error>> {
    let made = Made::new(count, columns);
    let (start, mut making) = (Instant::now(), 0.0);
    let fill = |rows: Range<usize>, out: &mut [f32]| {
        let start = Instant::now();
        made.fill(rows, out);
        making += start.elapsed().as_secs_f64();
    };
    let index = FeatureIndex::build(count, columns, fill, &IndexOptions::default())?;
    let building = start.elapsed().as_secs_f64() - making;
    println!(
        "features {count}×{columns}: index built in {building:.1} s (making the rows: {making:.1} s), {:.2} GB",
        index.bytes() as f64 / 1e9
    );

    let asked: Vec<usize> = (0..ASKED.min(count)).map(|q| q * (count / ASKED.min(count))).collect();
    let queries: Vec<f32> = asked.iter().flat_map(|&i| index.row(i)).collect();
    let start = Instant::now();
    let found = index.nearest(&queries, K)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("features: {} queries for {K} neighbours in {seconds:.2} s, {:.0} queries/s", asked.len(), asked.len() as f64 / seconds);
    let start = Instant::now();
    let truth = exact(&made, &queries, count, columns);
    let hits: usize = found.iter().zip(&truth).map(|(near, real)| near.iter().filter(|(i, _)| real.contains(i)).count()).sum();
    let recall = hits as f64 / (asked.len() * K.min(count)) as f64;
    println!("features: recall@{K} against exact search {recall:.4} (exact: {:.1} s)", start.elapsed().as_secs_f64());

    let start = Instant::now();
    let pairs = index.similar_pairs(0.98, 10);
    let seconds = start.elapsed().as_secs_f64();
    let known: Vec<usize> = (0..count).filter(|&i| copies(i).is_some()).collect();
    let place = |i: usize| pairs.binary_search_by(|p| (p.0, p.1).cmp(&(i - 50, i))).is_ok();
    let hit = known.iter().filter(|&&i| place(i)).count();
    println!("features: pairs of cosine .98 and more: {} in {seconds:.1} s; of {} copies made {hit} found", pairs.len(), known.len());
    Ok(())
}

/// The true neighbours of some queries, block by block.
fn exact(made: &Made, queries: &[f32], count: usize, columns: usize) -> Vec<Vec<usize>> {
    const BLOCK: usize = 4096;
    let asked = queries.len() / columns;
    let mut best: Vec<Vec<(f32, usize)>> = vec![Vec::new(); asked];
    let mut rows = vec![0f32; BLOCK * columns];
    for start in (0..count).step_by(BLOCK) {
        let range = start..(start + BLOCK).min(count);
        let rows = &mut rows[..range.len() * columns];
        made.fill(range.clone(), rows);
        rows.par_chunks_mut(columns).for_each(|row| {
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            row.iter_mut().for_each(|v| *v /= norm.max(1e-9));
        });
        let mut products = vec![0f32; asked * range.len()];
        kernels::gemm(
            &mut products,
            kernels::Matrix::new(queries, asked, columns),
            kernels::Matrix::new(rows, range.len(), columns).t(),
            false,
        );
        best.par_iter_mut().zip(products.par_chunks(range.len())).for_each(|(best, row)| {
            best.extend(row.iter().enumerate().map(|(i, &v)| (v, start + i)));
            best.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            best.truncate(K);
        });
    }
    best.into_iter().map(|b| b.into_iter().map(|(_, i)| i).collect()).collect()
}
