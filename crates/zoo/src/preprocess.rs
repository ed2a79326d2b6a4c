//! How each family's images are prepared.

use images::{ChannelMode, Interpolation, Preprocess, Resize};

use crate::config::Config;
use crate::model::{Input, Model};

impl Model {
    /// How images are prepared for the model, as its original prepared them: size, filter, crop, channels, mean and deviation.
    ///
    /// EfficientNet-Lite crops its published size out of 32 pixels more: .875 for Lite0. Small images (where the small stem is chosen) are not cropped. One channel means grey, with the original's mean and deviation
    /// averaged over its channels; any other number means RGB.
    pub fn preprocess(&self, config: &Config) -> Preprocess {
        let (mean, std) = match self.input {
            Input::Digits => ([0.1307; 3], [0.3081; 3]),
            Input::Torchvision => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            Input::Tensorflow | Input::Augreg => ([0.5; 3], [0.5; 3]),
        };
        let (interpolation, crop_pct) = match self.input {
            Input::Digits => (Interpolation::Bilinear, 1.0),
            Input::Torchvision => (Interpolation::Bilinear, 0.875),
            Input::Tensorflow => (Interpolation::Bicubic, self.config().image_size[0] as f32 / (self.config().image_size[0] + 32) as f32),
            Input::Augreg => (Interpolation::Bicubic, 0.9),
        };
        let grey = config.in_chans == 1;
        let channels = |values: [f32; 3]| match grey {
            true => vec![values.iter().sum::<f32>() / 3.0],
            false => values.to_vec(),
        };
        Preprocess {
            size: config.image_size,
            resize: Resize::ShorterSide { crop_pct: if config.small_stem() { 1.0 } else { crop_pct } },
            interpolation,
            antialias: true,
            channels: if grey { ChannelMode::Gray } else { ChannelMode::Rgb },
            mean: channels(mean),
            std: channels(std),
            background: [0; 3],
        }
    }
}
