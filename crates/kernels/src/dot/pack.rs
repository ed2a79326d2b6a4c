//! A right-hand operand in words, panel by panel.

use crate::buffer::Buffer;
use crate::dot::Family;

/// How the k of a product is cut: `segments` runs of `run` values, each padded to whole words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub segments: usize,
    pub run: usize,
    /// Words of a segment.
    pub words: usize,
}

impl Layout {
    pub fn new(segments: usize, run: usize, bytes: usize) -> Self {
        Self { segments, run, words: (run * bytes).div_ceil(4) }
    }
}

/// Bytes of a panel of three vectors beyond which panels have two: such a panel is fetched from the second level of the cache for each tile, and
/// a tile of more rows under fewer columns fetches less.
const DEEP: usize = 200 << 10;

/// `[k, n]` packed for the tile: panels of one to three vectors of columns (two where vectors have eight lanes, or k is deep), each panel's words
/// contiguous.
#[derive(Debug, Clone)]
pub(crate) struct PackedWords<F> {
    pub family: F,
    pub layout: Layout,
    pub n: usize,
    data: Buffer,
}

/// One panel: `vectors` vectors of columns from `column`, `width` of them real.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub column: usize,
    pub width: usize,
    pub vectors: usize,
    pub data: &'a [u32],
}

impl<F: Family> PackedWords<F> {
    /// Packs `value(segment, position in it, column)`, each the low bits of a number.
    pub fn new(family: F, layout: Layout, n: usize, value: impl Fn(usize, usize, usize) -> u32) -> Self {
        let (lanes, bytes) = (family.lanes(), family.word_bytes());
        let each = 4 / bytes;
        let vectors = n.div_ceil(lanes);
        let depth = layout.segments * layout.words;
        let total = vectors * lanes * depth;
        let mut packed = Self { family, layout, n, data: Buffer::zeros(total) };
        for index in 0..packed.panels() {
            let (first, count) = packed.vectors(index);
            for row in 0..depth {
                let (segment, word) = (row / layout.words, row % layout.words);
                for lane in 0..count * lanes {
                    let column = first * lanes + lane;
                    let number = |e: usize| {
                        let at = word * each + e;
                        if column < n && at < layout.run { value(segment, at, column) } else { 0 }
                    };
                    let bits = (0..each).fold(0, |bits, e| bits | (number(e) << (8 * bytes * e)));
                    packed.data.numbers_mut::<u32>(total)[first * lanes * depth + row * count * lanes + lane] = bits;
                }
            }
        }
        packed
    }

    pub fn panels(&self) -> usize {
        self.n.div_ceil(self.family.lanes()).div_ceil(if self.in_pairs() { 2 } else { 3 })
    }

    /// Whether panels have two vectors at most.
    fn in_pairs(&self) -> bool {
        let lanes = self.family.lanes();
        lanes == 8 || lanes == 16 && self.layout.segments * self.layout.words * 3 * lanes * 4 > DEEP
    }

    /// First vector and vectors of a panel: threes, but twos at the end rather than a one. Sixteen registers of eight lanes hold more rows of
    /// sums under two vectors, so that what is made of each word of B serves more of them.
    fn vectors(&self, index: usize) -> (usize, usize) {
        let all = self.n.div_ceil(self.family.lanes());
        if self.in_pairs() {
            return (index * 2, 2.min(all - index * 2));
        }
        let panels = all.div_ceil(3);
        let twos = (panels * 3 - all).min(panels);
        if all < 3 {
            return (0, all);
        }
        let threes = panels - twos;
        if index < threes { (index * 3, 3) } else { (threes * 3 + (index - threes) * 2, 2) }
    }

    pub fn panel(&self, index: usize) -> Panel<'_> {
        let (lanes, depth) = (self.family.lanes(), self.layout.segments * self.layout.words);
        let (first, vectors) = self.vectors(index);
        let column = first * lanes;
        let from = column * depth;
        Panel {
            column,
            width: (vectors * lanes).min(self.n - column),
            vectors,
            data: &self.data.numbers(self.data.len())[from..from + vectors * lanes * depth],
        }
    }
}
