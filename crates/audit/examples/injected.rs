//! Duplicates injected into a data set: recall by kind, and precision.
//!
//! usage: cargo run --release -p fieldmark-audit --example injected -- DATASET [EACH [SEED [features]]]   (default 200 of each kind, seed 4)
//!
//! Copies of pictures drawn by seed are added in memory: exact, resized (to 50–90 %), encoded as JPEG (quality 40–80), mirrored or turned, and
//! with changed brightness (gain .7–1.3, offset ±25). With `features`, EfficientNet-Lite0's are asked too. A pair that holds a copy is right where both come from
//! one picture; it also stands apart where the two originals were found to be duplicates of each other, which the data set answers for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use audit::{DuplicateOptions, Duplicates, FeatureRows, PixelOptions, find_duplicates, measure};
use data::{Dataset, Sample, Source, fetch};
use engine::{Engine, EngineOptions};
use images::{DecodeOptions, Image, Interpolation, Pixels};
use rand::seq::index::sample as draw;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

const KINDS: [&str; 5] = ["exact", "resized", "re-encoded", "flipped", "brightness"];

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut dataset = Dataset::open(&arguments.next().ok_or("usage: injected DATASET [EACH [SEED [features]]]")?)?;
    let each: usize = arguments.next().map_or(Ok(200), |t| t.parse())?;
    let originals = dataset.len();
    let seed: u64 = arguments.next().map_or(Ok(4), |t| t.parse())?;
    let copies = inject(&mut dataset, each, seed)?;
    let start = Instant::now();
    let table = measure(&dataset, &PixelOptions::default(), &|_, _| (), &AtomicBool::new(false))?;
    println!("{originals} pictures, {} copies; measured in {:.1} s", copies.len(), start.elapsed().as_secs_f64());
    let plain = DuplicateOptions::default();
    let judge = |name: &str, rows: Option<FeatureRows>, options: &DuplicateOptions| -> Result<(), Failure> {
        let start = Instant::now();
        let found = find_duplicates(&table, rows, options)?;
        report(name, &found, originals, &copies, start.elapsed().as_secs_f64());
        Ok(())
    };
    judge("hashes only", None, &DuplicateOptions { likeness: -1.0, ..plain.clone() })?;
    for likeness in [0.2, 0.35, 0.6, 0.7, 0.8] {
        judge(&format!("likeness {likeness}"), None, &DuplicateOptions { likeness, ..plain.clone() })?;
    }
    judge("radius 14", None, &DuplicateOptions { radius: 14, ..plain.clone() })?;
    judge("DEFAULT", None, &plain)?;
    if arguments.next().as_deref() == Some("features") {
        let start = Instant::now();
        let (data, columns) = features(&dataset)?;
        println!("features in {:.1} s", start.elapsed().as_secs_f64());
        let samples: Vec<usize> = (0..dataset.len()).collect();
        let rows = FeatureRows { samples: &samples, data: &data, columns };
        judge("hashes, features .9", Some(rows), &DuplicateOptions { likeness: -1.0, cosine: 0.9, ..plain.clone() })?;
        judge("features .9", Some(rows), &DuplicateOptions { cosine: 0.9, ..plain })?;
    }
    Ok(())
}

/// Adds copies; for each its original and kind.
fn inject(dataset: &mut Dataset, each: usize, seed: u64) -> Result<Vec<(usize, usize)>, Failure> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = dataset.len();
    let mut copies = Vec::new();
    for (kind, name) in KINDS.iter().enumerate() {
        for original in draw(&mut rng, count, each.min(count)) {
            let image = dataset.image(original, &DecodeOptions::default())?;
            let copy = Arc::new(changed(&image, kind, &mut rng)?);
            dataset.samples.push(Sample::new(format!("{name}/{original}"), Source::Memory(copy)));
            copies.push((original, kind));
        }
    }
    Ok(copies)
}

fn changed(image: &Image, kind: usize, rng: &mut ChaCha8Rng) -> Result<Image, Failure> {
    Ok(match kind {
        0 => image.clone(),
        1 => {
            let scale = rng.random_range(0.5..0.9);
            let side = |length: usize| ((length as f64 * scale) as usize).max(1);
            let filter = [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos3][rng.random_range(0..3)];
            image.resize([side(image.height()), side(image.width())], filter)
        }
        2 => images::decode(&images::encode_jpeg(image, rng.random_range(40..=80)), &DecodeOptions::default())?,
        3 => symmetric(image, rng.random_range(1..8))?,
        _ => {
            let (gain, offset) = (rng.random_range(0.7..1.3), rng.random_range(-25.0..25.0));
            each_value(image, |v| (f64::from(v) * gain + offset).round().clamp(0.0, 255.0) as u8)?
        }
    })
}

fn bytes(image: &Image) -> Vec<u8> {
    let narrow = if image.channels() == 1 { image.to_gray8() } else { image.to_rgb8() };
    match narrow.pixels() {
        Pixels::U8(values) => values.clone(),
        Pixels::U16(_) => Vec::new(),
    }
}

