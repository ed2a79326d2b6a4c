//! The one in-memory picture: 1 or 3 interleaved channels of 8 or 16 bits.

use crate::error::ImageError;

/// Pixel values, row by row, channels interleaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// 8 bits a channel, 0..=255.
    U8(Vec<u8>),
    /// 16 bits a channel, 0..=65535.
    U16(Vec<u16>),
}

/// A decoded picture: at least 1×1, grey (1 channel) or RGB (3 channels), upright and without alpha.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Pixels,
}

impl Image {
    /// A grey picture of 8 bits; `pixels` has `width * height` values.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when the length does not fit or a side is zero.
    pub fn from_gray8(width: usize, height: usize, pixels: Vec<u8>) -> Result<Image, ImageError> {
        Image::new(width, height, 1, Pixels::U8(pixels))
    }

    /// An RGB picture of 8 bits; `pixels` has `width * height * 3` values, interleaved.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when the length does not fit or a side is zero.
    pub fn from_rgb8(width: usize, height: usize, pixels: Vec<u8>) -> Result<Image, ImageError> {
        Image::new(width, height, 3, Pixels::U8(pixels))
    }

    /// A grey picture of 16 bits; `pixels` has `width * height` values.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when the length does not fit or a side is zero.
    pub fn from_gray16(width: usize, height: usize, pixels: Vec<u16>) -> Result<Image, ImageError> {
        Image::new(width, height, 1, Pixels::U16(pixels))
    }

    /// An RGB picture of 16 bits; `pixels` has `width * height * 3` values, interleaved.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when the length does not fit or a side is zero.
    pub fn from_rgb16(width: usize, height: usize, pixels: Vec<u16>) -> Result<Image, ImageError> {
        Image::new(width, height, 3, Pixels::U16(pixels))
    }

    pub(crate) fn new(width: usize, height: usize, channels: usize, pixels: Pixels) -> Result<Image, ImageError> {
        let expected = width.saturating_mul(height).saturating_mul(channels);
        let found = pixels.len();
        if expected == 0 || expected != found {
            return Err(ImageError::Shape { width, height, channels, expected, found });
        }
        Ok(Image { width, height, channels, pixels })
    }

    /// For pictures whose buffer was just made with the right length.
    pub(crate) fn trusted(width: usize, height: usize, channels: usize, pixels: Pixels) -> Image {
        debug_assert_eq!(width * height * channels, pixels.len());
        Image { width, height, channels, pixels }
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// 1 (grey) or 3 (RGB).
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The pixel values, `[height, width, channels]`.
    pub fn pixels(&self) -> &Pixels {
        &self.pixels
    }

    /// Bytes of memory that the pixels take.
    pub fn byte_len(&self) -> usize {
        match &self.pixels {
            Pixels::U8(values) => values.len(),
            Pixels::U16(values) => values.len() * 2,
        }
    }

    /// This picture with 3 channels of 8 bits: grey is repeated, 16 bits are rounded to 8.
    pub fn to_rgb8(&self) -> Image {
        let narrow = self.narrow();
        let pixels = match self.channels {
            1 => narrow.iter().flat_map(|&value| [value; 3]).collect(),
            _ => narrow.into_owned(),
        };
        Image::trusted(self.width, self.height, 3, Pixels::U8(pixels))
    }

    /// This picture with 1 channel of 8 bits: the ITU-R 601 luma of RGB, with Pillow's rounding; 16 bits are rounded to 8 first.
    pub fn to_gray8(&self) -> Image {
        let narrow = self.narrow();
        let pixels = match self.channels {
            1 => narrow.into_owned(),
            _ => narrow.chunks_exact(3).map(|rgb| luma8(rgb[0], rgb[1], rgb[2])).collect(),
        };
        Image::trusted(self.width, self.height, 1, Pixels::U8(pixels))
    }

    /// The values as 8 bits, borrowed when they are.
    fn narrow(&self) -> std::borrow::Cow<'_, [u8]> {
        match &self.pixels {
            Pixels::U8(values) => values.into(),
            Pixels::U16(values) => values.iter().map(|&value| narrow16(value)).collect(),
        }
    }
}

impl Pixels {
    /// Number of values (pixels × channels).
    pub fn len(&self) -> usize {
        match self {
            Pixels::U8(values) => values.len(),
            Pixels::U16(values) => values.len(),
        }
    }

    /// Whether there are no values; never so inside an [`Image`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// 65535 → 255, to the nearest.
pub(crate) fn narrow16(value: u16) -> u8 {
    ((u32::from(value) + 128) / 257) as u8
}

/// ITU-R 601-2 luma as Pillow computes mode L: fixed point of 16 bits, rounded.
pub(crate) fn luma8(red: u8, green: u8, blue: u8) -> u8 {
    ((u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000) >> 16) as u8
}

/// [`luma8`] for 16 bits.
pub(crate) fn luma16(red: u16, green: u16, blue: u16) -> u16 {
    ((u64::from(red) * 19595 + u64::from(green) * 38470 + u64::from(blue) * 7471 + 0x8000) >> 16) as u16
}
