//! Weights that change with every step: transformed in parallel, into memory that is kept.

use std::ops::Range;

use super::{TRANSFORM, WEIGHT, WinogradWeights};
use crate::conv::ConvShape;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::gemm::Shared;
use crate::pack::{Matrix, PackedB};
use crate::scratch;
use crate::threads::parallel;

/// Multiply-adds that take as long as making one packed weight.
const MADE: usize = 40;

/// Rows of weights that are gathered together.
const GATHER: usize = 8;

impl WinogradWeights {
    /// Nothing yet.
    pub(crate) const fn empty() -> Self {
        Self { side: 2, points: Vec::new() }
    }

    /// Transforms other weights `[out, C, 3, 3]` into the same memory, in parallel, those that write `columns`; `mirrored`: those of the
    /// gradient by the input, which reads `out` channels and writes `C`.
    pub(crate) fn transform(
        &mut self,
        isa: Isa,
        weight: &[f32],
        [outputs, channels]: [usize; 2],
        columns: Range<usize>,
        side: usize,
        mirrored: bool,
    ) {
        assert_eq!(weight.len(), outputs * channels * 9, "weights");
        let (k, of) = if mirrored { (outputs, channels) } else { (channels, outputs) };
        assert!(columns.end <= of, "columns");
        let n = columns.len();
        let count = (side + 2) * (side + 2);
        if self.points.first().is_some_and(|p| p.isa != isa) {
            self.points.clear();
        }
        self.points.resize_with(count, || PackedB::for_isa(isa, Matrix::new(&[], 0, 0)));
        self.side = side;
        let mut starts = [Shared(std::ptr::null_mut()); 36];
        self.points.iter_mut().zip(&mut starts).for_each(|(point, start)| *start = point.reshape(k, n));
        let (first, starts) = (&self.points[0], &starts);
        let pieces = k.div_ceil(GATHER);
        parallel(first.panels() * pieces, |part| {
            let place = first.place(part / pieces);
            let rows = part % pieces * GATHER..k.min((part % pieces + 1) * GATHER);
            scratch::for_part(|gathered| {
                gathered.resize(GATHER * 9 * place.2);
                gather(gathered, weight, rows.clone(), (columns.start + place.0, place.1, place.2), channels, mirrored);
                let from = place.0 * k + rows.start * place.2;
                let to = Transform { gathered, starts, from, rows: rows.len(), padded: place.2 };
                match side {
                    2 => isa.run(Sided::<4>(to)),
                    _ => isa.run(Sided::<6>(to)),
                }
            });
        });
    }
}

/// The weights of some rows of a panel as `[rows, 9, padded]`.
fn gather(
    to: &mut [f32],
    weight: &[f32],
    rows: Range<usize>,
    (column, width, padded): (usize, usize, usize),
    channels: usize,
    mirrored: bool,
) {
    for (i, row) in rows.enumerate() {
        let to = &mut to[i * 9 * padded..][..9 * padded];
        for j in 0..width {
            let (o, c) = if mirrored { (row, column + j) } else { (column + j, row) };
            let taps = &weight[(o * channels + c) * 9..][..9];
            for t in 0..9 {
                to[t * padded + j] = taps[if mirrored { 8 - t } else { t }];
            }
        }
        if width < padded {
            to.chunks_exact_mut(padded).for_each(|tap| tap[width..].fill(0.0));
        }
    }
}

/// `G g Gᵀ` of gathered weights, written to the same place of each point.
struct Transform<'a> {
    gathered: &'a [f32],
    starts: &'a [Shared; 36],
    from: usize,
    rows: usize,
    padded: usize,
}

struct Sided<'a, const A: usize>(Transform<'a>);

impl<const A: usize> Kernel for Sided<'_, A> {
    type Output = ();

    #[allow(clippy::needless_range_loop, reason = "constant bounds over rows and columns alike: the loops unroll")]
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let t = &self.0;
        assert!(t.gathered.len() >= t.rows * 9 * t.padded && t.padded.is_multiple_of(S::LANES));
        for row in 0..t.rows {
            for j in (0..t.padded).step_by(S::LANES) {
                // SAFETY: whole vectors of the gathered rows; each point has `padded` values for each row of the panel from `from` on, and
                // they are this part's own.
                unsafe {
                    let tap = |i: usize| s.load(t.gathered.as_ptr().add((row * 9 + i) * t.padded + j));
                    let mut half = [[s.splat(0.0); 3]; A];
                    for x in 0..3 {
                        let column: [S::V; A] = to_weights(s, [tap(x), tap(3 + x), tap(6 + x)]);
                        for y in 0..A {
                            half[y][x] = column[y];
                        }
                    }
                    for y in 0..A {
                        let points: [S::V; A] = to_weights(s, half[y]);
                        for x in 0..A {
                            s.store(t.starts[y * A + x].get().add(t.from + row * t.padded + j), points[x]);
                        }
                    }
                }
            }
        }
    }
}

/// `G g`.
#[inline(always)]
fn to_weights<S: Simd, const A: usize>(s: S, [a, b, c]: [S::V; 3]) -> [S::V; A] {
    let by = |v: S::V, factor: f32| s.mul(v, s.splat(factor));
    let ends = s.add(a, c);
    let mut out = [a; A];
    out[A - 1] = c;
    if A == 4 {
        out[1] = by(s.add(ends, b), 0.5);
        out[2] = by(s.sub(ends, b), 0.5);
    } else {
        out[0] = by(a, 0.25);
        out[1] = by(s.add(ends, b), -1.0 / 6.0);
        out[2] = by(s.sub(ends, b), -1.0 / 6.0);
        let (far, middle) = (s.fma(a, s.splat(1.0 / 24.0), by(c, 1.0 / 6.0)), by(b, 1.0 / 12.0));
        out[3] = s.add(far, middle);
        out[4] = s.sub(far, middle);
    }
    out
}

/// The tile side that is fastest in training, where weights are transformed for each use, if any gains by it.
///
/// Counted as in [`winograd_side`], for the whole batch.
pub(crate) fn winograd_side_training(shape: &ConvShape, outputs: usize) -> Option<usize> {
    let (w, c) = (&shape.window, shape.channels);
    let fits = w.kernel == [3, 3] && w.stride == [1, 1] && w.dilation == [1, 1];
    if !fits || c < 24 || outputs < 24 {
        return None;
    }
    let by_tiles = |side: usize| {
        let tiles = shape.batch * shape.output.iter().map(|size| size.div_ceil(side)).product::<usize>();
        (side + 2) * (side + 2) * (tiles * (c * outputs + TRANSFORM * (c + outputs)) + (WEIGHT + MADE) * c * outputs)
    };
    let plain = 9 * c * outputs * (shape.pixels() + WEIGHT + MADE);
    [(plain, None), (by_tiles(2), Some(2)), (by_tiles(4), Some(4))].into_iter().min_by_key(|(cost, _)| *cost).and_then(|(_, side)| side)
}
