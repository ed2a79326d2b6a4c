//! `method = "finetune"` and `"scratch"`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use data::LoaderOptions;
use engine::{Engine, EngineOptions};
use evaluate::Predictions;
use images::DecodeOptions;

use super::{Context, Outcome, open_folder, probed, softmax_rows, table};
use crate::backbone::Look;
use crate::features;
use crate::find_lr::{LrRange, find_lr};
use crate::fit::{EpochRecord, FitEvent, FitOutcome, FitTask, Fitted, fit};
use crate::plan::Plan;
use crate::progress::{Event, Step};
use crate::recipe::HeadStart;
use crate::run_folder::{MetricsLog, RunFolder};
use crate::screen::{self, Screened};
use crate::{Backbone, LearnError, Method};

pub(super) fn run(context: &mut Context<'_>, run: &Path) -> Result<(RunFolder, Outcome), LearnError> {
    let screened = screened(context)?;
    let plan = Plan::draw(context.dataset, &screened.usable, &context.recipe)?;
    let start = starting_point(context, &plan, &screened)?;
    let network = &mut context.recipe.network;
    network.image_size = Some(start.preprocess.size);
    network.resize = Some(start.preprocess.resize);
    network.mean = Some(start.preprocess.mean.clone());
    network.std = Some(start.preprocess.std.clone());
    let folder = open_folder(context, run)?;
    let context = &*context;
    let mut outcome = match plan.folds {
        Some(_) => cross_validated(context, &folder, &start, plan)?,
        None => held_out(context, &folder, &start, plan)?,
    };
    outcome.failed.extend(screened.failed);
    Ok((folder, outcome))
}

/// Every sample looked at once; what cannot be read is told and set aside.
pub(super) fn screened(context: &Context<'_>) -> Result<Screened, LearnError> {
    let screened = context.phase("reading images", || {
        screen::screen(context.dataset, &context.samples(), context.recipe.network.background, context.progress, context.stop)
    })?;
    context.tell_set_aside(&screened.failed);
    Ok(screened)
}

/// The network before training, its preprocessing measured on the training images where nobody fixed it.
pub(super) fn starting_point(context: &Context<'_>, plan: &Plan, screened: &Screened) -> Result<Backbone, LearnError> {
    let recipe = &context.recipe;
    if recipe.method == Method::Finetune {
        return Backbone::pretrained(recipe);
    }
    let look = Look { size: screened.median_size, gray: screened.gray };
    let mut start = Backbone::untrained(recipe, context.dataset.classes.len(), &look)?;
    if recipe.network.mean.is_none() || recipe.network.std.is_none() {
        let (mean, std) = screen::moments(context.dataset, &plan.train, &start.preprocess)?;
        if recipe.network.mean.is_none() {
            start.preprocess.mean = mean;
        }
        if recipe.network.std.is_none() {
            start.preprocess.std = std;
        }
    }
    Ok(start)
}

fn held_out(context: &Context<'_>, folder: &RunFolder, start: &Backbone, plan: Plan) -> Result<Outcome, LearnError> {
    let fitted = fit_part(context, folder.path(), start, &plan, "training")?;
    let graph = start.with_classes(context.dataset.classes.len(), context.recipe.seed)?.graph;
    let (judged, probabilities, mut failed) = judge(context, &graph, &fitted, start, &plan.test)?;
    failed.extend(fitted.failed);
    Ok(Outcome {
        plan,
        model: (graph, fitted.weights, start.preprocess.clone()),
        judged,
        probabilities,
        folds: None,
        history: vec![(None, fitted.history)],
        sweep: Vec::new(),
        failed,
    })
}

