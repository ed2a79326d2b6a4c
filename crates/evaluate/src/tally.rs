//! One pass of arithmetic over weighted samples: the plain numbers are the pass with weight one, each bootstrap replicate is
//! the pass with the counts of its draws. Whatever can be computed once per sample, sorting above all, is done beforehand.

use rayon::prelude::*;

use crate::Predictions;
use crate::predictions::argmax;
use crate::ranking::Ranking;

/// Metrics of the whole set, in the order in which [`Prepared::score`] writes them (and of [`crate::Scores::summary`]).
pub(crate) const NAMES: [&str; 20] = [
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "micro_precision",
    "micro_recall",
    "micro_f1",
    "weighted_precision",
    "weighted_recall",
    "weighted_f1",
    "roc_auc_macro",
    "roc_auc_micro",
    "roc_auc_weighted",
    "average_precision_macro",
    "log_loss",
    "brier",
    "ece",
    "kappa",
    "mcc",
];

/// Which of [`NAMES`] need the sorted probabilities.
const RANKED: std::ops::Range<usize> = 11..15;

/// Metrics of one class: precision, recall, F1, ROC-AUC, average precision.
pub(crate) const PER_CLASS: usize = 5;

/// The bin of a confidence among `bins` of equal width: (low, high], the first includes 0.
pub(crate) fn calibration_bin(confidence: f64, bins: usize) -> usize {
    ((confidence * bins as f64).ceil() as usize).clamp(1, bins) - 1
}

/// Labelled samples, prepared to be scored many times under different weights.
pub(crate) struct Prepared {
    classes: usize,
    truth: Vec<u32>,
    predicted: Vec<u32>,
    /// Classes ranked before the truth; among equals the higher index comes first, as in scikit-learn.
    rank: Vec<u32>,
    log_loss: Vec<f64>,
    brier: Vec<f64>,
    confidence: Vec<f64>,
    bin: Vec<u32>,
    bins: usize,
    top_k: Vec<usize>,
    by_class: Vec<Ranking>,
    pooled: Ranking,
}

/// Counts by class, from which all metrics of decisions follow.
struct Counts {
    support: Vec<u64>,
    predicted: Vec<u64>,
    correct: Vec<u64>,
}

/// Sums over samples.
struct Sums {
    log_loss: f64,
    brier: f64,
    ece: f64,
    top: Vec<u64>,
}

impl Prepared {
    /// Prepares the labelled ones among `samples`.
    pub(crate) fn new(predictions: &Predictions, samples: &[usize], bins: usize, top_k: &[usize]) -> Self {
        let classes = predictions.classes.len();
        let labelled: Vec<(usize, usize)> = samples.iter().filter_map(|&i| Some((i, predictions.truth[i]?))).collect();
        let row = |i: usize| predictions.row(i);
        let truth: Vec<u32> = labelled.iter().map(|&(_, t)| t as u32).collect();
        let confidence: Vec<f64> = labelled.iter().map(|&(i, _)| row(i)[predictions.predicted(i)]).collect();
        let by_class = (0..classes)
            .into_par_iter()
            .map(|class| Ranking::new(labelled.iter().enumerate().map(|(at, &(i, t))| (row(i)[class], at, t == class))))
            .collect();
        let pooled =
            labelled.iter().enumerate().flat_map(|(at, &(i, t))| row(i).iter().enumerate().map(move |(class, &p)| (p, at, t == class)));
        Self {
            classes,
            predicted: labelled.iter().map(|&(i, _)| argmax(row(i)) as u32).collect(),
            rank: labelled.iter().map(|&(i, t)| rank_of(row(i), t)).collect(),
            log_loss: labelled.iter().map(|&(i, t)| -row(i)[t].clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln()).collect(),
            brier: labelled.iter().map(|&(i, t)| brier(row(i), t)).collect(),
            bin: confidence.iter().map(|&c| calibration_bin(c, bins) as u32).collect(),
            bins,
            top_k: top_k.iter().copied().filter(|&k| k < classes).collect(),
            by_class,
            pooled: Ranking::new(pooled),
            truth,
            confidence,
        }
    }

