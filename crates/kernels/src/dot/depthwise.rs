//! Depthwise convolution in words: neighbours along a row of the window lie side by side in a word, so that one instruction takes several
//! taps. A slice of the channels of a band of the input is spread out into such words, where every window is whole and every vector aligned.
//!
//! Windows of three or five columns, one or two apart, find every column in one word only: where a window begins inside a word, its taps come
//! shifted by as much ([`Taps`] has them for each shift, with zeros around). A word then serves all windows that it meets from a register. Other
//! windows have words of their own for each column that they begin at.

use std::cell::Cell;
use std::ops::Range;

use crate::buffer::{Buffer, Number};
use crate::conv::ConvShape;
use crate::dot::{Dot, DotKernel, Family};
use crate::threads;

/// Channels of a slice.
const SLICE: usize = 32;
/// Words of a band, at most (but for a single row of output): it stays in the second level of the cache.
const BAND: usize = 40_000;

/// A number of 8 or 16 bits.
pub(crate) trait Narrow: Number {
    /// Its bits, zeros above.
    fn bits(self) -> u32;
}

impl Narrow for u8 {
    #[inline(always)]
    fn bits(self) -> u32 {
        u32::from(self)
    }
}

impl Narrow for u16 {
    #[inline(always)]
    fn bits(self) -> u32 {
        u32::from(self)
    }
}

impl Narrow for i16 {
    #[inline(always)]
    fn bits(self) -> u32 {
        u32::from(self as u16)
    }
}

/// Taps as words of a row of the window, in slices of channels: `[slices, KH, shifts, words, SLICE]`, zeros where there is no tap or no channel.
/// There are as many shifts as numbers in a word.
#[derive(Debug, Clone)]
pub(crate) struct Taps<F> {
    pub family: F,
    kernel: [usize; 2],
    pub channels: usize,
    words: Buffer,
}

impl<F: Family> Taps<F> {
    /// `value(channel, tap)`, the low bits of a number.
    pub fn new(family: F, kernel: [usize; 2], channels: usize, value: impl Fn(usize, usize) -> u32) -> Self {
        let (bytes, each) = (family.word_bytes(), each(family));
        let row = words_of_row(kernel[1], each);
        let all = kernel[0] * each * row;
        let mut words = Buffer::new();
        for (i, word) in words.resize_for::<u32>(channels.div_ceil(SLICE) * all * SLICE).iter_mut().enumerate() {
            let (channel, at) = (i / (all * SLICE) * SLICE + i % SLICE, i / SLICE % all);
            let (ky, shift, first) = (at / (each * row), at / row % each, at % row * each);
            let number = |e: usize| match (first + e).checked_sub(shift) {
                Some(column) if channel < channels && column < kernel[1] => value(channel, ky * kernel[1] + column),
                _ => 0,
            };
            *word = (0..each).fold(0, |bits, e| bits | (number(e) << (8 * bytes * e)));
        }
        Self { family, kernel, channels, words }
    }
}

/// Words of `each` numbers for a row of a window, wherever in a word it begins.
const fn words_of_row(columns: usize, each: usize) -> usize {
    (each - 1 + columns).div_ceil(each)
}

/// Numbers in a word.
fn each<F: Family>(family: F) -> usize {
    4 / family.word_bytes()
}

/// Which input columns the words of a row hold: word `j` those from `j * grid`, the window's dilation apart.
#[derive(Clone, Copy)]
struct Row {
    grid: usize,
    /// Words between the windows of neighbouring outputs, and between the words of a window.
    step: usize,
    hop: usize,
    /// Words of a window's row.
    words: usize,
    /// Words of a row of the band.
    count: usize,
    /// Columns are in one word only.
    once: bool,
}

/// Windows of the smallest tile that shifts its taps: it begins at a word, whatever the stride.
const FEWEST: usize = 4;

impl Row {
    fn new(shape: &ConvShape, each: usize) -> Self {
        let (stride, dilation, words) = (shape.window.stride[1], shape.window.dilation[1], shape.window.kernel[1].div_ceil(each));
        if let (3 | 5, 1 | 2, 1) = (shape.window.kernel[1], stride, dilation) {
            let last = (shape.output[1].next_multiple_of(FEWEST) - 1) * stride + shape.window.kernel[1] - 1;
            return Self { grid: each, step: 0, hop: 1, words, count: last / each + 1, once: true };
        }
        // Where windows and their words begin at multiples of the stride, only those are made.
        let grid = if dilation == 1 && (each.is_multiple_of(stride) || words == 1) { stride } else { 1 };
        let (step, hop) = (stride / grid, each * dilation / grid);
        Self { grid, step, hop, words, count: (shape.output[1] - 1) * step + (words - 1) * hop + 1, once: false }
    }
}

