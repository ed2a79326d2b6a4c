//! Features on disk, so that a frozen backbone sees each picture once.

use std::path::Path;

use crate::DataError;

/// Vectors by content hash, for one combination of weights and preprocessing.
pub struct FeatureCache {}

impl FeatureCache {
    /// Opens or creates the cache for `fingerprint` (any text naming weights, node and preprocessing) in the folder `dir`.
    ///
    /// # Errors
    /// When the folder cannot be made or the file cannot be read or written.
    pub fn open(_dir: &Path, _fingerprint: &str) -> Result<FeatureCache, DataError> {
        unimplemented!()
    }

    /// The vector stored for a content hash ([`crate::content_hash`]).
    pub fn get(&self, _key: &[u8; 32]) -> Option<Vec<f32>> {
        unimplemented!()
    }

    /// Stores a vector; one already there is kept.
    ///
    /// # Errors
    /// When the file cannot be written (a full disk, say); what was stored before stays readable.
    pub fn put(&self, _key: &[u8; 32], _features: &[f32]) -> Result<(), DataError> {
        unimplemented!()
    }

    /// Number of vectors.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// `cache_dir()/features`: where feature caches live.
pub fn default_dir() -> std::path::PathBuf {
    crate::fetch::cache_dir().join("features")
}
