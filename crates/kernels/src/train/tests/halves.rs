//! Every kernel on bf16 is the one on f32 with its values widened and its results rounded once: the same bits, on every instruction set.

use proptest::prelude::*;

use crate::bf16::{round, widen};
use crate::dispatch::{Isa, Kernel, Simd};
use crate::tests::{shapes, values};
use crate::train::norm::moments_on;
use crate::train::sums::column_sums_on;
use crate::train::*;
use crate::value::{Value, convert, copy};
use crate::{Clamp, ConvShape, Epilogue, Function, Threads, Values, Window};

fn halves(count: usize, seed: u64) -> Vec<u16> {
    values(count, seed).into_iter().map(round).collect()
}

fn wide(values: &[u16]) -> Vec<f32> {
    values.iter().map(|&v| widen(v)).collect()
}

fn narrow(values: &[f32]) -> Vec<u16> {
    values.iter().map(|&v| round(v)).collect()
}

/// Forward, both gradients, and a gradient that is added, of either kind of value.
fn passes<T: Value>(c: &Convolution, [x, dy, old]: [&[T]; 3], weight: &[f32], epilogue: &Epilogue) -> ([Vec<T>; 3], Vec<f32>)
where
    for<'a> &'a [T]: Into<Values<'a>>,
    for<'a> &'a mut Vec<T>: Into<crate::ValuesMut<'a>>,
{
    let (mut y, mut dx, mut added) = (dy.to_vec(), x.to_vec(), old.to_vec());
    let mut dw = vec![f32::NAN; weight.len()];
    c.forward(&mut y, x, weight, epilogue);
    c.input_gradient(&mut dx, dy, weight, false);
    c.input_gradient(&mut added, dy, weight, true);
    c.weight_gradient(&mut dw, dy, x);
    ([y, dx, added], dw)
}

fn convolutions_agree(shape: &ConvShape, outputs: usize, groups: usize) {
    let bias = values(outputs, 5);
    for isa in Isa::available() {
        let c = Convolution::on(isa, *shape, outputs, groups);
        let (x, dy, weight) = (halves(c.input_len(), 1), halves(c.output_len(), 2), values(c.weight_len(), 3));
        let old = halves(x.len(), 4);
        let epilogue = Epilogue { bias: Some(&bias), clamp: Some(Clamp { low: -0.5, high: 2.0 }), ..Epilogue::default() };
        let (found, dw) = passes(&c, [&x, &dy, &old], &weight, &epilogue);
        let (want, want_dw) = passes(&c, [&wide(&x)[..], &wide(&dy), &wide(&old)], &weight, &epilogue);
        let what = format!("{} {shape:?} to {outputs} in {groups}", isa.name());
        for ((found, want), part) in found.iter().zip(&want).zip(["forward", "input gradient", "added input gradient"]) {
            assert!(*found == narrow(want), "{part}: {what}");
        }
        assert!(dw == want_dw, "weight gradient: {what}");
    }
}

fn square(batch: usize, input: [usize; 2], channels: usize, kernel: usize, stride: usize, pad: [usize; 2]) -> ConvShape {
    let input = input.map(|side| side.max(kernel));
    let window = Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], padding: [pad[0]; 2] };
    ConvShape { batch, input, channels, output: input.map(|side| (side + pad[0] + pad[1] - kernel) / stride + 1), window }
}

struct Convert<'a, T, U>(&'a mut [T], &'a [U]);

impl<T: Value, U: Value> Kernel for Convert<'_, T, U> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        convert(s, self.0, self.1);
    }
}

