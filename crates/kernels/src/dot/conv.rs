//! The walk of a convolution: rows of A are read where they lie, or in a padded copy of a band of the input, so that a row of the kernel
//! is one run of memory.

use std::cell::Cell;
use std::ops::Range;

use crate::buffer::Buffer;
use crate::conv::ConvShape;
use crate::dot::tile::Strip;
use crate::dot::{Dot, DotKernel, Family, Layout, PackedWords};
use crate::threads;

/// Multiply-adds below which threads cost more than they bring.
const SERIAL: usize = 1 << 17;
/// Bytes of a padded band, at most (but for a single row of output): it stays in the second level of the cache.
const BAND: usize = 256 << 10;

/// Where the rows of A come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// Runs lie in the input, or in a padded copy of it.
    Direct,
    /// Runs are no whole words: each row is gathered.
    Gathered,
}

/// How a convolution reads its input: decided from its window, channels and groups, the same way for packing and for running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub layout: Layout,
    walk: Walk,
    /// Kernel columns in a run.
    columns: usize,
}

impl Geometry {
    /// For pixels of `channels` values, in `groups`; `bytes` is what a value takes in a word.
    pub fn new(kernel: [usize; 2], dilation: [usize; 2], channels: usize, groups: usize, bytes: usize) -> Self {
        let count = channels / groups.max(1);
        let whole = |run: usize| (run * bytes).is_multiple_of(4);
        if groups == 1 && dilation[1] == 1 && whole(kernel[1] * count) {
            let layout = Layout::new(kernel[0], kernel[1] * count, bytes);
            return Self { layout, walk: Walk::Direct, columns: kernel[1] };
        }
        if whole(count) {
            return Self { layout: Layout::new(kernel[0] * kernel[1], count, bytes), walk: Walk::Direct, columns: 1 };
        }
        Self { layout: Layout::new(1, kernel[0] * kernel[1] * count, bytes), walk: Walk::Gathered, columns: kernel[1] }
    }
}

/// What a convolution reads and how it is cut.
#[derive(Clone, Copy)]
pub(crate) struct Sizes<'a> {
    pub shape: &'a ConvShape,
    pub geometry: Geometry,
    /// The input's bytes.
    pub input: &'a [u8],
    /// What padding is made of: every byte, or every value where bytes are widened.
    pub padding: u8,
    /// First channel that is read.
    pub first: usize,
}

/// Runs one group of a convolution. Row `r` of the results is output pixel `r`.
///
/// # Safety
/// `finish` covers all output pixels and all of `packed.n` columns, and nothing else touches them meanwhile.
pub(crate) unsafe fn convolve<F: Family>(sizes: Sizes, packed: &PackedWords<F>, finish: &F::Finish)
where
    F::Finish: Sync,
{
    let ConvShape { batch, input: [h, w], output: [oh, ow], .. } = *sizes.shape;
    assert_eq!(sizes.input.len(), batch * h * w * sizes.shape.channels * packed.family.bytes(), "input");
    assert_eq!(packed.layout, sizes.geometry.layout, "packed for another convolution");
    let rows = batch * oh;
    if rows * ow == 0 || packed.n == 0 {
        return;
    }
    let depth = packed.layout.segments * packed.layout.words * 4;
    let work = rows * ow * packed.n * depth / packed.family.word_bytes();
    let threads = threads::count();
    let wanted = if threads == 1 || work < SERIAL { 1 } else { threads * 4 };
    let panels = packed.panels();
    let (row_tasks, groups) = if depth * packed.n > sizes.input.len() {
        let groups = wanted.min(panels);
        (wanted.div_ceil(groups), groups)
    } else {
        let tasks = wanted.min(rows);
        (tasks, wanted.div_ceil(tasks).min(panels))
    };
    let bands = (sizes.input.len() / packed.family.bytes() * packed.family.word_bytes() / BAND).clamp(1, rows);
    let each = rows.div_ceil(row_tasks.clamp(bands, rows.max(bands)));
    let (row_tasks, wide) = (rows.div_ceil(each), panels.div_ceil(groups));
    let groups = panels.div_ceil(wide);
    let task = |index: usize| {
        let (r, g) = (index / groups, index % groups);
        let task = Task { sizes, packed, finish, rows: r * each..rows.min((r + 1) * each), panels: g * wide..panels.min((g + 1) * wide) };
        packed.family.run(task);
    };
    if wanted == 1 {
        (0..row_tasks * groups).for_each(task);
    } else {
        threads::parallel(row_tasks * groups, task);
    }
}

