//! What can be said of a picture without looking at what it shows: the suspects of a spurious correlation.

use images::Image;
use serde::{Deserialize, Serialize};

use super::PixelTable;
use super::quality::Histograms;
use crate::spurious::{Property, Values};

/// Plain properties of one picture. Brightness and colours are in `0..=1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Properties {
    /// Mean of the grey picture.
    pub brightness: f64,
    /// Standard deviation of the grey picture.
    pub contrast: f64,
    /// Mean of red; of grey pictures, their mean.
    pub red: f64,
    /// Mean of green.
    pub green: f64,
    /// Mean of blue.
    pub blue: f64,
    /// Mean of (max − min) over the three colours of a pixel.
    pub colorfulness: f64,
    /// Mean of the grey border, a twentieth of the shorter side wide (at least one pixel).
    pub border: f64,
    /// Standard deviation of the grey border.
    pub border_contrast: f64,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Standard deviation of the noise, see the check's source in [`crate::Thresholds::noise`].
    pub noise: f64,
    /// Steps across the borders of 8×8 blocks over those inside; 1 without blocks.
    pub blockiness: f64,
    /// Entropy of the histogram in bits.
    pub entropy: f64,
    /// Standard deviation of the edges of the picture reduced to 64 pixels, in grey levels.
    pub sharpness: f64,
    /// Logarithm of the energy of fine detail over that of coarser structure; falls with blur, whatever the contrast.
    pub focus: f64,
    /// Whether all three colours are equal everywhere.
    pub gray: bool,
    /// Bits for each channel: 8 or 16.
    pub depth: u8,
    /// Size of the file in bytes, where there is one.
    pub bytes: Option<u64>,
    /// Format by content: `jpeg`, `png`...
    pub format: Option<String>,
    /// Quality setting of the JPEG encoder that the quantisation table suggests, `1..=100`.
    pub jpeg_quality: Option<u8>,
    /// Camera make and model of the metadata.
    pub camera: Option<String>,
}

impl Properties {
    /// The properties that are numbers, by name; the order is fixed.
    pub fn numbers(&self) -> Vec<(&'static str, Option<f64>)> {
        let size = (self.width * self.height) as f64;
        vec![
            ("brightness", Some(self.brightness)),
            ("contrast", Some(self.contrast)),
            ("red", Some(self.red)),
            ("green", Some(self.green)),
            ("blue", Some(self.blue)),
            ("colorfulness", Some(self.colorfulness)),
            ("border", Some(self.border)),
            ("border_contrast", Some(self.border_contrast)),
            ("width", Some(self.width as f64)),
            ("height", Some(self.height as f64)),
            ("aspect", Some(self.width as f64 / self.height as f64)),
            ("noise", Some(self.noise)),
            ("blockiness", Some(self.blockiness)),
            ("entropy", Some(self.entropy)),
            ("sharpness", Some(self.sharpness)),
            ("bytes", self.bytes.map(|b| b as f64)),
            ("bits_per_pixel", self.bytes.map(|b| b as f64 * 8.0 / size)),
            ("jpeg_quality", self.jpeg_quality.map(f64::from)),
        ]
    }

    /// The properties that are categories, by name; the order is fixed.
    pub fn categories(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("size", Some(format!("{}×{}", self.width, self.height))),
            ("gray", Some(self.gray.to_string())),
            ("depth", Some(self.depth.to_string())),
            ("format", self.format.clone()),
            ("camera", self.camera.clone()),
        ]
    }
}

/// The properties of some samples as suspects for [`crate::spurious::spurious`]: those that every one of them has and that differ.
/// Samples that could not be read have none; leave them out.
pub fn suspects(table: &PixelTable, samples: &[usize]) -> Vec<Property> {
    let rows: Vec<&Properties> = samples.iter().filter_map(|&i| table.get(i)).map(|m| &m.properties).collect();
    let numbers: Vec<_> = rows.iter().map(|p| p.numbers()).collect();
    let categories: Vec<_> = rows.iter().map(|p| p.categories()).collect();
    let Some((first_numbers, first_categories)) = numbers.first().zip(categories.first()) else { return Vec::new() };
    let mut suspects = Vec::new();
    for (column, (name, _)) in first_numbers.iter().enumerate() {
        let values: Option<Vec<f64>> = numbers.iter().map(|row| row[column].1).collect();
        if let Some(values) = values.filter(|v| v.iter().any(|x| *x != v[0])) {
            suspects.push(Property { name: (*name).into(), values: Values::Numeric(values) });
        }
    }
    for (column, (name, _)) in first_categories.iter().enumerate() {
        // A picture without metadata is of a kind of its own.
        let values: Vec<String> = categories.iter().map(|row| row[column].1.clone().unwrap_or_default()).collect();
        if values.iter().any(|v| *v != values[0]) {
            suspects.push(Property { name: (*name).into(), values: Values::Categorical(values) });
        }
    }
    suspects
}

/// Mean and standard deviation of values given by their counts, in `0..=1`.
pub(crate) fn moments(counts: &[u32; 256]) -> [f64; 2] {
    let sum = |f: &dyn Fn(f64) -> f64| counts.iter().enumerate().map(|(v, &c)| f64::from(c) * f(v as f64 / 255.0)).sum::<f64>();
    let n = sum(&|_| 1.0).max(1.0);
    let mean = sum(&|v| v) / n;
    [mean, (sum(&|v| v * v) / n - mean * mean).max(0.0).sqrt()]
}

