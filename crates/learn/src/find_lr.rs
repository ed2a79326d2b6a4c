//! The learning-rate range test (Smith, 2015, as fastai runs it): a rising rate on a copy of the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use data::{Loader, LoaderOptions, sampler};
use graph::Tensor;
use serde::{Deserialize, Serialize};

use crate::LearnError;
use crate::fit::{FitOptions, FitTask, TargetMaker, Trainer, cross_entropy, groups};
use crate::network::NoiseKey;
use crate::optim::{Gradients, Group, Optimizer};

/// Rates tried.
const STEPS: usize = 100;
/// The first rate.
const LOW: f64 = 1e-7;
/// The last rate.
const HIGH: f64 = 10.0;
/// Share of the old value in the smoothed loss.
const SMOOTHING: f64 = 0.98;

/// What a range test found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LrRange {
    /// Rates tried, rising.
    pub rates: Vec<f64>,
    /// Smoothed training loss at each.
    pub losses: Vec<f64>,
    /// A rate in the middle of the longest valley of the losses; `None` where they never fell.
    pub suggestion: Option<f64>,
}

/// Raises the learning rate from 1e-7 to 10 over 100 updates of a copy of the network, and stops where the loss exceeds four times its best
/// or `stop` is raised. `observe` gets every rate and smoothed loss. Neither the task nor a later fit is changed by it.
///
/// # Errors
/// As [`fit`](crate::fit()), apart from a loss that is not finite, which ends the test.
pub fn find_lr(task: &FitTask, options: &FitOptions, observe: &mut dyn FnMut(f64, f64), stop: &AtomicBool) -> Result<LrRange, LearnError> {
    options.check().map_err(|(field, problem)| LearnError::Recipe { field: field.into(), problem })?;
    let targets = TargetMaker::new(&task.dataset, &task.train, options)?;
    let mut trainer = Trainer::new(&task.graph, task.weights.clone(), options, task.device)?;
    let groups = groups(&trainer, options);
    let mut optimizer = Optimizer::new(options);
    let loading = LoaderOptions { batch_size: options.batch_size, seed: options.seed, ..task.loading.clone() };
    let loader = Loader::new(Arc::clone(&task.dataset), loading)?;
    let (mut rates, mut losses, mut gradients) = (Vec::new(), Vec::new(), Gradients::default());
    let (mut average, mut best) = (0.0, f64::INFINITY);
    'test: for epoch in 0..STEPS as u64 {
        let before = rates.len();
        for batch in loader.epoch(&sampler::shuffled(&task.train, options.seed, epoch), epoch) {
            if rates.len() == STEPS || stop.load(Ordering::Relaxed) {
                break 'test;
            }
            if batch.indices.is_empty() {
                continue;
            }
            let target = targets.of(&task.dataset, &batch.indices);
            let key = NoiseKey { seed: options.seed, epoch, step: rates.len() as u64 };
            let images = Tensor { shape: batch.shape.to_vec(), data: batch.images };
            gradients.clear();
            let features = trainer.features(images)?;
            let loss = trainer.step(&features, key, &mut gradients, |logits| cross_entropy(&logits.data, &target))?;
            let rate = LOW * (HIGH / LOW).powf(rates.len() as f64 / (STEPS - 1) as f64);
            average = SMOOTHING * average + (1.0 - SMOOTHING) * loss;
            let smooth = average / (1.0 - SMOOTHING.powi(rates.len() as i32 + 1));
            if !smooth.is_finite() || smooth > 4.0 * best {
                break 'test;
            }
            best = best.min(smooth);
            observe(rate, smooth);
            rates.push(rate);
            losses.push(smooth);
            let group = |name: &str| groups.get(name).copied().unwrap_or(Group { lr: 1.0, decay: false, l1: false });
            trainer.network_mut().change(|weights| optimizer.update(weights, &gradients.values, rate, group));
        }
        if rates.len() == before {
            return Err(LearnError::Data(format!("none of the {} training images could be read", task.train.len())));
        }
    }
    let suggestion = valley(&rates, &losses);
    Ok(LrRange { rates, losses, suggestion })
}

/// fastai's "valley": the longest falling subsequence of the losses (without the first tenth and the last five), a third and a half of a
/// third into it.
fn valley(rates: &[f64], losses: &[f64]) -> Option<f64> {
    let (from, to) = (losses.len() / 10, losses.len().saturating_sub(5));
    let (rates, losses) = (rates.get(from..to)?, losses.get(from..to)?);
    let mut length = vec![1usize; losses.len()];
    let mut end = 0;
    for i in 1..losses.len() {
        for j in 0..i {
            if losses[i] < losses[j] && length[i] < length[j] + 1 {
                length[i] = length[j] + 1;
            }
        }
        if length[i] > length[end] {
            end = i;
        }
    }
    if *length.get(end)? < 2 {
        return None;
    }
    let start = (end + 1).saturating_sub(length[end]);
    let section = (end - start) / 3;
    rates.get(start + section + section / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_valley_lies_on_the_falling_part_of_the_curve() {
        let rates: Vec<f64> = (0..100).map(|i| 10f64.powf(-7.0 + 8.0 * f64::from(i) / 99.0)).collect();
        let losses: Vec<f64> = (0..100)
            .map(|i| {
                if i < 40 {
                    2.3
                } else if i < 80 {
                    2.3 - 0.04 * f64::from(i - 40)
                } else {
                    5.0
                }
            })
            .collect();
        let suggestion = valley(&rates, &losses).map(f64::log10);
        assert!(suggestion.is_some_and(|s| (-4.0..-2.0).contains(&s)), "{suggestion:?}");
        assert_eq!(valley(&rates, &vec![1.0; 100]), None);
        assert_eq!(valley(&[], &[]), None);
    }
}
