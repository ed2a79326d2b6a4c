//! Weight gradients of 3 × 3 convolutions of stride 1 by Winograd's F(4 × 4, 3 × 3): the transpose of the forward pass. A tile's 16 gradients
//! become 36 points `A dY Aᵀ`, the 36 values under it become `Bᵀ X B`; at each point the outer products of all tiles are summed; and the
//! 36 sums become nine taps, `Gᵀ M G`.

use std::ops::Range;

use super::convolution::Convolution;
use super::outer::Outer;
use crate::conv::ConvShape;
use crate::dispatch::{Kernel, Simd};
use crate::gemm::{Shared, share};
use crate::scratch::{self, Slot};
use crate::threads::{count, parallel};
use crate::value::Value;
use crate::winograd::{TRANSFORM, tile_points};

/// Outputs and points of a tile along a side.
const M: usize = 4;
const A: usize = 6;
/// Values of points that are worked on at a time: about the second cache level of two cores.
const BLOCK: usize = 640 * 1024;

/// Sums that are kept at a time, where all tiles are one block: 4 MiB, which stay in the third cache level. Tests have several parts of small
/// layers.
const SUMS: usize = if cfg!(test) { 1 } else { 1 << 20 };

/// Whether that is faster than the plain sums. Counted in multiply-adds, as in [`crate::winograd_side`].
pub(super) fn gains(c: &Convolution) -> bool {
    let (w, (inner, outputs)) = (&c.shape.window, (c.shape.channels, c.outputs));
    let fits = c.groups == 1 && w.kernel == [3, 3] && w.stride == [1, 1] && w.dilation == [1, 1];
    if !fits || inner < 24 || outputs < 24 {
        return false;
    }
    let tiles = c.shape.batch * c.shape.output.iter().map(|size| size.div_ceil(M)).product::<usize>();
    let by_tiles = A * A * (tiles * (inner * outputs + 2 * TRANSFORM * (inner + outputs)) + SUM * inner * outputs);
    by_tiles < 9 * inner * outputs * (c.shape.pixels() + SUM)
}

/// Multiply-adds that take as long as writing and reading one sum.
const SUM: usize = 46;

/// `dw` `[O, C, 3, 3]` from both maps.
pub(super) fn weight_gradient<T: Value>(c: &Convolution, dw: &mut [f32], dy: &[T], x: &[T]) {
    let (inner, outputs) = (c.shape.channels, c.outputs);
    let grid = c.shape.output.map(|size| size.div_ceil(M));
    let tiles = c.shape.batch * grid[0] * grid[1];
    let most = (BLOCK / (A * A * (inner + outputs))).max(64);
    let blocks = tiles.div_ceil(most);
    let each = tiles.div_ceil(blocks);
    // A cache line more than the matrix, so that the points of a tile do not fall into one cache set.
    let strides = [inner, outputs].map(|size| (each * size).next_multiple_of(16) + 16);
    // Outputs whose sums are made together. Several blocks add to sums of all.
    let rows = if blocks == 1 { (SUMS / (A * A * inner)).max(1).next_multiple_of(16).min(outputs) } else { outputs };
    let out = Shared(dw.as_mut_ptr());
    scratch::for_use(Slot::Sums, A * A * inner * rows, |sums| {
        scratch::for_job(A * A * (strides[0] + strides[1]), |points| {
            let points = Shared(points.as_mut_ptr());
            let points = [points, Shared(points.get().wrapping_add(A * A * strides[0]))];
            for block in 0..blocks {
                let range = share(tiles, blocks, block);
                let sums_at = Shared(sums.as_mut_ptr());
                let begin = block == 0;
                let job = Block { c, dy, x, grid, first: range.start, tiles: range.len(), points, strides, sums: sums_at, begin };
                let parts = range.len().min(count() * 4);
                parallel(parts, |i| c.isa.run(Stage { block: &job, part: Part::Points(share(range.len(), parts, i)) }));
                for first in (0..outputs).step_by(rows) {
                    let some = first..outputs.min(first + rows);
                    parallel(A * A, |point| c.isa.run(Stage { block: &job, part: Part::Sums(point, some.clone()) }));
                    if block + 1 == blocks {
                        let sums = &*sums;
                        parallel(some.len(), |o| {
                            // SAFETY: each output has `9 * inner` weights of its own.
                            let dw = unsafe { std::slice::from_raw_parts_mut(out.get().add((first + o) * inner * 9), inner * 9) };
                            c.isa.run(Taps { dw, sums, o, sizes: [some.len(), inner] });
                        });
                    }
                }
            }
        });
    });
}

