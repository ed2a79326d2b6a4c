//! Dense and grouped convolutions as matrix products.

use super::convolution::Convolution;
use crate::conv::Patches;
use crate::gemm::{Epilogue, Rows, gemm_for, multiply, share};
use crate::pack::{Matrix, PackedB};
use crate::scratch::{self, Slot};
use crate::threads::each_chunk;

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
pub(super) fn forward(c: &Convolution, y: &mut [f32], x: &[f32], weight: &[f32], epilogue: &Epilogue) {
    let (inner, taps) = (c.inner(), c.taps());
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
    with_groups(c, weight, pack, |packed| crate::conv::conv2d(y, x, &c.shape, packed, epilogue));
}

pub(super) fn input_gradient(c: &Convolution, dx: &mut [f32], dy: &[f32], weight: &[f32], accumulate: bool) {
    let (inner, taps, each) = (c.inner(), c.taps(), c.each());
    if c.is_pointwise() {
        let pack = |packed: &mut PackedB, weight: &[f32]| packed.repack(Matrix::new(weight, each, inner));
        let rows = Matrix::new(dy, c.shape.pixels(), each);
        return with_groups(c, weight, pack, |packed| {
            multiply(dx, inner, c.shape.pixels(), &rows, &packed[0], accumulate, &Epilogue::default());
        });
    }
    match c.mirrored() {
        Some(shape) if !accumulate => {
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
            with_groups(c, weight, pack, |packed| crate::conv::conv2d(dx, dy, &shape, packed, &Epilogue::default()));
        }
        _ => scattered(c, dx, dy, weight, accumulate),
    }
}

/// Image by image: the gradient of every patch, scattered onto the image.
fn scattered(c: &Convolution, dx: &mut [f32], dy: &[f32], weight: &[f32], accumulate: bool) {
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
    with_groups(c, weight, pack, |packed| {
        each_chunk(dx, image, |n, dx| {
            if !accumulate {
                dx.fill(0.0);
            }
            let dy = &dy[n * pixels * c.outputs..][..pixels * c.outputs];
            let block = (BLOCK / k.max(1)).clamp(1, pixels.max(1));
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
        });
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

/// Rows of a product with the patches that are made at a time.
const ROWS: usize = 512;

/// `dW = dYᵀ · patches(X)`.
pub(super) fn weight_gradient(c: &Convolution, dw: &mut [f32], dy: &[f32], x: &[f32]) {
    let (inner, taps, each, m) = (c.inner(), c.taps(), c.each(), c.shape.pixels());
    let k = inner * taps;
    // The number of parts depends on the sizes alone, so that sums do not depend on the number of threads.
    let parts = m.div_ceil(2 * ROWS).clamp(1, 4);
    let len = c.weight_len();
    scratch::for_use(Slot::Sums, parts * len, |sums| {
        each_chunk(sums, len, |part, sums| {
            let rows = share(m, parts, part);
            for (group, dw) in sums.chunks_exact_mut((each * k).max(1)).enumerate() {
                let patches = Patches { input: x, shape: c.shape, first: group * inner, count: inner };
                let mut buffer = crate::Buffer::new();
                let mut first = true;
                for start in rows.clone().step_by(ROWS) {
                    let count = ROWS.min(rows.end - start);
                    let a = Matrix::strided(&dy[start * c.outputs + group * each..], count, each, c.outputs).t();
                    let (b, stride) =
                        if c.is_pointwise() { (&x[start * k..], k) } else { patches.block(start..start + count, 0..k, &mut buffer) };
                    gemm_for(c.isa, dw, a, Matrix::strided(b, count, k, stride), !first);
                    first = false;
                }
                if first {
                    dw.fill(0.0);
                }
            }
        });
        gather(c, dw, sums);
    });
}

/// Adds the parts `[parts, O, taps, I / groups]` into `dw` `[O, I / groups, taps]`.
fn gather(c: &Convolution, dw: &mut [f32], parts: &[f32]) {
    let (len, inner, taps) = (c.weight_len(), c.inner(), c.taps());
    each_chunk(dw, inner * taps, |o, dw| {
        for (i, dw) in dw.chunks_exact_mut(taps).enumerate() {
            for (t, dw) in dw.iter_mut().enumerate() {
                *dw = parts.chunks_exact(len).map(|part| part[(o * taps + t) * inner + i]).sum();
            }
        }
    });
}
