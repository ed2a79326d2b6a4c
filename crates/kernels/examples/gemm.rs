//! Times matrix products: `cargo run --release -p fieldmark-kernels --example gemm`.

use std::time::Instant;

use fieldmark_kernels::{Epilogue, Isa, Matrix, PackedB, gemm_packed};

fn main() {
    println!("instruction set {}, {} threads", Isa::best().name(), rayon::current_num_threads());
    let shapes = [
        (1024, 1024, 1024),
        (12544 * 8, 32, 16),
        (12544 * 8, 16, 96),
        (3136 * 8, 24, 144),
        (3136 * 8, 144, 24),
        (784 * 8, 240, 40),
        (196 * 8, 480, 112),
        (196, 672, 112),
        (196, 112, 672),
        (49, 1152, 192),
        (49, 192, 1152),
        (49, 320, 1280),
        (1, 1280, 1000),
    ];
    for (m, k, n) in shapes {
        let (a, b) = (vec![0.5; m * k], vec![0.25; k * n]);
        let (mut c, packed) = (vec![0.0; m * n], PackedB::new(Matrix::new(&b, k, n)));
        let mut best = f64::INFINITY;
        for _ in 0..15 {
            let start = Instant::now();
            gemm_packed(&mut c, Matrix::new(&a, m, k), &packed, false, &Epilogue::default());
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!("{m:>7} × {k:>5} × {n:>5}: {:>8.1} us {:>7.1} GFLOP/s", best * 1e6, 2e-9 * (m * k * n) as f64 / best);
    }
}
