//! PyTorch's format before 1.6: five pickles (magic number, version, system, state dict, storage keys), then each storage as its number
//! of values (`i64`) and the values, in the order of the keys.

use std::collections::HashMap;
use std::ops::Range;

use super::pickle::{self, Pickle, PickleError, Storage, Value};
use super::pth::{MAX_PICKLE, assemble, malformed};
use crate::tensor::Weights;

/// Whether a file that starts so is in this format: the pickled number 0x1950a86a20f9469cfc6c.
pub(super) fn is_legacy(start: &[u8]) -> bool {
    const MAGIC: &[u8] = &[0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    start.first() == Some(&0x80) && start.get(2..).is_some_and(|rest| rest.starts_with(MAGIC))
}

/// Reads a whole file.
pub(super) fn read(bytes: &[u8]) -> Result<Weights, PickleError> {
    let mut file = Cursor { bytes, at: 0 };
    file.pickle()?;
    file.pickle()?;
    let system = file.pickle()?;
    let pickle = file.pickle()?;
    let keys = file.pickle()?;
    let big_endian = is_big_endian(&system);
    let described: HashMap<&str, &Storage> = pickle.storages.iter().map(|storage| (&*storage.key, &**storage)).collect();
    let mut found: HashMap<String, Range<usize>> = HashMap::new();
    for key in strings(&keys)? {
        let storage = described.get(key).ok_or_else(|| malformed(format!("storage {key:?} belongs to no tensor")))?;
        found.insert(key.to_owned(), file.storage(storage, big_endian)?);
    }
    assemble(&pickle, bytes.len() as u64, big_endian, |storage, _| match found.get(&*storage.key) {
        Some(range) => Ok(bytes[range.clone()].to_vec()),
        None => Err(malformed(format!("storage {:?} is not in the file", storage.key))),
    })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn pickle(&mut self) -> Result<Pickle, PickleError> {
        let rest = &self.bytes[self.at..];
        let pickle = pickle::read(&rest[..rest.len().min(MAX_PICKLE as usize)])?;
        self.at += pickle.length;
        Ok(pickle)
    }

    /// Where the values of the next storage lie.
    fn storage(&mut self, storage: &Storage, big_endian: bool) -> Result<Range<usize>, PickleError> {
        let short = || malformed(format!("storage {:?} is cut short: copy or download the file again", storage.key));
        let numel = self.bytes[self.at..].first_chunk::<8>().ok_or_else(short)?;
        let numel = if big_endian { u64::from_be_bytes(*numel) } else { u64::from_le_bytes(*numel) };
        if numel != storage.numel {
            return Err(malformed(format!("storage {:?}: expected {} values, got {numel}", storage.key, storage.numel)));
        }
        let start = self.at + 8;
        let length = usize::try_from(numel).ok().and_then(|n| n.checked_mul(storage.dtype.size()));
        let end = length.and_then(|n| n.checked_add(start)).filter(|&end| end <= self.bytes.len()).ok_or_else(short)?;
        self.at = end;
        Ok(start..end)
    }
}

fn is_big_endian(system: &Pickle) -> bool {
    let Value::Dict(index) = system.root else { return false };
    system.dicts[index].iter().any(|(key, value)| matches!(key, Value::Str(key) if &**key == "little_endian") && *value == Value::Int(0))
}

fn strings<'k>(keys: &'k Pickle) -> Result<Vec<&'k str>, PickleError> {
    let Value::Sequence(index) = keys.root else {
        return Err(malformed("expected a list of storage keys"));
    };
    let text = |value: &'k Value| match value {
        Value::Str(key) => Ok(&**key),
        _ => Err(malformed("a storage key is no string")),
    };
    keys.lists[index].iter().map(text).collect()
}
