//! The checks on features against cleanlab, and neighbours against a slow search.
#![allow(clippy::unwrap_used)]

use audit::balance::{RAREST, balance};
use audit::clusters::{ClusterOptions, density_clusters, k_means, underperforming};
use audit::labels::Labelled;
use audit::order::{OrderOptions, order};
use audit::outliers::{OutlierOptions, class_distances, findings, off_topic, outliers};
use audit::{Check, Neighbours};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    outliers: Vec<OutlierCase>,
    balance: Vec<BalanceCase>,
    clusters: Vec<ClusterCase>,
}

#[derive(Deserialize)]
struct OutlierCase {
    columns: usize,
    x: Vec<f32>,
    indices: Vec<u32>,
    distances: Vec<f64>,
    threshold: f64,
    scores: Vec<f64>,
    flagged: Vec<usize>,
}

#[derive(Deserialize)]
struct BalanceCase {
    labels: Vec<usize>,
    classes: usize,
    share: f64,
    flagged: Vec<usize>,
}

#[derive(Deserialize)]
struct ClusterCase {
    n: usize,
    eps: f32,
    indices: Vec<u32>,
    distances: Vec<f32>,
    clusters: Vec<i64>,
    labels: Vec<usize>,
    classes: usize,
    p: Vec<f64>,
    scores: Vec<f64>,
    flagged: Vec<usize>,
}

fn golden() -> Golden {
    // Made by golden/features.py.
    serde_json::from_str(include_str!("golden/features.json")).unwrap()
}

fn positions(mask: &[bool]) -> Vec<usize> {
    (0..mask.len()).filter(|&i| mask[i]).collect()
}

fn random(n: usize, columns: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n * columns).map(|_| rng.random::<f32>() - 0.4).collect()
}

#[test]
fn outliers_agree_with_cleanlab() {
    for case in golden().outliers {
        let near = Neighbours::exact(&case.x, case.columns, 10).unwrap();
        for (i, (&a, &b)) in near.indices.iter().zip(&case.indices).enumerate() {
            assert!(a == b || (f64::from(near.distances[i]) - case.distances[i]).abs() < 1e-7, "neighbour {i}: {a} {b}");
        }
        let found = outliers(&near, &OutlierOptions::default());
        assert!((found.threshold - case.threshold).abs() < 1e-6 * case.threshold, "{} {}", found.threshold, case.threshold);
        assert_eq!(positions(&found.flagged), case.flagged);
        for (a, b) in found.score.iter().zip(&case.scores) {
            assert!((1.0 - a - b).abs() < 1e-5, "{a} {b}");
        }
        let queue = findings(&found, &[], &[]);
        assert_eq!(queue.len(), case.flagged.len());
        assert!(queue.windows(2).all(|w| w[0].score >= w[1].score));
    }
}

#[test]
fn imbalance_agrees_with_cleanlab() {
    for case in golden().balance {
        let found = balance(&case.labels, case.classes, RAREST);
        assert!((found.rarest_share - case.share).abs() < 1e-12);
        let flagged: Vec<usize> = (0..case.labels.len()).filter(|&i| found.imbalanced && case.labels[i] == found.rarest).collect();
        assert_eq!(flagged, case.flagged);
    }
}

#[test]
fn every_class_below_the_threshold_is_named() {
    let labels: Vec<usize> = [vec![0; 200], vec![1; 3], vec![3; 200]].concat();
    let found = balance(&labels, 4, RAREST);
    assert_eq!(found.empty, [2]);
    assert!((found.ratio - 200.0 / 3.0).abs() < 1e-12);
    let names = ["a", "b", "c", "d"].map(String::from);
    let queue = found.findings(RAREST, &names);
    assert_eq!(queue.iter().map(|f| f.check).collect::<Vec<_>>(), [Check::Imbalance, Check::EmptyClass]);
    assert_eq!(queue[1].detail, "class c has no image");
}

