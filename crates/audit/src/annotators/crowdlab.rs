//! CROWDLAB (Goh, Tkachenko and Mueller 2022): annotators and a classifier vote, each weighted by how much better it is than the most frequent
//! class. Definitions and tie breaks of `cleanlab.multiannotator` 2.9 (`get_label_quality_multiannotator`, uncalibrated probabilities).

use super::Annotations;
use crate::InputError;
use crate::labels::argmax;

/// Weights and errors are at least this.
const CLIP: f64 = 1e-6;

/// What CROWDLAB finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Crowdlab {
    /// The consensus label of each sample.
    pub consensus: Vec<usize>,
    /// How sure it is: the probability of the consensus label, `[n]`.
    pub quality: Vec<f64>,
    /// Share of the sample's annotators who gave the consensus label, `[n]`.
    pub agreement: Vec<f64>,
    /// Class probabilities out of all votes, `[n, classes]`.
    pub probabilities: Vec<f64>,
    /// How good each annotator is, in `0..=1`; NaN where nobody else labelled the same samples.
    pub annotator_quality: Vec<f64>,
    /// Share of each annotator's labels that are the consensus.
    pub annotator_agreement: Vec<f64>,
    /// The class that each annotator is worst at, among those that the annotator gave.
    pub worst_class: Vec<usize>,
    /// Weight of the classifier.
    pub model_weight: f64,
    /// Weight of each annotator.
    pub annotator_weights: Vec<f64>,
}

/// Judges annotators and labels with the out-of-fold `probabilities` `[n, classes]` of a classifier.
///
/// # Errors
/// Sizes that disagree, values that are not probabilities, or no sample with more than one label.
pub fn crowdlab(data: &Annotations<'_>, probabilities: &[f64]) -> Result<Crowdlab, InputError> {
    let (n, classes) = (data.len(), data.classes());
    if probabilities.len() != n * classes {
        return Err(InputError::Length { what: "probabilities", expected: n * classes, found: probabilities.len() });
    }
    if let Some(at) = probabilities.iter().position(|p| !(*p >= -CLIP && *p <= 1.0 + CLIP)) {
        return Err(InputError::Probability { sample: at / classes, class: at % classes, found: probabilities[at] });
    }
    let counts = data.counts();
    if counts.iter().all(|&c| c <= 1) {
        return Err(InputError::TooFew { what: "samples with two labels or more", least: 1, found: 0 });
    }
    let votes = majority_vote(data, Some(probabilities));
    let first = Votes::of(data, &votes, probabilities, &counts);
    let row = |i: usize| &first.probabilities[i * classes..(i + 1) * classes];
    // The most probable class; the majority's where several are equally so.
    let best = |i: usize| {
        let k = argmax(row(i));
        if row(i).iter().filter(|p| **p == row(i)[k]).count() == 1 { k } else { votes[i] }
    };
    let consensus: Vec<usize> = (0..n).map(best).collect();
    let second = Votes::of(data, &consensus, probabilities, &counts);
    let quality: Vec<f64> = (0..n).map(|i| second.probabilities[i * classes + consensus[i]]).collect();
    Ok(Crowdlab {
        annotator_quality: annotator_quality(data, &second, &consensus, &counts),
        annotator_agreement: (0..data.annotators()).map(|a| agreement_with(data, a, &consensus, |_| true)).collect(),
        worst_class: (0..data.annotators()).map(|a| worst_class(data, a, &consensus, &quality)).collect(),
        agreement: agreement(data, &consensus, &counts),
        probabilities: second.probabilities,
        model_weight: second.model_weight,
        annotator_weights: second.annotator_weights,
        consensus,
        quality,
    })
}

