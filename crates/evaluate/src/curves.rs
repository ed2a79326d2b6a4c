use serde::{Deserialize, Serialize};

use crate::{EvaluateError, Metric, Predictions};

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
    /// Curves of the labelled samples; each curve keeps at most `max_points` points (at least 2).
    ///
    /// # Errors
    /// When the table fails its check or no sample is labelled.
    pub fn new(predictions: &Predictions, bins: usize, max_points: usize) -> Result<Self, EvaluateError> {
        let _ = (predictions, bins, max_points);
        unimplemented!()
    }
}
