//! Memory that kernels work in, kept by each thread from call to call.

use std::cell::Cell;

use crate::buffer::Buffer;

thread_local! {
    static PART: Cell<Buffer> = const { Cell::new(Buffer::new()) };
    static WHOLE: Cell<Buffer> = const { Cell::new(Buffer::new()) };
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
