//! What a report is made from: plain data, computed elsewhere.

use evaluate::{Curves, Evaluation};

/// Everything one report shows. [`ReportInput::new`] fills the optional parts with nothing; a part that is empty is left out of the page.
#[derive(Clone, Debug)]
pub struct ReportInput<'a> {
    /// The heading, for instance `elpv · linear probe on efficientnet_lite0`.
    pub title: String,
    /// When the report was written, as the reader should see it.
    pub generated_at: String,
    /// The verdict in one sentence; when `None`, one is phrased from the metrics.
    pub verdict: Option<String>,
    /// What was learned from, by split.
    pub data: DataFacts,
    /// The metrics, with their intervals.
    pub evaluation: &'a Evaluation,
    /// ROC and precision–recall curves and the reliability bins.
    pub curves: Option<&'a Curves>,
    /// One entry for each fold and epoch; empty for a probe.
    pub history: Vec<Epoch>,
    /// What `val_metric` in the history is, for instance `balanced accuracy`.
    pub val_metric: String,
    /// The strengths that a probe tried; empty for anything else.
    pub sweep: Vec<SweepPoint>,
    /// Misclassified pictures; shown in falling order of the probability given to the wrong answer.
    pub errors: Vec<ErrorPicture>,
    /// The resolved recipe, as TOML text.
    pub recipe: String,
    /// Versions, machine, seed, fingerprints, durations: name and value.
    pub facts: Vec<(String, String)>,
    /// Files that could not be used: name and reason.
    pub set_aside: Vec<(String, String)>,
    /// What the reader should know before trusting the numbers.
    pub warnings: Vec<String>,
}

impl<'a> ReportInput<'a> {
    /// A report with a title and metrics only; fill in the other fields that there is something to say about.
    pub fn new(title: impl Into<String>, generated_at: impl Into<String>, evaluation: &'a Evaluation) -> ReportInput<'a> {
        ReportInput {
            title: title.into(),
            generated_at: generated_at.into(),
            verdict: None,
            data: DataFacts::default(),
            evaluation,
            curves: None,
            history: vec![],
            val_metric: "validation metric".to_owned(),
            sweep: vec![],
            errors: vec![],
            recipe: String::new(),
            facts: vec![],
            set_aside: vec![],
            warnings: vec![],
        }
    }
}

/// The data set and how it was divided.
#[derive(Clone, Debug, Default)]
pub struct DataFacts {
    /// The data set's name.
    pub name: String,
    /// Name of each split (`train`, `validation`, `test`) with the count of samples of each class, in the evaluation's class order.
    pub splits: Vec<(String, Vec<usize>)>,
    /// What the metrics were measured on, for instance `5 folds, out of fold` or `test split`.
    pub evaluated_on: String,
}

/// What one epoch of one fold ended with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Epoch {
    /// Epoch, counted from 1.
    pub epoch: usize,
    /// Fold, counted from 0; 0 where there are no folds.
    pub fold: usize,
    /// Mean training loss.
    pub train_loss: f64,
    /// Validation loss, where it was measured.
    pub val_loss: Option<f64>,
    /// The watched validation metric, where it was measured.
    pub val_metric: Option<f64>,
    /// Learning rate at the epoch's end.
    pub lr: f64,
    /// Seconds that the epoch took.
    pub seconds: f64,
}

/// One strength that a probe tried.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SweepPoint {
    /// Inverse regularisation strength, above zero.
    pub c: f64,
    /// Fold (or inner fold), counted from 0.
    pub fold: usize,
    /// Validation log loss.
    pub log_loss: f64,
    /// Whether this is the strength that was chosen.
    pub chosen: bool,
}

/// A misclassified picture with what was said about it.
#[derive(Clone, Debug, Default)]
pub struct ErrorPicture {
    /// The sample's id.
    pub id: String,
    /// An encoded JPEG or PNG, best with a longer side of about 240 pixels.
    pub bytes: Vec<u8>,
    /// The label in the data.
    pub truth: String,
    /// The label that was predicted.
    pub predicted: String,
    /// Probability given to the predicted (wrong) label, in `0..=1`.
    pub probability: f64,
    /// Probability given to the label in the data, in `0..=1`.
    pub truth_probability: Option<f64>,
}
