//! PyTorch's zip format: `NAME/data.pkl` describes the tensors, `NAME/data/KEY` holds each storage, `NAME/byteorder` its byte order.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use zip::ZipArchive;

use super::error::WeightsError;
use super::pickle::{self, Pickle, PickleError, Storage, TensorView, Value};
use crate::tensor::{Tensor, Weights};

/// Longest pickle that is read, in bytes; a state dict of 10,000 tensors has 2 MB.
const MAX_PICKLE: u64 = 16 << 20;
/// Values may take this many times the file's size, plus [`SLACK`] (compression, half precision, shared and expanded tensors).
const MAX_GROWTH: u64 = 16;
const SLACK: u64 = 64 << 20;
const MAX_RANK: usize = 16;
/// Keys under which training scripts put the state dict.
const WRAPPERS: [&str; 6] = ["state_dict", "model_state_dict", "model", "state_dict_ema", "net", "weights"];

/// Reads a PyTorch state dict (`torch.save`, zip format: PyTorch 1.6 and later) without executing its pickle.
///
/// A state dict inside a checkpoint (`{"state_dict": {..}, "epoch": 3}`, also `model` and the like) is found; entries that are no
/// tensors are left out; the prefix `module.` of `DataParallel` is taken off where all names have it.
///
/// # Errors
/// A file that cannot be read, is truncated or malformed, or whose pickle wants anything beyond a state dict of tensors.
pub fn read_pth(path: &Path) -> Result<Weights, WeightsError> {
    let io = |e| WeightsError::io(path, e);
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let size = file.get_ref().metadata().map_err(io)?.len();
    let mut start = [0; 16];
    let read = read_up_to(&mut file, &mut start).map_err(io)?;
    let kind = refuse_other_formats(&start[..read]);
    file.rewind().map_err(io)?;
    let result = kind.and_then(|()| read_archive(file, size));
    result.map_err(|error| match error {
        PickleError::Refused(wants) => WeightsError::Refused { path: path.to_owned(), wants },
        PickleError::Malformed(problem) => WeightsError::malformed(path, problem),
    })
}

fn malformed(problem: impl Into<String>) -> PickleError {
    PickleError::Malformed(problem.into())
}

fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read(&mut buffer[read..])? {
            0 => break,
            n => read += n,
        }
    }
    Ok(read)
}

fn refuse_other_formats(start: &[u8]) -> Result<(), PickleError> {
    // The legacy format opens with the pickled number 0x1950a86a20f9469cfc6c.
    const LEGACY: &[u8] = &[0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    if start.starts_with(b"PK") {
        Ok(())
    } else if start.first() == Some(&0x80) && start.get(2..).is_some_and(|rest| rest.starts_with(LEGACY)) {
        Err(malformed(
            "a PyTorch file in the legacy format (before 1.6), which is not read; save it again with a current PyTorch: \
             torch.save(torch.load(path, weights_only=True), path)",
        ))
    } else {
        Err(malformed("not a PyTorch file: expected a zip file as torch.save writes it"))
    }
}

fn read_archive(file: BufReader<File>, size: u64) -> Result<Weights, PickleError> {
    let archive = ZipArchive::new(file)
        .map_err(|e| malformed(format!("not a whole zip file ({e}); it may be cut short: copy or download it again")))?;
    let mut source =
        Source { prefix: String::new(), big_endian: false, budget: size.saturating_mul(MAX_GROWTH).saturating_add(SLACK), archive };
    let pickle = source.open()?;
    let state = state_dict(&pickle)?;
    let mut storages: HashMap<&str, (&Storage, Vec<f32>)> = HashMap::new();
    let mut weights = Weights::new();
    for (name, view) in state {
        let storage = &*view.storage;
        if !storages.contains_key(&*storage.key) {
            storages.insert(&storage.key, (storage, source.storage(storage)?));
        }
        let (first, values) = &storages[&*storage.key];
        if *first != storage {
            return Err(malformed(format!("tensor {name:?}: storage {:?} is described in two ways", storage.key)));
        }
        let tensor = gather(view, values, &mut source.budget).map_err(|problem| malformed(format!("tensor {name:?}: {problem}")))?;
        weights.insert(name.to_owned(), tensor);
    }
    if weights.keys().all(|name| name.starts_with("module.")) {
        weights = weights.into_iter().map(|(name, tensor)| (name["module.".len()..].to_owned(), tensor)).collect();
    }
    Ok(weights)
}

struct Source {
    archive: ZipArchive<BufReader<File>>,
    /// `NAME/`, or nothing.
    prefix: String,
    big_endian: bool,
    /// Bytes that may still be made from this file.
    budget: u64,
}

impl Source {
    /// Finds and reads the pickle and the byte order.
    fn open(&mut self) -> Result<Pickle, PickleError> {
        let names = self.archive.file_names().filter_map(Result::ok).map(|name| name.into_owned());
        let mut found: Vec<String> = names.filter(|name| name == "data.pkl" || name.ends_with("/data.pkl")).collect();
        found.sort_by_key(|name| (name.matches('/').count(), name.clone()));
        let name = found.first().ok_or_else(|| malformed("a zip file without a data.pkl; expected what torch.save writes"))?;
        self.prefix = name[..name.len() - "data.pkl".len()].to_owned();
        let bytes = self.entry("data.pkl", MAX_PICKLE)?;
        if self.archive.index_for_name(&format!("{}byteorder", self.prefix)).is_some() {
            let order = self.entry("byteorder", 16)?;
            self.big_endian = match order.trim_ascii() {
                b"little" => false,
                b"big" => true,
                other => return Err(malformed(format!("expected the byte order little or big, got {:?}", String::from_utf8_lossy(other)))),
            };
        }
        pickle::read(&bytes).map_err(|error| match error {
            PickleError::Malformed(problem) => malformed(format!("{name}: {problem}")),
            refused => refused,
        })
    }

    /// Bytes of an entry of at most `limit` bytes.
    fn entry(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, PickleError> {
        let name = format!("{}{name}", self.prefix);
        let entry = self.archive.by_name(&name).map_err(|e| malformed(format!("{name}: {e}")))?;
        let mut bytes = Vec::new();
        entry.take(limit + 1).read_to_end(&mut bytes).map_err(|e| malformed(format!("{name}: {e}")))?;
        if bytes.len() as u64 > limit {
            return Err(malformed(format!("{name}: expected at most {limit} bytes")));
        }
        Ok(bytes)
    }

    fn storage(&mut self, storage: &Storage) -> Result<Vec<f32>, PickleError> {
        let key = &storage.key;
        let size = storage.numel.checked_mul(storage.dtype.size() as u64);
        let size = size
            .filter(|&n| n <= self.budget)
            .ok_or_else(|| malformed(format!("storage {key:?} states {} values, more than the file can hold", storage.numel)))?;
        self.budget -= size;
        let bytes = self.entry(&format!("data/{key}"), size)?;
        if bytes.len() as u64 != size {
            return Err(malformed(format!("storage {key:?}: expected {size} bytes, got {}", bytes.len())));
        }
        Ok(storage.dtype.decode(&bytes, self.big_endian))
    }
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
