//! Every kernel against a naive twin, at sizes around the vector widths, on every instruction set of the machine.
#![allow(clippy::unwrap_used)]

mod fused;

use proptest::prelude::*;

use crate::dispatch::Isa;
use crate::gemm::{Clamp, Epilogue, gemm_for};
use crate::{ConvShape, Matrix, PackedB, Window, conv2d, gemm_packed};

/// Values that repeat with no short period.
pub(crate) fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn assert_close(got: &[f32], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(g) - w).abs() <= 2e-5 * scale, "{what}: value {i}: {g} for {w}");
    }
}

fn naive_gemm(c: &[f32], a: Matrix, b: Matrix) -> Vec<f64> {
    let at = |m: &Matrix, r: usize, c: usize| f64::from(m.data[r * m.row_stride + c * m.col_stride]);
    let dot = |i: usize, j: usize| (0..a.cols).map(|p| at(&a, i, p) * at(&b, p, j)).sum::<f64>();
    (0..a.rows * b.cols).map(|x| f64::from(c[x]) + dot(x / b.cols, x % b.cols)).collect()
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn naive_conv(
    input: &[f32],
    s: &ConvShape,
    weight: impl Fn(usize, usize, usize) -> f32,
    outputs: usize,
    groups: usize,
) -> Vec<f64> {
    let ([h, w], [oh, ow], k) = (s.input, s.output, s.window.kernel);
    let (cin, cout) = (s.channels / groups, outputs / groups);
    let mut result = Vec::new();
    for (n, y, x, o) in
        (0..s.batch * oh * ow * outputs).map(|i| (i / outputs / ow / oh, i / outputs / ow % oh, i / outputs % ow, i % outputs))
    {
        let mut sum = 0.0;
        for tap in 0..k[0] * k[1] {
            let at = |axis: usize, out: usize, t: usize| {
                (out * s.window.stride[axis] + t * s.window.dilation[axis]) as isize - s.window.padding[axis] as isize
            };
            let (sy, sx) = (at(0, y, tap / k[1]), at(1, x, tap % k[1]));
            if sy < 0 || sx < 0 || sy >= h as isize || sx >= w as isize {
                continue;
            }
            for c in 0..cin {
                let from = ((n * h + sy as usize) * w + sx as usize) * s.channels + o / cout * cin + c;
                sum += f64::from(input[from]) * f64::from(weight(tap, c, o));
            }
        }
        result.push(sum);
    }
    result
}

pub(crate) fn shapes() -> impl Strategy<Value = ConvShape> {
    let small = || 1..3usize;
    (
        1..3usize,
        (5..14usize, 5..26usize),
        1..40usize,
        (1..6usize, 1..6usize),
        (small(), small()),
        (small(), small()),
        (0..3usize, 0..3usize, 0..3usize),
    )
        .prop_map(|(batch, (h, w), channels, (kh, kw), (sy, sx), (dy, dx), (top, left, end))| {
            let reach = |k: usize, d: usize| (k - 1) * d + 1;
            let (h, w) = (h.max(reach(kh, dy)), w.max(reach(kw, dx)));
            let out = |size: usize, before: usize, k: usize, d: usize, s: usize| (size + before + end - reach(k, d)) / s + 1;
            let window = Window { kernel: [kh, kw], stride: [sy, sx], dilation: [dy, dx], padding: [top, left] };
            ConvShape { batch, input: [h, w], channels, output: [out(h, top, kh, dy, sy), out(w, left, kw, dx, sx)], window }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_match_naive_ones(m in 1..70usize, k in 0..90usize, n in 1..110usize, ta: bool, tb: bool, accumulate: bool) {
        let (a, b, c) = (values(m * k, 1), values(k * n, 2), values(m * n, 3));
        let a = if ta { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
        let b = if tb { Matrix::new(&b, n, k).t() } else { Matrix::new(&b, k, n) };
        let zeros = vec![0.0; m * n];
        let want = naive_gemm(if accumulate { &c } else { &zeros }, a, b);
        for isa in Isa::available() {
            let mut got = c.clone();
            gemm_for(isa, &mut got, a, b, accumulate);
            assert_close(&got, &want, isa.name());
        }
    }

    #[test]
    fn epilogues_match_naive_ones(m in 1..40usize, k in 1..20usize, n in 1..70usize, clamp: bool) {
        let (a, b, bias, residual) = (values(m * k, 1), values(k * n, 2), values(n, 3), values(m * n, 4));
        let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
        let clamp = clamp.then_some(Clamp { low: -0.5, high: 0.75 });
        let mut want = naive_gemm(&residual, a, b);
        for (i, v) in want.iter_mut().enumerate() {
            *v += f64::from(bias[i % n]);
            if clamp.is_some() { *v = v.clamp(-0.5, 0.75); }
        }
        for isa in Isa::available() {
            let mut got = vec![f32::NAN; m * n];
            let epilogue = Epilogue { bias: Some(&bias), residual: Some(&residual), clamp };
            gemm_packed(&mut got, a, &PackedB::for_isa(isa, b), false, &epilogue);
            assert_close(&got, &want, isa.name());
        }
    }

    #[test]
    fn convolutions_match_naive_ones(shape in shapes(), per_group in 1..20usize, groups in 1..4usize) {
        let shape = ConvShape { channels: shape.channels.div_ceil(groups) * groups, ..shape };
        let (taps, cin) = (shape.window.kernel[0] * shape.window.kernel[1], shape.channels / groups);
        let input = values(shape.batch * shape.input[0] * shape.input[1] * shape.channels, 1);
        let weights = values(groups * taps * cin * per_group, 2);
        let weight = |tap: usize, c: usize, o: usize| weights[((o / per_group * taps + tap) * cin + c) * per_group + o % per_group];
        let want = naive_conv(&input, &shape, weight, per_group * groups, groups);
        for isa in Isa::available() {
            let packed: Vec<PackedB> = weights.chunks(taps * cin * per_group)
                .map(|part| PackedB::for_isa(isa, Matrix::new(part, taps * cin, per_group))).collect();
            let mut got = vec![f32::NAN; want.len()];
            conv2d(&mut got, &input, &shape, &packed, &Epilogue::default());
            assert_close(&got, &want, isa.name());
        }
    }

    #[test]
    fn depthwise_convolutions_match_naive_ones(shape in shapes(), square in 0..3usize, stride in 1..3usize) {
        // Two of three cases are the kernels with a fast path.
        let mut shape = shape;
        if square > 0 {
            let (k, window) = (1 + 2 * square, &mut shape.window);
            *window = Window { kernel: [k; 2], stride: [stride; 2], dilation: [1; 2], padding: window.padding };
            shape.input = [shape.input[0].max(k), shape.input[1].max(k)];
            shape.output = std::array::from_fn(|i| (shape.input[i] + shape.window.padding[i] + 1 - k) / stride + 1);
        }
        let (taps, c) = (shape.window.kernel[0] * shape.window.kernel[1], shape.channels);
        let input = values(shape.batch * shape.input[0] * shape.input[1] * c, 1);
        let (weights, bias) = (values(taps * c, 2), values(c, 3));
        let mut want = naive_conv(&input, &shape, |tap, _, o| weights[tap * c + o], c, c);
        want.iter_mut().enumerate().for_each(|(i, v)| *v = (*v + f64::from(bias[i % c])).clamp(0.0, 6.0));
        for isa in Isa::available() {
            let mut got = vec![f32::NAN; want.len()];
            crate::depthwise::depthwise_for(isa, &mut got, &input, &shape, &weights, Some(&bias), Some(Clamp::RELU6));
            assert_close(&got, &want, isa.name());
        }
    }

    #[test]
    fn max_pooling_matches_and_its_argmax_points_there(shape in shapes()) {
        let input = values(shape.batch * shape.input[0] * shape.input[1] * shape.channels, 1);
        let count = shape.batch * shape.output[0] * shape.output[1] * shape.channels;
        let (mut plain, mut got, mut argmax) = (vec![0.0; count], vec![0.0; count], vec![0; count]);
        crate::max_pool(&mut plain, &input, &shape);
        crate::max_pool_with_argmax(&mut got, &mut argmax, &input, &shape);
        prop_assert_eq!(&plain, &got);
        let pixels = shape.input[0] * shape.input[1];
        for (i, (&at, &v)) in argmax.iter().zip(&got).enumerate() {
            let (n, c) = (i / (shape.output[0] * shape.output[1] * shape.channels), i % shape.channels);
            if at != u32::MAX {
                prop_assert_eq!(input[(n * pixels + at as usize) * shape.channels + c], v);
            }
        }
    }

    #[test]
    fn layouts_invert_each_other(n in 0..3usize, c in 1..40usize, pixels in 1..300usize) {
        let input = values(n * c * pixels, 1);
        let (mut there, mut back) = (vec![0.0; input.len()], vec![0.0; input.len()]);
        crate::nchw_to_nhwc(&mut there, &input, c, pixels);
        crate::nhwc_to_nchw(&mut back, &there, c, pixels);
        prop_assert_eq!(&back, &input);
        if n > 0 {
            prop_assert_eq!(there[(pixels - 1) * c], input[pixels - 1]);
        }
    }

    #[test]
    fn exponentials_are_close(x in -80.0f32..80.0) {
        let want = f64::from(x).exp();
        prop_assert!(((f64::from(crate::elementwise::exp(x)) - want) / want).abs() < 4e-7);
    }
}

/// Sizes large enough for several blocks of k, tasks and packs.
#[test]
fn large_products_are_the_same_for_any_number_of_threads() {
    let (m, k, n) = (400, 1700, 130);
    let (a, b) = (values(m * k, 1), values(k * n, 2));
    let run = |threads: usize, transposed: bool| {
        let mut c = vec![0.0; m * n];
        let a = if transposed { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| crate::gemm(&mut c, a, Matrix::new(&b, k, n), false));
        c
    };
    for transposed in [false, true] {
        let one = run(1, transposed);
        assert_eq!(one, run(2, transposed));
        assert_eq!(one, run(5, transposed));
    }
    let want = naive_gemm(&vec![0.0; m * n], Matrix::new(&a, m, k), Matrix::new(&b, k, n));
    assert_close(&run(2, false), &want, "large");
}

#[test]
fn not_a_number_survives_activations() {
    let mut c = [0.0; 3];
    let b = [f32::NAN, 1.0, -1.0];
    let epilogue = Epilogue { clamp: Some(Clamp::RELU6), ..Epilogue::default() };
    for isa in Isa::available() {
        gemm_packed(&mut c, Matrix::new(&[2.0], 1, 1), &PackedB::for_isa(isa, Matrix::new(&b, 1, 3)), false, &epilogue);
        assert!(c[0].is_nan() && c[1..] == [2.0, 0.0], "{}: {c:?}", isa.name());
    }
}

#[test]
#[should_panic(expected = "inner sizes")]
fn sizes_that_disagree_are_refused() {
    crate::gemm(&mut [0.0; 4], Matrix::new(&[0.0; 6], 2, 3), Matrix::new(&[0.0; 4], 2, 2), false);
}
