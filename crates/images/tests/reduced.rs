//! JPEG decoded at part of its size: against libjpeg's scaled decoding (files and values of `tests/golden/make_reduced.py`), against our own full
//! decoding, and with damaged files.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use images::{ChannelMode, DecodeOptions, Image, Interpolation, Limits, Pixels, Preprocess, Resize, decode, decode_for};
use proptest::prelude::*;

const SIZE: [usize; 2] = [101, 139];

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

/// Values in 0..=255 of a picture of `size`.
fn squash(size: [usize; 2]) -> Preprocess {
    Preprocess { resize: Resize::Squash, mean: vec![0.0; 3], std: vec![1.0 / 255.0; 3], ..Preprocess::imagenet(size) }
}

/// One that lets pictures of `SIZE` be reduced to a half, a quarter or an eighth, and no further.
fn wanting(reduction: usize) -> Preprocess {
    squash(SIZE.map(|side| side / reduction / 2))
}

fn bytes_of(image: &Image) -> &[u8] {
    match image.pixels() {
        Pixels::U8(values) => values,
        Pixels::U16(_) => panic!("JPEG pictures have 8 bits"),
    }
}

/// Mean and largest difference.
fn difference(a: &[u8], b: &[u8]) -> (f64, u8) {
    assert_eq!(a.len(), b.len());
    let sum: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a.abs_diff(b))).sum();
    (sum / a.len() as f64, a.iter().zip(b).map(|(&a, &b)| a.abs_diff(b)).max().unwrap_or(0))
}

#[test]
fn pixels_are_those_of_libjpeg() {
    let options = DecodeOptions::default();
    for name in ["444", "gray", "420", "progressive"] {
        for reduction in [2, 4, 8] {
            let picture = decode_for(&golden(&format!("reduced_{name}.jpg")), &wanting(reduction), &options).unwrap();
            assert_eq!((picture.whole(), picture.is_reduced()), (SIZE, true));
            let want = decode(&golden(&format!("reduced_{name}_{reduction}.png")), &options).unwrap();
            let (ours, theirs) = (picture.image(), &want);
            assert_eq!((ours.width(), ours.height(), ours.channels()), (theirs.width(), theirs.height(), theirs.channels()), "{name}");
            // At 1/8 both are means of blocks. Else libjpeg-turbo lets some of the higher frequencies in (jidctred.c), which we leave out, and it
            // may enlarge coarse chroma instead of decoding it larger.
            let (mean, largest) = if reduction == 8 && matches!(name, "444" | "gray") { (0.1, 1) } else { (2.0, 12) };
            let (m, l) = difference(bytes_of(ours), bytes_of(theirs));
            println!("{name} 1/{reduction}: mean {m:.3}, largest {l}");
            assert!(m <= mean && l <= largest, "{name} 1/{reduction}: mean {m}, largest {l}");
        }
    }
}

#[test]
fn restarts_and_progressive_scans_change_nothing() {
    let read = |name: &str, reduction| decode_for(&golden(name), &wanting(reduction), &DecodeOptions::default()).unwrap();
    for reduction in [2, 4, 8] {
        assert_eq!(read("reduced_restart.jpg", reduction), read("reduced_420.jpg", reduction));
        assert_eq!(read("reduced_progressive.jpg", reduction), read("reduced_420.jpg", reduction));
        assert_eq!(read("reduced_gray_progressive.jpg", reduction), read("reduced_gray.jpg", reduction));
        assert!(read("reduced_restart.jpg", reduction).is_reduced());
    }
}

/// The values of reduced and full decoding of `name`, 0..=255, and whether it was reduced.
fn both(name: &str, preprocess: &Preprocess) -> (Vec<f32>, Vec<f32>, bool) {
    let bytes = golden(name);
    let picture = decode_for(&bytes, preprocess, &DecodeOptions::default()).unwrap();
    let mut reduced = vec![0.0; preprocess.shape().iter().product()];
    preprocess.apply_picture(&picture, &mut reduced);
    (reduced, preprocess.apply(&decode(&bytes, &DecodeOptions::default()).unwrap()), picture.is_reduced())
}

fn mean_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

