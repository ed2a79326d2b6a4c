//! Many files: decoded by several threads, classified in batches, in order, with bounded memory.

use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use images::DecodeOptions;
use rayon::prelude::*;

use crate::classifier::{Classifier, Prediction};
use crate::error::ClassifyError;

/// How [`Classifier::classify_paths`] works through a list of files.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Images in a batch; at least 1.
    pub batch_size: usize,
    /// Threads that decode; 0 means one for each core.
    pub workers: usize,
    /// Limits and background of decoding.
    pub decode: DecodeOptions,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { batch_size: 16, workers: 0, decode: DecodeOptions::default() }
    }
}

/// What became of one file.
#[derive(Debug)]
pub struct PathOutcome {
    /// Position in the list.
    pub index: usize,
    /// The file.
    pub path: PathBuf,
    /// The prediction, or why there is none.
    pub result: Result<Prediction, ClassifyError>,
}

impl Classifier {
    /// Classifies files in order and hands each outcome to `each`; a file that cannot be decoded gives an error outcome and stops nothing.
    ///
    /// Decoding and the network overlap; at most three batches of prepared images are in memory, and one decoded image a worker.
    pub fn classify_paths<P: AsRef<Path> + Sync>(&self, paths: &[P], options: &StreamOptions, mut each: impl FnMut(PathOutcome)) {
        let size = options.batch_size.max(1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(options.workers).build().ok();
        std::thread::scope(|scope| {
            // One batch waits in the channel, one is being decoded, one classified.
            let (ready, batches) = sync_channel::<Batch>(1);
            scope.spawn(move || {
                for (index, chunk) in paths.chunks(size).enumerate() {
                    let decode = || chunk.par_iter().map(|path| self.prepare(path.as_ref(), options)).collect();
                    let prepared = pool.as_ref().map_or_else(decode, |pool| pool.install(decode));
                    if ready.send(Batch { first: index * size, prepared }).is_err() {
                        return;
                    }
                }
            });
            for batch in batches {
                self.classify_prepared(paths, batch, &mut each);
            }
        });
    }

    fn prepare(&self, path: &Path, options: &StreamOptions) -> Result<Vec<f32>, ClassifyError> {
        let image = images::open(path, &options.decode)?;
        Ok(self.preprocess().apply(&image))
    }

    fn classify_prepared<P: AsRef<Path>>(&self, paths: &[P], batch: Batch, each: &mut impl FnMut(PathOutcome)) {
        let values: Vec<f32> = batch.prepared.iter().flatten().flatten().copied().collect();
        let mut predictions = self.classify_values(&values).map(Vec::into_iter);
        for (offset, prepared) in batch.prepared.into_iter().enumerate() {
            let index = batch.first + offset;
            let result = prepared.and_then(|_| match &mut predictions {
                Ok(predictions) => predictions.next().ok_or_else(|| failed("the engine gave too few predictions")),
                Err(error) => Err(failed(&error.to_string())),
            });
            each(PathOutcome { index, path: paths[index].as_ref().to_path_buf(), result });
        }
    }
}

struct Batch {
    first: usize,
    prepared: Vec<Result<Vec<f32>, ClassifyError>>,
}

fn failed(problem: &str) -> ClassifyError {
    ClassifyError::Run(graph::RunError::Interpreter(problem.into()))
}
