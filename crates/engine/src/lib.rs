//! Inference plans, the model file and the classifier, Fieldmark's front door.
//!
//! A [`Model`] is one file: graph, weights, class names, preprocessing and how it was made. A [`Classifier`] opens one and names what is
//! on a picture; an [`Engine`] runs any graph on batches, with batch norms folded, activations fused and weights packed once.

mod classifier;
mod error;
mod folder;
mod fuse;
mod labels;
mod lower;
mod model;
mod onnx;
mod pipeline;
mod plan;
mod precision;
mod profile;
pub mod quantize;
mod run;
mod step;
mod stream;
mod timings;
pub mod train;

pub use classifier::{Classifier, Prediction};
pub use error::{ClassifyError, ModelError};
pub use labels::read_labels;
pub use model::{FORMAT_VERSION, Metadata, Model, TargetKind};
pub use onnx::{OnnxOptions, Verification, verify};
pub use pipeline::{Load, Pass, PipelineOptions};
pub use precision::Precision;
pub use profile::StepProfile;
pub use run::{Engine, EngineOptions};
pub use stream::{PathOutcome, StreamOptions};
pub use timings::Timings;
