//! PyTorch state dicts: what the zip and the legacy format have in common.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

use super::error::WeightsError;
use super::pickle::{Pickle, PickleError, Storage, TensorView, Value};
use super::{pth_legacy, pth_zip};
use crate::tensor::{Tensor, Weights};

/// Longest pickle that is read, in bytes; a state dict of 10,000 tensors has 2 MB.
pub(super) const MAX_PICKLE: u64 = 16 << 20;
/// Values may take this many times the file's size, plus [`SLACK`] (compression, half precision, shared and expanded tensors).
const MAX_GROWTH: u64 = 16;
const SLACK: u64 = 64 << 20;
const MAX_RANK: usize = 16;
/// Keys under which training scripts put the state dict.
const WRAPPERS: [&str; 6] = ["state_dict", "model_state_dict", "model", "state_dict_ema", "net", "weights"];

/// Reads a PyTorch state dict (`torch.save`: the zip format, and the legacy one before PyTorch 1.6) without executing its pickle.
///
/// A state dict inside a checkpoint (`{"state_dict": {..}, "epoch": 3}`, also `model` and the like) is found; entries that are no
/// tensors are left out; the prefix `module.` of `DataParallel` is taken off where all names have it.
///
/// # Errors
/// A file that cannot be read, is truncated or malformed, or whose pickle wants anything beyond a state dict of tensors.
pub fn read_pth(path: &Path) -> Result<Weights, WeightsError> {
    let io = |e| WeightsError::io(path, e);
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    read(BufReader::new(file), size, path)
}

/// As [`read_pth`] on a file's bytes; `path` is for messages only.
///
/// # Errors
/// As [`read_pth`].
pub fn decode_pth(bytes: &[u8], path: &Path) -> Result<Weights, WeightsError> {
    read(Cursor::new(bytes), bytes.len() as u64, path)
}

/// Reads a file of `size` bytes.
fn read(mut file: impl Read + Seek, size: u64, path: &Path) -> Result<Weights, WeightsError> {
    let io = |e| WeightsError::io(path, e);
    let mut start = Vec::new();
    file.by_ref().take(64).read_to_end(&mut start).map_err(io)?;
    file.rewind().map_err(io)?;
    let result = if start.starts_with(b"PK") {
        pth_zip::read(file, size)
    } else if pth_legacy::is_legacy(&start) {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        pth_legacy::read(&bytes)
    } else {
        Err(malformed("not a PyTorch file: expected what torch.save writes"))
    };
    result.map_err(|error| match error {
        PickleError::Refused(wants) => WeightsError::Refused { path: path.to_owned(), wants },
        PickleError::Malformed(problem) => WeightsError::malformed(path, problem),
    })
}

pub(super) fn malformed(problem: impl Into<String>) -> PickleError {
    PickleError::Malformed(problem.into())
}

/// The weights that `pickle` describes, in a file of `size` bytes; `load` gives the bytes of a storage of the given length.
pub(super) fn assemble(
    pickle: &Pickle,
    size: u64,
    big_endian: bool,
    mut load: impl FnMut(&Storage, u64) -> Result<Vec<u8>, PickleError>,
) -> Result<Weights, PickleError> {
    let mut budget = size.saturating_mul(MAX_GROWTH).saturating_add(SLACK);
    let mut storages: HashMap<&str, (&Storage, Vec<f32>)> = HashMap::new();
    let mut weights = Weights::new();
    for (name, view) in state_dict(pickle)? {
        let storage = &*view.storage;
        if !storages.contains_key(&*storage.key) {
            let length = spend(storage, &mut budget)?;
            let bytes = load(storage, length)?;
            if bytes.len() as u64 != length {
                return Err(malformed(format!("storage {:?}: expected {length} bytes, got {}", storage.key, bytes.len())));
            }
            storages.insert(&storage.key, (storage, storage.dtype.decode(&bytes, big_endian)));
        }
        let (first, values) = &storages[&*storage.key];
        if *first != storage {
            return Err(malformed(format!("tensor {name:?}: storage {:?} is described in two ways", storage.key)));
        }
        let tensor = gather(view, values, &mut budget).map_err(|problem| malformed(format!("tensor {name:?}: {problem}")))?;
        weights.insert(name.to_owned(), tensor);
    }
    if weights.keys().all(|name| name.starts_with("module.")) {
        weights = weights.into_iter().map(|(name, tensor)| (name["module.".len()..].to_owned(), tensor)).collect();
    }
    Ok(weights)
}

