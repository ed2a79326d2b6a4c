//! Bringing published data sets and weights into the user's cache.

use std::path::{Path, PathBuf};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A data set, opened by name with [`crate::Dataset::open`].
    Dataset,
    /// A file of pretrained weights.
    Weights,
}

/// Something that can be fetched.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name to ask for.
    pub name: &'static str,
    /// Data set or weights.
    pub kind: Kind,
    /// One line on what it is.
    pub about: &'static str,
    /// One line on its licence.
    pub licence: &'static str,
}

/// How to fetch.
#[derive(Default)]
pub struct FetchOptions {
    /// The cache; empty means [`cache_dir`].
    pub cache: PathBuf,
    /// Called with what is being done.
    pub progress: Option<Box<dyn Fn(&Progress) + Send + Sync>>,
}

/// What is being done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Another process is fetching the same; waiting for it.
    Waiting,
    /// The package client is downloading.
    Downloading {
        /// The command run.
        command: String,
        /// Size of the archive in bytes.
        bytes: u64,
    },
    /// Comparing the archive's SHA-256 with the expected one.
    Verifying,
    /// Unpacking.
    Unpacking {
        /// Files written.
        done: usize,
        /// Files to write.
        total: usize,
    },
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The name asked for.
    pub name: &'static str,
    /// Data set or weights.
    pub kind: Kind,
    /// The folder of a data set, or the file of weights.
    pub path: PathBuf,
    /// One line on the licence.
    pub licence: &'static str,
    /// Whether it was in the cache already.
    pub cached: bool,
}

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Not a name that can be fetched.
    #[error("nothing called `{name}` can be fetched; the names are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

/// Everything that can be fetched.
pub fn entries() -> &'static [Entry] {
    &[]
}

/// The entry of a name.
pub fn entry(name: &str) -> Option<&'static Entry> {
    entries().iter().find(|e| e.name == name)
}

/// The cache folder: `FIELDMARK_CACHE`, or `fieldmark` in `XDG_CACHE_HOME`, or `.cache/fieldmark` in the home folder.
pub fn cache_dir() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("FIELDMARK_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|p| p.join("fieldmark")))
        .or_else(|| set("LOCALAPPDATA").map(|p| p.join("fieldmark")))
        .or_else(|| set("HOME").map(|p| p.join(".cache").join("fieldmark")))
        .unwrap_or_else(|| PathBuf::from(".fieldmark-cache"))
}

/// Where `name` lies in `cache` if it was fetched completely: the folder of a data set, the file of weights.
pub fn locate(_name: &str, _cache: &Path) -> Option<PathBuf> {
    None
}

/// Fetches `name` unless the cache has it.
///
/// # Errors
/// Unknown names, a missing package client, a failed download, a wrong checksum, a full disk.
pub fn fetch(_name: &str, _options: &FetchOptions) -> Result<Fetched, FetchError> {
    unimplemented!()
}
