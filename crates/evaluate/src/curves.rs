//! Curves as plain points, for whoever draws them.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ranking::Ranking;
use crate::tally::calibration_bin;
use crate::{EvaluateError, Metric, Predictions};

/// Bins of the histograms.
const HISTOGRAM_BINS: usize = 20;

/// One point of a receiver operating characteristic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RocPoint {
    /// False positives among the negatives, 0..=1.
    pub false_positive_rate: f64,
    /// True positives among the positives, 0..=1.
    pub true_positive_rate: f64,
    /// Samples with at least this probability count as positive; `None` for the starting point (nothing is).
    pub threshold: Option<f64>,
}

/// One point of a precision-recall curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrPoint {
    /// True positives among the positives, 0..=1.
    pub recall: f64,
    /// True positives among those called positive, 0..=1.
    pub precision: f64,
    /// Samples with at least this probability count as positive; `None` for the starting point (nothing is).
    pub threshold: Option<f64>,
}

/// One bin of a reliability diagram: how often predictions of about this confidence are right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Lower edge of the confidence, exclusive (the first bin includes 0).
    pub low: f64,
    /// Upper edge of the confidence, inclusive.
    pub high: f64,
    /// Samples in the bin.
    pub count: usize,
    /// Their mean confidence; `None` for an empty bin.
    pub confidence: Option<f64>,
    /// The share of them that is right; `None` for an empty bin.
    pub accuracy: Option<f64>,
}

/// How the probability of a class is spread over the samples that are of the class and those that are not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Bin edges from 0 to 1 (one more than bins).
    pub edges: Vec<f64>,
    /// Samples of the class by bin.
    pub positives: Vec<usize>,
    /// Other samples by bin.
    pub negatives: Vec<usize>,
}

/// The curves of one class against the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassCurves {
    /// The class.
    pub class: String,
    /// Receiver operating characteristic from (0, 0) to (1, 1); empty where undefined (no positives or no negatives).
    pub roc: Vec<RocPoint>,
    /// Precision-recall curve from recall 0 to 1; empty where undefined (no positives).
    pub precision_recall: Vec<PrPoint>,
    /// Area under `roc`.
    pub roc_auc: Metric,
    /// Average precision.
    pub average_precision: Metric,
    /// Spread of the class's probability.
    pub histogram: Histogram,
}

/// What a report draws: curves of each class and the reliability diagram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// One entry per class, in class order.
    pub per_class: Vec<ClassCurves>,
    /// Reliability of the top label, bins of equal width.
    pub reliability: Vec<ReliabilityBin>,
}

impl Curves {
    /// Curves of the labelled samples; each curve keeps at most `max_points` points (at least 2), ends included.
    ///
    /// # Errors
    /// When the table fails its check, no sample is labelled, or `bins` is 0.
    pub fn new(predictions: &Predictions, bins: usize, max_points: usize) -> Result<Self, EvaluateError> {
        predictions.check()?;
        if bins == 0 {
            return Err(EvaluateError::Option { option: "bins", found: 0, expected: "1 or more" });
        }
        let labelled: Vec<(usize, usize)> =
            predictions.truth.iter().enumerate().filter_map(|(sample, truth)| Some((sample, (*truth)?))).collect();
        if labelled.is_empty() {
            return Err(EvaluateError::NoTruth { samples: predictions.len() });
        }
        let per_class = (0..predictions.classes.len())
            .into_par_iter()
            .map(|class| {
                let scores = labelled.iter().map(|&(sample, truth)| (predictions.row(sample)[class], truth == class)).collect();
                class_curves(&predictions.classes[class], scores, max_points.max(2))
            })
            .collect();
        Ok(Self { per_class, reliability: reliability(predictions, &labelled, bins) })
    }
}

/// Samples at or above a threshold: true and false positives.
struct Step {
    threshold: f64,
    found: usize,
    wrong: usize,
}

