use std::path::PathBuf;

/// What can be wrong with a table of predictions or a request to judge it.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The table has no classes.
    #[error("the predictions name no classes: at least one is needed")]
    NoClasses,
    /// Two classes share a name.
    #[error("class `{class}` is listed twice: class names must differ")]
    DuplicateClass {
        /// The repeated name.
        class: String,
    },
    /// A class has no name.
    #[error("class number {class} has an empty name: a table could not tell it from an unknown truth")]
    EmptyClass {
        /// Its index.
        class: usize,
    },
    /// A column does not have one entry per sample.
    #[error("column `{column}` has {found} entries, expected {expected} (one per sample{})", if column == "probabilities" { " and class" } else { "" })]
    Length {
        /// Which column.
        column: String,
        /// Entries it should have.
        expected: usize,
        /// Entries it has.
        found: usize,
    },
    /// A truth is not an index of a class.
    #[error("row {row} (`{id}`): truth is class number {found}, but there are only {classes} classes")]
    Truth {
        /// Row, from 1.
        row: usize,
        /// The sample.
        id: String,
        /// The index found.
        found: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A probability is not a number in 0..=1.
    #[error("row {row} (`{id}`): the probability of `{class}` is {found}, expected a number from 0 to 1")]
    Probability {
        /// Row, from 1.
        row: usize,
        /// The sample.
        id: String,
        /// The class.
        class: String,
        /// The value found.
        found: f64,
    },
    /// The probabilities of a sample do not sum to one.
    #[error("row {row} (`{id}`): the probabilities sum to {found}, expected 1 (within 0.001); apply softmax first")]
    Sum {
        /// Row, from 1.
        row: usize,
        /// The sample.
        id: String,
        /// Their sum.
        found: f64,
    },
    /// An extra column has the name of a built-in one.
    #[error("an extra column may not be called `{column}`: that name is taken by the table itself")]
    ReservedColumn {
        /// The name.
        column: String,
    },
    /// No sample has a truth to compare with.
    #[error("none of the {samples} samples has a known class: nothing to evaluate")]
    NoTruth {
        /// Samples in the table.
        samples: usize,
    },
    /// A slice was asked for by a column that the table lacks.
    #[error("cannot slice by `{column}`: the predictions have no such column (columns: {})", if columns.is_empty() { "none".to_string() } else { columns.join(", ") })]
    UnknownColumn {
        /// The name asked for.
        column: String,
        /// The names there are.
        columns: Vec<String>,
    },
    /// A slice column has too many different values.
    #[error("cannot slice by `{column}`: it has {values} different values, at most {limit} are supported; group them first")]
    TooManySlices {
        /// The column.
        column: String,
        /// Distinct values found.
        values: usize,
        /// The limit.
        limit: usize,
    },
    /// An option is out of range.
    #[error("option `{option}` is {found}, expected {expected}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What it was set to.
        found: usize,
        /// What is allowed.
        expected: &'static str,
    },
    /// Two tables cannot be joined or compared.
    #[error("the two tables of predictions do not match: {reason}")]
    Mismatch {
        /// Where they differ.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file is not a table of predictions.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found, with row and column.
        reason: String,
    },
}
