//! What is wrong with a labelled set of images, how sure that is, and what to do about it.
//!
//! Every check gives [`Finding`]s with a score in `0..=1` (1 is the clearest case), so that one queue can be sorted, filtered and reviewed. The
//! crate trains nothing: out-of-fold probabilities and features are handed in. It changes no file.

pub mod amount;
pub mod annotators;
pub mod balance;
pub mod clusters;
mod finding;
mod input_error;
pub mod labels;
mod neighbours;
pub mod order;
pub mod outliers;
mod quantile;
pub mod self_test;
pub mod spurious;

pub use finding::{Check, Finding};
pub use input_error::InputError;
pub use neighbours::Neighbours;