/// Tiles that are worked on together.
struct Block<'a, T> {
    c: &'a Convolution,
    dy: &'a [T],
    x: &'a [T],
    grid: [usize; 2],
    first: usize,
    tiles: usize,
    /// Of the input, `[36, tiles, C]`, and of the gradient, `[36, tiles, O]`; the distance between points is a little more.
    points: [Shared; 2],
    strides: [usize; 2],
    /// `[36, O, C]`, of all outputs or of some.
    sums: Shared,
    begin: bool,
}

enum Part {
    Points(Range<usize>),
    /// Of some outputs at a point.
    Sums(usize, Range<usize>),
}

struct Stage<'a, 'b, T> {
    block: &'a Block<'b, T>,
    part: Part,
}

impl<T: Value> Kernel for Stage<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.part {
            // A loop, no closure: one that is not inlined would lose the instruction set.
            Part::Points(tiles) => {
                for tile in tiles {
                    self.block.points(s, tile);
                }
            }
            Part::Sums(point, outputs) => self.block.products(s, point, outputs),
        }
    }
}

impl<T: Value> Block<'_, T> {
    #[inline(always)]
    fn points<S: Simd>(&self, s: S, tile: usize) {
        let (shape, [down, across]) = (&self.c.shape, self.grid);
        let at = self.first + tile;
        let (n, place) = (at / (down * across), [at / across % down * M, at % across * M]);
        let target = Shared(self.points[0].get().wrapping_add(tile * shape.channels));
        // SAFETY: the block holds `strides` values for each point, `C` and `O` of them this tile's.
        unsafe {
            tile_points::<S, T, A>(s, self.x, shape, n, place, target, self.strides[0]);
            self.gradient_points(s, n, place, self.points[1].get().wrapping_add(tile * self.c.outputs));
        }
    }

    /// `A dY Aᵀ` of a tile.
    ///
    /// # Safety
    /// As for [`tile_points`].
    #[inline(always)]
    unsafe fn gradient_points<S: Simd>(&self, s: S, n: usize, place: [usize; 2], target: *mut f32) {
        let outputs = self.c.outputs;
        let mut channel = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while channel + S::LANES <= outputs {
                self.gradient_points_at::<S, true>(s, n, place, target, [channel, S::LANES]);
                channel += S::LANES;
            }
            if channel < outputs {
                self.gradient_points_at::<S, false>(s, n, place, target, [channel, outputs - channel]);
            }
        }
    }

    /// As [`Self::gradient_points`], `count` channels from one on.
    ///
    /// # Safety
    /// As for [`tile_points`].
    #[allow(clippy::needless_range_loop, reason = "constant bounds over rows and columns alike: the loops unroll")]
    #[inline(always)]
    unsafe fn gradient_points_at<S: Simd, const WHOLE: bool>(
        &self,
        s: S,
        n: usize,
        [y, x]: [usize; 2],
        target: *mut f32,
        [channel, count]: [usize; 2],
    ) {
        let (ConvShape { output: [oh, ow], .. }, outputs) = (self.c.shape, self.c.outputs);
        let image = self.dy[n * oh * ow * outputs..(n + 1) * oh * ow * outputs].as_ptr();
        let mut half = [[s.splat(0.0); M]; A];
        for j in 0..M {
            let column: [S::V; M] = std::array::from_fn(|i| {
                if y + i < oh && x + j < ow {
                    // SAFETY: a pixel of the output, `count` channels from `channel` on.
                    unsafe { T::load_n::<S, WHOLE>(s, image.add(((y + i) * ow + x + j) * outputs + channel), count) }
                } else {
                    s.splat(0.0)
                }
            });
            let column = spread(s, column);
            for i in 0..A {
                half[i][j] = column[i];
            }
        }
        for i in 0..A {
            let row = spread(s, half[i]);
            for j in 0..A {
                // SAFETY: the caller's promise.
                unsafe { f32::store_n::<S, WHOLE>(s, target.add((i * A + j) * self.strides[1] + channel), count, row[j]) };
            }
        }
    }

    /// The outer products of all tiles at a point, of some outputs.
    #[inline(always)]
    fn products<S: Simd>(&self, s: S, point: usize, outputs: Range<usize>) {
        let inner = self.c.shape.channels;
        let outer = Outer {
            m: outputs.len(),
            n: inner,
            u: self.points[1].get().wrapping_add(point * self.strides[1] + outputs.start),
            u_step: self.c.outputs,
            v: self.points[0].get().wrapping_add(point * self.strides[0]),
            v_step: inner,
            runs: &[(0, 0)],
            run: self.tiles,
            c: self.sums.get().wrapping_add(point * inner * outputs.len()),
            c_stride: inner,
            first: self.begin,
            // Nothing new: the rows themselves, for a fetch of no memory at all costs a walk through the page tables.
            ahead: [(self.points[0].get().cast_const(), 0); 2],
        };
        // SAFETY: each point has `tiles` rows of both and sums of its own.
        unsafe { outer.run(s) };
    }
}

