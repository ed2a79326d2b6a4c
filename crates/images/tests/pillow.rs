//! Against Pillow and torchvision: the files and numbers of `tests/golden`, made by `make_golden.py` there.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use images::{ChannelMode, DecodeOptions, Image, Interpolation, Pixels, Preprocess, Resize};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    decode: BTreeMap<String, Decoded>,
}

#[derive(Deserialize)]
struct Decoded {
    width: usize,
    height: usize,
    channels: usize,
    bits: usize,
    /// Largest difference of a value; lossy decoders round differently.
    tolerance: i32,
    pixels: Vec<i32>,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn options() -> DecodeOptions {
    DecodeOptions { background: [10, 200, 90], ..Default::default() }
}

fn read(name: &str) -> Image {
    images::open(&golden().join(name), &options()).unwrap()
}

fn values(image: &Image) -> Vec<i32> {
    match image.pixels() {
        Pixels::U8(values) => values.iter().map(|&value| i32::from(value)).collect(),
        Pixels::U16(values) => values.iter().map(|&value| i32::from(value)).collect(),
    }
}

/// Mean and largest difference of values.
fn difference(a: &Image, b: &Image) -> (f64, i32) {
    assert_eq!((a.width(), a.height(), a.channels()), (b.width(), b.height(), b.channels()));
    let off: Vec<i32> = values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).collect();
    (f64::from(off.iter().sum::<i32>()) / off.len() as f64, *off.iter().max().unwrap())
}

fn transposed(image: &Image) -> Image {
    let (width, height, channels) = (image.width(), image.height(), image.channels());
    let from = values(image);
    let source = |at: usize| (at / channels % height * width + at / channels / height) * channels + at % channels;
    let pixels = (0..from.len()).map(|at| from[source(at)] as u8).collect();
    if channels == 1 { Image::from_gray8(height, width, pixels) } else { Image::from_rgb8(height, width, pixels) }.unwrap()
}

/// The picture of the same name in make_golden.py.
fn formula(width: usize, height: usize) -> Image {
    let value = |x: usize, y: usize, c: usize| (x * (3 + c) + y * (5 - c) + (x * x * y) % 31 + 40 * ((x / 9 + y / 7 + c) % 3)) % 256;
    let pixels = (0..width * height * 3).map(|at| value(at / 3 % width, at / 3 / width, at % 3) as u8).collect();
    Image::from_rgb8(width, height, pixels).unwrap()
}

#[test]
fn every_format_decodes_to_pillows_pixels() {
    let expected: Expected = serde_json::from_str(&std::fs::read_to_string(golden().join("expected.json")).unwrap()).unwrap();
    assert!(expected.decode.len() > 35);
    for (name, want) in &expected.decode {
        let image = match images::open(&golden().join(name), &options()) {
            Ok(image) => image,
            Err(error) => panic!("{error}"),
        };
        let bits = if matches!(image.pixels(), Pixels::U16(_)) { 16 } else { 8 };
        assert_eq!((image.width(), image.height(), bits), (want.width, want.height, want.bits), "{name}");
        // Formats without a grey kind may decode to three equal channels.
        assert_eq!(image.channels(), want.channels, "{name}");
        let worst = values(&image).iter().zip(&want.pixels).map(|(a, b)| (a - b).abs()).max().unwrap();
        assert!(worst <= want.tolerance, "{name}: a value is off by {worst}, allowed {}", want.tolerance);
    }
}

#[test]
fn half_of_any_golden_file_is_an_error() {
    let expected: Expected = serde_json::from_str(&std::fs::read_to_string(golden().join("expected.json")).unwrap()).unwrap();
    for name in expected.decode.keys() {
        let bytes = std::fs::read(golden().join(name)).unwrap();
        let half = images::decode(&bytes[..bytes.len() / 2], &options());
        assert!(half.is_err(), "{name}: half of the file decodes");
    }
}

#[test]
fn a_jpeg_cut_anywhere_in_its_data_is_truncated() {
    for name in ["baseline.jpg", "progressive.jpg", "gray.jpg", "cmyk.jpg", "subsampled.jpg"] {
        let bytes = std::fs::read(golden().join(name)).unwrap();
        for cut in [bytes.len() / 2, bytes.len() * 3 / 4, bytes.len() - 40, bytes.len() - 2, bytes.len() - 1] {
            let error = images::decode(&bytes[..cut], &options()).unwrap_err();
            assert!(matches!(error, images::ImageError::Truncated { .. }), "{name} cut at {cut} of {}: {error}", bytes.len());
        }
    }
}

#[test]
fn resizing_agrees_with_pillow() {
    let kinds = [
        ("bilinear", Interpolation::Bilinear),
        ("bicubic", Interpolation::Bicubic),
        ("lanczos3", Interpolation::Lanczos3),
        ("nearest", Interpolation::Nearest),
    ];
    for (name, kind) in kinds {
        for ([sw, sh], [w, h]) in [([97, 71], [32, 24]), ([97, 71], [50, 60]), ([40, 30], [64, 56])] {
            for mode in ["RGB", "L"] {
                let want = read(&format!("resize_{name}_{mode}_{w}x{h}_from_{sw}x{sh}.png"));
                let source = formula(sw, sh);
                let source = if mode == "L" { source.to_gray8() } else { source };
                let direct = difference(&source.resize([h, w], kind), &want);
                // Both filter in two passes with 8 bits between them. Which axis comes first changes the rounding, and the clipping where
                // a filter overshoots; in the same order no value may be off by more than one.
                let swapped = difference(&transposed(&transposed(&source).resize([w, h], kind)), &want);
                let what = format!("{name} {mode} {sw}x{sh} to {w}x{h}: {direct:?}, axes swapped {swapped:?}");
                assert!(direct.0 < 1.0, "{what}");
                let closer = if direct.0 < swapped.0 { direct } else { swapped };
                assert!(closer.0 < 0.02 && closer.1 <= 1, "{what}");
            }
        }
    }
}

#[test]
fn the_evaluation_crop_agrees_with_torchvision() {
    for (name, interpolation) in [("bilinear", Interpolation::Bilinear), ("bicubic", Interpolation::Bicubic)] {
        for ([sw, sh], size) in [([97, 71], 32), ([51, 88], 48), ([30, 41], 56)] {
            let preprocess = Preprocess {
                size: [size, size],
                resize: Resize::ShorterSide { crop_pct: 0.875 },
                interpolation,
                channels: ChannelMode::Rgb,
                mean: vec![0.5; 3],
                std: vec![0.5; 3],
                ..Preprocess::imagenet([size, size])
            };
            let want = read(&format!("shorter_{name}_{size}_from_{sw}x{sh}.png"));
            let got = preprocess.to_image(&preprocess.apply(&formula(sw, sh)));
            let (mean, worst) = difference(&got, &want);
            let most = if name == "bilinear" { (0.3, 2) } else { (0.6, 30) };
            assert!(mean < most.0 && worst <= most.1, "{name} {sw}x{sh} to {size}: off by {mean} of 255 on average, {worst} at most");
        }
    }
}
