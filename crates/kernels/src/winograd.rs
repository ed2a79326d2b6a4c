//! 3 × 3 convolutions of stride 1 by Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
//! 2015): F(2 × 2, 3 × 3) takes 16 multiplications for 4 outputs where the plain sum takes 36, F(4 × 4, 3 × 3) 36 for 16.
//!
//! A map is cut into tiles that overlap by two rows and columns; each becomes `(M + 2)²` points; at each point the tiles are multiplied by
//! the weights' point as matrices `[tiles, C] · [C, out]`; and the products become `M × M` outputs. Everything runs over channels.

mod training;

use std::ops::Range;

use crate::buffer::Buffer;
use crate::conv::ConvShape;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::gemm::{Epilogue, KC, Shared, share};
use crate::pack::{Matrix, PackedB};
use crate::scratch;
use crate::threads::{count, parallel};
use crate::tile::{Ahead, Finish, Strip, tiles};
use crate::value::Value;

pub(crate) use training::winograd_side_training;

/// Bytes of weights that stay in a thread's second cache level beside its tiles.
const RESIDENT: usize = 1 << 20;
/// Values of points and products that a thread works on at a time.
const BLOCK: usize = 192 * 1024;

/// Weights of a 3 × 3 convolution, transformed and packed: one `[C, out]` for each point.
#[derive(Debug, Clone)]
pub struct WinogradWeights {
    side: usize,
    points: Vec<PackedB>,
}

