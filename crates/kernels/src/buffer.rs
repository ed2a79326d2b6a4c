//! Memory aligned to cache lines.

use std::ops::{Deref, DerefMut};

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A growable run of `f32` that begins at a cache line, so that vector loads do not cross two.
#[derive(Clone, Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// No values, no memory.
    pub const fn new() -> Self {
        Self { lines: Vec::new(), len: 0 }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
    }

    /// Makes it `len` values long; keeps its memory when it shrinks. Values are unspecified (old ones or zeros).
    pub fn resize(&mut self, len: usize) {
        let lines = len.div_ceil(16);
        if lines > self.lines.len() {
            // The old values need not survive: a fresh allocation saves the copy.
            self.lines = vec![Line([0.0; 16]); lines];
        }
        self.len = len;
    }
}

/// Numbers that any bits make.
pub trait Number: Copy + Send + Sync + 'static + number::Sealed {}

mod number {
    /// Only this crate vouches for a type.
    pub trait Sealed {}
    macro_rules! numbers {
        ($($t:ty),*) => { $(impl Sealed for $t {} impl super::Number for $t {})* };
    }
    numbers!(u8, i8, u16, i16, u32, i32, f32);
}

impl Buffer {
    /// The first `len` numbers of another kind in the same memory (little-endian words of 32 bits hold four bytes or two halves).
    ///
    /// # Panics
    /// Where the buffer is shorter.
    pub fn numbers<T: Number>(&self, len: usize) -> &[T] {
        assert!(len * size_of::<T>() <= self.len * 4, "{len} numbers of {} bytes in {} words", size_of::<T>(), self.len);
        // SAFETY: the memory is initialised and as long as was checked, its alignment is 64 bytes, and any bits make a `Number`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), len) }
    }

    /// As [`Buffer::numbers`], to write.
    ///
    /// # Panics
    /// Where the buffer is shorter.
    pub fn numbers_mut<T: Number>(&mut self, len: usize) -> &mut [T] {
        assert!(len * size_of::<T>() <= self.len * 4, "{len} numbers of {} bytes in {} words", size_of::<T>(), self.len);
        // SAFETY: as for `numbers`, and `self` is borrowed exclusively; any bits make an f32.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }

    /// Resizes it, as [`Buffer::resize`], to hold `len` numbers of a kind.
    pub fn resize_for<T: Number>(&mut self, len: usize) -> &mut [T] {
        self.resize((len * size_of::<T>()).div_ceil(4));
        self.numbers_mut(len)
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` initialised f32, contiguous because `Line` is a C struct of exactly 64 bytes.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
