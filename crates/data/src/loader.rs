//! Batches of pixels on worker threads, in order and in bounded memory.

use std::sync::Arc;

use images::{Augment, DecodeOptions, Preprocess};

use crate::{DataError, Dataset};

/// How to load.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// The one preprocessing specification.
    pub preprocess: Preprocess,
    /// Augmentation; `None` gives the plain preprocessing.
    pub augment: Option<Augment>,
    /// Samples a batch, at least 1.
    pub batch_size: usize,
    /// Worker threads; 0 means one for each processor.
    pub workers: usize,
    /// Batches that are made ahead of the one being used, at least 1.
    pub prefetch: usize,
    /// Seed of the augmentation.
    pub seed: u64,
    /// Limits and background of decoding.
    pub decode: DecodeOptions,
    /// Bytes of decoded pictures that are kept in memory for the next epoch; 0 keeps none.
    pub cache_bytes: usize,
}

impl LoaderOptions {
    /// No augmentation, batches of 32, one worker a processor, 2 batches ahead, seed 0, a cache of 1 GiB.
    pub fn new(preprocess: Preprocess) -> LoaderOptions {
        LoaderOptions {
            preprocess,
            augment: None,
            batch_size: 32,
            workers: 0,
            prefetch: 2,
            seed: 0,
            decode: DecodeOptions::default(),
            cache_bytes: 1 << 30,
        }
    }
}

/// Pixels of some samples.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The samples that decoded, in the order asked for.
    pub indices: Vec<usize>,
    /// `[N, C, H, W]`, normalised as the preprocessing says.
    pub images: Vec<f32>,
    /// N, C, H, W.
    pub shape: [usize; 4],
    /// Samples that could not be used, with the reason.
    pub failed: Vec<(usize, String)>,
}

/// Makes batches of a data set.
pub struct Loader {}

impl Loader {
    /// stub
    ///
    /// # Errors
    /// When an option cannot be used; the error names it.
    pub fn new(_dataset: Arc<Dataset>, _options: LoaderOptions) -> Result<Loader, DataError> {
        unimplemented!()
    }

    /// stub
    pub fn epoch(&self, _order: &[usize], _epoch: u64) -> Epoch {
        unimplemented!()
    }

    /// Number of batches of an epoch over `samples` samples.
    pub fn batches(&self, _samples: usize) -> usize {
        unimplemented!()
    }
}

/// The batches of one epoch; dropping it stops the workers.
pub struct Epoch {}

impl Iterator for Epoch {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        unimplemented!()
    }
}
