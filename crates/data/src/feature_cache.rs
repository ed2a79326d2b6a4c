//! Features on disk, so that a frozen backbone sees each picture once.
//!
//! One append-only file for each combination of weights and preprocessing. A record is the key (32 bytes), the number of
//! values (u32), the first 8 bytes of the BLAKE3 digest of key, number and values, and the values (f32); all little-endian.
//! A record that was cut off or altered ends the readable part: it and what follows are dropped on the next write. Writers of
//! several processes take turns by a lock on the file.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::DataError;

const MAGIC: &[u8; 16] = b"fieldmark-feat 1";
const HEADER: usize = 32 + 4 + 8;
/// More values than any feature vector has; a longer record is a broken one.
const MOST_VALUES: usize = 1 << 24;

/// Vectors by content hash, for one combination of weights and preprocessing.
pub struct FeatureCache {
    path: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    /// Start of the values and their number.
    index: HashMap<[u8; 32], (u64, usize)>,
    /// End of the readable part.
    end: u64,
}

impl FeatureCache {
    /// Opens or creates the cache for `fingerprint` (any text naming weights, node and preprocessing) in the folder `dir`.
    ///
    /// # Errors
    /// When the folder cannot be made or the file cannot be read or written.
    pub fn open(dir: &Path, fingerprint: &str) -> Result<FeatureCache, DataError> {
        fs::create_dir_all(dir).map_err(DataError::io("create the folder", dir))?;
        let name = blake3::hash(fingerprint.as_bytes()).to_hex();
        let path = dir.join(format!("{}.features", &name[..32]));
        let open = || -> io::Result<Inner> {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            let mut inner = Inner { file, index: HashMap::new(), end: 0 };
            let _turn = Turn::wait(&inner.file)?;
            inner.read_new()?;
            Ok(inner)
        };
        let inner = open().map_err(DataError::io("open the feature cache", &path))?;
        Ok(FeatureCache { path, inner: Mutex::new(inner) })
    }

    /// The vector stored for a content hash ([`crate::content_hash`]); `None` when there is none or it cannot be read.
    pub fn get(&self, key: &[u8; 32]) -> Option<Vec<f32>> {
        let mut inner = self.lock();
        let &(start, values) = inner.index.get(key)?;
        let mut bytes = vec![0; values * 4];
        inner.file.seek(SeekFrom::Start(start)).ok()?;
        inner.file.read_exact(&mut bytes).ok()?;
        drop(inner);
        let (words, _) = bytes.as_chunks::<4>();
        Some(words.iter().map(|w| f32::from_le_bytes(*w)).collect())
    }

    /// Stores a vector; one already there is kept.
    ///
    /// # Errors
    /// When the file cannot be written (a full disk, say); what was stored before stays readable.
    pub fn put(&self, key: &[u8; 32], features: &[f32]) -> Result<(), DataError> {
        let mut inner = self.lock();
        let write = |inner: &mut Inner| -> io::Result<()> {
            if inner.index.contains_key(key) {
                return Ok(());
            }
            let _turn = Turn::wait(&inner.file)?;
            inner.read_new()?;
            if !inner.index.contains_key(key) {
                inner.append(key, features)?;
            }
            Ok(())
        };
        write(&mut inner).map_err(DataError::io("write the feature cache", &self.path))
    }

    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.lock().index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Reads the records behind `end`, those of other processes included, and cuts off a broken tail. Only in turn.
    fn read_new(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length == self.end && self.end > 0 {
            return Ok(());
        }
        let mut reader = BufReader::with_capacity(1 << 20, &self.file);
        if self.end == 0 || length < self.end {
            self.index.clear();
            reader.seek(SeekFrom::Start(0))?;
            let mut magic = [0; MAGIC.len()];
            if length < MAGIC.len() as u64 || reader.read_exact(&mut magic).is_err() || &magic != MAGIC {
                self.file.set_len(0)?;
                self.file.seek(SeekFrom::Start(0))?;
                self.file.write_all(MAGIC)?;
                self.end = MAGIC.len() as u64;
                return Ok(());
            }
            self.end = MAGIC.len() as u64;
        }
        reader.seek(SeekFrom::Start(self.end))?;
        while let Some((key, values)) = read_record(&mut reader, length - self.end)? {
            self.index.insert(key, (self.end + HEADER as u64, values));
            self.end += (HEADER + values * 4) as u64;
        }
        if self.end < length {
            self.file.set_len(self.end)?;
        }
        Ok(())
    }

    fn append(&mut self, key: &[u8; 32], features: &[f32]) -> io::Result<()> {
        let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "the feature vector is too long");
        let count = u32::try_from(features.len()).ok().filter(|&n| n as usize <= MOST_VALUES).ok_or_else(too_long)?;
        let values: Vec<u8> = features.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut record = Vec::with_capacity(HEADER + values.len());
        record.extend_from_slice(key);
        record.extend_from_slice(&count.to_le_bytes());
        record.extend_from_slice(&digest(key, count, &values));
        record.extend_from_slice(&values);
        self.file.seek(SeekFrom::Start(self.end))?;
        if let Err(error) = self.file.write_all(&record) {
            // Half a record is cut off now if possible, otherwise by the next one to read it.
            let _ = self.file.set_len(self.end);
            return Err(error);
        }
        self.index.insert(*key, (self.end + HEADER as u64, features.len()));
        self.end += record.len() as u64;
        Ok(())
    }
}

