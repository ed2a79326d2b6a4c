//! Probabilities that a probe gives to samples which it was not fitted to: what a data audit judges labels by.

use data::{sampler, split};

use crate::{LearnError, ProbeData};

/// Rows that choose a strength, at most: it hardly depends on more, and the sweep is most of the work.
const SWEEP_ROWS: usize = 4000;

/// Out-of-fold class probabilities.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutOfFold {
    /// Positions of the rows that were judged, ascending.
    pub positions: Vec<usize>,
    /// `[positions, classes]`.
    pub probabilities: Vec<f64>,
    /// Fold of each position.
    pub folds: Vec<usize>,
}

impl ProbeData<'_> {
    /// Fits a probe on all folds but one, for each of `k` stratified folds (groups kept together), and judges that one. The strength is
    /// chosen inside each training part, on inner folds of at most 4,000 of its rows.
    ///
    /// # Errors
    /// Fewer samples of a class than folds, or a fit that fails.
    pub fn out_of_fold(&self, positions: &[usize], k: usize, seed: u64) -> Result<OutOfFold, LearnError> {
        let labels: Vec<usize> = positions.iter().map(|&p| self.label(p)).collect();
        let groups = self.dataset.groups().map(|g| positions.iter().map(|&p| g[self.features.indices[p]].clone()).collect::<Vec<_>>());
        let folds = split::k_folds(&labels, groups.as_deref(), k, seed).map_err(|e| LearnError::Probe(format!("{k} folds: {e}")))?;
        let classes = self.dataset.classes.len();
        let mut probabilities = vec![0.0; positions.len() * classes];
        for fold in 0..k {
            let part = |inside: bool| -> Vec<usize> { (0..positions.len()).filter(|&i| (folds[i] == fold) == inside).collect() };
            let (held, rest) = (part(true), part(false));
            let rest: Vec<usize> = rest.into_iter().map(|i| positions[i]).collect();
            let probe = self.fit(&rest, self.strength(&rest, seed)?)?;
            let held_positions: Vec<usize> = held.iter().map(|&i| positions[i]).collect();
            let rows = probe.probabilities(self.features, &held_positions);
            for (&i, row) in held.iter().zip(rows.chunks_exact(classes)) {
                probabilities[i * classes..(i + 1) * classes].copy_from_slice(row);
            }
        }
        Ok(OutOfFold { positions: positions.to_vec(), probabilities, folds })
    }

    /// The strength that inner folds of at most 4,000 of the rows choose.
    ///
    /// # Errors
    /// As [`ProbeData::sweep`].
    pub fn strength(&self, positions: &[usize], seed: u64) -> Result<f64, LearnError> {
        let mut some = sampler::shuffled(positions, seed, 0);
        some.truncate(SWEEP_ROWS);
        let sweep = self.sweep(&some, &[], seed)?;
        Ok(sweep.iter().find(|s| s.chosen).map_or(1.0, |s| s.c))
    }
}
