//! `fieldmark import`.

use anyhow::Result;
use engine::{Model, TargetKind, read_labels};
use images::{Interpolation, Preprocess, Resize};
use serde_json::json;

use crate::args::{self, Filter, Fit};
use crate::failure::Usage;
use crate::output;

pub fn run(args: &args::Import) -> Result<()> {
    if args.crop.is_some() && args.fit.is_some_and(|fit| fit != Fit::Crop) {
        return Err(Usage("--crop belongs to --fit crop".into()).into());
    }
    let (mut model, mut notes) = Model::from_onnx_at(&args.file, args.size)?;
    let metadata = &mut model.metadata;
    if let Some(path) = &args.labels {
        let labels = read_labels(path)?;
        if labels.len() != metadata.classes.len() {
            let (found, expected) = (labels.len(), metadata.classes.len());
            return Err(Usage(format!("{}: {found} class names, but the network has {expected} outputs", path.display())).into());
        }
        metadata.classes = labels;
        notes.retain(|note| !note.contains("names no classes"));
    }
    if set_preprocess(&mut metadata.preprocess, args) {
        notes.retain(|note| !note.contains("names no preprocessing"));
    }
    metadata.preprocess.check().map_err(|error| Usage(error.to_string()))?;
    if args.multi_label {
        metadata.target = TargetKind::Labels;
    }
    model.save(&args.out)?;
    for note in &notes {
        eprintln!("note: {}: {note}", args.file.display());
    }
    report(args, &model, &notes)
}

/// Sets what was given; whether anything was.
fn set_preprocess(p: &mut Preprocess, args: &args::Import) -> bool {
    if !args.mean.is_empty() {
        p.mean.clone_from(&args.mean);
    }
    if !args.std.is_empty() {
        p.std.clone_from(&args.std);
    }
    let crop = |crop_pct| Resize::ShorterSide { crop_pct };
    match (args.fit, args.crop) {
        (Some(Fit::Stretch), _) => p.resize = Resize::Squash,
        (Some(Fit::Letterbox), _) => p.resize = Resize::Letterbox { fill: 0 },
        (Some(Fit::Crop), part) => p.resize = crop(part.unwrap_or(0.875)),
        (None, Some(part)) => p.resize = crop(part),
        (None, None) => {}
    }
    if let Some(filter) = args.filter {
        p.interpolation = match filter {
            Filter::Nearest => Interpolation::Nearest,
            Filter::Bilinear => Interpolation::Bilinear,
            Filter::Bicubic => Interpolation::Bicubic,
            Filter::Lanczos3 => Interpolation::Lanczos3,
        };
    }
    !args.mean.is_empty() || !args.std.is_empty() || args.fit.is_some() || args.crop.is_some() || args.filter.is_some()
}

fn report(args: &args::Import, model: &Model, notes: &[String]) -> Result<()> {
    let (metadata, input) = (&model.metadata, model.graph.input_shape());
    if args.json {
        return output::json(&json!({
            "file": args.file, "out": args.out, "classes": metadata.classes, "input": input, "preprocess": metadata.preprocess,
            "parameters": model.weights.values().map(|t| t.data.len()).sum::<usize>(), "notes": notes,
        }));
    }
    let p = &metadata.preprocess;
    let rows = vec![
        vec!["written".into(), args.out.display().to_string()],
        vec!["input".into(), format!("{} channels, {}×{} pixels", input[0], input[1], input[2])],
        vec!["classes".into(), first_names(&metadata.classes)],
        vec!["resize".into(), format!("{:?}, {:?}", p.resize, p.interpolation)],
        vec!["mean".into(), format!("{:?}", p.mean)],
        vec!["std".into(), format!("{:?}", p.std)],
    ];
    output::line(&output::table(&["imported", "value"], &rows))
}

/// `3: cat, dog, fox`, or the first few of many.
fn first_names(classes: &[String]) -> String {
    let shown = classes.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
    format!("{}: {shown}{}", classes.len(), if classes.len() > 4 { ", …" } else { "" })
}
