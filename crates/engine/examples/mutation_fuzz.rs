//! A mutation fuzzer for stable Rust, where libFuzzer cannot be had: seeds (see `fuzz_seeds`) with bytes changed, cut, doubled and spliced by a
//! seeded generator, through one reader. It follows no coverage. What escapes is a panic, an input that takes more than five seconds, or
//! the memory limit of the shell (`ulimit -v`); panics and the slowest input are kept beside the seeds.
//!
//! `cargo run --release -p fieldmark-engine --example mutation_fuzz -- jpeg|raster|model|pth|safetensors|onnx SEEDS SECONDS [SEED]`
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use fieldmark_engine::{Classifier, EngineOptions, Model};
use images::{DecodeOptions, Limits, Preprocess, Resize, decode, decode_for};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const STARTS: [&[u8]; 7] = [b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"P"];

/// One input through a reader; whether it was accepted.
fn read(target: &str, data: &[u8]) -> bool {
    let path = Path::new("fuzz");
    let limits = Limits { max_pixels: 1 << 20, max_memory: 64 << 20, ..Limits::default() };
    let options = DecodeOptions { limits, ..DecodeOptions::default() };
    match (target, data.split_first()) {
        ("jpeg", Some((&first, rest))) => {
            let bytes = [&[0xff, 0xd8, 0xff], rest].concat();
            let side = 1 << (first % 8);
            let preprocess = Preprocess { resize: Resize::Squash, ..Preprocess::imagenet([side, side]) };
            let (reduced, full) = (decode_for(&bytes, &preprocess, &options), decode(&bytes, &options));
            if let Err(error) = &reduced {
                assert!(!error.to_string().contains("gave up") || full.is_err(), "a panic inside the reduced decoder");
            }
            if let (Ok(reduced), Ok(full)) = (&reduced, &full) {
                assert_eq!(reduced.whole(), [full.height(), full.width()]);
                preprocess.apply_picture(reduced, &mut vec![0.0; 3 * side * side]);
            }
            full.is_ok()
        }
        ("raster", Some((&first, rest))) => decode(&[STARTS[usize::from(first) % STARTS.len()], rest].concat(), &options).is_ok(),
        ("model", _) => Model::decode(data, path).is_ok_and(|model| {
            let cost: usize = model.graph.nodes.iter().map(|node| node.shape.iter().product::<usize>()).sum();
            if cost < 1 << 20
                && let Ok(classifier) = Classifier::with_options(model, EngineOptions { threads: 1, ..EngineOptions::default() })
            {
                let image = images::Image::from_gray8(5, 4, (0..20).map(|value| value * 12).collect()).unwrap();
                classifier.classify(&image).unwrap();
            }
            true
        }),
        ("pth", _) => graph::weights::decode_pth(data, path).is_ok(),
        ("onnx", _) => graph::onnx::import(data, &graph::onnx::ImportOptions::default()).is_ok_and(|imported| {
            assert!(imported.graph.check().is_ok());
            assert!(imported.graph.check_weights(&imported.weights).is_ok());
            true
        }),
        ("safetensors", _) => graph::weights::decode_safetensors(data, path).is_ok(),
        _ => false,
    }
}

fn mutate(generator: &mut ChaCha8Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[generator.random_range(0..seeds.len())].clone();
    for _ in 0..generator.random_range(1..8) {
        let length = bytes.len().max(1);
        let at = generator.random_range(0..length).min(bytes.len().saturating_sub(1));
        match generator.random_range(0..8) {
            _ if bytes.is_empty() => bytes.push(generator.random()),
            0 => bytes[at] = generator.random(),
            1 => bytes[at] ^= 1 << generator.random_range(0..8),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][generator.random_range(0..5)],
            3 => bytes.truncate(at),
            4 => {
                let part = bytes[at..(at + generator.random_range(1..65)).min(length)].to_vec();
                let to = generator.random_range(0..=bytes.len());
                bytes.splice(to..to, part);
            }
            5 => drop(bytes.drain(at..(at + generator.random_range(1..17)).min(length))),
            6 => {
                let other = &seeds[generator.random_range(0..seeds.len())];
                let cut = generator.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[cut..]);
            }
            _ => {
                let value: u32 = [0, 1, 0xffff, 0x7fff_ffff, u32::MAX, generator.random()][generator.random_range(0..6)];
                bytes.iter_mut().skip(at).zip(value.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            }
        }
    }
    bytes
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [target, folder, seconds] = &args[..3] else { unreachable!("a slice of three") };
    let folder = Path::new(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder.join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let accepted = seeds.iter().filter(|seed| read(target, seed)).count();
    println!("{target}: {accepted} of {} seeds are accepted", seeds.len());
    let mut generator = ChaCha8Rng::seed_from_u64(args.get(3).map_or(0, |text| text.parse().unwrap()));
    let (start, limit) = (Instant::now(), Duration::from_secs(seconds.parse().unwrap()));
    let (mut count, mut good, mut slowest) = (0u64, 0u64, Duration::ZERO);
    std::panic::set_hook(Box::new(|_| {}));
    while start.elapsed() < limit {
        let input = mutate(&mut generator, &seeds);
        let begun = Instant::now();
        match std::panic::catch_unwind(|| read(target, &input)) {
            Ok(accepted) => good += u64::from(accepted),
            Err(_) => {
                let file = folder.join(format!("{target}.panic-{count}"));
                std::fs::write(&file, &input).unwrap();
                println!("panic: {}", file.display());
            }
        }
        if begun.elapsed() > slowest {
            slowest = begun.elapsed();
            std::fs::write(folder.join(format!("{target}.slowest")), &input).unwrap();
        }
        count += 1;
    }
    println!("{target}: {count} inputs, {good} accepted, slowest {slowest:?}");
}
