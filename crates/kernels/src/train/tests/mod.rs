//! Every kernel against a naive twin in f64, on every instruction set of the machine, and gradients against central differences.
#![allow(clippy::unwrap_used)]

mod convolution;
mod elementwise;
mod halves;
mod norm;

/// Whether all values lie within `bound` of the largest wanted one.
fn assert_within(bound: f64, got: &[f32], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(g) - w).abs() <= bound * scale, "{what}: value {i}: {g} for {w} (largest {scale})");
    }
}

/// Holds `gradient` against the central differences of `f`, a sum in f64, at `x`.
fn assert_slopes(x: &[f32], gradient: &[f32], step: f32, bound: f64, what: &str, f: impl Fn(&[f32]) -> f64) {
    let mut at = x.to_vec();
    let slopes: Vec<f64> = (0..x.len())
        .map(|i| {
            let mut shifted = |by: f32| {
                at[i] = x[i] + by;
                let value = (f(&at), f64::from(at[i]));
                at[i] = x[i];
                value
            };
            let (above, below) = (shifted(step), shifted(-step));
            (above.0 - below.0) / (above.1 - below.1)
        })
        .collect();
    assert_within(bound, gradient, &slopes, what);
}

/// `Σ a b`.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}