#[derive(Default)]
struct Scratch {
    values: Buffer,
    rows: Vec<usize>,
    segments: Vec<usize>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::new(Scratch::default());
}

/// Rows of the output (of all images, one after the other) under some panels.
struct Task<'a, F: Family> {
    sizes: Sizes<'a>,
    packed: &'a PackedWords<F>,
    finish: &'a F::Finish,
    rows: Range<usize>,
    panels: Range<usize>,
}

impl<F: Family> DotKernel<F::Finish> for Task<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<D: Dot<Finish = F::Finish>>(self, d: D) {
        // Taken and put back, not borrowed in a closure: that would be a function without this one's instructions.
        let mut scratch = SCRATCH.take();
        let Scratch { values, rows, segments } = &mut scratch;
        let gather = Gather { sizes: &self.sizes, values, bytes: self.packed.family.bytes(), word: self.packed.family.word_bytes() };
        let copied = gather.run(self.rows.clone(), rows, segments);
        let a = if copied { values.as_ptr().cast() } else { self.sizes.input.as_ptr() };
        for index in self.panels.clone() {
            let panel = self.packed.panel(index);
            let strip = Strip {
                a,
                rows,
                segments,
                words: self.packed.layout.words,
                b: panel.data.as_ptr(),
                vectors: panel.vectors,
                width: panel.width,
                finish: self.finish,
                row: self.rows.start * self.sizes.shape.output[1],
                column: panel.column,
            };
            // SAFETY: `gather` gives offsets of runs that lie in the input or in the copy; the panel holds all words of k; `convolve`'s
            // caller vouches for the results, and tasks have rows and columns of their own.
            unsafe { strip.run(d) };
        }
        SCRATCH.set(scratch);
    }
}

/// Finds the rows of A. Offsets are in bytes; those of a copy in the copy's bytes.
struct Gather<'a> {
    sizes: &'a Sizes<'a>,
    values: &'a mut Buffer,
    /// Bytes of a value in the input, and in the copy.
    bytes: usize,
    word: usize,
}

