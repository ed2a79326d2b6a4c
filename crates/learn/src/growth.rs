//! How many images are enough, and which to label next, by a probe on features of a frozen network.

use std::sync::atomic::{AtomicBool, Ordering};

use audit::amount::{
    ActiveLearning, ActiveOptions, Candidates, CurveOptions, FitError, LearningCurve, Need, NeedOptions, Strategy, learning_curve, needed,
    prioritise, simulate,
};
use data::{sampler, split};

use crate::progress::{Event, Meter, Progress};
use crate::{LearnError, ProbeData};

/// How a learning curve is measured and what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GrowthOptions {
    /// The accuracy wanted, in `0..1`.
    pub target: f64,
    /// Images that the curve is measured on, at most; it is extrapolated to all there are, and beyond.
    pub most: usize,
    /// How often each size is drawn.
    pub repeats: usize,
    /// Decides what is drawn.
    pub seed: u64,
}

impl Default for GrowthOptions {
    fn default() -> Self {
        Self { target: 0.95, most: 5000, repeats: 4, seed: 0 }
    }
}

/// A measured learning curve and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    /// All fits.
    pub curve: LearningCurve,
    /// What the target needs, in all and for each class.
    pub need: Need,
    /// The accuracy wanted.
    pub target: f64,
    /// Images that the curve was measured on, and those there are.
    pub measured: [usize; 2],
}

impl Growth {
    /// The answer in a sentence; `names` are the classes.
    pub fn sentence(&self, names: &[String]) -> String {
        let mut text = self.need.sentence(self.target, names);
        if self.measured[0] < self.measured[1] {
            text.push_str(&format!(" (measured on {} of {} images)", self.measured[0], self.measured[1]));
        }
        text
    }
}

/// Fits probes on growing parts of the rows `positions`, judges each on rows held back, and extrapolates. `strength` is the probe's; without
/// one it is chosen on the rows.
///
/// # Errors
/// Too few rows, a fit that fails, or [`LearnError::Interrupted`].
pub fn growth(
    data: &ProbeData<'_>,
    positions: &[usize],
    strength: Option<f64>,
    options: &GrowthOptions,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Growth, LearnError> {
    let some = some_of(data, positions, options.most, options.seed);
    let labels: Vec<usize> = some.iter().map(|&p| data.label(p)).collect();
    let classes = data.dataset.classes.len();
    let strength = strength.map_or_else(|| data.strength(&some, options.seed), Ok)?;
    let settings = CurveOptions { repeats: options.repeats, seed: options.seed, ..CurveOptions::default() };
    let meter = Meter::start(settings.repeats * settings.shares.len());
    let mut done = 0;
    let mut fit = |train: &[usize], held: &[usize]| -> Result<Vec<usize>, FitError> {
        let of = |list: &[usize]| -> Vec<usize> { list.iter().map(|&i| some[i]).collect() };
        let probabilities = fitted(data, &of(train), &of(held), strength, stop)?;
        done += 1;
        progress.event(&Event::Step(meter.step(done, "")));
        Ok(probabilities.chunks_exact(classes).map(argmax).collect())
    };
    let curve = learning_curve(&labels, classes, &settings, &mut fit).map_err(unwrapped)?;
    let asked = NeedOptions { target: options.target, images: positions.len(), seed: options.seed, ..NeedOptions::default() };
    let need = needed(&curve, &asked)?;
    Ok(Growth { curve, need, target: options.target, measured: [some.len(), positions.len()] })
}

/// Of more than `most` rows a stratified draw, in order.
fn some_of(data: &ProbeData<'_>, positions: &[usize], most: usize, seed: u64) -> Vec<usize> {
    if positions.len() <= most {
        return positions.to_vec();
    }
    let labels: Vec<usize> = positions.iter().map(|&p| data.label(p)).collect();
    let share = most as f64 / positions.len() as f64;
    let parts = split::stratified(&labels, None, &[share, 1.0 - share], seed);
    let mut some: Vec<usize> = parts.into_iter().next().unwrap_or_default().into_iter().map(|i| positions[i]).collect();
    some.sort_unstable();
    some
}

/// Fits a probe on some rows and predicts others, `[held, classes]`. Where only one class was drawn, it is certain.
fn fitted(data: &ProbeData<'_>, train: &[usize], held: &[usize], strength: f64, stop: &AtomicBool) -> Result<Vec<f64>, FitError> {
    if stop.load(Ordering::Relaxed) {
        return Err(Box::new(LearnError::Interrupted));
    }
    Ok(data.fit(train, strength)?.probabilities(data.features, held))
}

fn argmax(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best })
}

