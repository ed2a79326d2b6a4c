//! The classifier: a model file opened, pictures in, names out.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use images::{Image, Preprocess};
use rayon::prelude::*;

use crate::error::{ClassifyError, ModelError};
use crate::model::{Model, TargetKind};
use crate::run::{Engine, EngineOptions};

/// What a classifier says about one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The most probable class.
    pub label: String,
    /// Its probability, in `0..=1`.
    pub probability: f32,
    /// The probability of each class, in the model's order.
    pub probabilities: Vec<f32>,
    classes: Arc<[String]>,
}

impl Prediction {
    /// The `k` most probable classes, best first; of equals the earlier class first.
    pub fn top(&self, k: usize) -> Vec<(String, f32)> {
        let mut order: Vec<usize> = (0..self.probabilities.len()).collect();
        order.sort_by(|&a, &b| self.probabilities[b].total_cmp(&self.probabilities[a]).then(a.cmp(&b)));
        order.into_iter().take(k).map(|i| (self.classes[i].clone(), self.probabilities[i])).collect()
    }
}

/// A model ready to classify; shared freely between threads.
///
/// ```
/// # use fieldmark_engine::{Metadata, Model};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("model.safetensors");
/// # let mut b = graph::GraphBuilder::new("tiny", [3, 8, 8]);
/// # let x = b.conv("conv", b.input(), graph::Conv2d::new(3, 4, 3));
/// # let x = b.global_avg_pool("pool", x);
/// # let x = b.linear("fc", x, 2);
/// # let graph = b.finish(x)?;
/// # let weights = graph.init_weights(7);
/// # let classes = vec!["robin".to_string(), "wren".to_string()];
/// # Model { graph, weights, metadata: Metadata::new(classes, images::Preprocess::imagenet([8, 8])) }.save(&path)?;
/// # let image = images::Image::from_rgb8(16, 16, vec![128; 16 * 16 * 3])?;
/// use fieldmark_engine::Classifier;
///
/// let classifier = Classifier::open(&path)?;
/// let prediction = classifier.classify(&image)?;
/// println!("{} ({:.0} %)", prediction.label, 100.0 * prediction.probability);
/// assert!(classifier.classes().contains(&prediction.label));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Classifier {
    model: Model,
    engine: Mutex<Engine>,
    classes: Arc<[String]>,
}

impl Classifier {
    /// Opens a model file.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        Self::new(Model::load(path.as_ref())?)
    }

    /// Takes a model from memory.
    ///
    /// # Errors
    /// As [`Model::check`].
    pub fn new(model: Model) -> Result<Self, ModelError> {
        Self::with_options(model, EngineOptions::default())
    }

    /// Takes a model from memory, with a number of threads and a precision; int8 and `auto` use the model's quantization.
    ///
    /// # Errors
    /// As [`Model::check`].
    pub fn with_options(model: Model, options: EngineOptions) -> Result<Self, ModelError> {
        model.check()?;
        let engine = Mutex::new(Engine::quantized(&model.graph, &model.weights, model.metadata.quantization.as_ref(), options)?);
        let classes = model.metadata.classes.clone().into();
        Ok(Self { model, engine, classes })
    }

    /// The class names, in the order of the probabilities.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// How images are prepared.
    pub fn preprocess(&self) -> &Preprocess {
        &self.model.metadata.preprocess
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Classifies one image.
    ///
    /// # Errors
    /// What the engine says.
    pub fn classify(&self, image: &Image) -> Result<Prediction, ClassifyError> {
        let probabilities = self.probabilities(&self.preprocess().apply(image))?;
        Ok(self.prediction(probabilities))
    }

    /// Classifies images in one batch; predictions in their order.
    ///
    /// # Errors
    /// What the engine says.
    pub fn classify_batch(&self, images: &[Image]) -> Result<Vec<Prediction>, ClassifyError> {
        let size = self.values_per_image();
        let mut batch = vec![0.0; images.len() * size];
        batch.par_chunks_mut(size).zip(images).for_each(|(values, image)| self.preprocess().apply_into(image, values));
        self.classify_values(&batch)
    }

    /// Classifies a preprocessed batch `[n, C, H, W]`.
    ///
    /// # Errors
    /// A batch that is no whole number of images.
    pub fn classify_values(&self, batch: &[f32]) -> Result<Vec<Prediction>, ClassifyError> {
        let probabilities = self.probabilities(batch)?;
        Ok(probabilities.chunks_exact(self.classes.len()).map(|p| self.prediction(p.to_vec())).collect())
    }

    /// The probabilities `[n, classes]` of a preprocessed batch `[n, C, H, W]`, with the model's temperature: softmax, or a sigmoid for
    /// each class where a sample may have several.
    ///
    /// # Errors
    /// A batch that is no whole number of images.
    pub fn probabilities(&self, batch: &[f32]) -> Result<Vec<f32>, ClassifyError> {
        let mut logits = self.logits(batch)?;
        logits.chunks_exact_mut(self.classes.len()).for_each(|row| self.normalise(row));
        Ok(logits)
    }

    /// Logits into probabilities.
    fn normalise(&self, row: &mut [f32]) {
        let temperature = self.model.metadata.temperature.unwrap_or(1.0);
        match self.model.metadata.target {
            TargetKind::Label | TargetKind::Soft => softmax(row, temperature),
            TargetKind::Labels => row.iter_mut().for_each(|x| *x = (1.0 / (1.0 + (-f64::from(*x) / temperature).exp())) as f32),
        }
    }

    /// What a row of logits says.
    pub(crate) fn judge(&self, logits: &[f32]) -> Prediction {
        let mut probabilities = logits.to_vec();
        self.normalise(&mut probabilities);
        self.prediction(probabilities)
    }

    pub(crate) fn engine(&self) -> &Mutex<Engine> {
        &self.engine
    }

    /// The logits `[n, classes]` of a preprocessed batch `[n, C, H, W]`, before any temperature.
    ///
    /// # Errors
    /// A batch that is no whole number of images.
    pub fn logits(&self, batch: &[f32]) -> Result<Vec<f32>, ClassifyError> {
        let expected = self.values_per_image();
        if !batch.len().is_multiple_of(expected) {
            return Err(ClassifyError::Batch { expected, found: batch.len() });
        }
        let mut logits = Vec::new();
        // A panic elsewhere leaves buffers that the next run overwrites: a poisoned lock is as good as any.
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.run_into(batch, self.model.graph.output, &mut logits)?;
        Ok(logits)
    }

    /// Values of one preprocessed image; at least 1, since the model was checked.
    fn values_per_image(&self) -> usize {
        self.preprocess().shape().iter().product::<usize>().max(1)
    }

    fn prediction(&self, probabilities: Vec<f32>) -> Prediction {
        let better = |best: usize, i: usize| if probabilities[i] > probabilities[best] { i } else { best };
        let best = (0..probabilities.len()).reduce(better).unwrap_or(0);
        let (label, probability) = (self.classes[best].clone(), probabilities[best]);
        Prediction { label, probability, probabilities, classes: self.classes.clone() }
    }
}

/// Softmax of `row / temperature`, summed in f64.
fn softmax(row: &mut [f32], temperature: f64) {
    let top = row.iter().fold(f64::NEG_INFINITY, |top, &x| top.max(f64::from(x)));
    let each: Vec<f64> = row.iter().map(|&x| ((f64::from(x) - top) / temperature).exp()).collect();
    let sum: f64 = each.iter().sum();
    row.iter_mut().zip(each).for_each(|(x, e)| *x = (e / sum) as f32);
}
