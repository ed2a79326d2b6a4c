//! Models as ONNX files and back, with class names and preprocessing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use graph::onnx::{ExportOptions, ExportedOutput, FileInfo, ImportOptions, ImportedOutput, Preprocessing, Resampling};
use graph::{Tensor, reference};
use images::{ChannelMode, Interpolation, Preprocess, Resize};
use serde::Serialize;

use crate::classifier::Classifier;
use crate::error::{ClassifyError, ModelError};
use crate::model::{Metadata, Model, TargetKind};

/// Key of `metadata_props` under which everything but graph and weights stands, as in a model file.
const KEY: &str = "fieldmark";

/// How a model becomes an ONNX file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OnnxOptions {
    /// Version of the ONNX operators; 17 where none is given, 18 where a stretch with antialiasing is put in.
    pub opset: Option<i64>,
    /// Input `image`, `uint8` `[N, H, W, C]`: conversion, scaling and normalisation inside, and the stretch of models that stretch.
    pub with_preprocessing: bool,
    /// Probabilities, with the model's temperature, instead of logits.
    pub probabilities: bool,
}

impl Model {
    /// The bytes of an ONNX file of the model. Class names stand in its metadata as `labels`, preprocessing as `preprocessing`, and
    /// everything that a model file knows as `fieldmark`, all of them JSON.
    ///
    /// # Errors
    /// Parts that do not fit one another, or what `graph::onnx::export` says.
    pub fn to_onnx(&self, options: &OnnxOptions) -> Result<Vec<u8>, ModelError> {
        self.check()?;
        let text = |value: serde_json::Result<String>| value.map_err(|e| ModelError::Inconsistent { path: None, problem: e.to_string() });
        let m = &self.metadata;
        let metadata = BTreeMap::from([
            (KEY.to_string(), text(serde_json::to_string(m))?),
            ("labels".to_string(), text(serde_json::to_string(&m.classes))?),
            ("preprocessing".to_string(), text(serde_json::to_string(&m.preprocess))?),
        ]);
        let preprocessing = options.with_preprocessing.then(|| inside(&m.preprocess));
        let least = if preprocessing.as_ref().is_some_and(|p| p.resize.is_some()) { 18 } else { 17 };
        let temperature = m.temperature.unwrap_or(1.0) as f32;
        let output = match (options.probabilities, m.target) {
            (false, _) => ExportedOutput::Logits,
            (true, TargetKind::Label | TargetKind::Soft) => ExportedOutput::Softmax { temperature },
            (true, TargetKind::Labels) => ExportedOutput::Sigmoid { temperature },
        };
        let options = ExportOptions { opset: options.opset.unwrap_or(least), output, preprocessing, metadata, ..ExportOptions::default() };
        Ok(graph::onnx::export(&self.graph, &self.weights, &options)?)
    }

    /// Reads an ONNX file: one of ours with its classes and preprocessing, or a classifier or backbone from elsewhere, for which the usual
    /// ones of ImageNet are taken. What was assumed or left out is told, one sentence each.
    ///
    /// # Errors
    /// As `graph::onnx::read`; metadata of ours that does not fit.
    pub fn from_onnx(path: &Path) -> Result<(Self, Vec<String>), ModelError> {
        Self::from_onnx_at(path, None)
    }

    /// [`Self::from_onnx`] with the `[height, width]` of the images, in pixels, for files that leave it open; 224×224 where none is given.
    ///
    /// # Errors
    /// As [`Self::from_onnx`]; a size that contradicts the file's.
    pub fn from_onnx_at(path: &Path, image_size: Option<[usize; 2]>) -> Result<(Self, Vec<String>), ModelError> {
        let size = image_size.unwrap_or([224; 2]);
        let imported = graph::onnx::read(path, &ImportOptions { image_size: Some(size), ..ImportOptions::default() })
            .map_err(|source| ModelError::Onnx { path: Some(path.to_path_buf()), source: Box::new(source) })?;
        let mut notes = imported.info.notes.clone();
        let own = imported.info.metadata.get(KEY).and_then(|text| serde_json::from_str::<Metadata>(text).ok());
        let metadata = match own {
            // Probabilities in the file: what divided the logits is in the weights now.
            Some(own) if imported.info.output != ImportedOutput::Logits => Metadata { temperature: None, ..own },
            Some(own) => own,
            None => foreign(&imported.graph, &imported.info, &mut notes),
        };
        let fixed = imported.graph.input_shape();
        if let Some([h, w]) = image_size.filter(|size| size[..] != fixed[1..]) {
            let problem =
                format!("images of {h}×{w} pixels are asked for, but the file's input is {}×{}: leave the size out", fixed[1], fixed[2]);
            return Err(ModelError::Inconsistent { path: Some(path.to_path_buf()), problem });
        }
        let model = Self { graph: imported.graph, weights: imported.weights, metadata };
        model.check().map_err(|error| error.at(path))?;
        Ok((model, notes))
    }
}

/// What of a preprocessing can stand in the file: a stretch, the filter, mean and deviation.
fn inside(p: &Preprocess) -> Preprocessing {
    let resampling = match p.interpolation {
        Interpolation::Nearest => Some(Resampling::Nearest),
        Interpolation::Bilinear => Some(Resampling::Linear { antialias: p.antialias }),
        Interpolation::Bicubic => Some(Resampling::Cubic { antialias: p.antialias }),
        // ONNX has no such filter.
        Interpolation::Lanczos3 => None,
    };
    let resize = if p.resize == Resize::Squash { resampling } else { None };
    Preprocessing { mean: p.mean.clone(), std: p.std.clone(), resize }
}

