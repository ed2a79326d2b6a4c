//! Which unlabelled images to label next.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::InputError;
use crate::neighbours::{checked_rows, normalised};

/// How images are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The largest entropy of the probabilities.
    Entropy,
    /// The least difference between the two largest probabilities.
    Margin,
    /// The images furthest from all that are labelled or chosen (greedy k-centre: Sener and Savarese 2018, *Active Learning for Convolutional
    /// Neural Networks: A Core-Set Approach*).
    Coreset,
    /// Greedy k-centre among the images of least margin, five times as many as are wanted: uncertain and different from one another.
    Mixed,
}

/// Images to choose from.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    /// Probabilities `[n, classes]`.
    pub probabilities: &'a [f64],
    /// Number of classes.
    pub classes: usize,
    /// Features `[n, columns]`; may be empty for [`Strategy::Entropy`] and [`Strategy::Margin`].
    pub features: &'a [f32],
    /// Features `[labelled, columns]` of what is labelled already; may be empty.
    pub labelled: &'a [f32],
    /// Length of a row of features.
    pub columns: usize,
}

/// How many times the wanted images are shortlisted by [`Strategy::Mixed`].
const SHORTLIST: usize = 5;

/// The `wanted` images to label next, most wanted first, as positions among the candidates.
///
/// # Errors
/// Sizes that disagree, or values that are not finite.
pub fn prioritise(candidates: &Candidates<'_>, strategy: Strategy, wanted: usize) -> Result<Vec<usize>, InputError> {
    let n = check(candidates, strategy)?;
    let wanted = wanted.min(n);
    let rows = || candidates.probabilities.chunks_exact(candidates.classes.max(1));
    let chosen = match strategy {
        Strategy::Entropy => first(rows().map(|row| -entropy(row)).collect(), wanted),
        Strategy::Margin => first(rows().map(margin).collect(), wanted),
        Strategy::Coreset => k_centres(candidates, &(0..n).collect::<Vec<_>>(), wanted),
        Strategy::Mixed => {
            let mut shortlist = first(rows().map(margin).collect(), wanted.saturating_mul(SHORTLIST).min(n));
            shortlist.sort_unstable();
            k_centres(candidates, &shortlist, wanted)
        }
    };
    Ok(chosen)
}

fn check(c: &Candidates<'_>, strategy: Strategy) -> Result<usize, InputError> {
    let (by_probability, by_feature) = match strategy {
        Strategy::Entropy | Strategy::Margin => (true, false),
        Strategy::Coreset => (false, true),
        Strategy::Mixed => (true, true),
    };
    if by_probability {
        if c.classes < 2 {
            return Err(InputError::TooFew { what: "classes", least: 2, found: c.classes });
        }
        if !c.probabilities.len().is_multiple_of(c.classes) {
            let expected = c.probabilities.len().div_ceil(c.classes) * c.classes;
            return Err(InputError::Length { what: "probabilities", expected, found: c.probabilities.len() });
        }
        if let Some(at) = c.probabilities.iter().position(|p| !p.is_finite()) {
            return Err(InputError::Probability { sample: at / c.classes, class: at % c.classes, found: c.probabilities[at] });
        }
    }
    if !by_feature {
        return Ok(c.probabilities.len() / c.classes);
    }
    checked_rows(c.labelled, c.columns)?;
    let n = checked_rows(c.features, c.columns)?;
    if by_probability && n != c.probabilities.len() / c.classes {
        return Err(InputError::Length {
            what: "features",
            expected: c.probabilities.len() / c.classes * c.columns,
            found: c.features.len(),
        });
    }
    Ok(n)
}

fn entropy(row: &[f64]) -> f64 {
    -row.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>()
}

fn margin(row: &[f64]) -> f64 {
    let (first, second) = row.iter().fold((f64::NEG_INFINITY, f64::NEG_INFINITY), |(a, b), &p| if p > a { (p, a) } else { (a, b.max(p)) });
    first - second
}

/// Positions of the least values; of equals, the first.
fn first(values: Vec<f64>, wanted: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]).then(a.cmp(&b)));
    order.truncate(wanted);
    order
}

/// Greedy k-centre among `pool` by cosine distance: each next one is furthest from what is labelled or chosen.
fn k_centres(c: &Candidates<'_>, pool: &[usize], wanted: usize) -> Vec<usize> {
    let unit = normalised(c.features, c.columns);
    let labelled = normalised(c.labelled, c.columns);
    let row = |i: usize| &unit[i * c.columns..(i + 1) * c.columns];
    let nearness = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(x, y)| x * y).sum() };
    // The largest product with anything labelled or chosen; the least of them is furthest.
    let mut nearest: Vec<f32> =
        pool.par_iter().map(|&i| labelled.chunks_exact(c.columns).map(|l| nearness(row(i), l)).fold(f32::NEG_INFINITY, f32::max)).collect();
    let mut chosen = Vec::with_capacity(wanted);
    while chosen.len() < wanted.min(pool.len()) {
        let Some(at) = (0..pool.len()).reduce(|best, i| if nearest[i] < nearest[best] { i } else { best }) else { break };
        chosen.push(pool[at]);
        let centre = row(pool[at]);
        nearest.par_iter_mut().zip(pool).for_each(|(near, &i)| *near = near.max(nearness(row(i), centre)));
        nearest[at] = f32::INFINITY;
    }
    chosen
}
