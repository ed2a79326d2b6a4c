//! What augmentation promises: repeatable, exact where it can be, off when it is off.
#![allow(clippy::unwrap_used)]

use images::{Augment, ChannelMode, Fill, Image, Preprocess, Resize};

fn picture(width: usize, height: usize) -> Image {
    let value = |at: usize| {
        let (x, y, c) = (at / 3 % width, at / 3 / width, at % 3);
        (128.0 + 60.0 * ((x as f32 / 9.0) + c as f32).sin() + 50.0 * (y as f32 / 7.0).cos()) as u8
    };
    Image::from_rgb8(width, height, (0..width * height * 3).map(value).collect()).unwrap()
}

fn plain(size: [usize; 2]) -> Preprocess {
    Preprocess { resize: Resize::Squash, mean: vec![0.0; 3], std: vec![1.0; 3], ..Preprocess::imagenet(size) }
}

fn everything() -> Augment {
    Augment {
        horizontal_flip: 0.5,
        vertical_flip: 0.5,
        rotate90: 0.5,
        translate: 0.1,
        shear: 5.0,
        scale: [0.8, 1.2],
        hue: 0.1,
        gamma: 0.3,
        blur_probability: 0.5,
        noise_probability: 0.5,
        noise_std: 0.05,
        erase_probability: 0.5,
        ..Augment::standard()
    }
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn off_is_exactly_the_evaluation() {
    let (image, preprocess) = (picture(50, 37), Preprocess::imagenet([32, 24]));
    assert!(Augment::none().is_none() && !Augment::light().is_none() && !Augment::standard().is_none());
    assert_eq!(Augment::none().apply(&image, &preprocess, 1, 2, 3), preprocess.apply(&image));
    // Probabilities of almost nothing take the long way and must arrive at the same values.
    let nearly = Augment { horizontal_flip: 1e-30, color_probability: 1e-30, brightness: 0.5, ..Augment::none() };
    assert_eq!(nearly.apply(&image, &preprocess, 1, 2, 3), preprocess.apply(&image));
}

#[test]
fn the_same_key_gives_the_same_values_on_any_thread() {
    let (image, preprocess, augment) = (picture(60, 40), plain([24, 24]), everything());
    let here: Vec<Vec<f32>> = (0..16).map(|sample| augment.apply(&image, &preprocess, 7, sample, 1)).collect();
    let there: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..16)
            .rev()
            .map(|sample| {
                (
                    sample,
                    scope.spawn({
                        let (augment, image, preprocess) = (&augment, &image, &preprocess);
                        move || augment.apply(image, preprocess, 7, sample, 1)
                    }),
                )
            })
            .collect();
        let mut done: Vec<_> = workers.into_iter().map(|(sample, worker)| (sample, worker.join().unwrap())).collect();
        done.sort_by_key(|(sample, _)| *sample);
        done.into_iter().map(|(_, values)| values).collect()
    });
    assert_eq!(here, there);
    for (seed, sample, epoch) in [(8, 0, 1), (7, 1, 1), (7, 0, 2)] {
        assert_ne!(here[0], augment.apply(&image, &preprocess, seed, sample, epoch));
    }
    assert!(here.iter().flatten().all(|value| value.is_finite() && (0.0..=1.0).contains(value)));
}

/// The plane of one channel, turned a quarter clockwise.
fn quarter(values: &[f32], [height, width]: [usize; 2]) -> Vec<f32> {
    (0..width * height).map(|at| (at % height, at / height)).map(|(x, y)| values[(height - 1 - x) * width + y]).collect()
}

#[test]
fn flips_and_quarter_turns_only_move_pixels() {
    let image = picture(20, 20).to_gray8();
    let preprocess = Preprocess::gray([20, 20], 0.0, 1.0);
    let upright = preprocess.apply(&image);
    let mirrored: Vec<f32> = upright.chunks(20).flat_map(|row| row.iter().rev().copied()).collect();
    let flipped: Vec<f32> = upright.chunks(20).rev().flatten().copied().collect();
    let always = Augment { horizontal_flip: 1.0, ..Augment::none() };
    assert_eq!(always.apply(&image, &preprocess, 0, 0, 0), mirrored);
    let always = Augment { vertical_flip: 1.0, ..Augment::none() };
    assert_eq!(always.apply(&image, &preprocess, 0, 0, 0), flipped);
    let turns = Augment { rotate90: 1.0, ..Augment::none() };
    let one = quarter(&upright, [20, 20]);
    let two = quarter(&one, [20, 20]);
    let three = quarter(&two, [20, 20]);
    let mut seen = [0; 3];
    for sample in 0..60 {
        let turned = turns.apply(&image, &preprocess, 0, sample, 0);
        let which = [&one, &two, &three].iter().position(|want| **want == turned);
        seen[which.expect("a quarter turn")] += 1;
    }
    assert!(seen.iter().all(|&count| count > 8), "{seen:?}");
}

