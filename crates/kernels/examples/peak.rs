//! Every kernel at shapes of real networks, with its share of this machine's measured peak:
//! `cargo run --release -p fieldmark-kernels --example peak -- [train] [WORD]` (`RAYON_NUM_THREADS=1` for one core; with a word, rows that name it).
//!
//! The peak of arithmetic is a loop of fused multiply-adds on registers, on as many threads; the peak of memory a copy of 256 MiB. A share of
//! arithmetic above 1 is Winograd's: it is given in the operations of the plain convolution.

use std::hint::black_box;
use std::time::Instant;

use fieldmark_kernels::train::{
    BatchNorm, Convolution, Linear, Sgd, add_into, attention_gradient, clamp_gradient_in_place, column_sums, function_gradient,
    layer_norm_gradient, max_pool_gradient, moments,
};
use fieldmark_kernels::{
    Clamp, ConvShape, Epilogue, Function, Isa, Matrix, PackedB, Values, Window, activate, attention, conv2d, depthwise, gemm_packed,
    layer_norm, max_pool, max_pool_with_argmax, multiply_adds, softmax,
};
use rayon::prelude::*;

/// Fastest of some runs, in seconds.
fn fastest(mut run: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..9).map(time).fold(f64::INFINITY, f64::min)
}

/// Floating-point operations a second of all threads.
fn peak_arithmetic() -> f64 {
    let threads = rayon::current_num_threads();
    let mut operations = 0;
    let seconds = fastest(|| {
        operations = (0..threads).into_par_iter().with_max_len(1).map(|_| multiply_adds(black_box(1_000_000))).sum();
    });
    operations as f64 / seconds
}

/// Bytes read and written a second by all threads.
fn peak_memory() -> f64 {
    let from = vec![1.0f32; 64 << 20];
    let mut to = vec![0.0f32; from.len()];
    let chunk = from.len() / rayon::current_num_threads();
    let seconds = fastest(|| to.par_chunks_mut(chunk).zip(from.par_chunks(chunk)).for_each(|(to, from)| to.copy_from_slice(from)));
    (from.len() * 8) as f64 / seconds
}

struct Table {
    arithmetic: f64,
    memory: f64,
    word: String,
}

impl Table {
    /// One row: `operations` and floats moved at least; the larger of the two shares says what binds.
    fn row(&self, name: &str, operations: usize, floats_moved: usize, run: impl FnMut()) {
        if !name.contains(&self.word) {
            return;
        }
        let seconds = fastest(run);
        let (rate, bytes) = (operations as f64 / seconds, floats_moved as f64 * 4.0 / seconds);
        println!(
            "{name:<58} {:>9.1} us {:>8.1} GFLOP/s {:>5.2} of peak {:>7.1} GB/s {:>5.2}",
            seconds * 1e6,
            rate / 1e9,
            rate / self.arithmetic,
            bytes / 1e9,
            bytes / self.memory
        );
    }
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}

fn products(table: &Table) {
    for (name, m, k, n) in [
        ("product 1024³", 1024, 1024, 1024),
        ("1×1, Lite0 stage 1, 16 → 96, batch 8", 8 * 12544, 16, 96),
        ("1×1, Lite0 stage 5, 480 → 112, batch 8", 8 * 196, 480, 112),
        ("1×1, Lite0 stage 6, 192 → 1152", 49, 192, 1152),
        ("linear, 1280 → 1000", 1, 1280, 1000),
    ] {
        let (a, b) = (values(m * k), values(k * n));
        let (mut c, packed) = (vec![0.0; m * n], PackedB::new(Matrix::new(&b, k, n)));
        table.row(name, 2 * m * k * n, m * k + k * n + m * n, || {
            gemm_packed(&mut c, Matrix::new(&a, m, k), &packed, false, &Epilogue::default());
        });
    }
}

/// A square window of a square map, padded like PyTorch's or TensorFlow's networks: the output has a pixel for each stride.
fn square(batch: usize, side: usize, channels: usize, kernel: usize, stride: usize) -> ConvShape {
    let window = Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], padding: [kernel / 2; 2] };
    ConvShape { batch, input: [side; 2], channels, output: [side.div_ceil(stride); 2], window }
}

