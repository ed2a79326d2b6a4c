//! Parts of a picture made unrecognisable.

use crate::image::{Image, Pixels};
use crate::resize::Interpolation;

/// A rectangle in pixels of the upright picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// Values that are left of a region's longer side.
const CELLS: usize = 5;

impl Image {
    /// This picture with regions blurred beyond recovery: each is reduced to at most 5×5 mean colours, and those are drawn out smoothly over
    /// it. (A Gaussian blur alone can be undone in part; 25 colours cannot say who was there.) Parts outside the picture are left out;
    /// overlapping regions are blurred one after the other.
    pub fn blur_regions(&self, regions: &[Rectangle]) -> Image {
        let mut image = self.clone();
        for region in regions {
            if let Some(region) = region.inside(&image) {
                image = image.blur_region(region);
            }
        }
        image
    }

    fn blur_region(&self, region: Rectangle) -> Image {
        let Rectangle { left, top, width, height } = region;
        let longest = width.max(height);
        let cells = |side: usize| (side * CELLS / longest).clamp(1, CELLS);
        let part = |from: &Pixels| match from {
            Pixels::U8(values) => Pixels::U8(self.rows(values, region).flatten().copied().collect()),
            Pixels::U16(values) => Pixels::U16(self.rows(values, region).flatten().copied().collect()),
        };
        let cut = Image::trusted(width, height, self.channels(), part(self.pixels()));
        let few = cut.cell_means([cells(height), cells(width)]);
        let blurred = few.resize([height, width], Interpolation::Bilinear);
        let mut pixels = self.pixels().clone();
        match (&mut pixels, blurred.pixels()) {
            (Pixels::U8(to), Pixels::U8(from)) => self.put(to, from, left, top, width),
            (Pixels::U16(to), Pixels::U16(from)) => self.put(to, from, left, top, width),
            // A resized picture keeps its depth.
            (Pixels::U8(_), Pixels::U16(_)) | (Pixels::U16(_), Pixels::U8(_)) => {}
        }
        Image::trusted(self.width(), self.height(), self.channels(), pixels)
    }

    fn rows<'a, T>(&self, values: &'a [T], region: Rectangle) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        let (stride, channels) = (self.width() * self.channels(), self.channels());
        let (start, end) = (region.left * channels, (region.left + region.width) * channels);
        values.chunks_exact(stride).skip(region.top).take(region.height).map(move |row| &row[start..end])
    }

    fn put<T: Copy>(&self, to: &mut [T], from: &[T], left: usize, top: usize, width: usize) {
        let (stride, channels) = (self.width() * self.channels(), self.channels());
        for (row, values) in to.chunks_exact_mut(stride).skip(top).zip(from.chunks_exact(width * channels)) {
            row[left * channels..(left + width) * channels].copy_from_slice(values);
        }
    }

    /// Means over a grid of `[rows, columns]` cells: what a box filter of that size leaves, with nothing of the neighbours.
    fn cell_means(&self, [rows, columns]: [usize; 2]) -> Image {
        let mut sums = vec![[0u64; 2]; rows * columns * self.channels()];
        let mut add = |i: usize, value: u64| {
            let (pixel, channel) = (i / self.channels(), i % self.channels());
            let (y, x) = (pixel / self.width() * rows / self.height(), pixel % self.width() * columns / self.width());
            let sum = &mut sums[(y * columns + x) * self.channels() + channel];
            *sum = [sum[0] + value, sum[1] + 1];
        };
        match self.pixels() {
            Pixels::U8(values) => values.iter().enumerate().for_each(|(i, &v)| add(i, u64::from(v))),
            Pixels::U16(values) => values.iter().enumerate().for_each(|(i, &v)| add(i, u64::from(v))),
        }
        let mean = |[sum, count]: &[u64; 2]| sum / (*count).max(1);
        let pixels = match self.pixels() {
            Pixels::U8(_) => Pixels::U8(sums.iter().map(|s| mean(s) as u8).collect()),
            Pixels::U16(_) => Pixels::U16(sums.iter().map(|s| mean(s) as u16).collect()),
        };
        Image::trusted(columns, rows, self.channels(), pixels)
    }
}

impl Rectangle {
    /// The part inside the picture; `None` when there is none.
    fn inside(self, image: &Image) -> Option<Rectangle> {
        let clip = |start: usize, length: usize, side: usize| (start < side && length > 0).then(|| length.min(side - start));
        let width = clip(self.left, self.width, image.width())?;
        let height = clip(self.top, self.height, image.height())?;
        Some(Rectangle { width, height, ..self })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Values of one channel inside a rectangle.
    fn inside(image: &Image, r: Rectangle) -> Vec<u8> {
        let Pixels::U8(values) = image.pixels() else { return Vec::new() };
        image.rows(values, r).flatten().copied().collect()
    }

    #[test]
    fn only_the_region_changes_and_its_detail_is_gone() {
        let checks =
            Image::from_rgb8(60, 40, (0..60 * 40 * 3).map(|i| if (i / 3 % 60 + i / 180) % 2 == 0 { 0 } else { 255 }).collect()).unwrap();
        let region = Rectangle { left: 10, top: 5, width: 30, height: 20 };
        let blurred = checks.blur_regions(&[region]);
        let values = inside(&blurred, region);
        assert!(values.iter().all(|v| (110..=145).contains(v)), "{:?}", &values[..10]);
        let (Pixels::U8(before), Pixels::U8(after)) = (checks.pixels(), blurred.pixels()) else { unreachable!() };
        let outside = |i: usize| !(10..40).contains(&(i / 3 % 60)) || !(5..25).contains(&(i / 180));
        assert!((0..before.len()).filter(|&i| outside(i)).all(|i| before[i] == after[i]));
    }

    #[test]
    fn regions_beyond_the_picture_are_cut() {
        let image = Image::from_gray16(8, 8, (0..64).map(|i| i * 1000).collect()).unwrap();
        assert_eq!(image.blur_regions(&[Rectangle { left: 8, top: 0, width: 3, height: 3 }]), image);
        let blurred = image.blur_regions(&[Rectangle { left: 6, top: 6, width: usize::MAX, height: 9 }]);
        assert_eq!((blurred.width(), blurred.height()), (8, 8));
        let one = image.blur_regions(&[Rectangle { left: 0, top: 0, width: 1, height: 1 }]);
        assert_eq!(one, image);
    }
}
