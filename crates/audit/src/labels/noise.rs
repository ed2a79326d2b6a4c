use super::{ConfidentJoint, Labelled};

/// How labels were confused, estimated from the confident joint (`cleanlab.count.estimate_latent`, method `cnt`).
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseModel {
    /// Number of classes.
    pub classes: usize,
    /// Share of each true class.
    pub prior: Vec<f64>,
    /// `P(given | true)`, `[given, true]`; columns sum to 1.
    pub noise: Vec<f64>,
    /// `P(true | given)`, `[true, given]`; columns sum to 1.
    pub inverse: Vec<f64>,
}

/// What divides is at least this.
const TINY: f64 = 1e-100;

/// Estimates prior and noise.
pub fn noise_model(data: &Labelled<'_>, joint: &ConfidentJoint) -> NoiseModel {
    let classes = joint.classes;
    let count = |given: usize, truth: usize| joint.count(given, truth) as f64;
    let given: Vec<f64> = (0..classes).map(|g| (0..classes).map(|t| count(g, t)).sum::<f64>().max(TINY)).collect();
    let truth: Vec<f64> = (0..classes).map(|t| (0..classes).map(|g| count(g, t)).sum::<f64>().max(TINY)).collect();
    let noise: Vec<f64> = (0..classes * classes).map(|i| count(i / classes, i % classes) / truth[i % classes]).collect();
    let inverse: Vec<f64> = (0..classes * classes).map(|i| count(i % classes, i / classes) / given[i % classes]).collect();
    let samples = data.len().max(1) as f64;
    let raw = data.counts().into_iter().enumerate().map(|(k, n)| {
        let diagonal = k * classes + k;
        (inverse[diagonal] / noise[diagonal].max(TINY) * (n as f64 / samples)).clamp(1e-6, 1.0)
    });
    let raw: Vec<f64> = raw.collect();
    let sum: f64 = raw.iter().sum();
    NoiseModel {
        classes,
        prior: raw.iter().map(|p| p / sum.max(TINY)).collect(),
        noise: clipped(noise, classes),
        inverse: clipped(inverse, classes),
    }
}

/// Rates off the diagonal are at most .9999, then columns are made to sum to 1.
fn clipped(mut rates: Vec<f64>, classes: usize) -> Vec<f64> {
    for (i, rate) in rates.iter_mut().enumerate() {
        if i / classes != i % classes {
            *rate = rate.clamp(0.0, 0.9999);
        }
    }
    let sums: Vec<f64> = (0..classes).map(|c| (0..classes).map(|r| rates[r * classes + c]).sum::<f64>().max(TINY)).collect();
    rates.iter().enumerate().map(|(i, rate)| rate / sums[i % classes]).collect()
}
