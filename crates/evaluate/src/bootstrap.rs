//! Percentile bootstrap (Efron 1979): replicates draw as many samples as there are, with replacement. Replicate `r` draws from
//! stream `r` of the seeded generator, so the result depends neither on the number of threads nor on their timing.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::tally::Prepared;

/// Sorted entries that the replicates of one set may visit; beyond it, ranking metrics get fewer replicates.
const RANKED_BUDGET: usize = 10_000_000_000;
/// Replicates that ranking metrics get in any case.
const RANKED_LEAST: usize = 100;

/// How often each of `samples` is drawn in a replicate.
pub(crate) fn draw(samples: usize, seed: u64, replicate: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(replicate as u64);
    let mut counts = vec![0; samples];
    for _ in 0..samples {
        counts[rng.random_range(0..samples as u32) as usize] += 1;
    }
    counts
}

/// 95 % intervals of everything [`Prepared::score`] writes. A single sample has no interval; neither has a metric that is
/// undefined in more than half of the replicates.
pub(crate) fn intervals(prepared: &Prepared, replicates: usize, seed: u64) -> Vec<Option<[f64; 2]>> {
    let n = prepared.len();
    if n < 2 || replicates == 0 {
        return vec![None; prepared.width()];
    }
    let ranked = (RANKED_BUDGET / prepared.ranked_cost()).max(RANKED_LEAST).min(replicates);
    let scores: Vec<Vec<f64>> = (0..replicates).into_par_iter().map(|r| prepared.score(&draw(n, seed, r), r < ranked)).collect();
    (0..prepared.width())
        .into_par_iter()
        .map(|position| {
            let used = if prepared.is_ranked(position) { ranked } else { replicates };
            interval(scores[..used].iter().map(|score| score[position]).collect())
        })
        .collect()
}

/// The 2.5 and 97.5 percentiles of the defined values, if at least half are defined.
pub(crate) fn interval(mut values: Vec<f64>) -> Option<[f64; 2]> {
    let replicates = values.len();
    values.retain(|v| !v.is_nan());
    if values.is_empty() || 2 * values.len() < replicates {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    Some([quantile(&values, 0.025), quantile(&values, 0.975)])
}

/// Quantile of sorted values with linear interpolation (NumPy's default).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}
