//! A file without its metadata, its picture untouched.

use crate::ImageError;

/// The same picture without EXIF, XMP, IPTC, comments, thumbnails and whatever hangs behind its end: position, names, devices, dates.
///
/// JPEG, PNG and WebP are taken apart and put together again; the compressed picture is copied as it is. Kept is what the picture needs to
/// look the same: colour profile, gamma, transparency, animation, and the orientation, as a metadata block that holds nothing else. BMP files
/// hold no metadata and are copied.
///
/// # Errors
/// Unknown or truncated content; GIF, TIFF and PNM, whose metadata cannot be told from the picture here.
pub fn strip_metadata(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    match bytes {
        [] => Err(ImageError::Empty),
        [0xff, 0xd8, 0xff, ..] => jpeg(bytes),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => png(bytes),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp(bytes),
        [b'B', b'M', ..] => Ok(bytes.to_vec()),
        [b'G', b'I', b'F', ..] => unsupported("GIF"),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => unsupported("TIFF"),
        [b'P', b'1'..=b'7', ..] => unsupported("PNM"),
        _ => Err(ImageError::UnknownFormat { found: format!("bytes that start with {:02x?}", &bytes[..bytes.len().min(8)]) }),
    }
}

fn unsupported(format: &'static str) -> Result<Vec<u8>, ImageError> {
    Err(ImageError::Unsupported { format, detail: "its metadata cannot be taken out without encoding it anew".into() })
}

fn truncated(format: &'static str, bytes: &[u8]) -> ImageError {
    ImageError::Truncated { format, bytes: bytes.len(), detail: "a part is cut off".into() }
}

/// Segments up to the first scan (ITU-T T.81, B.1), then everything up to the end marker.
fn jpeg(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    let cut = || truncated("JPEG", bytes);
    let mut out = bytes[..2].to_vec();
    let mut orientation = 1;
    let mut kept = Vec::new();
    let mut at = 2;
    loop {
        // Fill bytes may stand before a marker.
        while bytes.get(at) == Some(&0xff) && bytes.get(at + 1) == Some(&0xff) {
            at += 1;
        }
        let (&[0xff, marker], Some(rest)) = (bytes.get(at..at + 2).ok_or_else(cut)?, bytes.get(at + 2..)) else {
            return Err(ImageError::Damaged { format: "JPEG", detail: format!("expected a marker at byte {at}") });
        };
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk::<2>().ok_or_else(cut)?)).max(2);
        let segment = bytes.get(at..at + 2 + length).ok_or_else(cut)?;
        match marker {
            0xda => break,
            0xe1 => {
                if let Some(block) = segment[4..].strip_prefix(b"Exif\0\0") {
                    orientation = read_orientation(block).unwrap_or(orientation);
                }
            }
            // JFIF, colour profile, Adobe's colour transform.
            0xe0 => kept.extend_from_slice(segment),
            0xe2 if segment[4..].starts_with(b"ICC_PROFILE\0") => kept.extend_from_slice(segment),
            0xee if segment[4..].starts_with(b"Adobe") => kept.extend_from_slice(segment),
            0xe2..=0xef | 0xfe => {}
            _ => kept.extend_from_slice(segment),
        }
        at += segment.len();
    }
    if orientation != 1 {
        let block = orientation_block(orientation);
        out.extend([0xff, 0xe1]);
        out.extend((block.len() as u16 + 8).to_be_bytes());
        out.extend(b"Exif\0\0");
        out.extend(block);
    }
    out.extend(kept);
    out.extend(scans(&bytes[at..]).ok_or_else(cut)?);
    Ok(out)
}

/// From the first scan to the end marker: phones append more pictures and films behind it. Comments between scans are left out.
fn scans(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    loop {
        let start = at;
        let offset =
            bytes.get(at..)?.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xff | 0x01 | 0xd0..=0xd7))?;
        at += offset;
        out.extend_from_slice(&bytes[start..at]);
        let marker = bytes[at + 1];
        if marker == 0xd9 {
            out.extend([0xff, 0xd9]);
            return Some(out);
        }
        let length = 2 + usize::from(u16::from_be_bytes(*bytes.get(at + 2..)?.first_chunk::<2>()?)).max(2);
        let segment = bytes.get(at..at + length)?;
        if !matches!(marker, 0xe0..=0xef | 0xfe) {
            out.extend_from_slice(segment);
        }
        at += length;
    }
}

