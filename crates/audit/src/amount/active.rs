//! Active learning, replayed on labelled data: what choosing would have brought against drawing at random.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::FitError;
use super::priority::{Candidates, Strategy, prioritise};
use crate::InputError;

/// Settings of [`simulate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveOptions {
    /// How images are chosen.
    pub strategy: Strategy,
    /// Images labelled at the start, drawn at random.
    pub start: usize,
    /// Images labelled in a round.
    pub batch: usize,
    /// Rounds.
    pub rounds: usize,
    /// Other starts that the random curve is averaged over.
    pub random_repeats: usize,
    /// Decides what is drawn.
    pub seed: u64,
}

/// One round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActivePoint {
    /// Images labelled.
    pub labelled: usize,
    /// Accuracy with the chosen images, on the held-out ones.
    pub chosen: f64,
    /// Mean accuracy with as many random images.
    pub random: f64,
    /// The least and the largest of the random ones.
    pub random_range: [f64; 2],
}

/// The curve of the chosen images beside that of random ones.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveLearning {
    /// One entry for each round, the start first.
    pub points: Vec<ActivePoint>,
    /// The images in the order in which they were chosen, the start first.
    pub order: Vec<usize>,
}

/// Fits and predicts: samples to fit, samples to predict; gives `[predicted, classes]` probabilities.
pub type FitProbabilities<'f> = dyn FnMut(&[usize], &[usize]) -> Result<Vec<f64>, FitError> + 'f;

/// Replays active learning over the samples of `pool`, judged on `held`. All samples have `labels` (class indices) and `features` `[n, columns]`.
/// The random curve of the first repeat starts from the same images.
///
/// # Errors
/// Nothing to start from, sizes that disagree, or a fit that fails.
#[allow(clippy::too_many_arguments, reason = "a replay needs the whole data set")]
pub fn simulate(
    labels: &[usize],
    classes: usize,
    features: &[f32],
    columns: usize,
    pool: &[usize],
    held: &[usize],
    options: &ActiveOptions,
    fit: &mut FitProbabilities<'_>,
) -> Result<ActiveLearning, InputError> {
    if features.len() != labels.len() * columns {
        return Err(InputError::Length { what: "features", expected: labels.len() * columns, found: features.len() });
    }
    if let Some(&sample) = pool.iter().chain(held).find(|&&i| labels.get(i).is_none_or(|&l| l >= classes)) {
        return Err(InputError::Label { sample, label: labels.get(sample).copied().unwrap_or(usize::MAX), classes });
    }
    if options.start == 0 || pool.len() <= options.start || options.batch == 0 || held.is_empty() {
        return Err(InputError::TooFew {
            what: "images to choose from beyond the start",
            least: 1,
            found: pool.len().saturating_sub(options.start),
        });
    }
    let replay = Replay { labels, classes, features, columns, held, options };
    let shuffled = |repeat: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        rng.set_stream(repeat);
        let mut order = pool.to_vec();
        order.shuffle(&mut rng);
        order
    };
    let Chosen { curve: chosen, order } = replay.chosen(shuffled(0), fit)?;
    let mut random: Vec<Vec<f64>> = Vec::new();
    for repeat in 0..options.random_repeats.max(1) {
        let order = shuffled(repeat as u64);
        random.push(chosen.iter().map(|&(n, _)| replay.accuracy(&order[..n], fit)).collect::<Result<_, _>>()?);
    }
    let points = chosen
        .iter()
        .enumerate()
        .map(|(round, &(labelled, accuracy))| {
            let of: Vec<f64> = random.iter().map(|r| r[round]).collect();
            let range = of.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], &v| [a.min(v), b.max(v)]);
            ActivePoint { labelled, chosen: accuracy, random: of.iter().sum::<f64>() / of.len() as f64, random_range: range }
        })
        .collect();
    Ok(ActiveLearning { points, order })
}

/// What choosing brought: images labelled and accuracy after each round, and the images in order.
struct Chosen {
    curve: Vec<(usize, f64)>,
    order: Vec<usize>,
}

struct Replay<'a> {
    labels: &'a [usize],
    classes: usize,
    features: &'a [f32],
    columns: usize,
    held: &'a [usize],
    options: &'a ActiveOptions,
}

impl Replay<'_> {
    fn chosen(&self, shuffled: Vec<usize>, fit: &mut FitProbabilities<'_>) -> Result<Chosen, InputError> {
        let (start, rest) = shuffled.split_at(self.options.start);
        let (mut labelled, mut rest) = (start.to_vec(), rest.to_vec());
        let mut curve = vec![(labelled.len(), self.accuracy(&labelled, fit)?)];
        for _ in 0..self.options.rounds {
            if rest.is_empty() {
                break;
            }
            let probabilities = self.predict(&labelled, &rest, fit)?;
            let (unknown, known) = (self.rows(&rest), self.rows(&labelled));
            let candidates = Candidates {
                probabilities: &probabilities,
                classes: self.classes,
                features: &unknown,
                labelled: &known,
                columns: self.columns,
            };
            let next = prioritise(&candidates, self.options.strategy, self.options.batch)?;
            labelled.extend(next.iter().map(|&i| rest[i]));
            let mut taken = vec![false; rest.len()];
            next.into_iter().for_each(|i| taken[i] = true);
            let mut at = 0;
            rest.retain(|_| {
                at += 1;
                !taken[at - 1]
            });
            curve.push((labelled.len(), self.accuracy(&labelled, fit)?));
        }
        Ok(Chosen { curve, order: labelled })
    }

    fn rows(&self, samples: &[usize]) -> Vec<f32> {
        samples.iter().flat_map(|&i| &self.features[i * self.columns..(i + 1) * self.columns]).copied().collect()
    }

    fn predict(&self, train: &[usize], samples: &[usize], fit: &mut FitProbabilities<'_>) -> Result<Vec<f64>, InputError> {
        let p = fit(train, samples).map_err(|source| InputError::Fit { samples: train.len(), source })?;
        if p.len() != samples.len() * self.classes {
            return Err(InputError::Length { what: "probabilities", expected: samples.len() * self.classes, found: p.len() });
        }
        Ok(p)
    }

    fn accuracy(&self, train: &[usize], fit: &mut FitProbabilities<'_>) -> Result<f64, InputError> {
        let p = self.predict(train, self.held, fit)?;
        let right =
            self.held.iter().zip(p.chunks_exact(self.classes)).filter(|(i, row)| crate::labels::argmax(row) == self.labels[**i]).count();
        Ok(right as f64 / self.held.len() as f64)
    }
}