/// Runs a depthwise convolution whose padding has the value `padding`. Row `r` of the results is output pixel `r`.
///
/// # Safety
/// `finish` covers all output pixels and channels, and nothing else touches them meanwhile.
pub(crate) unsafe fn depthwise<F: Family, T: Narrow>(input: &[T], shape: &ConvShape, taps: &Taps<F>, padding: T, finish: &F::Finish)
where
    F::Finish: Sync,
{
    let (c, [h, w], [oh, ow], window) = (shape.channels, shape.input, shape.output, &shape.window);
    assert_eq!(input.len(), shape.batch * h * w * c, "input");
    assert_eq!((taps.kernel, taps.channels), (window.kernel, c), "taps of another convolution");
    assert_eq!(size_of::<T>(), taps.family.bytes(), "numbers of another kind");
    if shape.batch * oh * ow * c == 0 {
        return;
    }
    let row = Row::new(shape, each(taps.family));
    let reach = |rows: usize| (rows - 1) * window.stride[0] + (window.kernel[0] - 1) * window.dilation[0] + 1;
    // The most rows whose band is small enough.
    let rows = (1..=oh).rev().find(|&rows| reach(rows) * row.count * SLICE <= BAND).unwrap_or(1);
    let rows = oh.div_ceil(oh.div_ceil(rows));
    let (bands, slices) = (oh.div_ceil(rows), c.div_ceil(SLICE));
    let task = |index: usize| {
        let (n, band, slice) = (index / (bands * slices), index / slices % bands, index % slices);
        let ys = band * rows..oh.min((band + 1) * rows);
        let image = &input[n * h * w * c..(n + 1) * h * w * c];
        taps.family.run(Task { image, n, reach: reach(ys.len()), ys, slice, row, shape, taps, padding, finish });
    };
    threads::parallel(shape.batch * bands * slices, task);
}

thread_local! {
    static BAND_COPY: Cell<Buffer> = const { Cell::new(Buffer::new()) };
}

struct Task<'a, F: Family, T> {
    image: &'a [T],
    n: usize,
    ys: Range<usize>,
    /// Input rows under `ys`.
    reach: usize,
    slice: usize,
    row: Row,
    shape: &'a ConvShape,
    taps: &'a Taps<F>,
    padding: T,
    finish: &'a F::Finish,
}

impl<F: Family, T: Narrow> DotKernel<F::Finish> for Task<'_, F, T> {
    type Output = ();

    #[inline(always)]
    fn run<D: Dot<Finish = F::Finish>>(self, d: D) {
        // Taken and put back, not borrowed in a closure: that would be a function without this one's instructions.
        let mut buffer = BAND_COPY.take();
        let band = buffer.resize_for::<u32>(self.reach * self.row.count * SLICE);
        match D::EACH {
            4 => self.spread::<D, 4>(d, band),
            2 => self.spread::<D, 2>(d, band),
            _ => self.spread::<D, 1>(d, band),
        }
        let ow = self.shape.output[1];
        if self.row.once {
            match (self.shape.window.kernel[1], self.shape.window.stride[1]) {
                (3, 1) => self.rows::<D, 3, 1>(d, band),
                (3, _) => self.rows::<D, 3, 2>(d, band),
                (_, 1) => self.rows::<D, 5, 1>(d, band),
                (_, _) => self.rows::<D, 5, 2>(d, band),
            }
            BAND_COPY.set(buffer);
            return;
        }
        for y in 0..self.ys.len() {
            let mut x = 0;
            while x + 8 <= ow {
                self.tile::<D, 8>(d, band, y, x);
                x += 8;
            }
            // The rest: one more tile that ends at the last column and computes some outputs twice, or columns one by one.
            if x + 4 <= ow {
                self.tile::<D, 4>(d, band, y, x);
                x += 4;
            }
            if x < ow && ow >= 4 {
                self.tile::<D, 4>(d, band, y, ow - 4);
                x = ow;
            }
            while x < ow {
                self.tile::<D, 1>(d, band, y, x);
                x += 1;
            }
        }
        BAND_COPY.set(buffer);
    }
}

