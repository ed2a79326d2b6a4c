//! Sensor noise and the blocks of JPEG compression.

use kernels::{Loops, vectorized};

/// Standard deviation of the noise in grey levels, by Immerkær's fast estimate: the mean of |I ∗ N| with
/// N = [1 −2 1; −2 4 −2; 1 −2 1], which cancels planes and edges along the axes; σ = √(π/2) / 6 · mean.
///
/// Source: J. Immerkær, "Fast Noise Variance Estimation", Computer Vision and Image Understanding 64 (1996). Fine texture counts as noise.
/// Pictures under 3×3 pixels have none.
pub(crate) fn noise(gray: &[u8], height: usize, width: usize) -> f64 {
    if height < 3 || width < 3 {
        return 0.0;
    }
    let mut sum = 0;
    vectorized(Noise { gray, width, sum: &mut sum });
    let count = ((height - 2) * (width - 2)) as f64;
    (std::f64::consts::PI / 2.0).sqrt() * sum as f64 / (6.0 * count)
}

struct Noise<'a> {
    gray: &'a [u8],
    width: usize,
    sum: &'a mut u64,
}

impl Loops for Noise<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { gray, width, sum } = self;
        for ((a, b), c) in gray.chunks_exact(width).zip(gray[width..].chunks_exact(width)).zip(gray[2 * width..].chunks_exact(width)) {
            // The second difference down the columns, then across: at most 16 · 255 a value, so that a row fits 32 bits.
            let down = |x: usize| i32::from(a[x]) - 2 * i32::from(b[x]) + i32::from(c[x]);
            let mut row = 0u32;
            for x in 0..width - 2 {
                row += (down(x) - 2 * down(x + 1) + down(x + 2)).unsigned_abs();
            }
            *sum += u64::from(row);
        }
    }
}

/// How much larger the steps between neighbouring pixels are across the borders of 8×8 blocks than inside them; 1 means no blocks.
///
/// Source: B and A of Z. Wang, H. R. Sheikh and A. C. Bovik, "No-Reference Perceptual Quality Assessment of JPEG Compressed Images",
/// ICIP 2002, rows and columns together, as a ratio; half a grey level is added to both so that flat pictures give 1. Blocks are taken to
/// start at the picture's corner, so a crop hides them. Pictures under 16 pixels a side have none.
pub(crate) fn blockiness(gray: &[u8], height: usize, width: usize) -> f64 {
    if height < 16 || width < 16 {
        return 1.0;
    }
    let (mut across, mut down) = (vec![0u64; width - 1], vec![0u64; height - 1]);
    vectorized(Steps { gray, width, across: &mut across, down: &mut down });
    let [mut border, mut inside] = [(0u64, 0u64); 2];
    for (steps, lines) in [(&across, height), (&down, width)] {
        for (i, &sum) in steps.iter().enumerate() {
            let place = if i % 8 == 7 { &mut border } else { &mut inside };
            *place = (place.0 + sum, place.1 + lines as u64);
        }
    }
    let mean = |(sum, count): (u64, u64)| sum as f64 / count as f64;
    (mean(border) + 0.5) / (mean(inside) + 0.5)
}

struct Steps<'a> {
    gray: &'a [u8],
    width: usize,
    /// Sum of the steps between each column and the next.
    across: &'a mut [u64],
    /// Sum of the steps between each row and the next.
    down: &'a mut [u64],
}

impl Loops for Steps<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { gray, width, across, down } = self;
        let mut block = vec![0u32; width - 1];
        for (number, row) in gray.chunks_exact(width).enumerate() {
            for ((slot, &a), &b) in block.iter_mut().zip(row).zip(&row[1..]) {
                *slot += u32::from(a.abs_diff(b));
            }
            // 32-bit sums hold 16 million rows; they are moved on long before.
            if number % 4096 == 4095 {
                drain(&mut block, across);
            }
            if let Some(slot) = down.get_mut(number) {
                let next = &gray[(number + 1) * width..(number + 2) * width];
                *slot = u64::from(row.iter().zip(next).map(|(&a, &b)| u32::from(a.abs_diff(b))).sum::<u32>());
            }
        }
        drain(&mut block, across);
    }
}

#[inline(always)]
fn drain(block: &mut [u32], into: &mut [u64]) {
    for (from, to) in block.iter_mut().zip(into) {
        *to += u64::from(std::mem::take(from));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use images::{DecodeOptions, Image, decode, encode_jpeg};
    use rand::{Rng, SeedableRng};

    /// Normal noise of deviation `sigma` on a slope.
    fn noisy(side: usize, sigma: f64) -> Vec<u8> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut normal = || {
            let (u, v): (f64, f64) = (rng.random_range(1e-12..1.0), rng.random());
            (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        (0..side * side).map(|i| (60.0 + (i % side + i / side) as f64 * 0.3 + sigma * normal()).round().clamp(0.0, 255.0) as u8).collect()
    }

    #[test]
    fn the_noise_that_was_added_is_found() {
        for sigma in [3.0, 10.0, 20.0] {
            let found = noise(&noisy(200, sigma), 200, 200);
            assert!((found - sigma).abs() < 0.06 * sigma, "{sigma}: {found}");
        }
        assert!(noise(&noisy(200, 0.0), 200, 200) < 1.0);
        assert_eq!(noise(&[1, 2], 1, 2), 0.0);
    }

    #[test]
    fn strong_compression_leaves_blocks() {
        let gray: Vec<u8> =
            (0..160 * 160).map(|i| (128.0 + 90.0 * ((i % 160) as f64 / 9.0).sin() * ((i / 160) as f64 / 13.0).cos()) as u8).collect();
        assert!(blockiness(&gray, 160, 160) < 1.1);
        let strong = encode_jpeg(&Image::from_gray8(160, 160, gray).unwrap(), 5);
        let again = decode(&strong, &DecodeOptions::default()).unwrap();
        assert!(blockiness(&super::super::pillow::bytes(&again), 160, 160) > 1.5);
        assert_eq!(blockiness(&[7; 400], 20, 20), 1.0);
    }
}
