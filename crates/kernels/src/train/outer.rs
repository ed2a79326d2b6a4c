//! Sums of outer products: `C [m, n] += Uᵀ V` over rows of U and V that are read where they lie. Weight gradients are such sums, over pixels.

use crate::dispatch::{Kernel, Simd};

/// A block of C and the rows that it sums over: `runs` of `run` rows each, beginning at the places in `runs`.
#[derive(Clone, Copy)]
pub(super) struct Outer<'a> {
    /// Rows of C, read from a row of U side by side.
    pub m: usize,
    /// Columns of C, read from a row of V side by side.
    pub n: usize,
    pub u: *const f32,
    /// Values from one row of U to the next of a run.
    pub u_step: usize,
    pub v: *const f32,
    pub v_step: usize,
    /// Where each run begins in U and V.
    pub runs: &'a [(usize, usize)],
    pub run: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Whether C holds nothing yet.
    pub first: bool,
    /// Runs of values to fetch meanwhile: what comes next.
    pub ahead: [(*const f32, usize); 2],
}

impl Outer<'_> {
    /// Computes the block.
    ///
    /// # Safety
    /// All pointers cover what the fields say, and nobody else touches C meanwhile.
    #[inline(always)]
    pub unsafe fn run<S: Simd>(&self, s: S) {
        let (vectors, most) = (self.n.div_ceil(S::LANES), if S::LANES == 16 { 3 } else { 2 });
        let panels = vectors.div_ceil(most).max(1);
        let tiles = panels * self.m.div_ceil(tallest::<S>(vectors.div_ceil(panels)));
        let steps = self.runs.len() * self.run;
        let ahead = self.ahead.map(|(start, values)| (start, values.div_ceil((tiles * steps).max(1))));
        let mut fetched = 0;
        for panel in 0..panels {
            let (from, to) = (vectors * panel / panels, vectors * (panel + 1) / panels);
            let column = from * S::LANES;
            let width = ((to - from) * S::LANES).min(self.n - column);
            fetched = self.panel(s, column, [to - from, width], ahead, fetched);
        }
    }

    /// A panel of columns; `fetched` steps were made before, and the steps after it are returned.
    #[inline(always)]
    fn panel<S: Simd>(
        &self,
        s: S,
        column: usize,
        [vectors, width]: [usize; 2],
        ahead: [(*const f32, usize); 2],
        mut fetched: usize,
    ) -> usize {
        let tiles = self.m.div_ceil(tallest::<S>(vectors));
        for tile in 0..tiles {
            let (from, to) = (self.m * tile / tiles, self.m * (tile + 1) / tiles);
            let ahead = ahead.map(|(start, step)| (start.wrapping_add(fetched * step), step));
            fetched += self.runs.len() * self.run;
            macro_rules! by_height {
                ($vectors:literal: $($height:literal)*) => {
                    match to - from {
                        $($height => s.vectorize(Tile::<$height, $vectors> { outer: self, row: from, column, width, ahead }),)*
                        _ => unreachable!("a tile of {} rows", to - from),
                    }
                };
            }
            match (S::LANES, vectors) {
                (16, 1) => by_height!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
                (16, 2) => by_height!(2: 1 2 3 4 5 6 7 8 9 10 11 12),
                (16, _) => by_height!(3: 1 2 3 4 5 6 7 8),
                (_, 1) => by_height!(1: 1 2 3 4 5 6 7 8),
                (_, _) => by_height!(2: 1 2 3 4 5 6),
            }
        }
        fetched
    }
}

/// Rows of the tallest tile of so many vectors.
#[inline(always)]
fn tallest<S: Simd>(vectors: usize) -> usize {
    match (S::LANES, vectors) {
        (16, 1) => 16,
        (16, 2) => 12,
        (_, 1) => 8,
        (16, _) => 8,
        (_, _) => 6,
    }
}

/// `MR` rows from `row` and `NV` vectors from `column`, `width` values of them real.
struct Tile<'a, const MR: usize, const NV: usize> {
    outer: &'a Outer<'a>,
    row: usize,
    column: usize,
    width: usize,
    /// What to fetch meanwhile, and values a step.
    ahead: [(*const f32, usize); 2],
}

impl<const MR: usize, const NV: usize> Kernel for Tile<'_, MR, NV> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let o = self.outer;
        let last = self.width - (NV - 1) * S::LANES;
        let c = o.c.wrapping_add(self.row * o.c_stride + self.column);
        // SAFETY: `Outer::run`'s promise for the rows and columns of this tile; the last vector is read and written by its `last` values.
        unsafe {
            let load = |p: *const f32, j: usize| if j + 1 == NV { s.load_first(p, last) } else { s.load(p) };
            let mut acc = [[s.splat(0.0); NV]; MR];
            if !o.first {
                for (i, row) in acc.iter_mut().enumerate() {
                    for (j, v) in row.iter_mut().enumerate() {
                        *v = load(c.wrapping_add(i * o.c_stride + j * S::LANES), j);
                    }
                }
            }
            let [(mut next, step), (mut other, other_step)] = self.ahead;
            for &(u, v) in o.runs {
                let mut u = o.u.wrapping_add(u + self.row);
                let mut v = o.v.wrapping_add(v + self.column);
                for _ in 0..o.run {
                    s.prefetch(next);
                    s.prefetch(other);
                    (next, other) = (next.wrapping_add(step), other.wrapping_add(other_step));
                    let row: [S::V; NV] = std::array::from_fn(|j| load(v.wrapping_add(j * S::LANES), j));
                    for (i, sums) in acc.iter_mut().enumerate() {
                        let a = s.splat(*u.add(i));
                        for j in 0..NV {
                            sums[j] = s.fma(a, row[j], sums[j]);
                        }
                    }
                    (u, v) = (u.wrapping_add(o.u_step), v.wrapping_add(o.v_step));
                }
            }
            for (i, row) in acc.iter().enumerate() {
                for (j, &v) in row.iter().enumerate() {
                    let p = c.wrapping_add(i * o.c_stride + j * S::LANES);
                    if j + 1 == NV { s.store_first(p, last, v) } else { s.store(p, v) }
                }
            }
        }
    }
}
