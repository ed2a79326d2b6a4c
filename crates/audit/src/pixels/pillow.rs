//! Pillow's 8-bit resampling, bit for bit: the scores and hashes that other tools publish are defined on its output.
//!
//! Source: Pillow, `src/libImaging/Resample.c`: coefficients of 22 bits, a horizontal pass, rounding to 8 bits, a vertical pass.
//! (Pillow 13 takes some tall pictures the other way round; here rows come first always, as up to Pillow 12.)
//! `images::Image::resize` uses faster arithmetic that differs by one grey level here and there, which is enough to turn a hash bit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use images::{Image, Pixels};
use kernels::{Loops, vectorized};

const PRECISION: u32 = 32 - 8 - 2;

/// Pillow's filters that the checks need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filter {
    /// Cubic convolution with a = −0.5; support 2.
    Bicubic,
    /// A windowed sinc; support 3.
    Lanczos,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Filter::Bicubic => {
                const A: f64 = -0.5;
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            Filter::Lanczos => {
                let sinc = |x: f64| {
                    let x = x * std::f64::consts::PI;
                    if x == 0.0 { 1.0 } else { x.sin() / x }
                };
                if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
            }
        }
    }
}

/// The weights of one output position: the first input and fixed-point factors.
#[derive(Debug)]
struct Taps {
    first: usize,
    factors: Vec<i32>,
}

fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let tap = |at: usize| {
        let center = (at as f64 + 0.5) * scale;
        // Truncation of what is above zero is the floor; what is below becomes 0 either way.
        let first = (center - support + 0.5).max(0.0) as usize;
        let last = ((center + support + 0.5) as usize).min(from);
        let weights: Vec<f64> = (first..last).map(|x| filter.weight((x as f64 - center + 0.5) * (1.0 / stretch))).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |w: &f64| {
            let w = if sum == 0.0 { *w } else { w / sum } * f64::from(1u32 << PRECISION);
            (w + if w < 0.0 { -0.5 } else { 0.5 }) as i32
        };
        Taps { first, factors: weights.iter().map(fixed).collect() }
    };
    (0..to).map(tap).collect()
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

/// Bytes of a picture of any depth, 16 bits rounded to 8.
pub(crate) fn bytes(image: &Image) -> std::borrow::Cow<'_, [u8]> {
    match image.pixels() {
        Pixels::U8(values) => values.into(),
        Pixels::U16(values) => values.iter().map(|&v| ((u32::from(v) + 128) / 257) as u8).collect(),
    }
}

/// The weights of every output position, kept for the pairs of sizes that a set of pictures asks for again and again.
fn kept_taps(from: usize, to: usize, filter: Filter) -> Arc<Vec<Taps>> {
    type Kept = BTreeMap<(usize, usize, Filter), Arc<Vec<Taps>>>;
    static KEPT: Mutex<Kept> = Mutex::new(BTreeMap::new());
    let key = (from, to, filter);
    let lock = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = lock().get(&key) {
        return found.clone();
    }
    let made = Arc::new(taps(from, to, filter));
    let mut kept = lock();
    // Sizes in the wild are many: start over instead of growing.
    if kept.len() >= 64 {
        kept.clear();
    }
    kept.insert(key, made.clone());
    made
}

/// `[height, width, channels]` of the source, its bytes, and the result at `[to_height, to_width, channels]`.
pub(crate) fn resize(source: &[u8], shape: [usize; 3], to: [usize; 2], filter: Filter) -> Vec<u8> {
    let [height, width, channels] = shape;
    let [to_height, to_width] = to;
    let middle = if to_width == width {
        source.to_vec()
    } else {
        let taps = kept_taps(width, to_width, filter);
        let mut out = vec![0; height * to_width * channels];
        let mut columns = vec![0; width * channels * ROWS];
        vectorized(Horizontal { source, out: &mut out, columns: &mut columns, taps: &taps, width, channels });
        out
    };
    if to_height == height {
        return middle;
    }
    let taps = kept_taps(height, to_height, filter);
    let row = to_width * channels;
    let mut out = vec![0; to_height * row];
    let mut sums = vec![0i32; row];
    vectorized(Vertical { source: &middle, out: &mut out, sums: &mut sums, taps: &taps, row });
    out
}

/// Rows that are summed side by side.
const ROWS: usize = 16;

struct Horizontal<'a> {
    source: &'a [u8],
    out: &'a mut [u8],
    /// `[width · channels, ROWS]`: a block of rows, turned.
    columns: &'a mut [u8],
    taps: &'a [Taps],
    width: usize,
    channels: usize,
}

