//! Times depthwise convolutions of EfficientNet-Lite0: `RAYON_NUM_THREADS=1 cargo run --release -p fieldmark-kernels --example depthwise`.

use std::time::Instant;

use fieldmark_kernels::{Buffer, ConvShape, Window, depthwise};

fn main() {
    for (size, channels, kernel, stride) in [
        (112, 32, 3, 1),
        (112, 96, 3, 2),
        (56, 144, 3, 1),
        (56, 144, 5, 2),
        (28, 240, 5, 1),
        (14, 480, 3, 1),
        (14, 672, 5, 1),
        (7, 1152, 5, 1),
    ] {
        let out = size / stride;
        let padding = [usize::div_ceil(kernel - stride, 2); 2];
        let window = Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], padding };
        let shape = ConvShape { batch: 1, input: [size; 2], channels, output: [out; 2], window };
        let (mut input, weights) = (Buffer::zeros(size * size * channels), vec![0.25; kernel * kernel * channels]);
        input.fill(0.5);
        let mut output = Buffer::zeros(out * out * channels);
        let mut best = f64::INFINITY;
        for _ in 0..50 {
            let start = Instant::now();
            depthwise(&mut output, &input, &shape, &weights, None, None);
            best = best.min(start.elapsed().as_secs_f64());
        }
        let work = 2e-9 * (out * out * channels * kernel * kernel) as f64;
        println!("{size:>4} × {channels:>5}, {kernel} × {kernel} / {stride}: {:>7.1} us {:>6.1} GFLOP/s", best * 1e6, work / best);
    }
}
