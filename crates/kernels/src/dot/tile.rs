//! The microkernel: a tile of sums held in registers over all of k.

use std::mem::MaybeUninit;

use crate::dot::{Dot, DotKernel};

/// Rows of results under one panel of B. `rows` are the byte offsets from `a` at which the rows of A begin; each row has `segments` runs
/// of `words` words, at the offsets `segments`.
#[derive(Clone, Copy)]
pub(crate) struct Strip<'a, F> {
    pub a: *const u8,
    pub rows: &'a [usize],
    pub segments: &'a [usize],
    pub words: usize,
    pub b: *const u32,
    pub vectors: usize,
    pub width: usize,
    pub finish: &'a F,
    /// Row and column of the first result.
    pub row: usize,
    pub column: usize,
}

impl<F: Copy> Strip<'_, F> {
    /// Computes the strip, tile by tile.
    ///
    /// # Safety
    /// All pointers cover what the fields say, and nothing else writes there meanwhile.
    #[inline(always)]
    pub unsafe fn run<D: Dot<Finish = F>>(mut self, d: D) {
        while !self.rows.is_empty() {
            // SAFETY: each arm takes no more rows than are left.
            let taken = unsafe {
                match (self.vectors, self.rows.len()) {
                    (1, 16..) if D::LANES == 16 => self.tile::<D, 16, 1>(d),
                    (1, 8..) => self.tile::<D, 8, 1>(d),
                    (1, 4..) => self.tile::<D, 4, 1>(d),
                    (1, 2..) => self.tile::<D, 2, 1>(d),
                    (1, _) => self.tile::<D, 1, 1>(d),
                    (2, 14..) if D::LANES == 16 => self.tile::<D, 14, 2>(d),
                    (2, 12..) if D::LANES == 16 => self.tile::<D, 12, 2>(d),
                    (2, 7..) if D::LANES == 16 => self.tile::<D, 7, 2>(d),
                    (2, 4..) => self.tile::<D, 4, 2>(d),
                    (2, 2..) => self.tile::<D, 2, 2>(d),
                    (2, _) => self.tile::<D, 1, 2>(d),
                    (_, 8..) if D::LANES == 16 => self.tile::<D, 8, 3>(d),
                    (_, 7..) if D::LANES == 16 => self.tile::<D, 7, 3>(d),
                    (_, 4..) if D::LANES == 16 => self.tile::<D, 4, 3>(d),
                    (_, 2..) => self.tile::<D, 2, 3>(d),
                    (_, _) => self.tile::<D, 1, 3>(d),
                }
            };
            self.rows = &self.rows[taken..];
            self.row += taken;
        }
    }

    /// # Safety
    /// As [`Strip::run`], with at least `MR` rows left and `NV` vectors.
    #[inline(always)]
    unsafe fn tile<D: Dot<Finish = F>, const MR: usize, const NV: usize>(&self, d: D) -> usize {
        d.vectorize(Tile::<F, MR, NV>(*self));
        MR
    }
}

/// Words of k by which B is fetched ahead: the first rows under a panel find it in the third level of the cache, whose distance the processor's
/// own prefetching does not bridge.
const AHEAD: usize = 16;

/// Asks for the cache line at `p`; nothing where the processor has no such instruction.
#[inline(always)]
fn prefetch(p: *const u32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: part of SSE, which every x86-64 has; a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

struct Tile<'a, F, const MR: usize, const NV: usize>(Strip<'a, F>);

impl<F: Copy, const MR: usize, const NV: usize> DotKernel<F> for Tile<'_, F, MR, NV> {
    type Output = ();

    #[inline(always)]
    fn run<D: Dot<Finish = F>>(self, d: D) {
        let Strip { a, rows, segments, words, b, width, finish, row, column, .. } = self.0;
        let mut acc = [[d.zero(); NV]; MR];
        let mut b = b;
        for &segment in segments {
            let rows: [*const u8; MR] = std::array::from_fn(|i| a.wrapping_add(rows[i] + segment));
            for p in 0..words {
                // SAFETY: `b` has `NV * LANES` words for each word of each segment; each of the `MR` rows of `a` has `words` here.
                unsafe {
                    let mut vectors = [d.load(b); NV];
                    for (j, v) in vectors.iter_mut().enumerate().skip(1) {
                        *v = d.load(b.add(j * D::LANES));
                    }
                    for i in 0..MR {
                        let word = d.splat(rows[i].add(p * 4));
                        for j in 0..NV {
                            acc[i][j] = d.dot(acc[i][j], word, vectors[j]);
                        }
                    }
                    for j in 0..NV {
                        prefetch(b.wrapping_add((AHEAD * NV + j) * D::LANES));
                    }
                    b = b.add(NV * D::LANES);
                }
            }
        }
        // Through memory, by a copy whose loops unroll: that keeps the sums in registers above.
        let mut sums = Sums(MaybeUninit::uninit());
        let sums = sums.0.as_mut_ptr().cast::<u32>();
        const { assert!(MR * NV * D::LANES <= LARGEST) };
        for (i, row) in acc.iter().enumerate() {
            for (j, &v) in row.iter().enumerate() {
                // SAFETY: no tile has more than LARGEST sums.
                unsafe { d.store(sums.add((i * NV + j) * D::LANES), v) };
            }
        }
        for i in 0..MR {
            for j in 0..NV {
                let at = j * D::LANES;
                let n = (width - at.min(width)).min(D::LANES);
                // SAFETY: the sums were written; `finish` covers the rows and columns of the strip.
                unsafe { d.finish(sums.add((i * NV + j) * D::LANES), finish, row + i, column + at, n) };
            }
        }
    }
}

/// Sums of the largest tile: 14 × 2 vectors of 16.
const LARGEST: usize = 448;

#[repr(align(64))]
struct Sums(MaybeUninit<[u32; LARGEST]>);
