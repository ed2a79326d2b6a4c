//! Turning pictures upright as their EXIF orientation asks.

use image::metadata::Orientation;

use crate::image::{Image, Pixels};

/// Whether rows become columns.
pub(super) fn transposes(orientation: Orientation) -> bool {
    flags(orientation).0
}

/// Transposed, mirrored, upside down. In EXIF's table a transposed picture is first turned by a quarter, then mirrored; for those the last
/// two flags mean the axes of the source.
fn flags(orientation: Orientation) -> (bool, bool, bool) {
    match orientation {
        Orientation::NoTransforms => (false, false, false),
        Orientation::FlipHorizontal => (false, true, false),
        Orientation::Rotate180 => (false, true, true),
        Orientation::FlipVertical => (false, false, true),
        Orientation::Rotate90FlipH => (true, false, false),
        Orientation::Rotate90 => (true, false, true),
        Orientation::Rotate270FlipH => (true, true, true),
        Orientation::Rotate270 => (true, true, false),
    }
}

/// Where the upright picture begins, `[down, across]` in pixels, when the file's picture has `gap` `[down, across]` of them too many at its
/// bottom and right.
pub(super) fn origin(orientation: Orientation, gap: [f64; 2]) -> [f64; 2] {
    let (transpose, mirror, upside_down) = flags(orientation);
    let start = [if upside_down { gap[0] } else { 0.0 }, if mirror { gap[1] } else { 0.0 }];
    if transpose { [start[1], start[0]] } else { start }
}

pub(super) fn apply(image: Image, orientation: Orientation) -> Image {
    let (transpose, mirror, upside_down) = flags(orientation);
    if !(transpose || mirror || upside_down) {
        return image;
    }
    let (width, height, channels) = (image.width(), image.height(), image.channels());
    let (out_width, out_height) = if transpose { (height, width) } else { (width, height) };
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
