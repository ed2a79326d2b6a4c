//! The label checks against cleanlab, and against what must hold for any input.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use audit::labels::{
    ConfidentJoint, ErrorsOptions, LabelScore, Labelled, PruneOptions, Rule, confused_pairs, estimate, findings, label_scores, noise_model,
    prune,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    classes: usize,
    labels: Vec<usize>,
    steps: u32,
    p: Vec<u32>,
    minimum: usize,
    frac: f64,
    thresholds: Vec<f64>,
    raw: Vec<i64>,
    joint: Vec<i64>,
    off: Vec<usize>,
    issues: Option<usize>,
    issues_calibrated: Option<usize>,
    masks: BTreeMap<String, Option<Vec<usize>>>,
    self_confidence: Option<Vec<f64>>,
    normalized_margin: Option<Vec<f64>>,
    entropy: Option<Vec<f64>>,
    prior: Vec<f64>,
    noise: Vec<f64>,
    inverse: Vec<f64>,
}

fn positions(mask: &[bool]) -> Vec<usize> {
    (0..mask.len()).filter(|&i| mask[i]).collect()
}

fn close(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance * b.abs().max(1.0))
}

fn agrees(number: usize, case: &Case) {
    let p: Vec<f64> = case.p.iter().map(|&c| f64::from(c) / f64::from(case.steps)).collect();
    let data = Labelled::new(&case.labels, &p, case.classes).unwrap();
    let joint = ConfidentJoint::of(&data);
    let at = format!("case {number} ({})", case.kind);
    assert!(close(&joint.thresholds, &case.thresholds, 1e-15), "{at}");
    assert_eq!(joint.raw, case.raw, "{at}");
    assert_eq!(joint.counts, case.joint, "{at}");
    assert_eq!(positions(&joint.off_diagonal(&data)), case.off, "{at}");
    let options = PruneOptions { min_examples_per_class: case.minimum, frac_noise: case.frac };
    for rule in Rule::ALL {
        // cleanlab refuses this rule where all labels are one class.
        if let Some(expected) = &case.masks[rule.name()] {
            assert_eq!(&positions(&prune(&data, &joint, rule, &options).unwrap()), expected, "{at}, {}", rule.name());
        }
    }
    if let (Some(issues), Some(calibrated)) = (case.issues, case.issues_calibrated) {
        let errors = estimate(&data, &joint, &ErrorsOptions { replicates: 0, seed: 0 }).unwrap();
        assert_eq!(errors.confident, issues, "{at}");
        assert_eq!(joint.implied_errors(data.len()), calibrated, "{at}");
    }
    let scores = [
        (LabelScore::SelfConfidence, &case.self_confidence),
        (LabelScore::NormalizedMargin, &case.normalized_margin),
        (LabelScore::ConfidenceWeightedEntropy, &case.entropy),
    ];
    for (score, expected) in scores {
        if let Some(expected) = expected {
            assert!(close(&label_scores(&data, score), expected, 1e-12), "{at}, {score:?}");
        }
    }
    let noise = noise_model(&data, &joint);
    assert!(close(&noise.prior, &case.prior, 1e-12), "{at}");
    assert!(close(&noise.noise, &case.noise, 1e-12), "{at}");
    assert!(close(&noise.inverse, &case.inverse, 1e-12), "{at}");
}

#[test]
fn agrees_with_cleanlab_on_random_tied_and_degenerate_cases() {
    // Made by golden/labels.py, which can make more: FIELDMARK_GOLDEN_LABELS names another file.
    let text = match std::env::var("FIELDMARK_GOLDEN_LABELS") {
        Ok(path) => std::fs::read_to_string(path).unwrap(),
        Err(_) => include_str!("golden/labels.json").to_string(),
    };
    let golden: Golden = serde_json::from_str(&text).unwrap();
    golden.cases.iter().enumerate().for_each(|(number, case)| agrees(number, case));
}

/// Probabilities as an honest model gives them that learned from labels with uniform noise: `sharp` is how clear the classes are.
fn noisy_world(n: usize, classes: usize, rate: f64, sharp: f64, seed: u64) -> (Vec<usize>, Vec<bool>, Vec<f64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut labels, mut wrong, mut p) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..n {
        let z: Vec<f64> = (0..classes).map(|_| (sharp * rng.random::<f64>()).exp()).collect();
        let sum: f64 = z.iter().sum();
        let q: Vec<f64> = z.iter().map(|v| v / sum).collect();
        let mut u = rng.random::<f64>();
        let truth = q
            .iter()
            .position(|v| {
                u -= v;
                u <= 0.0
            })
            .unwrap_or(classes - 1);
        let flipped = rng.random::<f64>() < rate;
        let given = if flipped { (truth + rng.random_range(1..classes)) % classes } else { truth };
        labels.push(given);
        wrong.push(flipped);
        p.extend(q.iter().map(|v| v * (1.0 - rate) + (1.0 - v) * rate / (classes - 1) as f64));
    }
    (labels, wrong, p)
}

