use serde::{Deserialize, Serialize};

use super::Labelled;

/// How well a sample's label fits its probabilities: 1 fits, towards 0 it does not. Definitions of `cleanlab.rank`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelScore {
    /// `p[y]`.
    #[default]
    SelfConfidence,
    /// `(p[y] - max over k ≠ y of p[k] + 1) / 2`.
    NormalizedMargin,
    /// `log(x + 1) / x` with `x = (H(p) / log K) / p[y]`, the normalised entropy over the self-confidence. As cleanlab bounds `x` below by 1e-6 in
    /// the divisor alone, a perfectly sure and right prediction scores near 0: not for sharp models.
    ConfidenceWeightedEntropy,
}

/// Below it, a divisor is replaced by it.
const CLIP: f64 = 1e-6;

/// The quality of each label, `[n]`.
pub fn label_scores(data: &Labelled<'_>, score: LabelScore) -> Vec<f64> {
    let of = match score {
        LabelScore::SelfConfidence => |label: usize, row: &[f64]| row[label],
        LabelScore::NormalizedMargin => normalized_margin,
        LabelScore::ConfidenceWeightedEntropy => confidence_weighted_entropy,
    };
    data.rows().map(|(label, row)| of(label, row)).collect()
}

fn normalized_margin(label: usize, row: &[f64]) -> f64 {
    let other = row.iter().enumerate().filter(|(k, _)| *k != label).map(|(_, &p)| p).fold(f64::NEG_INFINITY, f64::max);
    (row[label] - other + 1.0) / 2.0
}

fn confidence_weighted_entropy(label: usize, row: &[f64]) -> f64 {
    let entropy: f64 = -row.iter().map(|&p| if p > 0.0 { p * p.ln() } else { 0.0 }).sum::<f64>();
    let weighted = entropy / (row.len() as f64).ln() / row[label].max(CLIP);
    (weighted + 1.0).ln() / weighted.max(CLIP)
}
