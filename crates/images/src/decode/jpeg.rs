//! JPEG by `zune-jpeg`: strict about missing data, lenient about stray bytes between headers.

use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{DecodeOptions, orientation};
use crate::ImageError;
use crate::image::{Image, Pixels};

const FORMAT: &str = "JPEG";

/// Scans that a file may have. Encoders write about ten; a scan of a few bytes can cost a walk over all pixels, so that a small file with
/// thousands of them would take hours.
pub(super) const MOST_SCANS: usize = 100;

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Image, ImageError> {
    let found = survey(bytes);
    if found.scans > MOST_SCANS {
        let detail = format!("it has {} scans, more than the limit of {MOST_SCANS}", found.scans);
        return Err(ImageError::Damaged { format: FORMAT, detail });
    }
    let image = match decode_with(bytes, options, true) {
        // Cameras and editors leave stray bytes between segments; the picture behind them is whole.
        Err(ImageError::Damaged { detail, .. }) if detail.contains("Extra bytes between headers") => decode_with(bytes, options, false),
        other => other,
    }?;
    // The decoder does not notice when the last row of blocks is missing.
    if !found.ends {
        return Err(truncated(bytes, "the end marker is missing"));
    }
    Ok(image)
}

fn decode_with(bytes: &[u8], options: &DecodeOptions, strict: bool) -> Result<Image, ImageError> {
    let settings =
        DecoderOptions::default().set_strict_mode(strict).set_max_width(usize::from(u16::MAX)).set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), settings);
    decoder.decode_headers().map_err(|error| failure(bytes, error))?;
    let info = decoder.info().ok_or_else(|| truncated(bytes, "the header is incomplete"))?;
    // One byte a value for the output and two for the coefficients that progressive files keep.
    let values = u64::from(info.components).max(3);
    options.limits.check_size(u32::from(info.width), u32::from(info.height), values * 3)?;

    let gray = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let (color, channels) = if gray { (ColorSpace::Luma, 1) } else { (ColorSpace::RGB, 3) };
    decoder.set_options(settings.jpeg_set_out_colorspace(color));
    let pixels = decoder.decode().map_err(|error| failure(bytes, error))?;
    let turn = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif)).unwrap_or(Orientation::NoTransforms);
    let image = Image::new(usize::from(info.width), usize::from(info.height), channels, Pixels::U8(pixels))
        .map_err(|error| ImageError::Damaged { format: FORMAT, detail: error.to_string() })?;
    Ok(orientation::apply(image, turn))
}

fn truncated(bytes: &[u8], detail: &str) -> ImageError {
    ImageError::Truncated { format: FORMAT, bytes: bytes.len(), detail: detail.to_string() }
}

fn failure(bytes: &[u8], error: DecodeErrors) -> ImageError {
    let detail = error.to_string();
    match error {
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => truncated(bytes, "the data ends early"),
        DecodeErrors::Unsupported(_) => ImageError::Unsupported { format: FORMAT, detail },
        _ if !survey(bytes).ends || detail.contains("Premature") => truncated(bytes, "the data ends early"),
        _ => ImageError::Damaged { format: FORMAT, detail },
    }
}

/// What a walk over the segments (ITU-T T.81, B.1) finds.
struct Survey {
    scans: usize,
    /// Whether the end-of-image marker is reached: a thumbnail inside a segment has its own.
    ends: bool,
}

fn survey(bytes: &[u8]) -> Survey {
    let (mut at, mut scans) = (2, 0);
    while let Some(offset) = bytes.get(at..).and_then(|rest| memchr::memchr(0xff, rest)) {
        at += offset + 1;
        match bytes.get(at) {
            None => break,
            Some(0xd9) => return Survey { scans, ends: true },
            // A stuffed zero, a fill byte, markers without content.
            Some(0xff) => {}
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(marker) => match bytes.get(at + 1..at + 3) {
                Some(&[high, low]) => {
                    scans += usize::from(*marker == 0xda);
                    at += 1 + usize::from(u16::from_be_bytes([high, low])).max(2);
                }
                _ => break,
            },
        }
    }
    Survey { scans, ends: false }
}
