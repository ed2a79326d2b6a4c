//! Implicit GEMM: a convolution as a product whose left-hand rows, the patches, are read where the map lies.
//!
//! A patch is one run of `KW * C` values in each of `KH` rows of an NHWC map (of `KW` values in `KH * C` rows of an NCHW one), and patches
//! side by side are a fixed distance apart, so the microkernel needs no copy of them; only the map's rows are copied, into a frame of zeros.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::conv::ConvShape;
use crate::dispatch::{Kernel, Simd};
use crate::gemm::{Epilogue, KC, Shared, Split, share};
use crate::pack::PackedB;
use crate::scratch::{self, Slot};
use crate::threads::{count, each_chunk, parallel};
use crate::tile::Strip;
use crate::value::{Value, convert};

/// Values of framed rows that a part works on at a time: half of the second cache level.
const FRAME: usize = 1 << 17;

/// A convolution of one group without dilation.
pub(crate) struct Direct<'a, T = f32> {
    pub input: &'a [T],
    /// Whether `input` is `[N, C, H, W]`; B's rows then run over `[KH, C, KW]`.
    pub planar: bool,
    pub shape: ConvShape,
    pub b: &'a PackedB,
    pub epilogue: &'a Epilogue<'a>,
    /// Whether the output's old values are added.
    pub accumulate: bool,
    /// Where the output's pixels lie; none: without gaps.
    pub place: Option<Place>,
}

/// Pixels of a larger map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Of the first pixel.
    pub start: usize,
    /// From image to image, row to row, pixel to pixel.
    pub strides: [usize; 3],
}

/// Rows of a map inside a frame of zeros: each of `planes` runs of `width` values.
#[derive(Clone, Copy)]
struct Framed {
    planes: usize,
    width: usize,
    /// Rows of an image.
    height: usize,
}

impl Framed {
    fn line(&self) -> usize {
        self.planes * self.width
    }
}

impl Direct<'_> {
    /// Whether patches of `shape` can be read in place.
    pub fn fits(shape: &ConvShape) -> bool {
        let w = &shape.window;
        (0..2).all(|axis| w.kernel[axis] == 1 || w.dilation[axis] == 1)
    }
}

impl<T: Value> Direct<'_, T> {
    /// Writes the result `[N, OH, OW, n]` into `output`, which holds it. An epilogue with a residual goes with neither `accumulate` nor
    /// `place`, nor with bf16.
    pub fn run(&self, output: &mut [T]) {
        let ConvShape { batch, output: [oh, ow], window, .. } = self.shape;
        let (lines, n) = (batch * oh, self.b.n);
        if lines * ow * n == 0 {
            return;
        }
        let c = Shared(output.as_mut_ptr());
        let split = Split::new(1..lines, self.b.panels(), lines * ow >= n, lines * ow * n * self.b.k, count());
        assert!(T::WIDE || self.epilogue.residual.is_none(), "a residual in f32 beside an output of f32");
        if let Some(input) = T::as_f32(self.input)
            && !self.planar
            && self.is_inside()
        {
            let frame = Framed { planes: 1, width: self.shape.input[1] * self.shape.channels, height: self.shape.input[0] };
            return self.parts(c, split, frame, Some(input));
        }
        let height = (oh - 1) * window.stride[0] + window.kernel[0];
        let columns = (ow - 1) * window.stride[1] + window.kernel[1];
        let (planes, width) = if self.planar { (self.shape.channels, columns) } else { (1, columns * self.shape.channels) };
        let frame = Framed { planes, width, height };
        if split.panel_parts == 1 {
            return self.parts(c, split, frame, None);
        }
        // Several parts read each row: it is framed once for all.
        scratch::for_job(batch * height * frame.line(), |framed| {
            each_chunk(framed, frame.line(), |row, line| {
                let (n, y) = (row / height, (row % height) as isize - window.padding[0] as isize);
                self.b.isa.run(Fill { conv: self, line, frame, n, y });
            });
            self.parts(c, split, frame, Some(framed));
        });
    }

    /// Whether no patch reaches beyond the map.
    fn is_inside(&self) -> bool {
        let ConvShape { input, output, window: w, .. } = self.shape;
        w.padding == [0, 0] && (0..2).all(|axis| (output[axis] - 1) * w.stride[axis] + w.kernel[axis] <= input[axis])
    }

    fn parts(&self, c: Shared<T>, split: Split, frame: Framed, framed: Option<&[f32]>) {
        let lines = self.shape.batch * self.shape.output[0];
        parallel(split.parts(), |index| {
            let (lines, panels) = split.part(index, lines, self.b.panels());
            self.b.isa.run(Part { conv: self, c, frame, framed, lines, panels });
        });
    }

    /// Copies row `y` of image `n` into a framed row; rows outside the map are zeros.
    #[inline(always)]
    fn fill<S: Simd>(&self, s: S, target: &mut [f32], frame: Framed, n: usize, y: isize) {
        let ConvShape { input: [h, w], channels, window, .. } = self.shape;
        let unit = if self.planar { 1 } else { channels };
        let image = &self.input[n * h * w * channels..(n + 1) * h * w * channels];
        for (plane, target) in target.chunks_exact_mut(frame.width).enumerate() {
            let Some(y) = usize::try_from(y).ok().filter(|&y| y < h) else {
                target.fill(0.0);
                continue;
            };
            let left = (window.padding[1] * unit).min(frame.width);
            let width = (w * unit).min(frame.width - left);
            target[..left].fill(0.0);
            convert(s, &mut target[left..left + width], &image[(plane * h + y) * w * unit..][..width]);
            target[left + width..].fill(0.0);
        }
    }
}

