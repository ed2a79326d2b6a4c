//! Bad files, limits, and any bytes whatever.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use images::{DecodeOptions, ImageError, Limits, decode};
use proptest::prelude::*;

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

fn says(bytes: &[u8], parts: &[&str]) {
    let text = decode(bytes, &DecodeOptions::default()).unwrap_err().to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

/// The checksum of a PNG chunk's type and data.
fn crc(chunk: &[u8]) -> [u8; 4] {
    let crc = !chunk.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    crc.to_be_bytes()
}

/// A PNG file whose header claims a size; the checksum is right, the data is not there.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let mut file = vec![0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 13];
    file.extend(&chunk);
    file.extend(crc(&chunk));
    file.extend([0, 0, 0, 10]);
    file.extend(b"IDAT1234567890");
    file
}

#[test]
fn errors_name_what_was_found_and_the_cure() {
    says(b"", &["0 bytes", "export it again"]);
    says(b"Dear reader, this is not a picture.", &["expected the content of a JPEG", "text that starts with \"Dear reader"]);
    says(b"%PDF-1.7 etc", &["a PDF document"]);
    says(&[0; 100], &["zero bytes"]);
    says(&[7, 200, 13, 0, 255], &["bytes that start with [07, c8"]);
    says(&golden("palette.tiff"), &["this kind of TIFF is not supported", "Palette", "save it as"]);
}

#[test]
fn a_path_stands_in_front() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.jpg");
    std::fs::write(&path, "only text").unwrap();
    let text = images::open(&path, &DecodeOptions::default()).unwrap_err().to_string();
    assert!(text.contains("notes.jpg: not an image"), "{text}");
    let missing = images::open(&folder.path().join("nowhere.png"), &DecodeOptions::default()).unwrap_err();
    assert!(matches!(missing, ImageError::Read { .. }), "{missing}");
    assert!(images::open(folder.path(), &DecodeOptions::default()).is_err());
}

#[test]
fn huge_pictures_are_refused_by_their_header() {
    says(&png_claiming(40_000, 40_000), &["40000×40000", "1600000000 pixels", "limit of 100000000", "--max-pixels"]);
    says(&png_claiming(2_000_000_000, 2_000_000_000), &["PNG"]);
    let mut jpeg = golden("baseline.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x9c, 0x40, 0x9c, 0x40]);
    says(&jpeg, &["40000×40000", "limit of 100000000"]);
}

#[test]
fn every_limit_is_kept() {
    let bytes = golden("baseline.jpg");
    let limited = |limits| decode(&bytes, &DecodeOptions { limits, ..Default::default() });
    let standard = Limits::default();
    assert!(matches!(limited(Limits { max_bytes: 100, ..standard.clone() }), Err(ImageError::TooManyBytes { limit: 100, .. })));
    assert!(matches!(
        limited(Limits { max_pixels: 1000, ..standard.clone() }),
        Err(ImageError::TooManyPixels { width: 45, height: 31, .. })
    ));
    assert!(matches!(limited(Limits { max_memory: 1000, ..standard.clone() }), Err(ImageError::TooMuchMemory { .. })));
    assert!(limited(Limits { max_pixels: 45 * 31, ..standard }).is_ok());
}

/// Each scan costs a walk over all blocks, however few bytes it has.
#[test]
fn many_scans_are_refused_before_they_cost_time() {
    let mut bytes = golden("progressive.jpg");
    let start = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let scan = bytes.split_off(start);
    let next = 2 + scan[2..].windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7)).unwrap();
    for _ in 0..5000 {
        bytes.extend_from_slice(&scan[..next]);
    }
    bytes.extend([0xff, 0xd9]);
    says(&bytes, &["5000 scans", "limit of 100"]);
    let wanted = images::Preprocess::imagenet([4, 4]);
    assert!(images::decode_for(&bytes, &wanted, &DecodeOptions::default()).is_err());
}

/// A run of zeros that ends beyond its block, found by fuzzing: damage, not a panic inside the decoder.
#[test]
fn a_run_past_the_block_is_damage() {
    let mut bytes = vec![0xff, 0xd8, 0xff];
    bytes.extend_from_slice(include_bytes!("golden/run_past_the_block.bin"));
    for side in [1, 2, 4, 8, 16, 32, 64, 128] {
        let wanted = images::Preprocess { resize: images::Resize::Squash, ..images::Preprocess::imagenet([side, side]) };
        if let Err(error) = images::decode_for(&bytes, &wanted, &DecodeOptions::default()) {
            assert!(!error.to_string().contains("gave up"), "{side}: {error}");
        }
    }
}

/// Half a colour at the end of a palette beside transparency, found by fuzzing: damage, not a panic inside the decoder.
#[test]
fn half_a_colour_is_damage() {
    let bytes = golden("palette_alpha.png");
    let start = bytes.windows(4).position(|kind| kind == b"PLTE").unwrap();
    let length = u32::from_be_bytes(bytes[start - 4..start].try_into().unwrap());
    let end = start + 4 + length as usize;
    let chunk = [&bytes[start..end], &[7]].concat();
    let damaged = [&bytes[..start - 4], &(length + 1).to_be_bytes(), &chunk, &crc(&chunk), &bytes[end + 4..]].concat();
    says(&damaged, &["palette", "three for each colour"]);
}

const NAMES: [&str; 12] = [
    "baseline.jpg",
    "progressive.jpg",
    "cmyk.jpg",
    "gray16.png",
    "palette.png",
    "rgba.png",
    "rgb.bmp",
    "two_frames.gif",
    "lzw.tiff",
    "gray16.tiff",
    "lossy.webp",
    "rgb.ppm",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Small limits keep the test from allocating what a damaged header asks for.
    #[test]
    fn damaged_files_never_panic(
        which in 0..NAMES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = golden(NAMES[which]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        let limits = Limits { max_pixels: 1_000_000, max_memory: 32 << 20, ..Limits::default() };
        let _ = decode(&bytes, &DecodeOptions { limits, ..Default::default() });
    }

    #[test]
    fn any_bytes_never_panic(magic in 0..NAMES.len(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let limits = Limits { max_pixels: 1_000_000, max_memory: 32 << 20, ..Limits::default() };
        let options = DecodeOptions { limits, ..Default::default() };
        let _ = decode(&bytes, &options);
        let mut led = golden(NAMES[magic])[..12].to_vec();
        led.extend(bytes);
        let _ = decode(&led, &options);
    }
}
