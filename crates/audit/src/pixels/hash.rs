//! The 64-bit perceptual hash, its mirrored and turned forms, and the small picture that it is made of.

use std::sync::OnceLock;

use images::Image;
use serde::{Deserialize, Serialize};

use super::pillow::{self, Filter};

/// Side of the reduced picture.
const SIDE: usize = 32;
/// Frequencies of a hash, each way.
const HASHED: usize = 8;
/// Deviation of the reduced picture in grey levels, and root mean square of the hashed coefficients, below which its hash says nothing: rounding
/// to whole levels alone gives 0.3 of both.
const FLAT: f64 = 1.0;

/// One of the eight ways to mirror and turn a picture by quarters: bit 0 mirrors left and right, bit 1 top and bottom, bit 2 swaps rows
/// and columns before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Symmetry(u8);

impl Symmetry {
    /// The picture as it is.
    pub const SAME: Symmetry = Symmetry(0);

    /// All eight, [`Symmetry::SAME`] first.
    pub fn all() -> impl Iterator<Item = Symmetry> {
        (0..8).map(Symmetry)
    }

    /// In words: `mirrored left to right`, `turned by 90°`...
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "as it is",
            1 => "mirrored left to right",
            2 => "mirrored top to bottom",
            3 => "turned by 180°",
            4 => "transposed",
            5 => "turned by 90°",
            6 => "turned by 270°",
            _ => "transposed and turned by 180°",
        }
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Where coefficient `(u, v)` comes from (vertical, horizontal frequency) and whether its sign turns: a mirror image has the cosine
    /// transform of the picture with every odd frequency negated.
    pub(crate) fn source(self, u: usize, v: usize) -> (usize, usize, bool) {
        let negate = (self.0 & 1 == 1 && v % 2 == 1) != (self.0 & 2 == 2 && u % 2 == 1);
        if self.0 & 4 == 4 { (v, u, negate) } else { (u, v, negate) }
    }
}

/// What similar pictures have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// imagededup's 64-bit pHash: 32×32 by Lanczos, grey, cosine transform, the lowest 8×8 against their median (without the first), first
    /// coefficient in the highest bit. One for each [`Symmetry`], in their order: the hash the picture would have when changed so.
    pub hashes: [u64; 8],
    /// Whether the picture is so even that its hash is chance.
    pub flat: bool,
    /// The small picture that the hash is made of.
    pub thumbnail: Thumbnail,
}

/// A picture reduced to 32×32 by Pillow's Lanczos filter, then grey; 1,024 bytes, written in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Thumbnail(Box<[u8]>);

impl Look {
    /// `bytes` are `[height, width, channels]`.
    pub(crate) fn measure(bytes: &[u8], shape: [usize; 3]) -> Look {
        let small = reduced(bytes, shape);
        let coefficients = transform(&small);
        let hashes = std::array::from_fn(|i| hash(&coefficients, Symmetry(i as u8)));
        let chance = energy(&coefficients) < FLAT * FLAT * (HASHED * HASHED - 1) as f64;
        Look { hashes, flat: chance || deviation(&small) < FLAT, thumbnail: Thumbnail(small.into()) }
    }

    /// imagededup's pHash.
    pub fn phash(&self) -> u64 {
        self.hashes[0]
    }
}

/// imagededup's 64-bit pHash of a picture, alone.
pub fn phash(image: &Image) -> u64 {
    let bytes = pillow::bytes(image);
    let [height, width, channels] = [image.height(), image.width(), image.channels()];
    let small = match pillow::neutral(&bytes, channels) {
        Some(plane) => reduced(&plane, [height, width, 1]),
        None => reduced(&bytes, [height, width, channels]),
    };
    hash(&transform(&small), Symmetry::SAME)
}

/// 32×32 by Lanczos, then grey.
fn reduced(bytes: &[u8], shape: [usize; 3]) -> Vec<u8> {
    pillow::luma(pillow::resize(bytes, shape, [SIDE, SIDE], Filter::Lanczos), shape[2])
}