impl WinogradWeights {
    /// Transforms `weight` `[out, C, 3, 3]` for tiles of `side` × `side` outputs; `side` is 2 or 4.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn new(weight: &[f32], outputs: usize, channels: usize, side: usize) -> Self {
        Self::for_isa(Isa::best(), weight, outputs, channels, side)
    }

    pub(crate) fn for_isa(isa: Isa, weight: &[f32], outputs: usize, channels: usize, side: usize) -> Self {
        assert_eq!(weight.len(), outputs * channels * 9, "weights");
        let rows: &[[f64; 3]] = match side {
            2 => &[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]],
            4 => &[
                [0.25, 0.0, 0.0],
                [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
                [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
                [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
                [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
                [0.0, 0.0, 1.0],
            ],
            _ => panic!("tiles of 2 or 4 outputs, not {side}"),
        };
        let mut point = vec![0.0f32; outputs * channels];
        let points = (0..rows.len() * rows.len()).map(|at| {
            let (u, v) = (rows[at / rows.len()], rows[at % rows.len()]);
            for (g, value) in weight.as_chunks::<9>().0.iter().zip(&mut point) {
                let sum: f64 = (0..9).map(|i| u[i / 3] * v[i % 3] * f64::from(g[i])).sum();
                *value = sum as f32;
            }
            PackedB::for_isa(isa, Matrix::new(&point, outputs, channels).t())
        });
        let points = points.collect();
        Self { side, points }
    }
}

/// The tile side that is fastest for one image, if that can be run by [`winograd`] and gains by it.
///
/// Counted in multiply-adds: a tile's points are multiplied and each read or written value transformed, and each weight, read once from
/// memory, takes as long as 46 of them. Tiles of 4 save more multiplications, tiles of 2 and the plain sum have fewer weights.
pub fn winograd_side(shape: &ConvShape, outputs: usize) -> Option<usize> {
    let (w, c) = (&shape.window, shape.channels);
    let fits = w.kernel == [3, 3] && w.stride == [1, 1] && w.dilation == [1, 1];
    if !fits || c < 32 || outputs < 32 {
        return None;
    }
    let by_tiles = |side: usize| {
        let tiles: usize = shape.output.iter().map(|size| size.div_ceil(side)).product();
        let points = (side + 2) * (side + 2);
        points * (tiles * (c * outputs + TRANSFORM * (c + outputs)) + WEIGHT * c * outputs)
    };
    let plain = 9 * c * outputs * (shape.output.iter().product::<usize>() + WEIGHT);
    [(plain, None), (by_tiles(2), Some(2)), (by_tiles(4), Some(4))].into_iter().min_by_key(|(cost, _)| *cost).and_then(|(_, side)| side)
}

/// Multiply-adds that take as long as the transform of one value, measured.
pub(crate) const TRANSFORM: usize = 10;
/// Multiply-adds that take as long as reading one weight from memory, measured.
pub(super) const WEIGHT: usize = 46;

/// A 3 × 3 convolution of stride 1: `input` `[N, H, W, C]`, `output` `[N, OH, OW, out]`; bias, residual and activation as in [`Epilogue`].
///
/// # Panics
/// Where sizes disagree, or the window is another one.
pub fn winograd(output: &mut [f32], input: &[f32], shape: &ConvShape, weights: &WinogradWeights, epilogue: &Epilogue) {
    winograd_into(output, input, shape, weights, [0, weights.points[0].n], epilogue, false);
}

/// As [`winograd`], for the outputs from the first of `columns` on, of which the second is the number in all; with `accumulate` the result is
/// added to the output.
pub(crate) fn winograd_into<T: Value>(
    output: &mut [T],
    input: &[T],
    shape: &ConvShape,
    weights: &WinogradWeights,
    columns: [usize; 2],
    epilogue: &Epilogue,
    accumulate: bool,
) {
    match weights.side {
        2 => Tiled::<T, 2, 4>::run(output, input, shape, weights, columns, epilogue, accumulate),
        _ => Tiled::<T, 4, 6>::run(output, input, shape, weights, columns, epilogue, accumulate),
    }
}

/// A convolution by tiles of `M × M` outputs and `A = M + 2` points a side.
struct Tiled<'a, T, const M: usize, const A: usize> {
    input: &'a [T],
    shape: ConvShape,
    weights: &'a WinogradWeights,
    /// Of the channels that are written: from the first of them on, as `output`.
    epilogue: Epilogue<'a>,
    /// Whether the output's old values are added.
    accumulate: bool,
    output: Shared<T>,
    /// Channels of an output pixel.
    row: usize,
    isa: Isa,
    /// Channels read and written.
    sizes: [usize; 2],
    /// Tiles `[down, across]` of an image.
    grid: [usize; 2],
}

/// Tiles that are worked on together, and where their points are.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    tiles: usize,
    /// Points of the tiles, `[A * A, tiles, C]`, and products, `[A * A, tiles, out]`; the distance between points is a little more.
    points: Shared,
    products: Shared,
    strides: [usize; 2],
}

impl<'a, T: Value, const M: usize, const A: usize> Tiled<'a, T, M, A> {
    fn run(
        output: &mut [T],
        input: &'a [T],
        shape: &ConvShape,
        weights: &'a WinogradWeights,
        columns: [usize; 2],
        epilogue: &'a Epilogue<'a>,
        accumulate: bool,
    ) {
        let (isa, c, n) = (weights.points[0].isa, weights.points[0].k, weights.points[0].n);
        let (w, [oh, ow]) = (shape.window, shape.output);
        assert!(w.kernel == [3, 3] && w.stride == [1, 1] && w.dilation == [1, 1], "3 × 3, stride 1, no dilation");
        assert!(c == shape.channels && input.len() == shape.batch * shape.input[0] * shape.input[1] * c, "input");
        let [first, of] = columns;
        assert!(output.len() == shape.pixels() * of && first + n <= of, "output");
        assert!(epilogue.bias.is_none_or(|bias| bias.len() == of), "one bias a channel");
        assert!(epilogue.residual.is_none_or(|r| r.len() == output.len()), "a residual of the output's shape");
        assert!(T::WIDE || epilogue.residual.is_none(), "a residual in f32 beside an output of f32");
        let grid = [oh.div_ceil(M), ow.div_ceil(M)];
        let output = Shared(output[first..].as_mut_ptr());
        let epilogue = Epilogue {
            bias: epilogue.bias.map(|bias| &bias[first..]),
            residual: epilogue.residual.map(|residual| &residual[first..]),
            clamp: epilogue.clamp,
        };
        let this = Self { input, shape: *shape, weights, epilogue, accumulate, output, row: of, isa, sizes: [c, n], grid };
        let (tiles, threads) = (shape.batch * grid[0] * grid[1], count());
        let most = (BLOCK / (A * A * (c + n))).max(8);
        if A * A * c * n * 4 <= RESIDENT {
            // Each thread takes tiles through all stages.
            let blocks = tiles.div_ceil(most).next_multiple_of(threads).min(tiles);
            parallel(blocks, |index| {
                let range = share(tiles, blocks, index);
                scratch::for_part(|buffer| this.alone(range.start, range.len(), buffer));
            });
        } else {
            // Each thread takes points of all tiles: its part of the weights stays with it.
            let blocks = tiles.div_ceil((most * threads).max(64));
            (0..blocks).for_each(|index| {
                let range = share(tiles, blocks, index);
                this.together(range.start, range.len());
            });
        }
    }

