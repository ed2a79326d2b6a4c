//! CleanVision's scores: 1 is good, and a picture is flagged below the threshold.

use super::{PixelTable, Thresholds};

/// The scores of one picture as CleanVision 0.3.7 defines them, each in `0..=1`; low is bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QualityScores {
    /// 99th percentile of the brightness.
    pub dark: f64,
    /// 1 − 5th percentile of the brightness.
    pub light: f64,
    /// Shorter over longer side.
    pub odd_aspect: f64,
    /// A tenth of the entropy, at most 1.
    pub low_information: f64,
    /// 1 − e^(−edges / 100), plus the same of the histogram's deviation where that exceeds .18; at most 1.
    pub blurry: f64,
    /// 0 for files with one channel, otherwise 1.
    pub greyscale: f64,
    /// 1 − the distance of √(width · height) from the middle of the usual range over the length of that range; below
    /// `SizeRange::threshold` outside the range.
    pub odd_size: f64,
}

/// What is a usual size: √(width · height) within `[Q1 − f · IQR, Q3 + f · IQR]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SizeRange {
    /// Lower end in pixels.
    pub low: f64,
    /// Upper end in pixels.
    pub high: f64,
}

impl SizeRange {
    /// Over the pictures that could be read; `None` without any.
    pub fn of(table: &PixelTable, thresholds: &Thresholds) -> Option<SizeRange> {
        let mut sizes: Vec<f64> =
            (0..table.rows.len()).filter_map(|i| table.get(i)).map(|m| size(m.quality.width, m.quality.height)).collect();
        sizes.sort_by(f64::total_cmp);
        let quantile = |q: f64| {
            let at = sizes.len().checked_sub(1)? as f64 * q;
            let (low, high) = (sizes[at.floor() as usize], sizes[at.ceil() as usize]);
            Some(low + (high - low) * at.fract())
        };
        let (q1, q3) = (quantile(0.25)?, quantile(0.75)?);
        let reach = thresholds.odd_size_iqr * (q3 - q1);
        Some(SizeRange { low: q1 - reach, high: q3 + reach })
    }

    /// The score below which a size is odd: 1/2, or 1 where the usual sizes are all the same.
    pub fn threshold(&self) -> f64 {
        if self.high > self.low { 0.5 } else { 1.0 }
    }

    fn score(&self, size: f64) -> f64 {
        let middle = (self.low + self.high) / 2.0;
        let length = if self.high > self.low { self.high - self.low } else { middle };
        1.0 - ((size - middle).abs() / length).clamp(0.0, 1.0)
    }
}

fn size(width: usize, height: usize) -> f64 {
    (width as f64).sqrt() * (height as f64).sqrt()
}

/// The scores of each sample; `None` for those that could not be read.
pub fn quality_scores(table: &PixelTable, thresholds: &Thresholds) -> Vec<Option<QualityScores>> {
    let range = SizeRange::of(table, thresholds);
    let one = |i: usize| {
        let q = table.get(i)?.quality;
        let saturate = |x: f64| 1.0 - (-0.01 * x).exp();
        let spread = Some(saturate(q.histogram)).filter(|s| *s > 0.18).unwrap_or(0.0);
        Some(QualityScores {
            dark: q.brightness_99,
            light: 1.0 - q.brightness_5,
            odd_aspect: q.width.min(q.height) as f64 / q.width.max(q.height) as f64,
            low_information: (0.1 * q.entropy).min(1.0),
            blurry: (saturate(q.edges) + spread).min(1.0),
            greyscale: if q.gray { 0.0 } else { 1.0 },
            odd_size: range?.score(size(q.width, q.height)),
        })
    };
    (0..table.rows.len()).map(one).collect()
}
