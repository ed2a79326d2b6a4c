//! Memory that kernels work in, kept by each thread from call to call.

use std::cell::Cell;

use crate::buffer::Buffer;
use crate::pack::PackedB;
use crate::winograd::WinogradWeights;

thread_local! {
    static PART: Cell<Buffer> = const { Cell::new(Buffer::new()) };
    static WHOLE: Cell<Buffer> = const { Cell::new(Buffer::new()) };
    static SLOTS: [Cell<Buffer>; 6] = const { [const { Cell::new(Buffer::new()) }; 6] };
    static WINOGRAD: Cell<WinogradWeights> = const { Cell::new(WinogradWeights::empty()) };
    static PACKED: Cell<Vec<PackedB>> = const { Cell::new(Vec::new()) };
}

/// Gives `f` this thread's buffer for one part of a job. Contents are unspecified.
#[inline(always)]
pub(crate) fn for_part<R>(f: impl FnOnce(&mut Buffer) -> R) -> R {
    let mut buffer = PART.take();
    let result = f(&mut buffer);
    PART.set(buffer);
    result
}

/// Gives `f` this thread's buffer of `len` values for a whole job, whose parts may use [`for_part`]. Contents are unspecified.
pub(crate) fn for_job<R>(len: usize, f: impl FnOnce(&mut Buffer) -> R) -> R {
    // Taken out, not borrowed: a thread that waits for its parts may run another job.
    let mut buffer = WHOLE.take();
    buffer.resize(len);
    let result = f(&mut buffer);
    WHOLE.set(buffer);
    result
}

/// What a buffer of a thread is for: each use has its own, so that one may lie inside another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slot {
    /// Weights in another order.
    Weights,
    /// Partial sums, one row a block.
    Sums,
    /// What a part of a job holds beside its [`for_part`].
    Part,
    /// Sums in f32 that are rounded to bf16 when they are whole.
    Tile,
    /// Maps of bf16 in f32.
    Wide,
    /// Other maps of bf16 in f32.
    Wider,
}

/// Gives `f` this thread's buffer of `len` values for a use. Contents are unspecified.
#[inline(always)]
pub(crate) fn for_use<R>(slot: Slot, len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = SLOTS.with(|slots| slots[slot as usize].take());
    buffer.resize(len);
    let result = f(&mut buffer);
    SLOTS.with(|slots| slots[slot as usize].set(buffer));
    result
}

/// Gives `f` this thread's packed operands, whatever they held before.
pub(crate) fn for_packed<R>(f: impl FnOnce(&mut Vec<PackedB>) -> R) -> R {
    let mut packed = PACKED.take();
    let result = f(&mut packed);
    PACKED.set(packed);
    result
}

/// Gives `f` this thread's transformed weights, whatever they held before.
pub(crate) fn for_winograd<R>(f: impl FnOnce(&mut WinogradWeights) -> R) -> R {
    let mut weights = WINOGRAD.replace(WinogradWeights::empty());
    let result = f(&mut weights);
    WINOGRAD.set(weights);
    result
}
