//! One suite, many interpreters: every op of a graph and every architecture of the zoo through the engine (f32, bf16, integers), training
//! plans, Burn and ONNX, against the reference interpreter; gradients of plans and of Burn against each other and against central
//! differences in f64.
//!
//! - `cases.rs`: one case or more for each op; a new op does not compile without.
//! - `networks.rs`: blocks that fuse, random graphs, the zoo.
//! - `tolerances.rs`: the one table of bounds, with reasons; `docs/conformance.md` has it beside what was found.
//! - `outputs.rs`, `gradients.rs`: who computes, and what is compared.
//!
//! `cargo test -p fieldmark-learn --test conformance -- --nocapture` prints the largest error of each row.
#![allow(clippy::unwrap_used)]

mod cases;
mod gradients;
mod networks;
mod outputs;
mod tolerances;
