//! Weights on disk: safetensors, and PyTorch state dicts read without executing anything.

mod error;

use std::collections::BTreeMap;
use std::path::Path;

use crate::tensor::Weights;
pub use error::WeightsError;

/// Reads a `.safetensors` file; `f16`, `bf16`, `f64` and integers become `f32`.
///
/// # Errors
/// A file that cannot be read, is truncated or malformed, or holds a type that has no `f32` meaning.
pub fn read_safetensors(path: &Path) -> Result<Weights, WeightsError> {
    let _ = path;
    unimplemented!()
}

/// Writes a `.safetensors` file, atomically: a temporary file beside it, flushed to disk, then renamed.
///
/// # Errors
/// A folder that cannot be written, a full disk.
pub fn write_safetensors(path: &Path, weights: &Weights, metadata: &BTreeMap<String, String>) -> Result<(), WeightsError> {
    let _ = (path, weights, metadata);
    unimplemented!()
}

/// Reads a PyTorch state dict (`torch.save`, zip format: PyTorch 1.6 and later) without executing its pickle.
///
/// # Errors
/// A file that cannot be read, is truncated or malformed, or whose pickle wants anything beyond a state dict of tensors.
pub fn read_pth(path: &Path) -> Result<Weights, WeightsError> {
    let _ = path;
    unimplemented!()
}

/// Renames weights by `map`; `None` drops the weight.
///
/// # Errors
/// Two weights with one new name: all such collisions in one error.
pub fn rename(weights: Weights, map: impl Fn(&str) -> Option<String>) -> Result<Weights, WeightsError> {
    let _ = (weights, &map("x"));
    unimplemented!()
}
