//! The GEMM microkernel: a tile of C held in registers over a block of k.

use crate::dispatch::{Kernel, Simd};

/// How a tile of C begins and ends. Pointers are at the tile's first column.
#[derive(Clone, Copy)]
pub(crate) struct Finish {
    /// What each row begins with, one value a column, or null.
    pub bias: *const f32,
    /// A matrix of C's shape to add, C itself for instance, or null.
    pub add: *const f32,
    pub add_stride: usize,
    /// Bounds; infinite for none.
    pub low: f32,
    pub high: f32,
}

impl Finish {
    /// C is the product alone.
    pub const PLAIN: Self =
        Self { bias: std::ptr::null(), add: std::ptr::null(), add_stride: 0, low: f32::NEG_INFINITY, high: f32::INFINITY };
}

/// A run of rows of C under one panel of B.
///
/// `a`: `rows` rows, `a_stride` apart, each of `runs` runs of `run` values, `run_stride` apart (a plain matrix has one run; the rows of a
/// convolution's patches lie in the map itself). `b`: `runs * run` rows of `vectors * LANES`. `c`: `rows` rows of `width` values.
#[derive(Clone, Copy)]
pub(crate) struct Strip {
    pub rows: usize,
    pub a: *const f32,
    pub a_stride: usize,
    pub runs: usize,
    pub run: usize,
    pub run_stride: usize,
    pub b: *const f32,
    pub c: *mut f32,
    pub c_stride: usize,
    pub vectors: usize,
    pub width: usize,
    pub finish: Finish,
    /// What to fetch meanwhile: the weights that come next.
    pub ahead: Ahead,
}

/// Memory that is fetched into the cache while tiles are computed: weights are read once, from far away, and the multiplications of the
/// rows before hide that.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    next: *const f32,
    /// Values a step of k.
    step: usize,
}

impl Ahead {
    /// Fetches share `index` of `shares` of the `values` at `next` (null: nothing), over `steps` steps of k.
    #[inline(always)]
    pub fn new(next: *const f32, values: usize, [index, shares]: [usize; 2], steps: usize) -> Self {
        let each = values.div_ceil(shares.max(1));
        Self { next: next.wrapping_add(index * each), step: each.div_ceil(steps.max(1)) }
    }
}

impl Strip {
    /// Computes the strip by tiles of nearly equal height.
    ///
    /// # Safety
    /// All pointers cover what the fields say, and nothing else writes there meanwhile.
    #[inline(always)]
    pub unsafe fn run<S: Simd>(mut self, s: S) {
        if self.rows == 0 {
            return;
        }
        let tiles = tiles::<S>(self.rows, self.vectors);
        let (height, taller) = (self.rows / tiles, self.rows % tiles);
        // SAFETY: the tiles together have exactly `rows` rows; pointers stay within one row past the last.
        unsafe {
            if taller > 0 {
                self.tiles(s, height + 1, taller);
                let taken = taller * (height + 1);
                self.ahead.next = self.ahead.next.wrapping_add(taller * self.runs * self.run * self.ahead.step);
                self.a = self.a.wrapping_add(taken * self.a_stride);
                self.c = self.c.wrapping_add(taken * self.c_stride);
                if !self.finish.add.is_null() {
                    self.finish.add = self.finish.add.wrapping_add(taken * self.finish.add_stride);
                }
            }
            self.tiles(s, height, tiles - taller);
        }
    }

    /// # Safety
    /// As [`Strip::run`], for `count` tiles of `height` rows.
    #[inline(always)]
    unsafe fn tiles<S: Simd>(&self, s: S, height: usize, count: usize) {
        macro_rules! by_height {
            ($vectors:literal: $($height:literal)*) => {
                match height {
                    $($height => s.vectorize(Tiles::<$height, $vectors>(*self, count)),)*
                    _ => unreachable!("tiles of {height} rows"),
                }
            };
        }
        match (S::LANES, self.vectors) {
            (16, 1) => by_height!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
            (16, 2) => by_height!(2: 1 2 3 4 5 6 7 8 9 10 11 12),
            (16, _) => by_height!(3: 1 2 3 4 5 6 7 8),
            (_, 1) => by_height!(1: 1 2 3 4 5 6 7 8),
            (_, _) => by_height!(2: 1 2 3 4 5 6),
        }
    }
}

