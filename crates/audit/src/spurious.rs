//! Properties that give the label away: what a model could read instead of the content.
//!
//! As cleanlab's datalab (`spurious_correlations`): one property alone predicts the label, by Gaussian naive Bayes in five stratified folds, and
//! is compared with the best constant answer. Three things differ. The baseline is the share of the most frequent label (cleanlab 2.9 divides the
//! *index* of that label by the number of samples); the score is 1 where the property tells everything (cleanlab's is one minus that); and
//! properties that are names, not numbers, are predicted by the most frequent label of each name.

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;
use rand::seq::{SliceRandom, index};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{Check, Finding, InputError};

/// Folds of the cross-validation.
const FOLDS: usize = 5;
/// Samples that the permutations are drawn from, at most: more do not change a p-value that matters.
const PERMUTED_SAMPLES: usize = 20_000;

/// A property of every sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// What it is: `brightness`, `file name: copy`, `camera`.
    pub name: String,
    /// One value for each sample.
    pub values: Values,
}

/// The values of a property.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Numbers, finite.
    Numeric(Vec<f64>),
    /// Names; an empty one is a value like any other.
    Categorical(Vec<String>),
}

/// Settings of [`spurious`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpuriousOptions {
    /// Random labellings that each property is compared with.
    pub permutations: usize,
    /// Their seed.
    pub seed: u64,
    /// The score from which a property is reported. cleanlab reports where its score is below .3, which is .7 and more here; .3 is stricter.
    pub threshold: f64,
    /// The p-value below which it is.
    pub significance: f64,
}

impl Default for SpuriousOptions {
    fn default() -> Self {
        Self { permutations: 99, seed: 0, threshold: 0.3, significance: 0.05 }
    }
}

/// How much one property tells about the label.
#[derive(Debug, Clone, PartialEq)]
pub struct Correlation {
    /// The property.
    pub property: String,
    /// Mean accuracy over the folds when the property alone predicts.
    pub accuracy: f64,
    /// Accuracy of always answering the most frequent label.
    pub baseline: f64,
    /// The share of the baseline's errors that the property avoids, in `0..=1`.
    pub score: f64,
    /// Share of random labellings (the given one included) on which it is as accurate.
    pub p_value: f64,
    /// Whether score and p-value pass their thresholds.
    pub flagged: bool,
}

/// Judges each property, the most telling first.
///
/// # Errors
/// Fewer samples than folds, sizes that disagree, a label out of range, values that are not finite.
pub fn spurious(
    properties: &[Property],
    labels: &[usize],
    classes: usize,
    options: &SpuriousOptions,
) -> Result<Vec<Correlation>, InputError> {
    if labels.len() < FOLDS {
        return Err(InputError::TooFew { what: "labelled samples", least: FOLDS, found: labels.len() });
    }
    if let Some(sample) = labels.iter().position(|&l| l >= classes) {
        return Err(InputError::Label { sample, label: labels[sample], classes });
    }
    properties.iter().try_for_each(|p| check(p, labels.len()))?;
    let mut out: Vec<Correlation> = properties.iter().map(|p| judge(p, labels, classes, options)).collect();
    out.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.property.cmp(&b.property)));
    Ok(out)
}

fn check(property: &Property, samples: usize) -> Result<(), InputError> {
    let found = match &property.values {
        Values::Numeric(v) => v.len(),
        Values::Categorical(v) => v.len(),
    };
    if found != samples {
        return Err(InputError::Length { what: "property", expected: samples, found });
    }
    match &property.values {
        Values::Numeric(v) => match v.iter().position(|v| !v.is_finite()) {
            Some(sample) => Err(InputError::NotFinite { what: "property", sample, column: 0 }),
            None => Ok(()),
        },
        Values::Categorical(_) => Ok(()),
    }
}