/// The error of a fit as it was, where it is one of ours.
fn unwrapped(error: audit::InputError) -> LearnError {
    match error {
        audit::InputError::Fit { samples, source } => match source.downcast::<LearnError>() {
            Ok(own) => *own,
            Err(source) => audit::InputError::Fit { samples, source }.into(),
        },
        other => other.into(),
    }
}

/// The rows of `candidates` to label next, most wanted first, with a probe fitted to the rows `labelled`.
///
/// # Errors
/// Nothing labelled, or a fit that fails.
pub fn label_next(
    data: &ProbeData<'_>,
    labelled: &[usize],
    candidates: &[usize],
    strategy: Strategy,
    wanted: usize,
    seed: u64,
) -> Result<Vec<Wanted>, LearnError> {
    let classes = data.dataset.classes.len();
    let probe = data.fit(labelled, data.strength(labelled, seed)?)?;
    let probabilities = probe.probabilities(data.features, candidates);
    let rows = |positions: &[usize]| -> Vec<f32> { positions.iter().flat_map(|&p| data.features.row(p)).copied().collect() };
    let (features, known) = (rows(candidates), rows(labelled));
    let table =
        Candidates { probabilities: &probabilities, classes, features: &features, labelled: &known, columns: data.features.columns };
    let chosen = prioritise(&table, strategy, wanted)?;
    let wanted = |i: usize| {
        let row = &probabilities[i * classes..(i + 1) * classes];
        let best = argmax(row);
        Wanted { position: candidates[i], guess: best, probability: row[best] }
    };
    Ok(chosen.into_iter().map(wanted).collect())
}

/// An image worth a label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// Its row of features.
    pub position: usize,
    /// The class that the probe gives it.
    pub guess: usize,
    /// The probability of that class.
    pub probability: f64,
}

