//! Batches of pixels on worker threads, in order and in bounded memory.
//!
//! A batch is divided into runs of consecutive samples; workers take runs in order, decode and preprocess (or augment) each
//! sample straight into the run's buffer, and stop taking when `prefetch` batches lie ahead of the one being used. What a
//! sample becomes depends on the sample, the seed and the epoch alone, so the number of workers changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use images::{Augment, DecodeOptions, Image, Picture, Preprocess};

use crate::{DataError, Dataset, Source};

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

    fn check(&self) -> Result<(), DataError> {
        let bad = |option, message: &str| Err(DataError::Loader { option, message: message.into() });
        if self.batch_size == 0 {
            return bad("batch_size", "must be at least 1");
        }
        if self.prefetch == 0 {
            return bad("prefetch", "must be at least 1");
        }
        self.preprocess.check().map_err(|e| DataError::Loader { option: "preprocess", message: e.to_string() })?;
        let augment = self.augment.as_ref().map_or(Ok(()), Augment::check);
        augment.map_err(|e| DataError::Loader { option: "augment", message: e.to_string() })
    }
}

/// Pixels of some samples.
#[derive(Clone, Debug, PartialEq)]
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
pub struct Loader {
    source: Arc<Samples>,
    batch_size: usize,
    workers: usize,
    prefetch: usize,
}

impl Loader {
    /// Checks the options; no thread is started before [`Loader::epoch`].
    ///
    /// # Errors
    /// When an option cannot be used; the error names it.
    pub fn new(dataset: Arc<Dataset>, options: LoaderOptions) -> Result<Loader, DataError> {
        options.check()?;
        let workers = match options.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let LoaderOptions { batch_size, prefetch, cache_bytes, .. } = options;
        let cache = Mutex::new(DecodedCache { pictures: HashMap::new(), left: cache_bytes });
        Ok(Loader { source: Arc::new(Samples { dataset, options, cache }), batch_size, workers, prefetch })
    }

    /// The batches of `order` (positions in the data set, any number of times each), augmented for epoch number `epoch`. A
    /// position outside the data set is reported in [`Batch::failed`].
    pub fn epoch(&self, order: &[usize], epoch: u64) -> Epoch {
        let runs = self.workers.clamp(1, self.batch_size);
        let plan = Plan { order: order.to_vec(), epoch, batch_size: self.batch_size, runs, prefetch: self.prefetch };
        let batches = plan.batches();
        let shared = Arc::new(Shared { plan, state: Mutex::default(), room: Condvar::new(), ready: Condvar::new() });
        let mut threads = Vec::new();
        for number in 0..self.workers.min(batches.saturating_mul(runs)) {
            let (source, shared) = (Arc::clone(&self.source), Arc::clone(&shared));
            match thread::Builder::new().name(format!("loader-{number}")).spawn(move || work(&source, &shared)) {
                Ok(thread) => threads.push(thread),
                Err(_) => break,
            }
        }
        Epoch { source: Arc::clone(&self.source), shared, threads, next: 0 }
    }

    /// Number of batches of an epoch over `samples` samples.
    pub fn batches(&self, samples: usize) -> usize {
        samples.div_ceil(self.batch_size)
    }

    /// C, H, W of each picture.
    pub fn shape(&self) -> [usize; 3] {
        self.source.options.preprocess.shape()
    }
}

/// Decoded pictures, kept until the budget is spent.
struct DecodedCache {
    pictures: HashMap<usize, Arc<Picture>>,
    left: usize,
}

/// The data set and all that turns a sample into numbers.
struct Samples {
    dataset: Arc<Dataset>,
    options: LoaderOptions,
    cache: Mutex<DecodedCache>,
}

impl Samples {
    /// Writes sample `i` into `out`, `[C, H, W]`. A panic of a decoder is an error of this sample alone.
    fn write(&self, i: usize, epoch: u64, out: &mut [f32]) -> Result<(), String> {
        let LoaderOptions { preprocess, seed, .. } = &self.options;
        let attempt = AssertUnwindSafe(|| {
            match (self.source(i).map_err(|e| e.reason())?, self.augment()) {
                (Decoded::Image(image), Some(augment)) => augment.apply_into(image, preprocess, *seed, i as u64, epoch, out),
                (Decoded::Image(image), None) => preprocess.apply_into(image, out),
                (Decoded::Picture(picture), Some(augment)) => {
                    augment.apply_into(picture.image(), preprocess, *seed, i as u64, epoch, out);
                }
                (Decoded::Picture(picture), None) => preprocess.apply_picture(&picture, out),
            }
            Ok(())
        });
        catch_unwind(attempt).unwrap_or_else(|_| Err("the decoder failed unexpectedly on this picture".to_string()))
    }

    /// The augmentation, where there is one.
    fn augment(&self) -> Option<&Augment> {
        self.options.augment.as_ref().filter(|augment| !augment.is_none())
    }

