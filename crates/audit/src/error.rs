//! What can go wrong in an audit, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why an audit could not be done or applied. A picture that cannot be read is a finding, not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {path}", path = .path.display())]
    Io {
        /// read, write, create the folder...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system refused threads.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        reason: String,
    },
    /// The stop flag was raised; what was measured until then is kept.
    #[error("the audit was interrupted; what was measured is kept, run it again to continue")]
    Interrupted,
    /// A table of decisions or regions that cannot be used.
    #[error("{path}: row {row}: {message}", path = .path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// The row, counted from 1 with the header.
        row: u64,
        /// What was expected and found.
        message: String,
    },
    /// A decision that does not fit the data set.
    #[error("the decision on {id}: {message}")]
    Decision {
        /// The picture that it was made on.
        id: String,
        /// What is wrong, and the cure.
        message: String,
    },
    /// A picture of which no copy could be made.
    #[error("no copy of {path}", path = .path.display())]
    Copy {
        /// The picture.
        path: PathBuf,
        /// Why.
        source: images::ImageError,
    },
    /// A region to be blurred that the picture does not have.
    #[error(
        "{path}: the region at {left}, {top} lies outside the picture of {width}×{height} pixels (upright); no copy was made",
        path = .path.display(), left = .region.left, top = .region.top
    )]
    Outside {
        /// The picture.
        path: PathBuf,
        /// The region.
        region: images::Rectangle,
        /// Width of the picture in pixels.
        width: usize,
        /// Height of the picture in pixels.
        height: usize,
    },
    /// A copy that would overwrite something.
    #[error("{path} exists already; copies are written to new files only", path = .path.display())]
    Exists {
        /// The file that is there.
        path: PathBuf,
    },
    /// Tables whose sizes disagree.
    #[error(transparent)]
    Input(#[from] crate::InputError),
}

impl AuditError {
    /// For `map_err` on what the system refused.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuditError {
        let path = path.to_path_buf();
        move |source| AuditError::Io { action, path, source }
    }
}
