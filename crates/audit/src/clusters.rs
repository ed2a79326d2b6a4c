//! Groups of alike images on which a model does poorly.

use std::collections::BTreeMap;

use kernels::{Matrix, gemm};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::labels::Labelled;
use crate::neighbours::{checked_rows, normalised};
use crate::{Check, Finding, InputError, Neighbours};

/// Clusters of alike images by k-means on rows of length 1 (spherical k-means, Dhillon and Modha 2001; k-means++ start, Arthur and
/// Vassilvitskii 2007): the cluster of each row of `features` `[n, columns]`. Clusters are numbered by first appearance.
///
/// # Errors
/// No rows, `clusters` of 0, sizes that disagree, values that are not finite.
pub fn k_means(features: &[f32], columns: usize, clusters: usize, seed: u64) -> Result<Vec<usize>, InputError> {
    let n = checked_rows(features, columns)?;
    if n == 0 {
        return Err(InputError::TooFew { what: "rows of features", least: 1, found: n });
    }
    if clusters == 0 {
        return Err(InputError::Option { option: "clusters", found: "0".into(), expected: "at least 1" });
    }
    let unit = normalised(features, columns);
    let mut centres = spread_start(&unit, columns, clusters.min(n), seed);
    let mut member = vec![usize::MAX; n];
    for _ in 0..50 {
        let next = nearest_centres(&unit, columns, &centres);
        if next == member {
            break;
        }
        member = next;
        centres = means(&unit, columns, &member, &centres);
    }
    Ok(numbered(&member))
}

/// Rows far from one another: each next one drawn in proportion to its squared distance from those chosen.
fn spread_start(unit: &[f32], columns: usize, clusters: usize, seed: u64) -> Vec<f32> {
    let n = unit.len() / columns;
    let row = |i: usize| &unit[i * columns..(i + 1) * columns];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut centres = row(rng.random_range(0..n)).to_vec();
    let mut distance = vec![f64::INFINITY; n];
    while centres.len() < clusters * columns {
        let last = &centres[centres.len() - columns..];
        distance.par_iter_mut().enumerate().for_each(|(i, d)| {
            let dot: f64 = row(i).iter().zip(last).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            *d = d.min((2.0 - 2.0 * dot).max(0.0));
        });
        let total: f64 = distance.iter().sum();
        if total <= 0.0 {
            break;
        }
        let mut at = rng.random::<f64>() * total;
        let chosen = distance.iter().position(|d| {
            at -= d;
            at < 0.0
        });
        centres.extend_from_slice(row(chosen.unwrap_or(n - 1)));
    }
    centres
}

fn nearest_centres(unit: &[f32], columns: usize, centres: &[f32]) -> Vec<usize> {
    let clusters = centres.len() / columns;
    let centres = Matrix::new(centres, clusters, columns).t();
    let mut out = Vec::with_capacity(unit.len() / columns);
    for block in unit.chunks(4096 * columns) {
        let rows = block.len() / columns;
        let mut products = vec![0.0; rows * clusters];
        gemm(&mut products, Matrix::new(block, rows, columns), centres, false);
        out.extend(products.chunks_exact(clusters).map(|p| (1..clusters).fold(0, |best, k| if p[k] > p[best] { k } else { best })));
    }
    out
}

/// Means of the members, made length 1; a cluster without members keeps its centre.
fn means(unit: &[f32], columns: usize, member: &[usize], before: &[f32]) -> Vec<f32> {
    let clusters = before.len() / columns;
    let mut sums = vec![0.0f64; before.len()];
    let mut counts = vec![0usize; clusters];
    for (row, &cluster) in unit.chunks_exact(columns).zip(member) {
        counts[cluster] += 1;
        sums[cluster * columns..(cluster + 1) * columns].iter_mut().zip(row).for_each(|(s, &v)| *s += f64::from(v));
    }
    let mut out = before.to_vec();
    for (cluster, sum) in sums.chunks_exact(columns).enumerate().filter(|(c, _)| counts[*c] > 0) {
        let norm = sum.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        out[cluster * columns..(cluster + 1) * columns].iter_mut().zip(sum).for_each(|(o, s)| *o = (s / norm) as f32);
    }
    out
}

fn numbered(member: &[usize]) -> Vec<usize> {
    let mut numbers = BTreeMap::new();
    member
        .iter()
        .map(|m| {
            let next = numbers.len();
            *numbers.entry(*m).or_insert(next)
        })
        .collect()
}

/// Clusters as DBSCAN (Ester et al. 1996) finds them on the neighbour graph alone, as cleanlab does: a sample with `least` samples within `reach`
/// (itself included) is core; what is within reach of a core sample joins its cluster. None for a sample in no cluster.
pub fn density_clusters(neighbours: &Neighbours, reach: f32, least: usize) -> Vec<Option<usize>> {
    let n = neighbours.len();
    let near = |i: usize| neighbours.of(i).iter().zip(neighbours.distances_of(i)).filter(|(_, d)| **d <= reach).map(|(&j, _)| j as usize);
    let core: Vec<bool> = (0..n).map(|i| near(i).count() + 1 >= least).collect();
    let mut cluster = vec![None; n];
    let mut next = 0;
    for start in 0..n {
        if !core[start] || cluster[start].is_some() {
            continue;
        }
        let mut open = vec![start];
        while let Some(i) = open.pop() {
            if cluster[i].is_none() {
                cluster[i] = Some(next);
                if core[i] {
                    open.extend(near(i).filter(|&j| cluster[j].is_none()));
                }
            }
        }
        next += 1;
    }
    cluster
}

