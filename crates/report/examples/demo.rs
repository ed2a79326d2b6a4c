//! Writes a report over invented predictions, to look at: `cargo run -p fieldmark-report --example demo -- out.html [cells|digits|birds]`.
//!
//! `cells`: two classes, five folds, a probe. `digits`: ten classes, fine-tuned over three folds. `birds`: sixty classes.

use std::collections::BTreeMap;
use std::error::Error;

use evaluate::{Curves, Evaluation, Options, Predictions, evaluate};
use fieldmark_report::{DataFacts, Epoch, ErrorPicture, ReportInput, SweepPoint, render};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: demo OUT.html [cells|digits|birds]")?;
    let page = match arguments.next().as_deref().unwrap_or("cells") {
        "cells" => cells()?,
        "digits" => digits()?,
        "birds" => birds()?,
        other => return Err(format!("unknown demo {other:?}: expected cells, digits or birds").into()),
    };
    std::fs::write(path, page)?;
    Ok(())
}

fn cells() -> Result<String, Box<dyn Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let classes: Vec<String> = vec!["functional".into(), "defective".into()];
    let (n, mut kinds, mut truth, mut probabilities) = (2624, vec![], vec![], vec![]);
    for _ in 0..n {
        let mono = rng.random::<f64>() < 0.41;
        let defective = rng.random::<f64>() < 0.31;
        let kind_shift = if mono { 1.25 } else { 0.9 };
        let score = if defective { 1.15 * kind_shift } else { -1.75 * kind_shift } + 1.5 * normal(&mut rng);
        let p = 1.0 / (1.0 + (-1.35 * score).exp());
        kinds.push(if mono { "mono" } else { "poly" }.to_owned());
        truth.push(Some(usize::from(defective)));
        probabilities.extend([1.0 - p, p]);
    }
    let sites = (0..n).map(|_| ["north hall", "south hall", "roof"][rng.random_range(0..3)].to_owned()).collect();
    let columns = BTreeMap::from([("type".to_owned(), kinds), ("site".to_owned(), sites)]);
    let ids = (0..n).map(|i| format!("images/cell{:04}.png", i + 1)).collect();
    let fold = Some((0..n).map(|i| i % 5).collect());
    let predictions = Predictions { classes, ids, truth, probabilities, fold, columns };
    let options = Options { bootstrap: 300, slices: vec!["type".into(), "site".into()], ..Options::default() };
    let (evaluation, curves) = (evaluate(&predictions, &options)?, Curves::new(&predictions, 15, 500)?);
    let mut input = ReportInput::new("Solar cells: linear probe on efficientnet_lite0", "21 November 2026, 20:14", &evaluation);
    input.curves = Some(&curves);
    input.data = facts("elpv", &evaluation, &[("train", 0.64), ("validation", 0.16), ("held out", 0.2)], "5 folds, out of fold");
    for fold in 0..5 {
        let tilt = rng.random_range(-0.15..0.15);
        for step in 0..11 {
            let place = -5.0 + step as f64 * 0.6;
            let log_loss = 0.355 + 0.022 * (place + 2.2 + tilt).powi(2) + 0.012 * tilt + 0.002 * rng.random::<f64>();
            input.sweep.push(SweepPoint { c: 10f64.powf(place), fold, log_loss, chosen: step == 5 });
        }
    }
    input.errors = worst(&predictions, cell_picture);
    input.recipe = CELLS_RECIPE.to_owned();
    input.facts = provenance("2 min 41 s (features 2 min 20 s, probe 21 s)");
    input.set_aside = vec![
        ("images/cell0412.png".into(), "truncated: the file ends after 8,192 of 41,370 bytes".into()),
        ("images/notes.jpg".into(), "not a picture: the file begins with text".into()),
    ];
    input.warnings = vec!["12 rows of labels.csv name the same picture twice with the same label; each counts once".into()];
    Ok(render(&input))
}

