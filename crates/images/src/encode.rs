//! Pictures back into files.

use crate::image::Image;

/// A PNG file of the picture, with its depth and channels.
pub fn encode_png(_image: &Image) -> Vec<u8> {
    unimplemented!()
}

/// A JPEG file of the picture; `quality` 1..=100.
pub fn encode_jpeg(_image: &Image, _quality: u8) -> Vec<u8> {
    unimplemented!()
}