/// Chunks that the picture needs (PNG, third edition, 11): the critical ones and those that say how to show it.
fn png(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    const KEPT: [&[u8; 4]; 17] = [
        b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"bKGD", b"hIST", b"pHYs",
        b"acTL", b"fcTL", b"fdAT",
    ];
    let cut = || truncated("PNG", bytes);
    let mut out = bytes[..8].to_vec();
    let mut at = 8;
    loop {
        let length = u32::from_be_bytes(*bytes.get(at..).and_then(|b| b.first_chunk::<4>()).ok_or_else(cut)?) as usize;
        let chunk = bytes.get(at..).and_then(|b| b.get(..length.checked_add(12)?)).ok_or_else(cut)?;
        let kind = &chunk[4..8];
        if KEPT.iter().any(|kept| kept[..] == *kind) {
            out.extend_from_slice(chunk);
        } else if kind == b"eXIf" {
            let orientation = read_orientation(&chunk[8..8 + length]).unwrap_or(1);
            if orientation != 1 {
                let mut content = b"eXIf".to_vec();
                content.extend(orientation_block(orientation));
                out.extend((content.len() as u32 - 4).to_be_bytes());
                out.extend(&content);
                out.extend(crc32(&content).to_be_bytes());
            }
        }
        if kind == b"IEND" {
            return Ok(out);
        }
        at += chunk.len();
    }
}

/// CRC-32 of ISO 3309, as PNG uses it.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, &byte: &u8| (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 });
    !bytes.iter().fold(u32::MAX, step)
}

/// Chunks of the RIFF container (RFC 9649) without `EXIF`, `XMP ` and unknown ones; the flags of `VP8X` say so.
fn webp(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    const KEPT: [&[u8; 4]; 7] = [b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"];
    const EXIF: u8 = 0b1000;
    const XMP: u8 = 0b0100;
    let cut = || truncated("WebP", bytes);
    let end = 8 + u32::from_le_bytes(*bytes[4..].first_chunk::<4>().ok_or_else(cut)?) as usize;
    let mut out = bytes[..12].to_vec();
    let mut flags = None;
    let mut orientation = 1;
    let mut at = 12;
    while at < end {
        let header = bytes.get(at..at + 8).ok_or_else(cut)?;
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let content = bytes.get(at + 8..).and_then(|b| b.get(..length)).ok_or_else(cut)?;
        let kind = &header[..4];
        if KEPT.iter().any(|kept| kept[..] == *kind) {
            if kind == b"VP8X" {
                flags = Some(out.len() + 8);
            }
            out.extend_from_slice(header);
            out.extend_from_slice(content);
            out.extend(std::iter::repeat_n(0, length % 2));
        } else if kind == b"EXIF" {
            orientation = read_orientation(content.strip_prefix(b"Exif\0\0").unwrap_or(content)).unwrap_or(1);
        }
        at += 8 + length + length % 2;
    }
    if let Some(flag) = flags.and_then(|at| out.get_mut(at)) {
        *flag &= !(EXIF | XMP);
        if orientation != 1 {
            *flag |= EXIF;
            let block = orientation_block(orientation);
            out.extend(b"EXIF");
            out.extend((block.len() as u32).to_le_bytes());
            out.extend(block);
        }
    }
    let size = (out.len() as u32 - 8).to_le_bytes();
    out[4..8].copy_from_slice(&size);
    Ok(out)
}

/// The orientation tag (0x0112) of the first directory of a TIFF structure, `1..=8`.
fn read_orientation(block: &[u8]) -> Option<u16> {
    let little = match block.get(..4)? {
        [b'I', b'I', 42, 0] => true,
        [b'M', b'M', 0, 42] => false,
        _ => return None,
    };
    let short = |at: usize| {
        let pair = *block.get(at..)?.first_chunk::<2>()?;
        Some(if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) })
    };
    let word = *block.get(4..)?.first_chunk::<4>()?;
    let start = if little { u32::from_le_bytes(word) } else { u32::from_be_bytes(word) } as usize;
    let entries = usize::from(short(start)?);
    let at = (0..entries).map(|i| start + 2 + 12 * i).find(|&at| short(at) == Some(0x0112))?;
    short(at + 8).filter(|value| (1..=8).contains(value))
}