#[test]
fn values_are_rounded_to_the_nearest_even() {
    let corners = [0.0, -0.0, 1.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE, 1e-42];
    let ties = (0..64).map(|i| f32::from_bits(0x3f80_0000 + i * 0x4000));
    let nans = [0x7f80_0001, 0x7fff_ffff, 0xffff_ffff, 0xff80_0001].map(f32::from_bits);
    let all: Vec<f32> = corners.into_iter().chain(ties).chain(nans).chain(values(101, 1)).collect();
    for isa in Isa::available() {
        for len in (0..40).chain([all.len()]) {
            let x = &all[all.len() - len..];
            let (mut rounded, mut widened) = (vec![1; len], vec![1.0; len]);
            isa.run(Convert(&mut rounded, x));
            assert_eq!(rounded, narrow(x), "{}", isa.name());
            isa.run(Convert(&mut widened, &rounded));
            assert!(widened.iter().zip(&rounded).all(|(w, &r)| w.to_bits() == widen(r).to_bits()), "{}", isa.name());
        }
    }
    assert!(widen(round(f32::from_bits(0x7f80_0001))).is_nan());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn convolutions_of_any_window(shape in shapes(), each in 1..20usize, groups in 1..4usize) {
        let shape = ConvShape { channels: shape.channels.div_ceil(groups) * groups, ..shape };
        convolutions_agree(&shape, each * groups, groups);
    }

    #[test]
    fn dense_convolutions(input in (1..14usize, 1..14usize), c in 1..70usize, out in 1..70usize, kernel in 1..4usize,
                          stride in 1..3usize, pad in (0..2usize, 0..3usize), batch in 1..4usize) {
        convolutions_agree(&square(batch, input.into(), c, kernel, stride, pad.into()), out, 1);
    }

    #[test]
    fn depthwise_convolutions(input in (1..20usize, 1..20usize), c in 2..70usize, kernel in 1..4usize, stride in 1..4usize,
                              pad in (0..3usize, 0..4usize), batch in 1..4usize) {
        convolutions_agree(&square(batch, input.into(), c, 2 * kernel - 1, stride, pad.into()), c, c);
    }

    #[test]
    fn norms(rows in 1..12usize, c in 1..70usize, kind in 0..3usize, add: bool) {
        let clamp = [None, Some(Clamp::RELU), Some(Clamp { low: -0.5, high: 0.7 })][kind];
        let (x, dy, r, y) = (halves(rows * c, 1), halves(rows * c, 2), halves(rows * c, 5), halves(rows * c, 6));
        let (gamma, beta) = (values(c, 3), values(c, 4));
        let [wide_x, wide_r, wide_y] = [&x, &r, &y].map(|v| wide(v));
        for isa in Isa::available() {
            let [mut mean, mut variance, mut want_mean, mut want_variance] = [0; 4].map(|_| vec![f32::NAN; c]);
            moments_on(isa, &mut mean, &mut variance, &x);
            moments_on(isa, &mut want_mean, &mut want_variance, &wide_x);
            prop_assert!(mean == want_mean && variance == want_variance);
            let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + 1e-3).sqrt()).collect();
            let norm = BatchNorm { mean: &mean, inverse: &inverse, gamma: &gamma, beta: &beta, clamp, by_batch: true };
            let (mut out, mut want) = (vec![0; x.len()], vec![0.0; x.len()]);
            norm.forward_on(isa, &mut out, &x, add.then_some(&r[..]));
            norm.forward_on(isa, &mut want, &wide_x, add.then_some(&wide_r[..]));
            prop_assert_eq!(&out, &narrow(&want));
            let [mut dgamma, mut dbeta, mut want_dgamma, mut want_dbeta] = [0; 4].map(|_| vec![f32::NAN; c]);
            let (mut dx, mut want_dx, mut masked, mut want_masked) = (x.clone(), wide_x.clone(), dy.clone(), wide(&dy));
            if add {
                norm.backward_added_on(isa, [&mut dx, &mut masked], [&mut dgamma, &mut dbeta], &x, &y);
                norm.backward_added_on(isa, [&mut want_dx, &mut want_masked], [&mut want_dgamma, &mut want_dbeta], &wide_x, &wide_y);
                prop_assert_eq!(masked, narrow(&want_masked));
            } else {
                norm.backward_on(isa, &mut dx, [&mut dgamma, &mut dbeta], &x, &dy);
                norm.backward_on(isa, &mut want_dx, [&mut want_dgamma, &mut want_dbeta], &wide_x, &wide(&dy));
                if isa == Isa::best() {
                    norm.backward_in_place(&mut masked, &mut dgamma, &mut dbeta, &x);
                    prop_assert_eq!(&masked, &dx);
                }
            }
            prop_assert_eq!(&dx, &narrow(&want_dx));
            prop_assert!(dgamma == want_dgamma && dbeta == want_dbeta);
            let (mut sums, mut want_sums) = (vec![f32::NAN; c], vec![f32::NAN; c]);
            column_sums_on(isa, &mut sums, &dy);
            column_sums_on(isa, &mut want_sums, &wide(&dy));
            prop_assert_eq!(sums, want_sums);
            let (mut out, mut want) = (vec![0; x.len()], vec![0.0; x.len()]);
            layer_norm(&mut out, &x, &gamma, &beta, 1e-3);
            layer_norm(&mut want, &wide_x, &gamma, &beta, 1e-3);
            prop_assert_eq!(&out, &narrow(&want));
            layer_norm_gradient(&mut out, &mut dgamma, &mut dbeta, &x, &dy, &gamma, 1e-3);
            layer_norm_gradient(&mut want, &mut want_dgamma, &mut want_dbeta, &wide_x, &wide(&dy), &gamma, 1e-3);
            prop_assert_eq!(&out, &narrow(&want));
            prop_assert!(dgamma == want_dgamma && dbeta == want_dbeta);
        }
    }

    #[test]
    fn linear_layers(rows in 1..40usize, inputs in 1..90usize, outputs in 1..90usize) {
        let linear = Linear { rows, inputs, outputs };
        let (x, dy, weight, bias) = (halves(rows * inputs, 1), halves(rows * outputs, 2), values(inputs * outputs, 3), values(outputs, 4));
        let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
        let (mut y, mut want) = (vec![0; dy.len()], vec![0.0; dy.len()]);
        linear.forward(&mut y, &x, &weight, &epilogue);
        linear.forward(&mut want, &wide(&x), &weight, &epilogue);
        prop_assert_eq!(y, narrow(&want));
        let (mut dx, mut want) = (x.clone(), wide(&x));
        for add in [true, false] {
            linear.input_gradient(&mut dx, &dy, &weight, add);
            linear.input_gradient(&mut want, &wide(&dy), &weight, add);
            prop_assert_eq!(&dx, &narrow(&want));
        }
        let (mut dw, mut want) = (weight.clone(), weight.clone());
        linear.weight_gradient(&mut dw, &dy, &x);
        linear.weight_gradient(&mut want, &wide(&dy), &wide(&x));
        prop_assert_eq!(dw, want);
    }

    #[test]
    fn attentions(batch in 1..3usize, tokens in 1..7usize, heads in 1..4usize, size in 1..9usize) {
        let width = heads * size;
        let (qkv, dy) = (halves(batch * tokens * 3 * width, 1), halves(batch * tokens * width, 2));
        let (mut y, mut want, mut dqkv, mut want_dqkv) = (dy.clone(), wide(&dy), qkv.clone(), wide(&qkv));
        attention(&mut y, &qkv, tokens, width, heads);
        attention(&mut want, &wide(&qkv), tokens, width, heads);
        prop_assert_eq!(y, narrow(&want));
        attention_gradient(&mut dqkv, &qkv, &dy, tokens, width, heads);
        attention_gradient(&mut want_dqkv, &wide(&qkv), &wide(&dy), tokens, width, heads);
        prop_assert_eq!(dqkv, narrow(&want_dqkv));
    }

    #[test]
    fn pools(shape in shapes(), end in (0..2usize, 0..2usize), count_padding: bool) {
        let out = shape.pixels() * shape.channels;
        let (x, dy) = (halves(shape.batch * shape.input[0] * shape.input[1] * shape.channels, 1), halves(out, 2));
        let (mut y, mut places, mut want, mut want_places) = (vec![0; out], vec![0; out], vec![0.0; out], vec![0; out]);
        max_pool(&mut y, &mut places, &x, &shape);
        max_pool(&mut want, &mut want_places, &wide(&x), &shape);
        prop_assert!(y == narrow(&want) && places == want_places);
        let (mut dx, mut want_dx) = (x.clone(), wide(&x));
        max_pool_gradient(&mut dx, &dy, &places, &shape);
        max_pool_gradient(&mut want_dx, &wide(&dy), &places, &shape);
        prop_assert_eq!(&dx, &narrow(&want_dx));
        average_pool_gradient(&mut dx, &dy, &shape, end.into(), count_padding);
        average_pool_gradient(&mut want_dx, &wide(&dy), &shape, end.into(), count_padding);
        prop_assert_eq!(&dx, &narrow(&want_dx));
        average_pool(&mut y, &x, &shape, end.into(), count_padding);
        average_pool(&mut want, &wide(&x), &shape, end.into(), count_padding);
        prop_assert_eq!(y, narrow(&want));
    }

    #[test]
    fn elementwise(n in 1..4usize, pixels in 1..30usize, c in 1..40usize, kind in 0..8usize) {
        let bounds = Clamp { low: -0.3, high: 0.4 };
        use Function::{Gelu, HardSigmoid, HardSwish, Relu, Relu6, Sigmoid, Silu, Tanh};
        let function = [Relu, Relu6, Gelu, Silu, HardSwish, HardSigmoid, Sigmoid, Tanh][kind];
        let len = n * pixels * c;
        let (x, gates, dy) = (halves(len, 1), halves(n * c, 2), halves(len, 3));
        let (wide_x, wide_gates, wide_dy) = (wide(&x), wide(&gates), wide(&dy));
        let (mut y, mut want) = (vec![0; len], vec![0.0; len]);
        macro_rules! agree {
            ($call:ident($($narrow:expr),*; $($wide:expr),*; $($rest:expr),*)) => {
                $call(&mut y, $($narrow,)* $($rest),*);
                $call(&mut want, $($wide,)* $($rest),*);
                prop_assert_eq!(&y, &narrow(&want), "{}", stringify!($call));
                want = wide(&y);
            };
        }
        agree!(clamp(&x; &wide_x; bounds));
        agree!(apply(&x; &wide_x; function));
        agree!(function_gradient(&x, &dy; &wide_x, &wide_dy; function));
        agree!(add(&x, &dy; &wide_x, &wide_dy; ));
        agree!(clamp_gradient_in_place(&x; &wide_x; bounds));
        agree!(multiply(&x, &dy; &wide_x, &wide_dy; ));
        agree!(add_into(&x; &wide_x; ));
        agree!(gate(&x, &gates; &wide_x, &wide_gates; pixels, c));
        agree!(global_average_gradient(&gates; &wide_gates; pixels, c));
        agree!(mask(&x; &wide_x; &wide_dy, 1));
        agree!(mask_in_place(; ; &wide_gates, pixels));
        agree!(channels_last(&x; &wide_x; c, pixels));
        let (mut dgates, mut want_dgates, mut want_y) = (vec![0; n * c], vec![0.0; n * c], vec![0.0; len]);
        gate_gradient(&mut y, &mut dgates, &x, &gates, &dy, pixels, c);
        gate_gradient(&mut want_y, &mut want_dgates, &wide_x, &wide_gates, &wide_dy, pixels, c);
        prop_assert!(y == narrow(&want_y) && dgates == narrow(&want_dgates));
        global_average(&mut dgates, &x, pixels, c);
        global_average(&mut want_dgates, &wide_x, pixels, c);
        prop_assert_eq!(dgates, narrow(&want_dgates));
        copy(&mut want, &x);
        prop_assert_eq!(want, wide_x);
    }
}

/// Sizes at which rows, panels, lines and sums are worked on in several blocks, and several threads share them.
#[test]
fn large_convolutions() {
    for threads in [1, 3] {
        Threads::new(threads).unwrap().install(|| {
            convolutions_agree(&square(3, [17, 23], 64, 3, 1, [1, 1]), 40, 1);
            convolutions_agree(&square(2, [16, 16], 48, 3, 2, [0, 1]), 72, 1);
            convolutions_agree(&square(9, [4, 4], 96, 3, 1, [1, 1]), 80, 1);
            convolutions_agree(&square(4, [20, 20], 500, 1, 1, [0, 0]), 100, 1);
            convolutions_agree(&square(2, [30, 30], 3, 3, 2, [0, 1]), 32, 1);
            convolutions_agree(&square(2, [40, 30], 40, 5, 2, [1, 2]), 40, 40);
        });
    }
}
