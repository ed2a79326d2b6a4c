//! Threads for kernels that take microseconds: they wait for the next piece of work spinning for a moment, then asleep.
//!
//! A general pool hands out work through queues and wakes sleeping threads through the system, some ten microseconds each time; a network
//! of sixty layers in five milliseconds cannot pay that. Here a job is opened by one store, whoever spins joins it, and who does not come
//! in time is not waited for. Parts are dealt out in contiguous runs, the same to the same thread each time, so that what a thread wrote in
//! one layer is in its cache in the next; who has finished takes from the others.

use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rayon::prelude::*;

/// How long a thread waits awake: longer than any step that others may still be at, much shorter than anyone would notice.
const AWAKE: Duration = Duration::from_millis(2);
/// Turns of the waiting loop between two looks at the clock.
const TURNS: u32 = 64;

/// A loop that waits.
#[derive(Default)]
struct Wait {
    turns: u32,
    since: Option<Instant>,
}

impl Wait {
    /// One turn; whether it has been long.
    fn turn(&mut self) -> bool {
        std::hint::spin_loop();
        self.turns += 1;
        self.turns.is_multiple_of(TURNS) && self.since.get_or_insert_with(Instant::now).elapsed() > AWAKE
    }
}

/// A job is open to be joined.
const OPEN: u64 = 1 << 31;
/// Threads at work on the job: the bits below [`OPEN`].
const ACTIVE: u64 = OPEN - 1;
/// One job more: the bits above.
const NEXT: u64 = 1 << 32;

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// Parts that one thread takes first. A cache line of its own.
#[repr(align(128))]
#[derive(Default)]
struct Share {
    next: AtomicUsize,
    end: AtomicUsize,
}

struct Crew {
    /// Number of the job, whether it is open, and how many workers are at it.
    state: AtomicU64,
    /// The task of the open job.
    task: UnsafeCell<Option<*const Task<'static>>>,
    shares: Box<[Share]>,
    /// Held while a job runs: a second caller works alone.
    owner: Mutex<()>,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    wake: Condvar,
    quit: AtomicBool,
    panicked: AtomicBool,
}

// SAFETY: `task` is written only while the job is closed and nobody is active, and read only by workers that joined an open job; the
// transitions of `state` order the two. The task itself is `Sync`, and is not touched after `run` has returned.
unsafe impl Sync for Crew {}
// SAFETY: as above.
unsafe impl Send for Crew {}

thread_local! {
    /// The crew that kernels called from here use; null: rayon's current pool.
    static CURRENT: Cell<*const Crew> = const { Cell::new(std::ptr::null()) };
    /// Whether this thread is at a part of a job: what it calls runs on it alone.
    static WORKING: Cell<bool> = const { Cell::new(false) };
}

impl Crew {
    /// Works on the open job, own share first.
    fn work(&self, own: usize, task: &Task) {
        let threads = self.shares.len();
        for at in (0..threads).map(|i| (own + i) % threads) {
            let share = &self.shares[at];
            let end = share.end.load(Ordering::Relaxed);
            while share.next.load(Ordering::Relaxed) < end {
                let part = share.next.fetch_add(1, Ordering::Relaxed);
                if part < end {
                    task(part);
                }
            }
        }
    }

