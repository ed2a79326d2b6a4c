//! The trainer as a whole: its backends against the oracle and each other, and fits on tiny sets.
#![allow(clippy::unwrap_used)]

mod backends;
mod conformance;
mod fitting;
mod golden;
mod gradients;
mod tiny;
