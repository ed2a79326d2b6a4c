//! The shape of a judgement: what is serialised, shown and compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Metric;

/// What to compute besides the plain numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Bootstrap replicates; 0 for none, then no metric has an interval.
    pub bootstrap: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Columns to slice by.
    pub slices: Vec<String>,
    /// The k of top-k accuracies; those not smaller than the number of classes are left out (always right).
    pub top_k: Vec<usize>,
    /// Bins of the expected calibration error.
    pub ece_bins: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { bootstrap: 1000, seed: 0, slices: Vec::new(), top_k: vec![2, 3, 5], ece_bins: 15 }
    }
}

/// The scalar metrics of one set of samples.
///
/// Definitions are scikit-learn's. A value that does not exist is `None` with a reason; where scikit-learn warns and substitutes a
/// number, the policy is:
/// - a class's precision, recall or F1 with an empty denominator is undefined for the class and counts as 0 in the macro and
///   weighted means (`zero_division=0`), which therefore always exist; `balanced_accuracy` leaves absent classes out;
/// - ROC-AUC and average precision of a class that is absent are undefined, and so is their macro mean;
/// - kappa and the Matthews correlation are undefined where they are 0 / 0.
///
/// Intervals are 95 % percentile intervals of a bootstrap over samples. A metric that is undefined in some replicates (a rare
/// class was not drawn) takes its interval from the others, and has none if those are fewer than half. On very large tables the
/// metrics of rankings use fewer replicates, at least 100. A bootstrap cannot see what is not in the sample: on a handful of
/// samples, or where all are right, it is too narrow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Share of samples whose most probable class is the truth.
    pub accuracy: Metric,
    /// Mean recall of the classes that occur in the truth.
    pub balanced_accuracy: Metric,
    /// Unweighted mean precision of all classes; undefined ones count as 0.
    pub macro_precision: Metric,
    /// Unweighted mean recall of all classes; undefined ones count as 0.
    pub macro_recall: Metric,
    /// Unweighted mean F1 of all classes; undefined ones count as 0.
    pub macro_f1: Metric,
    /// Precision over pooled decisions (with one label per sample: the accuracy).
    pub micro_precision: Metric,
    /// Recall over pooled decisions (with one label per sample: the accuracy).
    pub micro_recall: Metric,
    /// F1 over pooled decisions (with one label per sample: the accuracy).
    pub micro_f1: Metric,
    /// Mean precision weighted by support; undefined ones count as 0.
    pub weighted_precision: Metric,
    /// Mean recall weighted by support.
    pub weighted_recall: Metric,
    /// Mean F1 weighted by support.
    pub weighted_f1: Metric,
    /// Mean one-vs-rest area under the ROC curve; with two classes that of the second (positive) class. Undefined when a class
    /// is absent.
    pub roc_auc_macro: Metric,
    /// Area under the ROC curve of all (sample, class) decisions pooled.
    pub roc_auc_micro: Metric,
    /// Mean one-vs-rest area weighted by support; absent classes weigh nothing.
    pub roc_auc_weighted: Metric,
    /// Mean average precision of the classes; with two classes that of the second (positive) class. Undefined when a class is
    /// absent.
    pub average_precision_macro: Metric,
    /// Mean negative natural logarithm of the truth's probability, clipped to `f64` epsilon.
    pub log_loss: Metric,
    /// Mean over samples of the summed squared error of the probabilities (0..=2); with two classes half of it (0..=1), the
    /// squared error of the positive class.
    pub brier: Metric,
    /// Expected calibration error of the top label, bins of equal width.
    pub ece: Metric,
    /// Cohen's kappa.
    pub kappa: Metric,
    /// Matthews correlation coefficient.
    pub mcc: Metric,
    /// Top-k accuracies by k. Of equal probabilities the later class ranks first, as in scikit-learn.
    #[serde(deserialize_with = "top_k_from_strings")]
    pub top_k: BTreeMap<usize, Metric>,
}

