//! Where the time of a long job went.

use std::fmt;
use std::time::Duration;

use images::ReaderTimes;
use serde::{Deserialize, Serialize};

use crate::pipeline::Pass;

/// Where the time of a run over many images went: seconds, summed over threads, but for `wall`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Images that were asked for.
    pub images: usize,
    /// Threads that worked.
    pub threads: usize,
    /// Images in a batch.
    pub batch_size: usize,
    /// From start to end.
    pub wall: f64,
    /// Reading files.
    pub read: f64,
    /// From bytes to pixels.
    pub decode: f64,
    /// Colour, resizing, normalising.
    pub prepare: f64,
    /// Inside the network.
    pub network: f64,
    /// Whatever else the threads did.
    pub other: f64,
}

impl Timings {
    /// The account of a pass whose threads read with `readers`.
    pub fn of<S>(pass: &Pass<S>, readers: &[ReaderTimes], images: usize) -> Timings {
        let sum = |part: fn(&ReaderTimes) -> Duration| readers.iter().map(part).sum::<Duration>().as_secs_f64();
        let (read, decode, prepare) = (sum(|t| t.read), sum(|t| t.decode), sum(|t| t.prepare));
        let network = pass.network.as_secs_f64();
        let other = (pass.busy.as_secs_f64() - read - decode - prepare - network).max(0.0);
        let (threads, wall) = (pass.states.len(), pass.wall.as_secs_f64());
        Timings { images, threads, batch_size: pass.batch_size, wall, read, decode, prepare, network, other }
    }

    /// Images a second.
    pub fn rate(&self) -> f64 {
        self.images as f64 / self.wall.max(1e-9)
    }

    /// The network's share of the threads' time, in `0..=1`.
    pub fn network_share(&self) -> f64 {
        self.network / (self.read + self.decode + self.prepare + self.network + self.other).max(1e-9)
    }
}

impl fmt::Display for Timings {
    /// Two lines: the rate, and the shares.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let busy = (self.read + self.decode + self.prepare + self.network + self.other).max(1e-9);
        let plural = if self.threads == 1 { "" } else { "s" };
        writeln!(
            f,
            "{} images in {:.2} s: {:.1} a second ({} thread{plural}, batches of {})",
            self.images,
            self.wall,
            self.rate(),
            self.threads,
            self.batch_size
        )?;
        let parts =
            [("read", self.read), ("decode", self.decode), ("resize", self.prepare), ("network", self.network), ("other", self.other)];
        let parts: Vec<String> = parts.iter().map(|(name, seconds)| format!("{name} {:.1} %", 100.0 * seconds / busy)).collect();
        write!(f, "{}", parts.join(", "))
    }
}
