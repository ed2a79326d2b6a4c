//! Folders of pictures: one folder a class, also under one folder a split.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::{name_of, some_of, split_name};
use crate::{Classes, DataError, Dataset, OpenOptions, Sample, Source, Target};

/// Endings of image files, in lower case.
const IMAGE_EXTENSIONS: [&str; 12] = ["jpg", "jpeg", "png", "bmp", "gif", "tif", "tiff", "webp", "pnm", "ppm", "pgm", "pbm"];

/// The files under a folder.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Image files as (id relative to the root with `/`, real path), sorted by id; ids are unique.
    pub images: Vec<(String, PathBuf)>,
    /// Files that are no images by their extension, sorted.
    pub others: Vec<PathBuf>,
    /// Loops, unreadable folders and the like.
    pub warnings: Vec<String>,
}

/// Whether a file is an image by its extension, in upper or lower case.
pub fn has_image_extension(path: &Path) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|e| IMAGE_EXTENSIONS.contains(&e.to_lowercase().as_str()))
}

/// A file name as text; bytes that are not UTF-8 become `\xNN`.
pub(crate) fn display_name(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02X}")));
    }
    text
}

/// All image files under `root`, recursively, hidden ones left out; `root` may be a single file. Symbolic links are followed,
/// loops are not.
///
/// # Errors
/// When `root` cannot be listed. Folders below it that cannot are warnings.
pub fn list_images(root: &Path) -> Result<Listing, DataError> {
    let mut listing = Listing::default();
    if root.is_file() {
        let name = root.file_name().map(display_name).unwrap_or_default();
        listing.images.push((name, root.into()));
        return Ok(listing);
    }
    fs::read_dir(root).map_err(DataError::io("list", root))?;
    let mut above = Vec::new();
    walk(root, "", &mut above, &mut listing);
    listing.images.sort();
    listing.others.sort();
    make_unique(&mut listing.images);
    Ok(listing)
}

/// Adds what lies in `folder`, whose id is `prefix`; `above` are the real paths of the folders it lies in.
fn walk(folder: &Path, prefix: &str, above: &mut Vec<PathBuf>, listing: &mut Listing) {
    let real = match folder.canonicalize() {
        Ok(real) => real,
        Err(error) => return listing.warnings.push(format!("{} cannot be read ({error}); set aside", folder.display())),
    };
    if above.contains(&real) {
        return listing.warnings.push(format!("{} is a link to a folder that it lies in; not followed", folder.display()));
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return listing.warnings.push(format!("{} cannot be listed ({error}); set aside", folder.display())),
    };
    above.push(real);
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                listing.warnings.push(format!("{} cannot be listed completely ({error})", folder.display()));
                break;
            }
        };
        let name = display_name(&entry.file_name());
        if name.starts_with('.') || name == "__MACOSX" {
            continue;
        }
        let id = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => walk(&path, &id, above, listing),
            Ok(meta) if !has_image_extension(&path) || !meta.is_file() => listing.others.push(path),
            Ok(_) => listing.images.push((id, path)),
            Err(error) => listing.warnings.push(format!("{} cannot be read ({error}); set aside", path.display())),
        }
    }
    above.pop();
}

/// Two names that read alike (one of them not UTF-8) get a number.
fn make_unique(images: &mut [(String, PathBuf)]) {
    let mut seen = BTreeSet::new();
    for (id, _) in images {
        let mut unique = id.clone();
        let mut number = 2;
        while !seen.insert(unique.clone()) {
            unique = format!("{id}~{number}");
            number += 1;
        }
        *id = unique;
    }
}

