//! Resizing as Pillow does it.

use std::cell::RefCell;

use bytemuck::{cast_slice, cast_slice_mut};
use fast_image_resize as fir;
use serde::{Deserialize, Serialize};

use crate::image::{Image, Pixels};

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

impl Interpolation {
    fn algorithm(self, antialias: bool) -> fir::ResizeAlg {
        let filter = match self {
            Interpolation::Nearest => return fir::ResizeAlg::Nearest,
            Interpolation::Bilinear => fir::FilterType::Bilinear,
            Interpolation::Bicubic => fir::FilterType::CatmullRom,
            Interpolation::Lanczos3 => fir::FilterType::Lanczos3,
        };
        if antialias { fir::ResizeAlg::Convolution(filter) } else { fir::ResizeAlg::Interpolation(filter) }
    }
}

/// A part of a picture in its own pixels; sides need not be whole numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Region {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

impl Region {
    /// All of a picture of `[height, width]`.
    pub(crate) fn whole([height, width]: [usize; 2]) -> Region {
        Region { left: 0.0, top: 0.0, width: width as f64, height: height as f64 }
    }

    /// Rounding must not let a region reach past the picture, nor vanish.
    fn inside(self, image: &Image) -> Region {
        // On a grid of 2^-20 pixels the sums below are exact, so that start + length never exceeds the side.
        let grid = |value: f64| (value * 1048576.0).floor() / 1048576.0;
        let clamp = |start: f64, length: f64, side: f64| {
            let length = grid(length.clamp(1e-3, side));
            (grid(start.clamp(0.0, side - length)), length)
        };
        let (left, width) = clamp(self.left, self.width, image.width() as f64);
        let (top, height) = clamp(self.top, self.height, image.height() as f64);
        Region { left, top, width, height }
    }
}

thread_local! {
    /// Keeps its buffers between pictures; what it computes does not depend on what it did before.
    static RESIZER: RefCell<fir::Resizer> = RefCell::new(fir::Resizer::new());
}

/// The region of the picture at `[height, width]`; filters reach beyond the region where the picture goes on, as when the whole
/// picture is resized and then cropped. Depth and channels stay.
pub(crate) fn resize_region(image: &Image, region: Region, size: [usize; 2], interpolation: Interpolation, antialias: bool) -> Image {
    let [height, width] = size.map(|side| side.max(1));
    if region == Region::whole([image.height(), image.width()]) && (width, height) == (image.width(), image.height()) {
        return image.clone();
    }
    let region = region.inside(image);
    let options = fir::ResizeOptions::new().resize_alg(interpolation.algorithm(antialias)).use_alpha(false).crop(
        region.left,
        region.top,
        region.width,
        region.height,
    );
    let count = width * height * image.channels();
    let mut pixels = match image.pixels() {
        Pixels::U8(_) => Pixels::U8(vec![0; count]),
        Pixels::U16(_) => Pixels::U16(vec![0; count]),
    };
    let sides = [image.height(), image.width(), height, width];
    // By type: the resizer's own choice among all its pixel types would be compiled into this crate with every one of them.
    let done = match (image.pixels(), &mut pixels, image.channels()) {
        (Pixels::U8(from), Pixels::U8(to), 1) => resize_bytes::<fir::pixels::U8>(from, to, sides, &options),
        (Pixels::U8(from), Pixels::U8(to), _) => resize_bytes::<fir::pixels::U8x3>(from, to, sides, &options),
        (Pixels::U16(from), Pixels::U16(to), 1) => resize_bytes::<fir::pixels::U16>(cast_slice(from), cast_slice_mut(to), sides, &options),
        (Pixels::U16(from), Pixels::U16(to), _) => {
            resize_bytes::<fir::pixels::U16x3>(cast_slice(from), cast_slice_mut(to), sides, &options)
        }
        (Pixels::U8(_), Pixels::U16(_), _) | (Pixels::U16(_), Pixels::U8(_), _) => Ok(()),
    };
    debug_assert!(done.is_ok(), "the region was clamped and the buffers have the right length: {done:?}");
    Image::trusted(width, height, image.channels(), pixels)
}

fn resize_bytes<P: fir::PixelTrait>(
    source: &[u8],
    target: &mut [u8],
    sides: [usize; 4],
    options: &fir::ResizeOptions,
) -> Result<(), Box<dyn std::error::Error>> {
    let [from_height, from_width, height, width] = sides.map(u32::try_from);
    let source = fir::images::TypedImageRef::<P>::from_buffer(from_width?, from_height?, source)?;
    let mut target = fir::images::TypedImage::<P>::from_buffer(width?, height?, target)?;
    RESIZER.with_borrow_mut(|resizer| resizer.resize_typed(&source, &mut target, options))?;
    Ok(())
}

impl Image {
    /// This picture at `[height, width]` (each at least 1), antialiased, as Pillow's `resize`.
    pub fn resize(&self, size: [usize; 2], interpolation: Interpolation) -> Image {
        resize_region(self, Region::whole([self.height(), self.width()]), size, interpolation, true)
    }

    /// This picture with its longer side at most `max_side` pixels, its shape kept; never enlarged.
    pub fn thumbnail(&self, max_side: usize) -> Image {
        let longer = self.width().max(self.height());
        if longer <= max_side {
            return self.clone();
        }
        let scale = max_side.max(1) as f64 / longer as f64;
        let side = |length: usize| ((length as f64 * scale).round() as usize).max(1);
        self.resize([side(self.height()), side(self.width())], Interpolation::Bicubic)
    }
}
