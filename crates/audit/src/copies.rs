//! Copies of pictures without what they should not tell. The originals are never written to.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

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
/// A picture that cannot be decoded, another ending, a file that cannot be written, or a target that exists.
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
    write_new(to, &encode(&image.blur_regions(regions)))
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
}
