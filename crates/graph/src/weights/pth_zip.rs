//! PyTorch's zip format: `NAME/data.pkl` describes the tensors, `NAME/data/KEY` holds each storage, `NAME/byteorder` its byte order.

use std::io::{Read, Seek};

use zip::ZipArchive;

use super::pickle::{self, PickleError};
use super::pth::{MAX_PICKLE, assemble, malformed};
use crate::tensor::Weights;

/// Reads a zip file of `size` bytes.
pub(super) fn read(file: impl Read + Seek, size: u64) -> Result<Weights, PickleError> {
    let broken = |e| malformed(format!("not a whole zip file ({e}); it may be cut short: copy or download it again"));
    let archive = ZipArchive::new(file).map_err(broken)?;
    let names = archive.file_names().filter_map(Result::ok).map(|name| name.into_owned());
    let mut found: Vec<String> = names.filter(|name| name == "data.pkl" || name.ends_with("/data.pkl")).collect();
    found.sort_by_key(|name| (name.matches('/').count(), name.clone()));
    let name = found.first().ok_or_else(|| malformed("a zip file without a data.pkl; expected what torch.save writes"))?;
    let mut entries = Entries { archive, prefix: name[..name.len() - "data.pkl".len()].to_owned() };
    let big_endian = entries.big_endian()?;
    let pickle = pickle::read(&entries.read("data.pkl", MAX_PICKLE)?).map_err(|error| match error {
        PickleError::Malformed(problem) => malformed(format!("{name}: {problem}")),
        refused @ PickleError::Refused(_) => refused,
    })?;
    assemble(&pickle, size, big_endian, |storage, length| entries.read(&format!("data/{}", storage.key), length))
}

struct Entries<R> {
    archive: ZipArchive<R>,
    /// `NAME/`, or nothing.
    prefix: String,
}

impl<R: Read + Seek> Entries<R> {
    /// Bytes of an entry of at most `limit` bytes.
    fn read(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, PickleError> {
        let name = format!("{}{name}", self.prefix);
        let entry = self.archive.by_name(&name).map_err(|e| malformed(format!("{name}: {e}")))?;
        let mut bytes = Vec::new();
        entry.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| malformed(format!("{name}: {e}")))?;
        if bytes.len() as u64 > limit {
            return Err(malformed(format!("{name}: expected at most {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Files from before the entry existed are little-endian.
    fn big_endian(&mut self) -> Result<bool, PickleError> {
        if self.archive.index_for_name(&format!("{}byteorder", self.prefix)).is_none() {
            return Ok(false);
        }
        match self.read("byteorder", 16)?.trim_ascii() {
            b"little" => Ok(false),
            b"big" => Ok(true),
            other => Err(malformed(format!("expected the byte order little or big, got {:?}", String::from_utf8_lossy(other)))),
        }
    }
}
