//! Matrices by strides, and the packed form of a right-hand operand.

use std::ops::Range;

use crate::buffer::{Buffer, Number};
use crate::dispatch::{Isa, Simd};
use crate::gemm::Shared;
use crate::threads::parallel;
use crate::tile::{Ahead, tiles};

/// A matrix read through strides.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T = f32> {
    pub(crate) data: &'a [T],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a, T: Number> Matrix<'a, T> {
    /// A row-major matrix without gaps.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows begin `row_stride` values apart.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || cols == 0 || (row_stride >= cols && data.len() >= (rows - 1) * row_stride + cols), "matrix beyond its slice");
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transposed matrix, over the same values.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// A right-hand operand `[k, n]` packed for the microkernel: panels of columns, each panel's rows contiguous.
#[derive(Debug, Clone)]
pub struct PackedB {
    pub(crate) isa: Isa,
    pub(crate) k: usize,
    pub(crate) n: usize,
    data: Buffer,
}

/// One panel: `vectors` vectors of columns from `column`, `width` of them real.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub column: usize,
    pub width: usize,
    pub vectors: usize,
    pub data: &'a [f32],
}

/// A panel that is being filled.
pub(crate) struct PanelMut<'a> {
    column: usize,
    width: usize,
    padded: usize,
    values: &'a mut [f32],
}

impl PanelMut<'_> {
    /// Columns of the operand that the panel holds.
    pub(crate) fn columns(&self) -> Range<usize> {
        self.column..self.column + self.width
    }

    #[inline(always)]
    pub(crate) fn put(&mut self, row: usize, column: usize, value: f32) {
        self.values[row * self.padded + column - self.column] = value;
    }
}

impl PackedB {
    /// Packs `b` for the best instruction set.
    pub fn new(b: Matrix) -> Self {
        Self::for_isa(Isa::best(), b)
    }

    /// Packs `b` for one instruction set.
    pub fn for_isa(isa: Isa, b: Matrix) -> Self {
        let mut packed = Self { isa, k: 0, n: 0, data: Buffer::default() };
        packed.repack(b);
        packed
    }

    /// Packs another matrix into the same memory.
    pub(crate) fn repack(&mut self, b: Matrix) {
        let data = self.reshape(b.rows, b.cols);
        let this = &*self;
        // Parts of some ten thousand values: a panel, or some of its rows.
        let panels = this.panels();
        let pieces =
            if b.rows * b.cols < 2 * PIECE { 1 } else { (b.rows * b.cols).div_ceil(PIECE).div_ceil(panels).min(b.rows.div_ceil(TURN)) };
        parallel(panels * pieces, |index| {
            let (column, width, padded) = this.place(index / pieces);
            let rows = crate::gemm::share(b.rows, pieces, index % pieces);
            // SAFETY: the panels' values follow one another, `padded * k` each; each part has rows of a panel of its own, and nobody reads
            // the values through `this` meanwhile.
            let values =
                unsafe { std::slice::from_raw_parts_mut(data.get().add(column * b.rows + rows.start * padded), rows.len() * padded) };
            pack_rows(values, b, rows, column, [width, padded]);
        });
    }

    /// Rows.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns.
    pub fn n(&self) -> usize {
        self.n
    }

    pub(crate) fn panels(&self) -> usize {
        let (lanes, panel) = self.isa.panel();
        self.n.div_ceil(lanes * panel)
    }

