//! What a dot-product instruction set offers.

/// An algorithm generic over instruction sets that finish sums as `F` says.
pub(crate) trait DotKernel<F> {
    type Output;
    /// Must be `#[inline(always)]`, so that it compiles into the caller's instruction set.
    fn run<D: Dot<Finish = F>>(self, d: D) -> Self::Output;
}

/// A kind of number, and its instruction sets: `bf16` or `int8`.
pub(crate) trait Family: Copy + Send + Sync + 'static {
    type Finish: Copy;
    /// Bytes of a value of the input.
    fn bytes(self) -> usize;
    /// Bytes of a value in a word: more than `bytes` where inputs are widened on their way to the product (bf16 to f32, bytes to 16 bits).
    fn word_bytes(self) -> usize;
    /// Vectors of this many sums.
    fn lanes(self) -> usize;
    fn run<K: DotKernel<Self::Finish>>(self, kernel: K) -> K::Output;
}

/// Dot products of 32-bit words.
///
/// # Safety
/// A value of the type proves that the processor supports the instructions: values are made by a [`Family`] only, after detection.
pub(crate) unsafe trait Dot: Copy + Send + Sync + 'static {
    /// `LANES` sums.
    type Acc: Copy;
    /// `LANES` words of B.
    type Words: Copy;
    /// Words of A, one for each lane.
    type Word: Copy;
    /// How sums become results.
    type Finish: Copy;
    const LANES: usize;
    /// Numbers in a word.
    const EACH: usize;

    /// Runs `kernel` in a function of its own, compiled for this instruction set.
    fn vectorize<K: DotKernel<Self::Finish>>(self, kernel: K) -> K::Output;
    fn zero(self) -> Self::Acc;
    /// # Safety
    /// `LANES` words are readable at `p`.
    unsafe fn load(self, p: *const u32) -> Self::Words;
    /// One word of A for all lanes.
    /// # Safety
    /// Four bytes are readable at `p`.
    unsafe fn splat(self, p: *const u8) -> Self::Word;
    /// A word of A for each lane.
    /// # Safety
    /// `LANES` words are readable at `p`.
    unsafe fn words(self, p: *const u32) -> Self::Word;
    /// Writes `LANES` words to `words`: those of as many channels, whose numbers for each place in a word begin at `numbers`. Returns false, and
    /// does nothing, where the instruction set has no better way than plain shifts.
    /// # Safety
    /// `LANES` words are writable at `words`, `LANES` numbers readable at each of the first [`Dot::EACH`] of `numbers`.
    #[inline(always)]
    unsafe fn join(self, words: *mut u32, numbers: &[*const u8; 4]) -> bool {
        let _ = (words, numbers);
        false
    }
    /// `sums + a · b`, lane by lane.
    fn dot(self, sums: Self::Acc, a: Self::Word, b: Self::Words) -> Self::Acc;
    /// # Safety
    /// `LANES` sums are writable at `p`.
    unsafe fn store(self, p: *mut u32, sums: Self::Acc);
    /// Turns the first `n <= LANES` sums at `sums` into results: those of row `row` from column `column`.
    /// # Safety
    /// `LANES` sums are readable at `sums`; what `finish` points at covers row and columns.
    unsafe fn finish(self, sums: *const u32, finish: &Self::Finish, row: usize, column: usize, n: usize);
}
