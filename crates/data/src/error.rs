//! What can be wrong with a data set, in words that say where and what to do.

use std::io;
use std::path::{Path, PathBuf};

use images::ImageError;

/// Why a data set could not be opened, read, split or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Nothing by this name.
    #[error("`{spec}` is neither a folder, a manifest file nor a data set that can be fetched ({known})")]
    NotFound {
        /// What was asked for.
        spec: String,
        /// The names that can be fetched.
        known: String,
    },
    /// A known data set that is not in the cache yet.
    #[error("the data set `{name}` is not in the cache {cache}: run `fieldmark fetch {name}`")]
    NotFetched {
        /// Its name.
        name: String,
        /// The cache that was looked in.
        cache: PathBuf,
    },
    /// The name of something else than a data set.
    #[error("`{name}` is a file of weights, not a data set; use it as a model")]
    NotADataset {
        /// Its name.
        name: String,
    },
    /// A file that is neither a manifest nor an IDX file.
    #[error("{path}: not a data set: expected a folder, a manifest (.csv, .tsv) or an IDX file (…-images-idx3-ubyte)")]
    NotAManifest {
        /// The file.
        path: PathBuf,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// read, write, list...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A folder without a single image.
    #[error("{path}: no images found{detail}; expected class folders such as {path}/CLASS/picture.png (also under train, val, test)")]
    Empty {
        /// The folder.
        path: PathBuf,
        /// What was there instead.
        detail: String,
    },
    /// Images lie in the folder itself, so that nothing says their class.
    #[error(
        "{path}: images lie in the folder itself ({count}) and none in a class folder; expected {path}/CLASS/picture.png, or a manifest with the columns path and label"
    )]
    NoClasses {
        /// The folder.
        path: PathBuf,
        /// How many images.
        count: usize,
    },
    /// A manifest without the columns it needs.
    #[error("{path}: no column {expected}; the header has: {found}")]
    Columns {
        /// The manifest.
        path: PathBuf,
        /// What was looked for.
        expected: String,
        /// The header.
        found: String,
    },
    /// A value that cannot be used.
    #[error("{path}: row {row}, column `{column}`: {message}")]
    Row {
        /// The manifest.
        path: PathBuf,
        /// Line number in the file, the header being line 1.
        row: u64,
        /// Column name.
        column: String,
        /// What was expected and found.
        message: String,
    },
    /// A label outside a given class list.
    #[error("{path}: row {row}: the label `{label}` is not in the class list ({classes}); correct the row or take it out")]
    UnknownLabel {
        /// The manifest or folder.
        path: PathBuf,
        /// Line number, or 0 for a folder.
        row: u64,
        /// The label.
        label: String,
        /// The known names.
        classes: String,
    },
    /// A class folder outside a given class list.
    #[error("{path}: the class folder `{label}` is not in the class list ({classes}); rename the folder or move it away")]
    UnknownFolder {
        /// The data set.
        path: PathBuf,
        /// The folder.
        label: String,
        /// The known names.
        classes: String,
    },
    /// The same picture with two labels.
    #[error("{path}: rows {first} and {second} give `{id}` different values ({difference}); keep one of them")]
    Conflict {
        /// The manifest.
        path: PathBuf,
        /// Line number of the earlier row.
        first: u64,
        /// Line number of the later row.
        second: u64,
        /// The picture.
        id: String,
        /// Column and both values.
        difference: String,
    },
    /// Every row of a manifest names a file that is not there.
    #[error(
        "{path}: none of the {count} files it names exists (row {row}: {first}); paths are taken relative to the manifest's folder {folder}"
    )]
    AllMissing {
        /// The manifest.
        path: PathBuf,
        /// Number of rows.
        count: usize,
        /// First row.
        row: u64,
        /// The first file looked for.
        first: PathBuf,
        /// Folder that paths are relative to.
        folder: PathBuf,
    },
    /// A table that cannot be parsed.
    #[error("{path}: cannot be read as a table; expected UTF-8 text with the same fields in every row")]
    Csv {
        /// The file.
        path: PathBuf,
        /// Row and reason.
        source: csv::Error,
    },
    /// A broken IDX file or set of them.
    #[error("{path}: not a usable IDX file: {message}")]
    Idx {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        message: String,
    },
    /// A broken data file of another fixed layout.
    #[error("{path}: {message}")]
    Layout {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        message: String,
    },
    /// A class list that cannot be used.
    #[error("the class list cannot be used: {message}")]
    ClassList {
        /// Why.
        message: String,
    },
    /// The data has classes that the wanted list lacks.
    #[error("the data set has classes that the class list lacks: {missing} (the list has: {classes})")]
    UnknownClasses {
        /// Names not in the list.
        missing: String,
        /// Names in the list.
        classes: String,
    },
    /// A picture that cannot be decoded.
    #[error("{id}: {reason}")]
    Image {
        /// Sample id.
        id: String,
        /// Why.
        reason: ImageError,
    },
    /// A sample number outside the data set.
    #[error("sample {index} was asked for, but the data set has {len}")]
    Index {
        /// The number.
        index: usize,
        /// Samples in the data set.
        len: usize,
    },
    /// Loader options that cannot be used.
    #[error("loader option {option}: {message}")]
    Loader {
        /// Which option.
        option: &'static str,
        /// What is wrong.
        message: String,
    },
    /// Samples that cannot be divided as asked.
    #[error(transparent)]
    Split(#[from] crate::split::SplitError),
    /// A fetch that failed.
    #[error(transparent)]
    Fetch(#[from] crate::fetch::FetchError),
}

impl DataError {
    /// What is wrong with a picture, without its id: for lists that name the sample themselves.
    pub fn reason(&self) -> String {
        match self {
            DataError::Image { reason: ImageError::Read { source, .. }, .. } => format!("cannot be read: {source}"),
            DataError::Image { reason, .. } => reason.to_string(),
            other => other.to_string(),
        }
    }

    /// An input or output error at a path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
        let path = path.to_path_buf();
        move |source| DataError::Io { action, path, source }
    }
}
