//! Sums of columns: blocks of rows that depend on the sizes alone, added in their order.

use crate::dispatch::{Isa, Kernel, Simd};
use crate::gemm::Shared;
use crate::scratch::{self, Slot};
use crate::threads::parallel;

/// Values of a block of rows: it stays in the second cache level.
const BLOCK: usize = 1 << 14;

/// Rows of a block.
pub(super) fn block_rows(channels: usize) -> usize {
    BLOCK / channels.max(1) + 1
}

/// Runs `block(index, rows, sums)` for blocks of `rows` rows of `channels` values in parallel, each with `width` sums of its own, and gives
/// `f` their totals.
pub(super) fn by_blocks<R>(
    rows: usize,
    channels: usize,
    width: usize,
    block: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
    f: impl FnOnce(&[f64]) -> R,
) -> R {
    let each = block_rows(channels);
    let blocks = rows.div_ceil(each);
    scratch::for_use(Slot::Sums, blocks * width, |sums| {
        let shared = Shared(sums.as_mut_ptr());
        parallel(blocks, |index| {
            // SAFETY: each block has `width` sums of its own in a slice of `blocks * width`.
            let sums = unsafe { std::slice::from_raw_parts_mut(shared.get().add(index * width), width) };
            block(index * each..rows.min((index + 1) * each), sums);
        });
        let mut totals = vec![0.0f64; width];
        for block in sums.chunks_exact(width.max(1)) {
            totals.iter_mut().zip(block).for_each(|(total, &sum)| *total += f64::from(sum));
        }
        f(&totals)
    })
}

/// Sums of the columns of `dy` `[rows, columns]`: the gradient by a bias.
///
/// # Panics
/// Where `dy` is no whole rows.
pub fn column_sums(sums: &mut [f32], dy: &[f32]) {
    column_sums_on(Isa::best(), sums, dy);
}

pub(super) fn column_sums_on(isa: Isa, sums: &mut [f32], dy: &[f32]) {
    let columns = sums.len();
    assert!(columns > 0 && dy.len().is_multiple_of(columns), "whole rows of {columns}");
    let block = |rows: std::ops::Range<usize>, part: &mut [f32]| {
        isa.run(Columns { sums: part, rows: &dy[rows.start * columns..rows.end * columns] });
    };
    by_blocks(dy.len() / columns, columns, columns, block, |totals| {
        sums.iter_mut().zip(totals).for_each(|(sum, &total)| *sum = total as f32);
    });
}

struct Columns<'a> {
    sums: &'a mut [f32],
    rows: &'a [f32],
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut channel = 0;
        channel = self.blocks::<S, 4>(s, channel);
        self.blocks::<S, 1>(s, channel);
    }
}

impl Columns<'_> {
    #[inline(always)]
    fn blocks<S: Simd, const NB: usize>(&self, s: S, mut channel: usize) -> usize {
        let columns = self.sums.len();
        while channel + NB * S::LANES <= columns || (NB == 1 && channel < columns) {
            let n = if NB == 1 { S::LANES.min(columns - channel) } else { S::LANES };
            let mut acc = [s.splat(0.0); NB];
            for row in self.rows.chunks_exact(columns) {
                for (j, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: `n` values from `channel + j * LANES` lie in the row.
                    *acc = s.add(*acc, unsafe { s.load_first(row.as_ptr().add(channel + j * S::LANES), n) });
                }
            }
            for (j, &v) in acc.iter().enumerate() {
                // SAFETY: as above, in the sums, which this block of rows has for itself.
                unsafe { s.store_first(self.sums.as_ptr().add(channel + j * S::LANES).cast_mut(), n, v) };
            }
            channel += NB * S::LANES;
        }
        channel
    }
}
