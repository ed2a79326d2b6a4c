//! How well the label check does on the user's own data: wrong labels are put in on purpose, and looked for.

use rand::seq::{SliceRandom, index};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::InputError;

/// How labels are made wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelNoise {
    /// This share of all labels becomes another class, each equally likely.
    Uniform {
        /// In `0..=1`.
        rate: f64,
    },
    /// This share of each class becomes one other class.
    Asymmetric {
        /// In `0..=1`.
        rate: f64,
        /// The class that each class is taken for; empty for the next class, and the first for the last.
        to: Vec<usize>,
    },
}

/// Labels of which some were made wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Injected {
    /// The labels, `[n]`.
    pub labels: Vec<usize>,
    /// Whether each was changed, `[n]`.
    pub changed: Vec<bool>,
}

/// Makes labels wrong: exactly the share asked for, rounded; drawn by `seed`.
///
/// # Errors
/// Fewer than two classes, a label or target out of range, a rate outside `0..=1`, a class that is to be taken for itself.
pub fn inject(labels: &[usize], classes: usize, noise: &LabelNoise, seed: u64) -> Result<Injected, InputError> {
    if classes < 2 {
        return Err(InputError::TooFew { what: "classes", least: 2, found: classes });
    }
    if let Some(sample) = labels.iter().position(|&l| l >= classes) {
        return Err(InputError::Label { sample, label: labels[sample], classes });
    }
    let (LabelNoise::Uniform { rate } | LabelNoise::Asymmetric { rate, .. }) = noise;
    if !(0.0..=1.0).contains(rate) {
        return Err(InputError::Option { option: "rate", found: rate.to_string(), expected: "a share from 0 to 1" });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut out = Injected { labels: labels.to_vec(), changed: vec![false; labels.len()] };
    match noise {
        LabelNoise::Uniform { rate } => {
            let wanted = (rate * labels.len() as f64).round() as usize;
            for sample in index::sample(&mut rng, labels.len(), wanted) {
                let shift = rng.random_range(1..classes);
                out.change(sample, (labels[sample] + shift) % classes);
            }
        }
        LabelNoise::Asymmetric { rate, to } => {
            let to = if to.is_empty() { (0..classes).map(|k| (k + 1) % classes).collect() } else { to.clone() };
            check_targets(&to, classes)?;
            for (class, &target) in to.iter().enumerate() {
                let mut members: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).collect();
                members.shuffle(&mut rng);
                members.truncate((rate * members.len() as f64).round() as usize);
                members.into_iter().for_each(|sample| out.change(sample, target));
            }
        }
    }
    Ok(out)
}

fn check_targets(to: &[usize], classes: usize) -> Result<(), InputError> {
    if to.len() != classes {
        return Err(InputError::Length { what: "to", expected: classes, found: to.len() });
    }
    match to.iter().enumerate().find(|(class, target)| *class == **target || **target >= classes) {
        Some((_, target)) => Err(InputError::Option { option: "to", found: target.to_string(), expected: "another class for each class" }),
        None => Ok(()),
    }
}

impl Injected {
    fn change(&mut self, sample: usize, label: usize) {
        self.labels[sample] = label;
        self.changed[sample] = true;
    }
}

/// How well a check found what was put in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Things put in.
    pub injected: usize,
    /// Samples that the check flagged.
    pub flagged: usize,
    /// Share of the flagged that were put in; none where nothing was flagged. Errors that were there before count against it.
    pub precision: Option<f64>,
    /// Share of what was put in that was flagged; none where nothing was put in.
    pub recall: Option<f64>,
    /// Average precision of the ranking by score.
    pub average_precision: Option<f64>,
}

