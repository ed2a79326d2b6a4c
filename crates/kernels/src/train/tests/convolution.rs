//! Convolutions and linear layers.

use proptest::prelude::*;

use super::assert_within;
use crate::dispatch::Isa;
use crate::tests::{shapes, values};
use crate::train::{Convolution, Linear, column_sums};
use crate::{ConvShape, Epilogue, Threads, Window};

/// Calls `f(position in x, position in y, position in the weight)` for every product of a convolution.
fn each_product(s: &ConvShape, outputs: usize, groups: usize, mut f: impl FnMut(usize, usize, usize)) {
    let ([h, w], [oh, ow], [kh, kw]) = (s.input, s.output, s.window.kernel);
    let (inner, each) = (s.channels / groups, outputs / groups);
    for (n, y, x) in (0..s.batch * oh * ow).map(|i| (i / ow / oh, i / ow % oh, i % ow)) {
        for (ky, kx) in (0..kh * kw).map(|t| (t / kw, t % kw)) {
            let (Some(sy), Some(sx)) = (s.window.source(0, y, ky, h), s.window.source(1, x, kx, w)) else { continue };
            for (o, i) in (0..outputs * inner).map(|j| (j / inner, j % inner)) {
                let from = ((n * h + sy) * w + sx) * s.channels + o / each * inner + i;
                f(from, ((n * oh + y) * ow + x) * outputs + o, (o * inner + i) * kh * kw + ky * kw + kx);
            }
        }
    }
}

/// Output and both gradients, naive.
fn naive(s: &ConvShape, outputs: usize, groups: usize, x: &[f32], dy: &[f32], weight: &[f32]) -> [Vec<f64>; 3] {
    let mut results = [vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; weight.len()]];
    each_product(s, outputs, groups, |from, to, at| {
        let [x, dy, weight] = [x[from], dy[to], weight[at]].map(f64::from);
        results[0][to] += x * weight;
        results[1][from] += dy * weight;
        results[2][at] += dy * x;
    });
    results
}

fn matches(shape: &ConvShape, outputs: usize, groups: usize, bound: f64) {
    for isa in Isa::available() {
        let c = Convolution::on(isa, *shape, outputs, groups);
        let (x, dy, weight, bias) = (values(c.input_len(), 1), values(c.output_len(), 2), values(c.weight_len(), 3), values(outputs, 4));
        let [mut want_y, mut want_dx, want_dw] = naive(shape, outputs, groups, &x, &dy, &weight);
        want_y.iter_mut().enumerate().for_each(|(i, y)| *y += f64::from(bias[i % outputs]));
        let what = |part: &str| format!("{} {part} of {shape:?} to {outputs} in {groups}", isa.name());
        let mut y = vec![f32::NAN; c.output_len()];
        c.forward(&mut y, &x, &weight, &Epilogue { bias: Some(&bias), ..Epilogue::default() });
        assert_within(bound, &y, &want_y, &what("forward"));
        let mut dw = vec![f32::NAN; c.weight_len()];
        c.weight_gradient(&mut dw, &dy, &x);
        assert_within(bound, &dw, &want_dw, &what("weight gradient"));
        let mut dx = vec![f32::NAN; c.input_len()];
        c.input_gradient(&mut dx, &dy, &weight, false);
        assert_within(bound, &dx, &want_dx, &what("input gradient"));
        let mut dx = x.clone();
        c.input_gradient(&mut dx, &dy, &weight, true);
        want_dx.iter_mut().zip(&x).for_each(|(w, &x)| *w += f64::from(x));
        assert_within(bound, &dx, &want_dx, &what("added input gradient"));
    }
}