    fn strides(&self, tiles: usize) -> [usize; 2] {
        // A cache line more than the matrix, so that the points of a tile do not fall into one cache set.
        self.sizes.map(|size| (tiles * size).next_multiple_of(16) + 16)
    }

    fn block(&self, first: usize, tiles: usize, buffer: &mut Buffer) -> Block {
        let strides = self.strides(tiles);
        let points = Shared(buffer.as_mut_ptr());
        let products = Shared(points.get().wrapping_add(A * A * strides[0]));
        Block { first, tiles, points, products, strides }
    }

    fn alone(&self, first: usize, tiles: usize, buffer: &mut Buffer) {
        buffer.resize(self.strides(tiles).iter().sum::<usize>() * A * A);
        let block = self.block(first, tiles, buffer);
        self.isa.run(Stage { tiled: self, block, stage: Part::Points(0..tiles) });
        self.isa.run(Stage { tiled: self, block, stage: Part::Products(0..A * A) });
        self.isa.run(Stage { tiled: self, block, stage: Part::Outputs(0..tiles) });
    }

    fn together(&self, first: usize, tiles: usize) {
        scratch::for_job(self.strides(tiles).iter().sum::<usize>() * A * A, |buffer| {
            let block = self.block(first, tiles, buffer);
            let parts = tiles.min(count() * 4);
            parallel(parts, |i| self.isa.run(Stage { tiled: self, block, stage: Part::Points(share(tiles, parts, i)) }));
            parallel(A * A, |i| self.isa.run(Stage { tiled: self, block, stage: Part::Products(i..i + 1) }));
            parallel(parts, |i| self.isa.run(Stage { tiled: self, block, stage: Part::Outputs(share(tiles, parts, i)) }));
        });
    }

    /// Image and position `[y, x]` in it of a tile's first output.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, [usize; 2]) {
        let [down, across] = self.grid;
        (tile / (down * across), [tile / across % down * M, tile % across * M])
    }
}

enum Part {
    Points(Range<usize>),
    Products(Range<usize>),
    Outputs(Range<usize>),
}

/// One stage of some tiles or points of a block.
struct Stage<'a, 'b, T, const M: usize, const A: usize> {
    tiled: &'a Tiled<'b, T, M, A>,
    block: Block,
    stage: Part,
}

impl<T: Value, const M: usize, const A: usize> Kernel for Stage<'_, '_, T, M, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match &self.stage {
            // Loops, no closures: those that are not inlined would lose the instruction set.
            Part::Points(tiles) => {
                for tile in tiles.clone() {
                    self.points(s, tile);
                }
            }
            Part::Products(points) => {
                for point in points.clone() {
                    self.products(s, point);
                }
            }
            Part::Outputs(tiles) => {
                for tile in tiles.clone() {
                    self.outputs(s, tile);
                }
            }
        }
    }
}

