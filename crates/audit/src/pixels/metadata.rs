//! What a file tells beside its picture: where it was taken, by whom, with which device.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use exif::{Exif, In, Reader, Tag, Value};
use serde::{Deserialize, Serialize};

/// What kind of private data a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrivateKind {
    /// Where: coordinates.
    Position,
    /// Who: the name of an owner, author or holder of rights.
    Person,
    /// Which device: serial numbers tie pictures to one camera.
    Device,
}

/// A field with private data. The value itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Private {
    /// What kind.
    pub kind: PrivateKind,
    /// The field's name: `GPSLatitude`, `Artist`, `xmp dc:creator`...
    pub field: String,
}

/// Fields of EXIF 2.32 (CIPA DC-008).
const FIELDS: [(Tag, PrivateKind); 9] = [
    (Tag::GPSLatitude, PrivateKind::Position),
    (Tag::GPSLongitude, PrivateKind::Position),
    (Tag::GPSDestLatitude, PrivateKind::Position),
    (Tag::GPSAreaInformation, PrivateKind::Position),
    (Tag::Artist, PrivateKind::Person),
    (Tag::Copyright, PrivateKind::Person),
    (Tag::CameraOwnerName, PrivateKind::Person),
    (Tag::BodySerialNumber, PrivateKind::Device),
    (Tag::LensSerialNumber, PrivateKind::Device),
];

/// Properties of XMP packets, and IPTC's in Adobe's names, that hold the same.
const XMP: [(&str, PrivateKind); 8] = [
    ("exif:GPSLatitude", PrivateKind::Position),
    ("Iptc4xmpCore:Location", PrivateKind::Position),
    ("photoshop:City", PrivateKind::Position),
    ("dc:creator", PrivateKind::Person),
    ("dc:rights", PrivateKind::Person),
    ("Iptc4xmpExt:PersonInImage", PrivateKind::Person),
    ("aux:OwnerName", PrivateKind::Person),
    ("aux:SerialNumber", PrivateKind::Device),
];

/// Camera (make and model) and private fields of a file's EXIF (JPEG, PNG, TIFF, WebP), XMP and PNG text. Whether faces or names are on the
/// picture itself is not looked at.
pub(crate) fn read(bytes: &[u8]) -> (Option<String>, Vec<Private>) {
    let mut found = BTreeSet::new();
    let mut camera = None;
    // Other people's code on hostile bytes: as with pictures, one bad file must not end the pass.
    if let Some(exif) = catch_unwind(AssertUnwindSafe(|| exif(bytes))).ok().flatten() {
        let given = |tag: Tag| exif.fields().any(|f| f.tag == tag && !is_blank(&f.value));
        found.extend(FIELDS.iter().filter(|(tag, _)| given(*tag)).map(|(tag, kind)| Private { kind: *kind, field: tag.to_string() }));
        let text = |tag: Tag| exif.get_field(tag, In::PRIMARY).and_then(|f| first_text(&f.value));
        camera = match (text(Tag::Make), text(Tag::Model)) {
            // Most makers repeat their name in the model.
            (Some(make), Some(model)) if model.starts_with(&make) => Some(model),
            (Some(make), Some(model)) => Some(format!("{make} {model}")),
            (make, model) => model.or(make),
        };
    }
    if let Some(packet) = xmp(bytes) {
        let holds = |name: &str| find(packet, name.as_bytes()).is_some();
        found.extend(XMP.iter().filter(|(name, _)| holds(name)).map(|(name, kind)| Private { kind: *kind, field: format!("xmp {name}") }));
    }
    found.extend(png_text(bytes).map(|field| Private { kind: PrivateKind::Person, field }));
    (camera, found.into_iter().collect())
}

fn exif(bytes: &[u8]) -> Option<Exif> {
    let mut reader = Reader::new();
    reader.continue_on_error(true);
    match reader.read_from_container(&mut Cursor::new(bytes)) {
        Err(error) => error.distill_partial_result(|_| ()).ok(),
        good => good.ok(),
    }
}

fn first_text(value: &Value) -> Option<String> {
    let Value::Ascii(texts) = value else { return None };
    let text = String::from_utf8_lossy(texts.first()?).trim_matches(['\0', ' ']).to_string();
    (!text.is_empty()).then_some(text)
}

/// Cameras write empty fields for their owners to fill.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Ascii(texts) => texts.iter().flatten().all(|&b| b == 0 || b == b' '),
        Value::Rational(values) => values.is_empty() || values.iter().all(|v| v.num == 0),
        _ => false,
    }
}

