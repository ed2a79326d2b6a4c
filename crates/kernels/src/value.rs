//! Values in memory: f32, or bf16 that loops widen when they load and round when they store. Arithmetic is f32 in either case.

use crate::bf16::{round, widen};
use crate::buffer::Buffer;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::scratch::{self, Slot};
use crate::threads::each_chunk;

/// Values of one kind or the other.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// The upper halves of single precision.
    Bf16(&'a [u16]),
}

/// As [`Values`], to write.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    /// Single precision.
    F32(&'a mut [f32]),
    /// The upper halves of single precision.
    Bf16(&'a mut [u16]),
}

impl<'a> Values<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values in f32, for loops that know no other.
    ///
    /// # Panics
    /// Where they are bf16.
    pub fn f32(self) -> &'a [f32] {
        match self {
            Self::F32(values) => values,
            Self::Bf16(_) => panic!("expected values in f32, got bf16"),
        }
    }

    /// Values in f32, widened into `memory` where they are not.
    pub fn widened(self, memory: &'a mut Buffer) -> &'a [f32] {
        match self {
            Self::F32(values) => values,
            Self::Bf16(values) => {
                memory.resize(values.len());
                copy(&mut memory[..], values);
                memory
            }
        }
    }
}

impl<'a> ValuesMut<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same values, to read.
    pub fn as_ref(&self) -> Values<'_> {
        match self {
            Self::F32(values) => Values::F32(values),
            Self::Bf16(values) => Values::Bf16(values),
        }
    }

    /// The same values, for a shorter time.
    pub fn reborrow(&mut self) -> ValuesMut<'_> {
        match self {
            Self::F32(values) => ValuesMut::F32(values),
            Self::Bf16(values) => ValuesMut::Bf16(values),
        }
    }

    /// Makes them zero.
    pub fn clear(&mut self) {
        match self {
            Self::F32(values) => values.fill(0.0),
            Self::Bf16(values) => values.fill(0),
        }
    }

    /// As [`Values::f32`].
    ///
    /// # Panics
    /// Where they are bf16.
    pub fn f32(self) -> &'a mut [f32] {
        match self {
            Self::F32(values) => values,
            Self::Bf16(_) => panic!("expected values in f32, got bf16"),
        }
    }
}

macro_rules! from {
    ($($t:ty: $kind:ident),*) => {
        $(
            impl<'a> From<&'a [$t]> for Values<'a> {
                fn from(values: &'a [$t]) -> Self {
                    Self::$kind(values)
                }
            }
            impl<'a> From<&'a Vec<$t>> for Values<'a> {
                fn from(values: &'a Vec<$t>) -> Self {
                    Self::$kind(values)
                }
            }
            impl<'a, const N: usize> From<&'a [$t; N]> for Values<'a> {
                fn from(values: &'a [$t; N]) -> Self {
                    Self::$kind(values)
                }
            }
            impl<'a, const N: usize> From<&'a mut [$t; N]> for ValuesMut<'a> {
                fn from(values: &'a mut [$t; N]) -> Self {
                    Self::$kind(values)
                }
            }
            impl<'a> From<&'a mut [$t]> for ValuesMut<'a> {
                fn from(values: &'a mut [$t]) -> Self {
                    Self::$kind(values)
                }
            }
            impl<'a> From<&'a mut Vec<$t>> for ValuesMut<'a> {
                fn from(values: &'a mut Vec<$t>) -> Self {
                    Self::$kind(values)
                }
            }
        )*
    };
}
from!(f32: F32, u16: Bf16);

/// Runs one expression with the slices of values that are all f32, another where they are all bf16:
/// `each_kind!((y; x) => { f(y, x) } or { g(y, x) })`, mutable ones before the semicolon.
macro_rules! each_kind {
    (($($y:ident),*; $($x:ident),*) => $wide:block or $narrow:block) => {
        match ($(Into::<$crate::ValuesMut<'_>>::into($y),)* $(Into::<$crate::Values<'_>>::into($x),)*) {
            ($($crate::ValuesMut::F32($y),)* $($crate::Values::F32($x),)*) => $wide,
            ($($crate::ValuesMut::Bf16($y),)* $($crate::Values::Bf16($x),)*) => $narrow,
            #[allow(unreachable_patterns, reason = "a single value is of one kind")]
            _ => panic!("expected values of one kind, got f32 and bf16"),
        }
    };
}
pub(crate) use each_kind;

/// As [`each_kind`], one expression for both.
macro_rules! alike {
    (($($y:ident),*; $($x:ident),*) => $body:expr) => {
        $crate::value::each_kind!(($($y),*; $($x),*) => { $body } or { $body })
    };
}
pub(crate) use alike;

/// A kind of value: `f32`, or `u16` for bf16.
pub(crate) trait Value: crate::Number {
    /// Whether memory holds f32.
    const WIDE: bool;
    fn get(self) -> f32;
    fn of(x: f32) -> Self;
    /// # Safety
    /// `LANES` values are readable at `p`.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V;
    /// # Safety
    /// `LANES` values are writable at `p`.
    unsafe fn store<S: Simd>(s: S, p: *mut Self, v: S::V);
    /// # Safety
    /// `n <= LANES` values are readable at `p`.
    unsafe fn load_first<S: Simd>(s: S, p: *const Self, n: usize) -> S::V;
    /// # Safety
    /// `n <= LANES` values are writable at `p`.
    unsafe fn store_first<S: Simd>(s: S, p: *mut Self, n: usize, v: S::V);
    /// A vector where `WHOLE`, else its first `n` values: loops are compiled once for whole vectors, once for a ragged end.
    /// # Safety
    /// As many values are readable at `p`.
    #[inline(always)]
    unsafe fn load_n<S: Simd, const WHOLE: bool>(s: S, p: *const Self, n: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { if WHOLE { Self::load(s, p) } else { Self::load_first(s, p, n) } }
    }
    /// # Safety
    /// As many values are writable at `p`.
    #[inline(always)]
    unsafe fn store_n<S: Simd, const WHOLE: bool>(s: S, p: *mut Self, n: usize, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { if WHOLE { Self::store(s, p, v) } else { Self::store_first(s, p, n, v) } }
    }
    /// The values themselves, where they are f32.
    fn as_f32(values: &[Self]) -> Option<&[f32]>;
    /// As [`Value::as_f32`], to write.
    fn as_f32_mut(values: &mut [Self]) -> Option<&mut [f32]>;
}

