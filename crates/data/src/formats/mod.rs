//! The layouts that a data set can have on disk.

pub mod folders;
pub mod idx;

use std::path::Path;

use crate::{DataError, Dataset, OpenOptions};

/// Opens whatever lies at `path`.
pub(crate) fn open_path(_path: &Path, _options: &OpenOptions) -> Result<Dataset, DataError> {
    unimplemented!()
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