fn cross_validated(context: &Context<'_>, folder: &RunFolder, start: &Backbone, plan: Plan) -> Result<Outcome, LearnError> {
    let graph = start.with_classes(context.dataset.classes.len(), context.recipe.seed)?.graph;
    let folds = plan.folds.iter().flatten().max().map_or(0, |m| m + 1);
    let (mut held, mut history, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for fold in 0..folds {
        let part = plan.fold(context.dataset, fold, &context.recipe);
        let place = folder.folder(&format!("fold-{}", fold + 1))?;
        let table_file = place.join("predictions.csv");
        let (table, records) = if table_file.exists() {
            (Predictions::read_csv(&table_file)?, read_history(&place)?)
        } else {
            let fitted = fit_part(context, &place, start, &part, &format!("fold {} of {folds}", fold + 1))?;
            let (judged, probabilities, broken) = judge(context, &graph, &fitted, start, &part.test)?;
            failed.extend(broken);
            let table = table(context.dataset, &judged, probabilities);
            table.write_csv(&table_file)?;
            (table, fitted.history)
        };
        history.push((Some(fold), records));
        held.push((fold, table));
    }
    let mut full = Plan { folds: None, test: Vec::new(), ..plan.clone() };
    full.reserve_validation(context.dataset, &context.recipe);
    let fitted = fit_part(context, folder.path(), start, &full, "final model on all folds")?;
    failed.extend(fitted.failed);
    history.push((None, fitted.history));
    let index: std::collections::BTreeMap<&str, usize> =
        context.dataset.samples.iter().enumerate().map(|(i, s)| (s.id.as_str(), i)).collect();
    let mut rows: Vec<(usize, usize, Vec<f64>)> = Vec::new();
    for (fold, table) in &held {
        let known = table.ids.iter().enumerate().filter_map(|(p, id)| index.get(id.as_str()).map(|&i| (i, *fold, table.row(p).to_vec())));
        rows.extend(known);
    }
    rows.sort_by_key(|(i, ..)| *i);
    Ok(Outcome {
        plan,
        model: (graph, fitted.weights, start.preprocess.clone()),
        judged: rows.iter().map(|(i, ..)| *i).collect(),
        folds: Some(rows.iter().map(|(_, fold, _)| *fold).collect()),
        probabilities: rows.into_iter().flat_map(|(.., row)| row).collect(),
        history,
        sweep: Vec::new(),
        failed,
    })
}

/// The learning-rate range test for a recipe, on its training samples.
pub(crate) fn range_test(context: &Context<'_>) -> Result<LrRange, LearnError> {
    let screened = screened(context)?;
    let plan = Plan::draw(context.dataset, &screened.usable, &context.recipe)?;
    let start = starting_point(context, &plan, &screened)?;
    let begin = first_weights(context, &start, &plan, "range test")?;
    let task = task(context, begin, &plan, None);
    let mut done = 0;
    let mut observe = |rate: f64, loss: f64| {
        done += 1;
        let text = format!("rate {rate:.1e}, loss {loss:.4}");
        context.progress.event(&Event::Step(Step { done, total: 100, rate: None, eta: None, text }));
    };
    context.phase("learning-rate range test", || find_lr(&task, &context.recipe.fit, &mut observe, context.stop))
}

fn first_weights(context: &Context<'_>, start: &Backbone, plan: &Plan, name: &str) -> Result<Backbone, LearnError> {
    let recipe = &context.recipe;
    match (recipe.method, recipe.network.head) {
        (Method::Finetune, HeadStart::Probe) => context.phase(&format!("{name}: head"), || probed::probed_head(context, start, plan)),
        (Method::Finetune, HeadStart::Random) => start.with_classes(context.dataset.classes.len(), recipe.seed),
        (Method::Scratch | Method::Probe, _) => Ok(start.clone()),
    }
}

fn task(context: &Context<'_>, begin: Backbone, plan: &Plan, checkpoint: Option<PathBuf>) -> FitTask {
    let decode = DecodeOptions { background: begin.preprocess.background, ..DecodeOptions::default() };
    let augment = (!context.recipe.augment.is_none()).then(|| context.recipe.augment.clone());
    FitTask {
        graph: begin.graph,
        weights: begin.weights,
        dataset: context.dataset.clone(),
        train: plan.train.clone(),
        validation: plan.validation.clone(),
        loading: LoaderOptions { augment, decode, ..LoaderOptions::new(begin.preprocess) },
        device: context.options.device,
        checkpoint,
        resume: true,
    }
}

/// Fits one network; its checkpoint and metrics lie in `place`.
pub(super) fn fit_part(context: &Context<'_>, place: &Path, start: &Backbone, plan: &Plan, name: &str) -> Result<Fitted, LearnError> {
    let begin = first_weights(context, start, plan, name)?;
    let task = task(context, begin, plan, Some(place.join("checkpoint.safetensors")));
    let mut log = MetricsLog::open(place)?;
    let mut problem = None;
    let mut observe = |event: FitEvent<'_>| match event {
        FitEvent::Step { epoch, epochs, step, steps, loss, images_per_second, eta, .. } => {
            let text = format!("epoch {}/{epochs}, loss {loss:.4}", epoch + 1);
            let step = Step { done: epoch * steps + step, total: epochs * steps, rate: Some(images_per_second), eta: Some(eta), text };
            context.progress.event(&Event::Step(step));
        }
        FitEvent::Epoch { record, best } => {
            context.progress.event(&Event::Note(epoch_line(record, best)));
            if let Err(error) = log.add(record) {
                problem.get_or_insert(error);
            }
        }
    };
    let outcome = context.phase(name, || fit(task, &context.recipe.fit, &mut observe, context.stop))?;
    if let Some(error) = problem {
        return Err(error);
    }
    match outcome {
        FitOutcome::Finished(fitted) => Ok(fitted),
        FitOutcome::Interrupted { .. } => Err(LearnError::Interrupted),
    }
}

fn epoch_line(record: &EpochRecord, best: bool) -> String {
    let mut text = format!("epoch {}: train loss {:.4}", record.epoch + 1, record.train_loss);
    if let Some(loss) = record.validation_loss {
        text.push_str(&format!(", validation loss {loss:.4}"));
    }
    if let Some(value) = record.metric_value {
        text.push_str(&format!(", {} {value:.4}{}", record.metric, if best { " (best)" } else { "" }));
    }
    let seconds = Duration::from_secs_f64(record.seconds.max(0.0)).as_secs_f64();
    let waited = if record.data_seconds > 0.05 * seconds {
        format!(", {:.0} s of it waiting for pictures", record.data_seconds)
    } else {
        String::new()
    };
    text + &format!(", {seconds:.0} s ({:.0} images/s{waited})", record.images_per_second)
}

fn read_history(place: &Path) -> Result<Vec<EpochRecord>, LearnError> {
    let path = place.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).map_err(|source| LearnError::File { action: "read", path, source })?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Samples that were read, their class probabilities, and those that were not read.
type Judged = (Vec<usize>, Vec<f64>, Vec<(usize, String)>);

pub(super) fn judge(
    context: &Context<'_>,
    graph: &graph::Graph,
    fitted: &Fitted,
    start: &Backbone,
    test: &[usize],
) -> Result<Judged, LearnError> {
    context.phase("test", || {
        let engine = Engine::new(graph, &fitted.weights, EngineOptions::default())?;
        let rows = features::logits(context.dataset, test, &engine, &start.preprocess, context.progress, context.stop)?;
        let probabilities = softmax_rows(&rows.data, rows.columns);
        Ok((rows.indices, probabilities, rows.failed))
    })
}
