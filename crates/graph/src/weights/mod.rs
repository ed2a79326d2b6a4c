//! Weights on disk: safetensors, and PyTorch state dicts read without executing anything.

mod dtype;
mod error;
mod pickle;
mod pth;
mod pth_legacy;
mod pth_zip;
mod safetensors_file;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::tensor::Weights;
pub use error::WeightsError;
pub use pth::{decode_pth, read_pth};
pub use safetensors_file::{decode_safetensors, encode_safetensors, read_safetensors, read_safetensors_with_metadata, write_safetensors};

/// Renames weights by `map`; `None` drops the weight.
///
/// # Errors
/// Two weights with one new name: all such collisions in one error.
pub fn rename(weights: Weights, map: impl Fn(&str) -> Option<String>) -> Result<Weights, WeightsError> {
    let mut renamed = Weights::new();
    let mut origins: BTreeMap<String, String> = BTreeMap::new();
    let mut collisions = Vec::new();
    for (name, tensor) in weights {
        let Some(new) = map(&name) else { continue };
        if let Some(earlier) = origins.get(&new) {
            collisions.push(format!("{earlier:?} and {name:?} would both be {new:?}"));
            continue;
        }
        origins.insert(new.clone(), name);
        renamed.insert(new, tensor);
    }
    if collisions.is_empty() { Ok(renamed) } else { Err(WeightsError::Collision { collisions }) }
}