/// A square window, sides made large enough.
fn square(batch: usize, input: [usize; 2], channels: usize, kernel: usize, stride: usize, padding: [usize; 2]) -> ConvShape {
    let input = input.map(|side| side.max(kernel));
    let window = Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], padding: [padding[0]; 2] };
    ConvShape { batch, input, channels, output: input.map(|side| (side + padding[0] + padding[1] - kernel) / stride + 1), window }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn convolutions_of_any_window_match_naive_ones(shape in shapes(), each in 1..20usize, groups in 1..4usize) {
        let shape = ConvShape { channels: shape.channels.div_ceil(groups) * groups, ..shape };
        matches(&shape, each * groups, groups, 2e-5);
    }

    #[test]
    fn dense_convolutions_match_naive_ones(input in (1..14usize, 1..14usize), c in 1..70usize, out in 1..70usize, kernel in 1..4usize,
                                           stride in 1..3usize, pad in (0..2usize, 0..3usize), batch in 1..4usize) {
        matches(&square(batch, input.into(), c, kernel, stride, pad.into()), out, 1, 4e-5);
    }

    #[test]
    fn depthwise_convolutions_match_naive_ones(input in (1..20usize, 1..20usize), c in 2..70usize, kernel in 1..4usize, stride in 1..4usize,
                                               pad in (0..3usize, 0..4usize), batch in 1..4usize) {
        matches(&square(batch, input.into(), c, 2 * kernel - 1, stride, pad.into()), c, c, 2e-5);
    }

    #[test]
    fn linear_layers_match_naive_ones(rows in 1..40usize, inputs in 1..90usize, outputs in 1..90usize) {
        let linear = Linear { rows, inputs, outputs };
        let shape = square(rows, [1, 1], inputs, 1, 1, [0, 0]);
        let (x, dy, weight, bias) = (values(rows * inputs, 1), values(rows * outputs, 2), values(inputs * outputs, 3), values(outputs, 4));
        let [mut want_y, mut want_dx, want_dw] = naive(&shape, outputs, 1, &x, &dy, &weight);
        want_y.iter_mut().enumerate().for_each(|(i, y)| *y += f64::from(bias[i % outputs]));
        let mut y = vec![f32::NAN; dy.len()];
        linear.forward(&mut y, &x, &weight, &Epilogue { bias: Some(&bias), ..Epilogue::default() });
        assert_within(2e-5, &y, &want_y, "forward");
        let mut dw = vec![f32::NAN; weight.len()];
        linear.weight_gradient(&mut dw, &dy, &x);
        assert_within(2e-5, &dw, &want_dw, "weight gradient");
        let mut dx = vec![f32::NAN; x.len()];
        linear.input_gradient(&mut dx, &dy, &weight, false);
        assert_within(2e-5, &dx, &want_dx, "input gradient");
        linear.input_gradient(&mut dx, &dy, &weight, true);
        want_dx.iter_mut().for_each(|v| *v *= 2.0);
        assert_within(2e-5, &dx, &want_dx, "added input gradient");
    }

    #[test]
    fn column_sums_match_naive_ones(rows in 0..3000usize, columns in 1..80usize) {
        let dy = values(rows * columns, 1);
        let mut want = vec![0.0; columns];
        dy.iter().enumerate().for_each(|(i, &v)| want[i % columns] += f64::from(v));
        let mut sums = vec![f32::NAN; columns];
        column_sums(&mut sums, &dy);
        assert_within(2e-5, &sums, &want, "sums");
    }
}

/// Sizes at which rows, panels and sums are worked on in several blocks.
#[test]
fn large_convolutions_match_naive_ones() {
    matches(&square(3, [17, 23], 64, 3, 1, [1, 1]), 40, 1, 4e-5);
    matches(&square(2, [16, 16], 48, 3, 2, [0, 1]), 72, 1, 4e-5);
    matches(&square(9, [4, 4], 96, 3, 1, [1, 1]), 80, 1, 4e-5);
    matches(&square(4, [20, 20], 200, 1, 1, [0, 0]), 100, 1, 4e-5);
    matches(&square(2, [30, 30], 3, 3, 2, [0, 1]), 32, 1, 4e-5);
    matches(&square(2, [40, 30], 40, 5, 2, [1, 2]), 40, 40, 2e-5);
}

#[test]
fn other_numbers_of_threads_give_the_same_bits() {
    let runs: Vec<Vec<Vec<f32>>> = [1, 2, 5]
        .map(|threads| {
            Threads::new(threads).unwrap().install(|| {
                let mut results = Vec::new();
                for (shape, outputs, groups) in [
                    (square(5, [13, 12], 40, 3, 1, [1, 1]), 56, 1),
                    (square(5, [13, 12], 33, 3, 2, [0, 1]), 24, 1),
                    (square(5, [13, 12], 40, 1, 1, [0, 0]), 24, 1),
                    (square(5, [23, 22], 40, 5, 2, [1, 2]), 40, 40),
                    (square(5, [23, 22], 40, 3, 1, [1, 1]), 40, 40),
                ] {
                    let c = Convolution::new(shape, outputs, groups);
                    let (x, dy, weight) = (values(c.input_len(), 1), values(c.output_len(), 2), values(c.weight_len(), 3));
                    let [mut y, mut dx, mut dw] = [dy.len(), x.len(), weight.len()].map(|len| vec![0.0; len]);
                    c.forward(&mut y, &x, &weight, &Epilogue::default());
                    c.input_gradient(&mut dx, &dy, &weight, false);
                    c.weight_gradient(&mut dw, &dy, &x);
                    results.extend([y, dx, dw]);
                }
                results
            })
        })
        .into();
    assert!(runs[0] == runs[1] && runs[0] == runs[2]);
}
