//! How alike two pictures are beside how alike all pictures of the set are.
//!
//! Pictures of one kind (cells, digits, cloth) share most of their low frequencies, so that their plain correlation is high and their hashes
//! are near. What tells a copy is that also the rest agrees: each coefficient of the [`Fingerprint`] less its mean over the set, divided by
//! its deviation, and then the correlation. Copies have about 1, other pictures of the set about 0.

use kernels::{Loops, vectorized};

use crate::pixels::{Fingerprint, Symmetry};

/// Deviation in grey levels (of an orthonormal coefficient) that compression and rounding make: below it nothing is told apart.
const FLOOR: f32 = 2.0;
/// Pictures that the prior mean (zero) and deviation count for: small sets have no statistics worth the name.
const PRIOR: f32 = 30.0;

/// Means and deviations of fingerprints over a set of pictures.
#[derive(Debug, Clone)]
pub struct Likeness {
    mean: Vec<f32>,
    /// 1 over the deviation.
    scale: Vec<f32>,
}

impl Likeness {
    /// Statistics of a set; give one picture of each group of exact duplicates.
    pub fn of<'a>(fingerprints: impl Iterator<Item = &'a Fingerprint>) -> Likeness {
        let (mut sum, mut squares, mut count) = (vec![0f64; Fingerprint::LEN], vec![0f64; Fingerprint::LEN], 0f32);
        for fingerprint in fingerprints {
            count += 1.0;
            for ((sum, square), value) in sum.iter_mut().zip(&mut squares).zip(fingerprint.values(Symmetry::SAME)) {
                *sum += f64::from(value);
                *square += f64::from(value) * f64::from(value);
            }
        }
        let mean: Vec<f32> = sum.iter().map(|s| *s as f32 / (count + PRIOR)).collect();
        let deviation = |i: usize| {
            // Photographs: amplitudes fall with the frequency.
            let (u, v) = ((i + 1) / 16, (i + 1) % 16);
            let prior = 600.0 / ((u * u + v * v) as f32).sqrt();
            let spread = squares[i] as f32 / count.max(1.0) - (sum[i] as f32 / count.max(1.0)).powi(2);
            ((count * spread.max(0.0) + PRIOR * prior * prior) / (count + PRIOR) + FLOOR * FLOOR).sqrt()
        };
        Likeness { mean, scale: (0..Fingerprint::LEN).map(|i| 1.0 / deviation(i)).collect() }
    }

    /// The correlation in `-1..=1` of one picture changed by `symmetry` with another.
    pub fn between(&self, changed: &Fingerprint, symmetry: Symmetry, other: &Fingerprint) -> f32 {
        let mut a: Vec<f32> = changed.values(symmetry).collect();
        let mut b: Vec<f32> = other.values(Symmetry::SAME).collect();
        let mut out = 0.0;
        vectorized(Correlate { a: &mut a, b: &mut b, mean: &self.mean, scale: &self.scale, out: &mut out });
        out
    }
}

struct Correlate<'a> {
    a: &'a mut [f32],
    b: &'a mut [f32],
    mean: &'a [f32],
    scale: &'a [f32],
    out: &'a mut f32,
}

impl Loops for Correlate<'_> {
    #[inline(always)]
    fn run(self) {
        for values in [&mut *self.a, &mut *self.b] {
            for ((value, mean), scale) in values.iter_mut().zip(self.mean).zip(self.scale) {
                *value = (*value - mean) * scale;
            }
        }
        let norm = (dot(self.a, self.a) * dot(self.b, self.b)).sqrt();
        *self.out = if norm > 0.0 { (dot(self.a, self.b) / norm).clamp(-1.0, 1.0) } else { 0.0 };
    }
}

/// Sixteen sums side by side, so that the loop becomes vector instructions.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (blocks_a, blocks_b) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = blocks_a.remainder().iter().zip(blocks_b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in blocks_a.zip(blocks_b) {
        for i in 0..16 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}
