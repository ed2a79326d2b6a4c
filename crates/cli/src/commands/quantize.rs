//! `fieldmark quantize`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use data::{Dataset, fetch};
use engine::quantize::{Agreement, Bounds, CalibrationOptions, Kept, Measured, Quantization, calibrate_judged, choose};
use engine::{FORMAT_VERSION, Model};
use serde_json::json;

use crate::args;
use crate::failure::Usage;
use crate::open;
use crate::output;

/// Images that judge what was made, at most.
const JUDGES: usize = 512;
/// Images that choose between methods, widths and layers, at most: neither those that calibrate nor those that judge.
const CHOOSERS: usize = 192;

pub fn run(args: &args::Quantize) -> Result<()> {
    let mut model = open::model(&args.model)?;
    if let Some(chosen) = model.metadata.quantization.as_ref().filter(|_| !args.again) {
        let how = chosen.chosen.as_ref().map_or(String::new(), |c| format!(" (auto means {})", c.precision.name()));
        return Err(Usage(format!("{} is quantised already{how}: add --again to calibrate anew", args.model)).into());
    }
    let out = args.out.clone().unwrap_or_else(|| place(&args.model));
    let mut images = Images::read(args, &model)?;
    let [first, choosers, judges] = images.divide(args.images);
    model.metadata.quantization = None;
    let bounds = Bounds { top1: args.bound / 100.0, logit_error: args.logit_bound / 100.0 };
    let options = CalibrationOptions {
        method: args.method,
        bounds,
        most_kept: args.max_kept,
        threads: args.threads,
        ..CalibrationOptions::default()
    };
    eprintln!("calibrating on {} images, choosing by {} others, judging on {} further ones", first.count, choosers.count, judges.count);
    let mut made = calibrate_judged(&model.graph, &model.weights, first.values, choosers.values, &options)?;
    let (chosen, measured) = choose(&model.graph, &model.weights, Some(&made), judges.values, &bounds, args.threads)?;
    made.agreement = measured.iter().find(|m| m.precision == engine::Precision::Int8).map(|m| m.agreement.clone());
    made.chosen = Some(chosen);
    let counts = [first.count, choosers.count, judges.count];
    (model.metadata.format_version, model.metadata.quantization) = (FORMAT_VERSION, Some(made));
    model.save(&out)?;
    report(args, &model, &out, counts, images.failed, &measured, &bounds)
}

/// `MODEL-int8.safetensors` beside the model file, or here for a run folder or a name.
fn place(model: &str) -> PathBuf {
    let path = Path::new(model);
    let name = format!("{}-int8.safetensors", open::short_name(model));
    if path.is_dir() { path.join("model-int8.safetensors") } else { path.with_file_name(name) }
}

/// Preprocessed images, one after the other.
struct Images {
    values: Vec<f32>,
    size: usize,
    failed: usize,
}

struct Part<'a> {
    values: &'a [f32],
    count: usize,
}

impl Images {
    /// Those of the data, evenly spaced where there are more than are used.
    fn read(args: &args::Quantize, model: &Model) -> Result<Self> {
        let preprocess = &model.metadata.preprocess;
        let wanted = args.images + CHOOSERS + args.images.max(JUDGES);
        let size = model.graph.input_shape().iter().product::<usize>();
        let mut images = Self { values: Vec::new(), size, failed: 0 };
        let mut set_aside = |what: &str, reason: &str| {
            eprintln!("set aside: {what}: {reason}");
            images.failed += 1;
        };
        match source(&args.data)? {
            Source::Files(paths) => {
                for path in spaced(paths.len(), wanted).into_iter().map(|i| &paths[i]) {
                    match images::open(path, &preprocess.decode_options()) {
                        Ok(image) => images.values.extend(preprocess.apply(&image)),
                        Err(error) => set_aside(&path.display().to_string(), &error.to_string()),
                    }
                }
            }
            Source::Samples(dataset) => {
                for i in spaced(dataset.len(), wanted) {
                    match dataset.image(i, &preprocess.decode_options()) {
                        Ok(image) => images.values.extend(preprocess.apply(&image)),
                        Err(error) => set_aside(&dataset.samples[i].id, &error.reason()),
                    }
                }
            }
        }
        if images.values.is_empty() {
            bail!("{}: none of the {} images could be read", args.data, images.failed);
        }
        Ok(images)
    }

    /// Images to calibrate with, others to choose by and further ones to judge with; all for all three where there are too few.
    fn divide(&mut self, wanted: usize) -> [Part<'_>; 3] {
        let count = self.values.len() / self.size;
        if count < 12 {
            eprintln!("warning: {count} images only: they calibrate, choose and judge, so the agreement flatters; give it some hundreds");
            return [(); 3].map(|()| Part { values: &self.values, count });
        }
        // Every so many-th image calibrates, and of the others every so many-th chooses: the kinds of pictures are the same in all parts.
        let first = wanted.min(count / 3);
        let mut order: Vec<usize> = spaced(count, first);
        let rest: Vec<usize> = (0..count).filter(|i| !order.contains(i)).collect();
        let choosers: Vec<usize> = spaced(rest.len(), CHOOSERS.min(rest.len() / 3)).into_iter().map(|i| rest[i]).collect();
        order.extend(&choosers);
        order.extend(rest.into_iter().filter(|i| !choosers.contains(i)));
        self.values = order.iter().flat_map(|&i| self.values[i * self.size..(i + 1) * self.size].iter().copied()).collect();
        let (a, others) = self.values.split_at(first * self.size);
        let (b, c) = others.split_at(choosers.len() * self.size);
        [Part { values: a, count: first }, Part { values: b, count: choosers.len() }, Part { values: c, count: c.len() / self.size }]
    }
}