#[test]
fn clusters_agree_with_cleanlab() {
    for case in golden().clusters {
        let near = Neighbours { k: case.indices.len() / case.n, indices: case.indices, distances: case.distances };
        let clusters = density_clusters(&near, case.eps, 5);
        let numbers: Vec<i64> = clusters.iter().map(|c| c.map_or(-1, |c| c as i64)).collect();
        assert_eq!(numbers, case.clusters);
        let data = Labelled::new(&case.labels, &case.p, case.classes).unwrap();
        let found = underperforming(&data, &clusters, &ClusterOptions::default()).unwrap();
        for (i, cluster) in clusters.iter().enumerate() {
            let ratio = found.iter().find(|c| Some(c.cluster) == *cluster).map_or(1.0, |c| c.ratio);
            assert!((ratio - case.scores[i]).abs() < 1e-9, "{ratio} {}", case.scores[i]);
        }
        // cleanlab flags the one cluster whose ratio is below .1; whatever it flags is flagged here.
        for &i in &case.flagged {
            assert!(found.iter().any(|c| Some(c.cluster) == clusters[i] && c.flagged));
        }
    }
}

#[test]
fn k_means_finds_separate_groups() {
    let mut x = random(90, 6, 3);
    x.chunks_exact_mut(6).enumerate().for_each(|(i, row)| row[i % 3] += 6.0);
    let found = k_means(&x, 6, 3, 1).unwrap();
    assert!((0..90).all(|i| found[i] == i % 3), "{found:?}");
    assert_eq!(k_means(&x, 6, 500, 1).unwrap().len(), 90);
}

#[test]
fn sorted_lists_are_told_from_shuffled_ones() {
    let mut x = random(400, 5, 5);
    x.chunks_exact_mut(5).enumerate().for_each(|(i, row)| row[i / 100] += 3.0);
    let sorted = order(&Neighbours::exact(&x, 5, 10).unwrap(), &OrderOptions::default()).unwrap();
    assert!(sorted.flagged && sorted.p_value < 1e-6 && sorted.findings().len() == 1, "{}", sorted.p_value);
    let shuffled = order(&Neighbours::exact(&random(400, 5, 6), 5, 10).unwrap(), &OrderOptions::default()).unwrap();
    assert!(!shuffled.flagged && shuffled.findings().is_empty(), "{}", shuffled.p_value);
}

#[test]
fn off_topic_is_far_from_every_class() {
    // Two classes that point along two axes, one lone image along a third.
    let mut x = random(101, 4, 7);
    x.chunks_exact_mut(4).enumerate().for_each(|(i, row)| row[if i == 100 { 3 } else { i % 2 }] += if i == 100 { 30.0 } else { 9.0 });
    let labels: Vec<usize> = (0..101).map(|i| i % 2).collect();
    let options = OutlierOptions::default();
    let found = outliers(&Neighbours::exact(&x, 4, 10).unwrap(), &options);
    let distances = class_distances(&x, 4, &labels, 2).unwrap();
    assert_eq!(positions(&off_topic(&found, &distances, &options)), [100]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn neighbours_are_those_of_a_slow_search(seed in any::<u64>(), n in 2usize..150, columns in 1usize..70, k in 1usize..20) {
        let mut x = random(n, columns, seed);
        let (first, rest) = x.split_at_mut(columns);
        rest[..columns].copy_from_slice(first);
        let found = Neighbours::exact(&x, columns, k).unwrap();
        prop_assert_eq!(found.len(), n);
        let norm = |i: usize| x[i * columns..(i + 1) * columns].iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let distance = |i: usize, j: usize| {
            let dot: f64 = (0..columns).map(|c| f64::from(x[i * columns + c]) * f64::from(x[j * columns + c])).sum();
            1.0 - dot / (norm(i) * norm(j))
        };
        for i in 0..n {
            let mut all: Vec<f64> = (0..n).filter(|&j| j != i).map(|j| distance(i, j)).collect();
            all.sort_by(f64::total_cmp);
            for (place, (&j, &d)) in found.of(i).iter().zip(found.distances_of(i)).enumerate() {
                prop_assert!(j as usize != i);
                prop_assert!((f64::from(d) - all[place]).abs() < 2e-6, "{} {}", d, all[place]);
                prop_assert!((distance(i, j as usize) - f64::from(d)).abs() < 2e-6);
            }
        }
        prop_assert_eq!(found.distances_of(0)[0], 0.0);
    }
}
