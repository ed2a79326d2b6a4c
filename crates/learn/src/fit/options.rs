//! The settings of a fit: the `[fit]` table of a recipe.

use std::collections::BTreeMap;

use graph::Graph;
use serde::{Deserialize, Serialize};

use crate::schedule::{Schedule, ScheduleKind};

/// How the weights are fitted. Every field has a default; in a recipe this is the `[fit]` table.
///
/// ```
/// let options = learn::FitOptions { epochs: 3, lr: 2e-3, ..Default::default() };
/// assert!(options.check().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FitOptions {
    /// Passes over the training samples.
    pub epochs: usize,
    /// Images a batch.
    pub batch_size: usize,
    /// Batches whose gradients are averaged, weighted as their samples are, before each update; the update then sees
    /// `accumulate × batch_size` images.
    pub accumulate: usize,
    /// Leaves out a last batch smaller than `batch_size` (batch statistics of few images are noisy); kept where it is the only one.
    pub drop_last: bool,
    /// The update rule.
    pub optimizer: OptimizerKind,
    /// Highest learning rate, before the multipliers of the stages.
    pub lr: f64,
    /// SGD: share of the old direction that is kept.
    pub momentum: f64,
    /// SGD: looks one step ahead (Nesterov).
    pub nesterov: bool,
    /// AdamW: decay of the gradient's first and second moments.
    pub betas: [f64; 2],
    /// AdamW: added to the denominator.
    pub eps: f64,
    /// Weight decay: decoupled for AdamW, added to the gradient for SGD, as in PyTorch.
    pub weight_decay: f64,
    /// Whether weight decay also reaches norms, biases and embeddings.
    pub decay_norms_and_biases: bool,
    /// L1 penalty on kernels and matrices.
    pub l1: f64,
    /// How the learning rate moves over the updates.
    pub schedule: ScheduleKind,
    /// `schedule = "cosine"`: the last rate as a share of the highest.
    pub final_factor: f64,
    /// `schedule = "one_cycle"`: share of the updates in which the rate rises.
    pub pct_start: f64,
    /// `schedule = "one_cycle"`: the first rate is this many times smaller than the highest.
    pub div: f64,
    /// `schedule = "one_cycle"`: the last rate is this many times smaller than the highest.
    pub div_final: f64,
    /// Epochs (fractions allowed) in which the rate rises linearly from almost zero, before the schedule begins.
    pub warmup_epochs: f64,
    /// Share of the target's mass that is spread over all classes.
    pub label_smoothing: f32,
    /// Weights of the classes in the loss.
    pub class_weighting: ClassWeighting,
    /// `class_weighting = "effective"`: β of Cui et al. (2019).
    pub effective_beta: f64,
    /// The order in which samples are drawn.
    pub sampler: SamplerKind,
    /// Largest global norm of the gradient; 0 turns clipping off.
    pub clip: f64,
    /// Decay of the moving average of the weights that is validated and kept (.999, say); 0 turns it off. It warms up:
    /// update `t` uses `min(ema, (1 + t) / (10 + t))`.
    pub ema: f64,
    /// The validation metric that chooses the best epoch, and when to give up.
    pub early_stopping: EarlyStopping,
    /// Stages whose weights stay as they are.
    pub freeze: Vec<String>,
    /// All stages before this one are frozen as well; `"head"` trains only the head.
    pub freeze_up_to: Option<String>,
    /// Batch norms of stages that are trained: statistics of the batch, or the stored ones.
    pub batch_norm: BatchNormMode,
    /// Seed of the order of samples, augmentation, dropout and stochastic depth.
    pub seed: u64,
    /// Learning-rate multiplier by stage name; 1 where not named.
    pub stage_lr: BTreeMap<String, f64>,
    /// What computes on the CPU. Left out where it is the default, so that checkpoints of earlier versions go on.
    #[serde(skip_serializing_if = "Backend::is_default")]
    pub backend: Backend,
    /// Parts of the network whose activations are computed a second time on the way back rather than kept: less memory, about a third more
    /// time. 0 keeps all.
    #[serde(skip_serializing_if = "is_zero")]
    pub recompute: usize,
    /// How values and the gradients by them lie in memory in training; weights stay f32.
    #[serde(skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
}

