//! Images unlike all others, and images that may not belong to the task.

use crate::neighbours::{Neighbours, checked_rows, cosine_distance};
use crate::{Check, Finding, InputError, quantile};

/// Settings of [`outliers`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutlierOptions {
    /// How many interquartile ranges above the third quartile a mean distance must lie.
    pub iqr_factor: f64,
}

impl Default for OutlierOptions {
    /// cleanlab's threshold .37037, which it turns into the factor `1 / .37037 - 1 = 1.7`.
    fn default() -> Self {
        Self { iqr_factor: 1.0 / 0.37037 - 1.0 }
    }
}

/// How far each sample lies from its neighbours.
#[derive(Debug, Clone, PartialEq)]
pub struct Outliers {
    /// Mean distance of the neighbours, `[n]`.
    pub mean_distance: Vec<f64>,
    /// `1 - exp(-mean / median of means)`, `[n]`: towards 1 the further out (one minus cleanlab's score).
    pub score: Vec<f64>,
    /// The mean distance beyond which a sample is an outlier.
    pub threshold: f64,
    /// Whether each sample is an outlier, `[n]`.
    pub flagged: Vec<bool>,
}

/// Distances below this are rounding: not at all far out (cleanlab: 100 times the machine's epsilon).
const ROUNDING: f64 = 100.0 * f64::EPSILON / 2.0;

/// Samples whose mean distance to their neighbours (10 by custom) exceeds `Q3 + factor · IQR` (cleanlab's datalab, `outlier`).
pub fn outliers(neighbours: &Neighbours, options: &OutlierOptions) -> Outliers {
    let mean_distance = neighbours.mean_distances();
    let (q1, q3) = (quantile::of(&mean_distance, 0.25), quantile::of(&mean_distance, 0.75));
    let threshold = q3 + options.iqr_factor * (q3 - q1);
    let scale = quantile::of(&mean_distance, 0.5).max(1e-6);
    let score = mean_distance.iter().map(|&d| if d < ROUNDING { 0.0 } else { 1.0 - (-d / scale).exp() }).collect();
    let flagged = mean_distance.iter().map(|&d| d > threshold).collect();
    Outliers { mean_distance, score, threshold, flagged }
}

/// The distance of each sample to the nearest class: `1 - cos` with the mean feature of the class.
///
/// # Errors
/// Sizes that disagree, a label out of range, values that are not finite.
pub fn class_distances(features: &[f32], columns: usize, labels: &[usize], classes: usize) -> Result<Vec<f64>, InputError> {
    let n = checked_rows(features, columns)?;
    if labels.len() != n {
        return Err(InputError::Length { what: "labels", expected: n, found: labels.len() });
    }
    if let Some(sample) = labels.iter().position(|&l| l >= classes) {
        return Err(InputError::Label { sample, label: labels[sample], classes });
    }
    let mut sums = vec![0.0f64; classes * columns];
    let mut counts = vec![0usize; classes];
    for (row, &label) in features.chunks_exact(columns).zip(labels) {
        counts[label] += 1;
        sums[label * columns..(label + 1) * columns].iter_mut().zip(row).for_each(|(s, &v)| *s += f64::from(v));
    }
    let means: Vec<Vec<f32>> = sums
        .chunks_exact(columns)
        .zip(&counts)
        .filter(|(_, n)| **n > 0)
        .map(|(sum, &n)| sum.iter().map(|s| (s / n as f64) as f32).collect())
        .collect();
    let nearest = |row: &[f32]| means.iter().map(|m| cosine_distance(row, m)).fold(2.0, f64::min);
    Ok(features.chunks_exact(columns).map(nearest).collect())
}

/// Off-topic samples: outliers among their neighbours that are also unusually far from every class (the same rule on
/// [`class_distances`]). A rare but proper member of a class fails the second condition. This definition is our own.
pub fn off_topic(outliers: &Outliers, class_distances: &[f64], options: &OutlierOptions) -> Vec<bool> {
    let (q1, q3) = (quantile::of(class_distances, 0.25), quantile::of(class_distances, 0.75));
    let threshold = q3 + options.iqr_factor * (q3 - q1);
    outliers.flagged.iter().zip(class_distances).map(|(&out, &d)| out && d > threshold).collect()
}

/// One finding for each outlier, furthest out first.
pub fn findings(outliers: &Outliers, off_topic: &[bool], labels: &[usize]) -> Vec<Finding> {
    let mut order: Vec<usize> = (0..outliers.flagged.len()).filter(|&i| outliers.flagged[i]).collect();
    order.sort_by(|&a, &b| outliers.score[b].total_cmp(&outliers.score[a]).then(a.cmp(&b)));
    let finding = |sample: usize| Finding {
        sample: Some(sample),
        check: Check::Outlier,
        score: outliers.score[sample],
        given: labels.get(sample).copied(),
        suggested: None,
        group: None,
        detail: format!(
            "mean distance {:.3} from its neighbours, beyond {:.3}{}",
            outliers.mean_distance[sample],
            outliers.threshold,
            if off_topic.get(sample).is_some_and(|o| *o) { "; far from every class: perhaps off topic" } else { "" }
        ),
    };
    order.into_iter().map(finding).collect()
}
