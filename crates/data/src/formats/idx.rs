//! IDX files, the format of MNIST.

use images::{Image, ImageError};

/// The pictures of one IDX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdxImages {
    count: usize,
    shape: [usize; 3],
    pixels: Vec<u8>,
}

impl IdxImages {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Height, width and channels (1 or 3) of each picture.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The bytes of picture `index`, rows from the top; empty outside the file.
    pub fn pixels(&self, index: usize) -> &[u8] {
        let size: usize = self.shape.iter().product();
        index.checked_mul(size).and_then(|start| self.pixels.get(start..start + size)).unwrap_or(&[])
    }

    /// Picture `index`.
    ///
    /// # Errors
    /// When the file has no such picture.
    pub fn image(&self, index: usize) -> Result<Image, ImageError> {
        let [height, width, channels] = self.shape;
        let pixels = self.pixels(index).to_vec();
        if channels == 3 { Image::from_rgb8(width, height, pixels) } else { Image::from_gray8(width, height, pixels) }
    }
}
