//! CleanVision's measures of one picture.
//!
//! Definitions: CleanVision 0.3.7, `issue_managers/image_property.py`. What differs on purpose: pictures are upright and opaque, palettes
//! are expanded (CleanVision reads palette indices as brightness), and 16 bits are rounded to 8 (there they exceed the range).

use kernels::{Loops, vectorized};
use serde::{Deserialize, Serialize};

use super::pillow::{self, Filter};

/// The longest side at which blur is judged.
const BLUR_SIDE: usize = 64;

/// What CleanVision measures; its scores are functions of these (see [`super::QualityScores`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// 5th percentile of the brightness √(.241 R² + .691 G² + .068 B²) / 255, in `0..=1`.
    pub brightness_5: f64,
    /// 99th percentile of the brightness, in `0..=1`.
    pub brightness_99: f64,
    /// Entropy of the histogram of all channels in bits, `0..=log2(256 · channels)`.
    pub entropy: f64,
    /// Standard deviation of the edges of the grey picture reduced to 64 pixels, in grey levels.
    pub edges: f64,
    /// Standard deviation of the 256 counts of that picture's histogram.
    pub histogram: f64,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Whether the file has one channel (Pillow's mode L).
    pub gray: bool,
}

/// Counts of each value in each channel, `[channels][256]`.
pub(crate) type Histograms = Vec<[u32; 256]>;

pub(crate) fn histograms(bytes: &[u8], channels: usize) -> Histograms {
    // Two tables in turn: equal neighbours would wait for one another's count.
    let mut even = vec![[0u32; 256]; channels];
    let mut odd = even.clone();
    let mut pairs = bytes.chunks_exact(2 * channels);
    for pair in pairs.by_ref() {
        let (a, b) = pair.split_at(channels);
        for channel in 0..channels {
            even[channel][usize::from(a[channel])] += 1;
            odd[channel][usize::from(b[channel])] += 1;
        }
    }
    for (channel, &value) in pairs.remainder().iter().enumerate() {
        even[channel][usize::from(value)] += 1;
    }
    for (a, b) in even.iter_mut().zip(&odd) {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    }
    even
}

impl Quality {
    /// `bytes` are `[height, width, planes]`, one plane also where the picture's channels are all equal; `counts` are the histograms of its channels.
    pub(crate) fn measure(bytes: &[u8], [height, width, planes]: [usize; 3], counts: &Histograms) -> Quality {
        let [brightness_5, brightness_99] = match planes {
            1 => gray_percentiles(&counts[0], height * width),
            _ => color_percentiles(bytes),
        };
        let (edges, histogram) = blur(bytes, [height, width, planes]);
        Quality { brightness_5, brightness_99, entropy: entropy(counts), edges, histogram, width, height, gray: counts.len() == 1 }
    }
}

/// Pillow's `Image.entropy`.
fn entropy(counts: &Histograms) -> f64 {
    let all = counts.iter().flatten();
    let sum: f64 = all.clone().map(|&n| f64::from(n)).sum();
    -all.filter(|&&n| n > 0).map(|&n| f64::from(n) / sum).map(|p| p * p.log2()).sum::<f64>()
}

/// Positions below and above the 5th and 99th percentile of `n` values, and the share of the upper one (NumPy's linear method).
fn positions(n: usize) -> [(usize, usize, f64); 2] {
    [0.05, 0.99].map(|q| {
        let at = (n - 1) as f64 * q;
        let low = at.floor() as usize;
        (low, (low + 1).min(n - 1), at - at.floor())
    })
}

fn between(low: f64, high: f64, share: f64) -> f64 {
    low + (high - low) * share
}

fn gray_percentiles(counts: &[u32; 256], n: usize) -> [f64; 2] {
    let value = |position: usize| {
        let mut seen = 0;
        let at = counts.iter().position(|&count| {
            seen += count as usize;
            seen > position
        });
        at.unwrap_or(255) as f64 / 255.0
    };
    positions(n).map(|(low, high, share)| between(value(low), value(high), share))
}

/// Exact order statistics of the brightness, by its square in whole numbers: coarse counts first, then the values of the bins needed.
fn color_percentiles(bytes: &[u8]) -> [f64; 2] {
    const SHIFT: u32 = 14;
    const BINS: usize = ((1000 * 255 * 255) >> SHIFT) as usize + 1;
    let mut squares = vec![0u32; bytes.len() / 3];
    vectorized(Squares { bytes, squares: &mut squares });
    let mut bins = vec![0u32; BINS];
    for square in &squares {
        bins[(square >> SHIFT) as usize] += 1;
    }
    let wanted = positions(bytes.len() / 3);
    let bin_of = |position: usize| {
        let mut before = 0;
        for (bin, &count) in bins.iter().enumerate() {
            if before + count as usize > position {
                return (bin as u32, position - before);
            }
            before += count as usize;
        }
        (0, 0)
    };
    let places = wanted.map(|(low, high, _)| [bin_of(low), bin_of(high)]);
    let mut needed = [false; BINS];
    places.iter().flatten().for_each(|p| needed[p.0 as usize] = true);
    let mut values: Vec<u32> = squares.into_iter().filter(|v| needed[(v >> SHIFT) as usize]).collect();
    values.sort_unstable();
    let value = |(bin, within): (u32, usize)| {
        let start = values.partition_point(|v| v >> SHIFT < bin);
        values.get(start + within).map_or(0.0, |&v| (f64::from(v) / 1000.0).sqrt() / 255.0)
    };
    [0, 1].map(|i| between(value(places[i][0]), value(places[i][1]), wanted[i].2))
}

