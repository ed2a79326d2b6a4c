//! Folders of pictures.

use std::path::{Path, PathBuf};

use crate::DataError;

/// The files under a folder.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Image files as (id relative to the root with `/`, real path), sorted by id.
    pub images: Vec<(String, PathBuf)>,
    /// Files that are no images by their extension, sorted.
    pub others: Vec<PathBuf>,
    /// Loops, unreadable folders and the like.
    pub warnings: Vec<String>,
}

/// All image files under `root`, recursively; `root` may be a single file.
///
/// # Errors
/// When `root` cannot be listed.
pub fn list_images(_root: &Path) -> Result<Listing, DataError> {
    unimplemented!()
}
