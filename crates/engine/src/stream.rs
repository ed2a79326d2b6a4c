//! Many files: decoded by several threads, classified in batches, in order, with bounded memory.

use std::path::{Path, PathBuf};

use images::DecodeOptions;

use crate::classifier::{Classifier, Prediction};
use crate::error::ClassifyError;

/// How [`Classifier::classify_paths`] works through a list of files.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Images in a batch; at least 1.
    pub batch_size: usize,
    /// Threads that decode; 0 means one for each core.
    pub workers: usize,
    /// Limits and background of decoding.
    pub decode: DecodeOptions,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { batch_size: 16, workers: 0, decode: DecodeOptions::default() }
    }
}

/// What became of one file.
#[derive(Debug)]
pub struct PathOutcome {
    /// Position in the list.
    pub index: usize,
    /// The file.
    pub path: PathBuf,
    /// The prediction, or why there is none.
    pub result: Result<Prediction, ClassifyError>,
}

impl Classifier {
    /// Classifies files in order and hands each outcome to `each`; a file that cannot be decoded gives an error outcome and stops nothing.
    pub fn classify_paths<P: AsRef<Path> + Sync>(&self, paths: &[P], options: &StreamOptions, each: impl FnMut(PathOutcome)) {
        let _ = (paths, options, each);
        unimplemented!()
    }
}
