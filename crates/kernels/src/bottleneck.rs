//! An inverted residual block in one pass: a pointwise convolution that widens, a depthwise one, and a pointwise one that narrows again
//! (Sandler et al., "MobileNetV2", 2018).
//!
//! The widened map is several times as large as what goes in and comes out; step by step it would travel to memory and back twice. Here a
//! panel of its channels is made for some rows, filtered while it is in the cache, and given up.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::conv::ConvShape;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::filter::Filter;
use crate::gemm::{Clamp, Epilogue, KC, Shared, Split, share};
use crate::pack::PackedB;
use crate::scratch;
use crate::threads::{count, parallel};
use crate::tile::Strip;

/// Filtered values that a part keeps at hand.
const AT_HAND: usize = 128 * 1024;

/// Values of a widened map that do not stay in the second cache level beside what else is there.
const LARGE: usize = 160 * 1024;

/// A pointwise convolution: weights `[C, out]`, a bias and an activation.
#[derive(Debug, Clone, Copy)]
pub struct Pointwise<'a> {
    /// `[C, out]`.
    pub weights: &'a PackedB,
    /// One value a column.
    pub bias: Option<&'a [f32]>,
    /// The activation.
    pub clamp: Option<Clamp>,
}

/// The three convolutions of a block.
#[derive(Debug, Clone, Copy)]
pub struct Bottleneck<'a> {
    /// `[C, hidden]`; without it the input has `hidden` channels.
    pub expand: Option<Pointwise<'a>>,
    /// The depthwise convolution's sizes; `channels` is `hidden`. Square kernels of 3 or 5, strides of 1 or 2, no dilation
    /// ([`Bottleneck::fits`]).
    pub shape: ConvShape,
    /// `[KH * KW, hidden]`.
    pub taps: &'a [f32],
    /// The depthwise convolution's bias.
    pub bias: Option<&'a [f32]>,
    /// The depthwise convolution's activation.
    pub clamp: Option<Clamp>,
    /// `[hidden, out]`.
    pub project: &'a PackedB,
    /// What comes after the projection.
    pub epilogue: Epilogue<'a>,
}

impl Bottleneck<'_> {
    /// Whether the widened map of one image is too large for a thread's cache. A block then runs by rows of an image, else by panels of
    /// its widened channels.
    pub fn is_large(shape: &ConvShape) -> bool {
        shape.input.iter().product::<usize>() * shape.channels > LARGE
    }

    /// Whether a depthwise convolution of these sizes can be the middle of a block.
    pub fn fits(shape: &ConvShape) -> bool {
        let w = &shape.window;
        let reach = |axis: usize| (shape.output[axis] - 1) * w.stride[axis] + w.kernel[axis];
        matches!((w.kernel, w.stride, w.dilation), ([3, 3] | [5, 5], [1, 1] | [2, 2], [1, 1]))
            && shape.output.iter().all(|&size| size > 0)
            && (0..2).all(|axis| reach(axis) <= shape.input[axis] + w.padding[axis] + w.kernel[axis])
    }

    /// Runs the block: `input` `[N, H, W, C]`, `output` `[N, OH, OW, out]`.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn run(&self, output: &mut [f32], input: &[f32]) {
        let ConvShape { batch, input: [h, w], channels: hidden, output: [oh, ow], window } = self.shape;
        let read = self.expand.map_or(hidden, |expand| expand.weights.k);
        assert!(Self::fits(&self.shape), "a depthwise convolution that fits");
        assert_eq!(input.len(), batch * h * w * read, "input");
        assert!(self.expand.is_none_or(|e| e.weights.n == hidden && e.bias.is_none_or(|bias| bias.len() == hidden)), "expansion");
        assert!(self.taps.len() == window.kernel[0] * window.kernel[1] * hidden && self.bias.is_none_or(|b| b.len() == hidden), "taps");
        assert!(self.project.k == hidden && output.len() == batch * oh * ow * self.project.n, "projection");
        assert!(self.epilogue.bias.is_none_or(|bias| bias.len() == self.project.n), "one bias a channel");
        assert!(self.epilogue.residual.is_none_or(|r| r.len() == output.len()), "a residual of the output's shape");
        let isa = self.project.isa;
        let this = Running { block: self, input, output: Shared(output.as_mut_ptr()), read, isa };
        let threads = count();
        if self.expand.is_some() && !Self::is_large(&self.shape) && (threads <= 2 || batch < threads) {
            return (0..batch).for_each(|image| this.by_panels(image));
        }
        // An image is one part, or several bands of rows; the rows that a band shares with the next are widened twice.
        let shared = window.kernel[0].saturating_sub(window.stride[0]);
        let wanted = if batch >= threads * 4 { 1 } else { (threads * 4).div_ceil(batch) };
        let bands = (1..=wanted.min(oh)).rev().find(|bands| (bands - 1) * shared * 12 <= h).unwrap_or(1);
        let bands = if threads == 1 { 1 } else { bands.max(threads.div_ceil(batch)).min(oh) };
        parallel(batch * bands, |part| {
            let rows = share(oh, bands, part % bands);
            scratch::for_part(|buffer| isa.run(Band { running: &this, image: part / bands, rows, buffer }));
        });
    }
}

