//! What can go wrong with a model file and with classifying.

use std::path::PathBuf;

use graph::{GraphError, RunError, WeightsError};
use images::ImageError;
use thiserror::Error;

/// Why a model could not be saved, loaded or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The model file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("{}: cannot be written: {source}; {cure}", path.display())]
    Write {
        /// The model file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// What to do about it.
        cure: &'static str,
    },
    /// The bytes are no safetensors file, or stop early.
    #[error("{}: truncated or damaged, or no model file at all ({problem}); copy the file again, or train again", path.display())]
    Damaged {
        /// The model file.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },
    /// A safetensors file of something else.
    #[error("{}: a safetensors file without Fieldmark's metadata; expected a model file that `fieldmark train` wrote", path.display())]
    NotAModel {
        /// The file.
        path: PathBuf,
    },
    /// Content and checksum disagree.
    #[error("{}: altered since it was written (checksum {expected}, found {found}); copy the file again, or train again", path.display())]
    Checksum {
        /// The model file.
        path: PathBuf,
        /// As the file states it.
        expected: String,
        /// Of what the file holds.
        found: String,
    },
    /// Written by a later version of Fieldmark.
    #[error("{}: format version {found}, this build reads up to {supported}; update fieldmark", path.display())]
    Newer {
        /// The model file.
        path: PathBuf,
        /// Version of the file.
        found: u32,
        /// Highest version that this build knows.
        supported: u32,
    },
    /// A file of class names that is none.
    #[error("{}: {problem}; expected a text with one name a line, a JSON list, or JSON of index to name", path.display())]
    Labels {
        /// The file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// Parts that do not fit one another.
    #[error("{}the model does not fit together: {problem}", prefix(path))]
    Inconsistent {
        /// The model file, where there is one.
        path: Option<PathBuf>,
        /// What was expected and what was found.
        problem: String,
    },
    /// A graph that fails its checks.
    #[error("{}{source}", prefix(path))]
    Graph {
        /// The model file, where there is one.
        path: Option<PathBuf>,
        /// The problem.
        source: GraphError,
    },
    /// Weights that do not fit the graph.
    #[error("{}{source}", prefix(path))]
    Weights {
        /// The model file, where there is one.
        path: Option<PathBuf>,
        /// The problem.
        source: WeightsError,
    },
    /// An ONNX file that cannot be read, or a model that cannot become one.
    #[error("{}{source}", prefix(path))]
    Onnx {
        /// The file, where there is one.
        path: Option<PathBuf>,
        /// The problem.
        source: Box<graph::onnx::OnnxError>,
    },
    /// A preprocessing specification that makes no sense.
    #[error("{}preprocessing: {source}", prefix(path))]
    Preprocess {
        /// The model file, where there is one.
        path: Option<PathBuf>,
        /// The problem.
        source: ImageError,
    },
    /// The engine refused the graph.
    #[error(transparent)]
    Run(#[from] RunError),
}

fn prefix(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default()
}

impl From<graph::onnx::OnnxError> for ModelError {
    fn from(source: graph::onnx::OnnxError) -> Self {
        Self::Onnx { path: None, source: Box::new(source) }
    }
}

impl ModelError {
    /// The same error with the file's name.
    pub(crate) fn at(mut self, file: &std::path::Path) -> Self {
        match &mut self {
            Self::Inconsistent { path, .. }
            | Self::Graph { path, .. }
            | Self::Weights { path, .. }
            | Self::Onnx { path, .. }
            | Self::Preprocess { path, .. } => {
                *path = Some(file.to_path_buf());
            }
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Damaged { .. }
            | Self::NotAModel { .. }
            | Self::Checksum { .. }
            | Self::Newer { .. }
            | Self::Labels { .. }
            | Self::Run(_) => {}
        }
        self
    }
}

/// Why images could not be classified.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClassifyError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The engine.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A batch of values whose length is no multiple of one image's.
    #[error("expected a multiple of {expected} values (one image [C, H, W]), got {found}")]
    Batch {
        /// Values of one image.
        expected: usize,
        /// Values given.
        found: usize,
    },
}