impl<F: Family, T: Narrow> Task<'_, F, T> {
    /// The band of the slice in words of `E` numbers: `[rows, words, SLICE]`.
    #[inline(always)]
    fn spread<D: Dot<Finish = F::Finish>, const E: usize>(&self, d: D, band: &mut [u32]) {
        let (c, [h, w], window) = (self.shape.channels, self.shape.input, &self.shape.window);
        let top = window.padding[0];
        let bits = 32 / E;
        // Numbers that are widened have their bits at the upper end of the word.
        let low = bits - 8 * size_of::<T>();
        let (none, count) = ([self.padding; SLICE], SLICE.min(c - self.slice * SLICE));
        for (r, words) in band.chunks_exact_mut(self.row.count * SLICE).enumerate() {
            let y = (self.ys.start * window.stride[0] + r).checked_sub(top).filter(|&y| y < h);
            let source = y.map(|y| &self.image[y * w * c..(y + 1) * w * c]);
            for (j, word) in words.chunks_exact_mut(SLICE).enumerate() {
                let mut numbers = [&none[..]; E];
                for (e, numbers) in numbers.iter_mut().enumerate() {
                    let x = (j * self.row.grid + e * window.dilation[1]).checked_sub(window.padding[1]).filter(|&x| x < w);
                    if let (Some(source), Some(x)) = (source, x) {
                        *numbers = &source[x * c + self.slice * SLICE..][..count];
                    }
                }
                let mut channel = 0;
                while channel + D::LANES <= count {
                    let mut at = [std::ptr::null(); 4];
                    at.iter_mut().zip(&numbers).for_each(|(at, numbers)| *at = numbers[channel..].as_ptr().cast());
                    // SAFETY: each slice has `count` numbers, the word has those of a slice.
                    if !unsafe { d.join(word[channel..].as_mut_ptr(), &at) } {
                        break;
                    }
                    channel += D::LANES;
                }
                for i in channel..count {
                    word[i] = 0;
                    for (e, numbers) in numbers.iter().enumerate() {
                        word[i] |= numbers[i].bits() << (low + bits * e);
                    }
                }
            }
        }
    }

    /// The task's rows, where columns are in one word only: `KW` of a window, `S` between windows.
    #[inline(always)]
    fn rows<D: Dot<Finish = F::Finish>, const KW: usize, const S: usize>(&self, d: D, band: &[u32]) {
        let ow = self.shape.output[1];
        for y in 0..self.ys.len() {
            let mut x = 0;
            while x + FEWEST < ow {
                self.shifting::<D, KW, S, 8>(d, band, y, x);
                x += 8;
            }
            if x < ow {
                self.shifting::<D, KW, S, FEWEST>(d, band, y, x);
            }
        }
    }

    /// `XT` columns of row `y` of the task from column `x`, as far as there are so many. A word is read once for all windows that it meets.
    #[inline(always)]
    fn shifting<D: Dot<Finish = F::Finish>, const KW: usize, const S: usize, const XT: usize>(
        &self,
        d: D,
        band: &[u32],
        y: usize,
        x: usize,
    ) {
        const { assert!((FEWEST * S).is_multiple_of(D::EACH) && XT.is_multiple_of(FEWEST) && XT <= 8) };
        let (window, first, words) = (&self.shape.window, self.slice * SLICE, const { words_of_row(KW, D::EACH) });
        let (count, all) = (SLICE.min(self.shape.channels - first), window.kernel[0] * D::EACH * words);
        let taps = &self.taps.words.numbers::<u32>(self.taps.words.len())[self.slice * all * SLICE..][..all * SLICE];
        let (from, line) = ((y * window.stride[0] * self.row.count + x * S / D::EACH) * SLICE, window.dilation[0] * self.row.count * SLICE);
        // Words under the columns.
        let under = const { ((XT - 1) * S + KW - 1) / D::EACH + 1 };
        assert!(band.len() >= from + (window.kernel[0] - 1) * line + under * SLICE, "the band holds whole windows");
        let [oh, ow] = self.shape.output;
        let pixel = (self.n * oh + self.ys.start + y) * ow + x;
        let mut sums = [0u32; 16 * 8];
        for channel in (0..count).step_by(D::LANES) {
            let mut acc = [d.zero(); XT];
            for ky in 0..window.kernel[0] {
                // SAFETY: the assertion covers the words of every row of the window, whole slices, and `channel + LANES <= SLICE`; each row has
                // taps for all shifts.
                unsafe {
                    let tap = taps.as_ptr().add(ky * D::EACH * words * SLICE + channel);
                    let at = band.as_ptr().add(from + ky * line + channel);
                    for j in 0..under {
                        let word = d.words(at.add(j * SLICE));
                        for (i, acc) in acc.iter_mut().enumerate() {
                            let (start, shift) = (i * S / D::EACH, i * S % D::EACH);
                            if j >= start && j - start < (shift + KW).div_ceil(D::EACH) {
                                *acc = d.dot(*acc, word, d.load(tap.add((shift * words + j - start) * SLICE)));
                            }
                        }
                    }
                }
            }
            const { assert!(D::LANES <= 16 && SLICE.is_multiple_of(D::LANES)) };
            for (i, &v) in acc.iter().enumerate() {
                // SAFETY: eight vectors of sixteen fit.
                unsafe { d.store(sums.as_mut_ptr().add(i * D::LANES), v) };
            }
            for i in 0..XT.min(ow - x) {
                // SAFETY: the sums were written; the pixel and the channels exist, `depthwise`'s caller vouches for what `finish` points
                // at, and tasks have outputs of their own.
                unsafe {
                    d.finish(sums.as_ptr().add(i * D::LANES), self.finish, pixel + i, first + channel, D::LANES.min(count - channel));
                }
            }
        }
    }

    /// `XT` columns of row `y` of the task from column `x`.
    #[inline(always)]
    fn tile<D: Dot<Finish = F::Finish>, const XT: usize>(&self, d: D, band: &[u32], y: usize, x: usize) {
        let (window, first, row) = (&self.shape.window, self.slice * SLICE, self.row);
        let (count, each_row) = (SLICE.min(self.shape.channels - first), D::EACH * words_of_row(window.kernel[1], D::EACH));
        let all = window.kernel[0] * each_row;
        let taps = &self.taps.words.numbers::<u32>(self.taps.words.len())[self.slice * all * SLICE..][..all * SLICE];
        let (from, line) = ((y * window.stride[0] * row.count + x * row.step) * SLICE, window.dilation[0] * row.count);
        let last = (window.kernel[0] - 1) * line + (XT - 1) * row.step + (row.words - 1) * row.hop;
        assert!(band.len() >= from + (last + 1) * SLICE, "the band holds whole windows");
        let [oh, ow] = self.shape.output;
        let pixel = (self.n * oh + self.ys.start + y) * ow + x;
        let mut sums = [0u32; 16 * 8];
        for channel in (0..count).step_by(D::LANES) {
            let mut acc = [d.zero(); XT];
            for (ky, k) in (0..window.kernel[0]).flat_map(|ky| (0..row.words).map(move |k| (ky, k))) {
                // SAFETY: the assertion covers the window of each of the XT columns, whole slices, and `channel + LANES <= SLICE`.
                unsafe {
                    // Not shifted.
                    let tap = d.load(taps.as_ptr().add((ky * each_row + k) * SLICE + channel));
                    let at = band.as_ptr().add(from + (ky * line + k * row.hop) * SLICE + channel);
                    for (i, acc) in acc.iter_mut().enumerate() {
                        *acc = d.dot(*acc, d.words(at.add(i * row.step * SLICE)), tap);
                    }
                }
            }
            const { assert!(XT <= 8 && D::LANES <= 16 && SLICE.is_multiple_of(D::LANES)) };
            for (i, &v) in acc.iter().enumerate() {
                // SAFETY: eight vectors of sixteen fit.
                unsafe { d.store(sums.as_mut_ptr().add(i * D::LANES), v) };
            }
            for i in 0..XT {
                // SAFETY: the sums were written; the pixel and the channels exist, `depthwise`'s caller vouches for what `finish` points
                // at, and tasks have outputs of their own.
                unsafe {
                    d.finish(sums.as_ptr().add(i * D::LANES), self.finish, pixel + i, first + channel, D::LANES.min(count - channel));
                }
            }
        }
    }
}