fn class_curves(class: &str, mut scores: Vec<(f64, bool)>, max_points: usize) -> ClassCurves {
    let ranking = Ranking::new(scores.iter().enumerate().map(|(i, &(score, positive))| (score, i, positive)));
    let areas = ranking.areas(&vec![1; scores.len()]);
    let metric = |value: f64, reason: &str| if value.is_nan() { Metric::undefined(reason) } else { Metric::of(value) };
    scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let steps = steps(&scores);
    let positives = scores.iter().filter(|(_, positive)| *positive).count();
    ClassCurves {
        class: class.into(),
        roc: roc(&steps, positives, scores.len() - positives, max_points),
        precision_recall: precision_recall(&steps, positives, max_points),
        roc_auc: metric(areas.roc_auc, "the class is absent from the truth, or the only one in it"),
        average_precision: metric(areas.average_precision, "the class is absent from the truth"),
        histogram: histogram(&scores),
    }
}

/// One step per distinct score, falling.
fn steps(sorted: &[(f64, bool)]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut found, mut wrong) = (0, 0);
    for &(threshold, positive) in sorted {
        found += usize::from(positive);
        wrong += usize::from(!positive);
        match steps.last_mut() {
            Some(last) if last.threshold == threshold => (last.found, last.wrong) = (found, wrong),
            _ => steps.push(Step { threshold, found, wrong }),
        }
    }
    steps
}

fn roc(steps: &[Step], positives: usize, negatives: usize, max_points: usize) -> Vec<RocPoint> {
    if positives == 0 || negatives == 0 {
        return Vec::new();
    }
    let start = RocPoint { false_positive_rate: 0.0, true_positive_rate: 0.0, threshold: None };
    let points = steps.iter().map(|step| RocPoint {
        false_positive_rate: step.wrong as f64 / negatives as f64,
        true_positive_rate: step.found as f64 / positives as f64,
        threshold: Some(step.threshold),
    });
    thin(std::iter::once(start).chain(points).collect(), max_points)
}

fn precision_recall(steps: &[Step], positives: usize, max_points: usize) -> Vec<PrPoint> {
    if positives == 0 {
        return Vec::new();
    }
    let start = PrPoint { recall: 0.0, precision: 1.0, threshold: None };
    let points = steps.iter().map(|step| PrPoint {
        recall: step.found as f64 / positives as f64,
        precision: step.found as f64 / (step.found + step.wrong) as f64,
        threshold: Some(step.threshold),
    });
    thin(std::iter::once(start).chain(points).collect(), max_points)
}

/// At most `max_points` of the points, evenly picked, first and last kept.
fn thin<T: Copy>(points: Vec<T>, max_points: usize) -> Vec<T> {
    if points.len() <= max_points {
        return points;
    }
    (0..max_points).map(|i| points[i * (points.len() - 1) / (max_points - 1)]).collect()
}

fn histogram(scores: &[(f64, bool)]) -> Histogram {
    let mut positives = vec![0; HISTOGRAM_BINS];
    let mut negatives = vec![0; HISTOGRAM_BINS];
    for &(score, positive) in scores {
        let bins = if positive { &mut positives } else { &mut negatives };
        bins[((score * HISTOGRAM_BINS as f64) as usize).min(HISTOGRAM_BINS - 1)] += 1;
    }
    let edges = (0..=HISTOGRAM_BINS).map(|i| i as f64 / HISTOGRAM_BINS as f64).collect();
    Histogram { edges, positives, negatives }
}

fn reliability(predictions: &Predictions, labelled: &[(usize, usize)], bins: usize) -> Vec<ReliabilityBin> {
    let mut sums = vec![(0usize, 0.0, 0usize); bins];
    for &(sample, truth) in labelled {
        let predicted = predictions.predicted(sample);
        let confidence = predictions.row(sample)[predicted];
        let (count, confidences, right) = &mut sums[calibration_bin(confidence, bins)];
        *count += 1;
        *confidences += confidence;
        *right += usize::from(predicted == truth);
    }
    let bin = |(i, (count, confidences, right)): (usize, (usize, f64, usize))| ReliabilityBin {
        low: i as f64 / bins as f64,
        high: (i + 1) as f64 / bins as f64,
        count,
        confidence: (count > 0).then(|| confidences / count as f64),
        accuracy: (count > 0).then(|| right as f64 / count as f64),
    };
    sums.into_iter().enumerate().map(bin).collect()
}