impl<T: Value, const M: usize, const A: usize> Stage<'_, '_, T, M, A> {
    /// `Bᵀ d B` of a tile.
    #[inline(always)]
    fn points<S: Simd>(&self, s: S, tile: usize) {
        let (n, place) = self.tiled.place(self.block.first + tile);
        let target = Shared(self.block.points.get().wrapping_add(tile * self.tiled.sizes[0]));
        // SAFETY: the block holds `stride` values for each point, `c` of them this tile's.
        unsafe { tile_points::<S, T, A>(s, self.tiled.input, &self.tiled.shape, n, place, target, self.block.strides[0]) };
    }

    /// `[tiles, C] · [C, out]` at a point.
    #[inline(always)]
    fn products<S: Simd>(&self, s: S, point: usize) {
        let ([c, n], [a_stride, c_stride], b) = (self.tiled.sizes, self.block.strides, &self.tiled.weights.points[point]);
        let a = self.block.points.get().wrapping_add(point * a_stride).cast_const();
        let blocks = c.div_ceil(2 * KC);
        for block in 0..blocks {
            let ks = share(c, blocks, block);
            for index in 0..b.panels() {
                let panel = b.panel(index);
                let out = self.block.products.get().wrapping_add(point * c_stride + panel.column);
                let strip = Strip {
                    rows: self.block.tiles,
                    a: a.wrapping_add(ks.start),
                    a_stride: c,
                    runs: 1,
                    run: ks.len(),
                    run_stride: 0,
                    b: panel.data[ks.start * panel.vectors * S::LANES..].as_ptr(),
                    c: out,
                    c_stride: n,
                    vectors: panel.vectors,
                    width: panel.width,
                    finish: if block == 0 { Finish::PLAIN } else { Finish { add: out, add_stride: n, ..Finish::PLAIN } },
                    ahead: self.ahead::<S>(point, index, &ks),
                };
                // SAFETY: points and products hold `tiles` rows of `c` and `n` values for each point, the panel `c` rows; each part has
                // points of its own.
                unsafe { strip.run(s) };
            }
        }
    }

    /// The weights after panel `index` of a point: the next panel, or the first of the next point.
    #[inline(always)]
    fn ahead<S: Simd>(&self, point: usize, index: usize, ks: &Range<usize>) -> Ahead {
        let (points, rows) = (&self.tiled.weights.points, self.block.tiles);
        let b = &points[point];
        match points.get(point + 1) {
            Some(next) if index + 1 == b.panels() && ks.end == b.k => {
                let panel = next.panel(0);
                let values = ks.len() * panel.vectors * S::LANES;
                Ahead::new(panel.data.as_ptr(), values, [0, 1], tiles::<S>(rows, panel.vectors) * ks.len())
            }
            _ => b.ahead::<S>(index, &(0..b.panels()), ks, [0, 1], rows),
        }
    }

    /// `Aᵀ m A` of a tile, with what comes after the convolution.
    #[inline(always)]
    fn outputs<S: Simd>(&self, s: S, tile: usize) {
        let n = self.tiled.sizes[1];
        let mut channel = 0;
        while channel + S::LANES <= n {
            self.outputs_at::<S, true>(s, tile, channel, S::LANES);
            channel += S::LANES;
        }
        if channel < n {
            self.outputs_at::<S, false>(s, tile, channel, n - channel);
        }
    }

