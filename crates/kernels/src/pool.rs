//! Pooling, NHWC.

use rayon::prelude::*;

use crate::conv::ConvShape;

/// A pooling: the same sizes as a convolution's.
pub type PoolShape = ConvShape;

/// Runs `pixel(image, y, x, out)` for every output pixel, rows in parallel.
fn each_pixel(output: &mut [f32], input: &[f32], shape: &PoolShape, pixel: impl Fn(&[f32], usize, usize, &mut [f32]) + Sync) {
    let (c, [h, w], [oh, ow]) = (shape.channels, shape.input, shape.output);
    assert_eq!(input.len(), shape.batch * h * w * c, "input");
    assert_eq!(output.len(), shape.pixels() * c, "output");
    output.par_chunks_mut((ow * c).max(1)).enumerate().for_each(|(row, out)| {
        let image = &input[row / oh * h * w * c..][..h * w * c];
        for (x, out) in out.chunks_exact_mut(c).enumerate() {
            pixel(image, row % oh, x, out);
        }
    });
}

/// Runs `each(position)` for every pixel of the input under a window.
#[inline(always)]
fn each_tap(shape: &PoolShape, y: usize, x: usize, mut each: impl FnMut(usize)) {
    let ([h, w], window) = (shape.input, shape.window);
    for ky in 0..window.kernel[0] {
        let Some(sy) = window.source(0, y, ky, h) else { continue };
        for kx in 0..window.kernel[1] {
            if let Some(sx) = window.source(1, x, kx, w) {
                each(sy * w + sx);
            }
        }
    }
}

/// Maxima; padding never wins, NaN always does.
pub fn max_pool(output: &mut [f32], input: &[f32], shape: &PoolShape) {
    let c = shape.channels;
    each_pixel(output, input, shape, |image, y, x, out| {
        out.fill(f32::NEG_INFINITY);
        each_tap(shape, y, x, |at| {
            for (o, &v) in out.iter_mut().zip(&image[at * c..(at + 1) * c]) {
                *o = if v > *o || v.is_nan() { v } else { *o };
            }
        });
    });
}

/// Maxima, and for each the position `y * W + x` in its image that gave it (the first of equals): what the backward pass needs.
pub fn max_pool_with_argmax(output: &mut [f32], argmax: &mut [u32], input: &[f32], shape: &PoolShape) {
    let (c, [h, w], [oh, ow]) = (shape.channels, shape.input, shape.output);
    assert_eq!(input.len(), shape.batch * h * w * c, "input");
    assert!(output.len() == shape.pixels() * c && argmax.len() == output.len(), "output and argmax");
    let row = (ow * c).max(1);
    output.par_chunks_mut(row).zip(argmax.par_chunks_mut(row)).enumerate().for_each(|(index, (out, argmax))| {
        let image = &input[index / oh * h * w * c..][..h * w * c];
        for (x, (out, argmax)) in out.chunks_exact_mut(c).zip(argmax.chunks_exact_mut(c)).enumerate() {
            out.fill(f32::NEG_INFINITY);
            argmax.fill(u32::MAX);
            each_tap(shape, index % oh, x, |at| {
                for ((o, a), &v) in out.iter_mut().zip(argmax.iter_mut()).zip(&image[at * c..(at + 1) * c]) {
                    if v > *o || v.is_nan() || *a == u32::MAX {
                        (*o, *a) = (v, at as u32);
                    }
                }
            });
        }
    });
}

/// Means; `padding_end` is the padding below and to the right, `count_padding` whether padded zeros count in the divisor.
pub fn average_pool(output: &mut [f32], input: &[f32], shape: &PoolShape, padding_end: [usize; 2], count_padding: bool) {
    let (c, window) = (shape.channels, shape.window);
    // Taps inside the padded input: PyTorch's divisor.
    let padded = |axis: usize, out: usize| {
        let end = shape.input[axis] + window.padding[axis] + padding_end[axis];
        (0..window.kernel[axis]).filter(|tap| out * window.stride[axis] + tap * window.dilation[axis] < end).count()
    };
    each_pixel(output, input, shape, |image, y, x, out| {
        out.fill(0.0);
        let mut count = 0;
        each_tap(shape, y, x, |at| {
            count += 1;
            for (o, &v) in out.iter_mut().zip(&image[at * c..(at + 1) * c]) {
                *o += v;
            }
        });
        let divisor = if count_padding { padded(0, y) * padded(1, x) } else { count };
        let scale = 1.0 / divisor.max(1) as f32;
        out.iter_mut().for_each(|o| *o *= scale);
    });
}

/// Means over all `pixels` of each image: `[N, pixels, C] -> [N, C]`.
pub fn global_average(output: &mut [f32], input: &[f32], pixels: usize, channels: usize) {
    assert_eq!(output.len() * pixels, input.len(), "input and output");
    output.par_chunks_mut(channels.max(1)).zip(input.par_chunks((pixels * channels).max(1))).for_each(|(out, image)| {
        out.fill(0.0);
        for pixel in image.chunks_exact(channels) {
            for (o, &v) in out.iter_mut().zip(pixel) {
                *o += v;
            }
        }
        let scale = 1.0 / pixels.max(1) as f32;
        out.iter_mut().for_each(|o| *o *= scale);
    });
}