/// What is wrong with bf16 by Burn.
pub(crate) const BURN_BF16: &str = "bf16 is trained by plans on the CPU alone; leave out fit.backend = \"burn\" and --device, or use f32";

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 32,
            accumulate: 1,
            drop_last: true,
            optimizer: OptimizerKind::Adamw,
            lr: 1e-3,
            momentum: 0.9,
            nesterov: true,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.01,
            decay_norms_and_biases: false,
            l1: 0.0,
            schedule: ScheduleKind::Cosine,
            final_factor: 0.0,
            pct_start: 0.25,
            div: 25.0,
            div_final: 1e5,
            warmup_epochs: 0.0,
            label_smoothing: 0.0,
            class_weighting: ClassWeighting::None,
            effective_beta: 0.999,
            sampler: SamplerKind::Shuffle,
            clip: 0.0,
            ema: 0.0,
            early_stopping: EarlyStopping::default(),
            freeze: Vec::new(),
            freeze_up_to: None,
            batch_norm: BatchNormMode::Batch,
            seed: 0,
            stage_lr: BTreeMap::new(),
            backend: Backend::Plan,
            recompute: 0,
            precision: Precision::F32,
        }
    }
}

/// What computes the passes on the CPU; on a GPU it is Burn in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// A plan that the engine compiles for training.
    #[default]
    Plan,
    /// Burn's tensors and autodiff: slower, another implementation to compare with.
    Burn,
}

impl Backend {
    #[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How values and the gradients by them lie in memory in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Their upper halves: half the memory. Arithmetic, sums, weights, their gradients, logits and the loss stay f32.
    Bf16,
}

impl Precision {
    #[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
    Adamw,
}

/// Weights of the classes in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeighting {
    /// All alike.
    None,
    /// Inversely to how often they occur.
    Balanced,
    /// By the effective number of samples (Cui et al., 2019).
    Effective,
}

/// The order in which samples are drawn in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplerKind {
    /// Each sample once, in random order.
    Shuffle,
    /// Rare classes are repeated until all are as frequent as the most frequent.
    Oversample,
}

/// What batch norms of trained stages normalise by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchNormMode {
    /// The statistics of each batch; the running ones follow.
    Batch,
    /// The running statistics, which stay as they are.
    Frozen,
}

/// The metric that chooses the best epoch on the validation samples, and how long to wait for a better one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStopping {
    /// The validation metric.
    pub metric: Metric,
    /// Epochs without a better value before training stops; 0 never stops early.
    pub patience: usize,
    /// Whether the weights of the best epoch are kept rather than the last.
    pub restore_best: bool,
}

impl Default for EarlyStopping {
    fn default() -> Self {
        Self { metric: Metric::Accuracy, patience: 0, restore_best: true }
    }
}

/// A metric of the validation samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of right answers.
    Accuracy,
    /// Mean recall of the classes.
    BalancedAccuracy,
    /// Mean F1 of the classes.
    MacroF1,
    /// Mean one-vs-rest area under the ROC curve.
    RocAucMacro,
    /// Cross-entropy in nats; lower is better.
    LogLoss,
    /// Squared error of the probabilities; lower is better.
    Brier,
    /// Matthews' correlation.
    Mcc,
}

impl Metric {
    /// Its name in recipes and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::BalancedAccuracy => "balanced_accuracy",
            Self::MacroF1 => "macro_f1",
            Self::RocAucMacro => "roc_auc_macro",
            Self::LogLoss => "log_loss",
            Self::Brier => "brier",
            Self::Mcc => "mcc",
        }
    }

    /// Whether a smaller value is better.
    pub fn is_loss(self) -> bool {
        matches!(self, Self::LogLoss | Self::Brier)
    }

    /// Whether `new` is better than `old`.
    pub fn improves(self, new: f64, old: f64) -> bool {
        if self.is_loss() { new < old } else { new > old }
    }
}

