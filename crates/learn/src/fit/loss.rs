//! Soft-target cross-entropy with label smoothing, class weights and sample weights.

/// Targets of a batch, ready for [`cross_entropy`].
#[derive(Debug, Clone)]
pub struct Targets {
    /// `[N, K]`: target mass × class weight × sample weight.
    coefficients: Vec<f32>,
    /// What the loss is divided by: the sum of the weights before smoothing.
    divisor: f64,
    classes: usize,
}

impl Targets {
    /// Weighs the distributions `[N, K]` (rows sum to 1) by sample and class and smooths them: with label smoothing `s` a target `t`
    /// becomes `(1 - s) t + s / K`.
    pub fn new(distributions: &[f32], sample_weights: &[f32], class_weights: &[f32], smoothing: f32) -> Self {
        let classes = class_weights.len().max(1);
        let mut coefficients = Vec::with_capacity(distributions.len());
        let mut divisor = 0.0;
        for (row, &weight) in distributions.chunks_exact(classes).zip(sample_weights) {
            for (&t, &class) in row.iter().zip(class_weights) {
                divisor += f64::from(t * weight * class);
                coefficients.push(((1.0 - smoothing) * t + smoothing / classes as f32) * weight * class);
            }
        }
        Self { coefficients, divisor: if divisor > 0.0 { divisor } else { 1.0 }, classes }
    }

    /// What the loss is divided by; batches are averaged in proportion to it.
    pub fn divisor(&self) -> f64 {
        self.divisor
    }
}

/// Weighted mean cross-entropy of logits `[N, K]` in nats and its gradient by them.
pub fn cross_entropy(logits: &[f32], targets: &Targets) -> (f64, Vec<f32>) {
    let k = targets.classes;
    let mut gradient = Vec::with_capacity(logits.len());
    let mut loss = 0.0;
    let mut log_p = vec![0.0f64; k];
    for (row, coefficients) in logits.chunks_exact(k).zip(targets.coefficients.chunks_exact(k)) {
        log_softmax(row, &mut log_p);
        let mass: f64 = coefficients.iter().map(|&c| f64::from(c)).sum();
        for (&l, &c) in log_p.iter().zip(coefficients) {
            let c = f64::from(c);
            loss -= if c == 0.0 { 0.0 } else { c * l };
            gradient.push(((mass * l.exp() - c) / targets.divisor) as f32);
        }
    }
    (loss / targets.divisor, gradient)
}

/// Log-probabilities of one row of logits.
pub fn log_softmax(row: &[f32], out: &mut [f64]) {
    let max = row.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
    let sum: f64 = row.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    let log = max + sum.ln();
    out.iter_mut().zip(row).for_each(|(o, &x)| *o = f64::from(x) - log);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch 2.x: F.cross_entropy(logits, targets, weight=w, label_smoothing=.1) (see tests/golden/training.py).
    #[test]
    fn one_hot_unweighted_is_the_mean_negative_log_probability() {
        let logits = [1.0, 2.0, 3.0, 0.5, 0.0, -1.0];
        let t = Targets::new(&[0.0, 0.0, 1.0, 1.0, 0.0, 0.0], &[1.0, 1.0], &[1.0; 3], 0.0);
        let (loss, _) = cross_entropy(&logits, &t);
        assert!((loss - (0.407_605_96 + 0.604_131_53) / 2.0).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let logits = [0.3f32, -1.2, 0.7, 2.0, 0.1, -0.4];
        let t = Targets::new(&[0.2, 0.5, 0.3, 0.0, 1.0, 0.0], &[1.0, 2.5], &[0.5, 2.0, 1.0], 0.1);
        let (_, gradient) = cross_entropy(&logits, &t);
        for i in 0..logits.len() {
            let shifted = |d: f32| {
                let mut l = logits;
                l[i] += d;
                cross_entropy(&l, &t).0
            };
            let slope = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient[i])).abs() < 1e-4, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn a_wild_logit_stays_finite() {
        let t = Targets::new(&[1.0, 0.0], &[1.0], &[1.0; 2], 0.0);
        let (loss, gradient) = cross_entropy(&[-1e4, 1e4], &t);
        assert!((loss - 2e4).abs() < 1.0 && gradient.iter().all(|g| g.is_finite()));
    }
}
