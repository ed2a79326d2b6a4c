//! What the first bytes say about a file.

use crate::ImageError;

/// A format that can be decoded.
#[derive(Clone, Copy)]
pub(super) enum Format {
    Jpeg,
    Png,
    Other { name: &'static str, format: image::ImageFormat },
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::Other { name, .. } => name,
        }
    }
}

/// The format of the content.
pub(super) fn of(bytes: &[u8]) -> Result<Format, ImageError> {
    use image::ImageFormat;
    let other = |name, format| Ok(Format::Other { name, format });
    match bytes {
        [] => Err(ImageError::Empty),
        [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Ok(Format::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => other("GIF", ImageFormat::Gif),
        [b'B', b'M', _, _, _, _, _, _, _, _, ..] => other("BMP", ImageFormat::Bmp),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => other("TIFF", ImageFormat::Tiff),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => other("WebP", ImageFormat::WebP),
        [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..] => other("PNM", ImageFormat::Pnm),
        _ => Err(ImageError::UnknownFormat { found: describe(bytes) }),
    }
}

/// Names what is there instead of an image.
fn describe(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(32)];
    let known = match start {
        [b'%', b'P', b'D', b'F', ..] => "a PDF document",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [0x1f, 0x8b, ..] => "a gzip archive",
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => "an AVIF image, which is not supported",
        [_, _, _, _, b'f', b't', b'y', b'p', b'h' | b'm', ..] => "a HEIF image, which is not supported",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "a video",
        [0xff, 0x0a, ..] | [0, 0, 0, 0x0c, b'J', b'X', b'L', ..] => "a JPEG XL image, which is not supported",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_string();
    }
    if start.iter().all(|&byte| byte == 0) {
        return "only zero bytes at the start".to_string();
    }
    // A multi-byte character may be cut at the end of the excerpt.
    let readable = match std::str::from_utf8(start) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&start[..error.valid_up_to()]).ok(),
        Err(_) => None,
    };
    match readable {
        Some(text) if text.chars().all(|c| !c.is_control() || c.is_whitespace()) => format!("text that starts with {text:?}"),
        _ => format!("bytes that start with {:02x?}", &start[..start.len().min(8)]),
    }
}
