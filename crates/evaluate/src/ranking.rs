//! Samples sorted by a score once, so that areas under curves cost one pass for any weights.

use rayon::prelude::*;

const POSITIVE: u32 = 1 << 31;
const LAST_OF_TIE: u32 = 1 << 30;
const SAMPLE: u32 = LAST_OF_TIE - 1;

/// Entries by falling score: the sample, whether it counts as positive, and whether the next entry has a lower score.
pub(crate) struct Ranking {
    entries: Vec<u32>,
}

/// Areas under the curves of a ranking; NaN where undefined.
pub(crate) struct Areas {
    pub(crate) roc_auc: f64,
    pub(crate) average_precision: f64,
}

impl Ranking {
    /// Sorts (score, sample, positive).
    pub(crate) fn new(scores: impl Iterator<Item = (f64, usize, bool)>) -> Self {
        let mut sorted: Vec<(f64, u32)> =
            scores.map(|(score, sample, positive)| (score, sample as u32 & SAMPLE | if positive { POSITIVE } else { 0 })).collect();
        // Order within a tie does not matter to the areas, but fix it all the same.
        sorted.par_sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let entries = sorted
            .iter()
            .enumerate()
            .map(|(i, &(score, entry))| {
                let tied = sorted.get(i + 1).is_some_and(|next| next.0 == score);
                entry | if tied { 0 } else { LAST_OF_TIE }
            })
            .collect();
        Self { entries }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// ROC-AUC (ties count one half) and average precision (sum of precision times gain in recall over distinct scores).
    pub(crate) fn areas(&self, weights: &[u32]) -> Areas {
        let mut precisions = 0.0;
        let (area, positives, negatives) = self.walk(weights, |gained, found, called| {
            precisions += gained as f64 * (found as f64 / called as f64);
        });
        Areas {
            roc_auc: ratio(area, positives, negatives),
            average_precision: if positives == 0 { f64::NAN } else { precisions / positives as f64 },
        }
    }

    /// ROC-AUC alone.
    pub(crate) fn roc_auc(&self, weights: &[u32]) -> f64 {
        let (area, positives, negatives) = self.walk(weights, |_, _, _| {});
        ratio(area, positives, negatives)
    }

    /// Visits each distinct score that gains positives with (positives gained, positives so far, entries so far). Returns twice the
    /// area in units of one positive times one negative, exactly, and the numbers of both.
    #[inline(always)]
    fn walk(&self, weights: &[u32], mut at_gain: impl FnMut(u64, u64, u64)) -> (u64, u64, u64) {
        let (mut area, mut positives, mut negatives) = (0u64, 0u64, 0u64);
        let (mut new_positives, mut new) = (0u64, 0u64);
        for &entry in &self.entries {
            let weight = u64::from(weights[(entry & SAMPLE) as usize]);
            new += weight;
            new_positives += weight * u64::from(entry >> 31);
            if entry & LAST_OF_TIE != 0 {
                let new_negatives = new - new_positives;
                area += new_negatives * (2 * positives + new_positives);
                positives += new_positives;
                negatives += new_negatives;
                if new_positives > 0 {
                    at_gain(new_positives, positives, positives + negatives);
                }
                (new_positives, new) = (0, 0);
            }
        }
        (area, positives, negatives)
    }
}

fn ratio(twice_area: u64, positives: u64, negatives: u64) -> f64 {
    if positives == 0 || negatives == 0 { f64::NAN } else { twice_area as f64 / (2.0 * positives as f64 * negatives as f64) }
}

/// Average precision of a ranking by falling score: the sum of precision times gain in recall over distinct scores (scikit-learn's). None without
/// positives, or where the lengths disagree.
pub fn average_precision(scores: &[f64], positives: &[bool]) -> Option<f64> {
    if scores.len() != positives.len() {
        return None;
    }
    let ranking = Ranking::new(scores.iter().zip(positives).enumerate().map(|(i, (&score, &positive))| (score, i, positive)));
    Some(ranking.areas(&vec![1; scores.len()]).average_precision).filter(|v| !v.is_nan())
}
