//! Pictures back into files.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::image::{Image, Pixels};

/// The largest side that a JPEG file can state.
const JPEG_SIDE: usize = 65535;

/// A PNG file of the picture, with its depth and channels.
pub fn encode_png(image: &Image) -> Vec<u8> {
    let (bytes, color): (&[u8], _) = match (image.pixels(), image.channels()) {
        (Pixels::U8(values), 1) => (values, ExtendedColorType::L8),
        (Pixels::U8(values), _) => (values, ExtendedColorType::Rgb8),
        (Pixels::U16(values), 1) => (bytemuck::cast_slice(values), ExtendedColorType::L16),
        (Pixels::U16(values), _) => (bytemuck::cast_slice(values), ExtendedColorType::Rgb16),
    };
    let mut out = Vec::new();
    let written = PngEncoder::new(&mut out).write_image(bytes, image.width() as u32, image.height() as u32, color);
    debug_assert!(written.is_ok(), "a picture in memory always fits a PNG file in memory: {written:?}");
    out
}

/// A JPEG file of the picture, `quality` 1..=100 (others are clamped); 16 bits become 8, a side over 65,535 pixels is reduced to that.
pub fn encode_jpeg(image: &Image, quality: u8) -> Vec<u8> {
    if image.width().max(image.height()) > JPEG_SIDE {
        return encode_jpeg(&image.thumbnail(JPEG_SIDE), quality);
    }
    let (narrow, color) = match image.channels() {
        1 => (image.to_gray8(), ExtendedColorType::L8),
        _ => (image.to_rgb8(), ExtendedColorType::Rgb8),
    };
    let mut out = Vec::new();
    if let Pixels::U8(values) = narrow.pixels() {
        let encoder = JpegEncoder::new_with_quality(&mut out, quality.clamp(1, 100));
        let written = encoder.write_image(values, narrow.width() as u32, narrow.height() as u32, color);
        debug_assert!(written.is_ok(), "a picture in memory always fits a JPEG file in memory: {written:?}");
    }
    out
}
