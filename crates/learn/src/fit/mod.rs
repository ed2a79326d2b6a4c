//! The training loop: epochs over batches, validation, early stopping, checkpoints.

mod checkpoint;
mod kept;
mod loss;
mod options;
mod run;
mod targets;
mod trainer;
mod validate;

pub use loss::{Targets, cross_entropy};
pub(crate) use options::BURN_BF16;
pub use options::{Backend, BatchNormMode, ClassWeighting, EarlyStopping, FitOptions, Metric, OptimizerKind, Precision, SamplerKind};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use data::{Dataset, LoaderOptions};
use graph::{Graph, Weights};

use crate::{DeviceKind, LearnError};

pub(crate) use run::groups;
pub(crate) use targets::TargetMaker;
pub(crate) use trainer::Trainer;

/// What is fitted to what.
#[derive(Debug, Clone)]
pub struct FitTask {
    /// The network.
    pub graph: Graph,
    /// Its weights at the beginning.
    pub weights: Weights,
    /// The samples.
    pub dataset: Arc<Dataset>,
    /// Those that are trained on; each with a target.
    pub train: Vec<usize>,
    /// Those that choose the best epoch; may be empty, then the last epoch is kept.
    pub validation: Vec<usize>,
    /// Preprocessing, augmentation (of training only), workers. Its batch size and seed are replaced by those of the options.
    pub loading: LoaderOptions,
    /// Where it runs.
    pub device: DeviceKind,
    /// Where the state is kept after each epoch and on interruption; `None` keeps none.
    pub checkpoint: Option<PathBuf>,
    /// Continues from `checkpoint` where that file exists.
    pub resume: bool,
}

/// How a fit ended.
#[derive(Debug, Clone)]
pub enum FitOutcome {
    /// All epochs, or early stopping.
    Finished(Fitted),
    /// The stop flag was raised; the checkpoint (if any) holds everything needed to go on.
    Interrupted {
        /// The epoch in which it stopped, from 0.
        epoch: usize,
        /// Batches done in that epoch.
        step: usize,
    },
}

/// A finished fit.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The weights to keep: those of the best epoch (or the last), averaged where EMA is on.
    pub weights: Weights,
    /// One record an epoch.
    pub history: Vec<EpochRecord>,
    /// The epoch whose weights were kept, from 0.
    pub best_epoch: usize,
    /// The validation metric there.
    pub best_metric: Option<f64>,
    /// Whether patience ran out before the last epoch.
    pub stopped_early: bool,
    /// Samples that could not be read, with the reason.
    pub failed: Vec<(usize, String)>,
}

/// What an epoch came to.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EpochRecord {
    /// From 0.
    pub epoch: usize,
    /// Mean training loss over the epoch's images.
    pub train_loss: f64,
    /// Mean cross-entropy on the validation samples.
    pub validation_loss: Option<f64>,
    /// Name of the validation metric.
    pub metric: String,
    /// Its value; `None` without validation samples or where it is undefined.
    pub metric_value: Option<f64>,
    /// Learning rate of the epoch's last update.
    pub learning_rate: f64,
    /// Training images a second.
    pub images_per_second: f64,
    /// Seconds of the epoch with validation.
    pub seconds: f64,
    /// Seconds of them in which training waited for pictures to be read and augmented.
    #[serde(default)]
    pub data_seconds: f64,
}

/// Progress of a fit, after every batch and every epoch.
#[derive(Debug, Clone)]
pub enum FitEvent<'a> {
    /// A batch was learned.
    Step {
        /// From 0.
        epoch: usize,
        /// Epochs in all.
        epochs: usize,
        /// Batches done in this epoch.
        step: usize,
        /// Batches of an epoch.
        steps: usize,
        /// Mean loss of this epoch so far.
        loss: f64,
        /// The rate now.
        learning_rate: f64,
        /// Over this epoch so far.
        images_per_second: f64,
        /// Time to the end of the last epoch, validation included from the second epoch on.
        eta: Duration,
    },
    /// An epoch ended.
    Epoch {
        /// What it came to.
        record: &'a EpochRecord,
        /// Whether it is the best so far.
        best: bool,
    },
}

/// Fits `task` as `options` say, telling `observe` of every step; stops with a checkpoint at the next update after `stop` is raised.
///
/// # Errors
/// Options out of range, samples without targets, a checkpoint of another fit, a loss that is not finite, and what the loader or the
/// device report.
pub fn fit(
    task: FitTask,
    options: &FitOptions,
    observe: &mut dyn FnMut(FitEvent<'_>),
    stop: &AtomicBool,
) -> Result<FitOutcome, LearnError> {
    kernels::keep_freed_memory();
    run::Run::new(task, options)?.run(observe, stop)
}