/// A block with the map it reads and the one it writes.
struct Running<'a> {
    block: &'a Bottleneck<'a>,
    input: &'a [f32],
    output: Shared,
    /// Channels of the input.
    read: usize,
    isa: Isa,
}

/// A panel of widened channels.
#[derive(Clone, Copy)]
struct Columns {
    first: usize,
    width: usize,
    /// `width` rounded up to vectors.
    padded: usize,
}

/// Widened rows of one panel, each in a frame of zero columns, in a ring: row `y` is at place `y % rows`.
#[derive(Clone, Copy)]
struct Ring {
    start: Shared,
    rows: usize,
    /// Columns of a row with its frame.
    columns: usize,
}

impl Running<'_> {
    fn panels(&self) -> usize {
        let (lanes, panel) = self.isa.panel();
        self.block.expand.map_or(self.block.shape.channels.div_ceil(lanes * panel), |e| e.weights.panels())
    }

    fn columns(&self, index: usize) -> Columns {
        let (lanes, panel) = self.isa.panel();
        let (first, width) = match self.block.expand {
            Some(e) => (e.weights.panel(index).column, e.weights.panel(index).width),
            None => (index * lanes * panel, (lanes * panel).min(self.block.shape.channels - index * lanes * panel)),
        };
        Columns { first, width, padded: width.next_multiple_of(lanes) }
    }

    /// Columns of a framed row.
    fn framed(&self) -> usize {
        let (shape, window) = (&self.block.shape, &self.block.shape.window);
        let reach = (shape.output[1] - 1) * window.stride[1] + window.kernel[1];
        reach.max(shape.input[1] + window.padding[1])
    }

    /// Rows of the input under rows of the output.
    #[inline(always)]
    fn under(&self, rows: Range<usize>) -> Range<usize> {
        let (shape, window) = (&self.block.shape, &self.block.shape.window);
        let start = (rows.start * window.stride[0]).saturating_sub(window.padding[0]);
        let end = ((rows.end - 1) * window.stride[0] + window.kernel[0]).saturating_sub(window.padding[0]).min(shape.input[0]);
        start.min(end)..end
    }

    /// One image, its panels dealt out to the threads, then the columns of its output.
    fn by_panels(&self, image: usize) {
        let ConvShape { output: [oh, ow], channels: hidden, .. } = self.block.shape;
        let project = self.block.project;
        scratch::for_job(oh * ow * hidden, |filtered| {
            let filtered = Shared(filtered.as_mut_ptr());
            parallel(self.panels(), |index| {
                scratch::for_part(|buffer| self.isa.run(PanelOf { running: self, image, index, filtered, buffer }));
            });
            let work = oh * ow * hidden * project.n;
            let split = Split::new(1..(oh * ow).div_ceil(8), project.panels(), oh * ow >= project.n, work, count());
            parallel(split.parts(), |part| {
                let (pixels, panels) = split.part(part, oh * ow, project.panels());
                self.isa.run(Projection { running: self, image, pixels, panels, filtered });
            });
        });
    }

    /// Widens rows `ys` of a panel into its ring; without expansion, copies them.
    #[inline(always)]
    fn widen<S: Simd>(&self, s: S, image: usize, ys: Range<usize>, index: usize, ring: Ring, part: [usize; 2]) {
        let ConvShape { input: [h, w], window, .. } = self.block.shape;
        let columns = self.columns(index);
        for y in ys {
            let row = ring.start.get().wrapping_add(y % ring.rows * ring.columns * columns.padded);
            let inner = row.wrapping_add(window.padding[1] * columns.padded);
            let source = &self.input[(image * h + y) * w * self.read..][..w * self.read];
            // SAFETY: the ring has `rows` rows of `columns` pixels of `padded` values, and padding and `w` pixels fit a row.
            unsafe {
                std::ptr::write_bytes(row, 0, window.padding[1] * columns.padded);
                let behind = (window.padding[1] + w) * columns.padded;
                std::ptr::write_bytes(row.add(behind), 0, ring.columns * columns.padded - behind);
            }
            let Some(expand) = self.block.expand else {
                for (x, pixel) in source.chunks_exact(self.read).enumerate() {
                    // SAFETY: as above; `first + width` channels exist.
                    unsafe {
                        let target = inner.add(x * columns.padded);
                        std::ptr::copy_nonoverlapping(pixel[columns.first..columns.first + columns.width].as_ptr(), target, columns.width);
                    }
                }
                continue;
            };
            let panel = expand.weights.panel(index);
            let epilogue = Epilogue { bias: expand.bias, residual: None, clamp: expand.clamp };
            let k = expand.weights.k;
            let blocks = k.div_ceil(2 * KC);
            for block in 0..blocks {
                let ks = share(k, blocks, block);
                let strip = Strip {
                    rows: w,
                    a: source[ks.start..].as_ptr(),
                    a_stride: k,
                    runs: 1,
                    run: ks.len(),
                    run_stride: 0,
                    b: panel.data[ks.start * panel.vectors * S::LANES..].as_ptr(),
                    c: inner,
                    c_stride: columns.padded,
                    vectors: panel.vectors,
                    width: panel.width,
                    finish: epilogue.finish(inner, columns.padded, [0, panel.column], [block, blocks], false),
                    ahead: expand.weights.ahead::<S>(index, &(0..expand.weights.panels()), &ks, part, w),
                };
                // SAFETY: A is a row of the map, B the panel, C as above.
                unsafe { strip.run(s) };
            }
        }
    }

    /// Widens and filters a panel for output rows `rows`, whose first pixel is at `filtered`, row by row, so that what is widened is filtered
    /// out of the nearest cache. Rows of the input before `done` are in the ring.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn pass<S: Simd>(&self, s: S, image: usize, rows: Range<usize>, mut done: usize, index: usize, ring: Ring, filtered: Shared) {
        let ConvShape { input: [h, _], output: [_, ow], channels: hidden, window, .. } = self.block.shape;
        let (columns, count) = (self.columns(index), rows.len());
        for (i, y) in rows.enumerate() {
            let under = self.under(y..y + 1);
            self.widen(s, image, done.max(under.start)..under.end, index, ring, [i, count]);
            done = done.max(under.end);
            let line = |tap: usize| {
                let y = window.source(0, y, tap, h)?;
                Some(ring.start.get().wrapping_add(y % ring.rows * ring.columns * columns.padded).cast_const())
            };
            let filter = Filter {
                out: filtered.get().wrapping_add(i * ow * hidden + columns.first),
                out_stride: hidden,
                pixels: ow,
                lines: std::array::from_fn(|tap| if tap < window.kernel[0] { line(tap) } else { None }),
                pixel: columns.padded,
                width: columns.width,
                taps: self.block.taps[columns.first..].as_ptr(),
                tap_stride: hidden,
                bias: self.block.bias.map(|bias| bias[columns.first..].as_ptr()),
                clamp: self.block.clamp,
            };
            // SAFETY: the ring holds the rows under `y`, framed; `filtered` has a row of `ow * hidden` values for each of `rows`; taps and
            // bias have `hidden` columns.
            unsafe { filter.run(s, window.kernel[0], window.stride[1]) };
        }
    }

    /// Projects filtered pixels, the first of them `at` in the whole output, by some panels.
    #[inline(always)]
    fn project<S: Simd>(&self, s: S, filtered: *const f32, at: usize, pixels: usize, panels: Range<usize>) {
        let b = self.block.project;
        let blocks = b.k.div_ceil(2 * KC);
        for block in 0..blocks {
            let ks = share(b.k, blocks, block);
            for index in panels.clone() {
                let panel = b.panel(index);
                let c = self.output.get().wrapping_add(at * b.n + panel.column);
                let strip = Strip {
                    rows: pixels,
                    a: filtered.wrapping_add(ks.start),
                    a_stride: b.k,
                    runs: 1,
                    run: ks.len(),
                    run_stride: 0,
                    b: panel.data[ks.start * panel.vectors * S::LANES..].as_ptr(),
                    c,
                    c_stride: b.n,
                    vectors: panel.vectors,
                    width: panel.width,
                    finish: self.block.epilogue.finish(c, b.n, [at, panel.column], [block, blocks], false),
                    ahead: b.ahead::<S>(index, &panels, &ks, [0, 1], pixels),
                };
                // SAFETY: the caller filtered that many pixels of `hidden` values; the output's sizes were checked by `run`, and no other
                // part writes these pixels of these panels.
                unsafe { strip.run(s) };
            }
        }
    }
}