/// `A y`.
#[inline(always)]
fn spread<S: Simd>(s: S, y: [S::V; M]) -> [S::V; A] {
    let (two, four) = (s.splat(2.0), s.splat(4.0));
    let (even, odd) = (s.add(y[0], y[2]), s.add(y[1], y[3]));
    // y0 + 4 y2 and 2 y1 + 8 y3.
    let (far, wide) = (s.fma(y[2], four, y[0]), s.mul(two, s.fma(y[3], four, y[1])));
    [y[0], s.add(even, odd), s.sub(even, odd), s.add(far, wide), s.sub(far, wide), y[3]]
}

/// `Gᵀ m`.
#[inline(always)]
fn gather<S: Simd>(s: S, m: [S::V; A]) -> [S::V; 3] {
    let by = |v: S::V, factor: f32, to: S::V| s.fma(v, s.splat(factor), to);
    let (near, near_odd) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    let (far, far_odd) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
    let ends = s.mul(s.sub(far, near), s.splat(1.0 / 6.0));
    [
        by(m[0], 0.25, by(near, -1.0 / 6.0, s.mul(far, s.splat(1.0 / 24.0)))),
        by(near_odd, -1.0 / 6.0, s.mul(far_odd, s.splat(1.0 / 12.0))),
        s.add(ends, m[5]),
    ]
}

/// The taps of one of the outputs that there are sums of.
struct Taps<'a> {
    dw: &'a mut [f32],
    sums: &'a [f32],
    o: usize,
    sizes: [usize; 2],
}

impl Kernel for Taps<'_> {
    type Output = ();

    #[allow(clippy::needless_range_loop, reason = "constant bounds over rows and columns alike: the loops unroll")]
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [outputs, inner] = self.sizes;
        assert!(self.sums.len() >= A * A * outputs * inner && self.o < outputs && self.dw.len() == 9 * inner);
        let mut taps = [0.0f32; 9 * 16];
        for channel in (0..inner).step_by(S::LANES) {
            let count = S::LANES.min(inner - channel);
            // SAFETY: `count` sums from `channel` on of row `o` of each point; nine vectors of at most 16 taps.
            unsafe {
                let mut half = [[s.splat(0.0); A]; 3];
                for j in 0..A {
                    let at = |i: usize| ((i * A + j) * outputs + self.o) * inner + channel;
                    let column = gather(s, std::array::from_fn(|i| s.load_first(self.sums.as_ptr().add(at(i)), count)));
                    for i in 0..3 {
                        half[i][j] = column[i];
                    }
                }
                for i in 0..3 {
                    for (j, v) in gather(s, half[i]).into_iter().enumerate() {
                        s.store(taps.as_mut_ptr().add((i * 3 + j) * S::LANES), v);
                    }
                }
            }
            for (i, dw) in self.dw[channel * 9..(channel + count) * 9].chunks_exact_mut(9).enumerate() {
                dw.iter_mut().enumerate().for_each(|(t, dw)| *dw = taps[t * S::LANES + i]);
            }
        }
    }
}
