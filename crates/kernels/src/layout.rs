//! Between `[N, C, H, W]` and `[N, H, W, C]`.

use crate::threads::each_chunk;
use crate::value::Value;

/// Pixels a task.
const PIXELS: usize = 1024;

/// `[N, C, pixels] -> [N, pixels, C]`.
pub fn nchw_to_nhwc(output: &mut [f32], input: &[f32], channels: usize, pixels: usize) {
    transpose(output, input, channels, pixels);
}

/// `[N, pixels, C] -> [N, C, pixels]`.
pub fn nhwc_to_nchw(output: &mut [f32], input: &[f32], channels: usize, pixels: usize) {
    transpose(output, input, pixels, channels);
}

/// `[N, rows, cols] -> [N, cols, rows]`.
pub(crate) fn transpose<T: Value, U: Value>(output: &mut [T], input: &[U], rows: usize, cols: usize) {
    let image = rows * cols;
    assert!(output.len() == input.len() && (image == 0 || input.len().is_multiple_of(image)), "whole images of {rows} × {cols}");
    if image == 0 || input.is_empty() {
        return;
    }
    for (output, input) in output.chunks_exact_mut(image).zip(input.chunks_exact(image)) {
        let cols_per_task = (PIXELS * 4 / rows).clamp(1, cols);
        each_chunk(output, cols_per_task * rows, |task, out| {
            let first = task * cols_per_task;
            for block in (0..rows).step_by(16) {
                let block = block..rows.min(block + 16);
                for (j, out) in out.chunks_exact_mut(rows).enumerate() {
                    for i in block.clone() {
                        out[i] = T::of(input[i * cols + first + j].get());
                    }
                }
            }
        });
    }
}
