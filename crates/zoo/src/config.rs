//! What can be chosen about an architecture.

use serde::{Deserialize, Serialize};

use crate::error::ZooError;

/// The first layers of a network: how soon it gives up resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// [`Stem::Small`] where the shorter side is at most 64 pixels, else [`Stem::Standard`].
    #[default]
    Auto,
    /// The published stem, for photographs of 200 pixels and more.
    Standard,
    /// For images of 28 or 32 pixels. ResNet: 3×3 with stride 1 and no max pooling; MobileNet, EfficientNet: stride 1; ViT: patches of 4
    /// pixels. The small networks `lenet5` and `tiny_cnn` have one stem only.
    Small,
}

/// The shorter side up to which [`Stem::Auto`] chooses the small stem.
const SMALL_SIDE: usize = 64;

/// What can be chosen about an architecture. [`Model::config`](crate::Model::config) is the published choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Channels of the images: 1 for grey, 3 for RGB.
    pub in_chans: usize,
    /// Number of logits.
    pub num_classes: usize,
    /// `[height, width]` of the images in pixels.
    pub image_size: [usize; 2],
    /// The first layers.
    pub stem: Stem,
    /// Dropout before the classifier, in `0..1`.
    pub drop_rate: f32,
    /// Stochastic depth of the last residual block, in `0..1`; it grows linearly from 0 at the first block.
    pub drop_path_rate: f32,
}

impl Config {
    /// Sets the number of logits.
    pub fn with_classes(mut self, num_classes: usize) -> Self {
        self.num_classes = num_classes;
        self
    }

    /// Sets the images' `[channels, height, width]`.
    pub fn with_input(mut self, in_chans: usize, image_size: [usize; 2]) -> Self {
        self.in_chans = in_chans;
        self.image_size = image_size;
        self
    }

    /// Whether the small stem is chosen.
    pub fn small_stem(&self) -> bool {
        match self.stem {
            Stem::Auto => self.image_size[0].min(self.image_size[1]) <= SMALL_SIDE,
            Stem::Standard => false,
            Stem::Small => true,
        }
    }

    pub(crate) fn input_shape(&self) -> [usize; 3] {
        [self.in_chans, self.image_size[0], self.image_size[1]]
    }

    /// Refuses values that no architecture can have.
    pub(crate) fn check(&self, model: &'static str) -> Result<(), ZooError> {
        let refuse = |setting: &'static str, expected: &str, found: String| {
            Err(ZooError::Config { model, setting, expected: expected.into(), found })
        };
        if self.in_chans == 0 {
            return refuse("in_chans", "at least 1", "0".into());
        }
        if self.num_classes == 0 {
            return refuse("num_classes", "at least 1", "0".into());
        }
        if self.image_size.contains(&0) {
            return refuse("image_size", "at least 1 pixel each way", format!("{:?}", self.image_size));
        }
        for (setting, rate) in [("drop_rate", self.drop_rate), ("drop_path_rate", self.drop_path_rate)] {
            if !(0.0..1.0).contains(&rate) {
                return refuse(setting, "a probability in 0..1", rate.to_string());
            }
        }
        Ok(())
    }
}
