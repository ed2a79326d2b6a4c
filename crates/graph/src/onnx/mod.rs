//! ONNX files: [`export`] a graph, [`import`] a classifier or backbone from elsewhere.
//!
//! What is covered, operator by operator, is in `docs/onnx.md`.

mod error;
mod export;
mod import;
mod limits;
mod proto;

pub use error::OnnxError;
pub use export::{ExportOptions, ExportedOutput, Preprocessing, Resampling, export};
pub use import::{FileInfo, ImportOptions, Imported, ImportedOutput, import, read};

/// Versions of the operators that are read and written.
const MIN_IMPORT_OPSET: i64 = 7;
const MAX_OPSET: i64 = 23;
const MIN_EXPORT_OPSET: i64 = 17;

/// Key of the metadata that holds the stages.
const STAGES_KEY: &str = "fieldmark.stages";