/// Of the coefficients without the first, the mean.
fn energy(coefficients: &Coefficients) -> f64 {
    coefficients.iter().flatten().skip(1).map(|c| c * c).sum()
}

/// Standard deviation of grey values.
fn deviation(gray: &[u8]) -> f64 {
    let sum = |power: i32| gray.iter().map(|&v| f64::from(v).powi(power)).sum::<f64>() / gray.len() as f64;
    (sum(2) - sum(1).powi(2)).max(0.0).sqrt()
}

impl Thumbnail {
    /// Pixels each way.
    pub const SIDE: usize = SIDE;

    /// Grey values, row by row.
    pub fn pixels(&self) -> &[u8] {
        &self.0
    }

    /// The thumbnail of the picture changed by a symmetry.
    pub(crate) fn changed(&self, symmetry: Symmetry) -> [u8; SIDE * SIDE] {
        let flag = |bit: u8| symmetry.0 & bit == bit;
        let across = |x: usize| if flag(1) { SIDE - 1 - x } else { x };
        let mut out = [0; SIDE * SIDE];
        for (y, row) in out.chunks_exact_mut(SIDE).enumerate() {
            let from = if flag(2) { SIDE - 1 - y } else { y };
            for (x, slot) in row.iter_mut().enumerate() {
                *slot = if flag(4) { self.0[across(x) * SIDE + from] } else { self.0[from * SIDE + across(x)] };
            }
        }
        out
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Digits of 1,024 bytes, six bits each.
const TEXT: usize = (SIDE * SIDE * 8).div_ceil(6);

impl From<Thumbnail> for String {
    fn from(value: Thumbnail) -> String {
        let mut text = String::with_capacity(TEXT);
        for block in value.0.chunks(3) {
            let bits = block.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - block.len()));
            (0..=block.len()).for_each(|i| text.push(char::from(DIGITS[(bits >> (18 - 6 * i) & 63) as usize])));
        }
        text
    }
}

impl TryFrom<String> for Thumbnail {
    type Error = String;

    fn try_from(text: String) -> Result<Thumbnail, String> {
        const NONE: u8 = 64;
        static VALUES: OnceLock<[u8; 256]> = OnceLock::new();
        let values = VALUES.get_or_init(|| {
            let mut table = [NONE; 256];
            DIGITS.iter().enumerate().for_each(|(value, &digit)| table[usize::from(digit)] = value as u8);
            table
        });
        let wrong = || format!("a thumbnail has {TEXT} base64 digits, found {} characters", text.len());
        if text.len() != TEXT || text.bytes().any(|digit| values[usize::from(digit)] == NONE) {
            return Err(wrong());
        }
        let mut bytes = Vec::with_capacity(TEXT);
        for block in text.as_bytes().chunks(4) {
            let bits = block.iter().fold(0u32, |bits, &digit| bits << 6 | u32::from(values[usize::from(digit)])) << (6 * (4 - block.len()));
            bytes.extend_from_slice(&bits.to_be_bytes()[1..block.len()]);
        }
        Ok(Thumbnail(bytes.into()))
    }
}

type Coefficients = [[f64; HASHED]; HASHED];

/// The lowest frequencies of the orthonormal two-dimensional DCT-II of a 32×32 picture.
fn transform(gray: &[u8]) -> Coefficients {
    static BASIS: OnceLock<Vec<[f64; SIDE]>> = OnceLock::new();
    let basis = BASIS.get_or_init(|| {
        let row = |k: usize| {
            let scale = (if k == 0 { 1.0 } else { 2.0 } / SIDE as f64).sqrt();
            std::array::from_fn(|x| scale * (std::f64::consts::PI * k as f64 * (2 * x + 1) as f64 / (2 * SIDE) as f64).cos())
        };
        (0..HASHED).map(row).collect()
    });
    let mut out = [[0.0; HASHED]; HASHED];
    for (u, row) in out.iter_mut().enumerate() {
        let mut across = [0.0; SIDE];
        for (line, &weight) in gray.chunks_exact(SIDE).zip(&basis[u]) {
            across.iter_mut().zip(line).for_each(|(sum, &value)| *sum += weight * f64::from(value));
        }
        for (v, value) in row.iter_mut().enumerate() {
            *value = across.iter().zip(&basis[v]).map(|(a, b)| a * b).sum();
        }
    }
    out
}