fn digest(key: &[u8; 32], count: u32, values: &[u8]) -> [u8; 8] {
    let mut hash = blake3::Hasher::new();
    hash.update(key).update(&count.to_le_bytes()).update(values);
    let mut out = [0; 8];
    hash.finalize_xof().fill(&mut out);
    out
}

/// Key and number of values of the next record; `None` at the end or at a broken one.
fn read_record(reader: &mut impl Read, left: u64) -> io::Result<Option<([u8; 32], usize)>> {
    if left < HEADER as u64 {
        return Ok(None);
    }
    let (mut key, mut count, mut expected) = ([0; 32], [0; 4], [0; 8]);
    reader.read_exact(&mut key)?;
    reader.read_exact(&mut count)?;
    reader.read_exact(&mut expected)?;
    let count = u32::from_le_bytes(count);
    let values = count as usize;
    if values > MOST_VALUES || (values * 4) as u64 > left - HEADER as u64 {
        return Ok(None);
    }
    let mut bytes = vec![0; values * 4];
    reader.read_exact(&mut bytes)?;
    Ok((digest(&key, count, &bytes) == expected).then_some((key, values)))
}

/// A turn at writing; given up when dropped. File systems without locks are written without.
struct Turn(File);

impl Turn {
    fn wait(file: &File) -> io::Result<Turn> {
        match file.lock() {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(error),
            _ => file.try_clone().map(Turn),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// `features` in [`crate::fetch::cache_dir`]: where feature caches live.
pub fn default_dir() -> PathBuf {
    crate::fetch::cache_dir().join("features")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(n: u8) -> [u8; 32] {
        [n; 32]
    }

    fn only_file(dir: &Path) -> PathBuf {
        fs::read_dir(dir).unwrap().next().unwrap().unwrap().path()
    }

    #[test]
    fn what_was_put_is_got_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let cache = FeatureCache::open(dir.path(), "weights A").unwrap();
        assert!(cache.is_empty());
        cache.put(&key(1), &[1.0, -2.5]).unwrap();
        cache.put(&key(2), &[3.0]).unwrap();
        cache.put(&key(1), &[9.0]).unwrap();
        drop(cache);
        let cache = FeatureCache::open(dir.path(), "weights A").unwrap();
        assert_eq!(cache.len(), 2);
        assert_eq!(cache.get(&key(1)).unwrap(), [1.0, -2.5]);
        assert_eq!(cache.get(&key(3)), None);
        assert!(FeatureCache::open(dir.path(), "weights B").unwrap().get(&key(1)).is_none());
    }

    #[test]
    fn a_cut_tail_loses_the_last_record_only() {
        let dir = tempfile::tempdir().unwrap();
        let cache = FeatureCache::open(dir.path(), "w").unwrap();
        cache.put(&key(1), &[1.0; 10]).unwrap();
        cache.put(&key(2), &[2.0; 10]).unwrap();
        drop(cache);
        let path = only_file(dir.path());
        let length = fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 3).unwrap();
        let cache = FeatureCache::open(dir.path(), "w").unwrap();
        assert_eq!(cache.len(), 1);
        cache.put(&key(3), &[3.0]).unwrap();
        let cache = FeatureCache::open(dir.path(), "w").unwrap();
        assert_eq!(cache.get(&key(1)).unwrap(), [1.0; 10]);
        assert_eq!(cache.get(&key(3)).unwrap(), [3.0]);
    }

    #[test]
    fn an_altered_record_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        FeatureCache::open(dir.path(), "w").unwrap().put(&key(1), &[1.0; 4]).unwrap();
        let path = only_file(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(FeatureCache::open(dir.path(), "w").unwrap().get(&key(1)), None);
        fs::write(&path, b"something else").unwrap();
        assert!(FeatureCache::open(dir.path(), "w").unwrap().is_empty());
    }

    #[test]
    fn two_open_caches_do_not_overwrite_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let a = FeatureCache::open(dir.path(), "w").unwrap();
        let b = FeatureCache::open(dir.path(), "w").unwrap();
        for n in 0..20 {
            a.put(&key(n), &[f32::from(n)]).unwrap();
            b.put(&key(n + 100), &[f32::from(n)]).unwrap();
        }
        let c = FeatureCache::open(dir.path(), "w").unwrap();
        assert_eq!(c.len(), 40);
        assert_eq!(c.get(&key(107)).unwrap(), [7.0]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = FeatureCache::open(&file.join("features"), "w").err().unwrap();
        assert!(error.to_string().contains("cannot create the folder") && error.to_string().contains("features"), "{error}");
    }
}