impl Gather<'_> {
    /// The offsets of the rows under the output rows `rows`, and of their segments; returns whether they are those of the copy.
    #[inline(always)]
    fn run(mut self, rows: Range<usize>, offsets: &mut Vec<usize>, segments: &mut Vec<usize>) -> bool {
        let ConvShape { input: [h, w], output: [oh, ow], channels, window, .. } = *self.sizes.shape;
        let Geometry { layout, walk, columns } = self.sizes.geometry;
        let reach = |axis: usize, out: usize| (out - 1) * window.stride[axis] + (window.kernel[axis] - 1) * window.dilation[axis] + 1;
        let inside = window.padding == [0, 0] && reach(0, oh) <= h && reach(1, ow) <= w;
        offsets.clear();
        segments.clear();
        if walk == Walk::Gathered {
            segments.push(0);
            self.gathered(rows, offsets);
            return true;
        }
        let in_place = inside && self.word == self.bytes;
        let (width, pixel) = (if in_place { w } else { reach(1, ow) }, channels * self.word);
        let per_row = window.kernel[1] / columns;
        segments.extend((0..layout.segments).map(|s| {
            let (ky, kx) = (s / per_row, s % per_row);
            (ky * window.dilation[0] * width + kx * window.dilation[1]) * pixel + self.sizes.first * self.word
        }));
        let parts =
            (rows.start / oh..rows.end.div_ceil(oh)).map(|n| (n, rows.start.max(n * oh) - n * oh..rows.end.min((n + 1) * oh) - n * oh));
        if !in_place {
            let total: usize = parts.clone().map(|(_, ys)| reach(0, ys.len())).sum();
            self.values.resize((total * width * pixel).div_ceil(4));
        }
        let mut end = 0;
        for (n, ys) in parts {
            let start = if in_place {
                (n * h + ys.start * window.stride[0]) * w * pixel
            } else {
                let start = end;
                end += reach(0, ys.len()) * width * pixel;
                self.band(n, ys.start, width, start..end);
                start
            };
            for y in 0..ys.len() {
                let row = start + y * window.stride[0] * width * pixel;
                offsets.extend((0..ow).map(|x| row + x * window.stride[1] * pixel));
            }
        }
        !in_place
    }

    /// Copies the input rows of image `n` from under output row `y`, padded to `width` pixels each.
    #[inline(always)]
    fn band(&mut self, n: usize, y: usize, width: usize, into: Range<usize>) {
        let Sizes { shape, .. } = *self.sizes;
        let ([h, w], window) = (shape.input, shape.window);
        let [top, left] = window.padding;
        let used = width.saturating_sub(left).min(w);
        let pixel = shape.channels * self.word;
        for (r, at) in into.step_by((width * pixel).max(1)).enumerate() {
            match (y * window.stride[0] + r).checked_sub(top).filter(|&y| y < h) {
                Some(y) => {
                    let left = left.min(width) * pixel;
                    self.pad(at..at + left);
                    self.copy(at + left, (n * h + y) * w * shape.channels, used * shape.channels);
                    self.pad(at + left + used * pixel..at + width * pixel);
                }
                None => self.pad(at..at + width * pixel),
            }
        }
    }

    /// Gathers each row of A, tap by tap, each row filled up to whole words.
    #[inline(always)]
    fn gathered(&mut self, rows: Range<usize>, offsets: &mut Vec<usize>) {
        let Sizes { shape, geometry, first, .. } = *self.sizes;
        let ConvShape { input: [h, w], output: [oh, ow], window, .. } = *shape;
        let taps = window.kernel[0] * window.kernel[1];
        let run = geometry.layout.run / taps;
        let size = geometry.layout.words * 4;
        let pixels = rows.start * ow..rows.end * ow;
        self.values.resize((pixels.len() * size).div_ceil(4));
        for (i, pixel) in pixels.enumerate() {
            let (n, y, x) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
            offsets.push(i * size);
            for tap in 0..taps {
                let at = i * size + tap * run * self.word;
                let sy = window.source(0, y, tap / window.kernel[1], h);
                let sx = window.source(1, x, tap % window.kernel[1], w);
                match (sy, sx) {
                    (Some(sy), Some(sx)) => self.copy(at, ((n * h + sy) * w + sx) * shape.channels + first, run),
                    _ => self.pad(at..at + run * self.word),
                }
            }
            self.pad(i * size + taps * run * self.word..(i + 1) * size);
        }
    }

    #[inline(always)]
    fn pad(&mut self, bytes: Range<usize>) {
        let all = self.values.len() * 4;
        let padding = self.sizes.padding;
        if (self.bytes, self.word) == (1, 2) {
            return self.values.numbers_mut::<u16>(all / 2)[bytes.start / 2..bytes.end / 2].fill(u16::from(padding));
        }
        self.values.numbers_mut::<u8>(all)[bytes].fill(padding);
    }

    /// Copies `count` values from value `from` of the input to byte `at` of the copy.
    #[inline(always)]
    fn copy(&mut self, at: usize, from: usize, count: usize) {
        let input = &self.sizes.input[from * self.bytes..(from + count) * self.bytes];
        let all = self.values.len() * 4;
        if (self.bytes, self.word) == (1, 2) {
            let output = &mut self.values.numbers_mut::<u16>(all / 2)[at / 2..at / 2 + count];
            output.iter_mut().zip(input).for_each(|(wide, &byte)| *wide = u16::from(byte));
            return;
        }
        let output = &mut self.values.numbers_mut::<u8>(all)[at..at + count * self.word];
        if self.word == self.bytes {
            output.copy_from_slice(input);
            return;
        }
        let (source, target) = (input.as_ptr().cast::<u16>(), output.as_mut_ptr().cast::<u32>());
        for i in 0..count {
            // SAFETY: both slices were just cut to `count` values, of two bytes and of four.
            unsafe { target.add(i).write_unaligned(u32::from(source.add(i).read_unaligned()) << 16) };
        }
    }
}