#[test]
fn the_warp_agrees_with_the_permutation() {
    // A warp that moves by nothing, after the same flips and turns; sizes that differ test the swapped canvas.
    let (image, preprocess) = (picture(30, 44), plain([18, 26]));
    let exact = Augment { horizontal_flip: 0.5, vertical_flip: 0.5, rotate90: 0.7, ..Augment::none() };
    let warped = Augment { rotate: 1e-6, ..exact.clone() };
    for sample in 0..20 {
        let off = worst(&exact.apply(&image, &preprocess, 3, sample, 0), &warped.apply(&image, &preprocess, 3, sample, 0));
        assert!(off < 1e-3, "sample {sample} is off by {off}");
    }
}

#[test]
fn outside_is_filled_as_asked() {
    let image = Image::from_gray8(16, 16, vec![100; 256]).unwrap();
    let preprocess = Preprocess::gray([16, 16], 0.0, 1.0);
    for (fill, constant) in [(Fill::Reflect, true), (Fill::Edge, true), (Fill::Color([255; 3]), false)] {
        let shifted = Augment { translate: 0.9, rotate: 90.0, fill, ..Augment::none() };
        let values = shifted.apply(&image, &preprocess, 0, 5, 0);
        let range = values.iter().fold((f32::MAX, f32::MIN), |(low, high), &value| (low.min(value), high.max(value)));
        assert_eq!(range.1 - range.0 < 1e-5, constant, "{fill:?}: {range:?}");
    }
}

#[test]
fn grey_pictures_for_a_colour_model_stay_grey() {
    let (image, preprocess) = (picture(40, 40).to_gray8(), plain([20, 20]));
    let values = everything().apply(&image, &preprocess, 1, 1, 1);
    let planes: Vec<&[f32]> = values.chunks(400).collect();
    assert_eq!(planes[0], planes[1]);
    assert_eq!(planes[0], planes[2]);
    let imagenet = Preprocess::imagenet([20, 20]);
    assert_eq!(imagenet.to_image(&imagenet.apply(&image)).to_gray8(), plain([20, 20]).to_image(&imagenet_unit(&image)).to_gray8());
}

fn imagenet_unit(image: &Image) -> Vec<f32> {
    Preprocess { mean: vec![0.0; 3], std: vec![1.0; 3], ..Preprocess::imagenet([20, 20]) }.apply(image)
}

#[test]
fn strengths_are_what_they_say() {
    let (image, preprocess) = (picture(64, 64), plain([64, 64]));
    let upright = preprocess.apply(&image);
    let noisy = Augment { noise_probability: 1.0, noise_std: 0.05, ..Augment::none() };
    let square = |values: &[f32]| values.iter().zip(&upright).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / upright.len() as f64;
    let measured = square(&noisy.apply(&image, &preprocess, 0, 0, 0)).sqrt();
    assert!((measured - 0.05).abs() < 0.003, "noise of {measured}");
    let erased = Augment { erase_probability: 1.0, erase_area: [0.25, 0.25], erase_ratio: [1.0, 1.0], ..Augment::none() };
    let zeros = erased.apply(&image, &preprocess, 0, 0, 0).iter().filter(|&&value| value == 0.0).count();
    assert_eq!(zeros, 32 * 32 * 3);
    let dark = Augment { brightness: 0.5, ..Augment::none() };
    let ratios: Vec<f32> = (0..200).map(|sample| dark.apply(&image, &preprocess, 0, sample, 0)[0] / upright[0]).collect();
    assert!(ratios.iter().all(|ratio| (0.499..=1.501).contains(ratio)));
    assert!(ratios.iter().any(|&ratio| ratio < 0.6) && ratios.iter().any(|&ratio| ratio > 1.2));
    let soft = Augment { blur_probability: 1.0, blur_sigma: [2.0, 2.0], ..Augment::none() };
    let blurred = soft.apply(&image, &preprocess, 0, 0, 0);
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    assert!((mean(&blurred) - mean(&upright)).abs() < 0.01 && worst(&blurred, &upright) > 0.01);
}

