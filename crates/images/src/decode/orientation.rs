//! Turning pictures upright as their EXIF orientation asks.

use image::metadata::Orientation;

use crate::image::{Image, Pixels};

pub(super) fn apply(image: Image, orientation: Orientation) -> Image {
    // In EXIF's table a transposed picture is first turned by a quarter, then mirrored.
    let (transpose, mirror, upside_down) = match orientation {
        Orientation::NoTransforms => return image,
        Orientation::FlipHorizontal => (false, true, false),
        Orientation::Rotate180 => (false, true, true),
        Orientation::FlipVertical => (false, false, true),
        Orientation::Rotate90FlipH => (true, false, false),
        Orientation::Rotate90 => (true, false, true),
        Orientation::Rotate270FlipH => (true, true, true),
        Orientation::Rotate270 => (true, true, false),
    };
    let (width, height, channels) = (image.width(), image.height(), image.channels());
    let (out_width, out_height) = if transpose { (height, width) } else { (width, height) };
    // For the transposed cases the flags mirror the source's axes.
    let source = move |x: usize, y: usize| {
        let (sx, sy) = if transpose { (y, x) } else { (x, y) };
        let sx = if mirror { width - 1 - sx } else { sx };
        let sy = if upside_down { height - 1 - sy } else { sy };
        (sy * width + sx) * channels
    };
    let pixels = match image.pixels() {
        Pixels::U8(values) => Pixels::U8(permute(values, channels, out_width, out_height, source)),
        Pixels::U16(values) => Pixels::U16(permute(values, channels, out_width, out_height, source)),
    };
    Image::trusted(out_width, out_height, channels, pixels)
}

fn permute<T: Copy>(values: &[T], channels: usize, width: usize, height: usize, source: impl Fn(usize, usize) -> usize) -> Vec<T> {
    let mut out = Vec::with_capacity(values.len());
    for y in 0..height {
        for x in 0..width {
            let at = source(x, y);
            out.extend_from_slice(&values[at..at + channels]);
        }
    }
    out
}
