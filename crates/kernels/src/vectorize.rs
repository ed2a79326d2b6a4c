//! Plain loops of other crates, compiled for the processor at hand.

use crate::dispatch::{Isa, Kernel, Simd};

struct Call<F, A>(F, A);

impl<A, T, F: FnOnce(A) -> T> Kernel for Call<F, A> {
    type Output = T;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> T {
        (self.0)(self.1)
    }
}

/// Calls `f(args)` compiled for the best instruction set of this processor: its loops use its vectors. `f` must be the name of a function
/// marked `#[inline(always)]` (a closure may be compiled on its own, for any processor: right, but slow).
///
/// ```
/// #[inline(always)]
/// fn add_one(values: &mut [f32]) {
///     values.iter_mut().for_each(|v| *v += 1.0);
/// }
///
/// let mut values = [0.0f32; 8];
/// kernels::vectorized(add_one, &mut values[..]);
/// assert_eq!(values, [1.0; 8]);
/// ```
#[inline]
pub fn vectorized<A, T>(f: impl FnOnce(A) -> T, args: A) -> T {
    Isa::best().run(Call(f, args))
}