impl Scores {
    /// Names and metrics in the order of a table; the names are the JSON keys. Top-k accuracies are in `top_k`.
    pub fn summary(&self) -> Vec<(&'static str, &Metric)> {
        vec![
            ("accuracy", &self.accuracy),
            ("balanced_accuracy", &self.balanced_accuracy),
            ("macro_precision", &self.macro_precision),
            ("macro_recall", &self.macro_recall),
            ("macro_f1", &self.macro_f1),
            ("micro_precision", &self.micro_precision),
            ("micro_recall", &self.micro_recall),
            ("micro_f1", &self.micro_f1),
            ("weighted_precision", &self.weighted_precision),
            ("weighted_recall", &self.weighted_recall),
            ("weighted_f1", &self.weighted_f1),
            ("roc_auc_macro", &self.roc_auc_macro),
            ("roc_auc_micro", &self.roc_auc_micro),
            ("roc_auc_weighted", &self.roc_auc_weighted),
            ("average_precision_macro", &self.average_precision_macro),
            ("log_loss", &self.log_loss),
            ("brier", &self.brier),
            ("ece", &self.ece),
            ("kappa", &self.kappa),
            ("mcc", &self.mcc),
        ]
    }

    /// The metric of that name (a key of [`Scores::summary`]).
    pub fn get(&self, name: &str) -> Option<&Metric> {
        self.summary().into_iter().find(|(key, _)| *key == name).map(|(_, metric)| metric)
    }
}

/// Keys of a flattened map arrive as text whatever their type.
fn top_k_from_strings<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<usize, Metric>, D::Error> {
    let by_name = BTreeMap::<String, Metric>::deserialize(deserializer)?;
    let number = |(k, metric): (String, Metric)| Ok((k.parse().map_err(serde::de::Error::custom)?, metric));
    by_name.into_iter().map(number).collect()
}

/// The metrics of one class against the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// The class.
    pub class: String,
    /// Samples that are of the class.
    pub support: usize,
    /// Samples called that class.
    pub predicted: usize,
    /// Share of the predicted that are right; undefined when nothing is predicted as the class.
    pub precision: Metric,
    /// Share of the support that is found; undefined when the class is absent.
    pub recall: Metric,
    /// Harmonic mean of both; undefined when the class is neither present nor predicted.
    pub f1: Metric,
    /// One-vs-rest area under the ROC curve; undefined when the class is absent or the only one.
    pub roc_auc: Metric,
    /// Average precision; undefined when the class is absent.
    pub average_precision: Metric,
}

/// The samples that share a value of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The column.
    pub column: String,
    /// Its value.
    pub value: String,
    /// Labelled samples with that value.
    pub n: usize,
    /// Classes without a sample in the slice: they count as 0 in the macro means.
    pub absent_classes: Vec<String>,
    /// Their metrics.
    #[serde(flatten)]
    pub scores: Scores,
}

/// One metric over the folds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Folds in which the metric is defined.
    pub folds: usize,
    /// Mean over those folds; `None` if there are none.
    pub mean: Option<f64>,
    /// Sample standard deviation over those folds; `None` with fewer than two.
    pub std: Option<f64>,
}

/// The metrics of the samples held out in one fold (no intervals).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoldScores {
    /// The fold.
    pub fold: usize,
    /// Its labelled samples.
    pub n: usize,
    /// Their metrics.
    #[serde(flatten)]
    pub scores: Scores,
}

/// How the metrics vary from fold to fold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Folds {
    /// One entry per fold, in order.
    pub per_fold: Vec<FoldScores>,
    /// Mean and spread by metric (the keys of [`Scores::summary`]).
    pub spread: BTreeMap<String, Spread>,
}

/// The judgement on a table of predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Labelled samples: those that were judged.
    pub n: usize,
    /// Samples without a known class: set aside.
    pub unlabelled: usize,
    /// Class names in order.
    pub classes: Vec<String>,
    /// Classes that no sample is of.
    pub absent_classes: Vec<String>,
    /// Metrics of all samples (out of fold, when the table has folds); their keys stand beside `n` in JSON.
    #[serde(flatten)]
    pub scores: Scores,
    /// One entry per class, in class order.
    pub per_class: Vec<ClassMetrics>,
    /// Counts by truth (rows) and prediction (columns), `[k][k]`.
    pub confusion: Vec<Vec<usize>>,
    /// Slices in the order of the asked columns, values sorted.
    pub slices: Vec<Slice>,
    /// Variation from fold to fold, when the table has folds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folds: Option<Folds>,
    /// The options used.
    pub options: Options,
}

impl Evaluation {
    /// Names and metrics in the order of a table; the names are the JSON keys.
    pub fn summary(&self) -> Vec<(&'static str, &Metric)> {
        self.scores.summary()
    }
}