/// Tiles of nearly equal height that a strip is computed by.
#[inline(always)]
pub(crate) fn tiles<S: Simd>(rows: usize, vectors: usize) -> usize {
    let tallest = match (S::LANES, vectors) {
        (16, 1) => 16,
        (16, 2) => 12,
        (_, 1) => 8,
        (16, _) => 8,
        (_, _) => 6,
    };
    rows.div_ceil(tallest)
}

/// A column of `1` tiles of `MR` rows and `NV` vectors.
struct Tiles<const MR: usize, const NV: usize>(Strip, usize);

impl<const MR: usize, const NV: usize> Kernel for Tiles<MR, NV> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(t, count) = self;
        let last = t.width - (NV - 1) * S::LANES;
        let (low, high) = (s.splat(t.finish.low), s.splat(t.finish.high));
        let (mut a, mut c, mut add, mut ahead) = (t.a, t.c, t.finish.add, t.ahead.next);
        // Every loop over rows and vectors has constant bounds and a small body, so that all unroll and the sums never leave registers.
        for _ in 0..count {
            // SAFETY: `Strip::run`'s promise. The last vector of a ragged panel is partly padding, in B but not in C, the bias and what is
            // added: there it is read and written by its first `last` values.
            unsafe {
                let mut acc = [[s.splat(0.0); NV]; MR];
                if !t.finish.bias.is_null() {
                    let bias: [S::V; NV] = std::array::from_fn(|j| load(s, t.finish.bias.add(j * S::LANES), j + 1 == NV, last));
                    acc = [bias; MR];
                }
                if !add.is_null() {
                    for (i, row) in acc.iter_mut().enumerate() {
                        for (j, v) in row.iter_mut().enumerate() {
                            *v = s.add(*v, load(s, add.add(i * t.finish.add_stride + j * S::LANES), j + 1 == NV, last));
                        }
                    }
                    add = add.wrapping_add(MR * t.finish.add_stride);
                }
                let mut b = t.b;
                for r in 0..t.runs {
                    let run = a.wrapping_add(r * t.run_stride);
                    let rows: [*const f32; MR] = std::array::from_fn(|i| run.wrapping_add(i * t.a_stride));
                    for p in 0..t.run {
                        s.prefetch(ahead);
                        ahead = ahead.wrapping_add(t.ahead.step);
                        let row: [S::V; NV] = std::array::from_fn(|j| s.load(b.add(j * S::LANES)));
                        for i in 0..MR {
                            let a = s.splat(*rows[i].add(p));
                            for j in 0..NV {
                                acc[i][j] = s.fma(a, row[j], acc[i][j]);
                            }
                        }
                        b = b.add(NV * S::LANES);
                    }
                }
                for (i, row) in acc.iter().enumerate() {
                    let out = c.wrapping_add(i * t.c_stride);
                    for (j, &v) in row.iter().enumerate() {
                        let v = s.min(high, s.max(low, v));
                        if j + 1 == NV { s.store_first(out.add(j * S::LANES), last, v) } else { s.store(out.add(j * S::LANES), v) }
                    }
                }
            }
            (a, c) = (a.wrapping_add(MR * t.a_stride), c.wrapping_add(MR * t.c_stride));
        }
    }
}

/// # Safety
/// `LANES` values are readable at `p`, or `n` where `ragged`.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, p: *const f32, ragged: bool, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if ragged { s.load_first(p, n) } else { s.load(p) } }
}
