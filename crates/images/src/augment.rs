//! Seeded variation of training pictures.

use serde::{Deserialize, Serialize};

use crate::{ImageError, image::Image, preprocess::Preprocess};

/// What lies outside the picture after a rotation or a translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// The picture, mirrored.
    #[default]
    Reflect,
    /// The nearest pixel of the border.
    Edge,
    /// One RGB colour, 0..=255.
    Color([u8; 3]),
}

/// How training pictures vary; every field has a default that leaves the picture alone.
///
/// Probabilities are 0..=1. The same `(seed, sample, epoch)` gives the same picture, whatever the number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Random resized crop: range of the part of the area that is kept; `[1, 1]` keeps the evaluation crop.
    pub crop_scale: [f32; 2],
    /// Random resized crop: range of the width / height of the crop.
    pub crop_ratio: [f32; 2],
    /// Probability of mirroring left and right.
    pub horizontal_flip: f32,
    /// Probability of mirroring top and bottom.
    pub vertical_flip: f32,
    /// Probability of turning by 90, 180 or 270 degrees (each alike).
    pub rotate90: f32,
    /// Probability that `rotate`, `translate`, `shear` and `scale` act on a picture.
    pub affine_probability: f32,
    /// Turns by up to this many degrees either way.
    pub rotate: f32,
    /// Shifts by up to this part of the width and height either way (4 of 32 pixels: 0.125).
    pub translate: f32,
    /// Slants by up to this many degrees either way.
    pub shear: f32,
    /// Range of the enlargement; below 1 shrinks.
    pub scale: [f32; 2],
    /// What is outside the picture.
    pub fill: Fill,
    /// Probability that `brightness`, `contrast`, `saturation`, `hue` and `gamma` act on a picture.
    pub color_probability: f32,
    /// Multiplies values by 1 ± this.
    pub brightness: f32,
    /// Multiplies the distance from the mean grey by 1 ± this.
    pub contrast: f32,
    /// Multiplies the distance from each pixel's grey by 1 ± this (RGB only).
    pub saturation: f32,
    /// Turns the colour circle by up to this part of a full turn either way, at most 0.5 (RGB only).
    pub hue: f32,
    /// Raises values to a power between 1 / (1 + this) and 1 + this.
    pub gamma: f32,
    /// Probability of a Gaussian blur.
    pub blur_probability: f32,
    /// Range of the blur's standard deviation, in pixels of the result.
    pub blur_sigma: [f32; 2],
    /// Probability of Gaussian noise.
    pub noise_probability: f32,
    /// Standard deviation of the noise, values in 0..=1.
    pub noise_std: f32,
    /// Probability of erasing a rectangle.
    pub erase_probability: f32,
    /// Range of the part of the area that is erased.
    pub erase_area: [f32; 2],
    /// Range of the width / height of the erased rectangle.
    pub erase_ratio: [f32; 2],
}

impl Default for Augment {
    fn default() -> Augment {
        Augment {
            crop_scale: [1.0, 1.0],
            crop_ratio: [0.75, 4.0 / 3.0],
            horizontal_flip: 0.0,
            vertical_flip: 0.0,
            rotate90: 0.0,
            affine_probability: 1.0,
            rotate: 0.0,
            translate: 0.0,
            shear: 0.0,
            scale: [1.0, 1.0],
            fill: Fill::Reflect,
            color_probability: 1.0,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            hue: 0.0,
            gamma: 0.0,
            blur_probability: 0.0,
            blur_sigma: [0.1, 2.0],
            noise_probability: 0.0,
            noise_std: 0.0,
            erase_probability: 0.0,
            erase_area: [0.02, 0.2],
            erase_ratio: [0.3, 1.0 / 0.3],
        }
    }
}

impl Augment {
    /// Nothing varies.
    pub fn none() -> Augment {
        Augment::default()
    }

    /// Half of the pictures are mirrored.
    pub fn light() -> Augment {
        Augment { horizontal_flip: 0.5, ..Augment::default() }
    }

    /// For small data sets of photos: a random resized crop of 35–100 % of the area, mirroring, up to 10 degrees of rotation and some light.
    pub fn standard() -> Augment {
        Augment {
            crop_scale: [0.35, 1.0],
            horizontal_flip: 0.5,
            affine_probability: 0.5,
            rotate: 10.0,
            color_probability: 0.8,
            brightness: 0.2,
            contrast: 0.2,
            saturation: 0.2,
            ..Augment::default()
        }
    }

    /// Whether every picture stays as it is.
    pub fn is_none(&self) -> bool {
        unimplemented!()
    }

    /// Whether the values make sense.
    ///
    /// # Errors
    /// [`ImageError::Setting`] naming the field.
    pub fn check(&self) -> Result<(), ImageError> {
        unimplemented!()
    }

    /// The values `[C, H, W]` of one variation of a picture, normalised.
    pub fn apply(&self, image: &Image, preprocess: &Preprocess, seed: u64, sample: u64, epoch: u64) -> Vec<f32> {
        let mut out = vec![0.0; preprocess.shape().iter().product()];
        self.apply_into(image, preprocess, seed, sample, epoch, &mut out);
        out
    }

    /// [`Augment::apply`] into a slice of `C * H * W` values.
    pub fn apply_into(&self, _image: &Image, _preprocess: &Preprocess, _seed: u64, _sample: u64, _epoch: u64, _out: &mut [f32]) {
        unimplemented!()
    }
}
