//! Copies of pictures without what they should not tell. The originals are never written to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use images::{DecodeOptions, ImageError, Rectangle};

use crate::AuditError;

/// Writes a copy of a file without its metadata, the picture byte by byte as it was; see [`images::strip_metadata`].
///
/// # Errors
/// A format whose metadata cannot be taken out, a file that cannot be read or written, or a target that exists.
pub fn stripped_copy(from: &Path, to: &Path) -> Result<(), AuditError> {
    let bytes = fs::read(from).map_err(AuditError::io("read", from))?;
    let stripped = images::strip_metadata(&bytes).map_err(|source| AuditError::Copy { path: from.to_path_buf(), source })?;
    write_new(to, &stripped)
}

/// Writes a copy of a picture, upright, without metadata, with regions blurred beyond recovery ([`images::Image::blur_regions`]); JPEG at a
/// quality of 95 where the name of the copy ends in `.jpg` or `.jpeg`, PNG where it ends in `.png`.
///
/// # Errors
/// A picture that cannot be decoded, a region that lies outside it, another ending, a file that cannot be written, or a target that exists.
pub fn anonymised_copy(from: &Path, to: &Path, regions: &[Rectangle]) -> Result<(), AuditError> {
    let fail = |source| AuditError::Copy { path: from.to_path_buf(), source };
    let ending = to.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let encode: fn(&images::Image) -> Vec<u8> = match ending.as_str() {
        "jpg" | "jpeg" => |image| images::encode_jpeg(image, 95),
        "png" => images::encode_png,
        _ => {
            return Err(fail(ImageError::UnknownFormat {
                found: format!("the name {} for the copy; end it in .png or .jpg", to.display()),
            }));
        }
    };
    let image = images::open(from, &DecodeOptions::default()).map_err(fail)?;
    let (width, height) = (image.width(), image.height());
    if let Some(region) = regions.iter().find(|r| r.left >= width || r.top >= height) {
        return Err(AuditError::Outside { path: from.to_path_buf(), region: *region, width, height });
    }
    write_new(to, &encode(&image.blur_regions(regions)))
}

/// The name of an anonymised copy: as it is where it ends in `.png`, `.jpg` or `.jpeg`, otherwise with the ending `.png`.
pub fn anonymised_name(name: &Path) -> PathBuf {
    let ending = name.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    match ending.as_str() {
        "png" | "jpg" | "jpeg" => name.to_path_buf(),
        _ => name.with_extension("png"),
    }
}

/// What is to be blurred, by picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Regions(BTreeMap<String, Vec<Rectangle>>);

impl Regions {
    /// Reads a CSV with the columns `path`, `x`, `y`, `w`, `h` (others are left out): a picture's path below its folder with `/` between its
    /// parts, and a rectangle in pixels of the upright picture; fractions are rounded outwards.
    ///
    /// # Errors
    /// A file that cannot be read, a column that is missing, a value that is no number from 0, a rectangle without area.
    pub fn read(path: &Path) -> Result<Regions, AuditError> {
        let fail = |row: u64, message: String| AuditError::Plan { path: path.to_path_buf(), row, message };
        let bytes = fs::read(path).map_err(AuditError::io("read", path))?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes.as_slice());
        let header = reader.headers().map_err(|error| fail(1, error.to_string()))?.clone();
        let column = |name: &str| {
            let found: Vec<&str> = header.iter().collect();
            let missing = || fail(1, format!("no column `{name}`; expected path, x, y, w and h, found {}", found.join(", ")));
            found.iter().position(|f| *f == name).ok_or_else(missing)
        };
        let at = [column("path")?, column("x")?, column("y")?, column("w")?, column("h")?];
        let mut regions: BTreeMap<String, Vec<Rectangle>> = BTreeMap::new();
        for (row, record) in (2u64..).zip(reader.records()) {
            let record = record.map_err(|error| fail(row, error.to_string()))?;
            let text = |i: usize| record.get(at[i]).unwrap_or_default();
            let number = |i: usize| match text(i).parse::<f64>() {
                Ok(value) if value.is_finite() && (0.0..1e9).contains(&value) => Ok(value),
                _ => Err(fail(row, format!("{} is {:?}, expected pixels from 0", ["path", "x", "y", "w", "h"][i], text(i)))),
            };
            let [x, y, w, h] = [number(1)?, number(2)?, number(3)?, number(4)?];
            if w == 0.0 || h == 0.0 {
                return Err(fail(row, format!("the rectangle is {w}×{h} pixels, which would blur nothing")));
            }
            let (left, top) = (x.floor() as usize, y.floor() as usize);
            let (width, height) = ((x + w).ceil() as usize - left, (y + h).ceil() as usize - top);
            regions.entry(text(0).replace('\\', "/")).or_default().push(Rectangle { left, top, width, height });
        }
        Ok(Regions(regions))
    }

    /// The regions of a picture.
    pub fn of(&self, path: &str) -> &[Rectangle] {
        self.0.get(path).map_or(&[], Vec::as_slice)
    }

    /// Paths with regions that are not among those given, in order.
    pub fn unknown<'a>(&self, known: impl Iterator<Item = &'a str>) -> Vec<&str> {
        let known: BTreeSet<&str> = known.collect();
        self.0.keys().map(String::as_str).filter(|path| !known.contains(path)).collect()
    }
}