    pub(crate) fn panel(&self, index: usize) -> Panel<'_> {
        let (column, width, padded) = self.place(index);
        let at = column * self.k;
        Panel { column, width, vectors: padded / self.isa.panel().0, data: &self.data[at..at + padded * self.k] }
    }

    /// Makes it `[k, n]`, with values that are unspecified; where they begin.
    pub(crate) fn reshape(&mut self, k: usize, n: usize) -> Shared {
        let lanes = self.isa.panel().0;
        (self.k, self.n) = (k, n);
        self.data.resize(k * n.div_ceil(lanes) * lanes);
        Shared(self.data.as_mut_ptr())
    }

    /// First column, columns, and columns with padding of a panel, whose values begin `first column * k` values from the start.
    pub(crate) fn place(&self, index: usize) -> (usize, usize, usize) {
        let (lanes, panel) = self.isa.panel();
        let (first, vectors) = share(self.n.div_ceil(lanes), panel, index);
        let column = first * lanes;
        (column, (vectors * lanes).min(self.n - column), vectors * lanes)
    }

    /// Makes it `[k, n]`; `fill` writes all values of each panel, panels in parallel.
    pub(crate) fn fill(&mut self, k: usize, n: usize, fill: impl Fn(&mut PanelMut) + Sync) {
        let data = self.reshape(k, n);
        let this = &*self;
        parallel(this.panels(), |index| {
            let (column, width, padded) = this.place(index);
            // SAFETY: the panels' values follow one another, `padded * k` each, in a buffer of as many; each part has a panel of its own,
            // and nobody reads the values through `this` meanwhile.
            let values = unsafe { std::slice::from_raw_parts_mut(data.get().add(column * k), padded * k) };
            let mut panel = PanelMut { column, width, padded, values };
            if width < padded {
                panel.values.chunks_exact_mut(padded).for_each(|row| row[width..].fill(0.0));
            }
            fill(&mut panel);
        });
    }
}

impl PackedB {
    /// Where the rows `ks` of the panel after `index` lie (after the last of `panels`: of the first, the rows after `ks`), to be fetched
    /// while those of `index` are used in `parts` strips of which this is the `part`th, of `rows` rows each.
    #[inline(always)]
    pub(crate) fn ahead<S: Simd>(&self, index: usize, panels: &Range<usize>, ks: &Range<usize>, part: [usize; 2], rows: usize) -> Ahead {
        let (panel, row) = if index + 1 < panels.end { (index + 1, ks.start) } else { (panels.start, ks.end) };
        let (next, now) = (self.panel(panel), self.panel(index).vectors);
        let width = next.vectors * S::LANES;
        Ahead::new(next.data.as_ptr().wrapping_add(row * width), ks.len() * width, part, tiles::<S>(rows, now) * ks.len())
    }
}

/// Values of a part of packing.
const PIECE: usize = 1 << 14;
/// Rows that are turned together: a cache line of each column.
const TURN: usize = 16;

/// Packs the rows `rows` of `width` columns from `column` on.
fn pack_rows(values: &mut [f32], b: Matrix, rows: Range<usize>, column: usize, [width, padded]: [usize; 2]) {
    if b.col_stride == 1 {
        for (k, row) in rows.zip(values.chunks_exact_mut(padded.max(1))) {
            let start = k * b.row_stride + column;
            row[..width].copy_from_slice(&b.data[start..start + width]);
            row[width..].fill(0.0);
        }
        return;
    }
    for (block, values) in values.chunks_mut(TURN * padded.max(1)).enumerate() {
        let first = rows.start + block * TURN;
        let count = values.len() / padded.max(1);
        for j in 0..width {
            let start = first * b.row_stride + (column + j) * b.col_stride;
            if b.row_stride == 1 {
                for (i, &value) in b.data[start..start + count].iter().enumerate() {
                    values[i * padded + j] = value;
                }
            } else {
                for i in 0..count {
                    values[i * padded + j] = b.data[start + i * b.row_stride];
                }
            }
        }
        values.chunks_exact_mut(padded.max(1)).for_each(|row| row[width..].fill(0.0));
    }
}

/// First vector and number of vectors of panel `index`, where `vectors` are split as evenly as panels of at most `panel` allow: a panel of
/// one vector, slow because its sums wait for each other, comes up only alone.
fn share(vectors: usize, panel: usize, index: usize) -> (usize, usize) {
    let panels = vectors.div_ceil(panel);
    let (each, wider) = (vectors / panels, vectors % panels);
    (index * each + index.min(wider), each + usize::from(index < wider))
}