/// A TIFF structure with the orientation and nothing else; 26 bytes.
fn orientation_block(orientation: u16) -> Vec<u8> {
    let mut block = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
    block.extend(orientation.to_be_bytes());
    block.extend([0; 6]);
    block
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{DecodeOptions, Image, decode, encode_jpeg, encode_png};

    fn picture() -> Image {
        Image::from_rgb8(24, 16, (0..24 * 16 * 3).map(|i| (i * 7 % 251) as u8).collect()).unwrap()
    }

    fn shown(bytes: &[u8]) -> Image {
        decode(bytes, &DecodeOptions::default()).unwrap()
    }

    /// A TIFF structure with a secret text and an orientation.
    fn secret(orientation: u16) -> Vec<u8> {
        let mut block = b"II*\0\x08\0\0\0\x02\0".to_vec();
        block.extend(b"\x0f\x01\x02\0\x08\0\0\0\x26\0\0\0");
        block.extend(b"\x12\x01\x03\0\x01\0\0\0");
        block.extend(orientation.to_le_bytes());
        block.extend([0; 6]);
        block.extend(b"SECRETS\0");
        block
    }

    fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
        [&[0xff, marker], (content.len() as u16 + 2).to_be_bytes().as_slice(), content].concat()
    }

    fn jpeg_with(orientation: u16) -> Vec<u8> {
        let plain = encode_jpeg(&picture(), 90);
        let exif = segment(0xe1, &[b"Exif\0\0", secret(orientation).as_slice()].concat());
        let (xmp, comment) = (segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0SECRETS"), segment(0xfe, b"SECRETS"));
        [&plain[..2], &exif, &xmp, &comment, &segment(0xed, b"SECRETS"), &plain[2..], b"SECRETS"].concat()
    }

    fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let body = [kind.as_slice(), content].concat();
        [(content.len() as u32).to_be_bytes().as_slice(), &body, &crc32(&body).to_be_bytes()].concat()
    }

    fn clean(bytes: &[u8]) -> bool {
        !bytes.windows(7).any(|w| w == b"SECRETS")
    }

    #[test]
    fn jpeg_keeps_the_picture_and_its_orientation_only() {
        for orientation in [1, 3, 6] {
            let file = jpeg_with(orientation);
            let stripped = strip_metadata(&file).unwrap();
            assert!(!clean(&file) && clean(&stripped));
            assert_eq!(shown(&stripped), shown(&file), "orientation {orientation}");
        }
        assert_eq!(shown(&strip_metadata(&jpeg_with(6)).unwrap()).width(), 16);
    }

    #[test]
    fn png_keeps_the_picture_and_its_orientation_only() {
        let plain = encode_png(&picture());
        let added = [chunk(b"tEXt", b"Author\0SECRETS"), chunk(b"eXIf", &secret(8)), chunk(b"tIME", b"SECRETS")].concat();
        let file = [&plain[..33], &added, &plain[33..], b"SECRETS"].concat();
        let stripped = strip_metadata(&file).unwrap();
        assert!(clean(&stripped));
        assert_eq!(shown(&stripped), shown(&file));
        assert_eq!(shown(&stripped).width(), 16);
        assert_eq!(strip_metadata(&plain).unwrap(), plain);
    }

    #[test]
    fn webp_loses_its_metadata_chunks() {
        let riff = |kind: &[u8; 4], content: &[u8]| {
            let mut out = [kind.as_slice(), &(content.len() as u32).to_le_bytes(), content].concat();
            out.extend(std::iter::repeat_n(0, content.len() % 2));
            out
        };
        let body = [
            riff(b"VP8X", &[0b1_1100, 0, 0, 0, 1, 0, 0, 1, 0, 0]),
            riff(b"VP8L", &[1, 2, 3]),
            riff(b"EXIF", &secret(3)),
            riff(b"XMP ", b"SECRETS"),
        ]
        .concat();
        let file = [b"RIFF", (body.len() as u32 + 4).to_le_bytes().as_slice(), b"WEBP", &body].concat();
        let stripped = strip_metadata(&file).unwrap();
        assert!(clean(&stripped));
        assert_eq!(stripped[20], 0b1_1000);
        assert_eq!(u32::from_le_bytes(*stripped[4..].first_chunk().unwrap()) as usize, stripped.len() - 8);
        let exif = stripped.windows(4).position(|w| w == b"EXIF").unwrap();
        assert_eq!(read_orientation(&stripped[exif + 8..]), Some(3));
    }

    #[test]
    fn cut_and_altered_files_give_errors_or_pictures_never_panics() {
        for file in [jpeg_with(6), encode_png(&picture())] {
            for cut in 0..file.len() {
                let _ = strip_metadata(&file[..cut]);
                let mut altered = file.clone();
                altered[cut] ^= 0x5a;
                let _ = strip_metadata(&altered);
            }
        }
        assert!(matches!(strip_metadata(b""), Err(ImageError::Empty)));
        assert!(strip_metadata(b"GIF89a").unwrap_err().to_string().contains("GIF"));
    }
}
