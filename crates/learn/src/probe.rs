//! The linear probe: logistic regression on frozen, standardised features.

use data::{Dataset, split, weights};
use graph::{Tensor, Weights};
use serde::{Deserialize, Serialize};

use crate::backbone::head_weight;
use crate::features::Rows;
use crate::logistic::{self, Logistic, LogisticOptions, Matrix};
use crate::plan::label;
use crate::{Backbone, LearnError, Recipe};

/// How good one strength was on samples that it was not fitted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strength {
    /// Inverse regularisation strength `C`.
    pub c: f64,
    /// Mean cross-entropy, nats.
    pub log_loss: f64,
    /// Share of right answers.
    pub accuracy: f64,
    /// Whether it was chosen.
    pub chosen: bool,
}

/// A fitted probe: standardisation and logistic regression.
#[derive(Debug, Clone)]
pub struct Probe {
    mean: Vec<f32>,
    scale: Vec<f32>,
    logistic: Logistic,
}

/// Everything a probe is fitted to.
pub struct ProbeData<'a> {
    /// The samples.
    pub dataset: &'a Dataset,
    /// Their features.
    pub features: &'a Rows,
    /// How to fit.
    pub recipe: &'a Recipe,
}

impl Probe {
    /// Class probabilities of rows given by position, `[positions, classes]`.
    pub fn probabilities(&self, features: &Rows, positions: &[usize]) -> Vec<f64> {
        let x = standardised(features, positions, &self.mean, &self.scale);
        self.logistic.probabilities(Matrix { data: &x, columns: features.columns })
    }

    /// Writes the probe into the head of a graph with as many classes: the standardisation is folded into weight and bias.
    ///
    /// # Errors
    /// The graph has no linear head over the features.
    pub fn write_head(&self, backbone: &Backbone, into: &mut Weights) -> Result<(), LearnError> {
        let missing = || LearnError::Probe(format!("the graph {:?} has no linear head on its features", backbone.graph.name));
        let name = head_weight(&backbone.graph).ok_or_else(missing)?.to_string();
        let (weight, bias) = self.logistic.linear();
        let (rows, columns) = (bias.len(), self.logistic.columns);
        let mut head = Tensor::zeros([rows, columns]);
        let mut offsets = Tensor::zeros([rows]);
        for k in 0..rows {
            let mut offset = bias[k];
            for j in 0..columns {
                let w = weight[k * columns + j] * f64::from(self.scale[j]);
                head.data[k * columns + j] = w as f32;
                offset -= w * f64::from(self.mean[j]);
            }
            offsets.data[k] = offset as f32;
        }
        let bias_name = name.replace(".weight", ".bias");
        if into.get(&name).is_none_or(|w| w.shape != head.shape) || into.get(&bias_name).is_none_or(|b| b.shape != offsets.shape) {
            return Err(missing());
        }
        into.insert(name, head);
        into.insert(bias_name, offsets);
        Ok(())
    }
}

/// Positions that are fitted and positions that judge.
type InnerFold = (Vec<usize>, Vec<usize>);

