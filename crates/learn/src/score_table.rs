//! Every score of every sample, for spreadsheets and notebooks.

use audit::pixels::QualityScores;
use audit::{Check, Thresholds, quality_scores};
use data::Dataset;
use evaluate::Column;

use crate::Audited;
use crate::plan::label;

/// The name of a measure and how it is read.
type Measure = (&'static str, fn(&QualityScores) -> f64);

impl Audited {
    /// One row a sample: id, split, label, content, what was measured of the picture, how well the label fits, and for each check that found
    /// something the highest score among the sample's findings. A cell is empty where nothing was measured or found.
    pub fn score_columns(&self, dataset: &Dataset, thresholds: &Thresholds) -> Vec<(String, Column)> {
        let samples = 0..dataset.len();
        let text = |of: &dyn Fn(usize) -> Option<String>| Column::Text(samples.clone().map(of).collect());
        let class = |k: usize| dataset.classes.names().get(k).cloned();
        let mut columns = vec![
            ("id".to_string(), text(&|i| Some(dataset.samples[i].id.clone()))),
            ("split".to_string(), text(&|i| dataset.samples[i].split.clone())),
            ("label".to_string(), text(&|i| label(dataset, i).and_then(class))),
            ("content".to_string(), text(&|i| self.pixels.get(i).map(|m| m.content.clone()))),
        ];
        let measured = quality_scores(&self.pixels, thresholds);
        let measures: [Measure; 7] = [
            ("dark", |s| s.dark),
            ("light", |s| s.light),
            ("odd_aspect", |s| s.odd_aspect),
            ("low_information", |s| s.low_information),
            ("blurry", |s| s.blurry),
            ("greyscale", |s| s.greyscale),
            ("odd_size", |s| s.odd_size),
        ];
        for (name, of) in measures {
            columns.push((format!("measure:{name}"), Column::Number(measured.iter().map(|s| s.as_ref().map(of)).collect())));
        }
        columns.extend(self.label_columns(dataset));
        for check in Check::ALL {
            let mut scores = vec![None; dataset.len()];
            for finding in self.findings.iter().filter(|f| f.check == check) {
                if let Some(slot) = finding.sample.and_then(|i| scores.get_mut(i)) {
                    *slot = Some(slot.map_or(finding.score, |s: f64| s.max(finding.score)));
                }
            }
            if scores.iter().any(Option::is_some) {
                columns.push((format!("finding:{}", check.name()), Column::Number(scores)));
            }
        }
        columns
    }

    /// Probability of the given label, probability that it is wrong, and the likeliest class.
    fn label_columns(&self, dataset: &Dataset) -> Vec<(String, Column)> {
        let Some(judged) = &self.out_of_fold else { return Vec::new() };
        let classes = dataset.classes.len();
        let (mut own, mut wrong, mut likeliest) = (vec![None; dataset.len()], vec![None; dataset.len()], vec![None; dataset.len()]);
        for (at, (&sample, row)) in judged.samples.iter().zip(judged.probabilities.chunks_exact(classes)).enumerate() {
            own[sample] = label(dataset, sample).map(|k| row[k]);
            wrong[sample] = self.label_errors.as_ref().and_then(|e| e.probability.get(at).copied());
            let best = (1..classes).fold(0, |best, k| if row[k] > row[best] { k } else { best });
            likeliest[sample] = dataset.classes.names().get(best).cloned();
        }
        vec![
            ("label:probability".to_string(), Column::Number(own)),
            ("label:error".to_string(), Column::Number(wrong)),
            ("label:likeliest".to_string(), Column::Text(likeliest)),
        ]
    }
}
