use super::{ConfidentJoint, LabelScore, Labelled, label_scores};
use crate::{Check, Finding};

/// A pair of classes whose labels are confused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfusedPair {
    /// The label as given.
    pub given: usize,
    /// The class that these samples probably are.
    pub truth: usize,
    /// How many, by the calibrated confident joint.
    pub samples: usize,
    /// Share of the samples labelled `given`.
    pub share: f64,
}

/// Pairs off the diagonal of the joint, most samples first.
pub fn confused_pairs(joint: &ConfidentJoint) -> Vec<ConfusedPair> {
    let mut pairs = Vec::new();
    for given in 0..joint.classes {
        let total: i64 = (0..joint.classes).map(|truth| joint.count(given, truth)).sum();
        for truth in (0..joint.classes).filter(|&truth| truth != given && joint.count(given, truth) > 0) {
            let samples = joint.count(given, truth);
            pairs.push(ConfusedPair { given, truth, samples: samples as usize, share: samples as f64 / total as f64 });
        }
    }
    pairs.sort_by(|a, b| b.samples.cmp(&a.samples).then(b.share.total_cmp(&a.share)).then((a.given, a.truth).cmp(&(b.given, b.truth))));
    pairs
}

/// The most probable class other than the given one (the first of equals).
pub fn suggested(given: usize, row: &[f64]) -> usize {
    let others = (0..row.len()).filter(|&k| k != given);
    others.reduce(|best, k| if row[k] > row[best] { k } else { best }).unwrap_or(given)
}

/// The queue for a reviewer: one finding for each sample that `chosen` marks, least plausible label first. `names` are the classes; the score
/// is one minus the quality of the label.
pub fn findings(data: &Labelled<'_>, chosen: &[bool], score: LabelScore, names: &[String]) -> Vec<Finding> {
    let quality = label_scores(data, score);
    let mut order: Vec<usize> = (0..data.len()).filter(|&sample| chosen.get(sample).is_some_and(|c| *c)).collect();
    order.sort_by(|&a, &b| quality[a].total_cmp(&quality[b]).then(a.cmp(&b)));
    order.into_iter().map(|sample| finding(data, sample, 1.0 - quality[sample], names)).collect()
}

fn finding(data: &Labelled<'_>, sample: usize, score: f64, names: &[String]) -> Finding {
    let (given, row) = (data.label(sample), data.row(sample));
    let other = suggested(given, row);
    let name = |k: usize| names.get(k).map_or_else(|| k.to_string(), Clone::clone);
    Finding {
        sample: Some(sample),
        check: Check::Label,
        score: score.clamp(0.0, 1.0),
        given: Some(given),
        suggested: Some(other),
        group: None,
        detail: format!("the given {} has probability {:.3}, {} has {:.3}", name(given), row[given], name(other), row[other]),
    }
}