    fn source(&self, i: usize) -> Result<Decoded<'_>, DataError> {
        let sample = self.dataset.samples.get(i).ok_or(DataError::Index { index: i, len: self.dataset.len() })?;
        match &sample.source {
            Source::Memory(image) => Ok(Decoded::Image(image)),
            Source::Idx { .. } => Ok(Decoded::Picture(Arc::new(self.dataset.image(i, &self.options.decode)?.into()))),
            Source::File(_) => self.file(i).map(Decoded::Picture),
        }
    }

    /// The picture of a file, out of the cache or for it.
    fn file(&self, i: usize) -> Result<Arc<Picture>, DataError> {
        if let Some(picture) = lock(&self.cache).pictures.get(&i) {
            return Ok(Arc::clone(picture));
        }
        let LoaderOptions { preprocess, decode, .. } = &self.options;
        let picture = Arc::new(match self.augment() {
            // A crop may show a small part of the picture: all its pixels are needed.
            Some(_) => self.dataset.image(i, decode)?.into(),
            None => self.dataset.picture(i, preprocess, decode)?,
        });
        let mut cache = lock(&self.cache);
        let bytes = picture.image().byte_len();
        if bytes <= cache.left && cache.pictures.insert(i, Arc::clone(&picture)).is_none() {
            cache.left -= bytes;
        }
        Ok(picture)
    }
}

/// A sample's pixels.
enum Decoded<'a> {
    Image(&'a Image),
    Picture(Arc<Picture>),
}

/// What is to be made, in which order.
struct Plan {
    order: Vec<usize>,
    epoch: u64,
    batch_size: usize,
    /// Runs a batch.
    runs: usize,
    prefetch: usize,
}

impl Plan {
    fn batches(&self) -> usize {
        self.order.len().div_ceil(self.batch_size)
    }

    /// The samples of run `run` of batch `batch`.
    fn samples(&self, batch: usize, run: usize) -> &[usize] {
        let start = batch * self.batch_size;
        let batch = &self.order[start..(start + self.batch_size).min(self.order.len())];
        &batch[batch.len() * run / self.runs..batch.len() * (run + 1) / self.runs]
    }
}

/// A finished run.
#[derive(Default)]
struct Run {
    indices: Vec<usize>,
    images: Vec<f32>,
    failed: Vec<(usize, String)>,
}

#[derive(Default)]
struct State {
    /// The run to take next, counted over all batches.
    next: usize,
    /// Batches given out.
    used: usize,
    done: BTreeMap<(usize, usize), Run>,
    stop: bool,
}

struct Shared {
    plan: Plan,
    state: Mutex<State>,
    /// A batch was given out, or the epoch was dropped.
    room: Condvar,
    /// A run was finished.
    ready: Condvar,
}

impl Shared {
    /// The next run to make, when there is room for it; `None` when the epoch is over.
    fn take(&self) -> Option<(usize, usize)> {
        let mut state = lock(&self.state);
        loop {
            let (batch, run) = (state.next / self.plan.runs, state.next % self.plan.runs);
            if state.stop || batch >= self.plan.batches() {
                return None;
            }
            if batch <= state.used + self.plan.prefetch {
                state.next += 1;
                return Some((batch, run));
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(source: &Samples, shared: &Shared) {
    while let Some((batch, run)) = shared.take() {
        let made = make_run(source, shared, shared.plan.samples(batch, run));
        lock(&shared.state).done.insert((batch, run), made);
        shared.ready.notify_all();
    }
}

fn make_run(source: &Samples, shared: &Shared, samples: &[usize]) -> Run {
    let size: usize = source.options.preprocess.shape().iter().product();
    let mut run = Run { images: vec![0.0; size * samples.len()], ..Run::default() };
    for &i in samples {
        if lock(&shared.state).stop {
            break;
        }
        let start = run.indices.len() * size;
        match source.write(i, shared.plan.epoch, &mut run.images[start..start + size]) {
            Ok(()) => run.indices.push(i),
            Err(reason) => run.failed.push((i, reason)),
        }
    }
    run.images.truncate(run.indices.len() * size);
    run
}

/// The batches of one epoch. Dropping it early stops the workers after the sample they are at.
pub struct Epoch {
    source: Arc<Samples>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
}

impl Epoch {
    /// The runs of batch `batch`, made here if no thread could be started.
    fn runs(&self, batch: usize) -> Vec<Run> {
        let plan = &self.shared.plan;
        if self.threads.is_empty() {
            return (0..plan.runs).map(|run| make_run(&self.source, &self.shared, plan.samples(batch, run))).collect();
        }
        let mut state = lock(&self.shared.state);
        let mut runs = Vec::with_capacity(plan.runs);
        while runs.len() < plan.runs {
            match state.done.remove(&(batch, runs.len())) {
                Some(run) => runs.push(run),
                None => state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
        state.used = batch + 1;
        drop(state);
        self.shared.room.notify_all();
        runs
    }
}

impl Iterator for Epoch {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.next >= self.shared.plan.batches() {
            return None;
        }
        let mut runs = self.runs(self.next).into_iter();
        self.next += 1;
        let mut all = runs.next().unwrap_or_default();
        for run in runs {
            all.indices.extend(run.indices);
            all.images.extend_from_slice(&run.images);
            all.failed.extend(run.failed);
        }
        let [c, h, w] = self.source.options.preprocess.shape();
        Some(Batch { shape: [all.indices.len(), c, h, w], indices: all.indices, images: all.images, failed: all.failed })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.shared.plan.batches() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Epoch {}

impl Drop for Epoch {
    fn drop(&mut self) {
        lock(&self.shared.state).stop = true;
        self.shared.room.notify_all();
        for thread in self.threads.drain(..) {
            // A worker catches panics of decoders; there is nothing more to do about any other.
            let _ = thread.join();
        }
    }
}