/// `wanted` of `count` numbers, evenly spaced.
fn spaced(count: usize, wanted: usize) -> Vec<usize> {
    let wanted = wanted.min(count);
    (0..wanted).map(|i| i * count / wanted).collect()
}

enum Source {
    Files(Vec<PathBuf>),
    Samples(Box<Dataset>),
}

/// Images by path, or the samples of a data set; labels are not needed.
fn source(data: &str) -> Result<Source> {
    let path = Path::new(data);
    let folder = if path.exists() { Some(path.to_path_buf()) } else { fetch::locate(data, &fetch::cache_dir()).filter(|at| at.is_dir()) };
    if let Some(folder) = folder.filter(|f| f.is_dir()) {
        let found = data::list_images(&folder)?.images;
        if !found.is_empty() {
            return Ok(Source::Files(found.into_iter().map(|(_, file)| file).collect()));
        }
    }
    Ok(Source::Samples(Box::new(Dataset::open(data)?)))
}

fn report(
    args: &args::Quantize,
    model: &Model,
    out: &Path,
    [calibrated, chose, judged]: [usize; 3],
    failed: usize,
    measured: &[Measured],
    bounds: &Bounds,
) -> Result<()> {
    let Some(made) = &model.metadata.quantization else { return Ok(()) };
    let auto = made.chosen.as_ref().map_or("f32", |c| c.precision.name());
    let bytes = std::fs::metadata(out).map_or(0, |m| m.len());
    if args.json {
        let rows: Vec<_> = measured
            .iter()
            .map(|m| {
                json!({ "precision": m.precision.name(), "ms": m.ms, "top1_agreement": m.agreement.top1,
                    "logit_error": m.agreement.logit_error, "within_bounds": within(m, bounds) })
            })
            .collect();
        return output::json(&json!({
            "model": args.model, "out": out, "bytes": bytes, "method": made.method.to_string(), "activations": made.activations, "calibrated_on": calibrated, "chosen_by": chose, "judged_on": judged,
            "set_aside": failed, "kept": made.kept, "measured": rows, "auto": auto,
        }));
    }
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|m| {
            let Agreement { top1, logit_error, .. } = m.agreement;
            let verdict = if within(m, bounds) { "yes" } else { "no" };
            vec![
                m.precision.name().into(),
                format!("{:.2}", m.ms),
                format!("{:.2} %", 100.0 * top1),
                format!("{:.3} %", 100.0 * logit_error),
                verdict.into(),
            ]
        })
        .collect();
    output::line(&output::table(&["precision", "ms an image", "top-1 as f32", "logit error", "within bounds"], &rows))?;
    output::line(&format!("\nranges by {}, maps in {}; {}", made.method, made.activations.name(), kept(made)))?;
    output::line(&format!("auto means {auto}\n{}: {:.1} MB", out.display(), bytes as f64 / 1e6))
}

fn within(measured: &Measured, bounds: &Bounds) -> bool {
    measured.precision == engine::Precision::F32 || bounds.hold(&measured.agreement)
}

fn kept(made: &Quantization) -> String {
    if made.kept.is_empty() {
        return "all layers in int8".into();
    }
    let name = |(layer, kept): (&String, &Kept)| format!("{layer} ({})", if *kept == Kept::Bf16 { "bf16" } else { "f32" });
    format!("{} layers kept wider: {}", made.kept.len(), made.kept.iter().map(name).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_judge_do_not_calibrate() {
        let mut images = Images { values: (0..20).map(|i| i as f32).collect(), size: 1, failed: 0 };
        let [a, b, c] = images.divide(5);
        assert_eq!((a.values, a.count, b.count, c.count), (&[0.0, 4.0, 8.0, 12.0, 16.0][..], 5, 5, 10));
        assert!(b.values.iter().all(|v| !a.values.contains(v)));
        assert!(c.values.iter().all(|v| !a.values.contains(v) && !b.values.contains(v)));
        let mut few = Images { values: vec![1.0, 2.0], size: 1, failed: 0 };
        assert_eq!(few.divide(5).map(|part| part.count), [2; 3]);
    }

    #[test]
    fn the_file_lies_beside_the_model() {
        assert_eq!(place("runs/a/model.safetensors"), PathBuf::from("runs/a/model-int8.safetensors"));
        assert_eq!(place("efficientnet_lite0"), PathBuf::from("efficientnet_lite0-int8.safetensors"));
    }
}
