//! What can be wrong with a file of weights, or with weights for a graph.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// An error about weights; names the file or the weights.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// File.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },
    /// The file's pickle wants more than a state dict of tensors.
    #[error("{}: refused: the pickle wants to {wants}; only state dicts of tensors are read", path.display())]
    Refused {
        /// File.
        path: PathBuf,
        /// What it wants, with the name of the opcode or global.
        wants: String,
    },
    /// Weights do not fit the graph; every one is listed.
    #[error("the weights do not fit graph {graph:?}, {} problems:\n  {}", problems.len(), problems.join("\n  "))]
    Mismatch {
        /// Graph name.
        graph: String,
        /// One line a weight: missing, extra, or expected and found shape.
        problems: Vec<String>,
    },
    /// Two weights would get one name.
    #[error("renaming weights: {}", collisions.join("; "))]
    Collision {
        /// One line a collision.
        collisions: Vec<String>,
    },
}

impl WeightsError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn malformed(path: &Path, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), problem: problem.into() }
    }
}