fn hash(coefficients: &Coefficients, symmetry: Symmetry) -> u64 {
    // scipy's transform has no norm: the first row and column are √2 larger beside the others than in the orthonormal one.
    let grown = |k: usize| if k == 0 { std::f64::consts::SQRT_2 } else { 1.0 };
    let values: [f64; HASHED * HASHED] = std::array::from_fn(|i| {
        let (u, v, negate) = symmetry.source(i / HASHED, i % HASHED);
        let value = coefficients[u][v] * grown(u) * grown(v);
        if negate { -value } else { value }
    });
    let mut sorted = values;
    let rest = &mut sorted[1..];
    rest.sort_unstable_by(f64::total_cmp);
    let median = rest[rest.len() / 2];
    values.iter().fold(0, |bits, &value| bits << 1 | u64::from(value >= median))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::{Rng, SeedableRng};

    fn smooth(seed: u64) -> Vec<u8> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let waves: Vec<[f64; 4]> = (0..6).map(|_| std::array::from_fn(|_| rng.random_range(0.1..4.0))).collect();
        let value = |x: f64, y: f64| waves.iter().map(|w| 20.0 * (w[0] * x + w[1] * y + 5.0 * w[2]).sin() * w[3].sqrt()).sum::<f64>();
        (0..SIDE * SIDE).map(|i| (128.0 + value((i % SIDE) as f64 / 5.0, (i / SIDE) as f64 / 5.0)).clamp(0.0, 255.0) as u8).collect()
    }

    #[test]
    fn a_changed_picture_has_the_foretold_hash_and_thumbnail() {
        for seed in 0..10 {
            let look = Look::measure(&smooth(seed), [SIDE, SIDE, 1]);
            for symmetry in Symmetry::all() {
                let changed = look.thumbnail.changed(symmetry);
                let other = Look::measure(&changed, [SIDE, SIDE, 1]);
                assert_eq!(look.hashes[symmetry.index()], other.phash(), "{}", symmetry.name());
                assert_eq!(other.thumbnail.pixels(), changed);
            }
        }
    }

    #[test]
    fn the_transform_keeps_energy() {
        // A picture of the lowest frequencies only: all its energy is in what is kept.
        let gray: Vec<u8> = (0..SIDE * SIDE)
            .map(|i| (100.0 + 50.0 * (std::f64::consts::PI * (2 * (i % SIDE) + 1) as f64 / 64.0).cos()).round() as u8)
            .collect();
        let c = transform(&gray);
        let pixels: f64 = gray.iter().map(|&v| f64::from(v).powi(2)).sum();
        let kept: f64 = c.iter().flatten().map(|v| v * v).sum();
        assert!((pixels - kept).abs() < 1e-3 * pixels);
        assert!((c[0][1] - 50.0 * 512f64.sqrt()).abs() < 20.0 && c[1][0].abs() < 1e-6);
    }

    #[test]
    fn an_even_picture_is_flat_and_text_round_trips() {
        assert!(Look::measure(&[200; 40 * 30], [30, 40, 1]).flat);
        let look = Look::measure(&smooth(3), [SIDE, SIDE, 1]);
        assert!(!look.flat);
        let text = serde_json::to_string(&look).unwrap();
        assert_eq!(serde_json::from_str::<Look>(&text).unwrap(), look);
        assert!(Thumbnail::try_from("12".to_string()).is_err());
        assert!(Thumbnail::try_from("é".repeat(TEXT / 2)).is_err());
    }
}
