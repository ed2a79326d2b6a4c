//! Many inputs through one network: each thread loads a chunk, runs it and takes the next, so that loading and the network overlap; rows come out
//! in order.
//!
//! A thread that does all for its images needs no other thread's cores: convolutions of one image on one core lose nothing to waiting, where
//! several threads in one convolution wait for the slowest at each layer (`docs/pipeline.md` has the measurements). Weights are packed once and
//! shared; each thread has its own activations.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use graph::{NodeId, RunError};

use crate::run::Engine;

/// Images in a batch where the options leave it open: more do not make a thread faster, and cost memory (measured, see `docs/pipeline.md`).
const BATCH: usize = 4;
/// Chunks that may be finished and wait for an earlier one, for each thread.
const AHEAD: usize = 4;

/// How [`Engine::run_many`] divides the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PipelineOptions {
    /// Inputs in a batch; 0 chooses by their number and the threads. Results do not depend on it.
    pub batch_size: usize,
    /// Threads; 0 means one for each core. Results do not depend on it.
    pub threads: usize,
}

/// What a run of the pipeline took.
#[derive(Debug)]
pub struct Pass<S> {
    /// What each thread had while it loaded.
    pub states: Vec<S>,
    /// Time inside the network, summed over threads.
    pub network: Duration,
    /// Time of the threads, summed.
    pub busy: Duration,
    /// From start to end.
    pub wall: Duration,
    /// Inputs in a batch.
    pub batch_size: usize,
}

/// What brings inputs to the pipeline.
pub trait Load: Sync {
    /// What a thread keeps between inputs, such as buffers.
    type State: Send;
    /// Why an input is not there.
    type Error: Send;

    /// What a thread starts with.
    fn state(&self) -> Self::State;

    /// Writes input number `index` into `out`, the values `[C, H, W]` of the network's input.
    ///
    /// # Errors
    /// When there is none: the input is left out, and the error is handed on in its place.
    fn load(&self, state: &mut Self::State, index: usize, out: &mut [f32]) -> Result<(), Self::Error>;
}

impl Engine {
    /// Runs the network on `count` inputs and hands the activation of `output` for each, a row, to `each`, in order, on the calling thread;
    /// in the place of an input that could not be loaded, its error. `each` may break off.
    ///
    /// In memory are one batch for each thread and a few finished rows.
    ///
    /// # Errors
    /// As [`Engine::run`]; threads that the system refuses; a panic in a thread.
    pub fn run_many<L: Load>(
        &self,
        output: NodeId,
        count: usize,
        options: PipelineOptions,
        load: &L,
        mut each: impl FnMut(usize, Result<&[f32], L::Error>) -> ControlFlow<()>,
    ) -> Result<Pass<L::State>, RunError> {
        let start = Instant::now();
        let plan = Division::new(count, options);
        let state = Mutex::new(Progress::default());
        let shared = Shared { load, plan, output, image: self.graph().input_shape().iter().product(), state, room: Condvar::new() };
        let forks = (0..plan.workers).map(|_| self.fork(plan.threads_each)).collect::<Result<Vec<_>, _>>()?;
        let mut pass =
            Pass { states: Vec::new(), network: Duration::ZERO, busy: Duration::ZERO, wall: Duration::ZERO, batch_size: plan.batch };
        thread::scope(|scope| {
            let (done, chunks) = channel();
            let workers: Vec<_> = forks
                .into_iter()
                .map(|engine| {
                    let (shared, done) = (&shared, done.clone());
                    scope.spawn(move || shared.work(engine, &done))
                })
                .collect();
            drop(done);
            let result = shared.deliver(&chunks, &mut each);
            shared.stop();
            for worker in workers {
                // A worker catches panics and reports them as errors.
                let Ok(spent) = worker.join() else { continue };
                pass.states.push(spent.state);
                pass.network += spent.network;
                pass.busy += spent.busy;
            }
            pass.wall = start.elapsed();
            result.map(|()| pass)
        })
    }
}

/// Who does how much.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Division {
    count: usize,
    batch: usize,
    workers: usize,
    /// Threads of each worker's engine.
    threads_each: usize,
}

impl Division {
    fn new(count: usize, options: PipelineOptions) -> Self {
        let threads = match options.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        // Few inputs: all threads work on one after the other.
        if count < threads {
            let batch = if options.batch_size == 0 { 1 } else { options.batch_size };
            return Division { count, batch, workers: 1, threads_each: threads };
        }
        // Each thread gets two chunks at least, so that the last ones end at about the same time.
        let batch = if options.batch_size == 0 { BATCH.min(count.div_ceil(2 * threads)).max(1) } else { options.batch_size };
        let workers = threads.min(count.div_ceil(batch)).max(1);
        Division { count, batch, workers, threads_each: threads / workers }
    }

