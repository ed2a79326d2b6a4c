//! The picture of a JPEG file while it is decoded: components, their blocks and their pixels.

use super::inverse::{Basis, Inverse, inverse};
use crate::image::Pixels;

/// The frame header (ITU-T T.81, B.2.2).
pub(super) struct Frame {
    pub progressive: bool,
    pub width: usize,
    pub height: usize,
    pub components: Vec<Component>,
    /// Rows and columns of interleaved units.
    pub units: [usize; 2],
}

/// One of one or three channels.
pub(super) struct Component {
    pub id: u8,
    /// Blocks a unit, down and across.
    pub sampling: [usize; 2],
    /// Number of its quantisation table.
    pub table: usize,
    /// Rows and columns of blocks that hold pixels of the picture.
    pub blocks: [usize; 2],
    /// Columns of blocks that are stored, with those that only fill units.
    stored: usize,
    /// Progressive files: all coefficients in zigzag order, 64 a block.
    coefficients: Vec<i16>,
    /// Rows of pixels at the reduced size, `stored * size[1]` wide.
    pixels: Vec<u8>,
    /// Pixels a block, down and across.
    size: [usize; 2],
    inverse: Option<Inverse>,
    /// The last coefficient that is needed, in zigzag order.
    pub last: usize,
    /// Whether a scan has brought its values.
    pub scanned: bool,
}

fn be16(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

impl Frame {
    /// From the segment's content; `None` for whatever is not an ordinary picture of 1 or 3 channels of 8 bits.
    pub fn parse(segment: &[u8], progressive: bool) -> Option<Frame> {
        let (head, rest) = segment.split_at_checked(6)?;
        let (height, width, count) = (be16(&head[1..]), be16(&head[3..]), usize::from(head[5]));
        if head[0] != 8 || height == 0 || width == 0 || !matches!(count, 1 | 3) || rest.len() != count * 3 {
            return None;
        }
        let mut components: Vec<Component> = rest.chunks_exact(3).map(Component::parse).collect::<Option<_>>()?;
        if let [only] = &mut components[..] {
            only.sampling = [1, 1];
        }
        let most = |axis: usize| components.iter().map(|c| c.sampling[axis]).max().unwrap_or(1);
        let most = [most(0), most(1)];
        let units = [height.div_ceil(8 * most[0]), width.div_ceil(8 * most[1])];
        for component in &mut components {
            component.blocks = std::array::from_fn(|axis| {
                let side = [height, width][axis];
                (side * component.sampling[axis]).div_ceil(8 * most[axis])
            });
            component.stored = units[1] * component.sampling[1];
        }
        Some(Frame { progressive, width, height, components, units })
    }

    /// Makes room for pixels at `eighths` / 8 of the size, coarser components at as many pixels as the finest.
    pub fn prepare(&mut self, eighths: usize) -> Option<()> {
        let most = |axis: usize| self.components.iter().map(|c| c.sampling[axis]).max().unwrap_or(1);
        let most = [most(0), most(1)];
        for component in &mut self.components {
            for ((size, &own), &most) in component.size.iter_mut().zip(&component.sampling).zip(&most) {
                let ratio = most / own;
                if ratio * own != most {
                    return None;
                }
                *size = eighths * ratio;
            }
            let (transform, last) = inverse(component.size[0], component.size[1])?;
            (component.inverse, component.last) = (Some(transform), last);
            let blocks = self.units[0] * component.sampling[0] * component.stored;
            component.pixels = vec![0; blocks * component.size[0] * component.size[1]];
            if self.progressive {
                component.coefficients = vec![0; blocks * 64];
            }
        }
        Some(())
    }

    /// Pixels out of the coefficients of a progressive file.
    pub fn finish(&mut self, basis: &Basis, tables: &[Option<[f32; 64]>; 4]) -> Option<()> {
        for component in &mut self.components {
            let table = tables[component.table].as_ref()?;
            let coefficients = std::mem::take(&mut component.coefficients);
            let mut values = [0f32; 64];
            for row in 0..component.blocks[0] {
                for column in 0..component.blocks[1] {
                    let start = (row * component.stored + column) * 64;
                    let block = coefficients.get(start..=start + component.last)?;
                    for ((value, &coefficient), multiplier) in values.iter_mut().zip(block).zip(table) {
                        *value = f32::from(coefficient) * multiplier;
                    }
                    component.draw(basis, &values, row, column);
                }
            }
        }
        Some(())
    }

    /// The picture of `height` by `width` pixels, interleaved, and its channels.
    pub fn picture(&self, height: usize, width: usize) -> (usize, Pixels) {
        let line = |component: &Component, row: usize| {
            let stride = component.stored * component.size[1];
            row * stride..row * stride + width
        };
        let channels = self.components.len();
        let mut out = vec![0; height * width * channels];
        for (row, out) in out.chunks_exact_mut(width * channels).enumerate() {
            match &self.components[..] {
                [y, blue, red] => {
                    let [y, blue, red] = [y, blue, red].map(|component| &component.pixels[line(component, row)]);
                    for (((pixel, &y), &blue), &red) in out.chunks_exact_mut(3).zip(y).zip(blue).zip(red) {
                        pixel.copy_from_slice(&rgb(y, blue, red));
                    }
                }
                components => components.iter().take(1).for_each(|only| out.copy_from_slice(&only.pixels[line(only, row)])),
            }
        }
        (channels, Pixels::U8(out))
    }
}

impl Component {
    fn parse(bytes: &[u8]) -> Option<Component> {
        let sampling = [usize::from(bytes[1] & 15), usize::from(bytes[1] >> 4)];
        let good = sampling.iter().all(|side| matches!(side, 1 | 2 | 4)) && bytes[2] < 4;
        good.then(|| Component {
            id: bytes[0],
            sampling,
            table: usize::from(bytes[2]),
            blocks: [0; 2],
            stored: 0,
            coefficients: Vec::new(),
            pixels: Vec::new(),
            size: [0; 2],
            inverse: None,
            last: 0,
            scanned: false,
        })
    }

    /// The coefficients of a block; those that only fill units are stored too.
    pub fn block(&mut self, row: usize, column: usize) -> &mut [i16] {
        let start = (row * self.stored + column) * 64;
        &mut self.coefficients[start..start + 64]
    }

    /// Writes the pixels of a block.
    #[inline(always)]
    pub fn draw(&mut self, basis: &Basis, coefficients: &[f32; 64], row: usize, column: usize) {
        let ([down, across], stride) = (self.size, self.stored * self.size[1]);
        let start = row * down * stride + column * across;
        if let Some(inverse) = self.inverse {
            inverse(coefficients, basis, &mut self.pixels[start..], stride);
        }
    }
}

/// JFIF's YCbCr to RGB, in fixed point of 16 bits.
fn rgb(y: u8, blue: u8, red: u8) -> [u8; 3] {
    let (y, blue, red) = ((i32::from(y) << 16) + 32768, i32::from(blue) - 128, i32::from(red) - 128);
    [y + 91881 * red, y - 22554 * blue - 46802 * red, y + 116130 * blue].map(|value| (value >> 16).clamp(0, 255) as u8)
}