fn convolutions(table: &Table) {
    for (name, out, shape) in [
        ("7×7 stride 2, ResNet stem", 64, square(1, 224, 3, 7, 2)),
        ("3×3, 64 → 64 at 56", 64, square(1, 56, 64, 3, 1)),
        ("3×3, 256 → 256 at 14", 256, square(1, 14, 256, 3, 1)),
        ("3×3, 512 → 512 at 7, batch 8", 512, square(8, 7, 512, 3, 1)),
        ("3×3 stride 2, 128 → 256 at 28", 256, square(1, 28, 128, 3, 2)),
    ] {
        let (pixels, k) =
            (shape.batch * shape.output[0] * shape.output[1], shape.window.kernel[0] * shape.window.kernel[1] * shape.channels);
        let (input, weights) = (values(shape.batch * shape.input[0] * shape.input[1] * shape.channels), values(k * out));
        let (mut output, groups) = (vec![0.0; pixels * out], [PackedB::new(Matrix::new(&weights, k, out))]);
        let epilogue = Epilogue { clamp: Some(Clamp::RELU), ..Epilogue::default() };
        table.row(name, 2 * pixels * k * out, input.len() + weights.len() + output.len(), || {
            conv2d(&mut output, &input, &shape, &groups, &epilogue);
        });
    }
    for (name, shape) in [
        ("depthwise 3×3, 96 at 112, stride 2", square(1, 112, 96, 3, 2)),
        ("depthwise 3×3, 144 at 56", square(1, 56, 144, 3, 1)),
        ("depthwise 5×5, 672 at 14, batch 8", square(8, 14, 672, 5, 1)),
    ] {
        let taps = shape.window.kernel[0] * shape.window.kernel[1];
        let (input, weights) = (values(shape.batch * shape.input[0] * shape.input[1] * shape.channels), values(taps * shape.channels));
        let mut output = vec![0.0; shape.batch * shape.output[0] * shape.output[1] * shape.channels];
        table.row(name, 2 * output.len() * taps, input.len() + output.len(), || {
            depthwise(&mut output, &input, &shape, &weights, None, Some(Clamp::RELU6));
        });
    }
}

fn the_rest(table: &Table) {
    let shape = square(8, 112, 64, 3, 2);
    let (input, mut output) = (values(8 * 112 * 112 * 64), vec![0.0; 8 * 56 * 56 * 64]);
    table.row("max pool 3×3 stride 2, 64 at 112, batch 8", output.len() * 9, input.len() + output.len(), || {
        max_pool(&mut output, &input, &shape);
    });
    let (tokens, width, heads) = (197, 192, 3);
    let (qkv, mut mixed) = (values(tokens * width * 3), vec![0.0; tokens * width]);
    table.row("attention, 197 tokens, 3 heads of 64", 4 * tokens * tokens * width, qkv.len() + mixed.len(), || {
        attention(&mut mixed, &qkv, tokens, width, heads);
    });
    let (scale, shift, rows) = (values(width), values(width), values(8 * tokens * width));
    let mut normal = vec![0.0; rows.len()];
    table.row("layer norm, 197 × 192, batch 8", 8 * rows.len(), 2 * rows.len(), || layer_norm(&mut normal, &rows, &scale, &shift, 1e-6));
    let mut wide = values(8 * tokens * 768);
    table.row("GELU, 197 × 768, batch 8", 20 * wide.len(), 2 * wide.len(), || activate(&mut wide, Function::Gelu));
    let mut scores = values(3 * 197 * 197);
    table.row("softmax, 591 rows of 197", 10 * scores.len(), 2 * scores.len(), || softmax(&mut scores, 197));
}

/// Forward and both gradients of a convolution.
fn trained(table: &Table, name: &str, shape: ConvShape, outputs: usize, groups: usize) {
    let c = Convolution::new(shape, outputs, groups);
    let operations = 2 * c.output_len() * c.weight_len() / outputs;
    let moved = c.input_len() + c.output_len() + c.weight_len();
    let (mut x, mut y, mut w) = (values(c.input_len()), values(c.output_len()), values(c.weight_len()));
    table.row(&format!("{name}, forward"), operations, moved, || c.forward(&mut y, &x, &w, &Epilogue::default()));
    table.row(&format!("{name}, by weight"), operations, moved, || c.weight_gradient(&mut w, &y, &x));
    if shape.channels > 3 {
        table.row(&format!("{name}, by input"), operations, moved, || c.input_gradient(&mut x, &y, &w, false));
    }
}