/// Compares what was put in (`changed`) with what was `flagged` and with the ranking by `scores` (1 is the clearest case), `[n]` each.
///
/// # Errors
/// Sizes that disagree, scores that are not finite.
pub fn judge(changed: &[bool], flagged: &[bool], scores: &[f64]) -> Result<Detection, InputError> {
    let n = changed.len();
    if flagged.len() != n {
        return Err(InputError::Length { what: "flagged", expected: n, found: flagged.len() });
    }
    check_scores(changed, scores)?;
    let count = |mask: &[bool]| mask.iter().filter(|m| **m).count();
    let (injected, all) = (count(changed), count(flagged));
    let both = changed.iter().zip(flagged).filter(|(a, b)| **a && **b).count() as f64;
    let share = |of: usize| (of > 0).then(|| both / of as f64);
    Ok(Detection {
        injected,
        flagged: all,
        precision: share(all),
        recall: share(injected),
        average_precision: evaluate::average_precision(scores, changed),
    })
}

/// Share of the `share · n` samples with the largest score that were put in. Of equal scores the earlier sample comes first.
///
/// # Errors
/// Sizes that disagree, scores that are not finite, a share outside `0..=1`.
pub fn precision_at(changed: &[bool], scores: &[f64], share: f64) -> Result<f64, InputError> {
    check_scores(changed, scores)?;
    if !(0.0..=1.0).contains(&share) {
        return Err(InputError::Option { option: "share", found: share.to_string(), expected: "a share from 0 to 1" });
    }
    let mut order: Vec<usize> = (0..changed.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate((share * changed.len() as f64).round() as usize);
    Ok(order.iter().filter(|&&i| changed[i]).count() as f64 / order.len().max(1) as f64)
}

fn check_scores(changed: &[bool], scores: &[f64]) -> Result<(), InputError> {
    if scores.len() != changed.len() {
        return Err(InputError::Length { what: "scores", expected: changed.len(), found: scores.len() });
    }
    match scores.iter().position(|s| !s.is_finite()) {
        Some(sample) => Err(InputError::NotFinite { what: "scores", sample, column: 0 }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn exactly_the_share_is_changed() {
        let labels: Vec<usize> = (0..1000).map(|i| i % 4).collect();
        let uniform = inject(&labels, 4, &LabelNoise::Uniform { rate: 0.03 }, 7).unwrap();
        assert_eq!(uniform.changed.iter().filter(|c| **c).count(), 30);
        assert!((0..1000).all(|i| uniform.changed[i] == (uniform.labels[i] != labels[i]) && uniform.labels[i] < 4));
        assert_eq!(inject(&labels, 4, &LabelNoise::Uniform { rate: 0.03 }, 7).unwrap(), uniform);
        assert_ne!(inject(&labels, 4, &LabelNoise::Uniform { rate: 0.03 }, 8).unwrap(), uniform);
        let pairs = inject(&labels, 4, &LabelNoise::Asymmetric { rate: 0.2, to: vec![] }, 7).unwrap();
        assert_eq!(pairs.changed.iter().filter(|c| **c).count(), 200);
        assert!((0..1000).all(|i| pairs.labels[i] == if pairs.changed[i] { (labels[i] + 1) % 4 } else { labels[i] }));
        let itself = LabelNoise::Asymmetric { rate: 0.2, to: vec![1, 1, 0, 0] };
        assert_eq!(inject(&labels, 4, &itself, 7).unwrap_err().to_string(), "`to` is 1, expected another class for each class");
    }

    #[test]
    fn detection_is_counted_and_ranked() {
        let changed = [true, false, true, false, false];
        let found = judge(&changed, &[true, true, false, false, false], &[0.9, 0.8, 0.7, 0.1, 0.0]).unwrap();
        assert_eq!((found.injected, found.flagged, found.precision, found.recall), (2, 2, Some(0.5), Some(0.5)));
        assert!((found.average_precision.unwrap() - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        assert_eq!(precision_at(&changed, &[0.9, 0.8, 0.7, 0.1, 0.0], 0.4).unwrap(), 0.5);
        let nothing = judge(&[false; 2], &[false; 2], &[0.0; 2]).unwrap();
        assert_eq!((nothing.precision, nothing.recall, nothing.average_precision), (None, None, None));
    }
}
