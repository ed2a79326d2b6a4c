//! The list of architectures.

use graph::{Graph, GraphError};

use crate::config::{Config, Stem};
use crate::error::ZooError;
use crate::published::{LITE0, LITE1, LITE2, Published};
use crate::{efficientnet_lite, lenet, mobilenet_v2, resnet, tiny_cnn, vit};

/// An architecture: a name, its published settings and a builder.
#[derive(Debug)]
pub struct Model {
    name: &'static str,
    config: Config,
    pub(crate) input: Input,
    build: fn(&'static str, &Config) -> Result<Graph, GraphError>,
    published: Option<&'static Published>,
}

/// How the original's images are prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// MNIST's mean and deviation, no crop.
    Digits,
    /// ImageNet's mean and deviation, bilinear, crop .875 (torchvision).
    Torchvision,
    /// -1..1, bicubic, the published size out of 32 pixels more (TensorFlow).
    Tensorflow,
    /// -1..1, bicubic, crop .9 (AugReg).
    Augreg,
}

const fn imagenet(size: usize, drop_rate: f32) -> Config {
    Config { in_chans: 3, num_classes: 1000, image_size: [size; 2], stem: Stem::Auto, drop_rate, drop_path_rate: 0.0 }
}

const fn digits(drop_rate: f32) -> Config {
    Config { in_chans: 1, num_classes: 10, image_size: [28; 2], stem: Stem::Auto, drop_rate, drop_path_rate: 0.0 }
}

macro_rules! model {
    ($name:literal, $config:expr, $input:ident, $build:expr) => {
        Model { name: $name, config: $config, input: Input::$input, build: $build, published: None }
    };
    ($name:literal, $config:expr, $input:ident, $build:expr, $published:ident) => {
        Model { name: $name, config: $config, input: Input::$input, build: $build, published: Some(&$published) }
    };
}

static MODELS: [Model; 12] = [
    model!("lenet5", digits(0.0), Digits, lenet::lenet5),
    model!("tiny_cnn", digits(0.1), Digits, tiny_cnn::tiny_cnn),
    model!("resnet18", imagenet(224, 0.0), Torchvision, resnet::resnet18),
    model!("resnet34", imagenet(224, 0.0), Torchvision, resnet::resnet34),
    model!("resnet50", imagenet(224, 0.0), Torchvision, resnet::resnet50),
    model!("mobilenet_v2", imagenet(224, 0.2), Torchvision, mobilenet_v2::mobilenet_v2),
    model!("efficientnet_lite0", imagenet(224, 0.2), Tensorflow, efficientnet_lite::efficientnet_lite::<0>, LITE0),
    model!("efficientnet_lite1", imagenet(240, 0.2), Tensorflow, efficientnet_lite::efficientnet_lite::<1>, LITE1),
    model!("efficientnet_lite2", imagenet(260, 0.3), Tensorflow, efficientnet_lite::efficientnet_lite::<2>, LITE2),
    model!("efficientnet_lite3", imagenet(280, 0.3), Tensorflow, efficientnet_lite::efficientnet_lite::<3>),
    model!("efficientnet_lite4", imagenet(300, 0.3), Tensorflow, efficientnet_lite::efficientnet_lite::<4>),
    model!("vit_tiny_patch16_224", imagenet(224, 0.0), Augreg, vit::vit_tiny),
];

/// The model of a name.
///
/// # Errors
/// [`ZooError::Unknown`], which lists the names.
pub fn model(name: &str) -> Result<&'static Model, ZooError> {
    MODELS.iter().find(|model| model.name == name).ok_or_else(|| ZooError::Unknown { name: name.into() })
}

/// All names, small networks first.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|model| model.name)
}

/// Names of the models with published weights.
pub fn published_names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().filter(|model| model.published.is_some()).map(|model| model.name)
}

impl Model {
    /// The name, as torchvision or timm spell it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The published settings, to be changed where wanted.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// Builds the network.
    ///
    /// ```
    /// let resnet = fieldmark_zoo::model("resnet18")?;
    /// let graph = resnet.build(&resnet.config().with_classes(10).with_input(1, [28, 28]))?;
    /// assert_eq!(graph.input_shape(), [1, 28, 28]);
    /// assert_eq!(graph.num_classes(), 10);
    /// assert_eq!(graph.stages, ["stem", "layer1", "layer2", "layer3", "layer4", "head"]);
    /// # Ok::<(), fieldmark_zoo::ZooError>(())
    /// ```
    ///
    /// # Errors
    /// Settings that the architecture cannot have, named; images too small for its layers.
    pub fn build(&self, config: &Config) -> Result<Graph, ZooError> {
        config.check(self.name)?;
        self.check_family(config)?;
        (self.build)(self.name, config).map_err(|source| ZooError::Graph { model: self.name, source })
    }

    /// The published weights, where there are any.
    pub fn published(&self) -> Option<&'static Published> {
        self.published
    }

    fn check_family(&self, config: &Config) -> Result<(), ZooError> {
        let refuse =
            |setting: &'static str, expected: String, found: String| Err(ZooError::Config { model: self.name, setting, expected, found });
        if self.input == Input::Digits && config.drop_path_rate > 0.0 {
            return refuse("drop_path_rate", "0 (it has no residual blocks)".into(), config.drop_path_rate.to_string());
        }
        if self.input == Input::Augreg {
            let patch = vit::patch_size(config);
            if config.image_size.iter().any(|side| side % patch != 0) {
                return refuse("image_size", format!("multiples of the patch size {patch}"), format!("{:?}", config.image_size));
            }
        }
        Ok(())
    }
}
