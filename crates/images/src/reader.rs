//! Files into a network's input, one after the other, with one set of buffers.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::decode::{DecodeOptions, decode_for, read};
use crate::{Image, ImageError, Preprocess};

/// Where the time of a [`Reader`] went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderTimes {
    /// Reading bytes from files.
    pub read: Duration,
    /// From bytes to pixels.
    pub decode: Duration,
    /// From pixels to values: colour, resizing, normalising.
    pub prepare: Duration,
}

/// Reads, decodes and prepares pictures for a model; each thread has its own.
///
/// ```
/// use images::{DecodeOptions, Image, Preprocess, Reader};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("photo.png");
/// std::fs::write(&path, images::encode_png(&Image::from_rgb8(64, 48, vec![128; 64 * 48 * 3])?))?;
/// let preprocess = Preprocess::imagenet([32, 32]);
/// let mut input = vec![0.0; preprocess.shape().iter().product()];
/// let mut reader = Reader::new(preprocess, DecodeOptions::default());
/// reader.open(&path, &mut input)?;
/// assert!(input.iter().any(|&value| value != 0.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reader {
    preprocess: Preprocess,
    options: DecodeOptions,
    bytes: Vec<u8>,
    times: ReaderTimes,
}

impl Reader {
    /// A reader for one specification; `options` has the background of `preprocess`, whatever it is given.
    pub fn new(preprocess: Preprocess, options: DecodeOptions) -> Reader {
        let options = DecodeOptions { background: preprocess.background, ..options };
        Reader { preprocess, options, bytes: Vec::new(), times: ReaderTimes::default() }
    }

    /// Writes the values `[C, H, W]` of an image file into `out`. A large JPEG picture is decoded at part of its size, see
    /// [`decode_for`].
    ///
    /// # Errors
    /// As [`open_for`](crate::open_for).
    ///
    /// # Panics
    /// When the slice does not hold `C * H * W` values.
    pub fn open(&mut self, path: &Path, out: &mut [f32]) -> Result<(), ImageError> {
        let start = Instant::now();
        let unread = read(path, &self.options, &mut self.bytes);
        let there = Instant::now();
        self.times.read += there - start;
        unread?;
        let picture = decode_for(&self.bytes, &self.preprocess, &self.options).map_err(|error| error.in_file(path));
        let decoded = Instant::now();
        self.times.decode += decoded - there;
        self.preprocess.apply_picture(&picture?, out);
        self.times.prepare += decoded.elapsed();
        Ok(())
    }

    /// Writes the values `[C, H, W]` of decoded pixels into `out`.
    ///
    /// # Panics
    /// When the slice does not hold `C * H * W` values.
    pub fn prepare(&mut self, image: &Image, out: &mut [f32]) {
        let start = Instant::now();
        self.preprocess.apply_into(image, out);
        self.times.prepare += start.elapsed();
    }

    /// Where the time went so far.
    pub fn times(&self) -> ReaderTimes {
        self.times
    }
}
