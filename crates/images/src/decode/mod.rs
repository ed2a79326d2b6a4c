//! From bytes to an upright picture, by content and within limits.

mod format;
mod jpeg;
mod orientation;
mod picture;
mod png;
mod raster;
mod reduced;

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use format::Format;

use crate::{ImageError, Preprocess, image::Image};

pub use picture::Picture;
pub(crate) use picture::View;

/// What a file may cost at most; checked from its size and its header before pixels are allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the file in bytes (default 256 MiB).
    pub max_bytes: u64,
    /// Width × height (default 100 million).
    pub max_pixels: u64,
    /// Memory for decoding in bytes, as estimated from the header (default 1 GiB).
    pub max_memory: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_bytes: 256 << 20, max_pixels: 100_000_000, max_memory: 1 << 30 }
    }
}

impl Limits {
    fn check_bytes(&self, bytes: u64) -> Result<(), ImageError> {
        if bytes > self.max_bytes {
            return Err(ImageError::TooManyBytes { bytes, limit: self.max_bytes });
        }
        Ok(())
    }

    /// `bytes_per_pixel` counts everything that is alive at once while decoding.
    fn check_size(&self, width: u32, height: u32, bytes_per_pixel: u64) -> Result<(), ImageError> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels {
            return Err(ImageError::TooManyPixels { width, height, limit: self.max_pixels });
        }
        let needed = pixels.saturating_mul(bytes_per_pixel);
        if needed > self.max_memory {
            return Err(ImageError::TooMuchMemory { width, height, needed, limit: self.max_memory });
        }
        Ok(())
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

/// Reads and decodes a file: [`decode`] with the path in the error.
///
/// # Errors
/// [`ImageError::Read`] when the file cannot be read; [`ImageError::File`] with the path and what [`decode`] said.
pub fn open(path: &Path, options: &DecodeOptions) -> Result<Image, ImageError> {
    let mut bytes = Vec::new();
    read(path, options, &mut bytes)?;
    decode(&bytes, options).map_err(|error| error.in_file(path))
}

/// Reads and decodes a file no larger than `preprocess` needs it: [`decode_for`] with the path in the error.
///
/// # Errors
/// As [`open`].
pub fn open_for(path: &Path, preprocess: &Preprocess, options: &DecodeOptions) -> Result<Picture, ImageError> {
    let mut bytes = Vec::new();
    read(path, options, &mut bytes)?;
    decode_for(&bytes, preprocess, options).map_err(|error| error.in_file(path))
}

/// Reads a file into `bytes`, whose memory is used again, when it is within `options.limits.max_bytes`.
///
/// # Errors
/// [`ImageError::Read`] when the file cannot be read; [`ImageError::File`] with [`ImageError::TooManyBytes`].
pub fn read(path: &Path, options: &DecodeOptions, bytes: &mut Vec<u8>) -> Result<(), ImageError> {
    let unreadable = |source| ImageError::Read { path: path.to_path_buf(), source };
    bytes.clear();
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    options.limits.check_bytes(size).map_err(|error| error.in_file(path))?;
    bytes.reserve(size as usize);
    // A device or a growing file may hold more than its metadata said.
    file.take(options.limits.max_bytes.saturating_add(1)).read_to_end(bytes).map_err(unreadable)?;
    options.limits.check_bytes(bytes.len() as u64).map_err(|error| error.in_file(path))
}

/// Decodes the content of an image file: JPEG, PNG, BMP, GIF (first frame), TIFF (first page), WebP or PNM, whatever its name.
///
/// The result is upright (the EXIF orientation is applied) and opaque (alpha is composited onto `options.background`); grey files give
/// 1 channel, 16-bit files keep their depth. CMYK JPEG files become RGB by Adobe's convention; colour profiles are not applied.
///
/// # Errors
/// Empty, unknown, truncated, damaged or unsupported content, or more than the limits allow.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Image, ImageError> {
    options.limits.check_bytes(bytes.len() as u64)?;
    let format = format::of(bytes)?;
    guarded(format, || match format {
        Format::Jpeg => jpeg::decode(bytes, options),
        Format::Png => match png::decode(bytes, options)? {
            Some(image) => Ok(image),
            None => raster::decode(bytes, format.name(), image::ImageFormat::Png, options),
        },
        Format::Other { name, format } => raster::decode(bytes, name, format, options),
    })
}

/// [`decode`], but a JPEG picture that is much larger than `preprocess` needs comes at 1/2, 1/4 or 1/8 of its size, which takes a fraction of
/// the time. The reduced picture keeps at least two pixels for one of the result, so that [`Preprocess::apply_picture`] gives nearly the
/// values of full decoding (its documentation says how nearly).
///
/// What is refused does not change, with one exception: of a progressive file, data that only the full size needs is not looked at.
///
/// # Errors
/// As [`decode`].
pub fn decode_for(bytes: &[u8], preprocess: &Preprocess, options: &DecodeOptions) -> Result<Picture, ImageError> {
    options.limits.check_bytes(bytes.len() as u64)?;
    let format = format::of(bytes)?;
    let small = match format {
        Format::Jpeg => guarded(format, || Ok(reduced::decode(bytes, options, &|whole| preprocess.eighths(whole))))?,
        Format::Png | Format::Other { .. } => None,
    };
    match small {
        Some(small) => Ok(Picture::reduced(small)),
        None => decode(bytes, options).map(Picture::from),
    }
}

/// The decoders are other people's code fed with hostile bytes. They are meant never to panic, but one bad file must not stop a job over a
/// million of them; nothing of theirs outlives the call, so no broken state can be seen afterwards.
fn guarded<T>(format: Format, work: impl FnOnce() -> Result<T, ImageError>) -> Result<T, ImageError> {
    let gave_up = |_| Err(ImageError::Damaged { format: format.name(), detail: "the decoder gave up".to_string() });
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(gave_up)
}