macro_rules! value {
    ($t:ty, $wide:literal, $get:expr, $of:expr, $load:ident, $store:ident, $load_first:ident, $store_first:ident, $as_f32:expr, $as_f32_mut:expr) => {
        impl Value for $t {
            const WIDE: bool = $wide;
            #[inline(always)]
            fn get(self) -> f32 {
                $get(self)
            }
            #[inline(always)]
            fn of(x: f32) -> Self {
                $of(x)
            }
            #[inline(always)]
            unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
                // SAFETY: the caller's promise.
                unsafe { s.$load(p) }
            }
            #[inline(always)]
            unsafe fn store<S: Simd>(s: S, p: *mut Self, v: S::V) {
                // SAFETY: the caller's promise.
                unsafe { s.$store(p, v) }
            }
            #[inline(always)]
            unsafe fn load_first<S: Simd>(s: S, p: *const Self, n: usize) -> S::V {
                // SAFETY: the caller's promise.
                unsafe { s.$load_first(p, n) }
            }
            #[inline(always)]
            unsafe fn store_first<S: Simd>(s: S, p: *mut Self, n: usize, v: S::V) {
                // SAFETY: the caller's promise.
                unsafe { s.$store_first(p, n, v) }
            }
            #[inline(always)]
            fn as_f32(values: &[Self]) -> Option<&[f32]> {
                $as_f32(values)
            }
            #[inline(always)]
            fn as_f32_mut(values: &mut [Self]) -> Option<&mut [f32]> {
                $as_f32_mut(values)
            }
        }
    };
}
value!(f32, true, |x| x, |x| x, load, store, load_first, store_first, Some, Some);
value!(u16, false, widen, round, load_half, store_half, load_half_first, store_half_first, |_| None, |_| None);

/// Copies `from` to `to`, widened or rounded where their kinds differ, on this thread.
#[inline(always)]
pub(crate) fn convert<S: Simd, T: Value, U: Value>(s: S, to: &mut [T], from: &[U]) {
    // A function of its own: in the closures where this is called, the instruction set would be lost.
    s.vectorize(Chunk(to, from));
}

/// The values in f32, on this thread: themselves, or widened into `memory` of the same length.
#[inline(always)]
pub(crate) fn wide<'a, S: Simd, T: Value>(s: S, values: &'a [T], memory: &'a mut [f32]) -> &'a [f32] {
    if let Some(values) = T::as_f32(values) {
        return values;
    }
    convert(s, memory, values);
    memory
}

/// Gives `f` values in f32 to write, on this thread: `values` themselves, or memory that is rounded into them afterwards and, where they are
/// to be `kept`, begins as what they are.
pub(crate) fn in_f32<T: Value>(isa: Isa, values: &mut [T], kept: bool, f: impl FnOnce(&mut [f32])) {
    if let Some(values) = T::as_f32_mut(values) {
        return f(values);
    }
    scratch::for_use(Slot::Wide, values.len(), |memory| {
        if kept {
            isa.run(Chunk(memory, values));
        }
        f(memory);
        isa.run(Chunk(values, memory));
    });
}

/// Values a task.
const CHUNK: usize = 1 << 15;

struct Chunk<'a, T, U>(&'a mut [T], &'a [U]);

impl<T: Value, U: Value> Kernel for Chunk<'_, T, U> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(to, from) = self;
        assert_eq!(to.len(), from.len(), "equal lengths");
        let whole = to.len() / S::LANES * S::LANES;
        // SAFETY: vectors lie below `whole`, the rest behind it, in slices of one length.
        unsafe {
            for at in (0..whole).step_by(S::LANES) {
                T::store(s, to.as_mut_ptr().add(at), U::load(s, from.as_ptr().add(at)));
            }
        }
        to[whole..].iter_mut().zip(&from[whole..]).for_each(|(to, from)| *to = T::of(from.get()));
    }
}

/// Copies values, widened or rounded where their kinds differ.
///
/// # Panics
/// Where lengths differ.
pub fn copy<'a>(to: impl Into<ValuesMut<'a>>, from: impl Into<Values<'a>>) {
    match (to.into(), from.into()) {
        (ValuesMut::F32(to), Values::F32(from)) => copied(to, from),
        (ValuesMut::F32(to), Values::Bf16(from)) => copied(to, from),
        (ValuesMut::Bf16(to), Values::F32(from)) => copied(to, from),
        (ValuesMut::Bf16(to), Values::Bf16(from)) => copied(to, from),
    }
}

fn copied<T: Value, U: Value>(to: &mut [T], from: &[U]) {
    assert_eq!(to.len(), from.len(), "equal lengths");
    let isa = Isa::best();
    each_chunk(to, CHUNK, |index, to| isa.run(Chunk(to, &from[index * CHUNK..][..to.len()])));
}