/// A framed row.
struct Fill<'a, T> {
    conv: &'a Direct<'a, T>,
    line: &'a mut [f32],
    frame: Framed,
    n: usize,
    y: isize,
}

impl<T: Value> Kernel for Fill<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.conv.fill(s, self.line, self.frame, self.n, self.y);
    }
}

/// Some lines of C, by some panels.
struct Part<'a, T> {
    conv: &'a Direct<'a, T>,
    c: Shared<T>,
    frame: Framed,
    /// All rows, framed; none: this part frames its own.
    framed: Option<&'a [f32]>,
    lines: Range<usize>,
    panels: Range<usize>,
}

impl<T: Value> Kernel for Part<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        scratch::for_part(|own| self.chunks(s, own));
    }
}

/// Values in f32 of lines of C, where C is bf16.
const TILE: usize = 1 << 15;

impl<T: Value> Part<'_, T> {
    #[inline(always)]
    fn chunks<S: Simd>(&self, s: S, own: &mut Buffer) {
        let ConvShape { output: [oh, ow], window, .. } = self.conv.shape;
        let (step, line) = (window.stride[0], self.frame.line());
        let mut most = (FRAME / line).saturating_sub(window.kernel[0]) / step + 1;
        let (from, to) = self.columns();
        let tile = ow * (to - from);
        if !T::WIDE {
            most = most.min(TILE / tile.max(1)).max(1);
        }
        let mut at = self.lines.start;
        while at < self.lines.end {
            let (n, y) = (at / oh, at % oh);
            let count = most.min(self.lines.end - at).min(oh - y);
            let rows = (count - 1) * step + window.kernel[0];
            let a = match self.framed {
                Some(all) => &all[(n * self.frame.height + y * step) * line..][..rows * line],
                None => {
                    own.resize(rows * line);
                    for (i, target) in own.chunks_exact_mut(line).enumerate() {
                        self.conv.fill(s, target, self.frame, n, (y * step + i) as isize - window.padding[0] as isize);
                    }
                    &own[..]
                }
            };
            if T::WIDE {
                let c = self.c.get().cast::<f32>();
                self.strips(s, a, at, count, |line| {
                    let (at, stride) = self.place(line);
                    (c.wrapping_add(at), stride)
                });
            } else {
                scratch::for_use(Slot::Tile, count * tile, |sums| self.narrow(s, a, at, count, sums));
            }
            at += count;
        }
    }

    /// First column of its panels, and the one after the last.
    fn columns(&self) -> (usize, usize) {
        let (first, last) = (self.conv.b.panel(self.panels.start), self.conv.b.panel(self.panels.end - 1));
        (first.column, last.column + last.width)
    }

    /// Where a line of C begins, and the distance of its pixels.
    #[inline(always)]
    fn place(&self, line: usize) -> (usize, usize) {
        let (ConvShape { output: [oh, ow], .. }, n) = (self.conv.shape, self.conv.b.n);
        match self.conv.place {
            Some(Place { start, strides }) => (start + line / oh * strides[0] + line % oh * strides[1], strides[2]),
            None => (line * ow * n, n),
        }
    }

    /// As [`Self::strips`], by sums in f32 that are rounded once.
    #[inline(always)]
    fn narrow<S: Simd>(&self, s: S, a: &[f32], first: usize, count: usize, sums: &mut [f32]) {
        let (ow, (from, to)) = (self.conv.shape.output[1], self.columns());
        let width = to - from;
        // Pixels without gaps are one run.
        let (pixels, run) = if self.place(first).1 == width { (1, ow * width) } else { (ow, width) };
        let place = |index: usize| {
            let (at, stride) = self.place(first + index / pixels);
            // SAFETY: `Direct::run`'s caller gives an output that holds all pixels; each part has lines and panels of its own.
            unsafe { std::slice::from_raw_parts_mut(self.c.get().add(at + index % pixels * stride + from), run) }
        };
        if self.conv.accumulate {
            sums.chunks_exact_mut(run).enumerate().for_each(|(i, sums)| convert(s, sums, place(i)));
        }
        let start = sums.as_mut_ptr().wrapping_sub(from);
        self.strips(s, a, first, count, |line| (start.wrapping_add((line - first) * ow * width), width));
        sums.chunks_exact(run).enumerate().for_each(|(i, sums)| convert(s, place(i), sums));
    }

    /// `count` lines from `first`, whose patches begin at the framed rows `a`; `place` gives where each begins, and the distance of pixels.
    #[inline(always)]
    fn strips<S: Simd>(&self, s: S, a: &[f32], first: usize, count: usize, place: impl Fn(usize) -> (*mut f32, usize)) {
        let Direct { shape, b, planar, epilogue, .. } = *self.conv;
        let ConvShape { output: [_, ow], window, .. } = shape;
        let unit = if planar { 1 } else { shape.channels };
        let (runs, run) = (window.kernel[0] * self.frame.planes, window.kernel[1] * unit);
        let (a_stride, step) = (window.stride[1] * unit, window.stride[0] * self.frame.line());
        assert!(runs * run == b.k && a.len() >= (count - 1) * step + (runs - 1) * self.frame.width + (ow - 1) * a_stride + run, "patches");
        let blocks = Blocks::new(runs, run);
        for block in 0..blocks.count() {
            let (rs, piece) = blocks.block(block);
            let from = rs.start * run + piece.start;
            let ks = from..from + rs.len() * piece.len();
            for index in self.panels.clone() {
                let panel = b.panel(index);
                let weights = &panel.data[from * panel.vectors * S::LANES..];
                for line in 0..count {
                    let row = (first + line) * ow;
                    let (c, c_stride) = place(first + line);
                    let c = c.wrapping_add(panel.column);
                    let strip = Strip {
                        rows: ow,
                        a: a[line * step + rs.start * self.frame.width + piece.start..].as_ptr(),
                        a_stride,
                        runs: rs.len(),
                        run: piece.len(),
                        run_stride: self.frame.width,
                        b: weights.as_ptr(),
                        c,
                        c_stride,
                        vectors: panel.vectors,
                        width: panel.width,
                        finish: epilogue.finish(c, c_stride, [row, panel.column], [block, blocks.count()], self.conv.accumulate),
                        ahead: b.ahead::<S>(index, &self.panels, &ks, [line, count], ow),
                    };
                    // SAFETY: A was checked above for the last line's last patch; the panel holds k rows; `conv2d` checked C, bias and
                    // residual, and each part has lines and panels of its own.
                    unsafe { strip.run(s) };
                }
            }
        }
    }
}

/// Runs of A's rows, in blocks of about [`KC`] values: whole runs, or pieces of one.
struct Blocks {
    runs: usize,
    run: usize,
    groups: usize,
    pieces: usize,
}

impl Blocks {
    fn new(runs: usize, run: usize) -> Self {
        let pieces = if run > 2 * KC { run.div_ceil(KC) } else { 1 };
        let groups = if pieces > 1 { runs } else { (runs * run).div_ceil(2 * KC).min(runs) };
        Self { runs, run, groups, pieces }
    }

    fn count(&self) -> usize {
        self.groups * self.pieces
    }

    fn block(&self, index: usize) -> (Range<usize>, Range<usize>) {
        (share(self.runs, self.groups, index / self.pieces), share(self.run, self.pieces, index % self.pieces))
    }
}
