//! What a long job tells whoever watches it.

use std::time::Duration;

/// Something that happened in a training job.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A named part of the job begins (`features`, `fold 2 of 5`).
    Stage(String),
    /// Part of a stage is done.
    Step(Step),
    /// A line worth keeping on the screen.
    Note(String),
}

/// Progress inside a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Units done.
    pub done: usize,
    /// Units in all.
    pub total: usize,
    /// Images a second, where that is the unit of work.
    pub rate: Option<f64>,
    /// Time to the end of the stage.
    pub eta: Option<Duration>,
    /// Loss, metric and the like, ready to print.
    pub text: String,
}

/// Receives events; called from the training thread.
pub trait Progress: Sync {
    /// Takes note of an event.
    fn event(&self, event: &Event);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: &Event) {}
}

/// Measures a stage with a known number of units and reports its rate and the time left.
#[derive(Debug)]
pub struct Meter {
    start: std::time::Instant,
    total: usize,
}

impl Meter {
    /// Starts the clock for `total` units.
    pub fn start(total: usize) -> Self {
        Self { start: std::time::Instant::now(), total }
    }

    /// The step after `done` units.
    pub fn step(&self, done: usize, text: impl Into<String>) -> Step {
        let seconds = self.start.elapsed().as_secs_f64();
        let rate = (done > 0 && seconds > 0.0).then(|| done as f64 / seconds);
        let eta = rate.map(|r| Duration::from_secs_f64(self.total.saturating_sub(done) as f64 / r));
        Step { done, total: self.total, rate, eta, text: text.into() }
    }
}
