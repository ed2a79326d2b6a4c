//! From what the user names to models and data sets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use data::{Classes, Dataset, OpenOptions, fetch};
use engine::{Metadata, Model};

use crate::args::DataArgs;
use crate::failure::Usage;

/// A model file, a run folder with one, an ONNX file, or published weights by name.
pub fn model(spec: &str) -> Result<Model> {
    let path = Path::new(spec);
    if path.is_dir() {
        let file = path.join("model.safetensors");
        if !file.exists() {
            let missing = format!("{spec} is a folder without model.safetensors: expected a model file or the folder of a finished run");
            return Err(Usage(missing).into());
        }
        return Ok(Model::load(&file)?);
    }
    if path.exists() {
        return if is_onnx(path) { onnx(path) } else { Ok(Model::load(path)?) };
    }
    let names: Vec<&str> = zoo::published_names().collect();
    let unknown = || Usage(format!("`{spec}` is neither a model file, a run folder nor published weights ({})", names.join(", ")));
    if !names.contains(&spec) {
        return Err(unknown().into());
    }
    let zoo_model = zoo::model(spec)?;
    let published = zoo_model.published().ok_or_else(unknown)?;
    let file = fetch::locate(published.fetch_name, &fetch::cache_dir())
        .with_context(|| format!("the weights of {spec} are not in the cache: run `fieldmark fetch {}`", published.fetch_name))?;
    let (graph, weights) = zoo::load_published(zoo_model, &file)?;
    let classes = (published.classes)().into_iter().map(String::from).collect();
    Ok(Model { graph, weights, metadata: Metadata::new(classes, zoo_model.preprocess(&zoo_model.config())) })
}

/// The name of a network whose features are used: of a run folder its model file.
pub fn backbone_name(model: Option<&str>) -> Option<String> {
    model.map(|name| match Path::new(name) {
        folder if folder.is_dir() => folder.join("model.safetensors").display().to_string(),
        _ => name.to_string(),
    })
}

/// Whether a file is called as ONNX files are.
pub fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
}

/// An ONNX file; what is assumed about it is told on stderr.
fn onnx(path: &Path) -> Result<Model> {
    let (model, notes) = Model::from_onnx(path)?;
    for note in notes {
        eprintln!("note: {}: {note}", path.display());
    }
    Ok(model)
}

/// [`model`], or an architecture of the zoo with random weights: what can be run without being right.
pub fn network(spec: &str) -> Result<Model> {
    let fetched = zoo::published_names().any(|name| name == spec) && fetch::locate(spec, &fetch::cache_dir()).is_some();
    if fetched || Path::new(spec).exists() {
        return model(spec);
    }
    let Ok(zoo_model) = zoo::model(spec) else {
        let names: Vec<&str> = zoo::names().collect();
        return Err(Usage(format!("`{spec}` is neither a model file, a run folder nor an architecture ({})", names.join(", "))).into());
    };
    let graph = zoo_model.build(&zoo_model.config())?;
    let weights = graph.init_weights(0);
    let classes = (0..graph.num_classes()).map(|class| class.to_string()).collect();
    Ok(Model { graph, weights, metadata: Metadata::new(classes, zoo_model.preprocess(&zoo_model.config())) })
}

/// A data set, its warnings told on stderr.
pub fn dataset(spec: &str, args: &DataArgs, soft: bool) -> Result<Dataset> {
    dataset_with(spec, args, soft, None)
}

/// [`dataset`] for a model: a label that its class list lacks is an error which says where it stands.
pub fn dataset_with(spec: &str, args: &DataArgs, soft: bool, class_list: Option<Classes>) -> Result<Dataset> {
    let options = OpenOptions {
        label_column: args.label_column.clone(),
        path_column: args.path_column.clone(),
        split_column: args.split_column.clone(),
        group_column: args.group_column.clone(),
        soft,
        class_list,
        ..OpenOptions::default()
    };
    let dataset = Dataset::open_with(spec, &options)?;
    tell_warnings(&dataset.warnings);
    Ok(dataset)
}

/// Warnings shown in full.
const WARNINGS_SHOWN: usize = 10;

fn tell_warnings(warnings: &[String]) {
    for warning in warnings.iter().take(WARNINGS_SHOWN) {
        eprintln!("warning: {warning}");
    }
    if warnings.len() > WARNINGS_SHOWN {
        eprintln!("warning: … and {} more", warnings.len() - WARNINGS_SHOWN);
    }
}

/// The data set for training, shared.
pub fn training_data(spec: &str, args: &DataArgs, soft: bool) -> Result<Arc<Dataset>> {
    Ok(Arc::new(dataset(spec, args, soft)?))
}

/// The first of `stem-1`, `stem-2`, … that does not exist.
pub fn fresh_folder(stem: &str) -> PathBuf {
    let mut number = 1;
    loop {
        let path = PathBuf::from(format!("{stem}-{number}"));
        if !path.exists() {
            return path;
        }
        number += 1;
    }
}

/// A short name for folders from what the user called a data set.
pub fn short_name(spec: &str) -> String {
    let stem = Path::new(spec).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let kept: String = stem.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '-' }).collect();
    if kept.trim_matches('-').is_empty() { "data".into() } else { kept }
}
