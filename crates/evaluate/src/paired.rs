use std::collections::{HashMap, HashSet};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{EvaluateError, Metric, Options, Predictions, bootstrap};

/// The difference in accuracy of two classifiers on the same samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Samples that both tables judge.
    pub n: usize,
    /// Accuracy of the first on them.
    pub first: f64,
    /// Accuracy of the second on them.
    pub second: f64,
    /// `second - first` with its paired bootstrap interval.
    pub difference: Metric,
}

/// Compares the accuracy of two tables on the samples they share (by id), resampling pairs.
///
/// # Errors
/// When the tables have different classes, contradict each other on a truth, repeat an id, or share no labelled sample.
pub fn paired_difference(first: &Predictions, second: &Predictions, options: &Options) -> Result<Difference, EvaluateError> {
    let pairs = pair(first, second)?;
    let n = pairs.len();
    let share = |count: usize| count as f64 / n as f64;
    let rights = |which: fn(&(bool, bool)) -> bool| share(pairs.iter().filter(|pair| which(pair)).count());
    let (of_first, of_second) = (rights(|pair| pair.0), rights(|pair| pair.1));
    let gains: Vec<f64> = pairs.iter().map(|&(a, b)| f64::from(u8::from(b)) - f64::from(u8::from(a))).collect();
    let replicate = |r: usize| {
        let drawn = bootstrap::draw(n, options.seed, r);
        drawn.iter().zip(&gains).map(|(&count, gain)| f64::from(count) * gain).sum::<f64>() / n as f64
    };
    let replicates: Vec<f64> = if n < 2 { Vec::new() } else { (0..options.bootstrap).into_par_iter().map(replicate).collect() };
    let difference = Metric { value: Some(of_second - of_first), ci95: bootstrap::interval(replicates), undefined: None };
    Ok(Difference { n, first: of_first, second: of_second, difference })
}

/// Whether each table is right, for every labelled sample that both judge, in the order of the first.
fn pair(first: &Predictions, second: &Predictions) -> Result<Vec<(bool, bool)>, EvaluateError> {
    first.check()?;
    second.check()?;
    let mismatch = |reason: String| Err(EvaluateError::Mismatch { reason });
    if first.classes != second.classes {
        return mismatch(format!("the first has classes {:?}, the second {:?}", first.classes, second.classes));
    }
    let mut rows = HashMap::new();
    for (row, id) in second.ids.iter().enumerate() {
        if rows.insert(id.as_str(), row).is_some() {
            return mismatch(format!("the second lists sample `{id}` twice"));
        }
    }
    let mut seen = HashSet::new();
    let mut pairs = Vec::new();
    for (a, id) in first.ids.iter().enumerate() {
        if !seen.insert(id) {
            return mismatch(format!("the first lists sample `{id}` twice"));
        }
        let Some(&b) = rows.get(id.as_str()) else { continue };
        let truth = match (first.truth[a], second.truth[b]) {
            (Some(x), Some(y)) if x != y => {
                return mismatch(format!(
                    "sample `{id}` is truly `{}` in the first and `{}` in the second",
                    first.classes[x], first.classes[y]
                ));
            }
            (Some(truth), _) | (None, Some(truth)) => truth,
            (None, None) => continue,
        };
        pairs.push((first.predicted(a) == truth, second.predicted(b) == truth));
    }
    if pairs.is_empty() { mismatch("they share no labelled sample".into()) } else { Ok(pairs) }
}