/// Settings of [`underperforming`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClusterOptions {
    /// Smaller clusters are left out.
    pub min_samples: usize,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { min_samples: 5 }
    }
}

/// How a model does on one cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterPerformance {
    /// Number of the cluster.
    pub cluster: usize,
    /// Its samples.
    pub samples: usize,
    /// Share of them whose label is the prediction.
    pub accuracy: f64,
    /// Wilson interval of that share at 95 % for all clusters together (Bonferroni).
    pub accuracy_interval: [f64; 2],
    /// Mean probability of the given labels over that of all clustered samples (cleanlab's score), at most 1.
    pub ratio: f64,
    /// Whether the whole interval lies below the accuracy on all clustered samples.
    pub flagged: bool,
}

/// Compares each cluster with all clustered samples, the worst ratio first. cleanlab flags one cluster, where the ratio is below a threshold (.1);
/// here a cluster is flagged where its accuracy is surely below the rest.
///
/// # Errors
/// Sizes that disagree.
pub fn underperforming(
    data: &Labelled<'_>,
    clusters: &[Option<usize>],
    options: &ClusterOptions,
) -> Result<Vec<ClusterPerformance>, InputError> {
    if clusters.len() != data.len() {
        return Err(InputError::Length { what: "clusters", expected: data.len(), found: clusters.len() });
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    clusters.iter().enumerate().filter_map(|(i, c)| c.map(|c| (i, c))).for_each(|(i, c)| members.entry(c).or_default().push(i));
    members.retain(|_, m| m.len() >= options.min_samples.max(1));
    let right = |i: &usize| crate::labels::argmax(data.row(*i)) == data.label(*i);
    let confidence = |samples: &mut dyn Iterator<Item = usize>| {
        let (sum, n) = samples.fold((0.0, 0.0), |(sum, n), i| (sum + data.row(i)[data.label(i)], n + 1.0));
        sum / n
    };
    let overall = confidence(&mut members.values().flatten().copied());
    let all = members.values().map(Vec::len).sum::<usize>() as f64;
    let accuracy_of_all = members.values().flatten().filter(|i| right(i)).count() as f64 / all;
    let z = normal_quantile_two_sided(0.05 / members.len().max(1) as f64);
    let mut out: Vec<ClusterPerformance> = members
        .iter()
        .map(|(&cluster, samples)| {
            let n = samples.len();
            let hits = samples.iter().filter(|i| right(i)).count();
            let accuracy_interval = wilson(hits, n, z);
            ClusterPerformance {
                cluster,
                samples: n,
                accuracy: hits as f64 / n as f64,
                accuracy_interval,
                ratio: (confidence(&mut samples.iter().copied()) / overall).min(1.0),
                flagged: accuracy_interval[1] < accuracy_of_all,
            }
        })
        .collect();
    out.sort_by(|a, b| a.ratio.total_cmp(&b.ratio).then(a.cluster.cmp(&b.cluster)));
    Ok(out)
}

/// Wilson's score interval (1927).
fn wilson(hits: usize, n: usize, z: f64) -> [f64; 2] {
    let (p, n) = (hits as f64 / n as f64, n as f64);
    let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    [(middle - half).max(0.0), (middle + half).min(1.0)]
}

/// The `z` that a standard normal exceeds, on either side, with probability `alpha`: by bisection.
fn normal_quantile_two_sided(alpha: f64) -> f64 {
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..100 {
        let z = f64::midpoint(low, high);
        if libm::erfc(z / std::f64::consts::SQRT_2) > alpha { low = z } else { high = z }
    }
    f64::midpoint(low, high)
}

/// One finding for each flagged cluster, its number as the group.
pub fn findings(performance: &[ClusterPerformance]) -> Vec<Finding> {
    let finding = |c: &ClusterPerformance| Finding {
        sample: None,
        check: Check::Underperforming,
        score: (1.0 - c.ratio).clamp(0.0, 1.0),
        given: None,
        suggested: None,
        group: Some(c.cluster),
        detail: format!(
            "{} alike images with accuracy {:.3} (interval {:.3} to {:.3})",
            c.samples, c.accuracy, c.accuracy_interval[0], c.accuracy_interval[1]
        ),
    };
    performance.iter().filter(|c| c.flagged).map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_wilsons() {
        // statsmodels 0.14: proportion_confint(8, 10, method="wilson"), and the normal quantile .975.
        let z = normal_quantile_two_sided(0.05);
        assert!((z - 1.959_963_984_540_054).abs() < 1e-10);
        let [low, high] = wilson(8, 10, z);
        assert!((low - 0.490_162_471_536_647).abs() < 1e-6 && (high - 0.943_317_848_545_625).abs() < 1e-6, "{low} {high}");
    }
}
