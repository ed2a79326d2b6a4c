//! bf16 and int8 kernels against naive twins, at sizes around the vector widths, on every instruction set of the machine: bytes to the
//! bit, bf16 within its rounding.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use crate::bf16::Bf16;
use crate::bf16::{self, round, widen};
use crate::gemm::Clamp;
use crate::int8::{self, Int8, Integers, LIMIT, Quant, Width};
use crate::tests::{naive_conv, shapes, values};
use crate::{ConvShape, Window};

/// Rounding a result to bf16 moves it by 2^-9 of itself at most; sums in f32 differ by their order.
const BF16_STEP: f64 = 1.0 / 256.0;

fn halves(values: &[f32]) -> Vec<u16> {
    values.iter().map(|&v| round(v)).collect()
}

fn wide(values: &[u16]) -> Vec<f32> {
    values.iter().map(|&v| widen(v)).collect()
}

fn bytes(count: usize, seed: u64) -> Vec<u8> {
    values(count, seed).iter().map(|v| (v * 128.0 + 128.0) as u8).collect()
}

fn signed(count: usize, seed: u64) -> Vec<i16> {
    values(count, seed).iter().map(|v| (v * 127.9) as i16).collect()
}

fn sixteen(count: usize, seed: u64, largest: i16) -> Vec<i16> {
    values(count, seed).iter().map(|v| (v * (f32::from(largest) + 0.9)) as i16).collect()
}

fn bytes_on(isa: Int8) -> Integers {
    Integers { isa, width: Width::Bytes }
}

fn halves_on(isa: Int8) -> Integers {
    Integers { isa, width: Width::Halves }
}

/// As [`requantized`], to 16 bits.
fn requantized_half(sum: i64, scale: f32, residual: f32, output: f32, low: f32, high: f32) -> i16 {
    let v = (sum as i32) as f32 * scale + residual;
    let limit = f64::from(LIMIT);
    let bound = |b: f32| f64::from((b / output).round_ties_even()).clamp(-limit, limit);
    f64::from(v).clamp(bound(low), bound(high)).round_ties_even() as i16
}

fn assert_near(got: &[f32], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let bound = w.abs() * BF16_STEP + 2e-5 * scale;
        assert!((f64::from(g) - w).abs() <= bound, "{what}: value {i}: {g} for {w}");
    }
}

/// Groups and channels for both, from a shape: one group, or several of a few channels.
fn grouped(shape: ConvShape, groups: usize) -> ConvShape {
    ConvShape { channels: shape.channels.div_ceil(groups) * groups, ..shape }
}

