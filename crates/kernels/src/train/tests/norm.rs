//! Batch norm and layer norm.

use proptest::prelude::*;

use super::{assert_slopes, assert_within, dot};
use crate::Clamp;
use crate::dispatch::Isa;
use crate::tests::values;
use crate::train::norm::moments_on;
use crate::train::{BatchNorm, layer_norm_gradient};

const EPS: f64 = 1e-3;

/// `Σ dy clamp(norm(x) + residual)` by the batch's own statistics.
fn naive(x: &[f32], c: usize, [gamma, beta]: [&[f32]; 2], residual: Option<&[f32]>, clamp: Option<Clamp>) -> Vec<f64> {
    let rows = (x.len() / c) as f64;
    let column = |i: usize| x.iter().skip(i).step_by(c).map(|&v| f64::from(v));
    let moments: Vec<(f64, f64)> = (0..c)
        .map(|i| {
            let mean = column(i).sum::<f64>() / rows;
            (mean, column(i).map(|v| (v - mean).powi(2)).sum::<f64>() / rows)
        })
        .collect();
    let value = |(i, &x): (usize, &f32)| {
        let (mean, variance) = moments[i % c];
        let y = (f64::from(x) - mean) / (variance + EPS).sqrt() * f64::from(gamma[i % c]) + f64::from(beta[i % c]);
        let y = y + residual.map_or(0.0, |r| f64::from(r[i]));
        clamp.map_or(y, |c| y.clamp(c.low.into(), c.high.into()))
    };
    x.iter().enumerate().map(value).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn batch_norms_match_naive_ones_and_their_slopes(rows in 2..12usize, c in 1..70usize, kind in 0..3usize, add: bool, mean in -3.0f32..3.0) {
        let clamp = [None, Some(Clamp::RELU), Some(Clamp { low: -0.5, high: 0.7 })][kind];
        let x: Vec<f32> = values(rows * c, 1).iter().map(|v| v + mean).collect();
        let (dy, gamma, beta, r) = (values(rows * c, 2), values(c, 3), values(c, 4), values(rows * c, 5));
        let residual = add.then_some(&r[..]);
        let want = naive(&x, c, [&gamma, &beta], residual, clamp);
        for isa in Isa::available() {
            let (mut mean, mut variance) = (vec![f32::NAN; c], vec![f32::NAN; c]);
            moments_on(isa, &mut mean, &mut variance, &x);
            let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + EPS as f32).sqrt()).collect();
            let norm = BatchNorm { mean: &mean, inverse: &inverse, gamma: &gamma, beta: &beta, clamp, by_batch: true };
            let mut y = vec![f32::NAN; x.len()];
            norm.forward_on(isa, &mut y, &x, residual);
            assert_within(1e-4, &y, &want, isa.name());
            let [mut dx, mut dgamma, mut dbeta] = [x.len(), c, c].map(|len| vec![f32::NAN; len]);
            let mut masked = dy.clone();
            if add {
                norm.backward_added_on(isa, [&mut dx, &mut masked], [&mut dgamma, &mut dbeta], &x, &y);
                for (i, (&m, &g)) in masked.iter().zip(&dy).enumerate() {
                    let inside = clamp.is_none_or(|c| y[i] > c.low && y[i] < c.high);
                    prop_assert_eq!(m, if inside { g } else { 0.0 });
                }
            } else {
                norm.backward_on(isa, &mut dx, [&mut dgamma, &mut dbeta], &x, &dy);
                let [mut other, mut dgamma2, mut dbeta2] = [dy.clone(), dgamma.clone(), dbeta.clone()];
                if isa == Isa::best() {
                    norm.backward_in_place(&mut other, &mut dgamma2, &mut dbeta2, &x);
                    prop_assert!(other == dx && dgamma == dgamma2 && dbeta == dbeta2);
                }
            }
            // Slopes are wanted where no value lies so near a bound that a step crosses it.
            let far = |y: &f64| clamp.is_none_or(|c| (y - f64::from(c.low)).abs() > 2e-2 && (y - f64::from(c.high)).abs() > 2e-2);
            if rows > 4 && naive(&x, c, [&gamma, &beta], residual, None).iter().all(far) {
                let value = |x: &[f32], gamma: &[f32], beta: &[f32]| {
                    naive(x, c, [gamma, beta], residual, clamp).iter().zip(&dy).map(|(&y, &d)| y * f64::from(d)).sum::<f64>()
                };
                assert_slopes(&x, &dx, 1e-3, 2e-3, "x", |x| value(x, &gamma, &beta));
                assert_slopes(&gamma, &dgamma, 1e-3, 2e-3, "gamma", |gamma| value(&x, gamma, &beta));
                assert_slopes(&beta, &dbeta, 1e-3, 2e-3, "beta", |beta| value(&x, &gamma, beta));
            }
        }
    }

    #[test]
    fn gradients_of_layer_norms_are_slopes(rows in 1..6usize, c in 2..40usize) {
        let (x, dy, weight, bias) = (values(rows * c, 1), values(rows * c, 2), values(c, 3), values(c, 4));
        let [mut dx, mut dweight, mut dbias] = [x.len(), c, c].map(|len| vec![f32::NAN; len]);
        layer_norm_gradient(&mut dx, &mut dweight, &mut dbias, &x, &dy, &weight, 1e-3);
        let value = |x: &[f32], weight: &[f32], bias: &[f32]| {
            let mut sum = 0.0;
            for (x, dy) in x.chunks(c).zip(dy.chunks(c)) {
                let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / c as f64;
                let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / c as f64;
                for i in 0..c {
                    let normal = (f64::from(x[i]) - mean) / (variance + EPS).sqrt();
                    sum += f64::from(dy[i]) * (normal * f64::from(weight[i]) + f64::from(bias[i]));
                }
            }
            sum
        };
        assert_slopes(&x, &dx, 1e-3, 2e-3, "x", |x| value(x, &weight, &bias));
        assert_slopes(&weight, &dweight, 1e-3, 2e-3, "weight", |weight| value(&x, weight, &bias));
        assert_slopes(&bias, &dbias, 1e-3, 2e-3, "bias", |bias| value(&x, &weight, bias));
    }
}

/// Blocks of rows: the statistics of a large map far from zero.
#[test]
fn moments_of_large_maps_are_exact_far_from_zero() {
    let (rows, c) = (20_000, 24);
    let x: Vec<f32> = values(rows * c, 1).iter().enumerate().map(|(i, v)| v + 1000.0 * (i % c) as f32).collect();
    let (mut mean, mut variance) = (vec![0.0; c], vec![0.0; c]);
    crate::train::moments(&mut mean, &mut variance, &x);
    for i in 0..c {
        let column: Vec<f64> = x.iter().skip(i).step_by(c).map(|&v| f64::from(v)).collect();
        let want = column.iter().sum::<f64>() / rows as f64;
        let spread = column.iter().map(|v| (v - want).powi(2)).sum::<f64>() / rows as f64;
        assert!((f64::from(mean[i]) - want).abs() < 1e-3 + 1e-7 * want, "{} for {want}", mean[i]);
        assert!((f64::from(variance[i]) / spread - 1.0).abs() < 1e-4, "{} for {spread}", variance[i]);
    }
    assert!(dot(&mean, &mean) > 0.0);
}
