use serde::{Deserialize, Serialize};

use crate::{EvaluateError, Metric, Options, Predictions};

/// The difference in accuracy of two classifiers on the same samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Samples that both tables judge.
    pub n: usize,
    /// Accuracy of the first on them.
    pub first: f64,
    /// Accuracy of the second on them.
    pub second: f64,
    /// `second - first` with its paired bootstrap interval.
    pub difference: Metric,
}

/// Compares the accuracy of two tables on the samples they share (by id), resampling pairs.
///
/// # Errors
/// When the tables have different classes, contradict each other on a truth, repeat an id, or share no labelled sample.
pub fn paired_difference(first: &Predictions, second: &Predictions, options: &Options) -> Result<Difference, EvaluateError> {
    let _ = (first, second, options);
    unimplemented!()
}
