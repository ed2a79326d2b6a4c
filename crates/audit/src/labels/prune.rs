use serde::{Deserialize, Serialize};

use super::joint::ConfidentJoint;
use super::rounding::pairwise_sum;
use super::{Labelled, TOLERANCE, argmax};
use crate::InputError;

/// Which samples to call label errors (`cleanlab.filter.find_label_issues`). Every rule then spares the samples whose most probable class is the
/// given one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// For each given class `k` and true class `j`, as many samples as the joint counts, those with the largest `p[j] - p[k]`.
    #[default]
    PruneByNoiseRate,
    /// For each given class, as many samples as the joint counts in all other classes, those with the least probability of their label.
    PruneByClass,
    /// Samples that both of the former choose.
    Both,
    /// Samples counted off the diagonal of the confident joint.
    ConfidentLearning,
    /// Samples whose most probable class is not the given one.
    PredictedNeqGiven,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 5] = [Self::PruneByNoiseRate, Self::PruneByClass, Self::Both, Self::ConfidentLearning, Self::PredictedNeqGiven];

    /// The name, as in cleanlab.
    pub fn name(self) -> &'static str {
        match self {
            Self::PruneByNoiseRate => "prune_by_noise_rate",
            Self::PruneByClass => "prune_by_class",
            Self::Both => "both",
            Self::ConfidentLearning => "confident_learning",
            Self::PredictedNeqGiven => "predicted_neq_given",
        }
    }
}

/// Settings of the first three rules; the others have none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PruneOptions {
    /// Samples of each class that are kept.
    pub min_examples_per_class: usize,
    /// Share of the counted errors that is taken, in `0..=1`.
    pub frac_noise: f64,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self { min_examples_per_class: 1, frac_noise: 1.0 }
    }
}

/// Whether each sample is called a label error, `[n]`. Among equal scores at a cut the earlier sample is taken (cleanlab leaves that to
/// NumPy's sort, which differs between processors).
///
/// # Errors
/// A share outside `0..=1`.
pub fn prune(data: &Labelled<'_>, joint: &ConfidentJoint, rule: Rule, options: &PruneOptions) -> Result<Vec<bool>, InputError> {
    if !(0.0..=1.0).contains(&options.frac_noise) {
        return Err(InputError::Option { option: "frac_noise", found: options.frac_noise.to_string(), expected: "a share from 0 to 1" });
    }
    let mut chosen = match rule {
        Rule::PruneByNoiseRate => by_noise_rate(data, &keep_at_least(joint, options), options),
        Rule::PruneByClass => by_class(data, &keep_at_least(joint, options), options),
        Rule::Both => {
            let quotas = keep_at_least(joint, options);
            let other = by_class(data, &quotas, options);
            by_noise_rate(data, &quotas, options).into_iter().zip(other).map(|(a, b)| a && b).collect()
        }
        Rule::ConfidentLearning => joint.off_diagonal(data),
        Rule::PredictedNeqGiven => data.rows().map(|(label, row)| argmax(row) != label).collect(),
    };
    for (chosen, (label, row)) in chosen.iter_mut().zip(data.rows()) {
        *chosen &= !predicted(label, row);
    }
    Ok(chosen)
}

/// Whether the given label is the prediction, within the tolerance.
fn predicted(label: usize, row: &[f64]) -> bool {
    let own = row[label] + TOLERANCE;
    row.iter().enumerate().all(|(k, &p)| k == label || p < own || (p == own && k > label))
}

/// How many samples each rule may take: `[true, given]`, at least `min_examples_per_class` on the diagonal, the rest lowered for it.
fn keep_at_least(joint: &ConfidentJoint, options: &PruneOptions) -> Vec<i64> {
    let classes = joint.classes;
    let least = options.min_examples_per_class as i64;
    let mut quotas = vec![0; classes * classes];
    for given in 0..classes {
        let column: Vec<i64> = (0..classes).map(|truth| joint.count(given, truth)).collect();
        let diagonal = column[given].max(least);
        let others = column.iter().filter(|c| **c != 0).count() as f64 - 1.0;
        let lowered = (diagonal - column[given]) as f64 / others.max(1.0);
        let kept: Vec<f64> =
            (0..classes).map(|j| if j == given { diagonal as f64 } else { (column[j] as f64 - lowered).max(0.0) }).collect();
        let taken: Vec<f64> = kept.iter().enumerate().map(|(j, &v)| if j == given { v } else { v * options.frac_noise }).collect();
        let returned: Vec<f64> = kept.iter().zip(&taken).map(|(kept, taken)| kept - taken).collect();
        for truth in 0..classes {
            let value = if truth == given { kept[given] + pairwise_sum(&returned) } else { taken[truth] };
            quotas[truth * classes + given] = value as i64;
        }
    }
    quotas
}

/// Samples by given class; classes too small to lose any are left out.
fn members(data: &Labelled<'_>, options: &PruneOptions) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); data.classes()];
    data.labels().iter().enumerate().for_each(|(sample, &label)| members[label].push(sample));
    members.iter_mut().filter(|m| m.len() <= options.min_examples_per_class.max(1)).for_each(Vec::clear);
    members
}

fn by_noise_rate(data: &Labelled<'_>, quotas: &[i64], options: &PruneOptions) -> Vec<bool> {
    let classes = data.classes();
    let mut chosen = vec![false; data.len()];
    for (given, members) in members(data, options).iter().enumerate() {
        for truth in (0..classes).filter(|&truth| truth != given) {
            let quota = quotas[truth * classes + given];
            if quota > 0 {
                least(members, quota as usize, |sample| data.row(sample)[given] - data.row(sample)[truth], &mut chosen);
            }
        }
    }
    chosen
}

fn by_class(data: &Labelled<'_>, quotas: &[i64], options: &PruneOptions) -> Vec<bool> {
    let classes = data.classes();
    let mut chosen = vec![false; data.len()];
    for (given, members) in members(data, options).iter().enumerate() {
        let quota = members.len() as i64 - quotas[given * classes + given];
        if quota > 0 {
            least(members, quota as usize, |sample| data.row(sample)[given], &mut chosen);
        }
    }
    chosen
}

/// Chooses the `quota` members with the least score; of equals, the first.
fn least(members: &[usize], quota: usize, score: impl Fn(usize) -> f64, chosen: &mut [bool]) {
    let mut order: Vec<(f64, usize)> = members.iter().map(|&sample| (score(sample), sample)).collect();
    let quota = quota.min(order.len());
    if quota == 0 {
        return;
    }
    // -0 and 0 are equal scores.
    let by_score = |a: &(f64, usize), b: &(f64, usize)| (a.0 + 0.0).total_cmp(&(b.0 + 0.0)).then(a.1.cmp(&b.1));
    order.select_nth_unstable_by(quota - 1, by_score);
    order[..quota].iter().for_each(|&(_, sample)| chosen[sample] = true);
}
