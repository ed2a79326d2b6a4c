//! The trainer as a whole: fits on tiny sets, and values of PyTorch. That its backends agree is the conformance suite's to say.
#![allow(clippy::unwrap_used)]

mod fitting;
mod golden;
mod network;
mod tiny;
