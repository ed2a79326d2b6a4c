//! What the samples of a fit are trained towards.

use data::Dataset;

use super::loss::Targets;
use super::{ClassWeighting, FitOptions};
use crate::LearnError;

/// The class weights and smoothing of a fit, applied batch by batch.
#[derive(Debug, Clone)]
pub(crate) struct TargetMaker {
    class_weights: Vec<f32>,
    smoothing: f32,
}

impl TargetMaker {
    /// Derives class weights from the `train` samples.
    ///
    /// # Errors
    /// A sample without a target, by its id; or nothing to train on.
    pub(crate) fn new(dataset: &Dataset, train: &[usize], options: &FitOptions) -> Result<Self, LearnError> {
        if train.is_empty() {
            return Err(LearnError::Data("there are no training samples; check the split".into()));
        }
        for &i in train {
            let sample = dataset.samples.get(i).ok_or_else(|| LearnError::Data(format!("sample {i} of {}", dataset.samples.len())))?;
            if sample.target.is_none() {
                return Err(LearnError::Data(format!("{}: expected a label to train on, found none; label it or leave it out", sample.id)));
            }
        }
        let k = dataset.classes.len();
        let counts = dataset.class_counts(train);
        let weights = match options.class_weighting {
            ClassWeighting::None => vec![1.0; k],
            ClassWeighting::Balanced => data::weights::balanced(&counts),
            ClassWeighting::Effective => data::weights::effective_number(&counts, options.effective_beta),
        };
        Ok(Self { class_weights: weights.iter().map(|&w| w as f32).collect(), smoothing: options.label_smoothing })
    }

    /// The targets of a batch.
    pub(crate) fn of(&self, dataset: &Dataset, indices: &[usize]) -> Targets {
        let k = self.class_weights.len();
        let mut distributions = Vec::with_capacity(indices.len() * k);
        let mut weights = Vec::with_capacity(indices.len());
        for sample in indices.iter().filter_map(|&i| dataset.samples.get(i)) {
            match &sample.target {
                Some(target) => distributions.extend(target.as_distribution(k)),
                None => distributions.extend(std::iter::repeat_n(0.0, k)),
            }
            weights.push(sample.weight);
        }
        Targets::new(&distributions, &weights, &self.class_weights, self.smoothing)
    }
}
