//! One pass over the pictures: each is decoded once, and everything that the pixel checks, the duplicates and the search for spurious
//! properties need is computed from it.

mod cache;
mod damage;
mod findings;
mod focus;
mod hash;
mod metadata;
pub(crate) mod pillow;
mod properties;
mod quality;
mod scores;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use data::{Dataset, Sample, Source};
use images::{DecodeOptions, Image, ImageError, Pixels};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use findings::{Thresholds, pixel_findings};
pub use hash::{Look, Symmetry, Thumbnail, phash};
pub use metadata::{Private, PrivateKind};
pub use properties::{Properties, suspects};
pub use quality::Quality;
pub use scores::{QualityScores, quality_scores};

use crate::AuditError;
use cache::{Cache, Stamp};

/// Everything that is measured of one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// BLAKE3 of shape, depth and pixels as decoded, 64 hexadecimal digits: equal for exact duplicates only.
    pub content: String,
    /// CleanVision's measures.
    pub quality: Quality,
    /// Plain properties.
    pub properties: Properties,
    /// Perceptual hashes and thumbnail.
    pub look: Look,
    /// What the metadata tell about people, places and devices.
    pub private: Vec<Private>,
}

/// What the pass over a data set gave.
#[derive(Debug, Clone, Default)]
pub struct PixelTable {
    /// One entry a sample, in their order: the measures, or why the picture cannot be read.
    pub rows: Vec<Result<Measured, String>>,
    /// Pictures that were decoded in this pass; the others were known.
    pub decoded: usize,
}

impl PixelTable {
    /// The measures of a sample, where it could be read.
    pub fn get(&self, sample: usize) -> Option<&Measured> {
        self.rows.get(sample).and_then(|row| row.as_ref().ok())
    }
}

/// How the pass is done.
#[derive(Debug, Clone, Default)]
pub struct PixelOptions {
    /// Limits and background of decoding.
    pub decode: DecodeOptions,
    /// Threads; 0 means one for each core. Results are the same for any number.
    pub threads: usize,
    /// Folder in which measures are kept, so that a second pass reads new and changed files only; `None` keeps none.
    pub cache: Option<PathBuf>,
}

/// Measures every picture of a data set. One that cannot be read stops nothing. In memory are the results and one picture a thread.
///
/// `progress` is called with the number done and the number in all, from any thread. Measures of files are kept in the cache as they are
/// made, by path, size and time of change, so that an interrupted pass continues.
///
/// # Errors
/// The cache cannot be read or written, threads are refused, or `stop` was raised.
pub fn measure(
    dataset: &Dataset,
    options: &PixelOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
    stop: &AtomicBool,
) -> Result<PixelTable, AuditError> {
    let cache = options.cache.as_deref().map(|folder| Cache::open(folder, &dataset.root, &options.decode)).transpose()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
    let pool = pool.map_err(|error| AuditError::Threads { threads: options.threads, reason: error.to_string() })?;
    let (done, decoded, total) = (AtomicUsize::new(0), AtomicUsize::new(0), dataset.len());
    let one = |sample: &Sample| {
        if stop.load(Ordering::Relaxed) {
            return Err(AuditError::Interrupted);
        }
        let row = match (&sample.source, &cache) {
            (Source::File(path), Some(cache)) => through_cache(sample, path, cache, &options.decode, &decoded)?,
            _ => {
                decoded.fetch_add(1, Ordering::Relaxed);
                measure_sample(sample, &options.decode)
            }
        };
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        Ok(row)
    };
    let rows = pool.install(|| dataset.samples.par_iter().with_max_len(16).map(one).collect::<Result<Vec<_>, _>>())?;
    Ok(PixelTable { rows, decoded: decoded.into_inner() })
}

/// Measures one decoded picture; `file` are the bytes it was decoded from, for what they say beside it.
pub fn measure_image(image: &Image, file: Option<&[u8]>) -> Measured {
    let bytes = pillow::bytes(image);
    // A grey picture in a colour file is measured once, not three times; every measure is the same to the last bit.
    match pillow::neutral(&bytes, image.channels()) {
        Some(plane) => measure_planes(image, &plane, 1, file),
        None => measure_planes(image, &bytes, image.channels(), file),
    }
}