/// The XMP packet, wherever the container has it.
fn xmp(bytes: &[u8]) -> Option<&[u8]> {
    let start = find(bytes, b"<x:xmpmeta")?;
    let length = find(&bytes[start..], b"</x:xmpmeta>")?;
    Some(&bytes[start..start + length])
}

/// The first place of a text, by its first byte.
fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, text)
}

/// Names in the text chunks of a PNG file.
fn png_text(bytes: &[u8]) -> impl Iterator<Item = String> {
    let mut rest = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n").unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, kind) = (rest.first_chunk::<4>()?, rest.get(4..8)?);
        let content = rest.get(8..8 + u32::from_be_bytes(*length) as usize)?;
        rest = rest.get(12 + content.len()..).unwrap_or_default();
        Some((kind, content))
    })
    .filter(|(kind, _)| matches!(*kind, b"tEXt" | b"zTXt" | b"iTXt"))
    .filter_map(|(_, content)| {
        let keyword = content.split(|&b| b == 0).next()?;
        matches!(keyword, b"Author" | b"Copyright").then(|| format!("png {}", String::from_utf8_lossy(keyword)))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use images::{Image, encode_jpeg, encode_png};

    /// An EXIF block (little-endian TIFF) with a model, an artist and a latitude.
    pub(crate) fn exif_block(artist: &[u8; 8], orientation: u16) -> Vec<u8> {
        let mut block = b"II*\0\x08\0\0\0".to_vec();
        let entry = |block: &mut Vec<u8>, tag: u16, kind: u16, count: u32, value: u32| {
            block.extend(tag.to_le_bytes());
            block.extend(kind.to_le_bytes());
            block.extend(count.to_le_bytes());
            block.extend(value.to_le_bytes());
        };
        block.extend(4u16.to_le_bytes());
        let after = 8 + 2 + 4 * 12 + 4;
        entry(&mut block, 0x0110, 2, 8, after);
        entry(&mut block, 0x0112, 3, 1, u32::from(orientation));
        entry(&mut block, 0x013b, 2, 8, after + 8);
        entry(&mut block, 0x8825, 4, 1, after + 16);
        block.extend([0; 4]);
        block.extend(b"CamX 100");
        block.extend(artist);
        block.extend(1u16.to_le_bytes());
        entry(&mut block, 2, 5, 3, after + 16 + 2 + 12 + 4);
        block.extend([0; 4]);
        for n in [48u32, 1, 12, 1, 30, 1] {
            block.extend(n.to_le_bytes());
        }
        block
    }

    /// A JPEG file with the block as its EXIF segment.
    pub(crate) fn jpeg_with(block: &[u8]) -> Vec<u8> {
        let plain = encode_jpeg(&Image::from_rgb8(24, 16, (0..24 * 16 * 3).map(|i| (i % 250) as u8).collect()).unwrap(), 90);
        let mut file = plain[..2].to_vec();
        file.extend([0xff, 0xe1]);
        file.extend((block.len() as u16 + 8).to_be_bytes());
        file.extend(b"Exif\0\0");
        file.extend(block);
        file.extend(&plain[2..]);
        file
    }

    #[test]
    fn position_artist_and_camera_are_found() {
        let (camera, private) = read(&jpeg_with(&exif_block(b"A. Smith", 1)));
        assert_eq!(camera.as_deref(), Some("CamX 100"));
        let fields: Vec<&str> = private.iter().map(|p| p.field.as_str()).collect();
        assert_eq!(fields, ["GPSLatitude", "Artist"]);
        let (_, private) = read(&jpeg_with(&exif_block(b"        ", 1)));
        assert_eq!(private.len(), 1);
    }

    #[test]
    fn xmp_and_png_text_are_read() {
        let mut png = encode_png(&Image::from_gray8(2, 2, vec![0; 4]).unwrap());
        let text = b"\0\0\0\x0btEXtAuthor\0Jane\0\0\0\0";
        png.splice(33..33, text.iter().copied());
        assert_eq!(read(&png).1, [Private { kind: PrivateKind::Person, field: "png Author".into() }]);
        let packet = b"<x:xmpmeta><dc:creator>Jane</dc:creator></x:xmpmeta>";
        assert_eq!(read(packet).1[0].field, "xmp dc:creator");
        assert_eq!(read(b""), (None, Vec::new()));
    }

    #[test]
    fn damaged_metadata_are_no_reason_to_stop() {
        let file = jpeg_with(&exif_block(b"A. Smith", 1));
        for cut in 0..file.len().min(220) {
            read(&file[..cut]);
            let mut altered = file.clone();
            altered[cut] ^= 0xff;
            read(&altered);
        }
    }
}
