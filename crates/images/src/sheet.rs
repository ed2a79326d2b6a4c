//! Many pictures on one.

mod font;

use crate::image::{Image, Pixels};

/// The pictures in rows of `columns`, `padding` pixels apart; cells have the size of the largest picture and stand at their cell's top
/// left. RGB of 8 bits. No pictures give one pixel of background.
pub fn contact_sheet(cells: &[Image], columns: usize, padding: usize, background: [u8; 3]) -> Image {
    labelled_contact_sheet(cells, columns, padding, background, &[])
}

/// [`contact_sheet`] with a line of text above every row: `labels[row]`, in black or white, whichever stands out, cut at the sheet's edge.
/// There may be fewer labels than rows; characters outside ASCII are drawn as boxes.
pub fn labelled_contact_sheet(cells: &[Image], columns: usize, padding: usize, background: [u8; 3], labels: &[String]) -> Image {
    let columns = columns.clamp(1, cells.len().max(1));
    let rows = cells.len().div_ceil(columns);
    let cell_width = cells.iter().map(Image::width).max().unwrap_or(0);
    let cell_height = cells.iter().map(Image::height).max().unwrap_or(0);
    // Text grows with the pictures, so that it stays readable when the sheet is shown small.
    let zoom = (cell_height / 112).max(1);
    let text_height = if labels.is_empty() { 0 } else { (font::HEIGHT + 2) * zoom };
    let row_height = text_height + cell_height + padding;
    let width = (padding + columns * (cell_width + padding)).max(1);
    let mut sheet = Canvas::new(width, (padding + rows * row_height).max(1), background);
    let bright = u32::from(background[0]) * 3 + u32::from(background[1]) * 6 + u32::from(background[2]) > 1275;
    let ink = if bright { [0; 3] } else { [255; 3] };
    for row in 0..rows {
        let top = padding + row * row_height;
        if let Some(label) = labels.get(row) {
            sheet.write(label, padding, top, zoom, ink);
        }
        for (column, cell) in cells[row * columns..].iter().take(columns).enumerate() {
            sheet.place(cell, padding + column * (cell_width + padding), top + text_height);
        }
    }
    Image::trusted(sheet.width, sheet.height, 3, Pixels::U8(sheet.pixels))
}

/// An RGB picture in the making.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize, background: [u8; 3]) -> Canvas {
        Canvas { width, height, pixels: background.repeat(width * height) }
    }

    fn place(&mut self, cell: &Image, left: usize, top: usize) {
        let cell = cell.to_rgb8();
        let Pixels::U8(values) = cell.pixels() else { return };
        for (row, line) in values.chunks_exact(cell.width() * 3).enumerate() {
            let start = ((top + row) * self.width + left) * 3;
            self.pixels[start..start + line.len()].copy_from_slice(line);
        }
    }

    fn write(&mut self, text: &str, left: usize, top: usize, zoom: usize, ink: [u8; 3]) {
        for (index, character) in text.chars().enumerate() {
            for (column, bits) in font::glyph(character).into_iter().enumerate() {
                for row in (0..font::HEIGHT).filter(|row| bits >> row & 1 == 1) {
                    self.dot(left + (index * font::ADVANCE + column) * zoom, top + row * zoom, zoom, ink);
                }
            }
        }
    }

    fn dot(&mut self, left: usize, top: usize, side: usize, ink: [u8; 3]) {
        for y in top..(top + side).min(self.height) {
            for x in left..(left + side).min(self.width) {
                self.pixels[(y * self.width + x) * 3..][..3].copy_from_slice(&ink);
            }
        }
    }
}
