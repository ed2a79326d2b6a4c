//! The measured peak of arithmetic: what every kernel's speed is a share of.

use crate::dispatch::{Isa, Kernel, Simd};

/// Multiply-adds on registers, on this thread: `turns` times twelve independent ones, enough to hide their latency. Returns their
/// floating-point operations.
pub fn multiply_adds(turns: usize) -> usize {
    Isa::best().run(Chains(turns))
}

const CHAINS: usize = 12;

struct Chains(usize);

impl Kernel for Chains {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let (factor, more) = (s.splat(std::hint::black_box(0.999)), s.splat(std::hint::black_box(0.5)));
        let mut chains = [s.splat(1.0); CHAINS];
        for _ in 0..self.0 {
            for chain in &mut chains {
                *chain = s.fma(*chain, factor, more);
            }
        }
        let mut end = [0.0f32; 16];
        for chain in chains {
            // SAFETY: room for sixteen values, the longest vector.
            unsafe { s.store(end.as_mut_ptr(), chain) };
            std::hint::black_box(&end);
        }
        self.0 * CHAINS * S::LANES * 2
    }
}
