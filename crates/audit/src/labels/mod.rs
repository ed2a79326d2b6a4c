//! Labels that are probably wrong, from probabilities that a model gave without having seen the sample (out of fold).
//!
//! Scores, the confident joint and the prune rules are those of confident learning (Northcutt, Jiang and Chuang 2021, *Confident Learning:
//! Estimating Uncertainty in Dataset Labels*) as cleanlab 2.9 defines them, item for item; see `tests/golden/labels.py`.
//!
//! LabelFix (Müller and Markert 2019, *Identifying Mislabeled Instances in Classification Datasets*) is the same self-confidence, ranked, with
//! other probabilities: of a network trained once on all samples (class weights, early stopping) that predicts those same samples.

mod errors;
mod joint;
mod noise;
mod prune;
mod queue;
mod rounding;
mod scores;

pub use errors::{Budget, Errors, ErrorsOptions, estimate};
pub use joint::ConfidentJoint;
pub use noise::{NoiseModel, noise_model};
pub use prune::{PruneOptions, Rule, prune};
pub use queue::{ConfusedPair, confused_pairs, findings, suggested};
pub use scores::{LabelScore, label_scores};

use crate::InputError;

/// How much less than a threshold still counts as reaching it.
const TOLERANCE: f64 = 1e-6;

/// Labels and one probability per class for each sample, checked.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    labels: &'a [usize],
    probabilities: &'a [f64],
    classes: usize,
}

impl<'a> Labelled<'a> {
    /// `labels` `[n]` as class indices, `probabilities` `[n, classes]` row by row, each in `0..=1`.
    ///
    /// # Errors
    /// Fewer than two classes, sizes that disagree, a label out of range, a value that is not a probability.
    pub fn new(labels: &'a [usize], probabilities: &'a [f64], classes: usize) -> Result<Self, InputError> {
        if classes < 2 {
            return Err(InputError::TooFew { what: "classes", least: 2, found: classes });
        }
        if probabilities.len() != labels.len() * classes {
            return Err(InputError::Length { what: "probabilities", expected: labels.len() * classes, found: probabilities.len() });
        }
        if let Some(sample) = labels.iter().position(|&label| label >= classes) {
            return Err(InputError::Label { sample, label: labels[sample], classes });
        }
        // NaN fails both comparisons; a rounding step beyond the ends is no error.
        if let Some(at) = probabilities.iter().position(|p| !(*p >= -TOLERANCE && *p <= 1.0 + TOLERANCE)) {
            return Err(InputError::Probability { sample: at / classes, class: at % classes, found: probabilities[at] });
        }
        Ok(Self { labels, probabilities, classes })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The given label of a sample.
    pub fn label(&self, sample: usize) -> usize {
        self.labels[sample]
    }

    /// The given labels.
    pub fn labels(&self) -> &'a [usize] {
        self.labels
    }

    /// The probabilities of a sample, one per class.
    pub fn row(&self, sample: usize) -> &'a [f64] {
        &self.probabilities[sample * self.classes..(sample + 1) * self.classes]
    }

    /// Labels with their rows.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &'a [f64])> {
        self.labels.iter().copied().zip(self.probabilities.chunks_exact(self.classes))
    }

    /// Samples of each class.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        self.labels.iter().for_each(|&label| counts[label] += 1);
        counts
    }
}

/// The first of the largest.
pub(crate) fn argmax(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best })
}
