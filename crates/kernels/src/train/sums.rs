//! Sums of columns: blocks of rows that depend on the sizes alone, added in their order.

use crate::dispatch::{Isa, Kernel, Simd};
use crate::gemm::Shared;
use crate::scratch::{self, Slot};
use crate::threads::parallel;
use crate::value::{Value, Values, alike};

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
pub fn column_sums<'a>(sums: &mut [f32], dy: impl Into<Values<'a>>) {
    alike!((; dy) => column_sums_on(Isa::best(), sums, dy));
}

pub(super) fn column_sums_on<T: Value>(isa: Isa, sums: &mut [f32], dy: &[T]) {
    let columns = sums.len();
    assert!(columns > 0 && dy.len().is_multiple_of(columns), "whole rows of {columns}");
    let block = |rows: std::ops::Range<usize>, part: &mut [f32]| {
        isa.run(Columns { sums: part, rows: &dy[rows.start * columns..rows.end * columns] });
    };
    by_blocks(dy.len() / columns, columns, columns, block, |totals| {
        sums.iter_mut().zip(totals).for_each(|(sum, &total)| *sum = total as f32);
    });
}

struct Columns<'a, T> {
    sums: &'a mut [f32],
    rows: &'a [T],
}

impl<T: Value> Kernel for Columns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let columns = self.sums.len();
        self.sums.fill(0.0);
        let four = self.rows.chunks_exact(4 * columns);
        let rest = four.remainder();
        for rows in four {
            for column in (0..columns).step_by(S::LANES) {
                let count = S::LANES.min(columns - column);
                // SAFETY: `count` values from `column` lie in the sums and in each of the four rows.
                unsafe {
                    let row = |i: usize| T::load_first(s, rows.as_ptr().add(i * columns + column), count);
                    let sum = s.load_first(self.sums.as_ptr().add(column), count);
                    let sum = s.add(sum, s.add(s.add(row(0), row(1)), s.add(row(2), row(3))));
                    s.store_first(self.sums.as_mut_ptr().add(column), count, sum);
                }
            }
        }
        for row in rest.chunks_exact(columns) {
            self.sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v.get());
        }
    }
}