/// The label most annotators gave. Ties go to the class with the largest probability (where given), then to the class that is rarest among all
/// labels, then to the class whose annotators agree most with the untied samples, then to the lowest class (cleanlab draws at random).
pub fn majority_vote(data: &Annotations<'_>, probabilities: Option<&[f64]>) -> Vec<usize> {
    let (n, classes) = (data.len(), data.classes());
    let mut frequency = vec![0usize; classes];
    let mut tied: Vec<Vec<usize>> = Vec::with_capacity(n);
    for row in data.rows() {
        let mut counts = vec![0usize; classes];
        row.iter().flatten().for_each(|&l| counts[l] += 1);
        frequency.iter_mut().zip(&counts).for_each(|(f, c)| *f += c);
        let most = counts.iter().copied().max().unwrap_or(0);
        tied.push((0..classes).filter(|&k| counts[k] == most).collect());
    }
    let untied: Vec<Option<usize>> = tied.iter().map(|t| if t.len() == 1 { Some(t[0]) } else { None }).collect();
    let trust = trust(data, &untied);
    let settle = |sample: usize, mut tied: Vec<usize>| {
        if let Some(p) = probabilities {
            keep_largest(&mut tied, |k| p[sample * classes + k]);
        }
        keep_largest(&mut tied, |k| -(frequency[k] as f64));
        if tied.len() > 1 {
            keep_largest(&mut tied, |k| {
                let who: Vec<f64> = data.row(sample).iter().zip(&trust).filter(|(l, _)| **l == Some(k)).map(|(_, t)| *t).collect();
                who.iter().sum::<f64>() / who.len() as f64
            });
        }
        tied[0]
    };
    tied.into_iter().enumerate().map(|(sample, tied)| if tied.len() == 1 { tied[0] } else { settle(sample, tied) }).collect()
}

/// Keeps the classes whose value is the largest.
fn keep_largest(classes: &mut Vec<usize>, value: impl Fn(usize) -> f64) {
    let values: Vec<f64> = classes.iter().map(|&k| value(k)).collect();
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut at = 0;
    // Not one is kept where all are NaN: then all stay.
    if values.contains(&largest) {
        classes.retain(|_| {
            at += 1;
            values[at - 1] == largest
        });
    }
}

/// Agreement of each annotator with the untied samples; the mean of the others for one who labelled none of them.
fn trust(data: &Annotations<'_>, untied: &[Option<usize>]) -> Vec<f64> {
    let mut trust: Vec<f64> = (0..data.annotators())
        .map(|a| {
            let pairs = data.rows().zip(untied).filter_map(|(row, truth)| Some((row[a]?, (*truth)?)));
            let (hits, n) = pairs.fold((0.0, 0.0), |(hits, n), (l, t)| (hits + f64::from(u8::from(l == t)), n + 1.0));
            hits / n
        })
        .collect();
    impute(&mut trust);
    trust
}

/// Replaces NaN by the mean of the rest.
fn impute(values: &mut [f64]) {
    let known: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    values.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = mean);
}

/// Share of each sample's labels that are the consensus.
fn agreement(data: &Annotations<'_>, consensus: &[usize], counts: &[usize]) -> Vec<f64> {
    let hits = |(i, row): (usize, &[Option<usize>])| row.iter().filter(|l| **l == Some(consensus[i])).count() as f64 / counts[i] as f64;
    data.rows().enumerate().map(hits).collect()
}

/// Share of an annotator's labels, on the samples asked for, that are the consensus; NaN for none.
fn agreement_with(data: &Annotations<'_>, annotator: usize, consensus: &[usize], asked: impl Fn(usize) -> bool) -> f64 {
    let labels = data.rows().enumerate().filter(|(i, _)| asked(*i)).filter_map(|(i, row)| Some((i, row[annotator]?)));
    let (hits, n) = labels.fold((0.0, 0.0), |(hits, n), (i, l)| (hits + f64::from(u8::from(l == consensus[i])), n + 1.0));
    hits / n
}

/// Votes given a consensus.
struct Votes {
    probabilities: Vec<f64>,
    model_weight: f64,
    annotator_weights: Vec<f64>,
}

