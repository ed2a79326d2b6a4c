//! What can go wrong while learning.

use std::path::PathBuf;

use thiserror::Error;

/// An error of a training job; the message names what was wrong and the cure.
#[derive(Debug, Error)]
pub enum LearnError {
    /// A recipe that cannot be carried out.
    #[error("in the recipe, {field}: {problem}")]
    Recipe {
        /// The field, as `section.name`.
        field: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// A threshold of an audit that cannot be set.
    #[error("{setting}: {problem}")]
    Setting {
        /// As it was given.
        setting: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// A data set that cannot be learned from.
    #[error("{0}")]
    Data(String),
    /// Copies of training images among those that judge.
    #[error("{0}; `fieldmark audit` shows them and writes a plan to drop them, and `--leaks allow` trains all the same")]
    Leak(String),
    /// A probe that cannot be fitted.
    #[error("cannot fit the probe: {0}")]
    Probe(String),
    /// Training went wrong (a loss that is not finite, …).
    #[error("training stopped: {0}")]
    Training(String),
    /// A checkpoint that cannot be used.
    #[error("checkpoint {path}: {problem}")]
    Checkpoint {
        /// Its file.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },
    /// A run folder that belongs to another run.
    #[error("the run folder {path} {problem}")]
    RunFolder {
        /// The folder.
        path: PathBuf,
        /// What it holds, and what to do.
        problem: String,
    },
    /// A file of the run folder could not be read or written.
    #[error("cannot {action} {path}: {source}{cure}", cure = cure(source))]
    File {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Published weights that are not in the cache.
    #[error("the weights of {name} are not in the cache: run `fieldmark fetch {name}`")]
    NotFetched {
        /// The name by which they are fetched.
        name: String,
    },
    /// The user stopped the job; what was done is kept.
    #[error("interrupted; the same command with the same --out goes on from where it stopped")]
    Interrupted,
    /// From the evaluation.
    #[error(transparent)]
    Evaluate(#[from] evaluate::EvaluateError),
    /// From the zoo.
    #[error(transparent)]
    Zoo(#[from] zoo::ZooError),
    /// From a weights file.
    #[error(transparent)]
    Weights(#[from] graph::weights::WeightsError),
    /// From running a network.
    #[error(transparent)]
    Run(#[from] graph::RunError),
    /// From a model file.
    #[error(transparent)]
    Model(#[from] engine::ModelError),
    /// From the data set.
    #[error(transparent)]
    Dataset(#[from] data::DataError),
    /// From an audit.
    #[error(transparent)]
    Audit(Box<audit::AuditError>),
    /// From the checks of an audit.
    #[error(transparent)]
    AuditInput(#[from] audit::InputError),
    /// From a graph's structure.
    #[error(transparent)]
    Graph(#[from] graph::GraphError),
}

/// What to do about a file that cannot be written.
fn cure(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; free some space and give the same command again, or choose another folder",
        ErrorKind::FileTooLarge => "; allow larger files (ulimit -f) and give the same command again, or choose another folder",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "; choose a folder that you may write to",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "; a file is in the place of a folder: choose another folder",
        _ => "",
    }
}

impl From<audit::AuditError> for LearnError {
    fn from(error: audit::AuditError) -> Self {
        Self::Audit(Box::new(error))
    }
}
