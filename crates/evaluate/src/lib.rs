//! Metrics, intervals, curves and slices computed from tables of predictions alone.
//!
//! A [`Predictions`] table holds, for every sample, its truth (if known) and one probability per class. [`evaluate`] turns it
//! into an [`Evaluation`]: every number with a 95 % bootstrap interval, or with the reason why it is undefined.
//!
//! ```
//! use fieldmark_evaluate::{Options, Predictions, evaluate};
//!
//! let predictions = Predictions::new(
//!     vec!["good".into(), "bad".into()],
//!     vec!["a.png".into(), "b.png".into(), "c.png".into()],
//!     vec![Some(0), Some(1), Some(1)],
//!     vec![0.9, 0.1, 0.2, 0.8, 0.6, 0.4],
//! )?;
//! let evaluation = evaluate(&predictions, &Options::default())?;
//! assert_eq!(evaluation.n, 3);
//! assert!((evaluation.scores.accuracy.value.unwrap() - 2.0 / 3.0).abs() < 1e-12);
//! assert_eq!(evaluation.scores.roc_auc_macro.value, Some(1.0));
//! # Ok::<(), fieldmark_evaluate::EvaluateError>(())
//! ```
//!
//! Definitions are those of scikit-learn; where scikit-learn warns and substitutes a number, this crate says "undefined"
//! (see [`Scores`]).

mod bootstrap;
mod curves;
mod error;
mod evaluation;
mod judge;
mod metric;
mod paired;
mod predictions;
mod ranking;
mod table;
mod tally;

pub use curves::{ClassCurves, Curves, Histogram, PrPoint, ReliabilityBin, RocPoint};
pub use error::EvaluateError;
pub use evaluation::{ClassMetrics, Evaluation, FoldScores, Folds, Options, Scores, Slice, Spread};
pub use judge::evaluate;
pub use metric::Metric;
pub use paired::{Difference, paired_difference};
pub use predictions::Predictions;
pub use ranking::average_precision;
pub use table::{Column, write_columns};