fn training_convolutions(table: &Table) {
    for (name, outputs, groups, shape) in [
        ("ResNet 3×3, 3 → 64 at 32, batch 32", 64, 1, square(32, 32, 3, 3, 1)),
        ("ResNet 3×3, 64 → 64 at 32, batch 32", 64, 1, square(32, 32, 64, 3, 1)),
        ("ResNet 3×3, 128 → 128 at 16, batch 32", 128, 1, square(32, 16, 128, 3, 1)),
        ("ResNet 3×3, 256 → 256 at 8, batch 32", 256, 1, square(32, 8, 256, 3, 1)),
        ("ResNet 3×3, 512 → 512 at 4, batch 32", 512, 1, square(32, 4, 512, 3, 1)),
        ("ResNet 3×3 stride 2, 64 → 128 at 32, batch 32", 128, 1, square(32, 32, 64, 3, 2)),
        ("ResNet 3×3 stride 2, 256 → 512 at 8, batch 32", 512, 1, square(32, 8, 256, 3, 2)),
        ("ResNet 1×1 stride 2, 64 → 128 at 32, batch 32", 128, 1, square(32, 32, 64, 1, 2)),
        ("MNIST 3×3, 1 → 32 at 28, batch 64", 32, 1, square(64, 28, 1, 3, 1)),
        ("MNIST 3×3, 32 → 64 at 26, batch 64", 64, 1, square(64, 26, 32, 3, 1)),
        ("Lite0 stem 3×3 stride 2 at 224, batch 8", 32, 1, square(8, 224, 3, 3, 2)),
        ("Lite0 1×1, 32 → 16 at 112, batch 8", 16, 1, square(8, 112, 32, 1, 1)),
        ("Lite0 1×1, 16 → 96 at 112, batch 8", 96, 1, square(8, 112, 16, 1, 1)),
        ("Lite0 1×1, 144 → 24 at 56, batch 8", 24, 1, square(8, 56, 144, 1, 1)),
        ("Lite0 1×1, 80 → 480 at 14, batch 8", 480, 1, square(8, 14, 80, 1, 1)),
        ("Lite0 1×1, 1152 → 192 at 7, batch 8", 192, 1, square(8, 7, 1152, 1, 1)),
        ("Lite0 depthwise 3×3, 32 at 112, batch 8", 32, 32, square(8, 112, 32, 3, 1)),
        ("Lite0 depthwise 3×3 stride 2, 96 at 112, batch 8", 96, 96, square(8, 112, 96, 3, 2)),
        ("Lite0 depthwise 5×5 stride 2, 144 at 56, batch 8", 144, 144, square(8, 56, 144, 5, 2)),
        ("Lite0 depthwise 5×5, 672 at 14, batch 8", 672, 672, square(8, 14, 672, 5, 1)),
    ] {
        trained(table, name, shape, outputs, groups);
    }
}

fn training_norms(table: &Table) {
    for (name, rows, c, add) in [
        ("batch norm, 96 at 112, batch 8", 8 * 12544, 96, false),
        ("batch norm, 24 at 56, batch 8", 8 * 3136, 24, false),
        ("batch norm with residual, 64 at 32, batch 32", 32 * 1024, 64, true),
    ] {
        let (x, mut dy, residual) = (values(rows * c), values(rows * c), values(rows * c));
        let (mut mean, mut variance, gamma, beta) = (vec![0.0; c], vec![0.0; c], values(c), values(c));
        let (mut y, mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; c], vec![0.0; c]);
        table.row(&format!("{name}, statistics"), 3 * x.len(), x.len(), || moments(&mut mean, &mut variance, &x));
        let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + 1e-3).sqrt()).collect();
        let norm = BatchNorm { mean: &mean, inverse: &inverse, gamma: &gamma, beta: &beta, clamp: Some(Clamp::RELU6), by_batch: true };
        let moved = x.len() * if add { 3 } else { 2 };
        table.row(&format!("{name}, forward"), 2 * x.len(), moved, || norm.forward(&mut y, &x, add.then_some(Values::F32(&residual[..]))));
        if add {
            table.row(&format!("{name}, backward"), 10 * x.len(), 7 * x.len(), || {
                norm.backward_added(&mut dx, &mut dy, &mut dgamma, &mut dbeta, &x, &y);
            });
        } else {
            table.row(&format!("{name}, backward"), 10 * x.len(), 5 * x.len(), || {
                norm.backward(&mut dx, &mut dgamma, &mut dbeta, &x, &dy);
            });
        }
    }
}

