//! Moving pixels: a permutation where that is enough, one bilinear warp otherwise.

use super::Fill;
use super::draw::Matrix;
use crate::image::{Image, Pixels, luma8};

/// An integer channel value as 0..=1.
trait Unit: Copy {
    fn unit(self) -> f32;
}

impl Unit for u8 {
    fn unit(self) -> f32 {
        f32::from(self) * (1.0 / 255.0)
    }
}

impl Unit for u16 {
    fn unit(self) -> f32 {
        f32::from(self) * (1.0 / 65535.0)
    }
}

/// Flips and quarter turns: planes `[C, H, W]` of values in 0..=1 from the frame, by the signed permutation `back`.
pub(super) fn permute(frame: &Image, back: Matrix, [height, width]: [usize; 2], planes: &mut [f32]) {
    let channels = frame.channels();
    let start = |row: [f32; 2], side: usize| if row[0] + row[1] < 0.0 { side as isize - 1 } else { 0 };
    let line = frame.width() as isize;
    let first = start(back[1], frame.height()) * line + start(back[0], frame.width());
    let step = |axis: usize| back[1][axis] as isize * line + back[0][axis] as isize;
    let (across, down) = (step(0), step(1));
    let source = move |x: usize, y: usize| (first + x as isize * across + y as isize * down) as usize * channels;
    match frame.pixels() {
        Pixels::U8(values) => gather(values, [height, width], source, planes, |value| f32::from(value) / 255.0),
        Pixels::U16(values) => gather(values, [height, width], source, planes, |value| f32::from(value) / 65535.0),
    }
}

fn gather<T: Copy>(
    values: &[T],
    [height, width]: [usize; 2],
    source: impl Fn(usize, usize) -> usize,
    planes: &mut [f32],
    unit: impl Fn(T) -> f32,
) {
    for (channel, plane) in planes.chunks_exact_mut(height * width).enumerate() {
        for (y, row) in plane.chunks_exact_mut(width).enumerate() {
            for (x, to) in row.iter_mut().enumerate() {
                *to = unit(values[source(x, y) + channel]);
            }
        }
    }
}

/// Planes `[C, H, W]` of values in 0..=1: the output pixel at centred position `p` is the frame's at `matrix · (p − shift)`, bilinear.
pub(super) fn warp(frame: &Image, (matrix, shift): (Matrix, [f32; 2]), fill: Fill, size: [usize; 2], planes: &mut [f32]) {
    match (frame.pixels(), frame.channels()) {
        (Pixels::U8(values), 1) => Source::<u8, 1>::new(frame, values, fill).warp(matrix, shift, size, planes),
        (Pixels::U8(values), _) => Source::<u8, 3>::new(frame, values, fill).warp(matrix, shift, size, planes),
        (Pixels::U16(values), 1) => Source::<u16, 1>::new(frame, values, fill).warp(matrix, shift, size, planes),
        (Pixels::U16(values), _) => Source::<u16, 3>::new(frame, values, fill).warp(matrix, shift, size, planes),
    }
}

struct Source<'a, T, const C: usize> {
    values: &'a [T],
    width: usize,
    height: usize,
    fill: Fill,
    color: [f32; C],
}

impl<'a, T: Unit, const C: usize> Source<'a, T, C> {
    fn new(frame: &Image, values: &'a [T], fill: Fill) -> Self {
        let color = match fill {
            Fill::Color(rgb) if C == 1 => [luma8(rgb[0], rgb[1], rgb[2]).unit(); C],
            Fill::Color(rgb) => std::array::from_fn(|channel| rgb[channel].unit()),
            Fill::Reflect | Fill::Edge => [0.0; C],
        };
        Source { values, width: frame.width(), height: frame.height(), fill, color }
    }

    fn warp(&self, matrix: Matrix, shift: [f32; 2], [height, width]: [usize; 2], planes: &mut [f32]) {
        let plane = height * width;
        let middle = [width as f32 / 2.0, height as f32 / 2.0];
        let origin = [self.width as f32 / 2.0 - 0.5, self.height as f32 / 2.0 - 0.5];
        for y in 0..height {
            let v = y as f32 + 0.5 - middle[1] - shift[1];
            for x in 0..width {
                let u = x as f32 + 0.5 - middle[0] - shift[0];
                let sx = matrix[0][0] * u + matrix[0][1] * v + origin[0];
                let sy = matrix[1][0] * u + matrix[1][1] * v + origin[1];
                let pixel = self.sample(sx, sy);
                for channel in 0..C {
                    planes[channel * plane + y * width + x] = pixel[channel];
                }
            }
        }
    }

    fn sample(&self, x: f32, y: f32) -> [f32; C] {
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (x - left, y - top);
        let (left, top) = (left as i32, top as i32);
        let corners = if left >= 0 && top >= 0 && left + 1 < self.width as i32 && top + 1 < self.height as i32 {
            let at = (top as usize * self.width + left as usize) * C;
            let below = at + self.width * C;
            [self.pixel(at), self.pixel(at + C), self.pixel(below), self.pixel(below + C)]
        } else {
            [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| self.beyond(left.saturating_add(dx), top.saturating_add(dy)))
        };
        std::array::from_fn(|channel| {
            let above = corners[0][channel] + (corners[1][channel] - corners[0][channel]) * fx;
            let below = corners[2][channel] + (corners[3][channel] - corners[2][channel]) * fx;
            above + (below - above) * fy
        })
    }

    fn pixel(&self, at: usize) -> [f32; C] {
        let pixel = &self.values[at..at + C];
        std::array::from_fn(|channel| pixel[channel].unit())
    }

    /// A pixel at any position.
    fn beyond(&self, x: i32, y: i32) -> [f32; C] {
        let (width, height) = (self.width as i32, self.height as i32);
        let (x, y) = match self.fill {
            Fill::Reflect => (mirrored(x, width), mirrored(y, height)),
            Fill::Edge => (x.clamp(0, width - 1), y.clamp(0, height - 1)),
            Fill::Color(_) if x < 0 || y < 0 || x >= width || y >= height => return self.color,
            Fill::Color(_) => (x, y),
        };
        self.pixel((y as usize * self.width + x as usize) * C)
    }
}

/// … 1 0 | 0 1 2 … with period `2 * side`.
fn mirrored(at: i32, side: i32) -> i32 {
    let at = at.rem_euclid(2 * side);
    if at < side { at } else { 2 * side - 1 - at }
}
