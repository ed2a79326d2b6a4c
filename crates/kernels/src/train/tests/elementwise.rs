//! Activations, softmax, attention, pools, gates, losses and update rules.

use proptest::prelude::*;

use super::{assert_slopes, assert_within, dot};
use crate::tests::{shapes, values};
use crate::train::*;
use crate::{Clamp, Function};

const FUNCTIONS: [Function; 8] = [
    Function::Relu,
    Function::Relu6,
    Function::Gelu,
    Function::Silu,
    Function::HardSwish,
    Function::HardSigmoid,
    Function::Sigmoid,
    Function::Tanh,
];

#[test]
fn gradients_of_functions_are_slopes() {
    // Between the corners of all functions.
    let x: Vec<f32> = (-80..80).map(|i| i as f32 * 0.1 + 0.05).collect();
    let dy = values(x.len(), 1);
    for function in FUNCTIONS {
        let mut dx = vec![f32::NAN; x.len()];
        function_gradient(&mut dx, &x, &dy, function);
        // Each value by itself: a step in f32 would drown in the others' rounding.
        for i in 0..x.len() {
            let of = |x: f32| {
                let mut y = [0.0];
                apply(&mut y, &[x], function);
                f64::from(y[0])
            };
            let slope = (of(x[i] + 0.01) - of(x[i] - 0.01)) / f64::from((x[i] + 0.01) - (x[i] - 0.01));
            assert!((slope * f64::from(dy[i]) - f64::from(dx[i])).abs() < 1e-3, "{function:?} at {}: {slope} {}", x[i], dx[i] / dy[i]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn clamps_pass_gradients_inside_their_bounds(len in 0..200usize) {
        let bounds = Clamp { low: -0.3, high: 0.4 };
        let (x, dy) = (values(len, 1), values(len, 2));
        let (mut y, mut dx, mut place) = (vec![0.0; len], vec![f32::NAN; len], dy.clone());
        clamp(&mut y, &x, bounds);
        clamp_gradient(&mut dx, &y, &dy, bounds);
        clamp_gradient_in_place(&mut place, &y, bounds);
        for i in 0..len {
            prop_assert_eq!(y[i], x[i].clamp(-0.3, 0.4));
            prop_assert_eq!(dx[i], if x[i] > -0.3 && x[i] < 0.4 { dy[i] } else { 0.0 });
        }
        prop_assert_eq!(dx, place);
    }

    #[test]
    fn gradients_of_softmax_are_slopes(rows in 1..4usize, columns in 1..40usize) {
        let (x, dy) = (values(rows * columns, 1), values(rows * columns, 2));
        let softmax = |x: &[f32]| {
            let mut y = x.to_vec();
            crate::softmax(&mut y, columns);
            y
        };
        let mut dx = vec![f32::NAN; x.len()];
        softmax_gradient(&mut dx, &softmax(&x), &dy, columns);
        assert_slopes(&x, &dx, 1e-2, 2e-3, "softmax", |x| dot(&softmax(x), &dy));
    }

    #[test]
    fn gradients_of_attention_are_slopes(batch in 1..3usize, tokens in 1..7usize, heads in 1..4usize, size in 1..9usize) {
        let width = heads * size;
        let (qkv, dy) = (values(batch * tokens * 3 * width, 1), values(batch * tokens * width, 2));
        let mut dqkv = vec![f32::NAN; qkv.len()];
        attention_gradient(&mut dqkv, &qkv, &dy, tokens, width, heads);
        assert_slopes(&qkv, &dqkv, 1e-2, 3e-3, "attention", |qkv| {
            let mut y = vec![0.0; dy.len()];
            crate::attention(&mut y, qkv, tokens, width, heads);
            dot(&y, &dy)
        });
    }

    #[test]
    fn gradients_of_pools_are_slopes(shape in shapes(), end in (0..2usize, 0..2usize), count_padding: bool) {
        let mut shape = shape;
        shape.batch = shape.batch.min(2);
        shape.channels = shape.channels.min(5);
        let input = shape.batch * shape.input[0] * shape.input[1] * shape.channels;
        let (x, dy) = (values(input, 1), values(shape.pixels() * shape.channels, 2));
        let (mut y, mut argmax, mut dx) = (vec![0.0; dy.len()], vec![0; dy.len()], vec![f32::NAN; input]);
        crate::max_pool_with_argmax(&mut y, &mut argmax, &x, &shape);
        max_pool_gradient(&mut dx, &dy, &argmax, &shape);
        let mut want = vec![0.0; input];
        let image = shape.input[0] * shape.input[1] * shape.channels;
        for (i, (&at, &g)) in argmax.iter().zip(&dy).enumerate() {
            if at != u32::MAX {
                let n = i / (shape.output[0] * shape.output[1] * shape.channels);
                want[n * image + at as usize * shape.channels + i % shape.channels] += f64::from(g);
            }
        }
        assert_within(1e-5, &dx, &want, "max pool");
        average_pool_gradient(&mut dx, &dy, &shape, end.into(), count_padding);
        // The mean is linear: its gradient is its transpose, and `Σ y(x) dy = Σ x dx` for all x.
        crate::average_pool(&mut y, &x, &shape, end.into(), count_padding);
        prop_assert!((dot(&y, &dy) - dot(&x, &dx)).abs() < 1e-3);
    }

    #[test]
    fn gates_and_global_means_go_back(n in 1..4usize, pixels in 1..30usize, c in 1..40usize) {
        let (x, gates, dy) = (values(n * pixels * c, 1), values(n * c, 2), values(n * pixels * c, 3));
        let (mut dx, mut dgates) = (vec![f32::NAN; x.len()], vec![f32::NAN; gates.len()]);
        gate_gradient(&mut dx, &mut dgates, &x, &gates, &dy, pixels, c);
        let gate = |i: usize| i / (pixels * c) * c + i % c;
        let mut want = vec![0.0; gates.len()];
        for i in 0..x.len() {
            prop_assert_eq!(dx[i], dy[i] * gates[gate(i)]);
            want[gate(i)] += f64::from(x[i]) * f64::from(dy[i]);
        }
        assert_within(1e-5, &dgates, &want, "gates");
        global_average_gradient(&mut dx, &gates, pixels, c);
        for i in 0..x.len() {
            prop_assert_eq!(dx[i], gates[gate(i)] * (1.0 / pixels as f32));
        }
        let mut sum = x.clone();
        add_into(&mut sum, &dy);
        prop_assert!((0..x.len()).all(|i| sum[i] == x[i] + dy[i]));
    }
}

#[test]
fn the_loss_has_its_slope() {
    let (logits, k) = (values(12, 1), 4);
    let coefficients: Vec<f32> = values(12, 2).iter().map(|v| v.abs()).collect();
    let mut gradient = vec![f32::NAN; 12];
    cross_entropy(&mut gradient, &logits, &coefficients, k, 2.5);
    assert_slopes(&logits, &gradient, 1e-2, 1e-3, "cross-entropy", |l| cross_entropy(&mut [0.0; 12], l, &coefficients, k, 2.5));
    let loss = cross_entropy(&mut [0.0; 2], &[0.0, 0.0], &[1.0, 0.0], 2, 1.0);
    assert!((loss - std::f64::consts::LN_2).abs() < 1e-12);
}

#[test]
fn update_rules_match_naive_ones() {
    let len = 70_000;
    let (start, g) = (values(len, 1), values(len, 2));
    let (mut w, mut m) = (start.clone(), vec![0.0; len]);
    let rule = Sgd { lr: 0.1, momentum: 0.9, nesterov: true, decay: 0.01, l1: 0.001, first: true };
    rule.step(&mut w, &g, &mut m);
    Sgd { first: false, ..rule }.step(&mut w, &g, &mut m);
    let (mut want_w, mut want_m) = (start[69_999], 0.0);
    for first in [true, false] {
        let g = g[69_999] + 0.01 * want_w + 0.001 * f32::signum(want_w);
        want_m = if first { g } else { 0.9 * want_m + g };
        want_w -= 0.1 * (g + 0.9 * want_m);
    }
    assert!((w[69_999] - want_w).abs() < 1e-6 && (m[69_999] - want_m).abs() < 1e-6);

    let (mut w, mut m, mut v) = (start.clone(), vec![0.0; len], vec![0.0; len]);
    let rule = AdamW { lr: 0.01, betas: [0.9, 0.999], eps: 1e-8, decay: 0.1, l1: 0.0, update: 1 };
    rule.step(&mut w, &g, &mut m, &mut v);
    // The first step of Adam is the learning rate times the gradient's sign.
    for i in [0, 40_000, 69_999] {
        assert!((w[i] - (start[i] * 0.999 - 0.01 * g[i].signum())).abs() < 1e-5, "{i}");
    }
    let mut mean = start.clone();
    average(&mut mean, &g, 0.25);
    assert!((mean[69_999] - (0.75 * start[69_999] + 0.25 * g[69_999])).abs() < 1e-6);
}
