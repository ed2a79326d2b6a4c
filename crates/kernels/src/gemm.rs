//! Matrix products: the blocking, the threads, and the safe front of the microkernel.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::pack::{Matrix, PackedB};
use crate::tile::{Finish, Strip};

/// Values of k in a block: a panel of B this deep stays in the first two cache levels.
const KC: usize = 384;
/// Rows of A in a task, at most: their block stays in the second level.
const MC: usize = 144;
/// Multiply-adds below which threads cost more than they bring.
const SERIAL: usize = 1 << 17;

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
    fn block<'a>(&'a self, rows: Range<usize>, ks: Range<usize>, scratch: &'a mut Buffer) -> (&'a [f32], usize);
}

impl Rows for Matrix<'_> {
    fn block<'a>(&'a self, rows: Range<usize>, ks: Range<usize>, scratch: &'a mut Buffer) -> (&'a [f32], usize) {
        if self.col_stride == 1 {
            return (&self.data[rows.start * self.row_stride + ks.start..], self.row_stride);
        }
        let (m, k) = (rows.len(), ks.len());
        scratch.resize(m * k);
        for (p, source) in ks.enumerate() {
            let start = source * self.col_stride + rows.start * self.row_stride;
            if self.row_stride == 1 {
                for (i, &value) in self.data[start..start + m].iter().enumerate() {
                    scratch[i * k + p] = value;
                }
            } else {
                for i in 0..m {
                    scratch[i * k + p] = self.data[start + i * self.row_stride];
                }
            }
        }
        (scratch, k)
    }
}

/// A pointer that tasks share; each writes its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared(pub *mut f32);
// SAFETY: every user splits the memory behind it into disjoint parts, one a task.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn get(self) -> *mut f32 {
        self.0
    }
}

thread_local! {
    static SCRATCH: RefCell<Buffer> = RefCell::new(Buffer::default());
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

/// The product of `m` rows with packed B into C whose rows are `c_stride` apart.
pub(crate) fn multiply(c: &mut [f32], c_stride: usize, m: usize, a: &impl Rows, b: &PackedB, accumulate: bool, epilogue: &Epilogue) {
    spread(c, c_stride, m, a, b, accumulate, epilogue, rayon::current_num_threads());
}

/// [`multiply`] without accumulation, on this thread alone: for callers that are tasks already.
pub(crate) fn multiply_here(c: &mut [f32], c_stride: usize, m: usize, a: &impl Rows, b: &PackedB, epilogue: &Epilogue) {
    spread(c, c_stride, m, a, b, false, epilogue, 1);
}

#[allow(clippy::too_many_arguments)]
fn spread(c: &mut [f32], c_stride: usize, m: usize, a: &impl Rows, b: &PackedB, accumulate: bool, epilogue: &Epilogue, threads: usize) {
    let n = b.n;
    if m == 0 || n == 0 {
        return;
    }
    assert!(c_stride >= n && c.len() >= (m - 1) * c_stride + n, "C is too small: {} values for {m} × {n}", c.len());
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == n), "one bias a column");
    assert!(epilogue.residual.is_none_or(|r| r.len() >= (m - 1) * c_stride + n), "a residual of C's shape");
    let shared = Shared(c.as_mut_ptr());
    let task = |rows: Range<usize>, panels: Range<usize>| {
        let product = Product { a, b, c: shared, c_stride, rows, panels, accumulate, epilogue };
        b.isa.run(product);
    };
    let panels = b.panels();
    if threads == 1 || m * n * b.k < SERIAL {
        for start in (0..m).step_by(MC) {
            task(start..m.min(start + MC), 0..panels);
        }
        return;
    }
    // Parts are a matter of speed alone: every element of C is one thread's, and its sum runs over k in one order.
    let rows = m.div_ceil(threads * 3).next_multiple_of(24).clamp(24, MC);
    let row_tasks = m.div_ceil(rows);
    let groups = if row_tasks >= threads * 2 { 1 } else { (threads * 3).div_ceil(row_tasks).min(panels) };
    let wide = panels.div_ceil(groups);
    let groups = panels.div_ceil(wide);
    (0..row_tasks * groups).into_par_iter().with_max_len(1).for_each(|index| {
        let (r, g) = (index / groups, index % groups);
        task(r * rows..m.min((r + 1) * rows), g * wide..panels.min((g + 1) * wide));
    });
}

struct Product<'a, A> {
    a: &'a A,
    b: &'a PackedB,
    c: Shared,
    c_stride: usize,
    rows: Range<usize>,
    panels: Range<usize>,
    accumulate: bool,
    epilogue: &'a Epilogue<'a>,
}

impl<A: Rows> Kernel for Product<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        SCRATCH.with_borrow_mut(|scratch| self.blocks(s, scratch));
    }
}

impl<A: Rows> Product<'_, A> {
    #[inline(always)]
    fn blocks<S: Simd>(&self, s: S, scratch: &mut Buffer) {
        let k = self.b.k;
        let blocks = k.div_ceil(KC).max(1);
        let depth = k.div_ceil(blocks);
        for block in 0..blocks {
            let ks = block * depth..k.min((block + 1) * depth);
            let m = self.rows.len();
            let (a, a_stride) = self.a.block(self.rows.clone(), ks.clone(), scratch);
            assert!(a.len() >= (m - 1) * a_stride + ks.len(), "A is too small");
            for index in self.panels.clone() {
                let panel = self.b.panel(index);
                let (column, row) = (panel.column, self.rows.start);
                let finish = self.finish(block == 0, block + 1 == blocks, row, column);
                let strip = Strip {
                    rows: m,
                    k: ks.len(),
                    a: a.as_ptr(),
                    a_stride,
                    b: panel.data[ks.start * panel.vectors * S::LANES..].as_ptr(),
                    c: self.c.get().wrapping_add(row * self.c_stride + column),
                    c_stride: self.c_stride,
                    vectors: panel.vectors,
                    width: panel.width,
                    finish,
                };
                // SAFETY: A was checked above; B's panel holds k rows of its vectors; `multiply` checked C, bias and residual, and gives
                // each task rows and columns of its own.
                unsafe { strip.run(s) };
            }
        }
    }

    #[inline(always)]
    fn finish(&self, first: bool, last: bool, row: usize, column: usize) -> Finish {
        let e = self.epilogue;
        let at =
            |slice: Option<&[f32]>, offset: usize| slice.filter(|_| last).map_or(std::ptr::null(), |s| s.as_ptr().wrapping_add(offset));
        let clamp = e.clamp.filter(|_| last);
        Finish {
            accumulate: self.accumulate || !first,
            bias: at(e.bias, column),
            residual: at(e.residual, row * self.c_stride + column),
            residual_stride: self.c_stride,
            clamp: clamp.is_some(),
            low: clamp.map_or(0.0, |c| c.low),
            high: clamp.map_or(0.0, |c| c.high),
        }
    }
}
