//! Whatever changes weights: fitting, probes, fine-tuning, recipes and run folders.

mod device;
mod error;
pub mod fit;
mod logistic;
mod progress;
mod run_folder;
pub mod schedule;
mod tensorboard;

pub use device::DeviceKind;
pub use error::LearnError;
pub use fit::{FitEvent, FitOptions, FitOutcome, FitTask, Fitted, fit};
