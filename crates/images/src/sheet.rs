//! Many pictures on one.

use crate::image::Image;

/// The pictures in rows of `columns`, `padding` pixels apart; cells have the size of the largest picture. RGB of 8 bits.
pub fn contact_sheet(_cells: &[Image], _columns: usize, _padding: usize, _background: [u8; 3]) -> Image {
    unimplemented!()
}

/// [`contact_sheet`] with a line of text at the top of every row (`labels` may be shorter than the rows are many).
pub fn labelled_contact_sheet(_cells: &[Image], _columns: usize, _padding: usize, _background: [u8; 3], _labels: &[String]) -> Image {
    unimplemented!()
}