    /// Number of labelled samples.
    pub(crate) fn len(&self) -> usize {
        self.truth.len()
    }

    /// The k of the top-k accuracies that are computed.
    pub(crate) fn top_k(&self) -> &[usize] {
        &self.top_k
    }

    /// Numbers that [`Prepared::score`] writes: [`NAMES`], then top-k, then [`PER_CLASS`] for each class.
    pub(crate) fn width(&self) -> usize {
        self.class_offset(self.classes)
    }

    /// Where the numbers of a class begin.
    pub(crate) fn class_offset(&self, class: usize) -> usize {
        NAMES.len() + self.top_k.len() + PER_CLASS * class
    }

    /// Whether the number at that position needs the sorted probabilities.
    pub(crate) fn is_ranked(&self, position: usize) -> bool {
        let first = self.class_offset(0);
        RANKED.contains(&position) || position >= first && (position - first) % PER_CLASS >= 3
    }

    /// How many sorted entries one score visits.
    pub(crate) fn ranked_cost(&self) -> usize {
        2 * self.pooled.len()
    }

    /// Counts by truth (rows) and prediction (columns).
    pub(crate) fn confusion(&self) -> Vec<Vec<usize>> {
        let mut confusion = vec![vec![0; self.classes]; self.classes];
        for (&t, &p) in self.truth.iter().zip(&self.predicted) {
            confusion[t as usize][p as usize] += 1;
        }
        confusion
    }

    /// All metrics with each sample counted `weights[sample]` times; NaN where undefined. Without `ranked` the metrics that need
    /// sorted probabilities are left NaN.
    pub(crate) fn score(&self, weights: &[u32], ranked: bool) -> Vec<f64> {
        let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
        let n = total as f64;
        let counts = self.counts(weights);
        let sums = self.sums(weights);
        let mut values = vec![f64::NAN; self.width()];
        for class in 0..self.classes {
            let [precision, recall, f1] = counts.class(class);
            let at = self.class_offset(class);
            values[at..at + 3].copy_from_slice(&[precision, recall, f1]);
        }
        if ranked {
            self.rank_classes(weights, &mut values);
            self.summarise_ranks(weights, &counts, n, &mut values);
        }
        self.summarise_decisions(&counts, total, &mut values);
        values[15..18].copy_from_slice(&[sums.log_loss / n, sums.brier / n, sums.ece / n]);
        for (slot, hits) in values[NAMES.len()..].iter_mut().zip(&sums.top) {
            *slot = *hits as f64 / n;
        }
        values
    }

    fn counts(&self, weights: &[u32]) -> Counts {
        let zeros = vec![0; self.classes];
        let mut counts = Counts { support: zeros.clone(), predicted: zeros.clone(), correct: zeros };
        for ((&t, &p), &w) in self.truth.iter().zip(&self.predicted).zip(weights) {
            let w = u64::from(w);
            counts.support[t as usize] += w;
            counts.predicted[p as usize] += w;
            counts.correct[t as usize] += if t == p { w } else { 0 };
        }
        counts
    }

    fn sums(&self, weights: &[u32]) -> Sums {
        let mut sums = Sums { log_loss: 0.0, brier: 0.0, ece: 0.0, top: vec![0; self.top_k.len()] };
        // Per bin: how much more confident than right, summed over its samples.
        let mut excess = vec![0.0; self.bins];
        for (i, &weight) in weights.iter().enumerate() {
            if weight == 0 {
                continue;
            }
            let w = f64::from(weight);
            sums.log_loss += w * self.log_loss[i];
            sums.brier += w * self.brier[i];
            let hit = if self.truth[i] == self.predicted[i] { 1.0 } else { 0.0 };
            excess[self.bin[i] as usize] += w * (self.confidence[i] - hit);
            for (hits, &k) in sums.top.iter_mut().zip(&self.top_k) {
                *hits += if (self.rank[i] as usize) < k { u64::from(weight) } else { 0 };
            }
        }
        sums.ece = excess.iter().map(|e| e.abs()).sum();
        sums
    }