    /// As [`Self::outputs`], `count` channels from one on.
    #[allow(
        clippy::needless_range_loop,
        reason = "constant bounds over rows and columns alike: the loops unroll and the values stay in registers"
    )]
    #[inline(always)]
    fn outputs_at<S: Simd, const WHOLE: bool>(&self, s: S, tile: usize, channel: usize, count: usize) {
        let ([_, n], [oh, ow], row_len) = (self.tiled.sizes, self.tiled.shape.output, self.tiled.row);
        let (image, [y, x]) = self.tiled.place(self.block.first + tile);
        let epilogue = &self.tiled.epilogue;
        let (low, high) = epilogue.clamp.map_or((f32::NEG_INFINITY, f32::INFINITY), |c| (c.low, c.high));
        let (low, high) = (s.splat(low), s.splat(high));
        let source = self.block.products.get().wrapping_add(tile * n).cast_const();
        let stride = self.block.strides[1];
        // SAFETY: as in `points`: `count` channels from `channel` on exist in the products, the bias, the residual and the output, and only
        // pixels of the output are touched.
        unsafe {
            let load = |p: *const f32| f32::load_n::<S, WHOLE>(s, p, count);
            let bias = epilogue.bias.map_or(s.splat(0.0), |bias| load(bias.as_ptr().add(channel)));
            let mut half = [[s.splat(0.0); A]; M];
            for j in 0..A {
                let column: [S::V; A] = std::array::from_fn(|i| load(source.add((i * A + j) * stride + channel)));
                let column: [S::V; M] = to_outputs(s, column);
                for i in 0..M {
                    half[i][j] = column[i];
                }
            }
            for (i, row) in half.into_iter().enumerate() {
                let row: [S::V; M] = to_outputs(s, row);
                for (j, v) in row.into_iter().enumerate() {
                    if y + i < oh && x + j < ow {
                        let at = ((image * oh + y + i) * ow + x + j) * row_len + channel;
                        let mut v = s.add(v, bias);
                        if let Some(residual) = epilogue.residual {
                            v = s.add(v, load(residual.as_ptr().add(at)));
                        }
                        let out = self.tiled.output.get().add(at);
                        if self.tiled.accumulate {
                            v = s.add(v, T::load_n::<S, WHOLE>(s, out, count));
                        }
                        T::store_n::<S, WHOLE>(s, out, count, s.min(high, s.max(low, v)));
                    }
                }
            }
        }
    }
}

/// `Bᵀ d B` of the tile of image `n` under the outputs from `[y, x]` on: `A * A` points of the input's channels, `stride` apart.
///
/// # Safety
/// `target` has room for them, and nobody else touches it meanwhile.
#[inline(always)]
pub(crate) unsafe fn tile_points<S: Simd, T: Value, const A: usize>(
    s: S,
    input: &[T],
    shape: &ConvShape,
    n: usize,
    [y, x]: [usize; 2],
    target: Shared,
    stride: usize,
) {
    let ConvShape { input: [h, w], channels: c, window, .. } = *shape;
    let image = &input[n * h * w * c..(n + 1) * h * w * c];
    // Rows and columns outside the map are zeros.
    let inside = |at: usize, padding: usize, size: usize| at.checked_sub(padding).filter(|&at| at < size);
    let rows: [Option<usize>; A] = std::array::from_fn(|i| inside(y + i, window.padding[0], h));
    let columns: [Option<usize>; A] = std::array::from_fn(|i| inside(x + i, window.padding[1], w));
    if rows.iter().chain(&columns).all(Option::is_some) {
        let first = image[((y - window.padding[0]) * w + x - window.padding[1]) * c..].as_ptr();
        // SAFETY: all pixels lie in the image; the caller's promise.
        unsafe { transform::<S, T, A>(s, c, target, stride, |i, j| Some(first.wrapping_add((i * w + j) * c))) };
    } else {
        let pixel = |i: usize, j: usize| Some(image.as_ptr().wrapping_add((rows[i]? * w + columns[j]?) * c));
        // SAFETY: `pixel` gives pixels of the image alone; the caller's promise.
        unsafe { transform::<S, T, A>(s, c, target, stride, pixel) };
    }
}

