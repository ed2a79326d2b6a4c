//! `fieldmark evaluate`.

use std::sync::Arc;

use anyhow::{Result, bail};
use data::{Classes, DataError};
use engine::{Engine, EngineOptions};
use learn::{LearnError, features, slice_columns, softmax_rows, table};

use crate::args;
use crate::failure::Usage;
use crate::open;
use crate::output;
use crate::page;
use crate::terminal::{STOP, Talk, stop_on_interrupt};

pub fn run(args: &args::Evaluate) -> Result<()> {
    let model = open::model(&args.model)?;
    let classes = Classes::in_order(model.metadata.classes.clone())?;
    let dataset = open::dataset_with(&args.data, &args.data_args, false, Some(classes)).map_err(|error| match error.downcast_ref() {
        Some(DataError::UnknownLabel { .. } | DataError::UnknownFolder { .. } | DataError::UnknownClasses { .. }) => {
            error.context(format!("the model {} does not know every class of the data", args.model))
        }
        _ => error,
    })?;
    let trained_on_this = model.metadata.data_fingerprint.as_deref() == Some(dataset.fingerprint().as_str());
    let dataset = Arc::new(dataset);
    let (split, chosen) = choose(args, &dataset)?;
    check_slices(args, &dataset)?;
    if trained_on_this && split.is_none() {
        eprintln!("warning: the model was trained on part of this data; these numbers flatter it. Its run's report has the honest ones.");
    }
    let labelled: Vec<usize> =
        chosen.into_iter().filter(|&i| dataset.samples[i].target.as_ref().is_some_and(|t| t.argmax().is_some())).collect();
    if labelled.is_empty() {
        return Err(Usage(format!("{}: no labelled image to judge on", args.data)).into());
    }
    stop_on_interrupt();
    let talk = Talk::new(args.json);
    let options = EngineOptions { precision: args.precision, ..EngineOptions::default() };
    let engine = Engine::quantized(&model.graph, &model.weights, model.metadata.quantization.as_ref(), options)?;
    let rows = features::logits(&dataset, &labelled, &engine, &model.metadata.preprocess, &talk, &STOP);
    talk.done();
    let rows = match rows {
        Err(LearnError::Interrupted) => bail!("interrupted; nothing was written"),
        other => other?,
    };
    for (index, reason) in &rows.failed {
        eprintln!("set aside: {}: {reason}", dataset.samples[*index].id);
    }
    if rows.indices.is_empty() {
        bail!("{}: none of the {} images could be read", args.data, labelled.len());
    }
    let temperature = model.metadata.temperature.unwrap_or(1.0) as f32;
    let logits: Vec<f32> = rows.data.iter().map(|v| v / temperature).collect();
    let predictions = table(&dataset, &rows.indices, softmax_rows(&logits, rows.columns));
    let options = evaluate::Options {
        bootstrap: args.bootstrap,
        seed: args.seed,
        slices: slice_columns(&dataset, &args.slice),
        top_k: vec![5],
        ..evaluate::Options::default()
    };
    let evaluation = evaluate::evaluate(&predictions, &options)?;
    if let Some(file) = &args.predictions {
        let parquet = file.extension().is_some_and(|e| e == "parquet");
        if parquet { predictions.write_parquet(file)? } else { predictions.write_csv(file)? }
    }
    let judged_on = split.map_or_else(|| "all samples".to_string(), |name| format!("the split {name}"));
    if let Some(file) = &args.report {
        let html = page::evaluation(&dataset, &model, &args.model, &judged_on, &rows, &predictions, &evaluation);
        output::file(file, html)?;
    }
    if args.json {
        let mut value = serde_json::to_value(&evaluation)?;
        if let Some(object) = value.as_object_mut() {
            object.insert("model".into(), args.model.clone().into());
            object.insert("data".into(), dataset.name.clone().into());
            object.insert("judged_on".into(), judged_on.into());
            object.insert("seed".into(), args.seed.into());
            object.insert("set_aside".into(), rows.failed.len().into());
            if args.timings {
                object.insert("timings".into(), serde_json::to_value(rows.timings)?);
            }
        }
        return output::json(&value);
    }
    if args.timings {
        eprintln!("{}", rows.timings);
    }
    output::line(&format!("{} on {}, {judged_on}: {} images\n", args.model, dataset.name, evaluation.n))?;
    output::line(&output::evaluation(&evaluation))?;
    if !rows.failed.is_empty() {
        output::line(&format!("\nset aside, as they could not be read: {} of {} images", rows.failed.len(), labelled.len()))?;
    }
    Ok(())
}

fn check_slices(args: &args::Evaluate, dataset: &data::Dataset) -> Result<()> {
    let columns = dataset.column_names();
    let Some(unknown) = args.slice.iter().find(|name| !columns.contains(name)) else { return Ok(()) };
    let there = if columns.is_empty() { "it has none".to_string() } else { format!("it has {}", columns.join(", ")) };
    Err(Usage(format!("{} has no column {unknown:?} to slice by; {there}", args.data)).into())
}

/// The split's name, if one, and its samples.
fn choose(args: &args::Evaluate, dataset: &data::Dataset) -> Result<(Option<String>, Vec<usize>)> {
    let names = dataset.split_names();
    match &args.split {
        Some(name) => {
            let chosen = dataset.split(name);
            if chosen.is_empty() {
                let there = if names.is_empty() { "it has no splits".to_string() } else { format!("it has {}", names.join(", ")) };
                return Err(Usage(format!("{} has no split {name:?}; {there}", args.data)).into());
            }
            Ok((Some(name.clone()), chosen))
        }
        None if names.iter().any(|n| n == "test") => Ok((Some("test".into()), dataset.split("test"))),
        None => Ok((None, (0..dataset.len()).collect())),
    }
}
