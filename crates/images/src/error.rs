//! What can go wrong with pixels, and what the reader can do about it.

use std::path::PathBuf;

/// Why an image could not be decoded, or why a specification of what to do with images is not valid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file could not be read at all.
    #[error("{path}: cannot be read: {source}", path = .path.display())]
    Read {
        /// The file that was asked for.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file failed to decode; `source` says why.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file that was asked for.
        path: PathBuf,
        /// What is wrong with its content.
        source: Box<ImageError>,
    },
    /// There are no bytes.
    #[error("the file is empty (0 bytes); an image was expected: copy or export it again")]
    Empty,
    /// The content is no known image format.
    #[error(
        "not an image: expected the content of a JPEG, PNG, BMP, GIF, TIFF, WebP or PNM file, found {found}; convert it or take it out of the data set"
    )]
    UnknownFormat {
        /// What the first bytes look like.
        found: String,
    },
    /// The bytes end before the picture does.
    #[error("the {format} data is cut short ({bytes} bytes, {detail}); copy or download the file again")]
    Truncated {
        /// The format that the content begins as.
        format: &'static str,
        /// How many bytes there are.
        bytes: usize,
        /// What the decoder missed.
        detail: String,
    },
    /// The bytes are damaged.
    #[error("the {format} data is damaged: {detail}; export the picture again")]
    Damaged {
        /// The format that the content begins as.
        format: &'static str,
        /// What the decoder said.
        detail: String,
    },
    /// A valid file that uses a feature which is not supported.
    #[error("this kind of {format} is not supported: {detail}; save it as a plain 8-bit PNG or JPEG")]
    Unsupported {
        /// The format that the content begins as.
        format: &'static str,
        /// Which feature.
        detail: String,
    },
    /// More bytes than [`Limits::max_bytes`](crate::Limits::max_bytes).
    #[error("the file has {bytes} bytes, more than the limit of {limit}; make it smaller")]
    TooManyBytes {
        /// Size of the file.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// More pixels than [`Limits::max_pixels`](crate::Limits::max_pixels).
    #[error("the picture is {width}×{height} = {pixels} pixels, more than the limit of {limit}; make it smaller (predict takes it with a larger --max-pixels)", pixels = u64::from(*.width) * u64::from(*.height))]
    TooManyPixels {
        /// Width in pixels, as the header states it.
        width: u32,
        /// Height in pixels, as the header states it.
        height: u32,
        /// The limit in pixels.
        limit: u64,
    },
    /// Decoding would need more memory than [`Limits::max_memory`](crate::Limits::max_memory).
    #[error("decoding the {width}×{height} picture needs about {needed} bytes of memory, more than the limit of {limit}; make it smaller")]
    TooMuchMemory {
        /// Width in pixels, as the header states it.
        width: u32,
        /// Height in pixels, as the header states it.
        height: u32,
        /// Estimate of the memory needed, in bytes.
        needed: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A buffer does not have the length that its dimensions ask for.
    #[error(
        "an image of {width}×{height} with {channels} channels needs {expected} values, found {found}; width and height must be at least 1"
    )]
    Shape {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Channels per pixel.
        channels: usize,
        /// `width * height * channels`.
        expected: usize,
        /// The length of the buffer.
        found: usize,
    },
    /// A field of a [`Preprocess`](crate::Preprocess) or an [`Augment`](crate::Augment) is out of range.
    #[error("`{field}` is {found}; expected {expected}")]
    Setting {
        /// The field, as it is written in a recipe.
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What was found.
        found: String,
    },
}

impl ImageError {
    /// This error with the path of the file it is about.
    pub fn in_file(self, path: &std::path::Path) -> ImageError {
        ImageError::File { path: path.to_path_buf(), source: Box::new(self) }
    }
}