fn digits() -> Result<String, Box<dyn Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let classes: Vec<String> = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"].map(String::from).to_vec();
    let predictions = invented(&classes, 4000, 3, 6.4, &mut rng);
    let options = Options { bootstrap: 200, slices: vec!["writer".into()], ..Options::default() };
    let (evaluation, curves) = (evaluate(&predictions, &options)?, Curves::new(&predictions, 15, 500)?);
    let mut input = ReportInput::new("Handwritten digits: tiny_cnn from scratch", "21 November 2026, 20:31", &evaluation);
    input.curves = Some(&curves);
    input.data = facts("mnist", &evaluation, &[("train", 0.7), ("validation", 0.1), ("test", 0.2)], "3 folds, out of fold");
    input.val_metric = "balanced accuracy".into();
    for fold in 0..3 {
        for epoch in 1..=24 {
            let t = epoch as f64;
            let noise = 0.02 * normal(&mut rng);
            let val_loss = 0.32 + 1.5 * (-t / 4.0).exp() + noise + 0.004 * fold as f64;
            let lr = 3e-3 * 0.5 * (1.0 + (std::f64::consts::PI * t / 24.0).cos()) * (t / 3.0).min(1.0);
            let train_loss = 0.18 + 1.9 * (-t / 4.5).exp() + noise * 0.4;
            input.history.push(Epoch {
                epoch,
                fold,
                train_loss,
                val_loss: Some(val_loss),
                val_metric: Some(0.93 - 0.6 * (-t / 3.5).exp() + noise * 0.3),
                lr,
                seconds: 7.4,
            });
        }
    }
    input.errors = worst(&predictions, digit_picture);
    input.recipe =
        "model = \"tiny_cnn\"\nmethod = \"scratch\"\nseed = 3\n\n[fit]\nepochs = 24\nbatch_size = 128\nlr = 3e-3\nschedule = \"cosine\"\n"
            .into();
    input.facts = provenance("8 min 53 s");
    Ok(render(&input))
}

fn birds() -> Result<String, Box<dyn Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let classes: Vec<String> = (1..=60)
        .map(|i| format!("{i:03}.{}", ["Laysan_Albatross", "Crested_Auklet", "Brewer_Blackbird", "Indigo_Bunting"][i % 4]))
        .collect();
    let predictions = invented(&classes, 1800, 1, 6.0, &mut rng);
    let (evaluation, curves) =
        (evaluate(&predictions, &Options { bootstrap: 50, ..Options::default() })?, Curves::new(&predictions, 15, 300)?);
    let mut input = ReportInput::new("Sixty birds, fine-tuned", "21 November 2026", &evaluation);
    input.curves = Some(&curves);
    input.data = facts("birds", &evaluation, &[("train", 0.6), ("test", 0.4)], "test split");
    Ok(render(&input))
}

/// Predictions of a classifier that confuses neighbouring classes.
fn invented(classes: &[String], n: usize, folds: usize, sharpness: f64, rng: &mut ChaCha8Rng) -> Predictions {
    let k = classes.len();
    let (mut truth, mut probabilities, mut writers) = (vec![], vec![], vec![]);
    for _ in 0..n {
        let class = (rng.random::<f64>().powf(1.25) * k as f64) as usize;
        let writer = rng.random_range(0..4);
        let skill = if writer == 3 { 0.66 } else { 1.0 };
        let logit = |c: usize, rng: &mut ChaCha8Rng| {
            let apart = (c + k - class) % k;
            let pull = [1.0, 0.42, 0.1][apart.min(2)];
            sharpness * skill * pull + 1.3 * normal(rng)
        };
        let logits: Vec<f64> = (0..k).map(|c| logit(c, rng)).collect();
        let total: f64 = logits.iter().map(|l| l.exp()).sum();
        probabilities.extend(logits.iter().map(|l| l.exp() / total));
        truth.push(Some(class));
        writers.push(["pen", "pencil", "marker", "child"][writer].to_owned());
    }
    let ids = (0..n).map(|i| format!("t10k-images-idx3-ubyte#{i}")).collect();
    let fold = (folds > 1).then(|| (0..n).map(|i| i % folds).collect());
    Predictions { classes: classes.to_vec(), ids, truth, probabilities, fold, columns: BTreeMap::from([("writer".to_owned(), writers)]) }
}

fn facts(name: &str, evaluation: &Evaluation, shares: &[(&str, f64)], evaluated_on: &str) -> DataFacts {
    let counts = |share: f64| evaluation.per_class.iter().map(|c| (c.support as f64 * share) as usize).collect();
    let splits = shares.iter().map(|(split, share)| ((*split).to_owned(), counts(*share))).collect();
    DataFacts { name: name.into(), splits, evaluated_on: evaluated_on.into() }
}

