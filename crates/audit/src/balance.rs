//! Classes with too few images, or none.

use crate::{Check, Finding};

/// How many images each class has.
#[derive(Debug, Clone, PartialEq)]
pub struct Balance {
    /// Images of each class.
    pub counts: Vec<usize>,
    /// Classes without images.
    pub empty: Vec<usize>,
    /// The class with the fewest images (the first of equals), empty ones included.
    pub rarest: usize,
    /// Its share of all images.
    pub rarest_share: f64,
    /// Whether that share is below the threshold: `.1 / K` by custom (cleanlab's datalab, `class_imbalance`).
    pub imbalanced: bool,
    /// Images of the largest class for each image of the smallest class that has any.
    pub ratio: f64,
}

/// The share of an even share `1 / K` below which the rarest class is called too rare.
pub const RAREST: f64 = 0.1;

/// Counts the labels of `classes` classes; labels out of range are left out. `threshold` is [`RAREST`] by custom.
pub fn balance(labels: &[usize], classes: usize, threshold: f64) -> Balance {
    let mut counts = vec![0; classes];
    labels.iter().filter(|&&label| label < classes).for_each(|&label| counts[label] += 1);
    let rarest = (0..classes).min_by_key(|&k| counts[k]).unwrap_or(0);
    let total = counts.iter().sum::<usize>().max(1) as f64;
    let rarest_share = counts.get(rarest).map_or(0.0, |&n| n as f64 / total);
    let least = counts.iter().copied().filter(|n| *n > 0).min().unwrap_or(1);
    Balance {
        empty: (0..classes).filter(|&k| counts[k] == 0).collect(),
        rarest,
        rarest_share,
        imbalanced: rarest_share < threshold / classes.max(1) as f64,
        ratio: counts.iter().copied().max().unwrap_or(0) as f64 / least as f64,
        counts,
    }
}

impl Balance {
    /// One finding for each empty class, and one for each class below the threshold share; `names` are the classes. The score is the share
    /// that the class lacks of an even one.
    pub fn findings(&self, threshold: f64, names: &[String]) -> Vec<Finding> {
        let (classes, total) = (self.counts.len().max(1) as f64, self.counts.iter().sum::<usize>());
        let name = |k: usize| names.get(k).map_or_else(|| k.to_string(), Clone::clone);
        let mut out = Vec::new();
        for (class, &n) in self.counts.iter().enumerate() {
            let share = n as f64 / total.max(1) as f64;
            if share >= threshold / classes {
                continue;
            }
            let (check, detail) = if n == 0 {
                (Check::EmptyClass, format!("class {} has no image", name(class)))
            } else {
                (
                    Check::Imbalance,
                    format!("class {} has {n} of {total} images, {:.1} % of an even share", name(class), 100.0 * share * classes),
                )
            };
            let score = (1.0 - share * classes).clamp(0.0, 1.0);
            out.push(Finding { sample: None, check, score, given: Some(class), suggested: None, group: None, detail });
        }
        out
    }
}
