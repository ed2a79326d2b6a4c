//! Architectures as builder functions that return graphs, and the names of their published weights.
//!
//! ```
//! let model = fieldmark_zoo::model("efficientnet_lite0")?;
//! let graph = model.build(&model.config().with_classes(2))?;
//! assert_eq!(graph.node(graph.taps["features"]).shape, [1280]);
//! # Ok::<(), fieldmark_zoo::ZooError>(())
//! ```
//!
//! Weights are named as in torchvision (ResNet, MobileNetV2) or timm (EfficientNet-Lite, ViT), so that their files load. Every graph taps
//! its pooled vector as `features` and the output of each stage under the stage's name; the last stage is `head`.

mod block;
mod config;
mod efficientnet_lite;
mod error;
mod lenet;
mod mobilenet_v2;
mod model;
mod preprocess;
mod published;
mod resnet;
mod tiny_cnn;
mod vit;

pub use config::{Config, Stem};
pub use error::ZooError;
pub use model::{Model, model, names, published_names};
pub use published::{Published, imagenet_classes, load_published};
