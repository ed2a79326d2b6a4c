//! Measures kept between runs: one file of JSON lines for each data set's folder.
//!
//! A line is a record: sample id, size and time of change of its file, measures. Records are appended; the last one of an id counts. A
//! line that cannot be read (cut off, or of another version) is left out. When most lines are outdated, the file is written anew.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use images::DecodeOptions;
use serde::{Deserialize, Serialize};

use super::Measured;
use crate::AuditError;

/// Changes whenever a measure changes its meaning.
const VERSION: u32 = 2;

/// A file that was changed this shortly before it was looked at may change again without its time showing it (as git's index has it).
const TICK: Duration = Duration::from_secs(2);

/// What tells that a file is the one that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    size: u64,
    /// Nanoseconds since 1970.
    changed: u64,
}

impl Stamp {
    /// `None` where the file system keeps no time, or the change is too recent to be told from the next one.
    pub(super) fn of(metadata: &Metadata) -> Option<Stamp> {
        let time = metadata.modified().ok()?;
        let settled = SystemTime::now().duration_since(time).is_ok_and(|age| age > TICK);
        let changed = u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()?;
        settled.then_some(Stamp { size: metadata.len(), changed })
    }
}

#[derive(Serialize, Deserialize)]
struct Record<T> {
    version: u32,
    id: String,
    stamp: Stamp,
    measured: T,
}

pub(super) struct Cache {
    path: PathBuf,
    known: Mutex<HashMap<String, (Stamp, Measured)>>,
    file: Mutex<File>,
}

impl Cache {
    /// Opens or creates the cache of the data set in the folder `root`.
    pub(super) fn open(folder: &Path, root: &Path, decode: &DecodeOptions) -> Result<Cache, AuditError> {
        fs::create_dir_all(folder).map_err(AuditError::io("create the folder", folder))?;
        let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
        // The ground under transparent pixels is part of what was measured.
        let name = blake3::hash(format!("{} {:?}", root.display(), decode.background).as_bytes()).to_hex();
        let path = folder.join(format!("{}.pixels.jsonl", &name[..32]));
        let (known, lines) = read(&path).map_err(AuditError::io("read", &path))?;
        if lines > 2 * known.len() + 1000 {
            rewrite(&path, &known).map_err(AuditError::io("write", &path))?;
        }
        let mut file = OpenOptions::new().append(true).create(true).open(&path).map_err(AuditError::io("write", &path))?;
        // A line that was cut off must not swallow the next one; empty lines are left out.
        file.write_all(b"\n").map_err(AuditError::io("write", &path))?;
        Ok(Cache { path, known: Mutex::new(known), file: Mutex::new(file) })
    }

    /// The measures of a sample whose file is the one that was read. They are handed over, not copied: a sample is asked for once.
    pub(super) fn take(&self, id: &str, stamp: &Stamp) -> Option<Measured> {
        let mut known = lock(&self.known);
        known.get(id).is_some_and(|(known, _)| known == stamp).then(|| known.remove(id)).flatten().map(|(_, measured)| measured)
    }

    pub(super) fn put(&self, id: &str, stamp: Stamp, measured: &Measured) -> Result<(), AuditError> {
        let text = line(id, &stamp, measured).map_err(AuditError::io("write", &self.path))?;
        // One write a line: those of several processes do not mix, and an interrupted pass keeps what it has done.
        lock(&self.file).write_all(&text).map_err(AuditError::io("write", &self.path))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn line(id: &str, stamp: &Stamp, measured: &Measured) -> std::io::Result<Vec<u8>> {
    let record = Record { version: VERSION, id: id.to_string(), stamp: stamp.clone(), measured };
    let mut text = serde_json::to_vec(&record)?;
    text.push(b'\n');
    Ok(text)
}

/// What is known of each sample, by id.
type Known = HashMap<String, (Stamp, Measured)>;

/// The records, and the number of lines.
fn read(path: &Path) -> std::io::Result<(Known, usize)> {
    let mut known = HashMap::new();
    let mut lines = 0;
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((known, 0)),
        other => other?,
    };
    for text in BufReader::with_capacity(1 << 20, file).split(b'\n') {
        let text = text?;
        if text.is_empty() {
            continue;
        }
        lines += 1;
        if let Ok(record) = serde_json::from_slice::<Record<Measured>>(&text)
            && record.version == VERSION
        {
            known.insert(record.id, (record.stamp, record.measured));
        }
    }
    Ok((known, lines))
}

/// Replaces the file by one with the known records, in the order of their ids.
fn rewrite(path: &Path, known: &HashMap<String, (Stamp, Measured)>) -> std::io::Result<()> {
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let mut writer = BufWriter::new(File::create(&fresh)?);
    let mut ids: Vec<&String> = known.keys().collect();
    ids.sort();
    for id in ids {
        let (stamp, measured) = &known[id];
        writer.write_all(&line(id, stamp, measured)?)?;
    }
    writer.flush()?;
    fs::rename(&fresh, path)
}
