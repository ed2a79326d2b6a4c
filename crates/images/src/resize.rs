//! Resizing as Pillow does it.

use serde::{Deserialize, Serialize};

use crate::image::Image;

/// How values between pixels are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// Linear (a triangle filter).
    #[default]
    Bilinear,
    /// Cubic with a = −0.5 (Catmull-Rom), as Pillow.
    Bicubic,
    /// A sinc of three lobes.
    Lanczos3,
}

impl Image {
    /// This picture at `[height, width]`, antialiased.
    pub fn resize(&self, _size: [usize; 2], _interpolation: Interpolation) -> Image {
        unimplemented!()
    }

    /// This picture with its longer side at most `max_side` pixels; never enlarged.
    pub fn thumbnail(&self, _max_side: usize) -> Image {
        unimplemented!()
    }
}