fn worst(predictions: &Predictions, draw: impl Fn(u64) -> Vec<u8>) -> Vec<ErrorPicture> {
    let wrong = (0..predictions.len()).filter_map(|i| {
        let (truth, predicted) = (predictions.truth[i]?, predictions.predicted(i));
        (truth != predicted).then_some((predictions.row(i)[predicted], i, truth, predicted))
    });
    let mut wrong: Vec<_> = wrong.collect();
    wrong.sort_by(|a, b| b.0.total_cmp(&a.0));
    let picture = |(probability, i, truth, predicted): (f64, usize, usize, usize)| ErrorPicture {
        id: predictions.ids[i].clone(),
        bytes: draw(i as u64),
        truth: predictions.classes[truth].clone(),
        predicted: predictions.classes[predicted].clone(),
        probability,
        truth_probability: Some(predictions.row(i)[truth]),
    };
    wrong.into_iter().take(18).map(picture).collect()
}

/// A cell as electroluminescence shows it: grainy grey, two busbars, dark patches and a crack.
fn cell_picture(seed: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let side = 120usize;
    let patches: Vec<[f64; 3]> =
        (0..6).map(|_| [rng.random_range(0.0..120.0), rng.random_range(0.0..120.0), rng.random_range(6.0..26.0)]).collect();
    let (slope, offset) = (rng.random_range(-0.8..0.8), rng.random_range(20.0..100.0));
    let shade = |x: f64, y: f64, rng: &mut ChaCha8Rng| {
        let mut value = 165.0 - 0.009 * ((x - 60.0).powi(2) + (y - 60.0).powi(2)) + 9.0 * normal(rng);
        value -= patches.iter().map(|p| 60.0 * (-((x - p[0]).powi(2) + (y - p[1]).powi(2)) / (p[2] * p[2])).exp()).sum::<f64>();
        if (y - 38.0).abs() < 2.5 || (y - 82.0).abs() < 2.5 {
            value -= 70.0;
        }
        if (y - offset - slope * x).abs() < 1.1 {
            value -= 55.0;
        }
        value.clamp(0.0, 255.0) as u8
    };
    let pixels: Vec<u8> = (0..side * side).map(|i| shade((i % side) as f64, (i / side) as f64, &mut rng)).collect();
    gray_png(side, &pixels)
}

/// A few strokes on 28 by 28 pixels.
fn digit_picture(seed: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let [a, b, c] = [rng.random_range(0.5..2.5), rng.random_range(0.0..6.0), rng.random_range(3.0..7.5)];
    let near = |x: f64, y: f64| {
        let along = (0..60).map(|i| i as f64 / 60.0 * 5.2 + b).map(|t| [14.0 + c * (a * t).sin(), 14.0 + 8.5 * t.cos()]);
        along.map(|p| (p[0] - x).hypot(p[1] - y)).fold(f64::INFINITY, f64::min)
    };
    let pixels: Vec<u8> = (0..28 * 28).map(|i| (255.0 * (2.1 - near((i % 28) as f64, (i / 28) as f64)).clamp(0.0, 1.0)) as u8).collect();
    gray_png(28, &pixels)
}

/// A square grey picture as an uncompressed PNG: enough for a demo, without a codec.
fn gray_png(side: usize, pixels: &[u8]) -> Vec<u8> {
    let rows: Vec<u8> = pixels.chunks(side).flat_map(|row| std::iter::once(0).chain(row.iter().copied())).collect();
    let length = (rows.len() as u16).to_le_bytes();
    let (mut a, mut b) = (1u32, 0u32);
    for byte in &rows {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    let stored = [&[0x78, 0x01, 1][..], &length, &length.map(|byte| !byte), &rows, &((b << 16) | a).to_be_bytes()].concat();
    let header = [&(side as u32).to_be_bytes()[..], &(side as u32).to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let body = [kind, data].concat();
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()].concat()
    };
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &stored), chunk(b"IEND", &[])].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc)))
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

fn provenance(time: &str) -> Vec<(String, String)> {
    [
        ("Fieldmark", "0.1.0"),
        ("Seed", "7"),
        ("Data fingerprint", "blake3 5f0c2a9d41e8b7736a51c0f2d99e0b18c4aa07e3"),
        ("Weights", "efficientnet_lite0 (ImageNet), sha256 9a41b7c2…"),
        ("Preprocessing", "shorter side to 256, bicubic with antialias, centre crop 224 × 224"),
        ("Machine", "2 cores, AVX-512, 8 GiB"),
        ("Time", time),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

const CELLS_RECIPE: &str = r#"method = "probe"
model = "efficientnet_lite0"
seed = 7
folds = 5
stratify = ["label", "type"]

[preprocess]
size = [224, 224]
resize = { shorter_side = { crop_pct = 0.875 } }
interpolation = "bicubic"
antialias = true

[probe]
strengths = "1e-5 to 10 in 11 steps"
choose_by = "log_loss"
inner_folds = 5
"#;
