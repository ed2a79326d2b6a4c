//! Dense and grouped convolutions as matrix products.

use std::ops::Range;

use super::convolution::Convolution;
use crate::conv::{ConvShape, Patches, Window, conv2d_into};
use crate::direct::{Direct, Place};
use crate::gemm::{Epilogue, multiply};
use crate::pack::{Matrix, PackedB};
use crate::scratch::{self, Slot};
use crate::threads::each_chunk;
use crate::value::{Value, in_f32};
use crate::winograd::{winograd_into, winograd_side_training};

/// Values of patches in a block: they stay in the second cache level.
const BLOCK: usize = 1 << 17;

/// One packed operand for each group, made by `pack(operand, the group's weights)`.
fn with_groups<R>(c: &Convolution, weight: &[f32], pack: impl Fn(&mut PackedB, &[f32]), run: impl FnOnce(&[PackedB]) -> R) -> R {
    let group = c.weight_len() / c.groups;
    scratch::for_packed(|packed| {
        packed.truncate(c.groups);
        packed.retain(|p| p.isa == c.isa);
        while packed.len() < c.groups {
            packed.push(PackedB::for_isa(c.isa, Matrix::new(&[], 0, 0)));
        }
        packed.iter_mut().zip(weight.chunks_exact(group.max(1))).for_each(|(packed, weight)| pack(packed, weight));
        run(packed)
    })
}

/// `y = patches(x) · W`.
pub(super) fn forward<T: Value>(c: &Convolution, y: &mut [T], x: &[T], weight: &[f32], epilogue: &Epilogue) {
    let (inner, taps) = (c.inner(), c.taps());
    if let Some(side) = by_winograd(c, &c.shape, c.outputs) {
        return scratch::for_winograd(|weights| {
            for columns in winograd_parts(c.outputs, inner, side) {
                weights.transform(c.isa, weight, [c.outputs, inner], columns.clone(), side, false);
                winograd_into(y, x, &c.shape, weights, [columns.start, c.outputs], epilogue, false);
            }
        });
    }
    // Rows: tap, input channel; columns: output channel.
    let pack = |packed: &mut PackedB, weight: &[f32]| {
        if taps == 1 {
            return packed.repack(Matrix::new(weight, c.each(), inner).t());
        }
        packed.fill(taps * inner, c.each(), |panel| {
            for column in panel.columns() {
                for (i, run) in weight[column * inner * taps..][..inner * taps].chunks_exact(taps).enumerate() {
                    run.iter().enumerate().for_each(|(t, &w)| panel.put(t * inner + i, column, w));
                }
            }
        });
    };
    with_groups(c, weight, pack, |packed| product(y, x, &c.shape, packed, epilogue, false));
}

pub(super) fn input_gradient<T: Value>(c: &Convolution, dx: &mut [T], dy: &[T], weight: &[f32], accumulate: bool) {
    let (inner, taps, each) = (c.inner(), c.taps(), c.each());
    if c.is_pointwise() {
        let pack = |packed: &mut PackedB, weight: &[f32]| packed.repack(Matrix::new(weight, each, inner));
        let rows = Matrix::new(dy, c.shape.pixels(), each);
        return with_groups(c, weight, pack, |packed| {
            multiply(dx, inner, c.shape.pixels(), &rows, &packed[0], accumulate, &Epilogue::default());
        });
    }
    if let Some(shape) = c.mirrored() {
        if let Some(side) = by_winograd(c, &shape, inner) {
            return scratch::for_winograd(|weights| {
                for columns in winograd_parts(inner, c.outputs, side) {
                    weights.transform(c.isa, weight, [c.outputs, inner], columns.clone(), side, true);
                    winograd_into(dx, dy, &shape, weights, [columns.start, inner], &Epilogue::default(), accumulate);
                }
            });
        }
        // Rows: mirrored tap, output channel; columns: input channel.
        let pack = |packed: &mut PackedB, weight: &[f32]| {
            packed.fill(taps * each, inner, |panel| {
                for (o, weight) in weight.chunks_exact(inner * taps).enumerate() {
                    for column in panel.columns() {
                        let run = &weight[column * taps..][..taps];
                        run.iter().enumerate().for_each(|(t, &w)| panel.put((taps - 1 - t) * each + o, column, w));
                    }
                }
            });
        };
        return with_groups(c, weight, pack, |packed| product(dx, dy, &shape, packed, &Epilogue::default(), accumulate));
    }
    if !phases(c, dx, dy, weight, accumulate) {
        scattered(c, dx, dy, weight, accumulate);
    }
}