/// Length of a storage in bytes, taken off the budget.
fn spend(storage: &Storage, budget: &mut u64) -> Result<u64, PickleError> {
    let length = storage.numel.checked_mul(storage.dtype.size() as u64).filter(|n| n <= budget);
    let length = length
        .ok_or_else(|| malformed(format!("storage {:?} states {} values, more than the file can hold", storage.key, storage.numel)))?;
    *budget -= length;
    Ok(length)
}

/// The tensors of the outermost dict that has any, or of the state dict inside a checkpoint.
fn state_dict(pickle: &Pickle) -> Result<Vec<(&str, &TensorView)>, PickleError> {
    let Value::Dict(mut index) = pickle.root else {
        return Err(malformed("expected a state dict (a dict of tensors); save model.state_dict(), not the model"));
    };
    // Depth is bounded, so that a dict inside itself ends.
    for _ in 0..4 {
        let entries = &pickle.dicts[index];
        let tensors: Vec<(&str, &TensorView)> = entries
            .iter()
            .filter_map(|(key, value)| match (key, value) {
                (Value::Str(key), Value::Tensor(view)) => Some((&**key, &**view)),
                _ => None,
            })
            .collect();
        if !tensors.is_empty() {
            return Ok(tensors);
        }
        let inner = WRAPPERS.iter().find_map(|wrapper| {
            entries.iter().find_map(|(key, value)| match (key, value) {
                (Value::Str(key), Value::Dict(inner)) if &**key == *wrapper => Some(*inner),
                _ => None,
            })
        });
        match inner {
            Some(inner) => index = inner,
            None => break,
        }
    }
    let keys = pickle.dicts[index].iter().filter_map(|(key, _)| if let Value::Str(key) = key { Some(format!("{key:?}")) } else { None });
    let keys: Vec<String> = keys.take(20).collect();
    Err(malformed(format!(
        "no tensors found; expected a state dict, or one under {}; it has the keys {}",
        WRAPPERS.join(", "),
        keys.join(", ")
    )))
}

/// Copies a strided view into a dense tensor.
fn gather(view: &TensorView, values: &[f32], budget: &mut u64) -> Result<Tensor, String> {
    let beyond = || {
        format!(
            "shape {:?}, strides {:?} and offset {} leave its storage of {} values",
            view.shape,
            view.strides,
            view.offset,
            values.len()
        )
    };
    if view.shape.len() != view.strides.len() || view.shape.len() > MAX_RANK {
        return Err(format!("expected as many strides as dimensions, at most {MAX_RANK}, got {:?} and {:?}", view.shape, view.strides));
    }
    let unsigned = |list: &[i64]| list.iter().map(|&v| usize::try_from(v).ok()).collect::<Option<Vec<usize>>>();
    let (Some(shape), Some(strides), Ok(offset)) = (unsigned(&view.shape), unsigned(&view.strides), usize::try_from(view.offset)) else {
        return Err(beyond());
    };
    let count = if shape.contains(&0) { Some(0) } else { shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) };
    let bytes = count.and_then(|n| (n as u64).checked_mul(4)).filter(|n| n <= budget);
    let (Some(count), Some(bytes)) = (count, bytes) else {
        return Err(format!("shape {:?} is larger than the file can hold", view.shape));
    };
    *budget -= bytes;
    if count == 0 {
        return Ok(Tensor { shape, data: Vec::new() });
    }
    let last = shape.iter().zip(&strides).try_fold(offset, |at, (&size, &stride)| (size - 1).checked_mul(stride)?.checked_add(at));
    if last.is_none_or(|last| last >= values.len()) {
        return Err(beyond());
    }
    let mut data = Vec::with_capacity(count);
    let mut position = vec![0; shape.len()];
    let mut at = offset;
    for _ in 0..count {
        data.push(values[at]);
        for axis in (0..shape.len()).rev() {
            position[axis] += 1;
            at += strides[axis];
            if position[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            position[axis] = 0;
        }
    }
    Ok(Tensor { shape, data })
}