impl Votes {
    fn of(data: &Annotations<'_>, consensus: &[usize], prior: &[f64], counts: &[usize]) -> Self {
        let (n, classes) = (data.len(), data.classes());
        let several: Vec<usize> = (0..n).filter(|&i| counts[i] != 1).collect();
        let shared = several.len() as f64;
        let agreement = agreement(data, consensus, counts);
        let likelihood = several.iter().map(|&i| agreement[i]).sum::<f64>() / shared;
        let other_likelihood = (1.0 - likelihood) / (classes as f64 - 1.0);
        let mut class_counts = vec![0usize; classes];
        several.iter().for_each(|&i| class_counts[consensus[i]] += 1);
        let most_likely = class_counts.iter().copied().max().unwrap_or(0) as f64;
        let guess_error = ((shared - most_likely) / shared).max(CLIP);
        let annotator_weights: Vec<f64> =
            agreement_among(data, counts).into_iter().map(|a| (1.0 - (1.0 - a) / guess_error).max(CLIP)).collect();
        let model_errors = several.iter().filter(|&&i| argmax(&prior[i * classes..(i + 1) * classes]) != consensus[i]).count() as f64;
        let mean_labels = counts.iter().sum::<usize>() as f64 / n as f64;
        let model_weight = (1.0 - model_errors / shared / guess_error).max(CLIP) * mean_labels.sqrt();
        let mut probabilities = Vec::with_capacity(prior.len());
        for (row, prior) in data.rows().zip(prior.chunks_exact(classes)) {
            let votes = || row.iter().zip(&annotator_weights).filter_map(|(label, weight)| Some(((*label)?, *weight)));
            let total: f64 = votes().map(|(_, w)| w).sum::<f64>() + model_weight;
            probabilities.extend(prior.iter().enumerate().map(|(k, p)| {
                let sum = votes()
                    .fold(p * model_weight, |sum, (label, weight)| sum + weight * if label == k { likelihood } else { other_likelihood });
                sum / total
            }));
        }
        Self { probabilities, model_weight, annotator_weights }
    }
}

/// How often each annotator agrees with the others on the same samples, weighted by how many others there are; the mean of the annotators where one
/// shares no sample.
fn agreement_among(data: &Annotations<'_>, counts: &[usize]) -> Vec<f64> {
    let mut out: Vec<f64> = (0..data.annotators())
        .map(|a| {
            let (mut agreed, mut others) = (0.0, 0.0);
            for (row, &count) in data.rows().zip(counts).filter(|(row, count)| row[a].is_some() && **count > 1) {
                let same = row.iter().filter(|l| **l == row[a]).count() - 1;
                let rest = (count - 1) as f64;
                agreed += same as f64 / rest * rest;
                others += rest;
            }
            agreed / others
        })
        .collect();
    impute(&mut out);
    out
}

fn annotator_quality(data: &Annotations<'_>, votes: &Votes, consensus: &[usize], counts: &[usize]) -> Vec<f64> {
    let (annotators, classes) = (data.annotators(), data.classes());
    let mean_labels = counts.iter().sum::<usize>() as f64 / data.len() as f64;
    let weights = votes.annotator_weights.iter().sum::<f64>() * (mean_labels / annotators as f64);
    let w = votes.model_weight / (votes.model_weight + weights);
    (0..annotators)
        .map(|a| {
            let labels = data.rows().enumerate().filter_map(|(i, row)| Some(votes.probabilities[i * classes + row[a]?]));
            let (sum, n) = labels.fold((0.0, 0.0), |(sum, n), p| (sum + p, n + 1.0));
            w * (sum / n) + (1.0 - w) * agreement_with(data, a, consensus, |i| counts[i] != 1)
        })
        .collect()
}

/// The class, among those an annotator gave, on which it agrees least with the consensus; of equals the one it gave most often, then the one with
/// the best mean quality, then the lowest.
fn worst_class(data: &Annotations<'_>, annotator: usize, consensus: &[usize], quality: &[f64]) -> usize {
    let classes = data.classes();
    let (mut n, mut hits, mut sums) = (vec![0.0; classes], vec![0.0; classes], vec![0.0; classes]);
    for (i, label) in data.rows().enumerate().filter_map(|(i, row)| Some((i, row[annotator]?))) {
        n[label] += 1.0;
        hits[label] += f64::from(u8::from(label == consensus[i]));
        sums[label] += quality[i];
    }
    let mut worst: Vec<usize> = (0..classes).filter(|&k| n[k] > 0.0).collect();
    keep_largest(&mut worst, |k| -(hits[k] / n[k]));
    keep_largest(&mut worst, |k| n[k]);
    keep_largest(&mut worst, |k| sums[k] / n[k]);
    worst.first().copied().unwrap_or(0)
}
