//! From a data set and a recipe to a judged classifier in a run folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use data::Dataset;
use engine::{Metadata, Model, TargetKind};
use evaluate::{Evaluation, Predictions};
use serde::Serialize;

use crate::find_lr::LrRange;
use crate::fit::EpochRecord;
use crate::leaks::{self, LeakPolicy, Leaks};
use crate::plan::label;
use crate::probe::Strength;
use crate::progress::{Event, Progress};
use crate::run_folder::RunFolder;
use crate::{Backbone, DeviceKind, LearnError, Method, Plan, Recipe};

mod fitted;
mod label_judge;
mod probed;

pub(crate) use label_judge::{network_predictions, networks_out_of_fold, trains_networks};

/// Where and how a run is carried out; changes no result.
#[derive(Debug, Clone, Default)]
pub struct TrainOptions {
    /// What trains.
    pub device: DeviceKind,
    /// Folder of the caches of features and measures; `None` keeps none.
    pub cache: Option<PathBuf>,
    /// What is done about copies of training images among those that judge.
    pub leaks: LeakPolicy,
}

/// A finished run.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The classifier.
    pub model: Model,
    /// Its judgement.
    pub evaluation: Evaluation,
    /// What the judgement was made from.
    pub predictions: Predictions,
    /// What the rest of a report shows.
    pub account: Account,
}

/// How a run went.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    /// What `predictions` are on: `test` or `out of fold (5 folds)`.
    pub judged_on: String,
    /// Samples by class for each purpose, in the order train, val, test.
    pub class_counts: Vec<(String, Vec<usize>)>,
    /// Epochs of each fit; the fold (from 0), or none for the final model.
    pub history: Vec<(Option<usize>, Vec<EpochRecord>)>,
    /// Strengths compared for the final probe.
    pub sweep: Vec<Strength>,
    /// Ids of samples that could not be read, with the reason.
    pub set_aside: Vec<(String, String)>,
    /// What was found of copies between training and judging.
    pub leaks: Leaks,
    /// What the data set warned of.
    pub warnings: Vec<String>,
    /// Seconds of each phase.
    pub seconds: Vec<(String, f64)>,
    /// The recipe with every choice resolved.
    pub recipe: Recipe,
    /// Data set name.
    pub data: String,
    /// Its fingerprint.
    pub data_fingerprint: String,
    /// Indices of `predictions`' samples in the data set, for pictures.
    #[serde(skip)]
    pub judged: Vec<usize>,
}

/// What every part of a run needs.
pub(crate) struct Context<'a> {
    pub dataset: &'a Arc<Dataset>,
    pub recipe: Recipe,
    pub options: &'a TrainOptions,
    pub progress: &'a dyn Progress,
    pub stop: &'a AtomicBool,
    pub clock: Clock,
    pub leaks: Leaks,
}

/// Seconds by phase.
#[derive(Debug, Default)]
pub(crate) struct Clock(std::sync::Mutex<Vec<(String, f64)>>);

impl Clock {
    fn add(&self, name: &str, seconds: f64) {
        let mut phases = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match phases.iter_mut().find(|(n, _)| n == name) {
            Some((_, sum)) => *sum += seconds,
            None => phases.push((name.into(), seconds)),
        }
    }

    fn phases(&self) -> Vec<(String, f64)> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Context<'_> {
    /// Announces a phase and times it.
    pub(crate) fn phase<T>(&self, name: &str, work: impl FnOnce() -> Result<T, LearnError>) -> Result<T, LearnError> {
        self.progress.event(&Event::Stage(name.into()));
        let start = Instant::now();
        let result = work();
        self.clock.add(name, start.elapsed().as_secs_f64());
        result
    }

    /// Says which samples are set aside, as soon as that is known.
    pub(crate) fn tell_set_aside(&self, failed: &[(usize, String)]) {
        const SHOWN: usize = 10;
        let note = |text: String| self.progress.event(&Event::Note(text));
        for (index, reason) in failed.iter().take(SHOWN) {
            note(format!("set aside: {}: {reason}", self.dataset.samples[*index].id));
        }
        if failed.len() > SHOWN {
            note(format!("set aside: … and {} more; the report lists all {}", failed.len() - SHOWN, failed.len()));
        }
    }

    pub(crate) fn samples(&self) -> Vec<usize> {
        (0..self.dataset.len()).filter(|&i| label(self.dataset, i).is_some()).collect()
    }
}