fn make(width: usize, height: usize, channels: usize, values: Vec<u8>) -> Result<Image, Failure> {
    Ok(if channels == 1 { Image::from_gray8(width, height, values)? } else { Image::from_rgb8(width, height, values)? })
}

fn each_value(image: &Image, f: impl Fn(u8) -> u8) -> Result<Image, Failure> {
    make(image.width(), image.height(), image.channels(), bytes(image).into_iter().map(f).collect())
}

/// Bit 0 mirrors left and right, bit 1 top and bottom, bit 2 swaps rows and columns.
fn symmetric(image: &Image, bits: usize) -> Result<Image, Failure> {
    let (w, h, c) = (image.width(), image.height(), image.channels());
    let (width, height) = if bits & 4 == 4 { (h, w) } else { (w, h) };
    let from = bytes(image);
    let mut out = Vec::with_capacity(from.len());
    for y in 0..height {
        for x in 0..width {
            let (x, y) = (if bits & 1 == 1 { width - 1 - x } else { x }, if bits & 2 == 2 { height - 1 - y } else { y });
            let at = if bits & 4 == 4 { x * w + y } else { y * w + x };
            out.extend_from_slice(&from[at * c..(at + 1) * c]);
        }
    }
    make(width, height, c, out)
}

/// The pooled activations of EfficientNet-Lite0, and their number.
fn features(dataset: &Dataset) -> Result<(Vec<f32>, usize), Failure> {
    let model = zoo::model("efficientnet_lite0")?;
    let published = model.published().ok_or("no published weights")?;
    let file = fetch::locate(published.fetch_name, &fetch::cache_dir()).ok_or("fetch efficientnet_lite0 first")?;
    let (graph, weights) = zoo::load_published(model, &file)?;
    let node = *graph.taps.get("features").ok_or("the graph has no features")?;
    let preprocess = model.preprocess(&model.config());
    let mut engine = Engine::new(&graph, &weights, EngineOptions::default())?;
    let columns: usize = graph.node(node).shape.iter().product();
    let (mut data, mut out) = (Vec::new(), Vec::new());
    let all: Vec<usize> = (0..dataset.len()).collect();
    for block in all.chunks(16) {
        let input: Result<Vec<Vec<f32>>, data::DataError> =
            block.par_iter().map(|&i| Ok(preprocess.apply(&dataset.image(i, &DecodeOptions::default())?))).collect();
        engine.run_into(&input?.concat(), node, &mut out)?;
        data.extend_from_slice(&out);
    }
    Ok((data, columns))
}

fn report(name: &str, found: &Duplicates, originals: usize, copies: &[(usize, usize)], seconds: f64) {
    let source = |i: usize| if i < originals { i } else { copies[i - originals].0 };
    let mut pairs: BTreeSet<(usize, usize)> = found.pairs.iter().map(|p| (p.first, p.second)).collect();
    for group in &found.exact {
        pairs.extend((0..group.len()).flat_map(|a| (a + 1..group.len()).map(move |b| (group[a], group[b]))));
    }
    // Of exact duplicates only the first is searched for near ones; its pairs are theirs.
    let first = |i: usize| found.exact.iter().find(|g| g.contains(&i)).map_or(i, |g| g[0]);
    let linked = |i: usize| {
        let (a, b) = (first(i), first(source(i)));
        a == b || pairs.contains(&(a.min(b), a.max(b)))
    };
    let (mut hit, mut all) = ([0; KINDS.len()], [0; KINDS.len()]);
    for (n, &(_, kind)) in copies.iter().enumerate() {
        all[kind] += 1;
        hit[kind] += usize::from(linked(originals + n));
    }
    let with_copy: Vec<_> = pairs.iter().filter(|(_, b)| *b >= originals).collect();
    let right = with_copy.iter().filter(|(a, b)| source(*a) == source(*b)).count();
    let known = |a: usize, b: usize| pairs.contains(&(first(a).min(first(b)), first(a).max(first(b)))) || first(a) == first(b);
    let explained = with_copy.iter().filter(|(a, b)| source(*a) != source(*b) && known(source(*a), source(*b))).count();
    let own = pairs.len() - with_copy.len();
    if name == "DEFAULT" {
        for pair in found.pairs.iter().filter(|p| p.second < originals) {
            println!("    between originals: {} and {}, {}, rest {:.2}", pair.first, pair.second, pair.symmetry.name(), pair.rest);
        }
    }
    let recall: Vec<String> =
        KINDS.iter().enumerate().map(|(k, name)| format!("{name} {:.3}", hit[k] as f64 / all[k].max(1) as f64)).collect();
    let total = hit.iter().sum::<usize>() as f64 / copies.len().max(1) as f64;
    let strict = right as f64 / with_copy.len().max(1) as f64;
    let beyond = right as f64 / (with_copy.len() - explained).max(1) as f64;
    println!(
        "{name}: recall {total:.4} ({}); precision {beyond:.4} ({strict:.4} counting duplicates that the data set has by itself)",
        recall.join(", ")
    );
    println!(
        "    limit {:.2}, {} candidates, {} pairs with a copy, {own} between originals, {} groups, {seconds:.2} s",
        found.limit,
        found.candidates,
        with_copy.len(),
        found.groups.len()
    );
}