    fn run(&self, parts: usize, task: &Task) {
        let _owner = match self.owner.try_lock() {
            Ok(owner) => owner,
            Err(TryLockError::Poisoned(owner)) => owner.into_inner(),
            Err(TryLockError::WouldBlock) => return (0..parts).for_each(task),
        };
        let threads = self.shares.len();
        for (i, share) in self.shares.iter().enumerate() {
            share.next.store(parts * i / threads, Ordering::Relaxed);
            share.end.store(parts * (i + 1) / threads, Ordering::Relaxed);
        }
        // SAFETY: the job is closed and nobody is active: nobody reads. The lifetime is forgotten; `Closing` waits for the last reader
        // before this function ends, by return or by panic.
        unsafe { *self.task.get() = Some(std::mem::transmute::<*const Task, *const Task<'static>>(task)) };
        let job = (self.state.load(Ordering::Relaxed) & !(OPEN | ACTIVE)).wrapping_add(NEXT);
        self.state.store(job | OPEN, Ordering::SeqCst);
        if self.sleepers.swap(0, Ordering::SeqCst) > 0 {
            drop(self.bed.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
        {
            let _closing = Closing(self);
            WORKING.set(true);
            self.work(0, task);
        }
        assert!(!self.panicked.swap(false, Ordering::Relaxed), "a kernel panicked on another thread");
    }

    /// What worker `own` does all its life.
    fn serve(&self, own: usize) {
        WORKING.set(true);
        let (mut seen, mut wait) = (0, Wait::default());
        while !self.quit.load(Ordering::Relaxed) {
            let state = self.state.load(Ordering::SeqCst);
            if state & OPEN == 0 || state / NEXT == seen {
                if wait.turn() {
                    self.sleep(seen);
                    wait = Wait::default();
                }
                continue;
            }
            if self.state.compare_exchange_weak(state, state + 1, Ordering::SeqCst, Ordering::Relaxed).is_err() {
                continue;
            }
            (seen, wait) = (state / NEXT, Wait::default());
            // SAFETY: this thread is counted among the active ones of an open job, so `run` has written the task and waits.
            let task = unsafe { (*self.task.get()).map(|task| &*task) };
            if let Some(task) = task
                && catch_unwind(AssertUnwindSafe(|| self.work(own, task))).is_err()
            {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.state.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn sleep(&self, seen: u64) {
        let bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let state = self.state.load(Ordering::SeqCst);
        if (state & OPEN == 0 || state / NEXT == seen) && !self.quit.load(Ordering::SeqCst) {
            drop(self.wake.wait(bed).unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Closes the job and waits for those who are still at it.
struct Closing<'a>(&'a Crew);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        WORKING.set(false);
        self.0.state.fetch_and(!OPEN, Ordering::SeqCst);
        let mut wait = Wait::default();
        while self.0.state.load(Ordering::SeqCst) & ACTIVE != 0 {
            if wait.turn() {
                std::thread::yield_now();
            }
        }
    }
}

/// A set of threads that kernels run on, made for short pieces of work; see [`Threads::install`].
pub struct Threads {
    crew: Arc<Crew>,
    workers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Threads {
    /// Starts `count` threads, the caller's own among them: `count - 1` new ones. 0 means one for each core.
    ///
    /// # Errors
    /// The system's refusal to start a thread.
    pub fn new(count: usize) -> std::io::Result<Self> {
        let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
        let count = if count == 0 { cores() } else { count };
        let crew = Arc::new(Crew {
            state: AtomicU64::new(0),
            task: UnsafeCell::new(None),
            shares: (0..count).map(|_| Share::default()).collect(),
            owner: Mutex::new(()),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            wake: Condvar::new(),
            quit: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        let mut threads = Self { crew, workers: Vec::new() };
        for own in 1..count {
            let crew = threads.crew.clone();
            threads.workers.push(std::thread::Builder::new().name(format!("kernels-{own}")).spawn(move || crew.serve(own))?);
        }
        Ok(threads)
    }

    /// How many threads work on a kernel.
    pub fn count(&self) -> usize {
        self.crew.shares.len()
    }

    /// Runs `f` here; kernels that it calls spread their work over these threads. Results do not depend on their number.
    pub fn install<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Restore(*const Crew);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(Arc::as_ptr(&self.crew)));
        f()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.crew.quit.store(true, Ordering::SeqCst);
        drop(self.crew.bed.lock().unwrap_or_else(PoisonError::into_inner));
        self.crew.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks: it cannot fail.
            let _ = worker.join();
        }
    }
}

/// The installed crew, if any.
fn installed<'a>() -> Option<&'a Crew> {
    // SAFETY: null, or put there by `install`, which holds the crew for as long as the pointer stands.
    unsafe { CURRENT.get().as_ref() }
}

/// How many threads the work of this thread may be spread over.
pub(crate) fn count() -> usize {
    if WORKING.get() { 1 } else { installed().map_or_else(rayon::current_num_threads, |crew| crew.shares.len()) }
}

/// Runs `task` for each of `0..parts`, over the installed [`Threads`], else over rayon's current pool.
pub(crate) fn parallel(parts: usize, task: impl Fn(usize) + Sync) {
    if parts <= 1 || count() == 1 {
        return (0..parts).for_each(task);
    }
    match installed() {
        Some(crew) => crew.run(parts, &task),
        None => (0..parts).into_par_iter().with_max_len(1).for_each(&task),
    }
}

/// Where a slice begins of which each task gets a chunk of its own.
struct Start<T>(*mut T);
// SAFETY: `each_chunk` gives out chunks that do not overlap, of a type that may go to other threads.
unsafe impl<T: Send> Sync for Start<T> {}

impl<T> Start<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

/// Runs `task(index, chunk)` for each chunk of `size` values (the last may be shorter).
pub(crate) fn each_chunk<T: Send>(values: &mut [T], size: usize, task: impl Fn(usize, &mut [T]) + Sync) {
    let (len, size, shared) = (values.len(), size.max(1), Start(values.as_mut_ptr()));
    parallel(len.div_ceil(size), |index| {
        let start = index * size;
        // SAFETY: chunks do not overlap, each index runs once, and `values` is borrowed until all have run.
        let chunk = unsafe { std::slice::from_raw_parts_mut(shared.get().add(start), size.min(len - start)) };
        task(index, chunk);
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_part_runs_once_however_many_threads() {
        for count in [1, 2, 3, 7] {
            let threads = Threads::new(count).unwrap();
            for parts in [0, 1, 2, 5, 64, 1000] {
                let seen: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                threads.install(|| parallel(parts, |part| _ = seen[part].fetch_add(1, Ordering::Relaxed)));
                assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{count} threads, {parts} parts");
            }
        }
    }

    #[test]
    fn sleeping_threads_wake_and_nested_work_stays_here() {
        let threads = Threads::new(2).unwrap();
        let mut values = vec![0.0; 640];
        for round in 0..5 {
            threads.install(|| each_chunk(&mut values, 10, |_, chunk| each_chunk(chunk, 3, |_, c| c.iter_mut().for_each(|v| *v += 1.0))));
            assert!(values.iter().all(|&v| v == (round + 1) as f32));
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
    }

    #[test]
    fn two_callers_share_one_crew() {
        let threads = Threads::new(2).unwrap();
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        threads.install(|| parallel(8, |part| _ = total.fetch_add(part, Ordering::Relaxed)));
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 3 * 200 * 28);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_threads_live_on() {
        let threads = Threads::new(3).unwrap();
        let run = || threads.install(|| parallel(50, |part| assert_ne!(part, 49, "part 49")));
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        let done = AtomicUsize::new(0);
        threads.install(|| parallel(50, |_| _ = done.fetch_add(1, Ordering::Relaxed)));
        assert_eq!(done.load(Ordering::Relaxed), 50);
    }
}
