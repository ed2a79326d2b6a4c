//! One picture with what is known about it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use images::Image;
use serde::{Deserialize, Serialize};

use crate::IdxImages;

/// Where the pixels of a sample come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// An image file.
    File(PathBuf),
    /// One picture of an IDX file held in memory.
    Idx {
        /// The pictures of the file.
        images: Arc<IdxImages>,
        /// Which of them.
        index: usize,
    },
    /// Decoded pixels.
    Memory(Arc<Image>),
}

/// What a sample shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// One class.
    Label(usize),
    /// Any number of classes, sorted and unique.
    Labels(Vec<usize>),
    /// A probability per class in label order, each in 0..=1, summing to 1.
    Soft(Vec<f32>),
}

impl Target {
    /// The most likely class: the label, the one of several labels when it is the only one, or the first class of highest
    /// probability. `None` for no or several labels.
    pub fn argmax(&self) -> Option<usize> {
        match self {
            Target::Label(label) => Some(*label),
            Target::Labels(labels) => match labels.as_slice() {
                [label] => Some(*label),
                _ => None,
            },
            Target::Soft(p) => {
                let mut best = None;
                for (i, &v) in p.iter().enumerate() {
                    if best.is_none_or(|(_, b)| v > b) {
                        best = Some((i, v));
                    }
                }
                best.map(|(i, _)| i)
            }
        }
    }

    /// A distribution over `classes` classes: one-hot for a label, uniform over several labels, the probabilities themselves.
    /// Labels outside `classes` are left out; no label at all gives zeros.
    pub fn as_distribution(&self, classes: usize) -> Vec<f32> {
        let mut out = vec![0.0; classes];
        match self {
            Target::Label(label) => {
                if let Some(slot) = out.get_mut(*label) {
                    *slot = 1.0;
                }
            }
            Target::Labels(labels) => {
                for &label in labels {
                    if let Some(slot) = out.get_mut(label) {
                        *slot = 1.0 / labels.len() as f32;
                    }
                }
            }
            Target::Soft(p) => out.iter_mut().zip(p).for_each(|(slot, &v)| *slot = v),
        }
        out
    }
}

/// One picture with its target and whatever else the data set says about it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Stable and unique in the data set: the path relative to the root with `/` between parts, or `file#index`.
    pub id: String,
    /// Where the pixels come from.
    pub source: Source,
    /// What it shows; `None` when nobody has said.
    pub target: Option<Target>,
    /// The split it was assigned to by the data set: `train`, `val`, `test` or another name of a manifest.
    pub split: Option<String>,
    /// Samples of one group (a patient, a module, a scene) must stay on one side of a split.
    pub group: Option<String>,
    /// Weight in training and metrics; 1 unless the data set says otherwise; at least 0.
    pub weight: f32,
    /// Any further columns of a manifest by name, for slices.
    pub columns: BTreeMap<String, String>,
}

impl Sample {
    /// A sample of weight 1 with neither target nor split, group or columns.
    pub fn new(id: impl Into<String>, source: Source) -> Sample {
        Sample { id: id.into(), source, target: None, split: None, group: None, weight: 1.0, columns: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argmax_of_each_kind() {
        assert_eq!(Target::Label(3).argmax(), Some(3));
        assert_eq!(Target::Labels(vec![2]).argmax(), Some(2));
        assert_eq!(Target::Labels(vec![1, 2]).argmax(), None);
        assert_eq!(Target::Soft(vec![0.2, 0.4, 0.4]).argmax(), Some(1));
        assert_eq!(Target::Soft(vec![]).argmax(), None);
    }

    #[test]
    fn distributions_of_each_kind() {
        assert_eq!(Target::Label(1).as_distribution(3), [0.0, 1.0, 0.0]);
        assert_eq!(Target::Labels(vec![0, 2]).as_distribution(3), [0.5, 0.0, 0.5]);
        assert_eq!(Target::Soft(vec![0.25, 0.75]).as_distribution(2), [0.25, 0.75]);
    }
}
