//! Whether the order of the list is random: neighbours in content that are neighbours in the list say it is not.
//!
//! The statistic, the p-value and the score of each sample are those of cleanlab's datalab (`non_iid`; Cummings, Snorrason and Mueller 2023,
//! *Detecting Dataset Drift and Non-IID Sampling via k-Nearest Neighbors*). The permutations come from another generator than NumPy's, so a
//! p-value differs from cleanlab's as two of its own seeds do.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{Check, Finding, InputError, Neighbours};

/// Settings of [`order`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OrderOptions {
    /// Random orders that the given one is compared with.
    pub permutations: usize,
    /// Seed of the orders.
    pub seed: u64,
    /// The p-value below which the order is called not random.
    pub significance: f64,
}

impl Default for OrderOptions {
    fn default() -> Self {
        Self { permutations: 25, seed: 0, significance: 0.05 }
    }
}

/// How random the order is.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Kolmogorov-Smirnov distance between the distances in the list of neighbours, and of all pairs.
    pub statistic: f64,
    /// The same for each random order.
    pub permuted: Vec<f64>,
    /// Probability of such a statistic in a random order: the tail of a Gaussian kernel density of `permuted` (Scott's bandwidth).
    pub p_value: f64,
    /// Whether the order is called not random.
    pub flagged: bool,
    /// For each sample, towards 0 the more its neighbours are near in the list, `[n]`.
    pub scores: Vec<f64>,
}

/// Tests the order of the samples.
///
/// # Errors
/// Fewer than two samples or permutations.
pub fn order(neighbours: &Neighbours, options: &OrderOptions) -> Result<Order, InputError> {
    let n = neighbours.len();
    if n < 2 {
        return Err(InputError::TooFew { what: "samples with neighbours", least: 2, found: n });
    }
    if options.permutations < 2 {
        return Err(InputError::TooFew { what: "permutations", least: 2, found: options.permutations });
    }
    let background = background(n);
    let identity: Vec<u32> = (0..n as u32).collect();
    let statistic = statistic(neighbours, &identity, &background);
    let permuted: Vec<f64> = (0..options.permutations)
        .into_par_iter()
        .map(|number| {
            let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
            rng.set_stream(number as u64);
            let mut places = identity.clone();
            places.shuffle(&mut rng);
            self::statistic(neighbours, &places, &background)
        })
        .collect();
    let p_value = p_value(statistic, &permuted);
    Ok(Order { statistic, p_value, flagged: p_value < options.significance, permuted, scores: scores(neighbours) })
}

impl Order {
    /// One finding about the whole set where the order is not random.
    pub fn findings(&self) -> Vec<Finding> {
        if !self.flagged {
            return Vec::new();
        }
        let detail = format!(
            "images alike lie near one another in the list (p = {:.2e}): shuffle before splitting, or split by group",
            self.p_value
        );
        let score = (1.0 - self.p_value).clamp(0.0, 1.0);
        vec![Finding { sample: None, check: Check::NonIid, score, given: None, suggested: None, group: None, detail }]
    }
}

/// The cumulative share of pairs at distance up to `d`, at `d - 1`.
fn background(n: usize) -> Vec<f64> {
    let pairs = n as f64 * (n as f64 - 1.0) / 2.0;
    let mut sum = 0.0;
    (1..n)
        .map(|d| {
            sum += (n - d) as f64 / pairs;
            sum
        })
        .collect()
}

/// The largest difference between the two cumulative distributions, with the samples at the given places in the list.
fn statistic(neighbours: &Neighbours, places: &[u32], background: &[f64]) -> f64 {
    let n = places.len();
    let mut counts = vec![0u64; n];
    for (sample, near) in neighbours.indices.chunks_exact(neighbours.k).enumerate() {
        near.iter().for_each(|&other| counts[places[sample].abs_diff(places[other as usize]) as usize] += 1);
    }
    let total: u64 = counts.iter().sum();
    // The step function is read at both ends of each step; one more entry stands at the largest distance.
    counts[n - 1] += 1;
    let (mut below, mut largest) = (0u64, 0.0f64);
    for (distance, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        for rank in [below, below + count - 1] {
            // A distance of 0 (a sample as its own neighbour) cannot come from `Neighbours`.
            largest = largest.max((rank as f64 / total as f64 - background[distance.max(1) - 1]).abs());
        }
        below += count;
    }
    largest
}

