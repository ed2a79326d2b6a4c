//! L2-regularised multinomial logistic regression, solved to convergence.
//!
//! The objective is scikit-learn's: `C · Σᵢ wᵢ · crossentropy(yᵢ, softmax(W xᵢ + b)) + ½ ‖W‖²`, the bias unpenalised; two classes use one
//! logit. It is minimised by L-BFGS (Nocedal and Wright, *Numerical Optimization*, algorithm 7.4) with a backtracking line search. Sums run
//! over fixed blocks of rows in a fixed order, so that the result does not depend on the number of threads.

use rayon::prelude::*;

use crate::LearnError;

/// Rows of one block: the unit of parallel work.
const BLOCK: usize = 256;
/// Pairs of steps and gradient changes that L-BFGS remembers.
const HISTORY: usize = 12;

/// A matrix of features `[rows, columns]`, row-major.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// Values, `rows * columns` of them.
    pub data: &'a [f32],
    /// Length of a row.
    pub columns: usize,
}

impl Matrix<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.data.len().checked_div(self.columns).unwrap_or(0)
    }
}

/// Settings of [`fit`].
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticOptions {
    /// Inverse regularisation strength `C`, above 0.
    pub c: f64,
    /// Stop once no entry of the mean-loss gradient exceeds this.
    pub tolerance: f64,
    /// Give up after this many steps.
    pub max_iterations: usize,
}

impl Default for LogisticOptions {
    fn default() -> Self {
        Self { c: 1.0, tolerance: 1e-5, max_iterations: 2000 }
    }
}

/// A fitted model.
#[derive(Debug, Clone, PartialEq)]
pub struct Logistic {
    /// Classes told apart.
    pub classes: usize,
    /// Features read.
    pub columns: usize,
    /// `[logits, columns]`, row-major; one logit for two classes.
    pub weights: Vec<f64>,
    /// `[logits]`.
    pub bias: Vec<f64>,
    /// Steps taken.
    pub iterations: usize,
    /// Whether the tolerance was reached.
    pub converged: bool,
}

impl Logistic {
    /// The equivalent linear layer: weight `[classes, columns]` and bias `[classes]`. Two classes share one logit, half each.
    pub fn linear(&self) -> (Vec<f64>, Vec<f64>) {
        if self.classes != 2 {
            return (self.weights.clone(), self.bias.clone());
        }
        let half = |values: &[f64]| -> Vec<f64> { values.iter().map(|v| -v / 2.0).chain(values.iter().map(|v| v / 2.0)).collect() };
        (half(&self.weights), half(&self.bias))
    }

    /// Class probabilities `[rows, classes]`.
    pub fn probabilities(&self, x: Matrix<'_>) -> Vec<f64> {
        let mut out = vec![0.0; x.rows() * self.classes];
        out.par_chunks_mut(self.classes).zip(x.data.par_chunks(self.columns)).for_each(|(row, features)| {
            let rows = self.weights.chunks_exact(self.columns);
            let z: Vec<f64> = self.bias.iter().zip(rows).map(|(bias, weights)| bias + dot(weights, features)).collect();
            row.copy_from_slice(&class_probabilities(&z, self.classes));
        });
        out
    }
}

/// Fits to `targets`, class distributions `[rows, classes]`, with one weight a row.
///
/// `start` gives first values (a fit with another strength); the solution does not depend on it beyond the tolerance.
///
/// # Errors
/// Sizes that disagree, a strength that is not positive, fewer than two classes, or features that are not finite.
pub fn fit(
    x: Matrix<'_>,
    targets: &[f32],
    classes: usize,
    row_weights: Option<&[f32]>,
    options: &LogisticOptions,
    start: Option<&Logistic>,
) -> Result<Logistic, LearnError> {
    let rows = x.rows();
    let problem = |text: String| Err(LearnError::Probe(text));
    if classes < 2 {
        return problem(format!("a classifier needs at least 2 classes, got {classes}"));
    }
    if rows == 0 || targets.len() != rows * classes || row_weights.is_some_and(|w| w.len() != rows) {
        return problem(format!("{rows} rows of features, {} targets for {classes} classes", targets.len()));
    }
    if !(options.c > 0.0 && options.c.is_finite()) {
        return problem(format!("the strength C must be above 0, got {}", options.c));
    }
    if let Some(position) = x.data.iter().position(|v| !v.is_finite()) {
        return problem(format!("feature {} of row {} is not finite", position % x.columns, position / x.columns));
    }
    let logits = if classes == 2 { 1 } else { classes };
    let total: f64 = row_weights.map_or(rows as f64, |w| w.iter().map(|&v| f64::from(v)).sum());
    let objective = Objective { x, targets, classes, logits, row_weights, total, penalty: 1.0 / (options.c * total) };
    let size = logits * (x.columns + 1);
    let first = match start {
        Some(s) if s.weights.len() == logits * x.columns && s.bias.len() == logits => [s.weights.as_slice(), &s.bias].concat(),
        _ => vec![0.0; size],
    };
    let (solution, iterations, converged) = minimise(&objective, first, options);
    let (weights, bias) = solution.split_at(logits * x.columns);
    Ok(Logistic { classes, columns: x.columns, weights: weights.to_vec(), bias: bias.to_vec(), iterations, converged })
}

