//! The trainer as a whole: the Burn interpreter against the oracle, and fits on tiny sets.
#![allow(clippy::unwrap_used)]

mod conformance;
mod fitting;
mod golden;
mod gradients;
mod tiny;
