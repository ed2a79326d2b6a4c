//! Matrix products: the blocking, the threads, and the safe front of the microkernel.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::pack::{Matrix, PackedB};
use crate::scratch::{self, Slot};
use crate::threads::{count, parallel};
use crate::tile::{Finish, Strip};
use crate::value::{Value, convert};

/// Values of k in a block: a panel of B this deep stays in the first two cache levels.
pub(crate) const KC: usize = 384;
/// Rows of A in a task, at most: their block stays in the second level.
pub(crate) const MC: usize = 144;
/// Multiply-adds of a part, at least.
const SMALLEST: usize = 1 << 16;

/// Bounds that a result is clamped to: an activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clamp {
    /// Lower bound.
    pub low: f32,
    /// Upper bound.
    pub high: f32,
}

impl Clamp {
    /// `max(x, 0)`.
    pub const RELU: Self = Self { low: 0.0, high: f32::INFINITY };
    /// `min(max(x, 0), 6)`.
    pub const RELU6: Self = Self { low: 0.0, high: 6.0 };
}

/// What happens to a product before it is written: `clamp(product + bias + residual)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// One value a column.
    pub bias: Option<&'a [f32]>,
    /// A matrix of the result's shape, row-major without gaps.
    pub residual: Option<&'a [f32]>,
    /// The activation.
    pub clamp: Option<Clamp>,
}

/// Rows of a left-hand operand, possibly made on demand (im2col).
pub(crate) trait Rows: Sync {
    /// The values `rows × ks`, in place or in `scratch`, and the distance between rows.
    fn block<'a, S: Simd>(&'a self, s: S, rows: Range<usize>, ks: Range<usize>, scratch: &'a mut Buffer) -> (&'a [f32], usize);
}

impl<T: Value> Rows for Matrix<'_, T> {
    #[inline(always)]
    fn block<'a, S: Simd>(&'a self, s: S, rows: Range<usize>, ks: Range<usize>, scratch: &'a mut Buffer) -> (&'a [f32], usize) {
        let (m, k) = (rows.len(), ks.len());
        if self.col_stride == 1 {
            if let Some(data) = T::as_f32(self.data) {
                return (&data[rows.start * self.row_stride + ks.start..], self.row_stride);
            }
            scratch.resize(m * k);
            if k == self.row_stride {
                convert(s, scratch, &self.data[rows.start * k..rows.end * k]);
                return (scratch, k);
            }
            for (row, wide) in rows.zip(scratch.chunks_exact_mut(k.max(1))) {
                convert(s, wide, &self.data[row * self.row_stride + ks.start..][..k]);
            }
            return (scratch, k);
        }
        scratch.resize(m * k);
        for (p, source) in ks.enumerate() {
            let start = source * self.col_stride + rows.start * self.row_stride;
            if self.row_stride == 1 {
                for (i, value) in self.data[start..start + m].iter().enumerate() {
                    scratch[i * k + p] = value.get();
                }
            } else {
                for i in 0..m {
                    scratch[i * k + p] = self.data[start + i * self.row_stride].get();
                }
            }
        }
        (scratch, k)
    }
}

/// A pointer that tasks share; each writes its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T = f32>(pub *mut T);
// SAFETY: every user splits the memory behind it into disjoint parts, one a task.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    #[inline(always)]
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

/// `c [m, n] = a [m, k] · b`, or `c += a · b`; C row-major without gaps, with an epilogue on the result.
///
/// # Panics
/// Where sizes disagree.
pub fn gemm_packed(c: &mut [f32], a: Matrix, b: &PackedB, accumulate: bool, epilogue: &Epilogue) {
    assert_eq!(a.cols, b.k, "inner sizes");
    multiply(c, b.n, a.rows, &a, b, accumulate, epilogue);
}

/// `c [m, n] = a [m, k] · b [k, n]`, or `c += a · b`; C row-major without gaps. Transposed operands: [`Matrix::t`].
///
/// # Panics
/// Where sizes disagree.
pub fn gemm(c: &mut [f32], a: Matrix, b: Matrix, accumulate: bool) {
    gemm_for(Isa::best(), c, a, b, accumulate);
}

/// Rows of B packed at a time: a long reduction (a weight gradient) never packs all of B.
const PACK_ROWS: usize = 4 * KC;

pub(crate) fn gemm_for(isa: Isa, c: &mut [f32], a: Matrix, b: Matrix, accumulate: bool) {
    assert_eq!(a.cols, b.rows, "inner sizes");
    let mut packed = PackedB::for_isa(isa, Matrix { rows: 0, ..b });
    let mut first = !accumulate;
    for start in (0..a.cols.max(1)).step_by(PACK_ROWS) {
        let depth = PACK_ROWS.min(a.cols - start);
        packed.repack(Matrix { data: b.data.get(start * b.row_stride..).unwrap_or_default(), rows: depth, ..b });
        let a = Matrix { data: a.data.get(start * a.col_stride..).unwrap_or_default(), cols: depth, ..a };
        multiply(c, b.cols, a.rows, &a, &packed, !first, &Epilogue::default());
        first = false;
    }
}

