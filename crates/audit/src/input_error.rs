//! What can be wrong with the tables that a check is given.

/// A check cannot be made as asked.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A table does not have one entry for each sample (and class, or column).
    #[error("`{what}` has {found} entries, expected {expected}")]
    Length {
        /// Which table.
        what: &'static str,
        /// Entries it should have.
        expected: usize,
        /// Entries it has.
        found: usize,
    },
    /// A label is not the index of a class.
    #[error("sample {sample}: label {label} is out of range, there are {classes} classes (0 to {})", classes.saturating_sub(1))]
    Label {
        /// Position of the sample.
        sample: usize,
        /// The label found.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A probability is not a number in 0..=1.
    #[error("sample {sample}: the probability of class {class} is {found}, expected a number from 0 to 1")]
    Probability {
        /// Position of the sample.
        sample: usize,
        /// The class.
        class: usize,
        /// The value found.
        found: f64,
    },
    /// A value is NaN or infinite.
    #[error("sample {sample}: value {column} of `{what}` is not finite")]
    NotFinite {
        /// Which table.
        what: &'static str,
        /// Position of the sample.
        sample: usize,
        /// Position in its row.
        column: usize,
    },
    /// There is too little to judge.
    #[error("{what}: at least {least} needed, got {found}")]
    TooFew {
        /// What is counted.
        what: &'static str,
        /// How many are needed.
        least: usize,
        /// How many there are.
        found: usize,
    },
    /// An option is out of range.
    #[error("`{option}` is {found}, expected {expected}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What it was set to.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A sample or an annotator has no label at all.
    #[error("{what} {number} has no label: leave it out")]
    Unlabelled {
        /// `sample` or `annotator`.
        what: &'static str,
        /// Its position.
        number: usize,
    },
    /// The closure that fits and predicts failed.
    #[error("fitting on {samples} samples failed")]
    Fit {
        /// Samples it was given.
        samples: usize,
        /// Its reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