/// Brightness squared of every pixel, in thousandths.
struct Squares<'a> {
    bytes: &'a [u8],
    squares: &'a mut [u32],
}

impl Loops for Squares<'_> {
    #[inline(always)]
    fn run(self) {
        for (slot, p) in self.squares.iter_mut().zip(self.bytes.chunks_exact(3)) {
            let [r, g, b] = [u32::from(p[0]), u32::from(p[1]), u32::from(p[2])];
            *slot = 241 * r * r + 691 * g * g + 68 * b * b;
        }
    }
}

/// Deviations of the edges and of the histogram of the reduced grey picture.
fn blur(bytes: &[u8], [height, width, channels]: [usize; 3]) -> (f64, f64) {
    let longest = height.max(width);
    let (reduced, height, width) = if longest > BLUR_SIDE {
        let side = |length: usize| (length * BLUR_SIDE / longest).max(1);
        let to = [side(height), side(width)];
        (pillow::resize(bytes, [height, width, channels], to, Filter::Bicubic), to[0], to[1])
    } else {
        (bytes.to_vec(), height, width)
    };
    let gray = pillow::luma(reduced, channels);
    let counts = &histograms(&gray, 1)[0];
    let edges = find_edges(&gray, height, width);
    let edge_counts = &histograms(&edges, 1)[0];
    let n = edges.len() as f64;
    let moment = |power: i32| edge_counts.iter().enumerate().map(|(v, &c)| f64::from(c) * (v as f64).powi(power)).sum::<f64>();
    let (sum, squares) = (moment(1), moment(2));
    let variance = (squares - sum * sum / n) / n;
    let mean = counts.iter().map(|&c| f64::from(c)).sum::<f64>() / 256.0;
    let spread = counts.iter().map(|&c| (f64::from(c) - mean).powi(2)).sum::<f64>() / 256.0;
    (variance.max(0.0).sqrt(), spread.sqrt())
}

/// Pillow's `FIND_EDGES`: eight times the pixel less its neighbours, clipped; the border is copied.
fn find_edges(gray: &[u8], height: usize, width: usize) -> Vec<u8> {
    let mut out = gray.to_vec();
    let mut sums = vec![0i32; width];
    for y in 1..height.saturating_sub(1) {
        let [above, here, below] = [y - 1, y, y + 1].map(|row| &gray[row * width..(row + 1) * width]);
        for (((sum, &a), &b), &c) in sums.iter_mut().zip(above).zip(here).zip(below) {
            *sum = i32::from(a) + i32::from(b) + i32::from(c);
        }
        let edges = &mut out[y * width..(y + 1) * width];
        for ((edge, around), &value) in edges[1..].iter_mut().zip(sums.windows(3)).zip(&here[1..]) {
            *edge = (9 * i32::from(value) - around.iter().sum::<i32>()).clamp(0, 255) as u8;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_percentiles_are_those_of_the_sorted_values() {
        let bytes: Vec<u8> = (0..3 * 997u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut values: Vec<f64> = bytes
            .chunks_exact(3)
            .map(|p| [p[0], p[1], p[2]].map(f64::from))
            .map(|[r, g, b]| (0.241 * r * r + 0.691 * g * g + 0.068 * b * b).sqrt() / 255.0)
            .collect();
        values.sort_by(f64::total_cmp);
        let naive = [0.05, 0.99].map(|q| {
            let at = 996.0 * q;
            let low = at as usize;
            values[low] + (values[low + 1] - values[low]) * (at - low as f64)
        });
        let found = color_percentiles(&bytes);
        assert!(naive.iter().zip(found).all(|(a, b)| (a - b).abs() < 1e-12), "{naive:?} {found:?}");
    }

    #[test]
    fn gray_percentiles_agree_with_equal_colours() {
        let gray: Vec<u8> = (0..501u32).map(|i| (i * i % 256) as u8).collect();
        let color: Vec<u8> = gray.iter().flat_map(|&v| [v; 3]).collect();
        let (a, b) = (gray_percentiles(&histograms(&gray, 1)[0], 501), color_percentiles(&color));
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?} {b:?}");
    }

    #[test]
    fn one_pixel_is_enough() {
        let q = Quality::measure(&[255], [1, 1, 1], &histograms(&[255], 1));
        assert_eq!((q.brightness_5, q.brightness_99, q.entropy, q.edges), (1.0, 1.0, 0.0, 0.0));
    }

    #[test]
    fn edges_of_a_dot() {
        let mut gray = vec![10; 25];
        gray[12] = 30;
        let edges = find_edges(&gray, 5, 5);
        assert_eq!((edges[12], edges[6], edges[0]), (160, 0, 10));
    }
}