/// Creates the file and the folders above it; refuses to overwrite.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), AuditError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(AuditError::io("create the folder", folder))?;
    }
    let mut file = match File::create_new(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(AuditError::Exists { path: path.to_path_buf() }),
        other => other.map_err(AuditError::io("write", path))?,
    };
    file.write_all(bytes).map_err(AuditError::io("write", path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use images::{Image, decode, encode_png};

    #[test]
    fn copies_are_new_files_and_the_original_stays() {
        let dir = tempfile::tempdir().unwrap();
        let image = Image::from_rgb8(40, 30, (0..3600).map(|i| (i * 13 % 256) as u8).collect()).unwrap();
        let from = dir.path().join("a.png");
        let mut bytes = encode_png(&image);
        bytes.splice(33..33, *b"\0\0\0\x0btEXtAuthor\0Jane\0\0\0\0");
        fs::write(&from, &bytes).unwrap();
        let to = dir.path().join("new/folder/a.png");
        stripped_copy(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), encode_png(&image));
        assert!(stripped_copy(&from, &to).unwrap_err().to_string().contains("exists already"));
        let region = Rectangle { left: 0, top: 0, width: 20, height: 30 };
        let blurred = dir.path().join("b.jpg");
        anonymised_copy(&from, &blurred, &[region]).unwrap();
        let shown = decode(&fs::read(&blurred).unwrap(), &DecodeOptions::default()).unwrap();
        assert_eq!((shown.width(), shown.height()), (40, 30));
        assert!(anonymised_copy(&from, &dir.path().join("c.gif"), &[]).is_err());
        assert_eq!(fs::read(&from).unwrap(), bytes);
    }

    #[test]
    fn regions_are_read_and_wrong_ones_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.csv");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Regions::read(&path).map_err(|e| e.to_string().replace(&*dir.path().to_string_lossy(), "DIR"))
        };
        let regions = read("path,x,y,w,h,who\na/b.png, 1.5,2,3,4.2,J\na/b.png,0,0,9,9,K\n").unwrap();
        assert_eq!(regions.of("a/b.png")[0], Rectangle { left: 1, top: 2, width: 4, height: 5 });
        assert_eq!((regions.of("a/b.png").len(), regions.of("c.png").len()), (2, 0));
        assert_eq!(regions.unknown(["c.png"].into_iter()), ["a/b.png"]);
        assert_eq!(read("path,x,y,w\n").unwrap_err(), "DIR/r.csv: row 1: no column `h`; expected path, x, y, w and h, found path, x, y, w");
        assert_eq!(read("path,x,y,w,h\na,-1,0,2,2\n").unwrap_err(), "DIR/r.csv: row 2: x is \"-1\", expected pixels from 0");
        assert!(read("path,x,y,w,h\na,1,0,0,2\n").unwrap_err().contains("would blur nothing"));
        let outside = Rectangle { left: 40, top: 0, width: 5, height: 5 };
        let from = dir.path().join("a.png");
        fs::write(&from, encode_png(&Image::from_gray8(40, 30, vec![7; 1200]).unwrap())).unwrap();
        let error = anonymised_copy(&from, &dir.path().join("b.png"), &[outside]).unwrap_err().to_string();
        assert!(error.contains("outside") && !dir.path().join("b.png").exists(), "{error}");
        assert_eq!(anonymised_name(Path::new("x/a.WebP")), Path::new("x/a.png"));
        assert_eq!(anonymised_name(Path::new("x/a.JPG")), Path::new("x/a.JPG"));
    }
}