fn judge(property: &Property, labels: &[usize], classes: usize, options: &SpuriousOptions) -> Correlation {
    let column = Column::of(&property.values);
    let accuracy = accuracy(&column, labels, classes);
    let baseline = baseline(labels, classes);
    let p_value = p_value(&column, labels, classes, options);
    let score = if baseline < 1.0 { ((accuracy - baseline) / (1.0 - baseline)).clamp(0.0, 1.0) } else { 0.0 };
    let flagged = score >= options.threshold && p_value < options.significance;
    Correlation { property: property.name.clone(), accuracy, baseline, score, p_value, flagged }
}

fn baseline(labels: &[usize], classes: usize) -> f64 {
    let mut counts = vec![0usize; classes];
    labels.iter().for_each(|&l| counts[l] += 1);
    counts.into_iter().max().unwrap_or(0) as f64 / labels.len() as f64
}

fn p_value(column: &Column, labels: &[usize], classes: usize, options: &SpuriousOptions) -> f64 {
    let chosen: Vec<usize> = if labels.len() > PERMUTED_SAMPLES {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let mut chosen = index::sample(&mut rng, labels.len(), PERMUTED_SAMPLES).into_vec();
        chosen.sort_unstable();
        chosen
    } else {
        (0..labels.len()).collect()
    };
    let column = column.subset(&chosen);
    let labels: Vec<usize> = chosen.iter().map(|&i| labels[i]).collect();
    let reached = accuracy(&column, &labels, classes);
    let as_good = |number: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        rng.set_stream(number as u64 + 1);
        let mut shuffled = labels.clone();
        shuffled.shuffle(&mut rng);
        usize::from(accuracy(&column, &shuffled, classes) >= reached)
    };
    let as_good: usize = (0..options.permutations).into_par_iter().map(as_good).sum();
    (as_good + 1) as f64 / (options.permutations + 1) as f64
}

/// A property as the predictors read it.
enum Column {
    Numeric(Vec<f64>),
    /// Numbers of distinct names.
    Names(Vec<usize>, usize),
}

impl Column {
    fn of(values: &Values) -> Self {
        match values {
            Values::Numeric(v) => Self::Numeric(v.clone()),
            Values::Categorical(v) => {
                let names: BTreeSet<&String> = v.iter().collect();
                let number: BTreeMap<&String, usize> = names.into_iter().enumerate().map(|(i, n)| (n, i)).collect();
                Self::Names(v.iter().map(|n| number[n]).collect(), number.len())
            }
        }
    }

    fn subset(&self, chosen: &[usize]) -> Self {
        match self {
            Self::Numeric(v) => Self::Numeric(chosen.iter().map(|&i| v[i]).collect()),
            Self::Names(v, n) => Self::Names(chosen.iter().map(|&i| v[i]).collect(), *n),
        }
    }
}

/// Mean accuracy over the folds.
fn accuracy(column: &Column, labels: &[usize], classes: usize) -> f64 {
    let folds = stratified(labels, classes);
    let mut sum = 0.0;
    for fold in 0..FOLDS {
        let predict = match column {
            Column::Numeric(v) => gaussian(v, labels, classes, |i| folds[i] != fold),
            Column::Names(v, n) => table(v, *n, labels, classes, |i| folds[i] != fold),
        };
        let held: Vec<usize> = (0..labels.len()).filter(|&i| folds[i] == fold).collect();
        let right = held.iter().filter(|&&i| predict(i) == labels[i]).count();
        sum += right as f64 / held.len().max(1) as f64;
    }
    sum / FOLDS as f64
}

