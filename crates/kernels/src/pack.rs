//! Matrices by strides, and the packed form of a right-hand operand.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::dispatch::{Isa, Simd};
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
        let (lanes, panel) = self.isa.panel();
        let (first, vectors) = share(self.n.div_ceil(lanes), panel, index);
        let column = first * lanes;
        let width = (vectors * lanes).min(self.n - column);
        let at = column * self.k;
        Panel { column, width, vectors, data: &self.data[at..at + vectors * lanes * self.k] }
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
