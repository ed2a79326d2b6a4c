//! What may vary, and by how much.

use serde::{Deserialize, Serialize};

use crate::ImageError;

/// What lies outside the picture after a rotation or a translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// The picture, mirrored.
    #[default]
    Reflect,
    /// The nearest pixel of the border.
    Edge,
    /// One RGB colour, 0..=255; its luma for grey pictures.
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

    /// Half of the pictures are mirrored: safe wherever left and right mean the same.
    pub fn light() -> Augment {
        Augment { horizontal_flip: 0.5, ..Augment::default() }
    }

    /// For small data sets of photos: a random resized crop of 35–100 % of the area (timm's 8 % loses the object too often when there are
    /// few pictures and few epochs), mirroring, up to 10 degrees of rotation on half of them and some change of light.
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
        !self.crops()
            && [self.horizontal_flip, self.vertical_flip, self.rotate90].iter().all(|&probability| probability == 0.0)
            && !self.warps()
            && !self.colors()
            && self.blur_probability == 0.0
            && (self.noise_probability == 0.0 || self.noise_std == 0.0)
            && self.erase_probability == 0.0
    }

    pub(super) fn crops(&self) -> bool {
        self.crop_scale != [1.0, 1.0]
    }

    pub(super) fn warps(&self) -> bool {
        let moves = [self.rotate, self.translate, self.shear].iter().any(|&range| range != 0.0);
        self.affine_probability > 0.0 && (moves || self.scale != [1.0, 1.0])
    }

    pub(super) fn colors(&self) -> bool {
        let ranges = [self.brightness, self.contrast, self.saturation, self.hue, self.gamma];
        self.color_probability > 0.0 && ranges.iter().any(|&range| range != 0.0)
    }

    /// Whether the values make sense.
    ///
    /// # Errors
    /// [`ImageError::Setting`] naming the field.
    pub fn check(&self) -> Result<(), ImageError> {
        for (field, value) in [
            ("horizontal_flip", self.horizontal_flip),
            ("vertical_flip", self.vertical_flip),
            ("rotate90", self.rotate90),
            ("affine_probability", self.affine_probability),
            ("color_probability", self.color_probability),
            ("blur_probability", self.blur_probability),
            ("noise_probability", self.noise_probability),
            ("erase_probability", self.erase_probability),
        ] {
            within(field, value, 0.0, 1.0, "a probability from 0 to 1")?;
        }
        within("rotate", self.rotate, 0.0, 180.0, "degrees from 0 to 180")?;
        within("translate", self.translate, 0.0, 1.0, "a part of the side from 0 to 1")?;
        within("shear", self.shear, 0.0, 80.0, "degrees from 0 to 80")?;
        within("brightness", self.brightness, 0.0, 1.0, "a number from 0 to 1")?;
        within("contrast", self.contrast, 0.0, 1.0, "a number from 0 to 1")?;
        within("saturation", self.saturation, 0.0, 1.0, "a number from 0 to 1")?;
        within("hue", self.hue, 0.0, 0.5, "a part of a turn from 0 to 0.5")?;
        within("gamma", self.gamma, 0.0, 10.0, "a number from 0 to 10")?;
        within("noise_std", self.noise_std, 0.0, 1.0, "a number from 0 to 1")?;
        range("crop_scale", self.crop_scale, 1e-4, 1.0, "two rising parts of the area above 0, up to 1")?;
        range("crop_ratio", self.crop_ratio, 0.01, 100.0, "two rising width / height ratios from 0.01 to 100")?;
        range("scale", self.scale, 0.05, 20.0, "two rising factors from 0.05 to 20")?;
        range("blur_sigma", self.blur_sigma, 0.0, 50.0, "two rising deviations from 0 to 50 pixels")?;
        range("erase_area", self.erase_area, 0.0, 1.0, "two rising parts of the area from 0 to 1")?;
        range("erase_ratio", self.erase_ratio, 0.01, 100.0, "two rising width / height ratios from 0.01 to 100")
    }
}

fn within(field: &'static str, value: f32, low: f32, high: f32, expected: &'static str) -> Result<(), ImageError> {
    match (low..=high).contains(&value) {
        true => Ok(()),
        false => Err(ImageError::Setting { field, expected, found: value.to_string() }),
    }
}

fn range(field: &'static str, value: [f32; 2], low: f32, high: f32, expected: &'static str) -> Result<(), ImageError> {
    match low <= value[0] && value[0] <= value[1] && value[1] <= high {
        true => Ok(()),
        false => Err(ImageError::Setting { field, expected, found: format!("{value:?}") }),
    }
}