/// Opens a folder of class folders.
pub(crate) fn open(root: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    let mut listing = list_images(root)?;
    let mut warnings = std::mem::take(&mut listing.warnings);
    if listing.images.is_empty() {
        return Err(DataError::Empty { path: root.into(), detail: others_found(&listing) });
    }
    let layout = Layout::of(&listing.images, &mut warnings);
    let mut placed = Vec::new();
    let mut loose = Vec::new();
    for (id, path) in listing.images {
        match layout.place(&id) {
            Some((split, class)) => placed.push((split, class, id, path)),
            None => loose.push(id),
        }
    }
    if placed.is_empty() {
        return Err(DataError::NoClasses { path: root.into(), count: loose.len() });
    }
    if !loose.is_empty() {
        warnings.push(format!("set aside, as they lie outside the class folders: {}", some_of(&loose, 3)));
    }
    if !listing.others.is_empty() {
        let names: Vec<String> = listing.others.iter().map(|p| p.display().to_string()).collect();
        warnings.push(format!("left out, as their names are not those of image files: {}", some_of(&names, 3)));
    }
    warnings.extend(empty_class_folders(root, layout, &placed.iter().map(|p| p.1.as_str()).collect()));
    let classes = classes_of(root, placed.iter().map(|p| p.1.as_str()), options)?;
    let mut samples = Vec::with_capacity(placed.len());
    for (split, class, id, path) in placed {
        let target = classes.index_of(&class).map(Target::Label);
        samples.push(Sample { target, split, ..Sample::new(id, Source::File(path)) });
    }
    Ok(Dataset { name: name_of(root), root: root.into(), classes, samples, warnings })
}

fn others_found(listing: &Listing) -> String {
    match listing.others.first() {
        None => String::new(),
        Some(first) => format!(" among {} other files, such as {}", listing.others.len(), first.display()),
    }
}

fn classes_of<'a>(root: &Path, seen: impl Iterator<Item = &'a str>, options: &OpenOptions) -> Result<Classes, DataError> {
    let seen = Classes::sorted(seen);
    let Some(list) = &options.class_list else { return Ok(seen) };
    match seen.names().iter().find(|n| list.index_of(n).is_none()) {
        None => Ok(list.clone()),
        Some(label) => Err(DataError::UnknownFolder { path: root.into(), label: label.clone(), classes: some_of(list.names(), 20) }),
    }
}

/// What the first parts of an id mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// CLASS/…
    Classes,
    /// SPLIT/CLASS/…
    Splits,
}

impl Layout {
    fn of(images: &[(String, PathBuf)], warnings: &mut Vec<String>) -> Layout {
        // For each first folder: whether all that lies in it lies in a folder again.
        let mut nested: BTreeMap<&str, bool> = BTreeMap::new();
        for (id, _) in images {
            let mut parts = id.split('/');
            if let (Some(first), Some(_)) = (parts.next(), parts.next()) {
                let deep = parts.next().is_some();
                nested.entry(first).and_modify(|d| *d |= deep).or_insert(deep);
            }
        }
        let (splits, other): (Vec<&str>, Vec<&str>) = nested.keys().partition(|n| is_split_folder(n));
        let deep = splits.iter().any(|s| nested[s]);
        if deep && !other.is_empty() {
            warnings.push(format!(
                "the folders {} look like splits, but {} lies beside them: all are taken as classes",
                splits.join(", "),
                some_of(&other, 3)
            ));
        }
        if deep && other.is_empty() { Layout::Splits } else { Layout::Classes }
    }

    /// Split and class of an image; `None` when it lies outside a class folder.
    fn place(self, id: &str) -> Option<(Option<String>, String)> {
        let mut folders = id.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev();
        match self {
            Layout::Classes => Some((None, folders.next()?.into())),
            Layout::Splits => {
                let split = split_name(folders.next()?);
                Some((Some(split), folders.next()?.into()))
            }
        }
    }
}

fn is_split_folder(name: &str) -> bool {
    ["train", "val", "test"].contains(&split_name(name).as_str())
}

/// Folders where a class is expected, of which no image came.
fn empty_class_folders(root: &Path, layout: Layout, classes: &BTreeSet<&str>) -> Vec<String> {
    let folders_in = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).map(|entries| entries.flatten().map(|e| e.path()).collect::<Vec<_>>());
        let mut folders: Vec<PathBuf> = entries.unwrap_or_default().into_iter().filter(|p| p.is_dir()).collect();
        folders.sort();
        folders
    };
    let parents = if layout == Layout::Splits { folders_in(root) } else { vec![root.into()] };
    let mut names: Vec<String> = parents.iter().flat_map(|p| folders_in(p)).filter_map(|p| p.file_name().map(display_name)).collect();
    names.retain(|n| !n.starts_with('.') && n != "__MACOSX" && !classes.contains(n.as_str()));
    names.dedup();
    names.into_iter().map(|n| format!("the folder `{n}` holds no image and is not taken as a class")).collect()
}
