//! Many files: decoded and classified by all threads, in order, with bounded memory.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use images::{DecodeOptions, ImageError, Reader};

use crate::classifier::{Classifier, Prediction};
use crate::error::ClassifyError;
use crate::pipeline::{Load, PipelineOptions};
use crate::timings::Timings;

/// How [`Classifier::classify_paths`] works through a list of files.
#[derive(Debug, Clone, Default)]
pub struct StreamOptions {
    /// Images in a batch; 0 chooses by their number and the threads. Results do not depend on it.
    pub batch_size: usize,
    /// Threads that decode and classify; 0 means one for each core. Results do not depend on it.
    pub workers: usize,
    /// Limits of decoding; the background is that of the model's preprocessing.
    pub decode: DecodeOptions,
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
    /// Returns where the time went.
    ///
    /// Decoding and the network overlap; in memory are, for each thread, one decoded image and one batch of prepared ones. JPEG pictures much
    /// larger than the model's input are decoded at part of their size (see [`images::decode_for`]).
    pub fn classify_paths<P: AsRef<Path> + Sync>(
        &self,
        paths: &[P],
        options: &StreamOptions,
        mut each: impl FnMut(PathOutcome),
    ) -> Timings {
        let pipeline = PipelineOptions { batch_size: options.batch_size, threads: options.workers };
        let engine = self.engine().lock().unwrap_or_else(PoisonError::into_inner).fork(1);
        let files = Files { paths, new: || Reader::new(self.preprocess().clone(), options.decode.clone()) };
        let mut next = 0;
        let pass = engine.and_then(|engine| {
            engine.run_many(self.model().graph.output, paths.len(), pipeline, &files, |index, row| {
                next = index + 1;
                let result = row.map(|logits| self.judge(logits)).map_err(ClassifyError::from);
                each(PathOutcome { index, path: paths[index].as_ref().to_path_buf(), result });
                ControlFlow::Continue(())
            })
        });
        match pass {
            Ok(pass) => {
                let read: Vec<_> = pass.states.iter().map(Reader::times).collect();
                Timings::of(&pass, &read, paths.len())
            }
            Err(error) => {
                // What the engine refuses, it refuses for all that is left.
                let problem = error.to_string();
                for (index, path) in paths.iter().enumerate().skip(next) {
                    let result = Err(ClassifyError::Run(graph::RunError::Interpreter(problem.clone())));
                    each(PathOutcome { index, path: path.as_ref().to_path_buf(), result });
                }
                Timings::default()
            }
        }
    }
}

struct Files<'a, P, F> {
    paths: &'a [P],
    new: F,
}

impl<P: AsRef<Path> + Sync, F: Fn() -> Reader + Sync> Load for Files<'_, P, F> {
    type State = Reader;
    type Error = ImageError;

    fn state(&self) -> Reader {
        (self.new)()
    }

    fn load(&self, reader: &mut Reader, index: usize, out: &mut [f32]) -> Result<(), ImageError> {
        reader.open(self.paths[index].as_ref(), out)
    }
}