#[test]
fn settings_are_checked_and_read_from_toml() {
    assert!(everything().check().is_ok() && Augment::none().check().is_ok() && Augment::standard().check().is_ok());
    let text = Augment { horizontal_flip: 1.5, ..Augment::none() }.check().unwrap_err().to_string();
    assert_eq!(text, "`horizontal_flip` is 1.5; expected a probability from 0 to 1");
    assert!(Augment { scale: [1.2, 0.8], ..Augment::none() }.check().is_err());
    assert!(Augment { rotate: f32::NAN, ..Augment::none() }.check().is_err());
    let read: Augment = toml::from_str("rotate = 10.0\nfill = { color = [1, 2, 3] }").unwrap();
    assert_eq!(read, Augment { rotate: 10.0, fill: Fill::Color([1, 2, 3]), ..Augment::none() });
    assert!(toml::from_str::<Augment>("rotat = 10.0").is_err());
    let written = toml::to_string(&everything()).unwrap();
    assert_eq!(toml::from_str::<Augment>(&written).unwrap(), everything());
}

#[test]
fn preprocess_is_checked_kept_as_text_and_fingerprinted() {
    let good = Preprocess::imagenet([224, 224]);
    assert!(good.check().is_ok());
    let text = serde_json::to_string(&good).unwrap();
    assert_eq!(serde_json::from_str::<Preprocess>(&text).unwrap(), good);
    assert!(serde_json::from_str::<Preprocess>(&text.replacen("{", "{\"sise\":1,", 1)).is_err());
    for bad in [
        Preprocess { std: vec![0.0; 3], ..good.clone() },
        Preprocess { mean: vec![0.5], ..good.clone() },
        Preprocess { channels: ChannelMode::Gray, ..good.clone() },
        Preprocess { size: [0, 4], ..good.clone() },
        Preprocess { resize: Resize::ShorterSide { crop_pct: 0.0 }, ..good.clone() },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
        assert_ne!(bad.fingerprint(), good.fingerprint());
    }
}

#[test]
fn letterbox_keeps_the_shape_and_fills_the_rest() {
    let image = Image::from_rgb8(40, 20, vec![200; 2400]).unwrap();
    let preprocess = Preprocess { resize: Resize::Letterbox { fill: 51 }, ..plain([32, 32]) };
    let values = preprocess.apply(&image);
    assert!(values[..8 * 32].iter().all(|&value| (value - 0.2).abs() < 1e-6));
    assert!(values[8 * 32..24 * 32].iter().all(|&value| (value - 200.0 / 255.0).abs() < 1e-6));
    assert!(values[24 * 32..32 * 32].iter().all(|&value| (value - 0.2).abs() < 1e-6));
}

#[test]
fn sixteen_bits_keep_their_depth() {
    let image = Image::from_gray16(2, 1, vec![1, 65535]).unwrap();
    let preprocess = Preprocess::gray([1, 2], 0.0, 1.0);
    assert_eq!(preprocess.apply(&image), [1.0 / 65535.0, 1.0]);
    let again = images::decode(&images::encode_png(&image), &Default::default()).unwrap();
    assert_eq!(again, image);
}

#[test]
fn extreme_shapes_are_taken() {
    for (width, height) in [(1, 1), (1, 500), (500, 1), (3, 2)] {
        for resize in [Resize::Squash, Resize::ShorterSide { crop_pct: 0.875 }, Resize::Letterbox { fill: 0 }] {
            for size in [[1, 1], [7, 30], [32, 32]] {
                let preprocess = Preprocess { resize, ..plain(size) };
                for augment in [Augment::none(), everything()] {
                    let values = augment.apply(&picture(width, height), &preprocess, 1, 2, 3);
                    assert!(values.iter().all(|value| value.is_finite()), "{width}x{height} {resize:?} {size:?}");
                }
            }
        }
    }
}

#[test]
fn encoders_round_trip() {
    let image = picture(31, 17);
    assert_eq!(images::decode(&images::encode_png(&image), &Default::default()).unwrap(), image);
    let lossy = images::decode(&images::encode_jpeg(&image, 95), &Default::default()).unwrap();
    assert_eq!((lossy.width(), lossy.height(), lossy.channels()), (31, 17, 3));
    assert_eq!((image.thumbnail(10).width(), image.thumbnail(10).height()), (10, 5));
    assert_eq!(image.thumbnail(100), image);
}

#[test]
fn a_contact_sheet_holds_every_cell() {
    let cells = [picture(8, 6), picture(4, 4).to_gray8(), picture(8, 6)];
    let sheet = images::contact_sheet(&cells, 2, 3, [255; 3]);
    assert_eq!((sheet.width(), sheet.height()), (3 + 2 * 11, 3 + 2 * 9));
    let labelled = images::labelled_contact_sheet(&cells, 2, 3, [255; 3], &["Ag".to_string()]);
    assert_eq!(labelled.height(), sheet.height() + 2 * 9);
    let images::Pixels::U8(values) = labelled.pixels() else { panic!("8 bits") };
    assert!(values[3 * 25 * 3..10 * 25 * 3].contains(&0), "the label is drawn in black on white");
    assert_eq!(images::contact_sheet(&[], 4, 0, [1, 2, 3]).width(), 1);
}