/// The mass above `statistic` of a Gaussian kernel density estimate over `permuted` (`scipy.stats.gaussian_kde`). Where they are all equal
/// there is no density: then the share of orders that reach the statistic, the given one included.
fn p_value(statistic: f64, permuted: &[f64]) -> f64 {
    let n = permuted.len() as f64;
    let mean = permuted.iter().sum::<f64>() / n;
    let variance = permuted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let deviation = variance.sqrt() * n.powf(-0.2);
    if deviation <= 1e-12 * mean.abs() {
        let reached = permuted.iter().filter(|&&v| v >= statistic).count() as f64;
        return (reached + 1.0) / (n + 1.0);
    }
    permuted.iter().map(|v| 0.5 * libm::erfc((statistic - v) / (deviation * std::f64::consts::SQRT_2))).sum::<f64>() / n
}

/// For each sample, how its neighbours' distances in the list compare with those of all others: the area between the two cumulative
/// distributions, by parts, brought to `0..=1`.
fn scores(neighbours: &Neighbours) -> Vec<f64> {
    let n = neighbours.len();
    let last = (n - 1) as f64;
    let score = |sample: usize| {
        // Up to `double` there are two samples at each distance, then one, then none.
        let double = sample.min(n - 1 - sample) as f64;
        let area = |d: f64| {
            if d <= double {
                d * d / last
            } else if d <= last - double {
                double * double / last + 0.5 * (d + 3.0 * double) * (d - double) / last
            } else {
                let middle = 0.5 * (2.0 * double / last + 1.0) * (n as f64 - 2.0 * double - 1.0);
                double * double / last + middle + (d - (last - double))
            }
        };
        let mut distances: Vec<usize> = neighbours.of(sample).iter().map(|&other| sample.abs_diff(other as usize)).collect();
        distances.sort_unstable();
        distances.push(n - 1);
        let k = (distances.len() - 1) as f64;
        let (mut before, mut area_before, mut sum) = (0.0, 0.0, 0.0);
        for (i, &distance) in distances.iter().enumerate() {
            let distance = distance as f64;
            let area = area(distance);
            sum += (i as f64 / k * (distance - before) - (area - area_before)).abs();
            (before, area_before) = (distance, area);
        }
        (-sum / sample.max(n - sample) as f64).tanh() + 1.0
    };
    (0..n).into_par_iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        order: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        k: usize,
        indices: Vec<u32>,
        statistic: f64,
        permuted: Vec<f64>,
        p_value: f64,
        scores: Vec<f64>,
    }

    #[test]
    fn statistic_p_value_and_scores_agree_with_cleanlab() {
        // Made by tests/golden/features.py.
        let golden: Golden = serde_json::from_str(include_str!("../tests/golden/features.json")).unwrap();
        for case in golden.order {
            let neighbours = Neighbours { k: case.k, distances: vec![0.0; case.indices.len()], indices: case.indices };
            let places: Vec<u32> = (0..neighbours.len() as u32).collect();
            let found = statistic(&neighbours, &places, &background(places.len()));
            assert!((found - case.statistic).abs() < 1e-12, "{found} {}", case.statistic);
            let found = p_value(case.statistic, &case.permuted);
            assert!((found - case.p_value).abs() < 1e-9, "{found} {}", case.p_value);
            for (a, b) in scores(&neighbours).iter().zip(&case.scores) {
                assert!((a - b).abs() < 1e-9, "{a} {b}");
            }
        }
    }
}