/// Some rows of an image, all three convolutions.
struct Band<'a> {
    running: &'a Running<'a>,
    image: usize,
    rows: Range<usize>,
    buffer: &'a mut Buffer,
}

impl Kernel for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { running, image, rows, buffer } = self;
        let ConvShape { output: [oh, ow], channels: hidden, window, .. } = running.block.shape;
        if rows.is_empty() {
            return;
        }
        let (columns, panels) = (running.framed(), running.panels());
        let padded: usize = (0..panels).map(|index| running.columns(index).padded).sum();
        // Some rows at a time; a ring holds as many widened rows as the window has. Each panel has its own, for what the next rows share
        // with these, unless all rows are made at a time.
        let count = (AT_HAND / (ow * hidden)).clamp(1, rows.len());
        let each = window.kernel[0] * columns;
        let ring_values = if count == rows.len() { each * running.columns(0).padded } else { each * padded };
        buffer.resize(ring_values + count * ow * hidden);
        let start = Shared(buffer.as_mut_ptr());
        let filtered = Shared(start.get().wrapping_add(ring_values));
        let mut done = running.under(rows.clone()).start;
        let mut y = rows.start;
        while y < rows.end {
            let now = y..rows.end.min(y + count);
            let mut at = 0;
            for index in 0..panels {
                let ring = Ring { start: Shared(start.get().wrapping_add(at)), rows: window.kernel[0], columns };
                running.pass(s, image, now.clone(), done, index, ring, filtered);
                if count < rows.len() {
                    at += each * running.columns(index).padded;
                }
            }
            done = running.under(now.clone()).end.max(done);
            running.project(s, filtered.get(), (image * oh + y) * ow, now.len() * ow, 0..running.block.project.panels());
            y = now.end;
        }
    }
}

/// One panel of an image, widened and filtered.
struct PanelOf<'a> {
    running: &'a Running<'a>,
    image: usize,
    index: usize,
    filtered: Shared,
    buffer: &'a mut Buffer,
}

impl Kernel for PanelOf<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { running, image, index, filtered, buffer } = self;
        let (rows, columns) = (running.block.shape.window.kernel[0], running.framed());
        buffer.resize(rows * columns * running.columns(index).padded);
        let ring = Ring { start: Shared(buffer.as_mut_ptr()), rows, columns };
        running.pass(s, image, 0..running.block.shape.output[0], 0, index, ring, filtered);
    }
}

/// Some pixels of an image's output, by some panels.
struct Projection<'a> {
    running: &'a Running<'a>,
    image: usize,
    pixels: Range<usize>,
    panels: Range<usize>,
    filtered: Shared,
}

impl Kernel for Projection<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { running, image, pixels, panels, filtered } = self;
        let [oh, ow] = running.block.shape.output;
        let from = filtered.get().wrapping_add(pixels.start * running.block.shape.channels);
        running.project(s, from, image * oh * ow + pixels.start, pixels.len(), panels);
    }
}
