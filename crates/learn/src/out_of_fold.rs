//! Probabilities that a model gives to samples which it was not fitted to: what a data audit judges labels by.

use data::{Dataset, sampler, split};
use evaluate::Predictions;

use crate::{LearnError, ProbeData, table};

/// Rows that choose a strength, at most: it hardly depends on more, and the sweep is most of the work.
const SWEEP_ROWS: usize = 4000;

/// How often, and on which part of the samples, a judge is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folding {
    /// Folds; with 1, the judge is fitted to all samples and predicts those same samples (LabelFix: Müller and Markert 2019).
    pub folds: usize,
    /// Repeats with other folds (and, for networks, other first weights), whose probabilities are averaged.
    pub repeats: usize,
    /// Seed of the first repeat; each further one has the next number.
    pub seed: u64,
}

impl Default for Folding {
    fn default() -> Self {
        Self { folds: 5, repeats: 1, seed: 0 }
    }
}

impl Folding {
    /// The seeds of the repeats.
    pub(crate) fn seeds(self) -> impl Iterator<Item = u64> {
        (0..self.repeats.max(1) as u64).map(move |r| self.seed.wrapping_add(r))
    }

    /// The fold of each sample; all 0 for a single fold.
    pub(crate) fn assign(self, labels: &[usize], groups: Option<&[String]>, seed: u64) -> Result<Vec<usize>, LearnError> {
        if self.folds == 1 {
            return Ok(vec![0; labels.len()]);
        }
        split::k_folds(labels, groups, self.folds, seed).map_err(|e| LearnError::Probe(format!("{} folds: {e}", self.folds)))
    }

    /// Positions that are fitted and positions that are judged in a fold.
    pub(crate) fn parts(self, folds: &[usize], fold: usize) -> (Vec<usize>, Vec<usize>) {
        if self.folds == 1 {
            return ((0..folds.len()).collect(), (0..folds.len()).collect());
        }
        (0..folds.len()).partition(|&i| folds[i] != fold)
    }
}

/// Out-of-fold class probabilities.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutOfFold {
    /// Indices of the samples that were judged, ascending.
    pub samples: Vec<usize>,
    /// `[samples, classes]`, the mean of all repeats.
    pub probabilities: Vec<f64>,
    /// Fold of each sample in the first repeat.
    pub folds: Vec<usize>,
    /// The probe's strength: the median of those that the repeats chose. None for networks.
    pub strength: Option<f64>,
}

impl OutOfFold {
    /// The probabilities as a table of predictions, with the given labels as truth.
    pub fn table(&self, dataset: &Dataset) -> Predictions {
        Predictions { fold: Some(self.folds.clone()), ..table(dataset, &self.samples, self.probabilities.clone()) }
    }

    /// Adds a repeat's probabilities.
    pub(crate) fn add(&mut self, probabilities: &[f64]) {
        if self.probabilities.is_empty() {
            self.probabilities = vec![0.0; probabilities.len()];
        }
        self.probabilities.iter_mut().zip(probabilities).for_each(|(sum, p)| *sum += p);
    }

    /// The mean of what several judges say of the same samples, each counting alike; none of none. Networks of unlike structure doubt different odd
    /// pictures, and the same wrong labels.
    pub(crate) fn mean(judges: Vec<Self>) -> Option<Self> {
        let count = judges.len();
        let mut judges = judges.into_iter();
        let mut mean = judges.next()?;
        judges.for_each(|judge| mean.add(&judge.probabilities));
        mean.divide(count);
        Some(mean)
    }

    /// Turns sums over repeats into means.
    pub(crate) fn divide(&mut self, repeats: usize) {
        self.probabilities.iter_mut().for_each(|p| *p /= repeats.max(1) as f64);
    }
}

impl ProbeData<'_> {
    /// Fits a probe on all folds but one, for each of the stratified folds (groups kept together), and judges that one; rows are given by
    /// position. The strength is chosen once a repeat, on inner folds of at most 4,000 rows of the first training part: one number of nine knows no
    /// label, and choosing is most of the work.
    ///
    /// # Errors
    /// Fewer samples of a class than folds, or a fit that fails.
    pub fn out_of_fold(&self, positions: &[usize], folding: Folding) -> Result<OutOfFold, LearnError> {
        let labels: Vec<usize> = positions.iter().map(|&p| self.label(p)).collect();
        let groups = self.dataset.groups().map(|g| positions.iter().map(|&p| g[self.features.indices[p]].clone()).collect::<Vec<_>>());
        let classes = self.dataset.classes.len();
        let mut judged = OutOfFold { samples: positions.iter().map(|&p| self.features.indices[p]).collect(), ..OutOfFold::default() };
        let mut strengths = Vec::new();
        for (repeat, seed) in folding.seeds().enumerate() {
            let folds = folding.assign(&labels, groups.as_deref(), seed)?;
            let mut probabilities = vec![0.0; positions.len() * classes];
            let first: Vec<usize> = folding.parts(&folds, 0).0.into_iter().map(|i| positions[i]).collect();
            let strength = self.strength(&first, seed)?;
            strengths.push(strength);
            for fold in 0..folding.folds {
                let (rest, held) = folding.parts(&folds, fold);
                let rest: Vec<usize> = rest.into_iter().map(|i| positions[i]).collect();
                let probe = self.fit(&rest, strength)?;
                let held_positions: Vec<usize> = held.iter().map(|&i| positions[i]).collect();
                let rows = probe.probabilities(self.features, &held_positions);
                for (&i, row) in held.iter().zip(rows.chunks_exact(classes)) {
                    probabilities[i * classes..(i + 1) * classes].copy_from_slice(row);
                }
            }
            judged.add(&probabilities);
            if repeat == 0 {
                judged.folds = folds;
            }
        }
        judged.divide(folding.repeats);
        strengths.sort_by(f64::total_cmp);
        judged.strength = strengths.get(strengths.len() / 2).copied();
        Ok(judged)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fold_predicts_what_it_learned_from() {
        let folding = Folding { folds: 1, ..Folding::default() };
        let folds = folding.assign(&[0, 1, 0], None, 0).unwrap_or_default();
        assert_eq!(folding.parts(&folds, 0), (vec![0, 1, 2], vec![0, 1, 2]));
        let three = Folding { folds: 3, ..Folding::default() };
        assert_eq!(three.parts(&[2, 0, 1, 0], 0), (vec![0, 2], vec![1, 3]));
    }

    #[test]
    fn repeats_are_averaged() {
        let mut judged = OutOfFold::default();
        judged.add(&[0.2, 0.8]);
        judged.add(&[0.4, 0.6]);
        judged.divide(2);
        assert!((judged.probabilities[0] - 0.3).abs() < 1e-12 && (judged.probabilities[1] - 0.7).abs() < 1e-12);
    }
}