struct Objective<'a> {
    x: Matrix<'a>,
    targets: &'a [f32],
    classes: usize,
    logits: usize,
    row_weights: Option<&'a [f32]>,
    total: f64,
    penalty: f64,
}

impl Objective<'_> {
    /// Mean loss plus penalty, and its gradient; parameters are the weights, then the biases.
    fn evaluate(&self, parameters: &[f64], gradient: &mut [f64]) -> f64 {
        let (columns, logits) = (self.x.columns, self.logits);
        let (weights, bias) = parameters.split_at(logits * columns);
        let blocks: Vec<(f64, Vec<f64>, Vec<f64>)> = self
            .x
            .data
            .par_chunks(BLOCK * columns)
            .enumerate()
            .map(|(index, block)| self.block(index * BLOCK, block, weights, bias))
            .collect();
        gradient.fill(0.0);
        let mut loss = 0.0;
        let (gradient_w, gradient_b) = gradient.split_at_mut(logits * columns);
        for (block_loss, block_w, block_b) in &blocks {
            loss += block_loss;
            gradient_w.iter_mut().zip(block_w).for_each(|(g, &b)| *g += b);
            gradient_b.iter_mut().zip(block_b).for_each(|(g, &b)| *g += b);
        }
        gradient.iter_mut().for_each(|g| *g /= self.total);
        let mut squares = 0.0;
        for (g, &w) in gradient.iter_mut().zip(weights) {
            *g += self.penalty * w;
            squares += w * w;
        }
        loss / self.total + 0.5 * self.penalty * squares
    }

    /// Loss and gradient sums of the rows from `first`.
    fn block(&self, first: usize, features: &[f32], weights: &[f64], bias: &[f64]) -> (f64, Vec<f64>, Vec<f64>) {
        let (columns, logits) = (self.x.columns, self.logits);
        let mut loss = 0.0;
        let mut gradient_w = vec![0.0; logits * columns];
        let mut gradient_b = vec![0.0; logits];
        let mut z = vec![0.0; logits];
        for (offset, row) in features.chunks_exact(columns).enumerate() {
            let index = first + offset;
            for ((z, bias), weights) in z.iter_mut().zip(bias).zip(weights.chunks_exact(columns)) {
                *z = bias + dot(weights, row);
            }
            let target = &self.targets[index * self.classes..(index + 1) * self.classes];
            let weight = self.row_weights.map_or(1.0, |w| f64::from(w[index]));
            let p = class_probabilities(&z, self.classes);
            loss += weight * cross_entropy(&z, target);
            let mass: f64 = target.iter().map(|&t| f64::from(t)).sum();
            for k in 0..logits {
                let class = if logits == 1 { 1 } else { k };
                let error = weight * (mass * p[class] - f64::from(target[class]));
                gradient_b[k] += error;
                gradient_w[k * columns..(k + 1) * columns].iter_mut().zip(row).for_each(|(g, &v)| *g += error * f64::from(v));
            }
        }
        (loss, gradient_w, gradient_b)
    }
}