/// `bytes` are `[height, width, planes]`: those of `image`, or one plane where all of its channels are equal.
fn measure_planes(image: &Image, bytes: &[u8], planes: usize, file: Option<&[u8]>) -> Measured {
    let [height, width] = [image.height(), image.width()];
    let shape = [height, width, planes];
    let mut counts = quality::histograms(bytes, planes);
    counts.resize(image.channels(), counts[0]);
    let quality = Quality::measure(bytes, shape, &counts);
    let look = Look::measure(bytes, shape);
    let luma;
    let gray: &[u8] = match planes {
        1 => bytes,
        _ => {
            luma = pillow::luma(bytes.to_vec(), planes);
            &luma
        }
    };
    let [brightness, contrast] = match planes {
        1 => properties::moments(&counts[0]),
        _ => properties::moments(&quality::histograms(gray, 1)[0]),
    };
    let [red, green, blue] = properties::colors(&counts);
    let [border, border_contrast] = properties::border(gray, height, width);
    let colorfulness = properties::colorfulness(bytes, planes);
    let (camera, private) = file.map(metadata::read).unwrap_or_default();
    let properties = Properties {
        brightness,
        contrast,
        red,
        green,
        blue,
        colorfulness,
        border,
        border_contrast,
        width,
        height,
        noise: damage::noise(gray, height, width) / 255.0,
        blockiness: damage::blockiness(gray, height, width),
        entropy: quality.entropy,
        sharpness: quality.edges,
        focus: focus::focus(gray, height, width),
        gray: colorfulness == 0.0,
        depth: properties::depth(image),
        bytes: file.map(|f| f.len() as u64),
        format: file.and_then(properties::format).map(String::from),
        jpeg_quality: file.and_then(properties::jpeg_quality),
        camera,
    };
    Measured { content: content(image), quality, properties, look, private }
}

/// BLAKE3 of shape, depth and pixels; what [`data::content_hash`] gives for pictures in memory.
fn content(image: &Image) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(format!("pixels {}x{}x{}", image.height(), image.width(), image.channels()).as_bytes());
    match image.pixels() {
        Pixels::U8(values) => hash.update(values),
        Pixels::U16(values) => hash.update(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()),
    };
    hash.finalize().to_hex().to_string()
}

fn measure_sample(sample: &Sample, decode: &DecodeOptions) -> Result<Measured, String> {
    match &sample.source {
        Source::File(path) => measure_file(path, decode).map_err(|error| error.to_string()),
        Source::Idx { images, index } => images.image(*index).map(|i| measure_image(&i, None)).map_err(|error| error.to_string()),
        Source::Memory(image) => Ok(measure_image(image, None)),
    }
}

fn measure_file(path: &Path, decode: &DecodeOptions) -> Result<Measured, ImageError> {
    let unreadable = |source| ImageError::Read { path: path.to_path_buf(), source };
    let limit = decode.limits.max_bytes;
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size > limit {
        return Err(ImageError::TooManyBytes { bytes: size, limit });
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(measure_image(&images::decode(&bytes, decode)?, Some(&bytes)))
}

fn through_cache(
    sample: &Sample,
    path: &Path,
    cache: &Cache,
    decode: &DecodeOptions,
    decoded: &AtomicUsize,
) -> Result<Result<Measured, String>, AuditError> {
    // Taken before the file is read: one that changes meanwhile is read again the next time.
    let stamp = fs::metadata(path).ok().and_then(|metadata| Stamp::of(&metadata));
    if let Some(known) = stamp.as_ref().and_then(|stamp| cache.take(&sample.id, stamp)) {
        return Ok(Ok(known));
    }
    decoded.fetch_add(1, Ordering::Relaxed);
    let row = measure_file(path, decode).map_err(|error| error.to_string());
    if let (Some(stamp), Ok(measured)) = (stamp, &row) {
        cache.put(&sample.id, stamp, measured)?;
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_grey_picture_in_a_colour_file_measures_the_same_by_one_plane_and_by_three() {
        for (height, width) in [(1, 1), (3, 31), (70, 97), (64, 64), (130, 20)] {
            let gray: Vec<u8> = (0..height * width).map(|i| ((i * i / 7 + 13 * i) % 251) as u8).collect();
            let mut rgb: Vec<u8> = gray.iter().flat_map(|&v| [v; 3]).collect();
            assert_eq!(pillow::neutral(&rgb, 3).as_deref(), Some(&gray[..]));
            let image = Image::from_rgb8(width, height, rgb.clone()).unwrap();
            assert_eq!(measure_image(&image, None), measure_planes(&image, &rgb, 3, None), "{height} x {width}");
            assert_eq!(hash::phash(&image), hash::phash(&Image::from_gray8(width, height, gray).unwrap()));
            let last = rgb.len() - 1;
            rgb[last] ^= 1;
            assert_eq!(pillow::neutral(&rgb, 3), None);
        }
    }
}
