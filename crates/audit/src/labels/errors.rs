//! How many labels are wrong, and what a reviewer will find.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::joint::{confident_class, threshold};
use super::{ConfidentJoint, Labelled, TOLERANCE, argmax};
use crate::{InputError, quantile};

/// Settings of [`estimate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorsOptions {
    /// Bootstrap replicates of the interval; fewer, but 20 at least, where samples times classes times replicates exceed 2e10.
    pub replicates: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl Default for ErrorsOptions {
    fn default() -> Self {
        Self { replicates: 200, seed: 0 }
    }
}

/// Probabilities that all replicates together may visit.
const REPLICATED: usize = 20_000_000_000;

/// How many labels are wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Errors {
    /// Samples that confidently belong to another class (`cleanlab.count.num_label_issues`): a cautious count; on human label noise it is about
    /// half of the truth.
    pub confident: usize,
    /// The percentile bootstrap interval (95 %) of `confident`.
    pub confident_ci95: [f64; 2],
    /// The expected number: what the calibrated joint has off its diagonal. Images between classes count in part, whose label is not wrong.
    pub expected: f64,
    /// The percentile bootstrap interval (95 %) of `expected`. It covers the draw of the samples, not a model that is wrong in the same way
    /// everywhere.
    pub expected_ci95: [f64; 2],
    /// For each sample, the probability that its label is wrong; they sum to `expected` (to a half where that is less).
    pub probability: Vec<f64>,
}

/// What reviewing the most suspect samples should find.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Samples reviewed.
    pub samples: usize,
    /// Expected share of them whose label is wrong.
    pub precision: f64,
    /// Within which that share falls in 95 of 100 reviews, if the probabilities are right.
    pub precision_ci95: [f64; 2],
    /// Expected share of all wrong labels that are among them.
    pub recall: f64,
}

impl Errors {
    /// What a review of the `samples` with the largest error probability finds. None where there is nothing to review.
    pub fn budget(&self, samples: usize) -> Option<Budget> {
        let mut sorted = self.probability.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        sorted.truncate(samples);
        if sorted.is_empty() {
            return None;
        }
        let n = sorted.len() as f64;
        let found: f64 = sorted.iter().sum();
        // A sum of independent draws (Poisson binomial), by its normal approximation.
        let spread = 1.96 * sorted.iter().map(|p| p * (1.0 - p)).sum::<f64>().sqrt();
        Some(Budget {
            samples: sorted.len(),
            precision: found / n,
            precision_ci95: [((found - spread) / n).max(0.0), ((found + spread) / n).min(1.0)],
            recall: if self.expected > 0.0 { found / self.expected } else { 0.0 },
        })
    }
}

/// Estimates the number of wrong labels.
///
/// The error probability of a sample follows from Bayes' rule: `P(true = j | x, given = i) ∝ P(given = i | true = j) · P(true = j | x)`, with
/// the noise of the calibrated joint and one wrong label more in each class (spread over the other classes): where the joint counts none, the
/// least plausible labels still come first. `P(true | x)` is the out-of-fold probability, first scaled by a temperature to fit the given labels
/// (Guo et al. 2017), then freed from the noise that a model learns from noisy labels (expectation maximisation for a mixture with known
/// components: Richardson 1972, Lucy 1974). All odds are then multiplied by the one factor that makes the probabilities sum to the expected number.
///
/// # Errors
/// No samples.
pub fn estimate(data: &Labelled<'_>, joint: &ConfidentJoint, options: &ErrorsOptions) -> Result<Errors, InputError> {
    if data.is_empty() {
        return Err(InputError::TooFew { what: "labelled samples", least: 1, found: 0 });
    }
    let noise = smoothed(joint);
    let temperature = temperature(data);
    let of = |sample| error_odds(data.label(sample), data.row(sample), temperature, &noise);
    let odds: Vec<f64> = (0..data.len()).into_par_iter().map(of).collect();
    let (confident, expected) = counted(data, &joint.thresholds, &vec![1; data.len()]);
    let replicate = |replicate: usize| {
        let weights = draw(data.len(), options.seed, replicate);
        counted(data, &weighted_thresholds(data, &weights), &weights)
    };
    let afforded = (REPLICATED / (data.len() * data.classes())).max(20);
    let draws: Vec<(usize, f64)> = (0..options.replicates.min(afforded)).into_par_iter().map(replicate).collect();
    Ok(Errors {
        confident,
        confident_ci95: interval(draws.iter().map(|d| d.0 as f64).collect(), confident as f64),
        expected,
        expected_ci95: interval(draws.iter().map(|d| d.1).collect(), expected),
        probability: scaled_to(odds, expected.max(LEAST_EXPECTED)),
    })
}

