//! What is wrong with a labelled set of images, how sure that is, and what to do about it.
//!
//! Every check gives [`Finding`]s with a score in `0..=1` (1 is the clearest case), so that one queue can be sorted, filtered and reviewed. The
//! crate trains nothing: out-of-fold probabilities and features are handed in. It changes no file: decisions become a new manifest, and
//! pictures without metadata are copies.

pub mod amount;
pub mod annotators;
pub mod balance;
pub mod clusters;
mod copies;
pub mod duplicates;
mod error;
mod finding;
mod gate;
pub mod index;
mod input_error;
pub mod labels;
mod map;
mod neighbours;
pub mod order;
pub mod outliers;
pub mod pixels;
mod plan;
mod propose;
mod quantile;
pub mod self_test;
pub mod spurious;

pub use copies::{Regions, anonymised_copy, anonymised_name, stripped_copy};
pub use duplicates::{DuplicateOptions, Duplicates, FeatureRows, duplicate_findings, find_duplicates, find_duplicates_until};
pub use error::AuditError;
pub use finding::{Check, Finding};
pub use gate::{Gate, GateError};
pub use input_error::InputError;
pub use map::{MAP_NEIGHBOURS, map};
pub use neighbours::Neighbours;
pub use pixels::{Measured, PixelOptions, PixelTable, Properties, Thresholds, measure, pixel_findings, quality_scores};
pub use plan::{Applied, Decision, Plan, Verdict};
