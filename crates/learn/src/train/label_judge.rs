//! Networks that are trained to judge labels, where a probe on published features is too weak: each sample gets the probabilities of networks
//! that did not learn from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use data::Dataset;
use evaluate::Predictions;

use super::fitted::{fit_part, judge, screened, starting_point};
use super::{Clock, Context, TrainOptions, table};
use crate::leaks::Leaks;
use crate::out_of_fold::{Folding, OutOfFold};
use crate::plan::label;
use crate::progress::Progress;
use crate::screen::Screened;
use crate::{LearnError, Method, Plan, Recipe};

/// Whether [`networks_out_of_fold`] can follow a recipe.
///
/// # Errors
/// A recipe that trains no network, or has settings out of their range.
pub(crate) fn trains_networks(recipe: &Recipe) -> Result<(), LearnError> {
    if recipe.method == Method::Probe {
        let problem = "expected finetune or scratch: labels are judged by a probe where no recipe for networks is given".into();
        return Err(LearnError::Recipe { field: "method".into(), problem });
    }
    recipe.check()
}

/// Trains a network on all folds but one, by a recipe, for each fold and repeat, and predicts that fold. Finished folds are kept in `cache` by
/// data, recipe and folds, so that an interrupted audit goes on where it stopped and a second one trains nothing.
///
/// # Errors
/// Data that no network can be trained on by the recipe, or [`LearnError::Interrupted`].
pub(crate) fn networks_out_of_fold(
    dataset: &Arc<Dataset>,
    samples: &[usize],
    recipe: &Recipe,
    folding: Folding,
    cache: Option<&Path>,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<OutOfFold, LearnError> {
    let options = TrainOptions { cache: cache.map(Path::to_path_buf), ..TrainOptions::default() };
    let mut context =
        Context { dataset, recipe: recipe.clone(), options: &options, progress, stop, clock: Clock::default(), leaks: Leaks::default() };
    let work = work_folder(dataset, samples, recipe, folding, cache)?;
    let labels: Vec<usize> = samples.iter().map(|&i| label(dataset, i).unwrap_or(0)).collect();
    let groups = dataset.groups().map(|g| samples.iter().map(|&i| g[i].clone()).collect::<Vec<_>>());
    let classes = dataset.classes.len();
    let mut judged = OutOfFold { samples: samples.to_vec(), ..OutOfFold::default() };
    let mut looks = None;
    for (repeat, seed) in folding.seeds().enumerate() {
        context.recipe.seed = seed;
        context.recipe.fit.seed = seed;
        let folds = folding.assign(&labels, groups.as_deref(), seed)?;
        let mut probabilities = vec![0.0; samples.len() * classes];
        for fold in 0..folding.folds {
            let (rest, held) = folding.parts(&folds, fold);
            let of = |positions: &[usize]| -> Vec<usize> { positions.iter().map(|&p| samples[p]).collect() };
            let place = work.join(format!("repeat-{}-fold-{}", repeat + 1, fold + 1));
            let kept = place.join("predictions.csv");
            let predicted = if kept.exists() {
                Predictions::read_csv(&kept)?
            } else {
                let mut plan = Plan { train: of(&rest), test: of(&held), ..Plan::default() };
                plan.reserve_validation(dataset, &context.recipe);
                let part = format!("repeat {} of {}, fold {} of {}", repeat + 1, folding.repeats, fold + 1, folding.folds);
                let name = format!("{} judges labels, {part}", recipe.model_name());
                trained(&context, &mut looks, &plan, &place, &name)?
            };
            place_rows(dataset, &of(&held), &held, &predicted, &mut probabilities)?;
        }
        judged.add(&probabilities);
        if repeat == 0 {
            judged.folds = folds;
        }
    }
    judged.divide(folding.repeats);
    Ok(judged)
}

/// Trains a network by a recipe on some samples and gives its probabilities of others. Kept in `cache` like the folds above.
///
/// # Errors
/// As [`networks_out_of_fold`].
pub(crate) fn network_predictions(
    dataset: &Arc<Dataset>,
    mut plan: Plan,
    recipe: &Recipe,
    cache: Option<&Path>,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Predictions, LearnError> {
    recipe.check()?;
    let options = TrainOptions { cache: cache.map(Path::to_path_buf), ..TrainOptions::default() };
    let mut context =
        Context { dataset, recipe: recipe.clone(), options: &options, progress, stop, clock: Clock::default(), leaks: Leaks::default() };
    context.recipe.fit.seed = recipe.seed;
    let work = work_folder(dataset, &plan.test, recipe, Folding { folds: 0, repeats: 1, seed: recipe.seed }, cache)?;
    let kept = work.join("predictions.csv");
    if kept.exists() {
        return Ok(Predictions::read_csv(&kept)?);
    }
    plan.reserve_validation(dataset, &context.recipe);
    trained(&context, &mut None, &plan, &work, "training")
}

/// Trains one network on a plan, predicts its test samples, and keeps that in `place`. `looks` is what a first look at all images found.
fn trained(context: &Context<'_>, looks: &mut Option<Screened>, plan: &Plan, place: &Path, name: &str) -> Result<Predictions, LearnError> {
    let seen = match looks.take() {
        Some(seen) => seen,
        None => screened(context)?,
    };
    let start = starting_point(context, plan, &seen)?;
    *looks = Some(seen);
    std::fs::create_dir_all(place).map_err(|source| LearnError::File { action: "create", path: place.to_path_buf(), source })?;
    let fitted = fit_part(context, place, &start, plan, name)?;
    let graph = start.with_classes(context.dataset.classes.len(), context.recipe.seed)?.graph;
    let (indices, rows, _) = judge(context, &graph, &fitted, &start, &plan.test)?;
    let predicted = table(context.dataset, &indices, rows);
    predicted.write_csv(&place.join("predictions.csv"))?;
    // Weights are large, and nobody asks for them again.
    let _ = std::fs::remove_file(place.join("checkpoint.safetensors"));
    Ok(predicted)
}

/// Where the finished folds of this data, recipe and folding lie.
fn work_folder(
    dataset: &Dataset,
    samples: &[usize],
    recipe: &Recipe,
    folding: Folding,
    cache: Option<&Path>,
) -> Result<PathBuf, LearnError> {
    let mut hasher = blake3::Hasher::new();
    // More repeats than before are added to what there is.
    hasher.update(format!("judge of labels 1\n{}\n{} {}\n", dataset.fingerprint(), folding.folds, folding.seed).as_bytes());
    hasher.update(Recipe { seed: 0, ..recipe.clone() }.to_toml()?.as_bytes());
    samples.iter().for_each(|&i| {
        hasher.update(&(i as u64).to_le_bytes());
    });
    let folder = cache.map_or_else(std::env::temp_dir, Path::to_path_buf).join("judged");
    Ok(folder.join(&hasher.finalize().to_hex()[..32]))
}

/// Puts the rows of a table where its samples stand among the judged ones.
fn place_rows(
    dataset: &Dataset,
    indices: &[usize],
    positions: &[usize],
    predicted: &Predictions,
    into: &mut [f64],
) -> Result<(), LearnError> {
    let classes = dataset.classes.len();
    let rows: std::collections::BTreeMap<&str, usize> = predicted.ids.iter().enumerate().map(|(row, id)| (id.as_str(), row)).collect();
    for (&index, &position) in indices.iter().zip(positions) {
        let id = &dataset.samples[index].id;
        let row = rows.get(id.as_str()).ok_or_else(|| LearnError::Data(format!("{id} could not be read when labels were judged")))?;
        into[position * classes..(position + 1) * classes].copy_from_slice(predicted.row(*row));
    }
    Ok(())
}