impl Loops for Horizontal<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { source, out, columns, taps, width, channels } = self;
        let (line, to_line) = (width * channels, taps.len() * channels);
        for (from, to) in source.chunks(line * ROWS).zip(out.chunks_mut(to_line * ROWS)) {
            for (y, row) in from.chunks_exact(line).enumerate() {
                for (column, &value) in columns.chunks_exact_mut(ROWS).zip(row) {
                    column[y] = value;
                }
            }
            for (x, tap) in taps.iter().enumerate() {
                for channel in 0..channels {
                    let mut sums = [HALF; ROWS];
                    let inputs = columns.chunks_exact(ROWS).skip(tap.first * channels + channel).step_by(channels);
                    for (&factor, values) in tap.factors.iter().zip(inputs) {
                        for (sum, &value) in sums.iter_mut().zip(values) {
                            *sum += factor * i32::from(value);
                        }
                    }
                    for (slot, &sum) in to[x * channels + channel..].iter_mut().step_by(to_line).zip(&sums) {
                        *slot = clip(sum);
                    }
                }
            }
        }
    }
}

struct Vertical<'a> {
    source: &'a [u8],
    out: &'a mut [u8],
    sums: &'a mut [i32],
    taps: &'a [Taps],
    row: usize,
}

impl Loops for Vertical<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { source, out, sums, taps, row } = self;
        for (tap, to) in taps.iter().zip(out.chunks_exact_mut(row)) {
            sums.fill(HALF);
            for (&factor, from) in tap.factors.iter().zip(source[tap.first * row..].chunks_exact(row)) {
                for (sum, &value) in sums.iter_mut().zip(from) {
                    *sum += factor * i32::from(value);
                }
            }
            for (slot, &sum) in to.iter_mut().zip(sums.iter()) {
                *slot = clip(sum);
            }
        }
    }
}

/// ITU-R 601-2 luma with Pillow's rounding; grey bytes are themselves.
pub(crate) fn luma(bytes: Vec<u8>, channels: usize) -> Vec<u8> {
    match channels {
        1 => bytes,
        _ => bytes
            .chunks_exact(3)
            .map(|p| ((u32::from(p[0]) * 19595 + u32::from(p[1]) * 38470 + u32::from(p[2]) * 7471 + 0x8000) >> 16) as u8)
            .collect(),
    }
}

/// One plane of a picture of three channels that are equal in every pixel; `None` for all others. Its luma is that plane, exactly.
pub(crate) fn neutral(bytes: &[u8], channels: usize) -> Option<Vec<u8>> {
    if channels != 3 {
        return None;
    }
    let mut plane = vec![0; bytes.len() / 3];
    let mut equal = true;
    vectorized(Neutral { bytes, plane: &mut plane, equal: &mut equal });
    equal.then_some(plane)
}

/// Pixels that are compared at once.
const PIXELS: usize = 64;

struct Neutral<'a> {
    bytes: &'a [u8],
    plane: &'a mut [u8],
    equal: &'a mut bool,
}

impl Loops for Neutral<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { bytes, plane, equal } = self;
        // Ends at the first block with colour in it.
        for (pixels, to) in bytes.chunks(3 * PIXELS).zip(plane.chunks_mut(PIXELS)) {
            let mut difference = 0;
            for (p, slot) in pixels.chunks_exact(3).zip(to) {
                difference |= (p[0] ^ p[1]) | (p[0] ^ p[2]);
                *slot = p[0];
            }
            if difference != 0 {
                *equal = false;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_of_a_position_sum_to_one() {
        for (from, to) in [(300, 32), (7, 32), (64, 63), (1, 5), (1000, 1)] {
            for filter in [Filter::Bicubic, Filter::Lanczos] {
                for tap in taps(from, to, filter) {
                    let sum: i32 = tap.factors.iter().sum();
                    assert!((sum - (1 << PRECISION)).unsigned_abs() as usize <= tap.factors.len(), "{from} to {to}: {sum}");
                    assert!(tap.first + tap.factors.len() <= from);
                }
            }
        }
    }

    #[test]
    fn a_flat_picture_stays_flat_and_the_same_size_is_a_copy() {
        let flat = vec![77; 13 * 9 * 3];
        assert!(resize(&flat, [9, 13, 3], [32, 5], Filter::Lanczos).iter().all(|&v| v == 77));
        let ramp: Vec<u8> = (0..60).collect();
        assert_eq!(resize(&ramp, [6, 10, 1], [6, 10], Filter::Bicubic), ramp);
    }

    #[test]
    fn channels_do_not_mix() {
        let mut rgb = Vec::new();
        let mut planes = [Vec::new(), Vec::new(), Vec::new()];
        for i in 0..37 * 21u32 {
            for (c, plane) in planes.iter_mut().enumerate() {
                let value = (i * (7 + 13 * c as u32) % 251) as u8;
                rgb.push(value);
                plane.push(value);
            }
        }
        let together = resize(&rgb, [21, 37, 3], [10, 12], Filter::Lanczos);
        for (c, plane) in planes.iter().enumerate() {
            let alone = resize(plane, [21, 37, 1], [10, 12], Filter::Lanczos);
            assert!(alone.iter().zip(together[c..].iter().step_by(3)).all(|(a, b)| a == b));
        }
    }
}