    fn rank_classes(&self, weights: &[u32], values: &mut [f64]) {
        for (class, ranking) in self.by_class.iter().enumerate() {
            let areas = ranking.areas(weights);
            let at = self.class_offset(class);
            values[at + 3] = areas.roc_auc;
            values[at + 4] = areas.average_precision;
        }
    }

    fn summarise_ranks(&self, weights: &[u32], counts: &Counts, n: f64, values: &mut [f64]) {
        let of = |class: usize, field: usize| values[self.class_offset(class) + field];
        let k = self.classes;
        let mean = |field: usize| (0..k).map(|class| of(class, field)).sum::<f64>() / k as f64;
        let (auc, weighted, ap) = if k == 2 {
            // The second class is the positive one.
            (of(1, 3), of(1, 3), of(1, 4))
        } else {
            let present = (0..k).filter(|&class| counts.support[class] > 0);
            (mean(3), present.map(|class| counts.support[class] as f64 * of(class, 3)).sum::<f64>() / n, mean(4))
        };
        values[RANKED].copy_from_slice(&[auc, self.pooled.roc_auc(weights), weighted, ap]);
    }

    fn summarise_decisions(&self, counts: &Counts, total: u64, values: &mut [f64]) {
        let n = total as f64;
        let accuracy = counts.correct.iter().sum::<u64>() as f64 / n;
        let mut plain = [0.0; 3];
        let mut weighted = [0.0; 3];
        let (mut recalls, mut present) = (0.0, 0u32);
        for (class, &support) in counts.support.iter().enumerate() {
            for (field, value) in counts.class(class).into_iter().enumerate() {
                let value = if value.is_nan() { 0.0 } else { value };
                plain[field] += value / self.classes as f64;
                weighted[field] += value * support as f64 / n;
                if field == 1 && support > 0 {
                    recalls += value;
                    present += 1;
                }
            }
        }
        values[0] = accuracy;
        values[1] = recalls / f64::from(present);
        values[2..5].copy_from_slice(&plain);
        values[5..8].fill(accuracy);
        values[8..11].copy_from_slice(&weighted);
        (values[18], values[19]) = counts.agreement(total);
    }
}

impl Counts {
    /// Precision, recall and F1 of a class; NaN where undefined.
    fn class(&self, class: usize) -> [f64; 3] {
        let (s, p, c) = (self.support[class], self.predicted[class], self.correct[class]);
        let ratio = |a: u64, b: u64| if b == 0 { f64::NAN } else { a as f64 / b as f64 };
        [ratio(c, p), ratio(c, s), ratio(2 * c, s + p)]
    }

    /// Cohen's kappa and the Matthews correlation (Gorodkin 2004); NaN where undefined.
    fn agreement(&self, total: u64) -> (f64, f64) {
        let dot = |a: &[u64], b: &[u64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<u64>();
        let correct: u64 = self.correct.iter().sum();
        let square = total * total;
        let by_chance = dot(&self.support, &self.predicted);
        let kappa = if by_chance == square { f64::NAN } else { 1.0 - (total * (total - correct)) as f64 / (square - by_chance) as f64 };
        let spread = (square - dot(&self.support, &self.support)) as f64 * (square - dot(&self.predicted, &self.predicted)) as f64;
        let covariance = (correct * total) as f64 - by_chance as f64;
        (kappa, if spread == 0.0 { f64::NAN } else { covariance / spread.sqrt() })
    }
}

fn rank_of(row: &[f64], truth: usize) -> u32 {
    row.iter().enumerate().filter(|&(class, &p)| p > row[truth] || p == row[truth] && class > truth).count() as u32
}

/// Squared error of a distribution; halved for two classes, where it is that of the positive class.
fn brier(row: &[f64], truth: usize) -> f64 {
    if let [_, positive] = row {
        return (positive - truth as f64).powi(2);
    }
    row.iter().enumerate().map(|(class, &p)| (p - if class == truth { 1.0 } else { 0.0 }).powi(2)).sum()
}
