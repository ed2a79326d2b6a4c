//! The layouts that a data set can have on disk.

pub mod digits;
pub mod elpv;
pub mod folders;
pub mod idx;
pub mod manifest;

use std::path::Path;

use crate::{DataError, Dataset, OpenOptions};

/// Opens whatever lies at `path`.
pub(crate) fn open_path(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    if path.is_dir() { open_folder(path, options) } else { open_file(path, options) }
}

/// A folder is taken for the first of: IDX files, the ELPV layout, optdigits, a manifest, class folders.
fn open_folder(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    let idx = idx::find_pairs(path)?;
    if !idx.is_empty() {
        return idx::open(path, &idx, options);
    }
    let labels = path.join("labels.csv");
    if elpv::is_elpv(&labels) {
        return elpv::open(&labels, options);
    }
    let digits = path.join("digits.csv.gz");
    if digits.is_file() {
        return digits::open(&digits, options);
    }
    for name in ["manifest.csv", "manifest.tsv", "labels.csv", "labels.tsv"] {
        let manifest = path.join(name);
        if manifest.is_file() {
            return manifest::open(&manifest, options);
        }
    }
    folders::open(path, options)
}

fn open_file(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    if let Some(pair) = idx::pair_of(path) {
        let folder = path.parent().unwrap_or(Path::new("."));
        return idx::open(folder, &[pair], options);
    }
    if name == "digits.csv.gz" {
        return digits::open(path, options);
    }
    if ![".csv", ".tsv", ".tab", ".txt"].iter().any(|ending| name.ends_with(ending)) {
        return Err(DataError::NotAManifest { path: path.into() });
    }
    if elpv::is_elpv(path) { elpv::open(path, options) } else { manifest::open(path, options) }
}

/// The canonical name of a split: lower case, and `val` for `valid`, `validation` and `dev`.
pub(crate) fn split_name(name: &str) -> String {
    let lower = name.trim().to_lowercase();
    match lower.as_str() {
        "valid" | "validation" | "dev" => "val".into(),
        "training" => "train".into(),
        "testing" => "test".into(),
        _ => lower,
    }
}

/// The name that a data set at `path` goes by.
fn name_of(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.into());
    whole.file_name().map_or_else(|| path.display().to_string(), folders::display_name)
}

/// `first` few of a list and how many more there are.
fn some_of<T: AsRef<str>>(items: &[T], first: usize) -> String {
    let mut text = items.iter().take(first).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if items.len() > first {
        text.push_str(&format!(" and {} more", items.len() - first));
    }
    text
}

/// The relabelled data set when a class list was given.
fn with_class_list(mut dataset: Dataset, options: &OpenOptions) -> Result<Dataset, DataError> {
    if let Some(list) = &options.class_list {
        dataset.remap_classes(list)?;
    }
    Ok(dataset)
}
