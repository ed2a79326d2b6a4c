//! A folder of images to rows of features (or logits) with published or random weights, and where the time goes.
//!
//! `cargo run --release -p fieldmark-engine --example embed -- FOLDER [--weights FILE.pth] [--model NAME] [--batch N] [--threads T]
//! [--logits]`
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use fieldmark_engine::{Engine, EngineOptions, Load, PipelineOptions, Timings};
use images::{DecodeOptions, ImageError, Preprocess, Reader};

struct Files(Vec<PathBuf>, Preprocess);

impl Load for Files {
    type State = Reader;
    type Error = ImageError;

    fn state(&self) -> Reader {
        Reader::new(self.1.clone(), DecodeOptions::default())
    }

    fn load(&self, reader: &mut Reader, index: usize, out: &mut [f32]) -> Result<(), ImageError> {
        reader.open(&self.0[index], out)
    }
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|e| e == "png" || e == "jpg" || e == "jpeg") {
            files.push(path);
        }
    }
    files.sort();
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| args.iter().position(|a| a == flag).and_then(|at| args.get(at + 1));
    let number = |flag: &str| value(flag).map_or(0, |text| text.parse().unwrap());
    let model = zoo::model(value("--model").map_or("efficientnet_lite0", String::as_str))?;
    let config = model.config();
    let graph = model.build(&config)?;
    let weights = match value("--weights") {
        Some(file) => zoo::load_published(model, Path::new(file))?.1,
        None => graph.init_weights(1),
    };
    let output = if args.iter().any(|a| a == "--logits") { graph.output } else { *graph.taps.get("features").ok_or("no features")? };
    let mut files = Vec::new();
    list(Path::new(args.first().ok_or("give a folder")?), &mut files);
    let engine = Engine::new(&graph, &weights, EngineOptions { threads: 1, ..EngineOptions::default() })?;
    let options = PipelineOptions { batch_size: number("--batch"), threads: number("--threads") };
    let source = Files(files, model.preprocess(&config));
    let mut sum = 0.0f64;
    let pass = engine.run_many(output, source.0.len(), options, &source, |_, row| {
        match row {
            Ok(row) => sum += f64::from(row[0]),
            Err(error) => eprintln!("{error}"),
        }
        ControlFlow::Continue(())
    })?;
    let times: Vec<_> = pass.states.iter().map(Reader::times).collect();
    println!("{} (checksum {sum})", Timings::of(&pass, &times, source.0.len()));
    Ok(())
}
