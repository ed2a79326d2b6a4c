//! Times bf16 products: `RAYON_NUM_THREADS=1 cargo run --release -p fieldmark-kernels --example bf16`.

use std::time::Instant;

use fieldmark_kernels::{ConvShape, Window, bf16};

fn main() {
    println!("{} threads, bf16 {}", rayon::current_num_threads(), bf16::method());
    // [size, channels in, channels out, kernel, stride]
    for [size, channels, out, kernel, stride] in [
        [224, 4, 32, 3, 2],
        [112, 32, 16, 1, 1],
        [112, 16, 96, 1, 1],
        [56, 24, 144, 1, 1],
        [56, 144, 24, 1, 1],
        [28, 240, 40, 1, 1],
        [28, 40, 240, 1, 1],
        [14, 480, 112, 1, 1],
        [14, 112, 672, 1, 1],
        [14, 672, 112, 1, 1],
        [7, 1152, 192, 1, 1],
        [7, 192, 1152, 1, 1],
        [7, 320, 1280, 1, 1],
        [224, 4, 64, 7, 2],
        [56, 64, 64, 3, 1],
        [28, 128, 128, 3, 1],
        [14, 256, 256, 3, 1],
        [7, 512, 512, 3, 1],
    ] {
        let side = size / stride;
        let window = Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], padding: [(kernel - 1) / 2; 2] };
        let shape = ConvShape { batch: 1, input: [size; 2], channels, output: [side; 2], window };
        let weights = bf16::ConvWeights::new(&vec![0.25; out * channels * kernel * kernel], out, channels, 1, [kernel; 2], [1; 2]);
        let (input, mut output) = (vec![bf16::round(0.5); size * size * channels], vec![0; side * side * out]);
        let mut best = f64::INFINITY;
        for _ in 0..30 {
            let start = Instant::now();
            bf16::conv2d(bf16::Output::Bf16(&mut output), &input, &shape, &weights, &bf16::Epilogue::default());
            best = best.min(start.elapsed().as_secs_f64());
        }
        let work = 2e-9 * (side * side * channels * out * kernel * kernel) as f64;
        println!("{size:>4} × {channels:>5} -> {out:>5}, {kernel} / {stride}: {:>8.1} us {:>7.1} GFLOP/s", best * 1e6, work / best);
    }
}
