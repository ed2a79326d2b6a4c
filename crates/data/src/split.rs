//! Dividing samples: stratified, grouped, both, and into folds. Exact counts, seeded.

/// Why samples cannot be divided as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// A number of folds that is too small or too large.
    #[error("{folds} folds cannot be made of {samples} {unit}: expected 2 to {samples} folds")]
    Folds {
        /// Folds asked for.
        folds: usize,
        /// What there is.
        samples: usize,
        /// samples or groups.
        unit: &'static str,
    },
    /// One list for the strata and one for the groups must be equally long.
    #[error("{strata} strata and {groups} groups were given: expected one of each for every sample")]
    Lengths {
        /// Number of strata entries.
        strata: usize,
        /// Number of group entries.
        groups: usize,
    },
}

/// stub
pub fn stratified(_strata: &[usize], _groups: Option<&[String]>, _fractions: &[f64], _seed: u64) -> Vec<Vec<usize>> {
    unimplemented!()
}

/// stub
pub fn k_folds(_strata: &[usize], _groups: Option<&[String]>, _k: usize, _seed: u64) -> Result<Vec<usize>, SplitError> {
    unimplemented!()
}
