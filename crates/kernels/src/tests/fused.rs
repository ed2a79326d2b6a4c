//! Convolutions by other ways than the plain sum: Winograd's, from planar images, and three in one.

use proptest::prelude::*;

use super::{naive_conv, naive_gemm, shapes, values};
use crate::dispatch::Isa;
use crate::{Bottleneck, Clamp, ConvShape, Epilogue, Matrix, PackedB, Pointwise, Threads, Window, WinogradWeights};

fn assert_within(bound: f64, got: &[f32], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(g) - w).abs() <= bound * scale, "{what}: value {i}: {g} for {w} (largest {scale})");
    }
}

fn clamped(v: f64, clamp: Option<Clamp>) -> f64 {
    clamp.map_or(v, |c| v.clamp(c.low.into(), c.high.into()))
}

/// `[out, C, 3, 3]` against the naive sum, with bias, residual and clamp, on every instruction set; the largest error by the largest value.
fn winograd_matches(shape: &ConvShape, outputs: usize, side: usize, bound: f64) {
    let c = shape.channels;
    let input = values(shape.batch * shape.input[0] * shape.input[1] * c, 1);
    let (weights, bias) = (values(outputs * c * 9, 2), values(outputs, 3));
    let clamp = Some(Clamp { low: -1.0, high: f32::INFINITY });
    let mut want = naive_conv(&input, shape, |tap, c0, o| weights[(o * c + c0) * 9 + tap], outputs, 1);
    let residual = values(want.len(), 4);
    want.iter_mut().enumerate().for_each(|(i, v)| *v = clamped(*v + f64::from(bias[i % outputs]) + f64::from(residual[i]), clamp));
    for isa in Isa::available() {
        let mut got = vec![f32::NAN; want.len()];
        let epilogue = Epilogue { bias: Some(&bias), residual: Some(&residual), clamp };
        crate::winograd(&mut got, &input, shape, &WinogradWeights::for_isa(isa, &weights, outputs, c, side), &epilogue);
        assert_within(bound, &got, &want, isa.name());
    }
}

/// A square window with padding and an output that it reaches.
fn square(input: [usize; 2], kernel: usize, stride: usize, before: usize, after: usize, channels: usize, batch: usize) -> ConvShape {
    let window = Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], padding: [before; 2] };
    let input = input.map(|size| size.max(kernel));
    ConvShape { batch, input, channels, output: input.map(|size| (size + before + after - kernel) / stride + 1), window }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn winograd_matches_the_naive_sum(h in 3..12usize, w in 3..12usize, c in 1..35usize, n in 1..40usize, before in 0..3usize,
                                      after in 0..3usize, batch in 1..3usize, four: bool) {
        winograd_matches(&square([h, w], 3, 1, before, after, c, batch), n, if four { 4 } else { 2 }, 2e-5);
    }

    #[test]
    fn planar_convolutions_match_naive_ones(shape in shapes(), outputs in 1..40usize) {
        let mut shape = ConvShape { channels: shape.channels.div_ceil(10), ..shape };
        let reach = |k: usize, d: usize| (k - 1) * d + 1;
        for i in 0..2 {
            // Without dilation the windows reach less far: the output stays a valid one.
            let w = &mut shape.window;
            prop_assert!(reach(w.kernel[i], 1) <= reach(w.kernel[i], w.dilation[i]));
            w.dilation[i] = 1;
        }
        let (c, [kh, kw]) = (shape.channels, shape.window.kernel);
        let pixels = shape.input[0] * shape.input[1];
        let input = values(shape.batch * pixels * c, 1);
        let mut planar = vec![0.0; input.len()];
        crate::nhwc_to_nchw(&mut planar, &input, c, pixels);
        let weights = values(kh * c * kw * outputs, 2);
        // Rows of the operand: [KH, C, KW].
        let weight = |tap: usize, c0: usize, o: usize| weights[((tap / kw * c + c0) * kw + tap % kw) * outputs + o];
        let want = naive_conv(&input, &shape, weight, outputs, 1);
        for isa in Isa::available() {
            let mut got = vec![f32::NAN; want.len()];
            let packed = PackedB::for_isa(isa, Matrix::new(&weights, kh * c * kw, outputs));
            crate::conv2d_planar(&mut got, &planar, &shape, &packed, &Epilogue::default());
            assert_within(2e-5, &got, &want, isa.name());
        }
    }

    #[test]
    fn bottlenecks_match_naive_ones(size in (5..20usize, 5..20usize), five: bool, stride in 1..3usize, pad in (0..3usize, 0..3usize), read in 1..20usize,
                                    hidden in 1..120usize, out in 1..40usize, batch in 1..3usize, expand: bool, residual: bool, threads in 1..4usize) {
        let read = if expand { read } else { hidden };
        let shape = square([size.0, size.1], if five { 5 } else { 3 }, stride, pad.0, pad.1, hidden, batch);
        bottleneck_matches(&shape, read, out, expand, residual, threads);
    }
}

