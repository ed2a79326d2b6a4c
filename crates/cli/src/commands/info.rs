//! `fieldmark info`.

use std::path::Path;

use anyhow::Result;
use data::Dataset;
use engine::Model;

use crate::args;
use crate::open;
use crate::output;

pub fn run(args: &args::Info) -> Result<()> {
    if is_model(&args.what) {
        model(&open::model(&args.what)?, args)
    } else {
        dataset(&open::dataset(&args.what, &args.data_args, false)?, args)
    }
}

fn is_model(what: &str) -> bool {
    let path = Path::new(what);
    path.join("model.safetensors").exists()
        || (path.is_file() && path.extension().is_some_and(|e| e == "safetensors"))
        || (!path.exists() && zoo::published_names().any(|name| name == what))
}

fn model(model: &Model, args: &args::Info) -> Result<()> {
    let (graph, metadata) = (&model.graph, &model.metadata);
    if args.json {
        return output::json(&serde_json::json!({
            "kind": "model", "architecture": graph.name, "parameters": graph.parameter_count(), "multiply_adds": graph.macs(),
            "input": graph.input_shape(), "stages": graph.stages, "metadata": metadata,
        }));
    }
    let [channels, height, width] = metadata.preprocess.shape();
    let mut rows = vec![
        vec!["architecture".into(), graph.name.clone()],
        vec!["parameters".into(), group_digits(graph.parameter_count() as u64)],
        vec!["multiply-adds an image".into(), group_digits(graph.macs())],
        vec!["input".into(), format!("{channels} × {height} × {width}")],
        vec!["stages".into(), graph.stages.join(" ")],
        vec!["classes".into(), list(&metadata.classes)],
        vec!["written by".into(), metadata.created_by.clone()],
    ];
    rows.extend(metadata.seed.map(|seed| vec!["seed".into(), seed.to_string()]));
    rows.extend(metadata.data_fingerprint.as_ref().map(|f| vec!["data fingerprint".into(), f.clone()]));
    if let Some(judged_on) = metadata.metrics["judged_on"].as_str() {
        rows.push(vec!["judged on".into(), format!("{judged_on}, {} images", metadata.metrics["n"])]);
        for name in ["accuracy", "balanced_accuracy", "macro_f1", "roc_auc_macro", "log_loss"] {
            rows.extend(metadata.metrics["scores"][name].as_f64().map(|v| vec![name.into(), format!("{v:.4}")]));
        }
    }
    output::line(&output::table(&["model", &args.what], &rows))?;
    match &metadata.recipe {
        Some(recipe) => output::line(&format!("\n{}", recipe.trim_end())),
        None => Ok(()),
    }
}

fn dataset(dataset: &Dataset, args: &args::Info) -> Result<()> {
    let mut names: Vec<Option<String>> = dataset.split_names().into_iter().map(Some).collect();
    if dataset.samples.iter().any(|s| s.split.is_none()) {
        names.push(None);
    }
    let counts: Vec<Vec<usize>> = names
        .iter()
        .map(|name| {
            let indices: Vec<usize> = (0..dataset.len()).filter(|&i| dataset.samples[i].split == *name).collect();
            dataset.class_counts(indices.iter())
        })
        .collect();
    let title = |name: &Option<String>| name.clone().unwrap_or_else(|| "no split".into());
    if args.json {
        let splits: serde_json::Map<String, serde_json::Value> =
            names.iter().zip(&counts).map(|(name, c)| (title(name), c.clone().into())).collect();
        return output::json(&serde_json::json!({
            "kind": "dataset", "name": dataset.name, "images": dataset.len(), "classes": dataset.classes.names(), "class_counts": splits,
            "columns": dataset.column_names(), "groups": dataset.groups().is_some(), "fingerprint": dataset.fingerprint(),
            "warnings": dataset.warnings,
        }));
    }
    let columns = dataset.column_names();
    output::line(&format!(
        "{}: {} images, {} classes{}{}\nfingerprint {}\n",
        dataset.name,
        dataset.len(),
        dataset.classes.len(),
        if columns.is_empty() { String::new() } else { format!(", columns {}", columns.join(", ")) },
        if dataset.groups().is_some() { ", grouped" } else { "" },
        dataset.fingerprint()
    ))?;
    let mut header = vec!["class".to_string()];
    header.extend(names.iter().map(title));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let row = |(k, class): (usize, &String)| std::iter::once(class.clone()).chain(counts.iter().map(|c| c[k].to_string())).collect();
    let rows: Vec<Vec<String>> = dataset.classes.names().iter().enumerate().map(row).collect();
    output::line(&output::table(&header, &rows))
}

fn list(classes: &[String]) -> String {
    let shown: Vec<&str> = classes.iter().take(12).map(String::as_str).collect();
    let rest = classes.len().saturating_sub(shown.len());
    format!("{}: {}{}", classes.len(), shown.join(", "), if rest > 0 { format!(", … {rest} more") } else { String::new() })
}

fn group_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
