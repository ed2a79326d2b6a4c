//! Plain loops of other crates, compiled for the processor at hand.

use crate::dispatch::{Isa, Kernel, Simd};

/// Loops over slices.
pub trait Loops {
    /// Runs them. Implementations must be marked `#[inline(always)]`, and so must the functions they call: only what is compiled into the
    /// caller uses its instructions (anything else is right, but slow).
    fn run(self);
}

struct Plain<L>(L);

impl<L: Loops> Kernel for Plain<L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.0.run();
    }
}

/// Runs `loops` compiled for the best instruction set of this processor: they use its vectors.
///
/// ```
/// struct AddOne<'a>(&'a mut [f32]);
///
/// impl fieldmark_kernels::Loops for AddOne<'_> {
///     #[inline(always)]
///     fn run(self) {
///         self.0.iter_mut().for_each(|v| *v += 1.0);
///     }
/// }
///
/// let mut values = [0.0f32; 8];
/// fieldmark_kernels::vectorized(AddOne(&mut values));
/// assert_eq!(values, [1.0; 8]);
/// ```
pub fn vectorized(loops: impl Loops) {
    Isa::best().run(Plain(loops));
}