/// The product on this thread alone, for callers that are parts of a job already and write rows among those of others.
///
/// # Safety
/// `c` points at `m` rows, `c_stride` apart, of `b.n` values that nobody else touches meanwhile.
pub(crate) unsafe fn multiply_at(c: Shared, c_stride: usize, m: usize, a: &impl Rows, b: &PackedB) {
    for start in (0..m).step_by(MC) {
        let (rows, panels) = (start..m.min(start + MC), 0..b.panels());
        b.isa.run(Product { a, b, c, c_stride, rows, panels, accumulate: false, epilogue: &Epilogue::default() });
    }
}

/// The product of `m` rows with packed B into C whose rows are `c_stride` apart. A residual is not for a C of bf16.
pub(crate) fn multiply<T: Value>(
    c: &mut [T],
    c_stride: usize,
    m: usize,
    a: &impl Rows,
    b: &PackedB,
    accumulate: bool,
    epilogue: &Epilogue,
) {
    let n = b.n;
    if m == 0 || n == 0 {
        return;
    }
    assert!(c_stride >= n && c.len() >= (m - 1) * c_stride + n, "C is too small: {} values for {m} × {n}", c.len());
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == n), "one bias a column");
    assert!(epilogue.residual.is_none_or(|r| r.len() >= (m - 1) * c_stride + n), "a residual of C's shape");
    assert!(!accumulate || epilogue.residual.is_none(), "either a residual or C's old values are added");
    assert!(T::WIDE || epilogue.residual.is_none(), "a residual in f32 beside a C of f32");
    let shared = Shared(c.as_mut_ptr());
    let panels = b.panels();
    // Parts are a matter of speed alone: every element of C is one thread's, and its sum runs over k in one order.
    let split = Split::new(m.div_ceil(MC)..m.div_ceil(8), panels, m >= n, m * n * b.k, count());
    parallel(split.parts(), |index| {
        let (rows, panels) = split.part(index, m, panels);
        b.isa.run(Product { a, b, c: shared, c_stride, rows, panels, accumulate, epilogue });
    });
}

/// How C is dealt out: runs of rows by runs of panels.
#[derive(Clone, Copy)]
pub(crate) struct Split {
    pub row_parts: usize,
    pub panel_parts: usize,
    rows_first: bool,
}

impl Split {
    /// A split into a few parts a thread, of `work` multiply-adds together: between `rows.start` and `rows.end` runs of rows, and at most
    /// `panels` of panels. Each thread reads its rows of A and its columns of B, so the larger operand is the one to divide first.
    pub fn new(rows: Range<usize>, panels: usize, rows_first: bool, work: usize, threads: usize) -> Self {
        let wanted = if threads == 1 { 1 } else { (threads * 4).min(work / SMALLEST).max(1) };
        let fit = |parts: usize| parts.min(rows.end).max(rows.start).max(1);
        let (row_parts, panel_parts) = if rows_first {
            let row_parts = fit(wanted);
            (row_parts, wanted.div_ceil(row_parts).min(panels))
        } else {
            let panel_parts = wanted.min(panels);
            (fit(wanted.div_ceil(panel_parts)), panel_parts)
        };
        Self { row_parts, panel_parts, rows_first }
    }

    pub fn parts(&self) -> usize {
        self.row_parts * self.panel_parts
    }

    /// The rows and panels of a part, of so many in all. Neighbours share what is larger.
    pub fn part(&self, index: usize, rows: usize, panels: usize) -> (Range<usize>, Range<usize>) {
        let (r, p) = match self.rows_first {
            true => (index / self.panel_parts, index % self.panel_parts),
            false => (index % self.row_parts, index / self.row_parts),
        };
        (share(rows, self.row_parts, r), share(panels, self.panel_parts, p))
    }
}

/// The `index`th of `parts` nearly equal runs of `0..total`.
pub(crate) fn share(total: usize, parts: usize, index: usize) -> Range<usize> {
    total * index / parts..total * (index + 1) / parts
}

struct Product<'a, A, T = f32> {
    a: &'a A,
    b: &'a PackedB,
    c: Shared<T>,
    c_stride: usize,
    rows: Range<usize>,
    panels: Range<usize>,
    accumulate: bool,
    epilogue: &'a Epilogue<'a>,
}

/// Values of a block of A and of the rows of C under it, in f32, where C is bf16.
const TILE: usize = 48 * 1024;

