//! A first look at every image before a long training: what cannot be read, how large the rest is, whether it is grey.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use data::Dataset;
use images::{DecodeOptions, Preprocess};
use rayon::prelude::*;

use crate::LearnError;
use crate::progress::{Event, Meter, Progress};

/// What a look at every image found.
#[derive(Debug, Clone, PartialEq)]
pub struct Screened {
    /// Samples whose image can be read.
    pub usable: Vec<usize>,
    /// The others, with the reason.
    pub failed: Vec<(usize, String)>,
    /// Median `[height, width]` of the usable.
    pub median_size: [usize; 2],
    /// Whether every usable image has one channel.
    pub gray: bool,
}

/// Decodes every image once.
///
/// # Errors
/// `stop` was raised.
pub fn screen(
    dataset: &Arc<Dataset>,
    samples: &[usize],
    background: [u8; 3],
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Screened, LearnError> {
    let decode = DecodeOptions { background, ..DecodeOptions::default() };
    let (meter, done) = (Meter::start(samples.len()), AtomicUsize::new(0));
    let seen: Vec<Option<Result<[usize; 3], String>>> = samples
        .par_iter()
        .map(|&i| {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let look = dataset.image(i, &decode).map(|m| [m.height(), m.width(), m.channels()]);
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_multiple_of(256) {
                progress.event(&Event::Step(meter.step(count, "")));
            }
            Some(look.map_err(|e| e.reason()))
        })
        .collect();
    let mut screened = Screened { usable: Vec::new(), failed: Vec::new(), median_size: [0; 2], gray: true };
    let (mut heights, mut widths) = (Vec::new(), Vec::new());
    for (&index, look) in samples.iter().zip(seen) {
        match look.ok_or(LearnError::Interrupted)? {
            Ok([height, width, channels]) => {
                screened.usable.push(index);
                screened.gray &= channels == 1;
                heights.push(height);
                widths.push(width);
            }
            Err(reason) => screened.failed.push((index, reason)),
        }
    }
    heights.sort_unstable();
    widths.sort_unstable();
    if let (Some(&h), Some(&w)) = (heights.get(heights.len() / 2), widths.get(widths.len() / 2)) {
        screened.median_size = [h, w];
    }
    Ok(screened)
}

/// Most images that [`moments`] reads.
const MOMENT_IMAGES: usize = 4096;

/// Mean and standard deviation of each channel, values in 0..=1, over training images as `preprocess` cuts them.
///
/// # Errors
/// An image that was readable a moment ago is not.
pub fn moments(dataset: &Dataset, train: &[usize], preprocess: &Preprocess) -> Result<(Vec<f32>, Vec<f32>), LearnError> {
    let channels = preprocess.mean.len();
    let plain = Preprocess { mean: vec![0.0; channels], std: vec![1.0; channels], ..preprocess.clone() };
    let decode = DecodeOptions { background: preprocess.background, ..DecodeOptions::default() };
    let every = train.len().div_ceil(MOMENT_IMAGES).max(1);
    let chosen: Vec<usize> = train.iter().copied().step_by(every).collect();
    let sums: Vec<Vec<(f64, f64)>> = chosen
        .par_iter()
        .map(|&i| {
            let values = plain.apply(&dataset.image(i, &decode)?);
            let plane = values.len() / channels;
            let sums = |plane: &[f32]| plane.iter().map(|&v| f64::from(v)).fold((0.0, 0.0), |(s, q), v| (s + v, q + v * v));
            Ok(values.chunks_exact(plane).map(sums).collect())
        })
        .collect::<Result<_, LearnError>>()?;
    let n = (chosen.len() * preprocess.size[0] * preprocess.size[1]).max(1) as f64;
    let (mut mean, mut std) = (Vec::new(), Vec::new());
    for c in 0..channels {
        let (sum, squares) = sums.iter().fold((0.0, 0.0), |(s, q), row| (s + row[c].0, q + row[c].1));
        let m = sum / n;
        let deviation = (squares / n - m * m).max(0.0).sqrt();
        // Rounded, so that the recipe reads well; a constant channel is left at its scale.
        mean.push((m * 1e4).round() as f32 / 1e4);
        std.push(if deviation > 1e-3 { (deviation * 1e4).round() as f32 / 1e4 } else { 1.0 });
    }
    Ok((mean, std))
}
