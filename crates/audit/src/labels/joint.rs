use super::rounding::{pairwise_sum, round_preserving_sum};
use super::{Labelled, TOLERANCE, argmax};

/// The least a threshold may be: above the tolerance, so that a probability of 0 never reaches one.
const LEAST_THRESHOLD: f64 = 2e-6;
/// The threshold of a class without samples: out of reach.
const UNREACHABLE: f64 = 2.0;

/// Counts of (given label, confidently true label), and what they were counted from.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfidentJoint {
    /// Number of classes.
    pub classes: usize,
    /// For each class, the mean probability of the class over the samples labelled so.
    pub thresholds: Vec<f64>,
    /// For each sample, the class that it confidently belongs to, if any: of several, the most probable.
    pub confident: Vec<Option<usize>>,
    /// `[given, true]`, as counted; the diagonal is at least 1.
    pub raw: Vec<i64>,
    /// `[given, true]`, scaled so that the rows sum to the class counts, in whole numbers.
    pub counts: Vec<i64>,
}

impl ConfidentJoint {
    /// Counts (`cleanlab.count.compute_confident_joint`).
    pub fn of(data: &Labelled<'_>) -> Self {
        let classes = data.classes();
        let thresholds = thresholds(data);
        let confident: Vec<Option<usize>> = data.rows().map(|(_, row)| confident_class(row, &thresholds)).collect();
        let mut raw = vec![0i64; classes * classes];
        for (&given, truth) in data.labels().iter().zip(&confident) {
            if let Some(truth) = truth {
                raw[given * classes + truth] += 1;
            }
        }
        for k in 0..classes {
            raw[k * classes + k] = raw[k * classes + k].max(1);
        }
        let counts = calibrated(&raw, &data.counts());
        Self { classes, thresholds, confident, raw, counts }
    }

    /// The calibrated count of samples labelled `given` that are truly `truth`.
    pub fn count(&self, given: usize, truth: usize) -> i64 {
        self.counts[given * self.classes + truth]
    }

    /// Samples that confidently belong to another class than the given one (`confident_learning` before it asks the prediction).
    pub fn off_diagonal(&self, data: &Labelled<'_>) -> Vec<bool> {
        data.labels().iter().zip(&self.confident).map(|(given, truth)| truth.is_some_and(|t| t != *given)).collect()
    }

    /// The number of label errors that the calibrated joint implies: its share off the diagonal, of all samples.
    pub fn implied_errors(&self, samples: usize) -> usize {
        let total = self.counts.iter().sum::<i64>() as f64;
        if total <= 0.0 {
            return 0;
        }
        let joint: Vec<f64> = (0..self.classes).map(|k| self.count(k, k) as f64 / total).collect();
        ((1.0 - joint.iter().sum::<f64>()) * samples as f64).round_ties_even() as usize
    }
}

/// Mean probability of each class over its own samples.
fn thresholds(data: &Labelled<'_>) -> Vec<f64> {
    let mut own: Vec<Vec<f64>> = vec![Vec::new(); data.classes()];
    for (label, row) in data.rows() {
        own[label].push(row[label]);
    }
    own.iter().map(|values| threshold(pairwise_sum(values), values.len() as f64)).collect()
}

/// The threshold of a class whose `n` own probabilities have this sum.
pub(super) fn threshold(sum: f64, n: f64) -> f64 {
    if n > 0.0 { (sum / n).max(LEAST_THRESHOLD) } else { UNREACHABLE }
}

/// The class whose threshold the row reaches; where several are reached, the most probable class of all.
pub(super) fn confident_class(row: &[f64], thresholds: &[f64]) -> Option<usize> {
    let mut reached = row.iter().zip(thresholds).enumerate().filter(|(_, (p, t))| **p >= **t - TOLERANCE).map(|(k, _)| k);
    let first = reached.next()?;
    Some(if reached.next().is_some() { argmax(row) } else { first })
}

/// Rows scaled to the class counts and rounded (`cleanlab.count.calibrate_confident_joint`).
fn calibrated(raw: &[i64], label_counts: &[usize]) -> Vec<i64> {
    let classes = label_counts.len();
    let mut scaled = vec![0.0; raw.len()];
    // Column by column: the order in which the total is summed.
    for given in 0..classes {
        let row = &raw[given * classes..(given + 1) * classes];
        let sum = row.iter().sum::<i64>().max(1) as f64;
        for truth in 0..classes {
            scaled[truth * classes + given] = row[truth] as f64 / sum * label_counts[given] as f64;
        }
    }
    let total = pairwise_sum(&scaled).max(1e-100);
    let samples = label_counts.iter().sum::<usize>() as f64;
    (0..classes)
        .flat_map(|given| {
            let row: Vec<f64> = (0..classes).map(|truth| scaled[truth * classes + given] / total * samples).collect();
            round_preserving_sum(&row)
        })
        .collect()
}