#[test]
fn preprocessed_values_are_nearly_those_of_full_decoding() {
    let shapes = [Resize::Squash, Resize::ShorterSide { crop_pct: 0.875 }, Resize::Letterbox { fill: 7 }];
    for name in ["444", "422", "420", "progressive", "gray", "restart"] {
        for resize in shapes {
            for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos3] {
                for (size, bound) in [([22, 30], 0.8), ([12, 16], 1.2), ([6, 7], 2.5)] {
                    let preprocess = Preprocess { resize, interpolation, ..squash(size) };
                    let (reduced, full, is_reduced) = both(&format!("reduced_{name}.jpg"), &preprocess);
                    assert!(is_reduced, "{resize:?} {size:?}");
                    let off = mean_difference(&reduced, &full);
                    println!("{name} {resize:?} {interpolation:?} {size:?}: {off:.2}");
                    // A shift by half a pixel of the result would be ten times as much.
                    assert!(off < bound, "{name} {resize:?} {interpolation:?} {size:?}: {off} of 255");
                }
            }
        }
    }
}

#[test]
fn turned_pictures_lie_where_full_decoding_puts_them() {
    for orientation in 2..=8 {
        for resize in [Resize::Squash, Resize::ShorterSide { crop_pct: 1.0 }] {
            let preprocess = Preprocess { resize, ..squash([8, 11]) };
            let (reduced, full, is_reduced) = both(&format!("reduced_orientation{orientation}.jpg"), &preprocess);
            assert!(is_reduced);
            let off = mean_difference(&reduced, &full);
            assert!(off < 1.2, "orientation {orientation} {resize:?}: {off} of 255");
        }
    }
}

#[test]
fn what_needs_all_pixels_gets_them() {
    let full = |name: &str, preprocess: &Preprocess| {
        let (reduced, full, is_reduced) = both(name, preprocess);
        assert_eq!(reduced, full);
        assert!(!is_reduced);
    };
    full("reduced_420.jpg", &squash([60, 80]));
    full("reduced_420.jpg", &Preprocess { antialias: false, ..squash([6, 7]) });
    full("reduced_420.jpg", &Preprocess { interpolation: Interpolation::Nearest, ..squash([6, 7]) });
    full("reduced_cmyk.jpg", &squash([6, 7]));
    full("rgb.png", &squash([2, 3]));
    let gray = Preprocess { channels: ChannelMode::Gray, mean: vec![0.0], std: vec![1.0 / 255.0], ..squash([6, 7]) };
    let (reduced, full, is_reduced) = both("reduced_420.jpg", &gray);
    assert!(is_reduced && mean_difference(&reduced, &full) < 2.0);
}

#[test]
fn limits_and_truncation_are_as_in_full_decoding() {
    let whole = golden("reduced_420.jpg");
    let small = DecodeOptions { limits: Limits { max_pixels: 1000, ..Limits::default() }, ..DecodeOptions::default() };
    for name in ["reduced_420.jpg", "reduced_progressive.jpg", "reduced_restart.jpg"] {
        let bytes = golden(name);
        assert_eq!(decode_for(&bytes, &wanting(8), &small).unwrap_err().to_string(), decode(&bytes, &small).unwrap_err().to_string());
    }
    for bytes in [whole, golden("reduced_progressive.jpg"), golden("reduced_restart.jpg")] {
        for length in (0..bytes.len()).step_by(7).chain(bytes.len() - 30..bytes.len()) {
            let error = decode_for(&bytes[..length], &wanting(8), &DecodeOptions::default());
            assert!(error.is_err(), "{length} of {} bytes were accepted", bytes.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(
        which in 0..6usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
        reduction in prop::sample::select(vec![2usize, 4, 8]),
    ) {
        let names = ["420", "444", "422", "progressive", "restart", "gray_progressive"];
        let mut bytes = golden(&format!("reduced_{}.jpg", names[which]));
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        let limits = Limits { max_pixels: 1_000_000, max_memory: 32 << 20, ..Limits::default() };
        let result = decode_for(&bytes, &wanting(reduction), &DecodeOptions { limits, ..Default::default() });
        if let Err(error) = result {
            prop_assert!(!error.to_string().contains("gave up"), "{error}");
        }
    }
}
