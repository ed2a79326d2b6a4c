//! What reading, decoding and preparing the pictures of a folder take on one thread, in full and as a model of 224 px needs them, and how far the
//! values of the two differ: `cargo run --release -p fieldmark-images --example stages -- FOLDER [COUNT]`.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Instant;

use images::{DecodeOptions, Interpolation, Preprocess, decode, decode_for, read};

/// Medians of milliseconds.
#[derive(Default)]
struct Stages {
    decode: Vec<f64>,
    prepare: Vec<f64>,
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn main() {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().expect("give a folder"));
    let count = args.next().map_or(50, |text| text.parse().unwrap());
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.truncate(count);
    let preprocess = Preprocess {
        interpolation: Interpolation::Bicubic,
        mean: vec![0.0; 3],
        std: vec![1.0 / 255.0; 3],
        ..Preprocess::imagenet([224, 224])
    };
    let options = DecodeOptions::default();
    let (mut full, mut reduced, mut reading) = (Stages::default(), Stages::default(), Vec::new());
    let (mut differences, mut largest) = (Vec::new(), 0f32);
    let (mut bytes, mut a, mut b) = (Vec::new(), vec![0.0; 3 * 224 * 224], vec![0.0; 3 * 224 * 224]);
    let ms = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
    for file in &files {
        let start = Instant::now();
        read(file, &options, &mut bytes).unwrap();
        reading.push(ms(start));
        let start = Instant::now();
        let image = decode(&bytes, &options).unwrap();
        full.decode.push(ms(start));
        let start = Instant::now();
        preprocess.apply_into(&image, &mut a);
        full.prepare.push(ms(start));
        let start = Instant::now();
        let picture = decode_for(&bytes, &preprocess, &options).unwrap();
        reduced.decode.push(ms(start));
        let start = Instant::now();
        preprocess.apply_picture(&picture, &mut b);
        reduced.prepare.push(ms(start));
        let off: Vec<f32> = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).collect();
        differences.push(f64::from(off.iter().sum::<f32>()) / off.len() as f64);
        largest = off.iter().fold(largest, |most, &value| most.max(value));
    }
    println!("{} files, read {:.2} ms", files.len(), median(&mut reading));
    for (name, stages) in [("full", &mut full), ("as needed", &mut reduced)] {
        println!("{name}: decode {:.2} ms, prepare {:.2} ms", median(&mut stages.decode), median(&mut stages.prepare));
    }
    let mean = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
    println!(
        "difference of values, of 255: mean {mean:.3}, largest mean of a picture {:.3}, largest {largest:.1}",
        differences.iter().fold(0.0f64, |m, &v| m.max(v))
    );
}