    fn chunks(&self) -> usize {
        self.count.div_ceil(self.batch)
    }
}

#[derive(Default)]
struct Progress {
    /// The chunk to take next.
    next: usize,
    /// Chunks handed out.
    delivered: usize,
    stop: bool,
}

struct Shared<'a, L: Load> {
    load: &'a L,
    plan: Division,
    output: NodeId,
    /// Values of one input.
    image: usize,
    state: Mutex<Progress>,
    /// A chunk was handed out, or the work was broken off.
    room: Condvar,
}

/// A finished chunk: rows of those that were loaded, and the outcome of each.
struct Chunk<E> {
    number: usize,
    rows: Vec<f32>,
    outcomes: Vec<Result<(), E>>,
}

/// A worker's account.
struct Spent<S> {
    state: S,
    network: Duration,
    busy: Duration,
}

type Finished<E> = Result<Chunk<E>, RunError>;

impl<L: Load> Shared<'_, L> {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.lock().stop = true;
        self.room.notify_all();
    }

    /// The next chunk, when there is room for what comes of it; `None` when there is none left.
    fn take(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.stop || state.next >= self.plan.chunks() {
                return None;
            }
            if state.next < state.delivered + AHEAD * self.plan.workers {
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self, mut engine: Engine, done: &Sender<Finished<L::Error>>) -> Spent<L::State> {
        let (mut spent, mut input) = (Spent { state: self.load.state(), network: Duration::ZERO, busy: Duration::ZERO }, Vec::new());
        while let Some(number) = self.take() {
            let start = Instant::now();
            let attempt = catch_unwind(AssertUnwindSafe(|| self.chunk(number, &mut engine, &mut input, &mut spent)));
            let finished = attempt.unwrap_or_else(|_| Err(RunError::Interpreter("a thread of the pipeline panicked".into())));
            spent.busy += start.elapsed();
            if done.send(finished).is_err() {
                break;
            }
        }
        spent
    }

    fn chunk(&self, number: usize, engine: &mut Engine, input: &mut Vec<f32>, spent: &mut Spent<L::State>) -> Finished<L::Error> {
        let first = number * self.plan.batch;
        let size = self.plan.batch.min(self.plan.count - first);
        input.resize(size * self.image, 0.0);
        let (mut loaded, mut outcomes) = (0, Vec::with_capacity(size));
        for index in first..first + size {
            let slot = &mut input[loaded * self.image..(loaded + 1) * self.image];
            let outcome = self.load.load(&mut spent.state, index, slot);
            loaded += usize::from(outcome.is_ok());
            outcomes.push(outcome);
        }
        let mut rows = Vec::new();
        if loaded > 0 {
            let start = Instant::now();
            engine.run_into(&input[..loaded * self.image], self.output, &mut rows)?;
            spent.network += start.elapsed();
        }
        Ok(Chunk { number, rows, outcomes })
    }

    /// Hands out chunks in order as they come.
    fn deliver(
        &self,
        chunks: &Receiver<Finished<L::Error>>,
        each: &mut impl FnMut(usize, Result<&[f32], L::Error>) -> ControlFlow<()>,
    ) -> Result<(), RunError> {
        let (mut waiting, mut next) = (BTreeMap::new(), 0);
        while next < self.plan.chunks() {
            // All workers are gone only when something failed and was said.
            let Ok(finished) = chunks.recv() else { return Ok(()) };
            let chunk = finished?;
            waiting.insert(chunk.number, chunk);
            while let Some(chunk) = waiting.remove(&next) {
                if self.hand_out(chunk, each).is_break() {
                    return Ok(());
                }
                next += 1;
                self.lock().delivered = next;
                self.room.notify_all();
            }
        }
        Ok(())
    }

    fn hand_out(
        &self,
        chunk: Chunk<L::Error>,
        each: &mut impl FnMut(usize, Result<&[f32], L::Error>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let loaded = chunk.outcomes.iter().filter(|outcome| outcome.is_ok()).count().max(1);
        let mut rows = chunk.rows.chunks_exact((chunk.rows.len() / loaded).max(1));
        for (offset, outcome) in chunk.outcomes.into_iter().enumerate() {
            let index = chunk.number * self.plan.batch + offset;
            each(index, outcome.map(|()| rows.next().unwrap_or_default()))?;
        }
        ControlFlow::Continue(())
    }
}