/// Replays active learning on labelled rows, of which a stratified `held_out` share judges: the curve of what the strategy chooses beside that of
/// random choice.
///
/// # Errors
/// Too few rows to start from, a fit that fails, or [`LearnError::Interrupted`].
pub fn active_learning(
    data: &ProbeData<'_>,
    positions: &[usize],
    held_out: f64,
    options: &ActiveOptions,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<ActiveLearning, LearnError> {
    let labels: Vec<usize> = positions.iter().map(|&p| data.label(p)).collect();
    let classes = data.dataset.classes.len();
    let parts = split::stratified(&labels, None, &[1.0 - held_out, held_out], options.seed);
    let [pool, held] = <[Vec<usize>; 2]>::try_from(parts).unwrap_or_default();
    let all: Vec<usize> = pool.iter().map(|&i| positions[i]).collect();
    let strength = data.strength(&sampler::shuffled(&all, options.seed, 0)[..all.len().min(1000)], options.seed)?;
    let features: Vec<f32> = positions.iter().flat_map(|&p| data.features.row(p)).copied().collect();
    let meter = Meter::start((options.rounds + 1) * (options.random_repeats.max(1) + 2));
    let mut done = 0;
    let mut fit = |train: &[usize], asked: &[usize]| -> Result<Vec<f64>, FitError> {
        let of = |list: &[usize]| -> Vec<usize> { list.iter().map(|&i| positions[i]).collect() };
        let probabilities = fitted(data, &of(train), &of(asked), strength, stop)?;
        done += 1;
        progress.event(&Event::Step(meter.step(done, "")));
        Ok(probabilities)
    };
    simulate(&labels, classes, &features, data.features.columns, &pool, &held, options, &mut fit).map_err(unwrapped)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Recipe;
    use crate::features::Rows;
    use crate::progress::Silent;
    use data::{Classes, Dataset, Sample, Source, Target};
    use images::Image;
    use std::sync::Arc;

    /// Two classes whose features overlap; the last `unlabelled` samples have no label.
    fn world(n: usize, unlabelled: usize) -> (Dataset, Rows) {
        let image = Arc::new(Image::from_gray8(1, 1, vec![0]).unwrap());
        let sample = |i: usize| Sample {
            target: (i < n - unlabelled).then_some(Target::Label(i % 2)),
            ..Sample::new(i.to_string(), Source::Memory(image.clone()))
        };
        let classes = Classes::in_order(vec!["cat".into(), "dog".into()]).unwrap();
        let dataset = Dataset { name: "few".into(), root: ".".into(), classes, samples: (0..n).map(sample).collect(), warnings: vec![] };
        // A cheap hash makes noise of an index.
        let noise = |i: usize, c: usize| ((i * 7919 + c * 104_729 + 13) * 2_654_435_761 % 1000) as f32 / 1000.0;
        let value = |i: usize, c: usize| if c == 0 { (i % 2) as f32 * 0.6 + noise(i, c) } else { noise(i, c) };
        let data = (0..n).flat_map(|i| (0..6).map(move |c| (i, c))).map(|(i, c)| value(i, c)).collect();
        (dataset, Rows { indices: (0..n).collect(), data, columns: 6, ..Rows::default() })
    }

    #[test]
    fn a_curve_is_measured_and_read() {
        let (dataset, features) = world(300, 0);
        let recipe = Recipe::default();
        let data = ProbeData { dataset: &dataset, features: &features, recipe: &recipe };
        let positions: Vec<usize> = (0..300).collect();
        let options = GrowthOptions { target: 0.5, most: 200, ..GrowthOptions::default() };
        let stop = AtomicBool::new(false);
        let found = growth(&data, &positions, None, &options, &Silent, &stop).unwrap();
        assert_eq!(found.measured, [200, 300]);
        assert_eq!(found.curve.points.len(), 24);
        let sentence = found.sentence(dataset.classes.names());
        assert!(sentence.starts_with("50.0 % is reached") && sentence.ends_with("(measured on 200 of 300 images)"), "{sentence}");
        stop.store(true, Ordering::Relaxed);
        assert!(matches!(growth(&data, &positions, Some(0.1), &options, &Silent, &stop), Err(LearnError::Interrupted)));
    }

    #[test]
    fn what_the_probe_is_least_sure_of_comes_first() {
        let (dataset, mut features) = world(120, 3);
        // The first candidate lies between the classes, the others far inside one.
        for (position, value) in [(117, 0.8), (118, 9.0), (119, -9.0)] {
            features.data[position * 6] = value;
        }
        let recipe = Recipe::default();
        let data = ProbeData { dataset: &dataset, features: &features, recipe: &recipe };
        let known: Vec<usize> = (0..117).collect();
        let chosen = label_next(&data, &known, &[117, 118, 119], Strategy::Margin, 2, 0).unwrap();
        assert_eq!(chosen[0].position, 117, "{chosen:?}");
        assert!(chosen[0].probability < chosen[1].probability);
    }

    #[test]
    fn active_learning_is_replayed() {
        let (dataset, features) = world(200, 0);
        let recipe = Recipe::default();
        let data = ProbeData { dataset: &dataset, features: &features, recipe: &recipe };
        let options = ActiveOptions { strategy: Strategy::Mixed, start: 20, batch: 20, rounds: 3, random_repeats: 2, seed: 1 };
        let positions: Vec<usize> = (0..200).collect();
        let curve = active_learning(&data, &positions, 0.3, &options, &Silent, &AtomicBool::new(false)).unwrap();
        assert_eq!(curve.points.iter().map(|p| p.labelled).collect::<Vec<_>>(), [20, 40, 60, 80]);
        assert!(curve.points[3].chosen > 0.6, "{:?}", curve.points);
    }
}
