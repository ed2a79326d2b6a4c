//! Learning curves by repeated sub-sampling.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::FitError;
use crate::InputError;

/// Settings of [`learning_curve`].
#[derive(Debug, Clone, PartialEq)]
pub struct CurveOptions {
    /// Shares of the training part that are fitted to, rising, each in `0..=1`.
    pub shares: Vec<f64>,
    /// How often each share is drawn, with another held-out part each time.
    pub repeats: usize,
    /// Share of all samples that judges, in `0..1`.
    pub held_out: f64,
    /// Decides what is drawn.
    pub seed: u64,
}

impl Default for CurveOptions {
    fn default() -> Self {
        Self { shares: vec![0.05, 0.1, 0.2, 0.35, 0.6, 1.0], repeats: 5, held_out: 0.2, seed: 0 }
    }
}

/// What one fit reached.
#[derive(Debug, Clone, PartialEq)]
pub struct CurvePoint {
    /// Samples fitted to.
    pub samples: usize,
    /// Of each class.
    pub class_samples: Vec<usize>,
    /// Number of the repeat.
    pub repeat: usize,
    /// Share of the held-out samples that were right.
    pub accuracy: f64,
    /// The same of each class; none for a class without held-out samples.
    pub class_accuracy: Vec<Option<f64>>,
}

/// All fits.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningCurve {
    /// Number of classes.
    pub classes: usize,
    /// One entry for each fit, by repeat, then by size.
    pub points: Vec<CurvePoint>,
}

/// Fits and predicts: samples to fit, samples to predict; gives one class for each of the latter.
pub type FitClasses<'f> = dyn FnMut(&[usize], &[usize]) -> Result<Vec<usize>, FitError> + 'f;

/// Fits on growing parts of the data and judges each fit on the same held-out part. Parts are stratified: every class keeps its share, and at least one sample where it has any; a
/// larger part contains the smaller ones.
///
/// # Errors
/// Options out of range, a label out of range, fewer than ten samples, a fit that fails or gives another number of predictions.
pub fn learning_curve(
    labels: &[usize],
    classes: usize,
    options: &CurveOptions,
    fit: &mut FitClasses<'_>,
) -> Result<LearningCurve, InputError> {
    check(labels, classes, options)?;
    let mut points = Vec::new();
    for repeat in 0..options.repeats {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        rng.set_stream(repeat as u64);
        let (train, held) = split(labels, classes, options.held_out, &mut rng);
        let mut before = 0;
        for &share in &options.shares {
            let part: Vec<usize> = train.iter().flat_map(|class| &class[..part_of(class.len(), share)]).copied().collect();
            // Shares of a small set can come to the same samples.
            if part.len() == before {
                continue;
            }
            before = part.len();
            let predicted = fit(&part, &held).map_err(|source| InputError::Fit { samples: part.len(), source })?;
            if predicted.len() != held.len() {
                return Err(InputError::Length { what: "predictions", expected: held.len(), found: predicted.len() });
            }
            points.push(judge(labels, classes, &part, &held, &predicted, repeat));
        }
    }
    Ok(LearningCurve { classes, points })
}

fn check(labels: &[usize], classes: usize, options: &CurveOptions) -> Result<(), InputError> {
    if let Some(sample) = labels.iter().position(|&l| l >= classes) {
        return Err(InputError::Label { sample, label: labels[sample], classes });
    }
    if labels.len() < 10 {
        return Err(InputError::TooFew { what: "labelled samples", least: 10, found: labels.len() });
    }
    let rising = options.shares.windows(2).all(|w| w[0] < w[1]) && options.shares.iter().all(|s| *s > 0.0 && *s <= 1.0);
    if !rising || options.shares.is_empty() {
        return Err(InputError::Option {
            option: "shares",
            found: format!("{:?}", options.shares),
            expected: "rising shares above 0, up to 1",
        });
    }
    if !(options.held_out > 0.0 && options.held_out < 1.0) {
        return Err(InputError::Option { option: "held_out", found: options.held_out.to_string(), expected: "a share between 0 and 1" });
    }
    Ok(())
}

/// How many of `n` a share is: at least one of some.
fn part_of(n: usize, share: f64) -> usize {
    ((share * n as f64).round() as usize).clamp(n.min(1), n)
}

/// Shuffled training samples of each class, and the held-out samples. A class of one sample is only fitted to.
fn split(labels: &[usize], classes: usize, held_out: f64, rng: &mut ChaCha8Rng) -> (Vec<Vec<usize>>, Vec<usize>) {
    let mut members = vec![Vec::new(); classes];
    labels.iter().enumerate().for_each(|(i, &l)| members[l].push(i));
    let mut held = Vec::new();
    for class in &mut members {
        class.shuffle(rng);
        let n = if class.len() > 1 { part_of(class.len() - 1, held_out) } else { 0 };
        held.extend(class.drain(..n));
    }
    held.sort_unstable();
    (members, held)
}

fn judge(labels: &[usize], classes: usize, part: &[usize], held: &[usize], predicted: &[usize], repeat: usize) -> CurvePoint {
    let mut class_samples = vec![0; classes];
    part.iter().for_each(|&i| class_samples[labels[i]] += 1);
    let mut counts = vec![(0usize, 0usize); classes];
    for (&i, &p) in held.iter().zip(predicted) {
        counts[labels[i]].0 += usize::from(p == labels[i]);
        counts[labels[i]].1 += 1;
    }
    let right: usize = counts.iter().map(|c| c.0).sum();
    CurvePoint {
        samples: part.len(),
        class_samples,
        repeat,
        accuracy: right as f64 / held.len() as f64,
        class_accuracy: counts.iter().map(|&(right, n)| (n > 0).then(|| right as f64 / n as f64)).collect(),
    }
}