impl FitOptions {
    /// Checks every value's range.
    ///
    /// # Errors
    /// The field and what is wrong with it, as `(field, problem)`.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let at_least_1 = |name, v: usize| if v == 0 { Err((name, "expected at least 1, got 0".to_string())) } else { Ok(()) };
        let within = |name, v: f64, low: f64, high: f64| {
            if v >= low && v <= high { Ok(()) } else { Err((name, format!("expected {low}..={high}, got {v}"))) }
        };
        at_least_1("fit.epochs", self.epochs)?;
        at_least_1("fit.batch_size", self.batch_size)?;
        at_least_1("fit.accumulate", self.accumulate)?;
        within("fit.lr", self.lr, 0.0, 1e3)?;
        within("fit.momentum", self.momentum, 0.0, 0.999_999)?;
        within("fit.betas", self.betas[0], 0.0, 0.999_999_9)?;
        within("fit.betas", self.betas[1], 0.0, 0.999_999_9)?;
        within("fit.eps", self.eps, 0.0, 1.0)?;
        within("fit.weight_decay", self.weight_decay, 0.0, 1e3)?;
        within("fit.l1", self.l1, 0.0, 1e3)?;
        within("fit.warmup_epochs", self.warmup_epochs, 0.0, self.epochs as f64)?;
        within("fit.label_smoothing", f64::from(self.label_smoothing), 0.0, 0.999)?;
        within("fit.effective_beta", self.effective_beta, 0.0, 0.999_999_9)?;
        within("fit.clip", self.clip, 0.0, f64::MAX)?;
        within("fit.ema", self.ema, 0.0, 0.999_999_9)?;
        for &multiplier in self.stage_lr.values() {
            within("fit.stage_lr", multiplier, 0.0, 1e6)?;
        }
        if self.precision == Precision::Bf16 && self.backend == Backend::Burn {
            return Err(("fit.precision", BURN_BF16.into()));
        }
        self.schedule().check()
    }

    /// The schedule with its parameters.
    pub fn schedule(&self) -> Schedule {
        match self.schedule {
            ScheduleKind::Constant => Schedule::Constant,
            ScheduleKind::Cosine => Schedule::Cosine { final_factor: self.final_factor },
            ScheduleKind::OneCycle => Schedule::OneCycle { pct_start: self.pct_start, div: self.div, div_final: self.div_final },
        }
    }

    /// Which stages of `graph` are frozen, in the order of its stages.
    ///
    /// # Errors
    /// A stage that the graph does not have, with the names of those it has; or nothing left to train.
    pub fn frozen_stages(&self, graph: &Graph) -> Result<Vec<bool>, (&'static str, String)> {
        let find = |field, name: &String| {
            let position = graph.stages.iter().position(|s| s == name);
            position.ok_or_else(|| (field, format!("{} has no stage {name:?}; its stages are {}", graph.name, graph.stages.join(", "))))
        };
        let mut frozen = vec![false; graph.stages.len()];
        for name in &self.freeze {
            frozen[find("fit.freeze", name)?] = true;
        }
        if let Some(name) = &self.freeze_up_to {
            let end = find("fit.freeze_up_to", name)?;
            frozen[..end].fill(true);
        }
        for name in self.stage_lr.keys() {
            find("fit.stage_lr", name)?;
        }
        if !graph.nodes.iter().any(|n| !frozen[n.stage] && n.parameters.iter().any(|p| p.role.is_learned())) {
            return Err(("fit.freeze", "every stage with weights is frozen, nothing is left to train".into()));
        }
        Ok(frozen)
    }
}
