//! Labels of several annotators: what they agree on, how sure that is, and how good each annotator is.

mod crowdlab;
mod dawid_skene;

pub use crowdlab::{Crowdlab, crowdlab, majority_vote};
pub use dawid_skene::{DawidSkene, DawidSkeneOptions, dawid_skene};

use crate::{Check, Finding, InputError};

/// One label of each annotator for each sample, where given; checked.
#[derive(Debug, Clone, Copy)]
pub struct Annotations<'a> {
    labels: &'a [Option<usize>],
    annotators: usize,
    classes: usize,
}

impl<'a> Annotations<'a> {
    /// `labels` `[n, annotators]`, row by row.
    ///
    /// # Errors
    /// Fewer than two classes or no annotators, sizes that disagree, a label out of range, a sample without any label, an annotator without any.
    pub fn new(labels: &'a [Option<usize>], annotators: usize, classes: usize) -> Result<Self, InputError> {
        if classes < 2 {
            return Err(InputError::TooFew { what: "classes", least: 2, found: classes });
        }
        if annotators == 0 {
            return Err(InputError::TooFew { what: "annotators", least: 1, found: 0 });
        }
        if !labels.len().is_multiple_of(annotators) {
            let expected = labels.len().div_ceil(annotators) * annotators;
            return Err(InputError::Length { what: "annotations", expected, found: labels.len() });
        }
        if let Some(at) = labels.iter().position(|l| l.is_some_and(|l| l >= classes)) {
            return Err(InputError::Label { sample: at / annotators, label: labels[at].unwrap_or(0), classes });
        }
        if let Some(sample) = labels.chunks_exact(annotators).position(|row| row.iter().all(Option::is_none)) {
            return Err(InputError::Unlabelled { what: "sample", number: sample });
        }
        if let Some(annotator) = (0..annotators).find(|&a| labels.iter().skip(a).step_by(annotators).all(Option::is_none)) {
            return Err(InputError::Unlabelled { what: "annotator", number: annotator });
        }
        Ok(Self { labels, annotators, classes })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len() / self.annotators
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of annotators.
    pub fn annotators(&self) -> usize {
        self.annotators
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The labels of one sample, one for each annotator.
    pub fn row(&self, sample: usize) -> &'a [Option<usize>] {
        &self.labels[sample * self.annotators..(sample + 1) * self.annotators]
    }

    /// The rows of all samples.
    fn rows(&self) -> impl Iterator<Item = &'a [Option<usize>]> {
        self.labels.chunks_exact(self.annotators)
    }

    /// How many labels each sample has.
    pub fn counts(&self) -> Vec<usize> {
        self.rows().map(|row| row.iter().flatten().count()).collect()
    }
}

/// A finding for each sample whose consensus differs from its given label, or is worth less than `quality`; the least sure first.
pub fn findings(consensus: &[usize], quality: &[f64], given: &[usize], least_quality: f64) -> Vec<Finding> {
    let doubtful = |&i: &usize| given.get(i).is_some_and(|g| *g != consensus[i]) || quality[i] < least_quality;
    let mut order: Vec<usize> = (0..consensus.len()).filter(doubtful).collect();
    order.sort_by(|&a, &b| quality[a].total_cmp(&quality[b]).then(a.cmp(&b)));
    let finding = |sample: usize| Finding {
        sample: Some(sample),
        check: Check::Label,
        score: (1.0 - quality[sample]).clamp(0.0, 1.0),
        given: given.get(sample).copied(),
        suggested: Some(consensus[sample]),
        group: None,
        detail: format!("the annotators' consensus has quality {:.3}", quality[sample]),
    };
    order.into_iter().map(finding).collect()
}
