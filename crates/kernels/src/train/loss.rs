//! Softmax cross-entropy, loss and gradient at once.

/// Weighted mean cross-entropy in nats of logits `[N, K]` against coefficients `[N, K]` (a target's probabilities times the weights of its
/// sample and classes), divided by `divisor`; writes the gradient by the logits. Sums are in f64.
///
/// # Panics
/// Where sizes disagree.
pub fn cross_entropy(gradient: &mut [f32], logits: &[f32], coefficients: &[f32], classes: usize, divisor: f64) -> f64 {
    assert!(classes > 0 && logits.len().is_multiple_of(classes), "whole rows of {classes} logits");
    assert!(gradient.len() == logits.len() && coefficients.len() == logits.len(), "gradient and coefficients");
    let mut loss = 0.0;
    let rows = logits.chunks_exact(classes).zip(coefficients.chunks_exact(classes));
    for (gradient, (row, coefficients)) in gradient.chunks_exact_mut(classes).zip(rows) {
        let top = row.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
        let log = top + row.iter().map(|&x| (f64::from(x) - top).exp()).sum::<f64>().ln();
        let mass: f64 = coefficients.iter().map(|&c| f64::from(c)).sum();
        for ((gradient, &x), &c) in gradient.iter_mut().zip(row).zip(coefficients) {
            let (log_p, c) = (f64::from(x) - log, f64::from(c));
            loss -= if c == 0.0 { 0.0 } else { c * log_p };
            *gradient = ((mass * log_p.exp() - c) / divisor) as f32;
        }
    }
    loss / divisor
}
