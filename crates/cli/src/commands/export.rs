//! `fieldmark export`.

use std::path::Path;

use anyhow::{Result, bail};
use engine::{Model, OnnxOptions, Verification, verify};
use serde_json::json;

use crate::args::{self, ExportFormat};
use crate::failure::Usage;
use crate::open;
use crate::output;

pub fn run(args: &args::Export) -> Result<()> {
    let format = args.format.unwrap_or(if open::is_onnx(&args.out) { ExportFormat::Onnx } else { ExportFormat::Folder });
    let model = open::network(&args.model)?;
    match format {
        ExportFormat::Onnx => {
            let options = OnnxOptions { opset: args.opset, with_preprocessing: args.with_preprocessing, probabilities: args.softmax };
            output::file(&args.out, model.to_onnx(&options)?)?;
        }
        ExportFormat::Folder => {
            if args.opset.is_some() || args.with_preprocessing || args.softmax {
                return Err(Usage("--opset, --with-preprocessing and --softmax belong to --format onnx".into()).into());
            }
            model.save_folder(&args.out, licence(&args.model))?;
        }
    }
    let verification = if args.verify.is_empty() { None } else { Some(compare(args, &model, format)?) };
    report(args, format, &model, verification.as_ref())?;
    match verification {
        Some(v) if !v.passes() => bail!("the written file differs from the model by more than {:.0e}", Verification::TOLERANCE),
        _ => Ok(()),
    }
}

fn compare(args: &args::Export, model: &Model, format: ExportFormat) -> Result<Verification> {
    let again = match format {
        ExportFormat::Onnx => Model::from_onnx(&args.out)?.0,
        ExportFormat::Folder => Model::load(&args.out.join("model.safetensors"))?,
    };
    let verification = verify(model, &again, &super::predict::expand(&args.verify)?)?;
    for (path, reason) in &verification.failed {
        eprintln!("set aside: {}: {reason}", path.display());
    }
    if verification.images == 0 {
        bail!("none of the images to verify with could be read");
    }
    Ok(verification)
}

/// Of published weights, as the catalogue says.
fn licence(model: &str) -> Option<&'static str> {
    data::fetch::entry(model).map(|entry| entry.licence)
}

fn size(path: &Path) -> u64 {
    if path.is_dir() {
        let files = std::fs::read_dir(path).into_iter().flatten().flatten();
        return files.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
    }
    std::fs::metadata(path).map_or(0, |m| m.len())
}

fn report(args: &args::Export, format: ExportFormat, model: &Model, verification: Option<&Verification>) -> Result<()> {
    let (kind, bytes) = (if format == ExportFormat::Onnx { "onnx" } else { "folder" }, size(&args.out));
    if args.json {
        let mut value = json!({
            "model": args.model, "out": args.out, "format": kind, "bytes": bytes, "classes": model.metadata.classes.len(),
            "input": model.graph.input_shape(),
        });
        if let (Some(object), Some(v)) = (value.as_object_mut(), verification) {
            object.insert("verification".into(), serde_json::to_value(v)?);
            object.insert("passes".into(), v.passes().into());
        }
        return output::json(&value);
    }
    output::line(&format!("{}: {kind}, {:.1} MB", args.out.display(), bytes as f64 / 1e6))?;
    if args.with_preprocessing && format == ExportFormat::Onnx {
        tell_inside(model);
    }
    let Some(v) = verification else { return Ok(()) };
    let rows = vec![
        vec!["images".into(), v.images.to_string()],
        vec!["largest difference, engine".into(), format!("{:.1e}", v.largest_engine)],
        vec!["largest difference, reference".into(), format!("{:.1e}", v.largest_reference)],
        vec!["same class".into(), format!("{:.1} %", 100.0 * v.top1_agreement)],
    ];
    output::line(&output::table(&["verified", "value"], &rows))
}

/// What of the preprocessing is left to the caller.
fn tell_inside(model: &Model) {
    let p = &model.metadata.preprocess;
    if p.resize != images::Resize::Squash {
        eprintln!(
            "note: {:?} is not expressed in the file: give it images of {}×{} pixels, resized and cropped beforehand",
            p.resize, p.size[0], p.size[1]
        );
    }
}
