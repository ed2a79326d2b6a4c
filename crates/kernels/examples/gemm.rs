//! Times matrix products: `cargo run --release -p fieldmark-kernels --example gemm`.
//!
//! With `RAYON_NUM_THREADS=1` the second figure, by the thread's own clock, holds on a busy machine too.

use std::time::{Duration, Instant};

use fieldmark_kernels::{Epilogue, Isa, Matrix, PackedB, gemm_packed};

#[repr(C)]
struct TimeSpec(i64, i64);

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut TimeSpec) -> i32;
}

/// Time that this thread has had a processor (Linux).
fn thread_time() -> Duration {
    let mut time = TimeSpec(0, 0);
    // SAFETY: `time` is a timespec; 3 is CLOCK_THREAD_CPUTIME_ID.
    unsafe { clock_gettime(3, &mut time) };
    Duration::new(time.0 as u64, time.1 as u32)
}

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
        let (mut best, mut best_own) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..15 {
            let (start, own) = (Instant::now(), thread_time());
            gemm_packed(&mut c, Matrix::new(&a, m, k), &packed, false, &Epilogue::default());
            best = best.min(start.elapsed().as_secs_f64());
            best_own = best_own.min((thread_time() - own).as_secs_f64());
        }
        let work = 2e-9 * (m * k * n) as f64;
        println!("{m:>7} × {k:>5} × {n:>5}: {:>8.1} us {:>7.1} GFLOP/s, own {:>7.1}", best * 1e6, work / best, work / best_own);
    }
}