/// Probabilities from logits; one logit stands for `[0, z]`.
fn class_probabilities(z: &[f64], classes: usize) -> Vec<f64> {
    let full: Vec<f64> = if z.len() == 1 && classes == 2 { vec![0.0, z[0]] } else { z.to_vec() };
    let max = full.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = full.iter().map(|v| (v - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|v| v / sum).collect()
}

/// `-Σ t log softmax(z)`, stable for large logits.
fn cross_entropy(z: &[f64], target: &[f32]) -> f64 {
    let one = [0.0, z[0]];
    let z = if z.len() == 1 { &one[..] } else { z };
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = max + z.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
    target.iter().zip(z).map(|(&t, &v)| f64::from(t) * (log_sum - v)).sum()
}

/// Dot product in eight lanes.
fn dot(a: &[f64], b: &[f32]) -> f64 {
    let mut lanes = [0.0; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = left.remainder().iter().zip(right.remainder()).map(|(x, &y)| x * f64::from(y)).sum();
    for (x, y) in left.zip(right) {
        for i in 0..8 {
            lanes[i] += x[i] * f64::from(y[i]);
        }
    }
    lanes.iter().sum::<f64>() + tail
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// L-BFGS; returns the solution, the steps taken and whether the tolerance was reached.
fn minimise(objective: &Objective<'_>, mut x: Vec<f64>, options: &LogisticOptions) -> (Vec<f64>, usize, bool) {
    let mut gradient = vec![0.0; x.len()];
    let mut value = objective.evaluate(&x, &mut gradient);
    let mut history: Vec<(Vec<f64>, Vec<f64>, f64)> = Vec::with_capacity(HISTORY);
    let largest = |g: &[f64]| g.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for iteration in 0..options.max_iterations {
        if largest(&gradient) <= options.tolerance {
            return (x, iteration, true);
        }
        let direction = quasi_newton(&gradient, &history);
        let slope = inner(&direction, &gradient);
        let mut step = if history.is_empty() { (1.0 / inner(&gradient, &gradient).sqrt()).min(1.0) } else { 1.0 };
        let mut next_gradient = vec![0.0; x.len()];
        let (next, next_value) = loop {
            let next: Vec<f64> = x.iter().zip(&direction).map(|(v, d)| v + step * d).collect();
            let next_value = objective.evaluate(&next, &mut next_gradient);
            if next_value <= value + 1e-4 * step * slope {
                break (next, next_value);
            }
            step *= 0.5;
            if step < 1e-10 {
                // Rounding hides any further descent.
                return (x, iteration, largest(&gradient) <= 100.0 * options.tolerance);
            }
        };
        let s: Vec<f64> = next.iter().zip(&x).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = inner(&s, &y);
        if curvature > 1e-12 * inner(&y, &y) {
            if history.len() == HISTORY {
                history.remove(0);
            }
            history.push((s, y, 1.0 / curvature));
        }
        (x, value, gradient) = (next, next_value, next_gradient);
    }
    (x, options.max_iterations, false)
}

/// The descent direction `-H g` by the two-loop recursion.
fn quasi_newton(gradient: &[f64], history: &[(Vec<f64>, Vec<f64>, f64)]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(history.len());
    for (s, y, rho) in history.iter().rev() {
        let alpha = rho * inner(s, &q);
        q.iter_mut().zip(y).for_each(|(v, y)| *v -= alpha * y);
        alphas.push(alpha);
    }
    if let Some((s, y, _)) = history.last() {
        let scale = inner(s, y) / inner(y, y);
        q.iter_mut().for_each(|v| *v *= scale);
    }
    for ((s, y, rho), alpha) in history.iter().zip(alphas.into_iter().rev()) {
        let beta = rho * inner(y, &q);
        q.iter_mut().zip(s).for_each(|(v, s)| *v += (alpha - beta) * s);
    }
    q
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        classes: usize,
        c: f64,
        x: Vec<f32>,
        y: Vec<usize>,
        weights: Vec<f32>,
        coefficients: Vec<f64>,
        intercepts: Vec<f64>,
        probabilities: Vec<f64>,
    }

    fn one_hot(labels: &[usize], classes: usize) -> Vec<f32> {
        labels.iter().flat_map(|&y| (0..classes).map(move |k| f32::from(u8::from(k == y)))).collect()
    }

    #[test]
    fn agrees_with_scikit_learn() {
        // Made by tests/golden/logistic.py.
        let golden: Golden = serde_json::from_str(include_str!("../tests/golden/logistic.json")).unwrap();
        for case in golden.cases {
            let x = Matrix { data: &case.x, columns: 5 };
            let options = LogisticOptions { c: case.c, tolerance: 1e-9, ..LogisticOptions::default() };
            let model = fit(x, &one_hot(&case.y, case.classes), case.classes, Some(&case.weights), &options, None).unwrap();
            let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(close(&model.weights, &case.coefficients), "{:?} {:?}", model.weights, case.coefficients);
            // Softmax leaves a common shift of all biases open; scikit-learn starts from zero, as we do, and keeps their sum.
            assert!(close(&model.bias, &case.intercepts), "{:?} {:?}", model.bias, case.intercepts);
            let first = Matrix { data: &case.x[..50], columns: 5 };
            assert!(close(&model.probabilities(first), &case.probabilities));
        }
    }

    #[test]
    fn the_linear_layer_gives_the_same_probabilities() {
        let x: Vec<f32> = (0..60).map(|i| ((i * 37 % 19) as f32 - 9.0) / 5.0).collect();
        let labels: Vec<usize> = (0..20).map(|i| usize::from(x[3 * i] > 0.0)).collect();
        let matrix = Matrix { data: &x, columns: 3 };
        let model = fit(matrix, &one_hot(&labels, 2), 2, None, &LogisticOptions::default(), None).unwrap();
        let (weight, bias) = model.linear();
        for (row, p) in x.chunks_exact(3).zip(model.probabilities(matrix).chunks_exact(2)) {
            let z: Vec<f64> = (0..2).map(|k| bias[k] + (0..3).map(|j| weight[3 * k + j] * f64::from(row[j])).sum::<f64>()).collect();
            let expected = 1.0 / (1.0 + (z[0] - z[1]).exp());
            assert!((p[1] - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn what_cannot_be_fitted_is_said() {
        let x = Matrix { data: &[0.0, f32::NAN], columns: 1 };
        let error = fit(x, &[1.0, 0.0, 0.0, 1.0], 2, None, &LogisticOptions::default(), None).unwrap_err().to_string();
        assert!(error.contains("feature 0 of row 1"), "{error}");
        let error = fit(Matrix { data: &[0.0], columns: 1 }, &[1.0], 1, None, &LogisticOptions::default(), None).unwrap_err().to_string();
        assert!(error.contains("at least 2 classes"), "{error}");
    }
}
