//! The inverse power law of learning curves: `accuracy(n) = ceiling - scale · n^-decay`.
//!
//! Fitted by weighted least squares as Figueroa et al. 2012 (*Predicting sample size required for classification performance*) do, with
//! `0 ≤ ceiling ≤ 1`, `scale ≥ 0` and `decay > 0`. For a fixed decay the rest is a linear problem in two unknowns with bounds, solved exactly;
//! the decay is searched on a grid and then by golden section.

use serde::{Deserialize, Serialize};

/// Decays that are tried.
const DECAYS: (f64, f64) = (0.05, 3.0);

/// A measured point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitPoint {
    /// Samples fitted to.
    pub n: f64,
    /// Accuracy, in `0..=1`.
    pub accuracy: f64,
    /// How much the point counts, above 0. Figueroa: the j-th smallest of m sizes counts j/m, for large samples say more about larger ones.
    pub weight: f64,
}

/// A fitted curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PowerLaw {
    /// The accuracy that more samples approach.
    pub ceiling: f64,
    /// What the first sample lacks.
    pub scale: f64,
    /// How fast that shrinks.
    pub decay: f64,
    /// Weighted root mean squared residual.
    pub residual: f64,
    /// Share of the weighted variance that the curve explains; NaN where there is none.
    pub r_squared: f64,
}

impl PowerLaw {
    /// Fits three points or more of different sizes; none for fewer.
    pub fn fit(points: &[FitPoint]) -> Option<Self> {
        let mut sizes: Vec<f64> = points.iter().map(|p| p.n).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        if sizes.len() < 3 || points.iter().any(|p| !(p.n > 0.0 && p.weight > 0.0 && p.accuracy.is_finite())) {
            return None;
        }
        let (low, high) = (DECAYS.0.ln(), DECAYS.1.ln());
        let steps = 60;
        let grid = |i: usize| low + (high - low) * i as f64 / steps as f64;
        let error = |log_decay: f64| solve(points, log_decay.exp()).2;
        let best = (0..=steps).min_by(|&a, &b| error(grid(a)).total_cmp(&error(grid(b))))?;
        let decay = golden(grid(best.saturating_sub(1)), grid((best + 1).min(steps)), error).exp();
        let (ceiling, scale, error) = solve(points, decay);
        let total: f64 = points.iter().map(|p| p.weight).sum();
        let mean = points.iter().map(|p| p.weight * p.accuracy).sum::<f64>() / total;
        let spread: f64 = points.iter().map(|p| p.weight * (p.accuracy - mean).powi(2)).sum();
        let r_squared = if spread > 0.0 { 1.0 - error / spread } else { f64::NAN };
        Some(Self { ceiling, scale, decay, residual: (error / total).sqrt(), r_squared })
    }

    /// The accuracy expected of `n` samples.
    pub fn accuracy(&self, n: f64) -> f64 {
        self.ceiling - self.scale * n.powf(-self.decay)
    }

    /// The samples for an accuracy; none where the ceiling does not exceed it.
    pub fn samples_for(&self, accuracy: f64) -> Option<f64> {
        let gap = self.ceiling - accuracy;
        (gap > 0.0).then(|| (self.scale / gap).powf(1.0 / self.decay).max(1.0))
    }
}

/// Ceiling, scale and weighted squared error for a decay: a line `ceiling - scale · x` through the points `x = n^-decay`, within the bounds.
fn solve(points: &[FitPoint], decay: f64) -> (f64, f64, f64) {
    let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for p in points {
        let x = p.n.powf(-decay);
        w += p.weight;
        wx += p.weight * x;
        wy += p.weight * p.accuracy;
        wxx += p.weight * x * x;
        wxy += p.weight * x * p.accuracy;
    }
    let error = |ceiling: f64, scale: f64| -> f64 {
        points.iter().map(|p| p.weight * (ceiling - scale * p.n.powf(-decay) - p.accuracy).powi(2)).sum()
    };
    let determinant = w * wxx - wx * wx;
    let slope = if determinant > 1e-14 * w * wxx { (wx * wy - w * wxy) / determinant } else { 0.0 };
    let free = (slope, (wy + slope * wx) / w);
    if free.0 >= 0.0 && (0.0..=1.0).contains(&free.1) {
        return (free.1, free.0, error(free.1, free.0));
    }
    // The best within the bounds lies on one of them.
    let flat = ((wy / w).clamp(0.0, 1.0), 0.0);
    let steep = (1.0, ((wx - wxy) / wxx).max(0.0));
    let (a, b) = (error(flat.0, flat.1), error(steep.0, steep.1));
    if a <= b { (flat.0, flat.1, a) } else { (steep.0, steep.1, b) }
}

/// Where a function of one valley is least.
fn golden(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    let ratio = (5.0f64.sqrt() - 1.0) / 2.0;
    for _ in 0..40 {
        let (a, b) = (high - ratio * (high - low), low + ratio * (high - low));
        if f(a) <= f(b) { high = b } else { low = a }
    }
    f64::midpoint(low, high)
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
        n: Vec<f64>,
        accuracy: Vec<f64>,
        weight: Vec<f64>,
        ceiling: f64,
        scale: f64,
        decay: f64,
        error: f64,
    }

    #[test]
    fn fits_are_as_good_as_scipys() {
        // Made by tests/golden/power_law.py.
        let golden: Golden = serde_json::from_str(include_str!("../../tests/golden/power_law.json")).unwrap();
        for case in golden.cases {
            let points: Vec<FitPoint> =
                (0..case.n.len()).map(|i| FitPoint { n: case.n[i], accuracy: case.accuracy[i], weight: case.weight[i] }).collect();
            let found = PowerLaw::fit(&points).unwrap();
            let error: f64 = points.iter().map(|p| p.weight * (found.accuracy(p.n) - p.accuracy).powi(2)).sum();
            assert!(error <= case.error * (1.0 + 1e-6) + 1e-15, "{error} {}", case.error);
            if case.error > 1e-6 {
                let theirs = PowerLaw { ceiling: case.ceiling, scale: case.scale, decay: case.decay, residual: 0.0, r_squared: 0.0 };
                for n in [100.0, 1000.0] {
                    assert!((found.accuracy(n) - theirs.accuracy(n)).abs() < 1e-3, "{found:?} {theirs:?}");
                }
            }
        }
    }

    #[test]
    fn a_curve_is_inverted() {
        let law = PowerLaw { ceiling: 0.98, scale: 2.0, decay: 0.5, residual: 0.0, r_squared: 1.0 };
        assert!((law.accuracy(law.samples_for(0.9).unwrap()) - 0.9).abs() < 1e-12);
        assert_eq!(law.samples_for(0.98), None);
    }

    #[test]
    fn what_does_not_rise_has_no_slope() {
        let points = [100.0, 200.0, 400.0, 800.0].map(|n| FitPoint { n, accuracy: 0.9 - n * 1e-5, weight: 1.0 });
        let found = PowerLaw::fit(&points).unwrap();
        assert_eq!(found.scale, 0.0);
        assert!(PowerLaw::fit(&points[..2]).is_none());
    }
}