/// The naive integer twin of a requantised product: definition, spelled out.
fn requantized(sum: i64, scale: f32, residual: f32, quant: Quant, low: f32, high: f32) -> u8 {
    let v = (sum as i32) as f32 * scale + residual;
    let zero = f64::from(quant.zero);
    let bound = |b: f32| f64::from((b / quant.scale).round_ties_even()).clamp(-zero, 255.0 - zero);
    let clamped = f64::from(v).clamp(bound(low), bound(high));
    (clamped.round_ties_even() + zero) as u8
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn bf16_convolutions_match_naive_ones(shape in shapes(), out in 1..70usize, groups in 1..4usize, residual: bool, f32_out: bool) {
        let (shape, out) = (grouped(shape, groups), out.div_ceil(groups) * groups);
        let (k, count) = (shape.window.kernel, shape.channels / groups);
        let taps = k[0] * k[1];
        let input = halves(&values(shape.batch * shape.input[0] * shape.input[1] * shape.channels, 1));
        let weight = wide(&halves(&values(out * count * taps, 2)));
        let bias = values(out, 3);
        let pixels = shape.batch * shape.output[0] * shape.output[1];
        let extra = halves(&values(pixels * out, 4));
        let mut want = naive_conv(&wide(&input), &shape, |tap, c, o| weight[(o * count + c) * taps + tap], out, groups);
        for (i, v) in want.iter_mut().enumerate() {
            *v += f64::from(bias[i % out]) + if residual { f64::from(widen(extra[i])) } else { 0.0 };
            *v = v.clamp(-0.75, 6.0);
        }
        let clamp = Some(Clamp { low: -0.75, high: 6.0 });
        let extra_wide = wide(&extra);
        for isa in Bf16::available() {
            let weights = bf16::ConvWeights::for_isa(isa, &weight, out, shape.channels, groups, k, shape.window.dilation);
            let (mut narrow, mut full) = (vec![0x7fc0; want.len()], vec![f32::NAN; want.len()]);
            let (output, other) = if f32_out {
                (bf16::Output::F32(&mut full), bf16::Residual::F32(&extra_wide))
            } else {
                (bf16::Output::Bf16(&mut narrow), bf16::Residual::Bf16(&extra))
            };
            let epilogue = bf16::Epilogue { bias: Some(&bias), residual: residual.then_some(other), clamp };
            bf16::conv2d(output, &input, &shape, &weights, &epilogue);
            assert_near(&if f32_out { full } else { wide(&narrow) }, &want, &format!("{isa:?}"));
        }
    }

    #[test]
    fn int8_convolutions_match_naive_ones(shape in shapes(), out in 1..70usize, groups in 1..4usize, residual: bool, zero: u8, f32_out: bool) {
        let (shape, out) = (grouped(shape, groups), out.div_ceil(groups) * groups);
        let (k, count) = (shape.window.kernel, shape.channels / groups);
        let taps = k[0] * k[1];
        let input = bytes(shape.batch * shape.input[0] * shape.input[1] * shape.channels, 1);
        let weight = signed(out * count * taps, 2);
        let pixels = shape.batch * shape.output[0] * shape.output[1];
        let (extra, extra_wide) = (bytes(pixels * out, 4), values(pixels * out, 5));
        let output = Quant { scale: 0.05, zero: 100 };
        let other = Quant { scale: 0.03, zero: 90 };
        let real: Vec<f32> = input.iter().map(|&q| f32::from(q) - f32::from(zero)).collect();
        let sums = naive_conv(&real, &shape, |tap, c, o| f32::from(weight[(o * count + c) * taps + tap]), out, groups);
        let own: Vec<i32> = values(out, 3).iter().map(|v| (v * 5000.0) as i32).collect();
        // As an engine would: the zero point of the input goes into the bias.
        let bias: Vec<i32> = (0..out)
            .map(|o| own[o] - i32::from(zero) * weight[o * count * taps..(o + 1) * count * taps].iter().map(|&w| i32::from(w)).sum::<i32>())
            .collect();
        let scale: Vec<f32> = values(out, 6).iter().map(|v| 0.002 + 0.001 * v).collect();
        let (low, high) = (-1.0, 6.0);
        for isa in Int8::available() {
            let weights = int8::ConvWeights::for_family(bytes_on(isa), &weight, out, shape.channels, groups, k, shape.window.dilation);
            let mut epilogue = int8::Epilogue { bias: &bias, scale: &scale, residual: None, output, low, high };
            if f32_out {
                epilogue.residual = residual.then_some(int8::Residual::F32(&extra_wide));
                let mut got = vec![f32::NAN; sums.len()];
                int8::conv2d(int8::Output::F32(&mut got), int8::Input::U8(&input, zero), &shape, &weights, &epilogue);
                for (i, &g) in got.iter().enumerate() {
                    let v = (sums[i] as i32 + own[i % out]) as f32 * scale[i % out];
                    let v = if residual { v + extra_wide[i] } else { v };
                    prop_assert_eq!(g, v.clamp(low, high), "{:?}: value {}", isa, i);
                }
            } else {
                epilogue.residual = residual.then_some(int8::Residual::U8(&extra, other));
                let mut got = vec![0; sums.len()];
                int8::conv2d(int8::Output::U8(&mut got), int8::Input::U8(&input, zero), &shape, &weights, &epilogue);
                for (i, &g) in got.iter().enumerate() {
                    let added = (f32::from(extra[i]) - 90.0) * (0.03 / 0.05);
                    let sum = sums[i] as i64 + i64::from(own[i % out]);
                    let want = requantized(sum, scale[i % out], if residual { added } else { 0.0 }, output, low, high);
                    prop_assert_eq!(g, want, "{:?}: value {}", isa, i);
                }
            }
        }
    }

    #[test]
    fn narrow_depthwise_convolutions_match_naive_ones(shape in shapes(), square in 0..3usize, stride in 1..3usize, zero: u8) {
        let mut shape = shape;
        if square > 0 {
            let (k, window) = (1 + 2 * square, &mut shape.window);
            *window = Window { kernel: [k; 2], stride: [stride; 2], dilation: [1; 2], padding: window.padding };
            shape.input = [shape.input[0].max(k), shape.input[1].max(k)];
            shape.output = std::array::from_fn(|i| (shape.input[i] + shape.window.padding[i] + 1 - k) / stride + 1);
        }
        let (k, c) = (shape.window.kernel, shape.channels);
        let taps = k[0] * k[1];
        let count = shape.batch * shape.input[0] * shape.input[1] * c;
        let (input, weight, bias) = (halves(&values(count, 1)), wide(&halves(&values(taps * c, 2))), values(c, 3));
        let mut want = naive_conv(&wide(&input), &shape, |tap, _, o| weight[o * taps + tap], c, c);
        want.iter_mut().enumerate().for_each(|(i, v)| *v = (*v + f64::from(bias[i % c])).clamp(0.0, 6.0));
        for isa in Bf16::available() {
            let (mut got, packed) = (vec![0x7fc0; want.len()], bf16::DepthwiseWeights::for_isa(isa, &weight, c, k));
            bf16::depthwise(&mut got, &input, &shape, &packed, Some(&bias), Some(Clamp::RELU6));
            assert_near(&wide(&got), &want, &format!("{isa:?}"));
        }
        let (input, weight) = (bytes(count, 1), signed(taps * c, 2));
        let real: Vec<f32> = input.iter().map(|&q| f32::from(q) - f32::from(zero)).collect();
        let sums = naive_conv(&real, &shape, |tap, _, o| f32::from(weight[o * taps + tap]), c, c);
        let own: Vec<i32> = values(c, 3).iter().map(|v| (v * 5000.0) as i32).collect();
        let bias: Vec<i32> =
            (0..c).map(|o| own[o] - i32::from(zero) * weight[o * taps..(o + 1) * taps].iter().map(|&w| i32::from(w)).sum::<i32>()).collect();
        let scale: Vec<f32> = values(c, 6).iter().map(|v| 0.02 + 0.01 * v).collect();
        let output = Quant { scale: 0.05, zero: 3 };
        let epilogue = int8::Epilogue { bias: &bias, scale: &scale, residual: None, output, low: 0.0, high: f32::INFINITY };
        for isa in Int8::available() {
            let (mut got, packed) = (vec![0; sums.len()], int8::DepthwiseWeights::for_family(bytes_on(isa), &weight, c, k));
            int8::depthwise(int8::Output::U8(&mut got), int8::Input::U8(&input, zero), &shape, &packed, &epilogue);
            for (i, &g) in got.iter().enumerate() {
                let sum = sums[i] as i64 + i64::from(own[i % c]);
                prop_assert_eq!(g, requantized(sum, scale[i % c], 0.0, output, 0.0, f32::INFINITY), "{:?}: value {}", isa, i);
            }
        }
    }

    #[test]
    fn products_of_sixteen_bits_match_naive_ones(shape in shapes(), out in 1..70usize, groups in 1..4usize, residual: bool, f32_out: bool) {
        let (shape, out) = (grouped(shape, groups), out.div_ceil(groups) * groups);
        let (k, count) = (shape.window.kernel, shape.channels / groups);
        let taps = k[0] * k[1];
        let input = sixteen(shape.batch * shape.input[0] * shape.input[1] * shape.channels, 1, LIMIT);
        let weight = signed(out * count * taps, 2);
        let pixels = shape.batch * shape.output[0] * shape.output[1];
        let (extra, extra_wide) = (sixteen(pixels * out, 4, LIMIT), values(pixels * out, 5));
        let real: Vec<f32> = input.iter().map(|&q| f32::from(q)).collect();
        let sums = naive_conv(&real, &shape, |tap, c, o| f32::from(weight[(o * count + c) * taps + tap]), out, groups);
        let bias: Vec<i32> = values(out, 3).iter().map(|v| (v * 90_000.0) as i32).collect();
        let scale: Vec<f32> = values(out, 6).iter().map(|v| 0.004 + 0.002 * v).collect();
        let (output, other, low, high) = (0.002, 0.003, -1.0, 6.0);
        for isa in Int8::available() {
            let weights = int8::ConvWeights::for_family(halves_on(isa), &weight, out, shape.channels, groups, k, shape.window.dilation);
            let quant = Quant { scale: output, zero: 0 };
            let mut epilogue = int8::Epilogue { bias: &bias, scale: &scale, residual: None, output: quant, low, high };
            if f32_out {
                epilogue.residual = residual.then_some(int8::Residual::F32(&extra_wide));
                let mut got = vec![f32::NAN; sums.len()];
                int8::conv2d(int8::Output::F32(&mut got), int8::Input::I16(&input), &shape, &weights, &epilogue);
                for (i, &g) in got.iter().enumerate() {
                    let v = (sums[i] as i32 + bias[i % out]) as f32 * scale[i % out];
                    let v = if residual { v + extra_wide[i] } else { v };
                    prop_assert_eq!(g, v.clamp(low, high), "{:?}: value {}", isa, i);
                }
            } else {
                epilogue.residual = residual.then_some(int8::Residual::I16(&extra, other));
                let mut got = vec![0; sums.len()];
                int8::conv2d(int8::Output::I16(&mut got), int8::Input::I16(&input), &shape, &weights, &epilogue);
                for (i, &g) in got.iter().enumerate() {
                    let added = if residual { f32::from(extra[i]) * (other / output) } else { 0.0 };
                    let sum = sums[i] as i64 + i64::from(bias[i % out]);
                    prop_assert_eq!(g, requantized_half(sum, scale[i % out], added, output, low, high), "{:?}: value {}", isa, i);
                }
            }
        }
    }

    #[test]
    fn depthwise_convolutions_of_sixteen_bits_match_naive_ones(shape in shapes(), square in 0..3usize, stride in 1..4usize) {
        let mut shape = shape;
        if square > 0 {
            let (k, window) = (1 + 2 * square, &mut shape.window);
            *window = Window { kernel: [k; 2], stride: [stride; 2], dilation: [1; 2], padding: window.padding };
            shape.input = [shape.input[0].max(k), shape.input[1].max(k)];
            shape.output = std::array::from_fn(|i| (shape.input[i] + shape.window.padding[i] + 1 - k) / stride + 1);
        }
        let (k, c) = (shape.window.kernel, shape.channels);
        let taps = k[0] * k[1];
        let input = sixteen(shape.batch * shape.input[0] * shape.input[1] * c, 1, LIMIT);
        let weight = sixteen(taps * c, 2, 8191);
        let real: Vec<f32> = input.iter().map(|&q| f32::from(q)).collect();
        let sums = naive_conv(&real, &shape, |tap, _, o| f32::from(weight[o * taps + tap]), c, c);
        let bias: Vec<i32> = values(c, 3).iter().map(|v| (v * 1e6) as i32).collect();
        let scale: Vec<f32> = values(c, 6).iter().map(|v| 1e-4 + 5e-5 * v).collect();
        let quant = Quant { scale: 0.01, zero: 0 };
        let epilogue = int8::Epilogue { bias: &bias, scale: &scale, residual: None, output: quant, low: 0.0, high: f32::INFINITY };
        for isa in Int8::available() {
            let (mut got, packed) = (vec![0; sums.len()], int8::DepthwiseWeights::for_family(halves_on(isa), &weight, c, k));
            int8::depthwise(int8::Output::I16(&mut got), int8::Input::I16(&input), &shape, &packed, &epilogue);
            for (i, &g) in got.iter().enumerate() {
                let sum = sums[i] as i64 + i64::from(bias[i % c]);
                prop_assert_eq!(g, requantized_half(sum, scale[i % c], 0.0, 0.01, 0.0, f32::INFINITY), "{:?}: value {}", isa, i);
            }
        }
    }

    #[test]
    fn narrow_pools_match_wide_ones(shape in shapes(), count_padding: bool, zero: u8) {
        let shape = ConvShape { window: Window { dilation: [1; 2], ..shape.window }, ..shape };
        let [h, w] = shape.input;
        let size = shape.batch * shape.output[0] * shape.output[1] * shape.channels;
        let count = shape.batch * h * w * shape.channels;
        // Padding behind the map that some windows reach.
        let end = [1, 1];
        let input = halves(&values(count, 1));
        let (mut want, mut got) = (vec![0.0; size], vec![0; size]);
        crate::max_pool(&mut want, &wide(&input), &shape);
        bf16::max_pool(&mut got, &input, &shape);
        prop_assert_eq!(&wide(&got), &want);
        crate::average_pool(&mut want, &wide(&input), &shape, end, count_padding);
        bf16::average_pool(&mut got, &input, &shape, end, count_padding);
        assert_near(&wide(&got), &want.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), "bf16 means");
        let quant = Quant { scale: 1.0, zero };
        let (input, mut got) = (bytes(count, 1), vec![0; size]);
        let real: Vec<f32> = input.iter().map(|&q| quant.value(q)).collect();
        crate::max_pool(&mut want, &real, &shape);
        int8::max_pool(&mut got, &input, &shape);
        for (g, w) in got.iter().zip(&want) {
            prop_assert_eq!(quant.value(*g), w.max(-f32::from(zero)));
        }
        crate::average_pool(&mut want, &real, &shape, end, count_padding);
        int8::average_pool(&mut got, &input, zero, &shape, end, count_padding);
        for (g, w) in got.iter().zip(&want) {
            prop_assert!((quant.value(*g) - w).abs() <= 0.5001, "{} for {w}", quant.value(*g));
        }
    }

    #[test]
    fn elementwise_work_and_conversions_match(n in 0..100usize, zero: u8, scale in 0.01f32..0.1) {
        let (a, b) = (values(n, 1), values(n, 2));
        let (ha, hb) = (halves(&a), halves(&b));
        let mut got = vec![0; n];
        bf16::add(&mut got, &ha, &hb);
        for i in 0..n {
            prop_assert_eq!(got[i], round(widen(ha[i]) + widen(hb[i])));
        }
        bf16::multiply(&mut got, &ha, &hb);
        for i in 0..n {
            prop_assert_eq!(got[i], round(widen(ha[i]) * widen(hb[i])));
        }
        bf16::from_f32(&mut got, &a);
        prop_assert_eq!(&got, &ha);
        let mut back = vec![0.0; n];
        bf16::to_f32(&mut back, &ha);
        prop_assert_eq!(&back, &wide(&ha));
        let quant = Quant { scale, zero };
        let mut q = vec![0; n];
        int8::quantize(&mut q, &a, quant);
        for i in 0..n {
            let exact = (f64::from(a[i]) / f64::from(scale) + f64::from(zero)).clamp(0.0, 255.0);
            prop_assert!((f64::from(q[i]) - exact).abs() < 0.5001, "{} for {exact}", q[i]);
        }
        int8::dequantize(&mut back, &q, quant);
        for i in 0..n {
            prop_assert_eq!(back[i], quant.value(q[i]));
        }
        let mut sixteen = vec![0; n];
        int8::to_halves(&mut sixteen, &a, scale);
        for i in 0..n {
            prop_assert!((f64::from(sixteen[i]) - f64::from(a[i]) / f64::from(scale)).abs() < 0.5001);
        }
        let channels = if n.is_multiple_of(3) { 3 } else { 1 };
        let (mut by, scales) = (vec![0; n], vec![scale; channels]);
        int8::to_halves_by_channel(&mut by, &a, &scales);
        prop_assert_eq!(&by, &sixteen);
        int8::from_halves(&mut back, &sixteen, scale);
        for i in 0..n {
            prop_assert_eq!(back[i], f32::from(sixteen[i]) * scale);
        }
        let (qa, qb) = (bytes(n, 3), bytes(n, 4));
        let (ka, kb) = (Quant { scale: 0.5, zero: 10 }, Quant { scale: 0.3, zero: 200 });
        int8::add(&mut q, quant, (&qa, ka), (&qb, kb), 0.0, 3.0);
        for i in 0..n {
            let v = (f32::from(qa[i]) - 10.0) * (0.5 / scale) + (f32::from(qb[i]) - 200.0) * (0.3 / scale);
            prop_assert_eq!(q[i], requantized(0, 0.0, v, quant, 0.0, 3.0));
        }
    }

    #[test]
    fn images_load_and_average(n in 1..3usize, c in 1..6usize, pixels in 1..300usize, more in 0..3usize) {
        let stored = c + more;
        let input = values(n * c * pixels, 1);
        let mut got = vec![1; n * stored * pixels];
        bf16::load_nchw(&mut got, &input, c, pixels, stored);
        let quant = Quant::covering(-1.0, 1.0);
        let mut q = vec![1; got.len()];
        int8::load_nchw(&mut q, &input, c, pixels, stored, quant);
        for (i, (&g, &q)) in got.iter().zip(&q).enumerate() {
            let (image, pixel, channel) = (i / stored / pixels, i / stored % pixels, i % stored);
            let want = if channel < c { input[(image * c + channel) * pixels + pixel] } else { 0.0 };
            prop_assert_eq!(g, round(want));
            prop_assert!((quant.value(q) - want).abs() <= quant.scale * 0.5001);
        }
        let mut mean = vec![0.0; n * stored];
        bf16::global_average(&mut mean, &got, pixels, stored);
        for (i, &m) in mean.iter().enumerate() {
            let sum: f64 = (0..pixels).map(|p| f64::from(widen(got[(i / stored * pixels + p) * stored + i % stored]))).sum();
            prop_assert!((f64::from(m) - sum / pixels as f64).abs() < 1e-5);
        }
        int8::global_average(&mut mean, &q, pixels, stored, quant);
        for (i, &m) in mean.iter().enumerate() {
            let sum: f64 = (0..pixels).map(|p| f64::from(quant.value(q[(i / stored * pixels + p) * stored + i % stored]))).sum();
            prop_assert!((f64::from(m) - sum / pixels as f64).abs() < 1e-5);
        }
    }
}

