//! Pooling, back.

use crate::bf16;
use crate::conv::ConvShape;
use crate::dispatch::{Isa, Kernel, Simd};
use crate::pool::{each_tap, maxima};
use crate::threads::each_chunk;
use crate::value::{Value, Values, ValuesMut, alike, each_kind, in_f32};

/// Maxima with their positions, as [`max_pool_with_argmax`](crate::max_pool_with_argmax).
///
/// # Panics
/// Where sizes disagree.
pub fn max_pool<'a, 'b>(y: impl Into<ValuesMut<'a>>, argmax: &mut [u32], x: impl Into<Values<'b>>, shape: &ConvShape) {
    alike!((y; x) => maxima(y, argmax, x, shape));
}

/// Means of windows, as [`average_pool`](crate::average_pool()).
///
/// # Panics
/// Where sizes disagree.
pub fn average_pool<'a, 'b>(
    y: impl Into<ValuesMut<'a>>,
    x: impl Into<Values<'b>>,
    shape: &ConvShape,
    padding_end: [usize; 2],
    count_padding: bool,
) {
    each_kind!((y; x) => { crate::average_pool(y, x, shape, padding_end, count_padding) } or {
        bf16::average_pool(y, x, shape, padding_end, count_padding)
    });
}

/// Means of whole maps, as [`global_average`](crate::global_average()).
///
/// # Panics
/// Where sizes disagree.
pub fn global_average<'a, 'b>(y: impl Into<ValuesMut<'a>>, x: impl Into<Values<'b>>, pixels: usize, channels: usize) {
    each_kind!((y; x) => { crate::global_average(y, x, pixels, channels) } or {
        in_f32(Isa::best(), y, false, |y| bf16::global_average(y, x, pixels, channels))
    });
}

/// Sends each gradient `dy` `[N, OH, OW, C]` to the position that gave the maximum, as
/// [`max_pool`](super::max_pool) found it.
///
/// # Panics
/// Where sizes disagree.
pub fn max_pool_gradient<'a, 'b>(dx: impl Into<ValuesMut<'a>>, dy: impl Into<Values<'b>>, argmax: &[u32], shape: &ConvShape) {
    alike!((dx; dy) => max_back(dx, dy, argmax, shape));
}

fn max_back<T: Value>(dx: &mut [T], dy: &[T], argmax: &[u32], shape: &ConvShape) {
    let c = shape.channels;
    let (image, out) = (shape.input[0] * shape.input[1] * c, shape.output[0] * shape.output[1] * c);
    assert!(dx.len() == shape.batch * image && dy.len() == shape.batch * out && argmax.len() == dy.len(), "gradients and positions");
    let isa = Isa::best();
    each_chunk(dx, image, |n, dx| {
        in_f32(isa, dx, false, |dx| {
            dx.fill(0.0);
            isa.run(ToMaxima { dx, dy: &dy[n * out..(n + 1) * out], argmax: &argmax[n * out..(n + 1) * out], shape });
        });
    });
}

/// An image of gradients, sent to the maxima.
struct ToMaxima<'a, T> {
    dx: &'a mut [f32],
    dy: &'a [T],
    argmax: &'a [u32],
    shape: &'a ConvShape,
}

impl<T: Value> Kernel for ToMaxima<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (c, ow, dx) = (self.shape.channels, self.shape.output[1], self.dx);
        for (pixel, (dy, argmax)) in self.dy.chunks_exact(c).zip(self.argmax.chunks_exact(c)).enumerate() {
            each_tap(
                self.shape,
                pixel / ow,
                pixel % ow,
                #[inline(always)]
                |at| {
                    for ((d, &g), &place) in dx[at * c..(at + 1) * c].iter_mut().zip(dy).zip(argmax) {
                        *d += if place == at as u32 { g.get() } else { 0.0 };
                    }
                },
            );
        }
    }
}

/// The way back through [`average_pool`](super::average_pool) with the same `padding_end` and `count_padding`.
///
/// # Panics
/// Where sizes disagree.
pub fn average_pool_gradient<'a, 'b>(
    dx: impl Into<ValuesMut<'a>>,
    dy: impl Into<Values<'b>>,
    shape: &ConvShape,
    padding_end: [usize; 2],
    count_padding: bool,
) {
    alike!((dx; dy) => average_back(dx, dy, shape, padding_end, count_padding));
}

fn average_back<T: Value>(dx: &mut [T], dy: &[T], shape: &ConvShape, padding_end: [usize; 2], count_padding: bool) {
    let ConvShape { batch, input: [h, w], output: [oh, ow], channels: c, window } = *shape;
    assert!(dx.len() == batch * h * w * c && dy.len() == batch * oh * ow * c, "gradients");
    let image = |n: usize, dx: &mut [f32]| {
        dx.fill(0.0);
        for (pixel, dy) in dy[n * oh * ow * c..(n + 1) * oh * ow * c].chunks_exact(c).enumerate() {
            let (y, x) = (pixel / ow, pixel % ow);
            let rows: Vec<usize> = (0..window.kernel[0]).filter_map(|tap| window.source(0, y, tap, h)).collect();
            let columns: Vec<usize> = (0..window.kernel[1]).filter_map(|tap| window.source(1, x, tap, w)).collect();
            let padded = |axis: usize, out: usize| shape.padded_taps(axis, out, padding_end[axis]);
            let divisor = if count_padding { padded(0, y) * padded(1, x) } else { rows.len() * columns.len() };
            let scale = 1.0 / divisor.max(1) as f32;
            for (sy, sx) in rows.iter().flat_map(|&sy| columns.iter().map(move |&sx| (sy, sx))) {
                dx[(sy * w + sx) * c..][..c].iter_mut().zip(dy).for_each(|(d, g)| *d += g.get() * scale);
            }
        }
    };
    each_chunk(dx, h * w * c, |n, dx| in_f32(Isa::best(), dx, false, |dx| image(n, dx)));
}

/// Spreads each gradient `dy` `[N, C]` evenly over the pixels of its channel: `dx` `[N, pixels, C]`.
///
/// # Panics
/// Where sizes disagree.
pub fn global_average_gradient<'a, 'b>(dx: impl Into<ValuesMut<'a>>, dy: impl Into<Values<'b>>, pixels: usize, channels: usize) {
    alike!((dx; dy) => global_back(dx, dy, pixels, channels));
}

fn global_back<T: Value>(dx: &mut [T], dy: &[T], pixels: usize, channels: usize) {
    assert_eq!(dx.len(), dy.len() * pixels, "gradients");
    let (isa, factor) = (Isa::best(), 1.0 / pixels.max(1) as f32);
    each_chunk(dx, pixels * channels, |n, dx| isa.run(Spread { dx, dy: &dy[n * channels..(n + 1) * channels], factor }));
}

struct Spread<'a, T> {
    dx: &'a mut [T],
    dy: &'a [T],
    factor: f32,
}

impl<T: Value> Kernel for Spread<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for pixel in self.dx.chunks_exact_mut(self.dy.len().max(1)) {
            pixel.iter_mut().zip(self.dy).for_each(|(d, g)| *d = T::of(g.get() * self.factor));
        }
    }
}
