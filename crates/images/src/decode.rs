//! From bytes to an upright picture, by content and within limits.

use std::path::Path;

use crate::{ImageError, image::Image};

/// What a file may cost at most; checked from its size and its header before anything is allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the file in bytes (default 256 MiB).
    pub max_bytes: u64,
    /// Width × height (default 100 million).
    pub max_pixels: u64,
    /// Memory for decoding in bytes (default 1 GiB).
    pub max_memory: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_bytes: 256 << 20, max_pixels: 100_000_000, max_memory: 1 << 30 }
    }
}

/// How to decode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// What a file may cost.
    pub limits: Limits,
    /// RGB colour under transparent pixels (default black).
    pub background: [u8; 3],
}

/// Reads and decodes a file.
///
/// # Errors
/// [`ImageError::Read`] when the file cannot be read; [`ImageError::File`] with the path and what [`decode`] said.
pub fn open(_path: &Path, _options: &DecodeOptions) -> Result<Image, ImageError> {
    unimplemented!()
}

/// Decodes the content of an image file.
///
/// # Errors
/// Empty, unknown, truncated, damaged or unsupported content, or more than the limits allow.
pub fn decode(_bytes: &[u8], _options: &DecodeOptions) -> Result<Image, ImageError> {
    unimplemented!()
}