/// The fold of each sample: every class is cut, in order, into parts as even as its turn allows (scikit-learn's `StratifiedKFold` without
/// shuffling).
fn stratified(labels: &[usize], classes: usize) -> Vec<usize> {
    // Classes are numbered by first appearance.
    let (mut number, mut seen) = (vec![usize::MAX; classes], 0);
    for &label in labels {
        if number[label] == usize::MAX {
            number[label] = seen;
            seen += 1;
        }
    }
    let mut sorted: Vec<usize> = labels.iter().map(|&l| number[l]).collect();
    sorted.sort_unstable();
    let mut left = vec![[0usize; FOLDS]; seen];
    sorted.iter().enumerate().for_each(|(i, &class)| left[class][i % FOLDS] += 1);
    labels
        .iter()
        .map(|&label| {
            let left = &mut left[number[label]];
            let fold = left.iter().position(|n| *n > 0).unwrap_or(0);
            left[fold] -= 1;
            fold
        })
        .collect()
}

/// Gaussian naive Bayes on one number (scikit-learn's `GaussianNB`: biased variances, widened by 1e-9 of the whole variance).
fn gaussian<'a>(values: &'a [f64], labels: &[usize], classes: usize, train: impl Fn(usize) -> bool) -> Box<dyn Fn(usize) -> usize + 'a> {
    let mut moments = vec![(0.0, 0.0, 0.0); classes];
    let (mut n, mut sum) = (0.0, 0.0);
    for i in (0..values.len()).filter(|&i| train(i)) {
        moments[labels[i]].0 += 1.0;
        moments[labels[i]].1 += values[i];
        n += 1.0;
        sum += values[i];
    }
    let mean = sum / n;
    let mut whole = 0.0;
    for i in (0..values.len()).filter(|&i| train(i)) {
        let class = &mut moments[labels[i]];
        class.2 += (values[i] - class.1 / class.0).powi(2);
        whole += (values[i] - mean).powi(2);
    }
    let least = 1e-9 * whole / n;
    let fitted: Vec<(usize, f64, f64, f64)> = moments
        .iter()
        .enumerate()
        .filter(|(_, m)| m.0 > 0.0)
        .map(|(k, m)| {
            let variance = m.2 / m.0 + least;
            (k, m.1 / m.0, variance, (m.0 / n).ln() - 0.5 * (std::f64::consts::TAU * variance).ln())
        })
        .collect();
    Box::new(move |i| {
        let log = |&(k, mean, variance, constant): &(usize, f64, f64, f64)| (k, constant - 0.5 * (values[i] - mean).powi(2) / variance);
        // Of equals, the first; a variance of 0 gives NaN, which never wins.
        fitted.iter().map(log).fold((0, f64::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best }).0
    })
}

/// The most frequent label of each name; of names not seen, the most frequent of all.
fn table<'a>(
    names: &'a [usize],
    distinct: usize,
    labels: &[usize],
    classes: usize,
    train: impl Fn(usize) -> bool,
) -> Box<dyn Fn(usize) -> usize + 'a> {
    let mut counts: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); distinct];
    let mut all = vec![0usize; classes];
    for i in (0..names.len()).filter(|&i| train(i)) {
        *counts[names[i]].entry(labels[i]).or_default() += 1;
        all[labels[i]] += 1;
    }
    let first_largest =
        |pairs: &mut dyn Iterator<Item = (usize, usize)>| pairs.fold((0, 0), |best, next| if next.1 > best.1 { next } else { best });
    let fallback = first_largest(&mut all.into_iter().enumerate()).0;
    let answers: Vec<usize> =
        counts.iter().map(|c| if c.is_empty() { fallback } else { first_largest(&mut c.iter().map(|(k, n)| (*k, *n))).0 }).collect();
    Box::new(move |i| answers[names[i]])
}