/// The points of a tile whose pixel `(i, j)` of `c` channels is at `pixel(i, j)`; none: zeros.
///
/// # Safety
/// Pixels hold `c` values; `target` as in [`tile_points`].
#[inline(always)]
unsafe fn transform<S: Simd, T: Value, const A: usize>(
    s: S,
    c: usize,
    target: Shared,
    stride: usize,
    pixel: impl Fn(usize, usize) -> Option<*const T>,
) {
    let mut channel = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while channel + S::LANES <= c {
            transform_at::<S, T, A, true>(s, [channel, S::LANES], target, stride, &pixel);
            channel += S::LANES;
        }
        if channel < c {
            transform_at::<S, T, A, false>(s, [channel, c - channel], target, stride, &pixel);
        }
    }
}

/// As [`transform`], `count` channels from one on.
///
/// # Safety
/// As for [`transform`].
#[allow(
    clippy::needless_range_loop,
    reason = "constant bounds over rows and columns alike: the loops unroll and the values stay in registers"
)]
#[inline(always)]
unsafe fn transform_at<S: Simd, T: Value, const A: usize, const WHOLE: bool>(
    s: S,
    [channel, count]: [usize; 2],
    target: Shared,
    stride: usize,
    pixel: &impl Fn(usize, usize) -> Option<*const T>,
) {
    let mut d = [[s.splat(0.0); A]; A];
    for j in 0..A {
        let column: [S::V; A] = std::array::from_fn(|i| match pixel(i, j) {
            // SAFETY: `count` channels of the pixel follow the `channel`th.
            Some(pixel) => unsafe { T::load_n::<S, WHOLE>(s, pixel.add(channel), count) },
            None => s.splat(0.0),
        });
        let column = to_points(s, column);
        for i in 0..A {
            d[i][j] = column[i];
        }
    }
    for (i, row) in d.into_iter().enumerate() {
        for (j, v) in to_points(s, row).into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { f32::store_n::<S, WHOLE>(s, target.get().add((i * A + j) * stride + channel), count, v) };
        }
    }
}

/// `Bᵀ d`.
#[inline(always)]
fn to_points<S: Simd, const A: usize>(s: S, d: [S::V; A]) -> [S::V; A] {
    let scaled = |v: S::V, by: f32, to: S::V| s.fma(s.splat(by), v, to);
    let difference = |a: S::V, b: S::V| scaled(b, -1.0, a);
    let mut out = d;
    if A == 4 {
        out[0] = difference(d[0], d[2]);
        out[1] = s.add(d[1], d[2]);
        out[2] = difference(d[2], d[1]);
        out[3] = difference(d[1], d[3]);
    } else {
        let (even, odd) = (scaled(d[2], -4.0, d[4]), scaled(d[1], -4.0, d[3]));
        let (even2, odd2) = (difference(d[4], d[2]), difference(d[3], d[1]));
        out[0] = scaled(d[0], 4.0, scaled(d[2], -5.0, d[4]));
        out[1] = s.add(even, odd);
        out[2] = difference(even, odd);
        out[3] = scaled(odd2, 2.0, even2);
        out[4] = scaled(odd2, -2.0, even2);
        out[5] = scaled(d[1], 4.0, scaled(d[3], -5.0, d[5]));
    }
    out
}

/// `Aᵀ m`.
#[inline(always)]
fn to_outputs<S: Simd, const A: usize, const M: usize>(s: S, m: [S::V; A]) -> [S::V; M] {
    let scaled = |v: S::V, by: f32, to: S::V| s.fma(s.splat(by), v, to);
    let difference = |a: S::V, b: S::V| scaled(b, -1.0, a);
    let (sum, minus) = (s.add(m[1], m[2]), difference(m[1], m[2]));
    let mut out = [sum; M];
    if M == 2 {
        out[0] = s.add(m[0], sum);
        out[1] = difference(minus, m[3]);
    } else {
        let (sum2, minus2) = (s.add(m[3], m[4]), difference(m[3], m[4]));
        out[0] = s.add(s.add(m[0], sum), sum2);
        out[1] = scaled(minus2, 2.0, minus);
        out[2] = scaled(sum2, 4.0, sum);
        out[3] = s.add(scaled(minus2, 8.0, minus), m[5]);
    }
    out
}
