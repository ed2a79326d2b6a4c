//! PNG of 8 bits, grey or RGB, not interlaced and whole: what most PNG files are, read with the filters undone several rows at a time
//! (`unfilter.rs`). The `image` crate's decoder reads all others, says what is wrong with damaged ones, and is the twin in the tests.
//!
//! Source: Portable Network Graphics (PNG) Specification, Third Edition, W3C 2025.

mod unfilter;

use std::borrow::Cow;

use fdeflate::Decompressor;

use super::DecodeOptions;
use crate::ImageError;
use crate::image::{Image, Pixels};

const SIGNATURE: usize = 8;

/// A chunk: length, type, data, CRC of type and data.
struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
    /// Whether the CRC is right.
    sound: bool,
}

/// What of a file is needed for its pixels.
struct Parts<'a> {
    width: u32,
    height: u32,
    channels: usize,
    /// The zlib stream.
    stream: Cow<'a, [u8]>,
}

/// The picture, or `None` where the full decoder has to look.
///
/// # Errors
/// More than the limits allow, or damage that the full decoder does not survive.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Option<Image>, ImageError> {
    let Some(parts) = parts(bytes) else { return check_palette(bytes).map(|()| None) };
    // As for the full decoder: what one file may cost does not depend on who reads it.
    options.limits.check_size(parts.width, parts.height, parts.channels as u64 * 3)?;
    let (width, height) = (parts.width as usize, parts.height as usize);
    let stride = width * parts.channels;
    let Some(filtered) = inflate(&parts.stream, height * (1 + stride)) else { return Ok(None) };
    let mut pixels = vec![0; height * stride];
    let unfiltered = match parts.channels {
        1 => unfilter::undo::<1>(&filtered, stride, &mut pixels),
        _ => unfilter::undo::<3>(&filtered, stride, &mut pixels),
    };
    Ok(unfiltered.and_then(|()| Image::new(width, height, parts.channels, Pixels::U8(pixels)).ok()))
}

/// Colours of a palette are three bytes each; half a colour is read past its end by the full decoder. Plain files have no palette.
fn check_palette(bytes: &[u8]) -> Result<(), ImageError> {
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    while let Some(Chunk { kind, data, .. }) = next(&mut rest) {
        if &kind == b"PLTE" && data.len() % 3 != 0 {
            let detail = format!("its palette has {} bytes, expected three for each colour", data.len());
            return Err(ImageError::Damaged { format: "PNG", detail });
        }
    }
    Ok(())
}

fn parts(bytes: &[u8]) -> Option<Parts<'_>> {
    let mut rest = bytes.get(SIGNATURE..)?;
    let Chunk { kind: [b'I', b'H', b'D', b'R'], data: &[w0, w1, w2, w3, h0, h1, h2, h3, 8, color, 0, 0, 0], sound: true } =
        next(&mut rest)?
    else {
        return None;
    };
    let channels = match color {
        0 => 1,
        2 => 3,
        _ => return None,
    };
    let (mut stream, mut ended) = (Cow::Borrowed(&[][..]), false);
    loop {
        let Chunk { kind, data, sound: true } = next(&mut rest)? else { return None };
        match &kind {
            b"IDAT" if ended => return None,
            b"IDAT" if stream.is_empty() => stream = Cow::Borrowed(data),
            b"IDAT" => stream.to_mut().extend_from_slice(data),
            b"IEND" => break,
            // Transparency, orientation and animation are for the full decoder, and so is what must be understood (a capital letter).
            b"tRNS" | b"eXIf" | b"acTL" | b"fcTL" => return None,
            [first, ..] if first.is_ascii_uppercase() => return None,
            _ => ended = !stream.is_empty(),
        }
    }
    Some(Parts { width: u32::from_be_bytes([w0, w1, w2, w3]), height: u32::from_be_bytes([h0, h1, h2, h3]), channels, stream })
}

/// The next chunk that is there in whole.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Chunk<'a>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    let (checked, after) = after.split_at_checked(length.checked_add(4)?)?;
    let (crc, after) = after.split_first_chunk::<4>()?;
    *rest = after;
    let (kind, data) = checked.split_first_chunk::<4>()?;
    let sound = crc32fast::hash(checked) == u32::from_be_bytes(*crc) || cfg!(fuzzing);
    Some(Chunk { kind: *kind, data, sound })
}

/// `size` bytes of a zlib stream that holds exactly that many.
fn inflate(stream: &[u8], size: usize) -> Option<Vec<u8>> {
    // Deflate makes at most 1,032 bytes of one: what a file only claims is not allocated.
    if size / 1032 > stream.len() {
        return None;
    }
    let mut decompressor = Decompressor::new();
    let (mut out, mut read, mut written) = (vec![0; size], 0, 0);
    while !decompressor.is_done() {
        let (taken, made) = decompressor.read(&stream[read..], &mut out, written, true).ok()?;
        if taken == 0 && made == 0 {
            return None;
        }
        read += taken;
        written += made;
    }
    (written == size).then_some(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use image::codecs::png::{CompressionType, FilterType, PngEncoder};
    use image::{ExtendedColorType, ImageEncoder};

    use super::*;
    use crate::decode::raster;

    fn full(bytes: &[u8]) -> Result<Image, ImageError> {
        raster::decode(bytes, "PNG", image::ImageFormat::Png, &DecodeOptions::default())
    }

    fn encoded(width: usize, height: usize, channels: usize, filter: FilterType) -> Vec<u8> {
        let values: Vec<u8> = (0..width * height * channels).map(|i| (i * i / 7 % 251) as u8).collect();
        let color = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
        let mut bytes = Vec::new();
        let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, filter);
        encoder.write_image(&values, width as u32, height as u32, color).unwrap();
        bytes
    }

    #[test]
    fn pixels_are_those_of_the_full_decoder() {
        let filters = [FilterType::NoFilter, FilterType::Sub, FilterType::Up, FilterType::Avg, FilterType::Paeth, FilterType::Adaptive];
        for filter in filters {
            for (width, height) in [(1, 1), (2, 9), (3, 4), (57, 43), (200, 5)] {
                for channels in [1, 3] {
                    let bytes = encoded(width, height, channels, filter);
                    let found = decode(&bytes, &DecodeOptions::default()).unwrap();
                    assert_eq!(found, Some(full(&bytes).unwrap()), "{width}×{height}×{channels} {filter:?}");
                }
            }
        }
    }

    /// Where any byte is wrong or the end is missing, either the full decoder says what it is, or it does not matter to the pixels.
    #[test]
    fn damage_is_for_the_full_decoder() {
        let bytes = encoded(12, 9, 3, FilterType::Paeth);
        for end in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..end], &DecodeOptions::default()), Ok(None)), "cut at {end}");
        }
        for at in SIGNATURE..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            if let Ok(Some(image)) = decode(&damaged, &DecodeOptions::default()) {
                assert_eq!(image, full(&damaged).unwrap(), "byte {at}");
            }
        }
    }
}
