//! BMP, GIF, TIFF, WebP, PNM, and all PNG but the plainest, by the `image` crate's decoders.

use std::error::Error;
use std::io::{Cursor, ErrorKind};

use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageFormat, ImageReader};

use super::{DecodeOptions, orientation};
use crate::ImageError;
use crate::image::{Image, Pixels};

pub(super) fn decode(bytes: &[u8], name: &'static str, format: ImageFormat, options: &DecodeOptions) -> Result<Image, ImageError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = image::Limits::no_limits();
    // Headers and side chunks are bounded by this too; the size of the picture is checked below, with its own message.
    limits.max_alloc = Some(options.limits.max_memory);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| failure(bytes, name, error, options))?;
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    // The output, as much again inside the decoder, and the composited picture.
    options.limits.check_size(width, height, u64::from(color.bytes_per_pixel()) * 3)?;
    // Side data that cannot be read is no reason to refuse the picture.
    let turn = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut buffer = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut buffer).map_err(|error| failure(bytes, name, error, options))?;
    let image = assemble(width as usize, height as usize, color, buffer, name, options.background)?;
    Ok(orientation::apply(image, turn))
}

/// An opaque picture of 1 or 3 channels from what the decoder gave.
fn assemble(
    width: usize,
    height: usize,
    color: ColorType,
    buffer: Vec<u8>,
    name: &'static str,
    ground: [u8; 3],
) -> Result<Image, ImageError> {
    let wide = |bytes: &[u8]| -> Vec<u16> { bytes.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]])).collect() };
    let ground16 = ground.map(|value| u16::from(value) * 257);
    let (channels, pixels) = match color {
        ColorType::L8 => (1, Pixels::U8(buffer)),
        ColorType::Rgb8 => (3, Pixels::U8(buffer)),
        ColorType::La8 => compose(&buffer, 2, ground, u8::MAX, over8, Pixels::U8),
        ColorType::Rgba8 => compose(&buffer, 4, ground, u8::MAX, over8, Pixels::U8),
        ColorType::L16 => (1, Pixels::U16(wide(&buffer))),
        ColorType::Rgb16 => (3, Pixels::U16(wide(&buffer))),
        ColorType::La16 => compose(&wide(&buffer), 2, ground16, u16::MAX, over16, Pixels::U16),
        ColorType::Rgba16 => compose(&wide(&buffer), 4, ground16, u16::MAX, over16, Pixels::U16),
        other => return Err(ImageError::Unsupported { format: name, detail: format!("pixels of type {other:?}") }),
    };
    Image::new(width, height, channels, pixels).map_err(|error| ImageError::Damaged { format: name, detail: error.to_string() })
}

/// Grey stays grey when nothing is transparent or the ground is grey.
fn compose<T: Copy + PartialEq>(
    values: &[T],
    stride: usize,
    ground: [T; 3],
    opaque: T,
    over: fn(T, T, T) -> T,
    wrap: fn(Vec<T>) -> Pixels,
) -> (usize, Pixels) {
    let gray_ground = ground[0] == ground[1] && ground[1] == ground[2];
    let channels = match stride {
        2 if gray_ground || values.chunks_exact(2).all(|pixel| pixel[1] == opaque) => 1,
        _ => 3,
    };
    let mut out = Vec::with_capacity(values.len() / stride * channels);
    for pixel in values.chunks_exact(stride) {
        let alpha = pixel[stride - 1];
        for channel in 0..channels {
            out.push(over(pixel[channel.min(stride - 2)], ground[channel], alpha));
        }
    }
    (channels, wrap(out))
}

fn over8(color: u8, ground: u8, alpha: u8) -> u8 {
    ((u32::from(color) * u32::from(alpha) + u32::from(ground) * u32::from(255 - alpha) + 127) / 255) as u8
}

fn over16(color: u16, ground: u16, alpha: u16) -> u16 {
    ((u64::from(color) * u64::from(alpha) + u64::from(ground) * u64::from(65535 - alpha) + 32767) / 65535) as u16
}

fn failure(bytes: &[u8], name: &'static str, error: image::ImageError, options: &DecodeOptions) -> ImageError {
    let detail = error.to_string();
    match &error {
        image::ImageError::Limits(_) => {
            ImageError::Damaged { format: name, detail: format!("{detail} (`max_memory` is {} bytes)", options.limits.max_memory) }
        }
        image::ImageError::Unsupported(_) => ImageError::Unsupported { format: name, detail },
        _ if ends_early(&error, &detail) => {
            ImageError::Truncated { format: name, bytes: bytes.len(), detail: "the data ends early".to_string() }
        }
        _ => ImageError::Damaged { format: name, detail },
    }
}

/// Whether any cause of the error is the end of the data.
fn ends_early(error: &image::ImageError, detail: &str) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = cause {
        let io = current.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = current.source();
    }
    let text = detail.to_lowercase();
    ["unexpected end", "unexpected eof", "failed to fill whole buffer", "end of file", "ended too early"]
        .iter()
        .any(|sign| text.contains(sign))
}