/// Pixels of a line that fill a tile of the microkernel.
const WIDE: usize = 7;

/// `y = patches(x) · packed`: patches of narrow maps are written out, so that tiles are not cut at the end of each line.
fn product<T: Value>(y: &mut [T], x: &[T], shape: &ConvShape, packed: &[PackedB], epilogue: &Epilogue, accumulate: bool) {
    match packed {
        [packed] if shape.output[1] < WIDE && !shape.is_pointwise() => {
            let patches = Patches { input: x, shape: *shape, first: 0, count: shape.channels };
            multiply(y, packed.n, shape.pixels(), &patches, packed, accumulate, epilogue);
        }
        _ => conv2d_into(y, x, shape, packed, epilogue, accumulate),
    }
}

/// Transformed weights that are kept at a time: 12 MiB. Nine become up to 36, and of wide layers all at once would be the largest thing of a step.
/// Tests have several parts of small layers.
const TRANSFORMED: usize = if cfg!(test) { 1 } else { 3 << 20 };

/// Columns whose weights are transformed together: whole panels.
fn winograd_parts(columns: usize, rows: usize, side: usize) -> impl Iterator<Item = Range<usize>> {
    const PANEL: usize = 48;
    let most = TRANSFORMED / ((side + 2) * (side + 2) * rows);
    let each = (most / PANEL * PANEL).max(PANEL);
    (0..columns).step_by(each).map(move |first| first..columns.min(first + each))
}

/// The side of Winograd's tiles, where they gain.
fn by_winograd(c: &Convolution, shape: &ConvShape, outputs: usize) -> Option<usize> {
    if c.groups == 1 { winograd_side_training(shape, outputs) } else { None }
}

/// Along one axis: the input's positions `offset + stride * q`, which `count` taps from `first` on, `stride` apart, reach.
struct Phase {
    offset: usize,
    size: usize,
    first: usize,
    count: usize,
    /// Zeros before the gradients that the mirrored taps read.
    padding: usize,
}

/// The phases of the input's positions along an axis; none where a window of them would begin inside the map.
fn phases_of(c: &Convolution, axis: usize) -> Option<Vec<Phase>> {
    let (w, size) = (c.shape.window, c.shape.input[axis]);
    let (stride, kernel, pad) = (w.stride[axis], w.kernel[axis], w.padding[axis]);
    (0..stride.min(size))
        .map(|offset| {
            // Position `offset + stride q` meets tap `first + stride j` in output `q + shift - j`.
            let (first, shift) = ((offset + pad) % stride, (offset + pad) / stride);
            let count = kernel.saturating_sub(first).div_ceil(stride);
            let padding = if count == 0 { 0 } else { (count - 1).checked_sub(shift)? };
            Some(Phase { offset, size: (size - offset).div_ceil(stride), first, count, padding })
        })
        .collect()
}