/// Words in file names, as properties: whether each word is in the name. The folders above a file are left out (they are the label where classes
/// are folders). A word counts where it is in at least 1 % and at most 99 % of the names (and in two); the `most` most frequent are kept.
pub fn file_name_tokens<S: AsRef<str>>(paths: &[S], most: usize) -> Vec<Property> {
    let words: Vec<BTreeSet<String>> = paths.iter().map(|p| words(p.as_ref())).collect();
    let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
    words.iter().flatten().for_each(|w| *counts.entry(w).or_default() += 1);
    let n = paths.len() as f64;
    let mut kept: Vec<(&String, usize)> =
        counts.into_iter().filter(|&(_, c)| c >= 2 && c as f64 >= 0.01 * n && c as f64 <= 0.99 * n).collect();
    kept.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    kept.truncate(most);
    let has = |word: &String| words.iter().map(|w| if w.contains(word) { "yes".to_string() } else { "no".to_string() }).collect();
    kept.into_iter().map(|(word, _)| Property { name: format!("file name: {word}"), values: Values::Categorical(has(word)) }).collect()
}

/// Runs of letters in the file's stem, in lower case; digits number and separate.
fn words(path: &str) -> BTreeSet<String> {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    stem.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect()
}

/// One finding about the whole set for each property that is reported.
pub fn findings(correlations: &[Correlation]) -> Vec<Finding> {
    let finding = |c: &Correlation| Finding {
        sample: None,
        check: Check::Spurious,
        score: c.score,
        given: None,
        suggested: None,
        group: None,
        detail: format!(
            "{} alone predicts the class with accuracy {:.3}, where always the most frequent class has {:.3} (p = {:.3})",
            c.property, c.accuracy, c.baseline, c.p_value
        ),
    };
    correlations.iter().filter(|c| c.flagged).map(finding).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        spurious: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        labels: Vec<usize>,
        classes: usize,
        values: Vec<f64>,
        accuracy: f64,
    }

    #[test]
    fn the_accuracy_of_a_number_agrees_with_cleanlab() {
        // Made by tests/golden/features.py.
        let golden: Golden = serde_json::from_str(include_str!("../tests/golden/features.json")).unwrap();
        for case in golden.spurious {
            let found = accuracy(&Column::Numeric(case.values), &case.labels, case.classes);
            assert!((found - case.accuracy).abs() < 1e-12, "{found} {}", case.accuracy);
        }
    }

    #[test]
    fn a_telling_property_is_found_and_a_random_one_is_not() {
        let labels: Vec<usize> = (0..200).map(|i| (i * 7 + i / 3) % 2).collect();
        let camera = labels.iter().enumerate().map(|(i, &l)| if i % 10 == 0 { "x".into() } else { format!("camera {l}") }).collect();
        let noise = (0..200).map(|i| f64::from((i * 7919 % 101) as u32)).collect();
        let constant = vec!["a".to_string(); 200];
        let properties = [
            Property { name: "noise".into(), values: Values::Numeric(noise) },
            Property { name: "constant".into(), values: Values::Categorical(constant) },
            Property { name: "camera".into(), values: Values::Categorical(camera) },
        ];
        let found = spurious(&properties, &labels, 2, &SpuriousOptions::default()).unwrap();
        assert_eq!(found[0].property, "camera");
        assert!(found[0].flagged && found[0].score > 0.8 && (found[0].p_value - 0.01).abs() < 1e-12, "{:?}", found[0]);
        assert!(found[1..].iter().all(|c| !c.flagged && c.p_value > 0.02), "{found:?}");
        assert_eq!(findings(&found).len(), 1);
    }

    #[test]
    fn words_come_from_file_names_only() {
        let paths: Vec<String> = (0..20).map(|i| format!("cat/{}IMG_{i:03}.jpg", if i % 2 == 0 { "Ebay-" } else { "" })).collect();
        let found = file_name_tokens(&paths, 10);
        assert_eq!(found.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["file name: ebay"]);
    }

    #[test]
    fn values_that_are_missing_are_refused() {
        let property = Property { name: "x".into(), values: Values::Numeric(vec![0.0, 1.0, f64::NAN, 0.0, 1.0]) };
        let error = spurious(&[property], &[0, 1, 0, 1, 0], 2, &SpuriousOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), "sample 2: value 0 of `property` is not finite");
    }
}