/// Classes and preprocessing for a file that says nothing of them.
fn foreign(graph: &graph::Graph, info: &FileInfo, notes: &mut Vec<String>) -> Metadata {
    let count = graph.num_classes();
    let classes: Vec<String> = if count == 1000 {
        notes.push("the file names no classes: 1,000 logits are taken for those of ImageNet, in their usual order".into());
        zoo::imagenet_classes().into_iter().map(String::from).collect()
    } else {
        notes.push(format!("the file names no classes: they are called 0 to {}", count.saturating_sub(1)));
        (0..count).map(|class| class.to_string()).collect()
    };
    let shape = graph.input_shape();
    let size = [shape[1], shape[2]];
    let mut preprocess = match shape[0] {
        1 => Preprocess::gray(size, 0.5, 0.5),
        _ => Preprocess::imagenet(size),
    };
    match &info.input_affine {
        Some(affine) if affine.len() == preprocess.channels.count() && affine.iter().all(|a| a.0 > 0.0) => {
            // Slopes of about 1/255 belong to pixels from 0 to 255, others to values from 0 to 1.
            let unit = if affine.iter().all(|a| a.0 < 0.1) { 255.0 } else { 1.0 };
            preprocess.mean = affine.iter().map(|&(scale, shift)| -shift / scale / unit).collect();
            preprocess.std = affine.iter().map(|&(scale, _)| 1.0 / scale / unit).collect();
            notes.push(format!("mean {:?} and deviation {:?} were in the file", preprocess.mean, preprocess.std));
        }
        _ => notes.push(format!(
            "the file names no preprocessing: {} with mean {:?} and deviation {:?}, shorter side to {}/0.875 and the centre, as for ImageNet",
            if preprocess.channels == ChannelMode::Rgb { "RGB" } else { "grey" },
            preprocess.mean,
            preprocess.std,
            size[0]
        )),
    }
    let target = if info.output == ImportedOutput::Sigmoid { TargetKind::Labels } else { TargetKind::Label };
    Metadata { created_by: format!("ONNX file of {}", info.producer), target, ..Metadata::new(classes, preprocess) }
}

/// How far an exported file, read again, is from the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// Images compared.
    pub images: usize,
    /// Images that could not be read, with the reason.
    pub failed: Vec<(PathBuf, String)>,
    /// Largest difference of a logit in our engine, relative to the larger of 1 and its size.
    pub largest_engine: f64,
    /// The same for the reference interpreter.
    pub largest_reference: f64,
    /// Share of images on which the file and the model name the same class, in `0..=1`.
    pub top1_agreement: f64,
}

impl Verification {
    /// Largest difference that passes.
    pub const TOLERANCE: f64 = 1e-4;

    /// Whether every difference is within [`Self::TOLERANCE`].
    pub fn passes(&self) -> bool {
        self.images > 0 && self.largest_engine <= Self::TOLERANCE && self.largest_reference <= Self::TOLERANCE
    }
}

/// Compares `model` with its exported file read again (`again`), image by image, in the engine and in the reference interpreter.
///
/// # Errors
/// Models that do not fit together, or what the engine says; an image that cannot be read is counted.
pub fn verify(model: &Model, again: &Model, paths: &[PathBuf]) -> Result<Verification, ClassifyError> {
    let (ours, theirs) = (Classifier::new(model.clone())?, Classifier::new(again.clone())?);
    let decode = model.metadata.preprocess.decode_options();
    let mut result = Verification { images: 0, failed: Vec::new(), largest_engine: 0.0, largest_reference: 0.0, top1_agreement: 0.0 };
    // Where the file holds a temperature, its logits are the model's divided by it.
    let temperature = match (model.metadata.temperature, again.metadata.temperature) {
        (Some(t), None) => t as f32,
        _ => 1.0,
    };
    let mut agreed = 0;
    for path in paths {
        let image = match images::open(path, &decode) {
            Ok(image) => image,
            Err(error) => {
                result.failed.push((path.clone(), error.to_string()));
                continue;
            }
        };
        let values = model.metadata.preprocess.apply(&image);
        let wanted: Vec<f32> = ours.logits(&values)?.into_iter().map(|v| v / temperature).collect();
        let found = theirs.logits(&values)?;
        let shape = [&[1], again.graph.input_shape()].concat();
        let input = Tensor { shape, data: values };
        let slow = reference::run(&again.graph, &again.weights, &input, &[])?.remove(0).data;
        result.largest_engine = result.largest_engine.max(difference(&found, &wanted));
        result.largest_reference = result.largest_reference.max(difference(&slow, &wanted));
        agreed += usize::from(best(&found) == best(&wanted));
        result.images += 1;
    }
    result.top1_agreement = agreed as f64 / result.images.max(1) as f64;
    Ok(result)
}

fn difference(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let one = |(&x, &y): (&f32, &f32)| {
        let d = f64::from((x - y).abs()) / f64::from(y.abs()).max(1.0);
        if d.is_nan() { f64::INFINITY } else { d }
    };
    a.iter().zip(b).map(one).fold(0.0, f64::max)
}

fn best(values: &[f32]) -> Option<usize> {
    (0..values.len()).reduce(|best, i| if values[i] > values[best] { i } else { best })
}
