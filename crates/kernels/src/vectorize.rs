//! Plain loops of other crates, compiled for the processor at hand.

use crate::dispatch::{Isa, Kernel, Simd};

struct Plain<F>(F);

impl<T, F: FnOnce() -> T> Kernel for Plain<F> {
    type Output = T;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> T {
        (self.0)()
    }
}

/// Runs `f` in a function compiled for the best instruction set of this processor: loops written in `f` itself (and in what it inlines)
/// use its vectors.
///
/// ```
/// let mut sum = [0.0f32; 8];
/// fieldmark_kernels::vectorized(|| sum.iter_mut().for_each(|s| *s += 1.0));
/// assert_eq!(sum, [1.0; 8]);
/// ```
#[inline]
pub fn vectorized<T>(f: impl FnOnce() -> T) -> T {
    Isa::best().run(Plain(f))
}