impl ProbeData<'_> {
    /// Fits on rows given by position, with one strength.
    ///
    /// # Errors
    /// As [`logistic::fit`].
    pub fn fit(&self, positions: &[usize], c: f64) -> Result<Probe, LearnError> {
        let (mean, scale) = moments(self.features, positions);
        let x = standardised(self.features, positions, &mean, &scale);
        let (targets, row_weights) = self.targets(positions);
        let options = LogisticOptions { c, ..LogisticOptions::default() };
        let x = Matrix { data: &x, columns: self.features.columns };
        let logistic = logistic::fit(x, &targets, self.dataset.classes.len(), Some(&row_weights), &options, None)?;
        Ok(Probe { mean, scale, logistic })
    }

    /// Compares the recipe's strengths on held-out rows: `validation` where given, else inner folds of `train` (fewer where a class is rare).
    ///
    /// # Errors
    /// As [`logistic::fit`], or classes too rare to hold any out.
    pub fn sweep(&self, train: &[usize], validation: &[usize], seed: u64) -> Result<Vec<Strength>, LearnError> {
        let parts: Vec<(Vec<usize>, Vec<usize>)> =
            if validation.is_empty() { self.inner_folds(train, seed)? } else { vec![(train.to_vec(), validation.to_vec())] };
        let mut strengths: Vec<f64> = self.recipe.probe.strengths.clone();
        strengths.sort_by(f64::total_cmp);
        let mut sums = vec![(0.0, 0.0); strengths.len()];
        let mut total = 0.0;
        for (fitted, held) in &parts {
            let (mean, scale) = moments(self.features, fitted);
            let (x, held_x) = (standardised(self.features, fitted, &mean, &scale), standardised(self.features, held, &mean, &scale));
            let (targets, row_weights) = self.targets(fitted);
            let columns = self.features.columns;
            let mut warm: Option<Logistic> = None;
            for (sum, &c) in sums.iter_mut().zip(&strengths) {
                let options = LogisticOptions { c, tolerance: 1e-4, ..LogisticOptions::default() };
                let x = Matrix { data: &x, columns };
                let model = logistic::fit(x, &targets, self.dataset.classes.len(), Some(&row_weights), &options, warm.as_ref())?;
                let p = model.probabilities(Matrix { data: &held_x, columns });
                let (loss, right) = self.score(held, &p);
                sum.0 += loss;
                sum.1 += right;
                warm = Some(model);
            }
            total += held.len() as f64;
        }
        let best = (0..sums.len()).min_by(|&a, &b| sums[a].0.total_cmp(&sums[b].0)).unwrap_or(0);
        let row = |(i, (&c, &(loss, right))): (usize, (&f64, &(f64, f64)))| Strength {
            c,
            log_loss: loss / total,
            accuracy: right / total,
            chosen: i == best,
        };
        Ok(strengths.iter().zip(&sums).enumerate().map(row).collect())
    }

    fn inner_folds(&self, train: &[usize], seed: u64) -> Result<Vec<InnerFold>, LearnError> {
        let labels: Vec<usize> = train.iter().map(|&p| self.label(p)).collect();
        let groups = self.dataset.groups().map(|g| train.iter().map(|&p| g[self.features.indices[p]].clone()).collect::<Vec<_>>());
        let k = self.recipe.probe.inner_folds.min(train.len());
        let fold = split::k_folds(&labels, groups.as_deref(), k, seed)
            .map_err(|e| LearnError::Probe(format!("the strength is chosen on {k} inner folds of {} samples: {e}", train.len())))?;
        let part = |f: usize, inside: bool| train.iter().zip(&fold).filter(|(_, g)| (**g == f) == inside).map(|(&p, _)| p).collect();
        Ok((0..k).map(|f| (part(f, false), part(f, true))).collect())
    }

    pub(crate) fn label(&self, position: usize) -> usize {
        label(self.dataset, self.features.indices[position]).unwrap_or(0)
    }

    /// Target distributions and weights of rows.
    fn targets(&self, positions: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let classes = self.dataset.classes.len();
        let mut targets = Vec::with_capacity(positions.len() * classes);
        let mut row_weights = Vec::with_capacity(positions.len());
        let indices: Vec<usize> = positions.iter().map(|&p| self.features.indices[p]).collect();
        let class_weights = weights::balanced(&self.dataset.class_counts(&indices));
        for (&index, &position) in indices.iter().zip(positions) {
            let sample = &self.dataset.samples[index];
            let row = sample.target.as_ref().map_or_else(|| vec![0.0; classes], |t| t.as_distribution(classes));
            targets.extend(row);
            let class_weight = if self.recipe.probe.balanced { class_weights[self.label(position)] as f32 } else { 1.0 };
            row_weights.push(sample.weight * class_weight);
        }
        (targets, row_weights)
    }

    /// Summed cross-entropy and number of right answers.
    fn score(&self, positions: &[usize], probabilities: &[f64]) -> (f64, f64) {
        let classes = self.dataset.classes.len();
        positions.iter().zip(probabilities.chunks_exact(classes)).fold((0.0, 0.0), |(loss, right), (&position, p)| {
            let truth = self.label(position);
            let best = (0..classes).fold(0, |best, k| if p[k] > p[best] { k } else { best });
            (loss - p[truth].max(1e-15).ln(), right + f64::from(u8::from(best == truth)))
        })
    }
}

/// Mean and inverse standard deviation of each column; a constant column is left as it is.
fn moments(features: &Rows, positions: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let n = positions.len().max(1) as f64;
    let mut sum = vec![0.0f64; features.columns];
    for &p in positions {
        sum.iter_mut().zip(features.row(p)).for_each(|(s, &v)| *s += f64::from(v));
    }
    let mean: Vec<f64> = sum.iter().map(|s| s / n).collect();
    let mut squares = vec![0.0f64; features.columns];
    for &p in positions {
        for ((s, &v), m) in squares.iter_mut().zip(features.row(p)).zip(&mean) {
            *s += (f64::from(v) - m).powi(2);
        }
    }
    let scale = squares.iter().map(|s| (s / n).sqrt()).map(|d| if d > 1e-12 { (1.0 / d) as f32 } else { 1.0 }).collect();
    (mean.iter().map(|&m| m as f32).collect(), scale)
}

fn standardised(features: &Rows, positions: &[usize], mean: &[f32], scale: &[f32]) -> Vec<f32> {
    let mut out = Vec::with_capacity(positions.len() * features.columns);
    for &p in positions {
        out.extend(features.row(p).iter().zip(mean).zip(scale).map(|((v, m), s)| (v - m) * s));
    }
    out
}