/// What a method hands back to be judged and written.
pub(crate) struct Outcome {
    pub plan: Plan,
    pub model: (graph::Graph, graph::Weights, images::Preprocess),
    /// Judged samples and their class probabilities.
    pub judged: Vec<usize>,
    pub probabilities: Vec<f64>,
    pub folds: Option<Vec<usize>>,
    pub history: Vec<(Option<usize>, Vec<EpochRecord>)>,
    pub sweep: Vec<Strength>,
    pub failed: Vec<(usize, String)>,
}

/// Trains, judges and writes `run`: `recipe.toml`, `split.csv`, `metrics.jsonl`, TensorBoard events, checkpoints, `predictions.csv`,
/// `result.json` and `model.safetensors`.
///
/// The same data, recipe and seed give the same result. An interrupted run goes on from its last checkpoint when it is called again with the
/// same folder.
///
/// # Errors
/// A recipe or data set that cannot be used, copies across declared splits ([`LearnError::Leak`]), a folder that cannot be written or holds another run, and [`LearnError::Interrupted`] after
/// `stop` was raised.
pub fn train(
    dataset: &Arc<Dataset>,
    recipe: &Recipe,
    run: &Path,
    options: &TrainOptions,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Trained, LearnError> {
    recipe.check()?;
    // Before hours of work: an architecture that does not exist, a folder that is taken.
    Backbone::check(recipe)?;
    RunFolder::check(run)?;
    let mut recipe = recipe.clone();
    recipe.model = Some(recipe.model_name().into());
    recipe.fit.seed = recipe.seed;
    let clock = Clock::default();
    let start = Instant::now();
    let (dataset, leaks) = leaks::guard(dataset, options, progress, stop)?;
    clock.add("looking for copies", start.elapsed().as_secs_f64());
    let mut context = Context { dataset: &dataset, recipe, options, progress, stop, clock, leaks };
    let (folder, outcome) = match context.recipe.method {
        Method::Probe => probed::run(&mut context, run)?,
        Method::Finetune | Method::Scratch => fitted::run(&mut context, run)?,
    };
    finish(&context, &folder, outcome)
}

/// Tries learning rates from 1e-7 to 10 on the recipe's network and training samples; changes nothing.
///
/// # Errors
/// As [`train`], and [`LearnError::Recipe`] for a probe, which has no learning rate.
pub fn find_learning_rate(
    dataset: &Arc<Dataset>,
    recipe: &Recipe,
    options: &TrainOptions,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<LrRange, LearnError> {
    recipe.check()?;
    if recipe.method == Method::Probe {
        let problem = "a probe is solved exactly and has no learning rate; use finetune or scratch".into();
        return Err(LearnError::Recipe { field: "method".into(), problem });
    }
    let mut recipe = recipe.clone();
    recipe.fit.seed = recipe.seed;
    fitted::range_test(&Context { dataset, recipe, options, progress, stop, clock: Clock::default(), leaks: Leaks::default() })
}

/// Opens the run folder for the resolved recipe.
pub(crate) fn open_folder(context: &Context<'_>, run: &Path) -> Result<RunFolder, LearnError> {
    let head = format!("# data: {}, fingerprint {}\n", context.dataset.name, context.dataset.fingerprint());
    RunFolder::create(run, &(head + &context.recipe.to_toml()?))
}

/// Which samples are judged, for a plan without a declared test split and without folds there are none.
fn finish(context: &Context<'_>, folder: &RunFolder, outcome: Outcome) -> Result<Trained, LearnError> {
    let (dataset, recipe) = (context.dataset, &context.recipe);
    write_split(folder, dataset, &outcome.plan)?;
    let predictions = predictions(dataset, &outcome)?;
    let options = evaluate::Options {
        bootstrap: recipe.evaluate.bootstrap,
        seed: recipe.seed,
        slices: slice_columns(dataset, &recipe.evaluate.slices),
        top_k: recipe.evaluate.top_k.clone(),
        ..evaluate::Options::default()
    };
    let evaluation = context.phase("evaluation", || Ok(evaluate::evaluate(&predictions, &options)?))?;
    let (graph, weights, preprocess) = outcome.model;
    let mut metadata = Metadata::new(dataset.classes.names().to_vec(), preprocess);
    metadata.target = if recipe.data.soft_targets { TargetKind::Soft } else { TargetKind::Label };
    metadata.recipe = Some(recipe.to_toml()?);
    metadata.seed = Some(recipe.seed);
    metadata.data_fingerprint = Some(dataset.fingerprint());
    let judged_on = match recipe.data.folds {
        Some(k) => format!("out of fold ({k} folds)"),
        None => "test".to_string(),
    };
    let scores: BTreeMap<&str, Option<f64>> = evaluation.summary().into_iter().map(|(name, metric)| (name, metric.value)).collect();
    metadata.metrics = serde_json::json!({ "judged_on": judged_on, "n": evaluation.n, "scores": scores });
    let model = Model { graph, weights, metadata };
    model.save(&folder.file("model.safetensors"))?;
    predictions.write_csv(&folder.file("predictions.csv"))?;
    predictions.write_parquet(&folder.file("predictions.parquet"))?;
    let mut counted = outcome.plan.clone();
    let class_counts = [("train", &mut counted.train), ("val", &mut counted.validation), ("test", &mut counted.test)]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| (name.to_string(), dataset.class_counts(list.iter())))
        .collect();
    let mut set_aside: Vec<(String, String)> =
        outcome.failed.iter().map(|(i, why)| (dataset.samples[*i].id.clone(), why.clone())).collect();
    set_aside.sort();
    set_aside.dedup();
    let account = Account {
        judged_on,
        class_counts,
        history: outcome.history,
        sweep: outcome.sweep,
        set_aside,
        leaks: context.leaks.clone(),
        warnings: dataset.warnings.clone(),
        seconds: context.clock.phases(),
        recipe: recipe.clone(),
        data: dataset.name.clone(),
        data_fingerprint: dataset.fingerprint(),
        judged: outcome.judged,
    };
    // Written last: its presence says that the run is complete.
    folder.write_json("result.json", &serde_json::json!({ "evaluation": evaluation, "run": account }))?;
    Ok(Trained { model, evaluation, predictions, account })
}

fn write_split(folder: &RunFolder, dataset: &Dataset, plan: &Plan) -> Result<(), LearnError> {
    let mut text = String::from("id,purpose\n");
    for (index, purpose) in plan.purposes() {
        let id = &dataset.samples[index].id;
        let quoted = if id.contains([',', '"', '\n']) { format!("\"{}\"", id.replace('"', "\"\"")) } else { id.clone() };
        text.push_str(&format!("{quoted},{purpose}\n"));
    }
    folder.write("split.csv", text.as_bytes())
}

fn predictions(dataset: &Dataset, outcome: &Outcome) -> Result<Predictions, LearnError> {
    if outcome.judged.is_empty() {
        return Err(LearnError::Data(
            "no sample is left to judge the model on; raise data.test, use --folds, or give the data set a test split".into(),
        ));
    }
    let mut predictions = table(dataset, &outcome.judged, outcome.probabilities.clone());
    predictions.fold.clone_from(&outcome.folds);
    predictions.check()?;
    Ok(predictions)
}

/// A table of predictions on samples of a data set, with their truth and every column.
pub fn table(dataset: &Dataset, indices: &[usize], probabilities: Vec<f64>) -> Predictions {
    let column = |name: &String| indices.iter().map(|&i| dataset.samples[i].columns.get(name).cloned().unwrap_or_default()).collect();
    Predictions {
        classes: dataset.classes.names().to_vec(),
        ids: indices.iter().map(|&i| dataset.samples[i].id.clone()).collect(),
        truth: indices.iter().map(|&i| label(dataset, i)).collect(),
        probabilities,
        fold: None,
        columns: dataset.column_names().iter().map(|name| (table_column(name), column(name))).collect(),
    }
}

/// The name of a data set's column in a table of predictions, where some names have a meaning of their own.
fn table_column(name: &str) -> String {
    if Predictions::is_reserved(name) { format!("given {name}") } else { name.to_string() }
}

/// The columns that are sliced by: those asked for, or all with two to twelve values.
pub fn slice_columns(dataset: &Dataset, asked: &[String]) -> Vec<String> {
    if !asked.is_empty() {
        return asked.iter().map(|name| table_column(name)).collect();
    }
    let few = |name: &String| {
        let values: std::collections::BTreeSet<&str> =
            dataset.samples.iter().filter_map(|s| s.columns.get(name).map(String::as_str)).collect();
        (2..=12).contains(&values.len())
    };
    dataset.column_names().into_iter().filter(few).map(|name| table_column(&name)).collect()
}

/// Softmax of each row of logits.
pub fn softmax_rows(logits: &[f32], classes: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(classes) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp: Vec<f64> = row.iter().map(|v| f64::from(v - max).exp()).collect();
        let sum: f64 = exp.iter().sum();
        out.extend(exp.iter().map(|v| v / sum));
    }
    out
}
