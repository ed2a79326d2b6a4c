//! Matrices by strides, and the packed form of a right-hand operand.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::dispatch::{Isa, Simd};
use crate::gemm::Shared;
use crate::threads::parallel;
use crate::tile::{Ahead, tiles};

/// A matrix read through strides.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix without gaps.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows begin `row_stride` values apart.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
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
        let (lanes, panel) = self.isa.panel();
        (self.k, self.n) = (b.rows, b.cols);
        self.data.resize(b.rows * b.cols.div_ceil(lanes) * lanes);
        let vectors = b.cols.div_ceil(lanes);
        let mut at = 0;
        for index in 0..vectors.div_ceil(panel) {
            let (first, count) = share(vectors, panel, index);
            let (column, padded) = (first * lanes, count * lanes);
            let width = padded.min(b.cols - column);
            for (k, row) in self.data[at..at + padded * b.rows].chunks_exact_mut(padded).enumerate() {
                let start = k * b.row_stride + column * b.col_stride;
                if b.col_stride == 1 {
                    row[..width].copy_from_slice(&b.data[start..start + width]);
                } else {
                    for (j, value) in row[..width].iter_mut().enumerate() {
                        *value = b.data[start + j * b.col_stride];
                    }
                }
                row[width..].fill(0.0);
            }
            at += padded * b.rows;
        }
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

    /// First column, columns, and columns with padding of a panel, whose values begin `first column * k` values from the start.
    fn place(&self, index: usize) -> (usize, usize, usize) {
        let (lanes, panel) = self.isa.panel();
        let (first, vectors) = share(self.n.div_ceil(lanes), panel, index);
        let column = first * lanes;
        (column, (vectors * lanes).min(self.n - column), vectors * lanes)
    }

    /// Makes it `[k, n]`; `fill` writes all values of each panel, panels in parallel.
    pub(crate) fn fill(&mut self, k: usize, n: usize, fill: impl Fn(&mut PanelMut) + Sync) {
        let lanes = self.isa.panel().0;
        (self.k, self.n) = (k, n);
        self.data.resize(k * n.div_ceil(lanes) * lanes);
        let data = Shared(self.data.as_mut_ptr());
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

/// First vector and number of vectors of panel `index`, where `vectors` are split as evenly as panels of at most `panel` allow: a panel of
/// one vector, slow because its sums wait for each other, comes up only alone.
fn share(vectors: usize, panel: usize, index: usize) -> (usize, usize) {
    let panels = vectors.div_ceil(panel);
    let (each, wider) = (vectors / panels, vectors % panels);
    (index * each + index.min(wider), each + usize::from(index < wider))
}
