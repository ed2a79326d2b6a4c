//! Dawid and Skene 1979, *Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm*.

use super::Annotations;
use crate::labels::argmax;

/// Settings of [`dawid_skene`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DawidSkeneOptions {
    /// Stop when the summed change of shares, and of rates, is below this.
    pub tolerance: f64,
    /// Give up after this many steps.
    pub max_iterations: usize,
}

impl Default for DawidSkeneOptions {
    fn default() -> Self {
        Self { tolerance: 1e-5, max_iterations: 200 }
    }
}

/// What the annotators' agreement says about samples and annotators.
#[derive(Debug, Clone, PartialEq)]
pub struct DawidSkene {
    /// Probability of each class, `[n, classes]`.
    pub probabilities: Vec<f64>,
    /// The most probable class of each sample.
    pub consensus: Vec<usize>,
    /// Its probability, `[n]`.
    pub quality: Vec<f64>,
    /// Share of each class.
    pub prior: Vec<f64>,
    /// `P(given | true)` of each annotator, `[annotators, true, given]`; rows of a class that never occurs are zero.
    pub rates: Vec<f64>,
    /// Probability that an annotator is right, over the classes' shares.
    pub annotator_quality: Vec<f64>,
    /// Steps taken.
    pub iterations: usize,
    /// Whether the tolerance was reached.
    pub converged: bool,
}

/// Estimates classes and error rates together by expectation maximisation, from the shares of the votes (equation 3.1).
pub fn dawid_skene(data: &Annotations<'_>, options: &DawidSkeneOptions) -> DawidSkene {
    let (classes, annotators) = (data.classes(), data.annotators());
    let mut probabilities = vote_shares(data);
    let mut before: Option<(Vec<f64>, Vec<f64>)> = None;
    let (mut iterations, mut converged) = (0, false);
    loop {
        let (prior, rates) = maximise(data, &probabilities);
        probabilities = expect(data, &prior, &rates);
        iterations += 1;
        let change = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>();
        if let Some((old_prior, old_rates)) = &before {
            converged = change(old_prior, &prior) < options.tolerance && change(old_rates, &rates) < options.tolerance;
        }
        before = Some((prior, rates));
        if converged || iterations >= options.max_iterations {
            break;
        }
    }
    let (prior, rates) = before.unwrap_or_default();
    let rows = || probabilities.chunks_exact(classes);
    let right = |a: usize| (0..classes).map(|k| prior[k] * rates[(a * classes + k) * classes + k]).sum();
    DawidSkene {
        consensus: rows().map(argmax).collect(),
        quality: rows().map(|row| row[argmax(row)]).collect(),
        annotator_quality: (0..annotators).map(right).collect(),
        prior,
        rates,
        iterations,
        converged,
        probabilities,
    }
}

fn vote_shares(data: &Annotations<'_>) -> Vec<f64> {
    let mut out = Vec::with_capacity(data.len() * data.classes());
    for row in data.rows() {
        let mut shares = vec![0.0; data.classes()];
        row.iter().flatten().for_each(|&label| shares[label] += 1.0);
        let total: f64 = shares.iter().sum();
        out.extend(shares.into_iter().map(|s| s / total));
    }
    out
}

/// Class shares and error rates, given the probabilities (equations 2.3 and 2.4).
fn maximise(data: &Annotations<'_>, probabilities: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let classes = data.classes();
    let mut prior = vec![0.0; classes];
    let mut rates = vec![0.0; data.annotators() * classes * classes];
    for (row, p) in data.rows().zip(probabilities.chunks_exact(classes)) {
        prior.iter_mut().zip(p).for_each(|(s, p)| *s += p);
        for (annotator, label) in row.iter().enumerate().filter_map(|(a, label)| Some((a, (*label)?))) {
            for (truth, p) in p.iter().enumerate() {
                rates[(annotator * classes + truth) * classes + label] += p;
            }
        }
    }
    prior.iter_mut().for_each(|s| *s /= data.len().max(1) as f64);
    for row in rates.chunks_exact_mut(classes) {
        let sum: f64 = row.iter().sum();
        if sum > 0.0 {
            row.iter_mut().for_each(|r| *r /= sum);
        }
    }
    (prior, rates)
}

/// Class probabilities, given shares and rates (equation 2.5), in logarithms: hundreds of annotators do not underflow.
fn expect(data: &Annotations<'_>, prior: &[f64], rates: &[f64]) -> Vec<f64> {
    let classes = data.classes();
    let mut out = Vec::with_capacity(data.len() * classes);
    for row in data.rows() {
        let log: Vec<f64> = (0..classes)
            .map(|truth| {
                let labels = row.iter().enumerate().filter_map(|(a, label)| Some((a, (*label)?)));
                prior[truth].ln() + labels.map(|(a, label)| rates[(a * classes + truth) * classes + label].ln()).sum::<f64>()
            })
            .collect();
        let max = log.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if max == f64::NEG_INFINITY {
            // No class can give these labels: nothing is known but the shares.
            out.extend_from_slice(prior);
            continue;
        }
        let weights: Vec<f64> = log.iter().map(|v| (v - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        out.extend(weights.into_iter().map(|w| w / sum));
    }
    out
}
