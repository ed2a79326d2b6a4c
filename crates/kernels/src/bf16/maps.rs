//! Elementwise work and pooling on bf16 maps, NHWC. Sums and functions are f32 inside.

use crate::bf16::isa::{Bf16, Loops, looped};
use crate::bf16::{round, widen};
use crate::elementwise::Function;
use crate::largest::{each_row, largest_row};
use crate::pool::PoolShape;
use crate::threads::each_chunk;

/// Values a task.
const CHUNK: usize = 16_384;

struct Zip<'a, F>(&'a mut [u16], &'a [u16], &'a [u16], F);

impl<F: Fn(f32, f32) -> f32> Loops for Zip<'_, F> {
    #[inline(always)]
    fn run(self) {
        let Self(out, a, b, f) = self;
        out.iter_mut().zip(a).zip(b).for_each(|((o, &a), &b)| *o = round(f(widen(a), widen(b))));
    }
}

fn zip(output: &mut [u16], a: &[u16], b: &[u16], f: impl Fn(f32, f32) -> f32 + Sync + Copy) {
    assert!(output.len() == a.len() && a.len() == b.len(), "equal lengths");
    let isa = Bf16::best();
    each_chunk(output, CHUNK, |i, o| {
        let part = i * CHUNK..i * CHUNK + o.len();
        looped(isa, Zip(o, &a[part.clone()], &b[part], f));
    });
}

/// `output = a + b`.
///
/// # Panics
/// Where lengths differ.
pub fn add(output: &mut [u16], a: &[u16], b: &[u16]) {
    zip(output, a, b, |a, b| a + b);
}

/// `output = a * b`.
///
/// # Panics
/// Where lengths differ.
pub fn multiply(output: &mut [u16], a: &[u16], b: &[u16]) {
    zip(output, a, b, |a, b| a * b);
}

/// Applies a function in place.
pub fn activate(values: &mut [u16], function: Function) {
    struct Apply<'a>(&'a mut [u16], Function);
    impl Loops for Apply<'_> {
        #[inline(always)]
        fn run(self) {
            macro_rules! each {
                ($($name:ident),*) => { match self.1 { $(Function::$name => self.0.iter_mut().for_each(|x| *x = round(Function::$name.of(widen(*x)))),)* } };
            }
            each!(Relu, Relu6, Gelu, Silu, HardSwish, HardSigmoid, Sigmoid, Tanh);
        }
    }
    let isa = Bf16::best();
    each_chunk(values, CHUNK, |_, chunk| looped(isa, Apply(chunk, function)));
}

/// `output [N, pixels, C] = input [N, pixels, C] * gates [N, C]`.
///
/// # Panics
/// Where sizes disagree.
pub fn gate_channels(output: &mut [u16], input: &[u16], gates: &[u16], pixels: usize, channels: usize) {
    struct Gate<'a>(&'a mut [u16], &'a [u16], &'a [u16]);
    impl Loops for Gate<'_> {
        #[inline(always)]
        fn run(self) {
            let Self(out, input, gates) = self;
            for (o, x) in out.chunks_exact_mut(gates.len()).zip(input.chunks_exact(gates.len())) {
                o.iter_mut().zip(x).zip(gates).for_each(|((o, &x), &g)| *o = round(widen(x) * widen(g)));
            }
        }
    }
    assert!(output.len() == input.len() && input.len() == gates.len() * pixels, "one gate a channel and image");
    let (isa, image) = (Bf16::best(), (pixels * channels).max(1));
    each_chunk(output, image, |n, o| looped(isa, Gate(o, &input[n * image..(n + 1) * image], &gates[n * channels..(n + 1) * channels])));
}

/// One row of a pooling's output: the mean of the values under each window.
struct MeanRow<'a, E> {
    out: &'a mut [u16],
    image: &'a [u16],
    shape: &'a PoolShape,
    y: usize,
    divisor: E,
}

impl<E: Fn(usize, usize) -> f32> Loops for MeanRow<'_, E> {
    #[inline(always)]
    fn run(self) {
        let (c, [h, w], window) = (self.shape.channels, self.shape.input, self.shape.window);
        let mut sums = vec![0.0f32; c];
        for (x, out) in self.out.chunks_exact_mut(c).enumerate() {
            sums.fill(0.0);
            let mut count = 0;
            for sy in (0..window.kernel[0]).filter_map(|ky| window.source(0, self.y, ky, h)) {
                for sx in (0..window.kernel[1]).filter_map(|kx| window.source(1, x, kx, w)) {
                    count += 1;
                    sums.iter_mut().zip(&self.image[(sy * w + sx) * c..][..c]).for_each(|(s, &v)| *s += widen(v));
                }
            }
            let scale = 1.0 / (self.divisor)(x, count);
            out.iter_mut().zip(&sums).for_each(|(o, &s)| *o = round(s * scale));
        }
    }
}

/// One row of a pooling's output: the largest value under each window.
struct LargestRow<'a> {
    out: &'a mut [u16],
    image: &'a [u16],
    shape: &'a PoolShape,
    y: usize,
}

impl Loops for LargestRow<'_> {
    #[inline(always)]
    fn run(self) {
        largest_row(self.out, self.image, self.shape, self.y);
    }
}

/// Maxima; padding never wins, NaN always does.
///
/// # Panics
/// Where sizes disagree.
pub fn max_pool(output: &mut [u16], input: &[u16], shape: &PoolShape) {
    let isa = Bf16::best();
    each_row(output, input, shape, |out, y, image| looped(isa, LargestRow { out, image, shape, y }));
}

/// Means; `padding_end` and `count_padding` as in [`crate::average_pool`].
///
/// # Panics
/// Where sizes disagree.
pub fn average_pool(output: &mut [u16], input: &[u16], shape: &PoolShape, padding_end: [usize; 2], count_padding: bool) {
    let isa = Bf16::best();
    each_row(output, input, shape, |out, y, image| {
        let divisor = |x: usize, count: usize| {
            let inside = shape.padded_taps(0, y, padding_end[0]) * shape.padded_taps(1, x, padding_end[1]);
            (if count_padding { inside } else { count }).max(1) as f32
        };
        looped(isa, MeanRow { out, image, shape, y, divisor });
    });
}

/// Means over all `pixels` of each image: `[N, pixels, C] -> [N, C]`, in f32.
///
/// # Panics
/// Where sizes disagree.
pub fn global_average(output: &mut [f32], input: &[u16], pixels: usize, channels: usize) {
    struct Mean<'a>(&'a mut [f32], &'a [u16], usize);
    impl Loops for Mean<'_> {
        #[inline(always)]
        fn run(self) {
            let Self(out, image, pixels) = self;
            out.fill(0.0);
            for pixel in image.chunks_exact(out.len()) {
                out.iter_mut().zip(pixel).for_each(|(o, &v)| *o += widen(v));
            }
            let scale = 1.0 / pixels.max(1) as f32;
            out.iter_mut().for_each(|o| *o *= scale);
        }
    }
    assert_eq!(output.len() * pixels, input.len(), "input and output");
    let isa = Bf16::best();
    let image = pixels * channels;
    each_chunk(output, channels, |n, out| looped(isa, Mean(out, &input[n * image..(n + 1) * image], pixels)));
}