fn training_rest(table: &Table) {
    let shape =
        ConvShape { window: Window { padding: [0; 2], kernel: [2; 2], ..square(1, 1, 1, 1, 2).window }, ..square(64, 24, 64, 2, 2) };
    let (mut x, y) = (values(64 * 576 * 64), values(64 * 144 * 64));
    let (mut out, mut argmax) = (vec![0.0; y.len()], vec![0; y.len()]);
    table.row("max pool 2×2, 64 at 24, batch 64, forward", 4 * y.len(), x.len() + 2 * y.len(), || {
        max_pool_with_argmax(&mut out, &mut argmax, &x, &shape);
    });
    table.row("max pool 2×2, 64 at 24, batch 64, backward", 4 * y.len(), x.len() + 2 * y.len(), || {
        max_pool_gradient(&mut x, &y, &argmax, &shape);
    });
    let (y, mut dy, mut sums) = (values(64 * 576 * 64), values(64 * 576 * 64), vec![0.0; 64]);
    table.row("ReLU backward, 64 at 24, batch 64", y.len(), 3 * y.len(), || clamp_gradient_in_place(&mut dy, &y, Clamp::RELU));
    table.row("bias gradient, 64 at 24, batch 64", y.len(), y.len(), || column_sums(&mut sums, &y));
    table.row("sum of two gradients, 64 at 24, batch 64", y.len(), 3 * y.len(), || add_into(&mut dy, &y));
    for (name, rows, inputs, outputs) in
        [("linear 9216 → 128, batch 64", 64, 9216, 128), ("ViT linear 192 → 768, batch 8", 8 * 197, 192, 768)]
    {
        let linear = Linear { rows, inputs, outputs };
        let (mut x, mut y, mut w) = (values(rows * inputs), values(rows * outputs), values(inputs * outputs));
        let (operations, moved) = (2 * rows * inputs * outputs, x.len() + y.len() + w.len());
        table.row(&format!("{name}, forward"), operations, moved, || linear.forward(&mut y, &x, &w, &Epilogue::default()));
        table.row(&format!("{name}, by weight"), operations, moved, || linear.weight_gradient(&mut w, &y, &x));
        table.row(&format!("{name}, by input"), operations, moved, || linear.input_gradient(&mut x, &y, &w, false));
    }
    let (tokens, width) = (8 * 197, 192);
    let (x, dy, weight) = (values(tokens * width), values(tokens * width), values(width));
    let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; width], vec![0.0; width]);
    table.row("layer norm, 197 × 192, batch 8, backward", 16 * x.len(), 3 * x.len(), || {
        layer_norm_gradient(&mut dx, &mut dw, &mut db, &x, &dy, &weight, 1e-6);
    });
    let (x, dy) = (values(tokens * 768), values(tokens * 768));
    let mut dx = vec![0.0; x.len()];
    table.row("GELU, 197 × 768, batch 8, backward", 30 * x.len(), 3 * x.len(), || function_gradient(&mut dx, &x, &dy, Function::Gelu));
    let (qkv, dy) = (values(3 * tokens * width), values(tokens * width));
    let mut dqkv = vec![0.0; qkv.len()];
    table.row("attention, 197 tokens, 3 heads of 64, batch 8, backward", 10 * tokens * 197 * width, 7 * dy.len(), || {
        attention_gradient(&mut dqkv, &qkv, &dy, 197, width, 3);
    });
    let (g, mut w, mut m) = (values(11 << 20), values(11 << 20), vec![0.0; 11 << 20]);
    let rule = Sgd { lr: 0.01, momentum: 0.9, nesterov: true, decay: 1e-4, l1: 0.0, first: false };
    table.row("SGD with momentum, 11.5 million weights", 8 * g.len(), 5 * g.len(), || rule.step(&mut w, &g, &mut m));
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let training = arguments.iter().any(|a| a == "train");
    let word = arguments.into_iter().find(|a| a != "train").unwrap_or_default();
    let table = Table { arithmetic: peak_arithmetic(), memory: peak_memory(), word };
    println!(
        "instruction set {}, {} threads; peak {:.0} GFLOP/s, {:.1} GB/s\n",
        Isa::best().name(),
        rayon::current_num_threads(),
        table.arithmetic / 1e9,
        table.memory / 1e9
    );
    if training {
        training_convolutions(&table);
        training_norms(&table);
        return training_rest(&table);
    }
    products(&table);
    convolutions(&table);
    the_rest(&table);
}
