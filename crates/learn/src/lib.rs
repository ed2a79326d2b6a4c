//! Whatever changes weights: fitting, probes, fine-tuning, recipes and run folders.

mod audited;
mod backbone;
mod device;
mod error;
pub mod features;
pub mod find_lr;
pub mod fit;
mod gain;
pub mod logistic;
pub mod network;
pub mod optim;
mod out_of_fold;
mod plan;
mod probe;
pub mod progress;
mod recipe;
mod run_folder;
pub mod schedule;
mod screen;
mod tensorboard;
mod train;

pub use audited::{AuditOptions, Audited, audit};
pub use backbone::{Backbone, Look};
pub use device::DeviceKind;
pub use error::LearnError;
pub use find_lr::{LrRange, find_lr};
pub use fit::{FitEvent, FitOptions, FitOutcome, FitTask, Fitted, fit};
pub use gain::{Gain, SelfTest, audit_self_test, gain};
pub use network::Network;
pub use out_of_fold::OutOfFold;
pub use plan::Plan;
pub use probe::{Probe, ProbeData, Strength};
pub use recipe::{DataRecipe, EvaluateRecipe, HeadStart, Method, NetworkRecipe, ProbeRecipe, Recipe};
pub use run_folder::{MetricsLog, RunFolder};
pub use train::{Account, TrainOptions, Trained, find_learning_rate, slice_columns, softmax_rows, table, train};