/// Mean and deviation of the border of a grey picture.
pub(crate) fn border(gray: &[u8], height: usize, width: usize) -> [f64; 2] {
    let edge = (height.min(width) / 20).max(1);
    let mut counts = [0u32; 256];
    let mut count = |values: &[u8]| values.iter().for_each(|&v| counts[usize::from(v)] += 1);
    for (y, row) in gray.chunks_exact(width).enumerate() {
        if y < edge || y + edge >= height || 2 * edge >= width {
            count(row);
        } else {
            count(&row[..edge]);
            count(&row[width - edge..]);
        }
    }
    moments(&counts)
}

/// Means of red, green and blue.
pub(crate) fn colors(counts: &Histograms) -> [f64; 3] {
    std::array::from_fn(|c| moments(&counts[c.min(counts.len() - 1)])[0])
}

/// Mean of the largest less the smallest colour, in `0..=1`.
pub(crate) fn colorfulness(bytes: &[u8], channels: usize) -> f64 {
    if channels == 1 {
        return 0.0;
    }
    let spread = |p: &[u8]| u64::from(p[0].max(p[1]).max(p[2]) - p[0].min(p[1]).min(p[2]));
    bytes.chunks_exact(3).map(spread).sum::<u64>() as f64 * 3.0 / (bytes.len() as f64 * 255.0)
}

/// Bits a channel.
pub(crate) fn depth(image: &Image) -> u8 {
    match image.pixels() {
        images::Pixels::U8(_) => 8,
        images::Pixels::U16(_) => 16,
    }
}

/// The format that the first bytes of a file name.
pub(crate) fn format(bytes: &[u8]) -> Option<&'static str> {
    Some(match bytes {
        [0xff, 0xd8, 0xff, ..] => "jpeg",
        [0x89, b'P', b'N', b'G', ..] => "png",
        [b'G', b'I', b'F', ..] => "gif",
        [b'B', b'M', ..] => "bmp",
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => "tiff",
        [b'R', b'I', b'F', b'F', ..] => "webp",
        [b'P', b'1'..=b'7', ..] => "pnm",
        _ => return None,
    })
}

/// Table K.1 of ITU-T T.81, the luminance table that encoders scale.
const STANDARD: [u32; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62, 18, 22,
    37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];

/// The quality setting whose scaling of the standard luminance table has the sum nearest to the file's own table (IJG: 5000 / q per cent
/// below 50, 200 − 2 q from there, each value in `1..=255`). `None` without a JPEG's first quantisation table.
pub(crate) fn jpeg_quality(bytes: &[u8]) -> Option<u8> {
    let found = first_table_sum(bytes)?;
    let sum = |quality: u32| -> u32 {
        let scale = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
        STANDARD.iter().map(|v| ((v * scale + 50) / 100).clamp(1, 255)).sum()
    };
    (1..=100u32).min_by_key(|&quality| sum(quality).abs_diff(found)).map(|quality| quality as u8)
}

/// Sum of the 64 values of the first quantisation table of a JPEG file.
fn first_table_sum(bytes: &[u8]) -> Option<u32> {
    if !matches!(bytes, [0xff, 0xd8, 0xff, ..]) {
        return None;
    }
    let mut at = 2;
    loop {
        let (&[0xff, marker], &[high, low]) = (bytes.get(at..at + 2)?, bytes.get(at + 2..at + 4)?) else { return None };
        match marker {
            0xdb => {
                let (precision, table) = (bytes.get(at + 4)? >> 4, bytes.get(at + 5..)?);
                return Some(match precision {
                    0 => table.get(..64)?.iter().map(|&v| u32::from(v)).sum(),
                    _ => table.get(..128)?.chunks_exact(2).map(|v| u32::from(u16::from_be_bytes([v[0], v[1]]))).sum(),
                });
            }
            0xda | 0xd9 => return None,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_encoders_quality_is_read_from_its_table() {
        let image = Image::from_rgb8(16, 16, (0..768).map(|i| (i % 251) as u8).collect()).unwrap();
        for quality in [10, 30, 50, 75, 90, 95] {
            let found = jpeg_quality(&images::encode_jpeg(&image, quality)).unwrap();
            assert!(found.abs_diff(quality) <= 2, "{quality}: {found}");
        }
        assert_eq!(jpeg_quality(&images::encode_png(&image)), None);
        assert_eq!(jpeg_quality(&[0xff, 0xd8, 0xff]), None);
    }

    #[test]
    fn border_and_middle_are_told_apart() {
        let mut gray = vec![255; 40 * 60];
        for y in 2..38 {
            gray[y * 60 + 2..y * 60 + 58].fill(0);
        }
        assert_eq!(border(&gray, 40, 60), [1.0, 0.0]);
        assert_eq!(border(&[51], 1, 1), [0.2, 0.0]);
        assert_eq!(colorfulness(&[255, 0, 0, 9, 9, 9], 3), 0.5);
    }
}
