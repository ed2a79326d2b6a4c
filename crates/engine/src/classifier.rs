//! The classifier: a model file opened, pictures in, names out.

use std::path::Path;
use std::sync::Mutex;

use images::{Image, Preprocess};

use crate::error::{ClassifyError, ModelError};
use crate::model::Model;
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
    classes: std::sync::Arc<[String]>,
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
#[derive(Debug)]
pub struct Classifier {
    model: Model,
    engine: Mutex<Engine>,
    classes: std::sync::Arc<[String]>,
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

    /// Takes a model from memory, with a number of threads.
    ///
    /// # Errors
    /// As [`Model::check`].
    pub fn with_options(model: Model, options: EngineOptions) -> Result<Self, ModelError> {
        model.check()?;
        let engine = Mutex::new(Engine::new(&model.graph, &model.weights, options)?);
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
        let _ = image;
        unimplemented!()
    }

    /// Classifies images in one batch; predictions in their order.
    ///
    /// # Errors
    /// What the engine says.
    pub fn classify_batch(&self, images: &[Image]) -> Result<Vec<Prediction>, ClassifyError> {
        let _ = images;
        unimplemented!()
    }

    /// The probabilities `[n, classes]` of a preprocessed batch `[n, C, H, W]`, with the model's temperature.
    ///
    /// # Errors
    /// A batch that is no whole number of images.
    pub fn probabilities(&self, batch: &[f32]) -> Result<Vec<f32>, ClassifyError> {
        let _ = (batch, &self.engine);
        unimplemented!()
    }
}