#[test]
fn the_expected_number_of_errors_is_near_the_truth_where_model_and_classes_are_clear() {
    for (rate, seed) in [(0.03, 1), (0.1, 2), (0.2, 3)] {
        let (labels, wrong, p) = noisy_world(4000, 5, rate, 150.0, seed);
        let data = Labelled::new(&labels, &p, 5).unwrap();
        let joint = ConfidentJoint::of(&data);
        let errors = estimate(&data, &joint, &ErrorsOptions::default()).unwrap();
        let truth = wrong.iter().filter(|w| **w).count() as f64;
        // Few samples lie between classes: those would count as errors in part.
        assert!((errors.expected / truth - 1.0).abs() < 0.3, "{rate}: {} for {truth}", errors.expected);
        assert!(errors.expected_ci95[0] < errors.expected && errors.expected < errors.expected_ci95[1]);
        let budget = errors.budget(truth as usize).unwrap();
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by(|&a, &b| errors.probability[b].total_cmp(&errors.probability[a]));
        let found = order[..budget.samples].iter().filter(|&&i| wrong[i]).count() as f64 / budget.samples as f64;
        assert!((found - budget.precision).abs() < 0.12, "{rate}: {found} for {budget:?}");
    }
}

#[test]
fn no_errors_are_expected_where_the_labels_are_the_predictions() {
    let labels: Vec<usize> = (0..300).map(|i| i % 3).collect();
    let p: Vec<f64> = labels.iter().flat_map(|&y| (0..3).map(move |k| if k == y { 0.98 } else { 0.01 })).collect();
    let data = Labelled::new(&labels, &p, 3).unwrap();
    let errors = estimate(&data, &ConfidentJoint::of(&data), &ErrorsOptions::default()).unwrap();
    assert_eq!(errors.confident, 0);
    assert!(errors.expected < 1.0, "{}", errors.expected);
}

#[test]
fn the_least_plausible_label_is_the_likeliest_error_even_where_the_joint_counts_none() {
    let labels: Vec<usize> = (0..400).map(|i| i % 4).collect();
    let own = |i: usize| if i == 17 { 0.3 } else { 0.9 + 0.0002 * i as f64 };
    let p: Vec<f64> = (0..400).flat_map(|i| (0..4).map(move |k| if k == i % 4 { own(i) } else { (1.0 - own(i)) / 3.0 })).collect();
    let data = Labelled::new(&labels, &p, 4).unwrap();
    let joint = ConfidentJoint::of(&data);
    assert_eq!(joint.implied_errors(400), 0);
    let errors = estimate(&data, &joint, &ErrorsOptions::default()).unwrap();
    let most = (0..400).max_by(|&a, &b| errors.probability[a].total_cmp(&errors.probability[b])).unwrap();
    assert_eq!(most, 17);
    assert!(errors.probability.iter().all(|p| *p > 0.0));
    assert!((errors.probability.iter().sum::<f64>() - 0.5).abs() < 1e-9);
}

#[test]
fn the_queue_names_what_to_change() {
    let labels = [0, 0, 0, 1, 1, 1];
    let p = [0.9, 0.1, 0.95, 0.05, 0.02, 0.98, 0.1, 0.9, 0.1, 0.9, 0.3, 0.7];
    let data = Labelled::new(&labels, &p, 2).unwrap();
    let joint = ConfidentJoint::of(&data);
    let chosen = prune(&data, &joint, Rule::default(), &PruneOptions::default()).unwrap();
    let queue = findings(&data, &chosen, LabelScore::default(), &["cat".to_string(), "dog".to_string()]);
    assert_eq!(queue.len(), 1);
    assert_eq!((queue[0].sample, queue[0].given, queue[0].suggested), (Some(2), Some(0), Some(1)));
    assert!((queue[0].score - 0.98).abs() < 1e-12);
    assert_eq!(queue[0].detail, "the given cat has probability 0.020, dog has 0.980");
    let pairs = confused_pairs(&joint);
    assert_eq!((pairs[0].given, pairs[0].truth, pairs[0].samples), (0, 1, 1));
}

#[test]
fn what_is_no_probability_is_refused() {
    let error = |labels: &[usize], p: &[f64], k: usize| Labelled::new(labels, p, k).unwrap_err().to_string();
    assert_eq!(error(&[0], &[1.0], 1), "classes: at least 2 needed, got 1");
    assert_eq!(error(&[0], &[1.0], 2), "`probabilities` has 1 entries, expected 2");
    assert_eq!(error(&[0, 2], &[1.0, 0.0, 0.0, 1.0], 2), "sample 1: label 2 is out of range, there are 2 classes (0 to 1)");
    assert_eq!(error(&[0, 1], &[1.0, 0.0, f64::NAN, 1.0], 2), "sample 1: the probability of class 0 is NaN, expected a number from 0 to 1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rules_hold_for_any_probabilities(seed in any::<u64>(), n in 0usize..80, classes in 2usize..20, rate in 0.0..0.6f64) {
        let (labels, _, p) = noisy_world(n, classes, rate, 8.0, seed);
        let data = Labelled::new(&labels, &p, classes).unwrap();
        let joint = ConfidentJoint::of(&data);
        let counts = data.counts();
        for (k, &count) in counts.iter().enumerate() {
            prop_assert_eq!((0..classes).map(|j| joint.count(k, j)).sum::<i64>(), count as i64);
        }
        let masks: Vec<Vec<bool>> = Rule::ALL.iter().map(|&r| prune(&data, &joint, r, &PruneOptions::default()).unwrap()).collect();
        for i in 0..n {
            prop_assert_eq!(masks[2][i], masks[0][i] && masks[1][i]);
            for mask in &masks {
                prop_assert!(!mask[i] || masks[4][i]);
            }
        }
    }
}
