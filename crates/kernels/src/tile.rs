//! The GEMM microkernel: a tile of C held in registers over a block of k.

use std::mem::MaybeUninit;

use crate::dispatch::{Kernel, Simd};

/// How a tile of C begins and ends. Pointers are at the tile's first column.
#[derive(Clone, Copy)]
pub(crate) struct Finish {
    /// C's old values are added.
    pub accumulate: bool,
    /// Bias, one value a column, or null.
    pub bias: *const f32,
    /// A matrix of C's shape to add, or null.
    pub residual: *const f32,
    pub residual_stride: usize,
    /// Bounds, where `clamp`.
    pub clamp: bool,
    pub low: f32,
    pub high: f32,
}

/// A run of rows of C under one panel of B.
///
/// `a`: `rows` rows of `k` values, `a_stride` apart. `b`: `k` rows of `vectors * LANES`. `c`: `rows` rows of `width` values.
#[derive(Clone, Copy)]
pub(crate) struct Strip {
    pub rows: usize,
    pub k: usize,
    pub a: *const f32,
    pub a_stride: usize,
    pub b: *const f32,
    pub c: *mut f32,
    pub c_stride: usize,
    pub vectors: usize,
    pub width: usize,
    pub finish: Finish,
}

impl Strip {
    /// Computes the strip, tile by tile.
    ///
    /// # Safety
    /// All pointers cover what the fields say, and nothing else writes there meanwhile.
    #[inline(always)]
    pub unsafe fn run<S: Simd>(mut self, s: S) {
        while self.rows > 0 {
            // SAFETY: each arm takes no more rows than are left.
            let taken = unsafe {
                match (self.vectors, self.rows) {
                    (1, 16..) => self.tile::<S, 16, 1>(s),
                    (1, 8..) => self.tile::<S, 8, 1>(s),
                    (1, 4..) => self.tile::<S, 4, 1>(s),
                    (1, 2..) => self.tile::<S, 2, 1>(s),
                    (1, _) => self.tile::<S, 1, 1>(s),
                    (2, 12..) if S::LANES == 16 => self.tile::<S, 12, 2>(s),
                    (2, 6..) => self.tile::<S, 6, 2>(s),
                    (2, 4..) => self.tile::<S, 4, 2>(s),
                    (2, 2..) => self.tile::<S, 2, 2>(s),
                    (2, _) => self.tile::<S, 1, 2>(s),
                    (_, 8..) if S::PANEL == 3 => self.tile::<S, 8, 3>(s),
                    (_, 4..) if S::PANEL == 3 => self.tile::<S, 4, 3>(s),
                    (_, 2..) if S::PANEL == 3 => self.tile::<S, 2, 3>(s),
                    (_, _) => self.tile::<S, 1, 3>(s),
                }
            };
            self.rows -= taken;
            // SAFETY: `taken` rows were there; one past the last is never read.
            unsafe {
                self.a = self.a.add(taken * self.a_stride);
                self.c = self.c.add(taken * self.c_stride);
                if !self.finish.residual.is_null() {
                    self.finish.residual = self.finish.residual.add(taken * self.finish.residual_stride);
                }
            }
        }
    }

    /// # Safety
    /// As [`Strip::run`], with at least `MR` rows left and `NV` vectors.
    #[inline(always)]
    unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(&self, s: S) -> usize {
        s.vectorize(Tile::<MR, NV>(*self));
        MR
    }
}

struct Tile<const MR: usize, const NV: usize>(Strip);

impl<const MR: usize, const NV: usize> Kernel for Tile<MR, NV> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Strip { k, a, a_stride, b, width, .. } = self.0;
        let mut acc = [[s.splat(0.0); NV]; MR];
        let rows: [*const f32; MR] = std::array::from_fn(|i| a.wrapping_add(i * a_stride));
        for p in 0..k {
            // SAFETY: `b` has `k` rows of `NV * LANES` values; each of the `MR` rows of `a` has `k`.
            unsafe {
                let row = b.add(p * NV * S::LANES);
                let mut b = [s.splat(0.0); NV];
                for (j, b) in b.iter_mut().enumerate() {
                    *b = s.load(row.add(j * S::LANES));
                }
                for i in 0..MR {
                    let a = s.splat(*rows[i].add(p));
                    for j in 0..NV {
                        acc[i][j] = s.fma(a, b[j], acc[i][j]);
                    }
                }
            }
        }
        // Through memory, by a copy whose loops unroll: that keeps the sums in registers above, which an array read by the large loops
        // of the epilogue would not be.
        let mut sums = Sums(MaybeUninit::uninit());
        let sums = sums.0.as_mut_ptr().cast::<f32>();
        for (i, row) in acc.iter().enumerate() {
            for (j, &v) in row.iter().enumerate() {
                // SAFETY: no tile has more than LARGEST sums.
                unsafe { s.store(sums.add((i * NV + j) * S::LANES), v) };
            }
        }
        // The last vector of a ragged panel is partly padding: it is read and written through masks.
        if width == NV * S::LANES { self.write::<S, true>(s, sums) } else { self.write::<S, false>(s, sums) }
    }
}

/// Values of the largest tile: 8 × 3 or 12 × 2 vectors of 16.
const LARGEST: usize = 384;

#[repr(align(64))]
struct Sums(MaybeUninit<[f32; LARGEST]>);

impl<const MR: usize, const NV: usize> Tile<MR, NV> {
    #[inline(always)]
    fn write<S: Simd, const FULL: bool>(&self, s: S, sums: *const f32) {
        const { assert!(MR * NV * S::LANES <= LARGEST) };
        let Strip { c, c_stride, finish, width, .. } = self.0;
        let (low, high) = (s.splat(finish.low), s.splat(finish.high));
        for i in 0..MR {
            for j in 0..NV {
                let at = j * S::LANES;
                let n = (width - at.min(width)).min(S::LANES);
                // SAFETY: `n` values (all of a vector, where FULL) are left in the row from here, in C, the bias and the residual alike;
                // the sums of the whole tile were written.
                unsafe {
                    let mut v = s.load(sums.add((i * NV + j) * S::LANES));
                    let out = c.add(i * c_stride + at);
                    if finish.accumulate {
                        v = s.add(v, if FULL { s.load(out) } else { s.load_first(out, n) });
                    }
                    if !finish.bias.is_null() {
                        let p = finish.bias.add(at);
                        v = s.add(v, if FULL { s.load(p) } else { s.load_first(p, n) });
                    }
                    if !finish.residual.is_null() {
                        let p = finish.residual.add(i * finish.residual_stride + at);
                        v = s.add(v, if FULL { s.load(p) } else { s.load_first(p, n) });
                    }
                    if finish.clamp {
                        v = s.min(high, s.max(low, v));
                    }
                    if FULL { s.store(out, v) } else { s.store_first(out, n, v) }
                }
            }
        }
    }
}
