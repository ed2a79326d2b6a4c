//! `method = "probe"`.

use std::path::Path;

use super::{Context, Outcome, open_folder};
use crate::features::{self, Rows};
use crate::plan::Plan;
use crate::probe::{Probe, ProbeData, Strength};
use crate::run_folder::RunFolder;
use crate::{Backbone, LearnError};

pub(super) fn run(context: &mut Context<'_>, run: &Path) -> Result<(RunFolder, Outcome), LearnError> {
    let backbone = Backbone::pretrained(&context.recipe)?;
    context.recipe.network.image_size = Some(backbone.preprocess.size);
    context.recipe.network.resize = Some(backbone.preprocess.resize);
    let folder = open_folder(context, run)?;
    let context = &*context;
    let rows = context.phase("features", || {
        let cache = context.options.cache.as_deref();
        features::extract(context.dataset, &context.samples(), &backbone, cache, context.progress, context.stop)
    })?;
    context.tell_set_aside(&rows.failed);
    let plan = Plan::draw(context.dataset, &rows.indices, &context.recipe)?;
    let outcome = context.phase("probe", || probe(context, &backbone, &rows, plan))?;
    Ok((folder, outcome))
}

fn probe(context: &Context<'_>, backbone: &Backbone, rows: &Rows, plan: Plan) -> Result<Outcome, LearnError> {
    let data = ProbeData { dataset: context.dataset, features: rows, recipe: &context.recipe };
    let classes = context.dataset.classes.len();
    let position: std::collections::BTreeMap<usize, usize> = rows.indices.iter().enumerate().map(|(p, &i)| (i, p)).collect();
    let positions = |indices: &[usize]| -> Vec<usize> { indices.iter().filter_map(|i| position.get(i).copied()).collect() };
    let validation = positions(&plan.validation);
    let choose = |train: &[usize]| -> Result<(Probe, Vec<Strength>), LearnError> {
        let sweep = data.sweep(train, &validation, context.recipe.seed)?;
        let best = sweep.iter().find(|s| s.chosen).map_or(1.0, |s| s.c);
        let all: Vec<usize> = train.iter().chain(&validation).copied().collect();
        Ok((data.fit(&all, best)?, sweep))
    };
    let (mut judged, mut probabilities, mut folds) = (Vec::new(), Vec::new(), None);
    if let Some(fold_of) = &plan.folds {
        let mut held: Vec<(usize, usize, Vec<f64>)> = Vec::new();
        for fold in 0..fold_of.iter().max().map_or(0, |m| m + 1) {
            let part = plan.fold(context.dataset, fold, &context.recipe);
            let (probe, _) = choose(&positions(&part.train))?;
            let p = probe.probabilities(rows, &positions(&part.test));
            held.extend(part.test.iter().zip(p.chunks_exact(classes)).map(|(&i, row)| (i, fold, row.to_vec())));
        }
        held.sort_by_key(|(index, ..)| *index);
        judged = held.iter().map(|(i, ..)| *i).collect();
        folds = Some(held.iter().map(|(_, fold, _)| *fold).collect());
        probabilities = held.into_iter().flat_map(|(.., row)| row).collect();
    }
    let (probe, sweep) = choose(&positions(&plan.train))?;
    if plan.folds.is_none() {
        judged.clone_from(&plan.test);
        probabilities = probe.probabilities(rows, &positions(&plan.test));
    }
    let headed = backbone.with_classes(classes, context.recipe.seed)?;
    let mut weights = headed.weights.clone();
    probe.write_head(&headed, &mut weights)?;
    Ok(Outcome {
        plan,
        model: (headed.graph, weights, headed.preprocess),
        judged,
        probabilities,
        folds,
        history: Vec::new(),
        sweep,
        failed: rows.failed.clone(),
    })
}

/// The network with a probe as its head, fitted to `plan`'s training samples: where fine-tuning may start.
pub(super) fn probed_head(context: &Context<'_>, backbone: &Backbone, plan: &Plan) -> Result<Backbone, LearnError> {
    let cache = context.options.cache.as_deref();
    let rows = features::extract(context.dataset, &plan.train, backbone, cache, context.progress, context.stop)?;
    let data = ProbeData { dataset: context.dataset, features: &rows, recipe: &context.recipe };
    let all: Vec<usize> = (0..rows.indices.len()).collect();
    let sweep = data.sweep(&all, &[], context.recipe.seed)?;
    let probe = data.fit(&all, sweep.iter().find(|s| s.chosen).map_or(1.0, |s| s.c))?;
    let mut headed = backbone.with_classes(context.dataset.classes.len(), context.recipe.seed)?;
    let mut weights = std::mem::take(&mut headed.weights);
    probe.write_head(&headed, &mut weights)?;
    headed.weights = weights;
    Ok(headed)
}