impl<A: Rows, T: Value> Kernel for Product<'_, A, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        scratch::for_part(|buffer| {
            if T::WIDE {
                let c = self.c.get().cast::<f32>().wrapping_add(self.rows.start * self.c_stride);
                return self.blocks(s, self.rows.clone(), c, self.c_stride, buffer);
            }
            let (from, to) = self.columns();
            let most = (TILE / (to - from + self.b.k.min(KC)).max(1)).clamp(12, MC) / 6 * 6;
            for start in self.rows.clone().step_by(most) {
                let rows = start..self.rows.end.min(start + most);
                scratch::for_use(Slot::Tile, rows.len() * (to - from), |tile| self.narrow(s, rows, tile, buffer));
            }
        });
    }
}

impl<A: Rows, T: Value> Product<'_, A, T> {
    /// First column of its panels, and the one after the last.
    fn columns(&self) -> (usize, usize) {
        let last = self.b.panel(self.panels.end - 1);
        (self.b.panel(self.panels.start).column, last.column + last.width)
    }

    /// Some rows of C by sums in `tile`, f32, rounded once.
    #[inline(always)]
    fn narrow<S: Simd>(&self, s: S, rows: Range<usize>, tile: &mut [f32], buffer: &mut Buffer) {
        let (from, to) = self.columns();
        let width = to - from;
        // Rows without gaps are one.
        let run = if width == self.c_stride { rows.len() * width } else { width };
        let row = |index: usize| {
            // SAFETY: `multiply` checked C and gives each task rows and columns of its own.
            unsafe { std::slice::from_raw_parts_mut(self.c.get().add((rows.start + index) * self.c_stride + from), run) }
        };
        if self.accumulate {
            tile.chunks_exact_mut(run).enumerate().for_each(|(i, tile)| convert(s, tile, row(i)));
        }
        self.blocks(s, rows.clone(), tile.as_mut_ptr().wrapping_sub(from), width, buffer);
        tile.chunks_exact(run).enumerate().for_each(|(i, tile)| convert(s, row(i), tile));
    }

    /// The rows `rows` in f32, the first of which begins at `c`.
    #[inline(always)]
    fn blocks<S: Simd>(&self, s: S, rows: Range<usize>, c: *mut f32, c_stride: usize, scratch: &mut Buffer) {
        let k = self.b.k;
        let blocks = k.div_ceil(KC).max(1);
        for block in 0..blocks {
            let ks = share(k, blocks, block);
            let m = rows.len();
            let (a, a_stride) = self.a.block(s, rows.clone(), ks.clone(), scratch);
            assert!(a.len() >= (m - 1) * a_stride + ks.len(), "A is too small");
            for index in self.panels.clone() {
                let panel = self.b.panel(index);
                let c = c.wrapping_add(panel.column);
                let strip = Strip {
                    rows: m,
                    a: a.as_ptr(),
                    a_stride,
                    runs: 1,
                    run: ks.len(),
                    run_stride: 0,
                    b: panel.data[ks.start * panel.vectors * S::LANES..].as_ptr(),
                    c,
                    c_stride,
                    vectors: panel.vectors,
                    width: panel.width,
                    finish: self.epilogue.finish(c, c_stride, [rows.start, panel.column], [block, blocks], self.accumulate),
                    ahead: self.b.ahead::<S>(index, &self.panels, &ks, [0, 1], m),
                };
                // SAFETY: A was checked above; B's panel holds k rows of its vectors; `multiply` checked C, bias and residual, and gives
                // each task rows and columns of its own; a tile holds as many rows and columns.
                unsafe { strip.run(s) };
            }
        }
    }
}

impl Epilogue<'_> {
    /// What the tiles at `c`, row `row` and column `column` of C, do in block `block` of `blocks` of k: the first begins with the bias and
    /// what is added, the others with what the one before left; the last clamps.
    #[inline(always)]
    pub(crate) fn finish(
        &self,
        c: *const f32,
        stride: usize,
        [row, column]: [usize; 2],
        [block, blocks]: [usize; 2],
        accumulate: bool,
    ) -> Finish {
        let residual = self.residual.map_or(std::ptr::null(), |r| r.as_ptr().wrapping_add(row * stride + column));
        let clamp = self.clamp.filter(|_| block + 1 == blocks);
        Finish {
            bias: self.bias.filter(|_| block == 0).map_or(std::ptr::null(), |bias| bias.as_ptr().wrapping_add(column)),
            add: if block > 0 || accumulate { c } else { residual },
            add_stride: stride,
            low: clamp.map_or(f32::NEG_INFINITY, |c| c.low),
            high: clamp.map_or(f32::INFINITY, |c| c.high),
        }
    }
}