/// With a stride: the positions of the input that meet the same taps are a convolution of stride 1 each. Whether that is possible.
fn phases<T: Value>(c: &Convolution, dx: &mut [T], dy: &[T], weight: &[f32], accumulate: bool) -> bool {
    let ([h, w], window, inner, taps) = (c.shape.input, c.shape.window, c.inner(), c.taps());
    if c.groups != 1 || window.dilation != [1; 2] {
        return false;
    }
    let (Some(rows), Some(columns)) = (phases_of(c, 0), phases_of(c, 1)) else { return false };
    if !accumulate && rows.iter().chain(&columns).any(|phase| phase.count == 0) {
        // Some positions meet no tap.
        each_chunk(dx, 1 << 15, |_, dx| dx.fill(T::of(0.0)));
    }
    for (row, column) in rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column))) {
        if row.count == 0 || column.count == 0 {
            continue;
        }
        let kernel = [row.count, column.count];
        let (tall, wide) = (row.count, column.count);
        // Rows: mirrored tap of the phase, output channel; columns: input channel.
        let pack = |packed: &mut PackedB, weight: &[f32]| {
            packed.fill(tall * wide * c.outputs, inner, |panel| {
                for (o, weight) in weight.chunks_exact(inner * taps).enumerate() {
                    for (j, i) in (0..tall * wide).map(|t| (t / wide, t % wide)) {
                        let tap = (row.first + window.stride[0] * j) * window.kernel[1] + column.first + window.stride[1] * i;
                        let to = ((tall - 1 - j) * wide + wide - 1 - i) * c.outputs + o;
                        panel.columns().for_each(|at| panel.put(to, at, weight[at * taps + tap]));
                    }
                }
            });
        };
        let shape = ConvShape {
            batch: c.shape.batch,
            input: c.shape.output,
            channels: c.outputs,
            output: [row.size, column.size],
            window: Window { kernel, stride: [1; 2], dilation: [1; 2], padding: [row.padding, column.padding] },
        };
        let place = Place {
            start: (row.offset * w + column.offset) * inner,
            strides: [h * w * inner, window.stride[0] * w * inner, window.stride[1] * inner],
        };
        with_groups(c, weight, pack, |packed| {
            let epilogue = &Epilogue::default();
            Direct { input: dy, planar: false, shape, b: &packed[0], epilogue, accumulate, place: Some(place) }.run(dx);
        });
    }
    true
}

/// Image by image: the gradient of every patch, scattered onto the image.
fn scattered<T: Value>(c: &Convolution, dx: &mut [T], dy: &[T], weight: &[f32], accumulate: bool) {
    let (inner, taps, each) = (c.inner(), c.taps(), c.each());
    let (k, pixels) = (inner * taps, c.shape.output[0] * c.shape.output[1]);
    let image = c.shape.input[0] * c.shape.input[1] * c.shape.channels;
    let pack = |packed: &mut PackedB, weight: &[f32]| {
        packed.fill(each, k, |panel| {
            for (o, weight) in weight.chunks_exact(k).enumerate() {
                panel.columns().for_each(|column| panel.put(o, column, weight[column % inner * taps + column / inner]));
            }
        });
    };
    let block = (BLOCK / k.max(1)).clamp(1, pixels.max(1));
    with_groups(c, weight, pack, |packed| {
        let image_of = |n: usize, dx: &mut [f32]| {
            if !accumulate {
                dx.fill(0.0);
            }
            let dy = &dy[n * pixels * c.outputs..][..pixels * c.outputs];
            scratch::for_use(Slot::Part, block * k, |patches| {
                for (group, packed) in packed.iter().enumerate() {
                    for first in (0..pixels).step_by(block) {
                        let count = block.min(pixels - first);
                        let a = Matrix::strided(&dy[first * c.outputs + group * each..], count, each, c.outputs);
                        multiply(patches, k, count, &a, packed, false, &Epilogue::default());
                        each_patch_run(c, group, first..first + count, |patch, pixel| {
                            let from = &patches[patch..patch + inner];
                            dx[pixel..pixel + inner].iter_mut().zip(from).for_each(|(d, p)| *d += p);
                        });
                    }
                }
            });
        };
        each_chunk(dx, image, |n, dx| in_f32(c.isa, dx, accumulate, |dx| image_of(n, dx)));
    });
}

/// Calls `f(position in [pixels, taps * inner], position in the image)` for each run of a group's channels inside the image.
fn each_patch_run(c: &Convolution, group: usize, pixels: std::ops::Range<usize>, mut f: impl FnMut(usize, usize)) {
    let ([h, w], [_, ow], window, inner) = (c.shape.input, c.shape.output, c.shape.window, c.inner());
    let first = pixels.start;
    for pixel in pixels {
        let (oy, ox) = (pixel / ow, pixel % ow);
        for ky in 0..window.kernel[0] {
            let Some(y) = window.source(0, oy, ky, h) else { continue };
            for kx in 0..window.kernel[1] {
                let Some(x) = window.source(1, ox, kx, w) else { continue };
                let patch = ((pixel - first) * c.taps() + ky * window.kernel[1] + kx) * inner;
                f(patch, (y * w + x) * c.shape.channels + group * inner);
            }
        }
    }
}
