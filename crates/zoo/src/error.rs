//! What can be wrong with a model's name, settings or published weights.

use thiserror::Error;

/// An error of the zoo; names the model.
#[derive(Debug, Error)]
pub enum ZooError {
    /// No model of that name.
    #[error("unknown model {name:?}; expected one of {}", crate::names().collect::<Vec<_>>().join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// A setting that the architecture cannot have.
    #[error("model {model:?}, {setting}: expected {expected}, found {found}")]
    Config {
        /// Model name.
        model: &'static str,
        /// Field of [`Config`](crate::Config).
        setting: &'static str,
        /// What would do.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The layers do not fit the input.
    #[error("model {model:?} cannot be built for these settings")]
    Graph {
        /// Model name.
        model: &'static str,
        /// The node that does not fit.
        source: graph::GraphError,
    },
    /// The model has no published weights.
    #[error(
        "model {model:?} has no published weights here; those that have are {}",
        crate::published_names().collect::<Vec<_>>().join(", ")
    )]
    Unpublished {
        /// Model name.
        model: &'static str,
    },
    /// The file of published weights does not fit the model.
    #[error("published weights of model {model:?} from {}", path.display())]
    Weights {
        /// Model name.
        model: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        source: graph::WeightsError,
    },
}
