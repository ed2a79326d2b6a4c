//! How a model sees a picture: the one specification, stored with the model and used in training, prediction and export.

use serde::{Deserialize, Serialize};

use crate::{ImageError, image::Image, resize::Interpolation};

/// How a picture of any shape becomes one of the model's size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resize {
    /// Scale so that the picture covers `size / crop_pct`, then take the centre.
    ShorterSide {
        /// The part of the scaled picture's shorter side that is kept, in (0, 1].
        crop_pct: f32,
    },
    /// Stretch both sides.
    Squash,
    /// Fit inside and fill the rest.
    Letterbox {
        /// The value of the border in every channel, 0..=255.
        fill: u8,
    },
}

/// Which channels a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelMode {
    /// One: ITU-R 601 luma.
    Gray,
    /// Three: red, green, blue; grey pictures are repeated.
    Rgb,
}

/// From a picture to the values `[C, H, W]` that go into a network: size, channels, `(x / 255 − mean) / std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// `[height, width]` in pixels.
    pub size: [usize; 2],
    /// How the picture gets that size.
    pub resize: Resize,
    /// The filter.
    pub interpolation: Interpolation,
    /// Whether the filter is widened when a picture is reduced, as Pillow does.
    pub antialias: bool,
    /// Grey or RGB.
    pub channels: ChannelMode,
    /// Subtracted from values in 0..=1; one a channel.
    pub mean: Vec<f32>,
    /// Divided by afterwards; one a channel, above zero.
    pub std: Vec<f32>,
    /// RGB colour under transparent pixels; give it to the decoder.
    pub background: [u8; 3],
}

impl Preprocess {
    /// RGB at `[height, width]` with torchvision's mean and deviation: bilinear, shorter side, 87.5 % centre crop.
    pub fn imagenet(size: [usize; 2]) -> Preprocess {
        Preprocess {
            size,
            resize: Resize::ShorterSide { crop_pct: 0.875 },
            interpolation: Interpolation::Bilinear,
            antialias: true,
            channels: ChannelMode::Rgb,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            background: [0, 0, 0],
        }
    }

    /// Grey, stretched to `[height, width]`: MNIST and its like.
    pub fn gray(size: [usize; 2], mean: f32, std: f32) -> Preprocess {
        Preprocess {
            size,
            resize: Resize::Squash,
            interpolation: Interpolation::Bilinear,
            antialias: true,
            channels: ChannelMode::Gray,
            mean: vec![mean],
            std: vec![std],
            background: [0, 0, 0],
        }
    }

    /// `[C, H, W]` of the result.
    pub fn shape(&self) -> [usize; 3] {
        [self.mean.len(), self.size[0], self.size[1]]
    }

    /// Whether the values make sense.
    ///
    /// # Errors
    /// [`ImageError::Setting`] naming the field.
    pub fn check(&self) -> Result<(), ImageError> {
        unimplemented!()
    }

    /// The values `[C, H, W]`, normalised.
    pub fn apply(&self, image: &Image) -> Vec<f32> {
        let mut out = vec![0.0; self.shape().iter().product()];
        self.apply_into(image, &mut out);
        out
    }

    /// [`Preprocess::apply`] into a slice of `C * H * W` values.
    pub fn apply_into(&self, _image: &Image, _out: &mut [f32]) {
        unimplemented!()
    }

    /// The way back: values `[C, H, W]` as a picture of 8 bits, for previews and reports.
    pub fn to_image(&self, _values: &[f32]) -> Image {
        unimplemented!()
    }

    /// A stable text that differs whenever two specifications could give different values.
    pub fn fingerprint(&self) -> String {
        unimplemented!()
    }
}
