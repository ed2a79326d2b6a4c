//! How close bf16 and int8 of the published EfficientNet-Lite0 come to f32 on real images, and how long they take:
//! `cargo run --release -p fieldmark-engine --example quantize -- WEIGHTS.pth FOLDER... [--calibrate N] [--judge N] [--features FILE]`.
//!
//! Images are taken evenly spaced by name from each folder, searched in depth: N to calibrate, N others to judge. `--features` writes the
//! pooled features of all images in f32, bf16 and int8 as little-endian f32 to FILE.f32, FILE.bf16 and FILE.int8, with FILE.names.

use std::io::Write;
use std::path::{Path, PathBuf};

use fieldmark_engine::quantize::{Activations, Agreement, Bounds, CalibrationOptions, Method, Quantization, calibrate, choose};
use fieldmark_engine::{Engine, EngineOptions, Precision};
use rayon::prelude::*;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Outcome<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|e| ["png", "jpg", "jpeg"].iter().any(|known| e.eq_ignore_ascii_case(known))) {
            found.push(path);
        }
    }
    Ok(())
}

fn spaced(paths: &[PathBuf], count: usize, offset: usize) -> Vec<PathBuf> {
    let step = (paths.len() / count.max(1)).max(2);
    paths.iter().skip(offset).step_by(step).take(count).cloned().collect()
}

fn prepare(paths: &[PathBuf], preprocess: &images::Preprocess) -> Outcome<Vec<f32>> {
    let each: Result<Vec<Vec<f32>>, images::ImageError> =
        paths.par_iter().map(|path| Ok(preprocess.apply(&images::open(path, &preprocess.decode_options())?))).collect();
    Ok(each?.concat())
}

fn logits(engine: &mut Engine, images: &[f32], output: graph::NodeId) -> Outcome<Vec<f32>> {
    let size: usize = engine.graph().input_shape().iter().product();
    let (mut all, mut part) = (Vec::new(), Vec::new());
    for chunk in images.chunks(size * 8) {
        engine.run_into(chunk, output, &mut part)?;
        all.extend_from_slice(&part);
    }
    Ok(all)
}

fn main() -> Outcome<()> {
    let (mut folders, mut counts, mut features) = (Vec::new(), [64usize, 500], None);
    let mut arguments = std::env::args().skip(1);
    let weights = arguments.next().ok_or("which weights?")?;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--calibrate" => counts[0] = arguments.next().ok_or("how many?")?.parse()?,
            "--judge" => counts[1] = arguments.next().ok_or("how many?")?.parse()?,
            "--features" => features = arguments.next(),
            _ => folders.push(PathBuf::from(argument)),
        }
    }
    let model = zoo::model("efficientnet_lite0")?;
    let (graph, weights) = zoo::load_published(model, Path::new(&weights))?;
    let preprocess = model.preprocess(&model.config());
    let (mut calibration, mut judged, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for folder in &folders {
        let mut paths = Vec::new();
        collect(folder, &mut paths)?;
        calibration.extend(spaced(&paths, counts[0] / folders.len(), 0));
        judged.extend(spaced(&paths, counts[1] / folders.len(), 1));
        all.extend(paths);
    }
    println!("{} images to calibrate, {} to judge", calibration.len(), judged.len());
    let (calibration, judge) = (prepare(&calibration, &preprocess)?, prepare(&judged, &preprocess)?);
    let engine = |precision, quantization: Option<&Quantization>| {
        Engine::quantized(&graph, &weights, quantization, EngineOptions { threads: 0, precision })
    };
    let output = graph.output;
    let reference = logits(&mut engine(Precision::F32, None)?, &judge, output)?;
    let report = |name: &str, found: &[f32]| {
        let a = Agreement::of(&reference, found, graph.num_classes());
        println!("{name}: top-1 agreement {:.2} %, logit error {:.3} %, {} images", 100.0 * a.top1, 100.0 * a.logit_error, a.images);
    };
    report("bf16", &logits(&mut engine(Precision::Bf16, None)?, &judge, output)?);
    let plain = CalibrationOptions { activations: Some(Activations::U8), most_kept: 0, ..CalibrationOptions::default() };
    let with = |method| CalibrationOptions { method: Some(method), ..plain.clone() };
    for (name, options) in [
        (
            "min-max, nearest weights, biases as they are",
            CalibrationOptions { correct_biases: false, fit_weights: false, ..with(Method::MinMax) },
        ),
        ("min-max, nearest weights", CalibrationOptions { fit_weights: false, ..with(Method::MinMax) }),
        ("min-max", with(Method::MinMax)),
        ("percentile", with(Method::Percentile)),
        ("entropy", with(Method::Entropy)),
        ("16-bit maps, nearest weights", CalibrationOptions { activations: Some(Activations::I16), fit_weights: false, ..plain.clone() }),
        ("16-bit maps", CalibrationOptions { activations: Some(Activations::I16), ..plain.clone() }),
    ] {
        let made = calibrate(&graph, &weights, &calibration, &options)?;
        report(&format!("int8, {name}"), &logits(&mut engine(Precision::Int8, Some(&made))?, &judge, output)?);
    }
    let mut made = calibrate(&graph, &weights, &calibration, &CalibrationOptions::default())?;
    println!(
        "chosen: {}, maps in {}, kept {:?}, on calibration images {:?}",
        made.method,
        made.activations.name(),
        made.kept,
        made.agreement
    );
    report("int8, chosen", &logits(&mut engine(Precision::Int8, Some(&made))?, &judge, output)?);
    let (chosen, _) = choose(&graph, &weights, Some(&made), &calibration, &Bounds::default(), 0)?;
    println!("auto: {}, {}", chosen.precision.name(), chosen.why);
    made.chosen = Some(chosen);
    if let Some(file) = features {
        let size: usize = graph.input_shape().iter().product();
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            let mut engine = engine(precision, Some(&made))?;
            let mut out = std::io::BufWriter::new(std::fs::File::create(format!("{file}.{}", precision.name()))?);
            for paths in all.chunks(64) {
                let images = prepare(paths, &preprocess)?;
                debug_assert_eq!(images.len(), paths.len() * size);
                for value in logits(&mut engine, &images, graph.taps["features"])? {
                    out.write_all(&value.to_le_bytes())?;
                }
            }
        }
        let names: Vec<String> = all.iter().map(|p| p.display().to_string()).collect();
        std::fs::write(format!("{file}.names"), names.join("\n"))?;
    }
    Ok(())
}