#[test]
fn rounding_goes_to_even_and_keeps_not_a_number() {
    assert_eq!(round(1.0), 0x3f80);
    assert_eq!(round(f32::from_bits(0x3f80_8000)), 0x3f80);
    assert_eq!(round(f32::from_bits(0x3f81_8000)), 0x3f82);
    assert_eq!(round(f32::from_bits(0x3f80_8001)), 0x3f81);
    assert_eq!(round(f32::MAX), 0x7f80);
    assert_eq!(round(f32::NEG_INFINITY), 0xff80);
    assert!(widen(round(f32::NAN)).is_nan());
    assert!(widen(round(f32::from_bits(0x7f80_0001))).is_nan());
}

/// Sizes large enough for several tasks: no bit depends on their number.
#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let window = Window { kernel: [3; 2], stride: [1; 2], dilation: [1; 2], padding: [1; 2] };
    let shape = ConvShape { batch: 3, input: [20, 21], channels: 40, output: [20, 21], window };
    let weights = bf16::ConvWeights::new(&values(72 * 40 * 9, 1), 72, 40, 1, [3; 2], [1; 2]);
    let input = halves(&values(3 * 20 * 21 * 40, 2));
    let run = |threads: usize| {
        let mut out = vec![0; 3 * 20 * 21 * 72];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bf16::conv2d(bf16::Output::Bf16(&mut out), &input, &shape, &weights, &bf16::Epilogue::default()));
        out
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn weights_become_bytes_channel_by_channel() {
    let (bytes, scales) = int8::quantize_channels(&[1.0, -0.5, 0.0, 0.0, 254.0, -127.0], 3);
    assert_eq!(bytes, [127, -64, 0, 0, 127, -64]);
    assert_eq!(scales, [1.0 / 127.0, 1.0, 2.0]);
    let quant = Quant::covering(0.5, 5.1);
    assert_eq!((quant.zero, quant.value(255)), (0, 5.1));
    assert_eq!(Quant::covering(-1.0, 3.0).zero, 64);
}
