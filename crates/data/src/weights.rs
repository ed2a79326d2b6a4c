//! Class weights for imbalanced data.

/// Balanced weights as scikit-learn's `class_weight="balanced"`: `n / (k · count)` with `n` samples and `k` classes that have
/// any. A class without samples has weight 0.
pub fn balanced(counts: &[usize]) -> Vec<f64> {
    let n: usize = counts.iter().sum();
    let present = counts.iter().filter(|&&c| c > 0).count();
    counts.iter().map(|&c| if c == 0 { 0.0 } else { n as f64 / (present as f64 * c as f64) }).collect()
}

/// Weights by the effective number of samples (Cui et al. 2019, equation 2): `(1 − β) / (1 − βⁿ)`, scaled so that the weights of
/// the classes that have samples average 1. `beta` in 0..=1 is clamped: 0 weighs all classes alike, 1 is the inverse of the count.
pub fn effective_number(counts: &[usize], beta: f64) -> Vec<f64> {
    let beta = if beta.is_finite() { beta.clamp(0.0, 1.0) } else { 0.0 };
    let raw: Vec<f64> = counts
        .iter()
        .map(|&c| match c {
            0 => 0.0,
            c if beta == 1.0 => 1.0 / c as f64,
            c => (1.0 - beta) / (1.0 - beta.powf(c as f64)),
        })
        .collect();
    let present = raw.iter().filter(|&&w| w > 0.0).count();
    let sum: f64 = raw.iter().sum();
    if sum > 0.0 { raw.iter().map(|w| w * present as f64 / sum).collect() } else { raw }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: &[f64], b: &[f64]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-9)
    }

    #[test]
    fn balanced_is_scikit_learns() {
        // compute_class_weight("balanced", classes=[0,1,2], y=[0]*6+[1]*3+[2]) of scikit-learn 1.5.2
        assert!(close(&balanced(&[6, 3, 1]), &[10.0 / 18.0, 10.0 / 9.0, 10.0 / 3.0]));
        assert!(close(&balanced(&[4, 0, 4]), &[1.0, 0.0, 1.0]));
        assert!(balanced(&[]).is_empty());
    }

    #[test]
    fn effective_number_lies_between_uniform_and_inverse() {
        assert!(close(&effective_number(&[100, 1], 0.0), &[1.0, 1.0]));
        assert!(close(&effective_number(&[3, 1], 1.0), &[0.5, 1.5]));
        let w = effective_number(&[100, 10], 0.99);
        let (a, b) = (0.01 / (1.0 - 0.99f64.powi(100)), 0.01 / (1.0 - 0.99f64.powi(10)));
        assert!(close(&w, &[2.0 * a / (a + b), 2.0 * b / (a + b)]));
        assert_eq!(effective_number(&[0, 5], 0.9), [0.0, 1.0]);
    }
}