fn bottleneck_matches(shape: &ConvShape, read: usize, out: usize, expand: bool, residual: bool, threads: usize) {
    let (hidden, pixels, taps) =
        (shape.channels, shape.batch * shape.input[0] * shape.input[1], shape.window.kernel[0] * shape.window.kernel[1]);
    let input = values(pixels * read, 1);
    let (widen, widen_bias, weights, bias) = (values(read * hidden, 2), values(hidden, 3), values(taps * hidden, 4), values(hidden, 5));
    let (narrow, narrow_bias) = (values(hidden * out, 6), values(out, 7));
    let (first, last) = (Some(Clamp::RELU6), Some(Clamp::RELU));
    let mut wide: Vec<f32> = input.clone();
    if expand {
        let product = naive_gemm(&vec![0.0; pixels * hidden], Matrix::new(&input, pixels, read), Matrix::new(&widen, read, hidden));
        wide = product.iter().enumerate().map(|(i, v)| clamped(v + f64::from(widen_bias[i % hidden]), first) as f32).collect();
    }
    let filtered = naive_conv(&wide, shape, |tap, _, o| weights[tap * hidden + o], hidden, hidden);
    let filtered: Vec<f32> = filtered.iter().enumerate().map(|(i, v)| clamped(v + f64::from(bias[i % hidden]), first) as f32).collect();
    let count = shape.batch * shape.output[0] * shape.output[1];
    let added = values(count * out, 8);
    let zeros = vec![0.0; count * out];
    let mut want =
        naive_gemm(if residual { &added } else { &zeros }, Matrix::new(&filtered, count, hidden), Matrix::new(&narrow, hidden, out));
    want.iter_mut().enumerate().for_each(|(i, v)| *v = clamped(*v + f64::from(narrow_bias[i % out]), last));
    let threads = Threads::new(threads).unwrap();
    for isa in Isa::available() {
        let widen = PackedB::for_isa(isa, Matrix::new(&widen, read, hidden));
        let block = Bottleneck {
            expand: expand.then_some(Pointwise { weights: &widen, bias: Some(&widen_bias), clamp: first }),
            shape: *shape,
            taps: &weights,
            bias: Some(&bias),
            clamp: first,
            project: &PackedB::for_isa(isa, Matrix::new(&narrow, hidden, out)),
            epilogue: Epilogue { bias: Some(&narrow_bias), residual: residual.then_some(&added[..]), clamp: last },
        };
        let mut got = vec![f32::NAN; want.len()];
        threads.install(|| block.run(&mut got, &input));
        assert_within(2e-5, &got, &want, isa.name());
    }
}

/// Sizes at which rows, panels and weights are worked on in several blocks.
#[test]
fn large_bottlenecks_match_naive_ones() {
    bottleneck_matches(&square([40, 41], 5, 2, 1, 2, 144, 1), 24, 40, true, false, 2);
    bottleneck_matches(&square([30, 57], 3, 1, 1, 1, 144, 1), 24, 24, true, true, 1);
    bottleneck_matches(&square([7, 7], 5, 1, 2, 2, 960, 1), 40, 24, true, true, 2);
}

/// F(4 × 4) loses two digits to the plain sum: as many channels as the networks of the zoo have, and still 1e-4 of the largest value.
#[test]
fn winograd_keeps_its_accuracy_over_many_channels() {
    winograd_matches(&square([14, 14], 3, 1, 1, 1, 256, 1), 128, 4, 1e-4);
    winograd_matches(&square([14, 14], 3, 1, 1, 1, 256, 1), 128, 2, 1e-4);
    winograd_matches(&square([30, 29], 3, 1, 1, 1, 64, 2), 64, 4, 1e-4);
}

#[test]
fn other_numbers_of_threads_give_the_same_bits() {
    let shape = square([15, 14], 3, 1, 1, 1, 96, 3);
    let (input, weights) = (values(3 * 15 * 14 * 96, 1), values(128 * 96 * 9, 2));
    let winograd = WinogradWeights::new(&weights, 128, 96, 4);
    let packed = PackedB::new(Matrix::new(&weights, 9 * 96, 128));
    let narrow = PackedB::new(Matrix::new(&weights, 96, 40));
    let run = |threads: usize| {
        let mut results = vec![vec![0.0; 3 * 15 * 14 * 128], vec![0.0; 3 * 15 * 14 * 128], vec![0.0; 3 * 15 * 14 * 40]];
        Threads::new(threads).unwrap().install(|| {
            crate::winograd(&mut results[0], &input, &shape, &winograd, &Epilogue::default());
            crate::conv2d(&mut results[1], &input, &shape, std::slice::from_ref(&packed), &Epilogue::default());
            let (taps, epilogue) = (&weights[..9 * 96], Epilogue::default());
            let block = Bottleneck { expand: None, shape, taps, bias: None, clamp: None, project: &narrow, epilogue };
            block.run(&mut results[2], &input);
        });
        results
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}