/// Wrong labels that are shared out where the joint counts none: the order of the samples is kept.
const LEAST_EXPECTED: f64 = 0.5;

/// Probabilities from odds, all multiplied by the factor that makes the probabilities sum to `total` (by bisection of its logarithm).
fn scaled_to(odds: Vec<f64>, total: f64) -> Vec<f64> {
    let probability = |odds: f64, factor: f64| if odds.is_finite() { odds * factor / (1.0 + odds * factor) } else { 1.0 };
    let (mut low, mut high) = (-60.0f64, 60.0f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        let factor = middle.exp();
        if odds.iter().map(|&o| probability(o, factor)).sum::<f64>() < total { low = middle } else { high = middle }
    }
    let factor = f64::midpoint(low, high).exp();
    odds.into_iter().map(|o| probability(o, factor)).collect()
}

/// `P(given | true)`, `[given, true]`.
struct Noise {
    classes: usize,
    rates: Vec<f64>,
}

fn smoothed(joint: &ConfidentJoint) -> Noise {
    let classes = joint.classes;
    let one = 1.0 / (classes as f64 - 1.0);
    let count = |given: usize, truth: usize| joint.count(given, truth) as f64 + if given == truth { 0.0 } else { one };
    let totals: Vec<f64> = (0..classes).map(|truth| (0..classes).map(|given| count(given, truth)).sum()).collect();
    Noise { classes, rates: (0..classes * classes).map(|i| count(i / classes, i % classes) / totals[i % classes]).collect() }
}

/// With a weight for each sample: the number that confidently are, and are predicted to be, of another class than given; and the number that the
/// calibrated joint implies, before rounding.
fn counted(data: &Labelled<'_>, thresholds: &[f64], weights: &[u32]) -> (usize, f64) {
    let mut confident = 0;
    // For each given class: all samples, those that are confidently of any class, those that are of the given one.
    let mut rows = vec![(0.0, 0.0, 0.0); data.classes()];
    for ((label, row), &weight) in data.rows().zip(weights).filter(|(_, weight)| **weight > 0) {
        let w = f64::from(weight);
        rows[label].0 += w;
        let Some(class) = confident_class(row, thresholds) else { continue };
        rows[label].1 += w;
        if class == label {
            rows[label].2 += w;
        } else if !spared(label, row) {
            confident += weight as usize;
        }
    }
    // As the joint has it, one sample at least is right in every class.
    let wrong = |&(all, any, own): &(f64, f64, f64)| all * (1.0 - own.max(1.0) / (any - own + own.max(1.0)));
    (confident, rows.iter().map(wrong).sum())
}

/// Whether the label is almost the prediction: then every prune rule spares the sample.
fn spared(label: usize, row: &[f64]) -> bool {
    let best = argmax(row);
    row[best] < row[label] + TOLERANCE || (row[best] == row[label] + TOLERANCE && label < best)
}

fn weighted_thresholds(data: &Labelled<'_>, weights: &[u32]) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); data.classes()];
    for ((label, row), &weight) in data.rows().zip(weights) {
        sums[label].0 += f64::from(weight) * row[label];
        sums[label].1 += f64::from(weight);
    }
    sums.iter().map(|&(sum, n)| threshold(sum, n)).collect()
}

/// How often each sample is drawn in a replicate (Efron 1979); its own stream, so that threads do not matter.
fn draw(samples: usize, seed: u64, replicate: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(replicate as u64);
    let mut counts = vec![0; samples];
    (0..samples).for_each(|_| counts[rng.random_range(0..samples)] += 1);
    counts
}

/// The 2.5 and 97.5 percentiles, or the value alone where nothing was drawn.
fn interval(values: Vec<f64>, value: f64) -> [f64; 2] {
    if values.is_empty() { [value; 2] } else { [quantile::of(&values, 0.025), quantile::of(&values, 0.975)] }
}

/// Least probability that scaling works with.
const FLOOR: f64 = 1e-12;

/// The temperature that makes the probabilities fit the given labels best: least cross-entropy, by golden section over its logarithm.
fn temperature(data: &Labelled<'_>) -> f64 {
    // A fixed stride keeps this cheap on large sets; one number needs no more samples.
    let stride = data.len().div_ceil(20_000);
    let loss = |log_t: f64| -> f64 {
        let t = log_t.exp();
        let of = |sample: usize| -scaled(data.row(sample), t)[data.label(sample)].max(FLOOR).ln();
        (0..data.len()).step_by(stride).map(of).sum()
    };
    let (mut low, mut high) = (-3.0f64, 3.0f64);
    let ratio = (5.0f64.sqrt() - 1.0) / 2.0;
    let (mut a, mut b) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_a, mut at_b) = (loss(a), loss(b));
    for _ in 0..25 {
        if at_a <= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - ratio * (high - low);
            at_a = loss(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + ratio * (high - low);
            at_b = loss(b);
        }
    }
    f64::midpoint(low, high).exp()
}

/// `softmax(log p / t)`.
fn scaled(row: &[f64], t: f64) -> Vec<f64> {
    let log: Vec<f64> = row.iter().map(|p| p.max(FLOOR).ln() / t).collect();
    let max = log.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = log.iter().map(|v| (v - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|v| v / sum).collect()
}

/// Classes that [`error_odds`] looks at, at most: those a sample could be; its cost grows with their square.
const LIKELY: usize = 32;

/// Odds that the label is wrong.
fn error_odds(given: usize, row: &[f64], temperature: f64, noise: &Noise) -> f64 {
    let scaled = scaled(row, temperature);
    let classes = likely(given, &scaled);
    let own = classes.iter().position(|&k| k == given).unwrap_or(0);
    let rate = |given: usize, truth: usize| noise.rates[classes[given] * noise.classes + classes[truth]];
    let rates: Vec<f64> = (0..classes.len() * classes.len()).map(|i| rate(i / classes.len(), i % classes.len())).collect();
    let observed: Vec<f64> = classes.iter().map(|&k| scaled[k]).collect();
    let truth = unmixed(&observed, &rates);
    let joint = |j: usize| rates[own * classes.len() + j] * truth[j];
    (0..classes.len()).filter(|&j| j != own).map(joint).sum::<f64>() / joint(own)
}

/// The most probable classes, the given one always among them, in rising order.
fn likely(given: usize, p: &[f64]) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..p.len()).collect();
    if classes.len() > LIKELY {
        let rank = |k: usize| if k == given { f64::INFINITY } else { p[k] };
        classes.select_nth_unstable_by(LIKELY - 1, |&a, &b| rank(b).total_cmp(&rank(a)).then(a.cmp(&b)));
        classes.truncate(LIKELY);
        classes.sort_unstable();
    }
    classes
}

/// Steps of [`unmixed`].
const STEPS: usize = 10;

/// The distribution over true classes which, passed through the noise `rates` `[given, true]`, gives `observed`: a fixed number of steps of
/// expectation maximisation, from the observed distribution itself.
fn unmixed(observed: &[f64], rates: &[f64]) -> Vec<f64> {
    let classes = observed.len();
    let mut truth = observed.to_vec();
    for _ in 0..STEPS {
        let ratio: Vec<f64> = (0..classes)
            .map(|given| {
                let mixed: f64 = rates[given * classes..(given + 1) * classes].iter().zip(&truth).map(|(t, q)| t * q).sum();
                if mixed > 0.0 { observed[given] / mixed } else { 0.0 }
            })
            .collect();
        for (j, q) in truth.iter_mut().enumerate() {
            *q *= (0..classes).map(|given| rates[given * classes + j] * ratio[given]).sum::<f64>();
        }
    }
    truth
}
