//! `fieldmark strip-metadata` and `fieldmark anonymise`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use audit::{AuditError, Regions};

use crate::args;
use crate::failure::Usage;
use crate::output;

pub fn strip_metadata(args: &args::StripMetadata) -> Result<()> {
    let mut list = Vec::new();
    for path in &args.paths {
        if path.is_dir() {
            list.extend(data::list_images(path)?.images.into_iter().map(|(id, file)| (file, args.out.join(id))));
        } else {
            let name = path.file_name().ok_or_else(|| Usage(format!("{} is no picture", path.display())))?;
            list.push((path.clone(), args.out.join(name)));
        }
    }
    copy(&list, &args.out, args.json, audit::stripped_copy)
}

pub fn anonymise(args: &args::Anonymise) -> Result<()> {
    if !args.folder.is_dir() {
        return Err(Usage(format!("{} is no folder: the paths of --regions are below it", args.folder.display())).into());
    }
    let images = data::list_images(&args.folder)?.images;
    let regions = Regions::read(&args.regions)?;
    let unknown = regions.unknown(images.iter().map(|(id, _)| id.as_str()));
    if let Some(first) = unknown.first() {
        let (csv, folder) = (args.regions.display(), args.folder.display());
        bail!("{csv} names {first} (and {} more), which {folder} does not hold; nothing was copied", unknown.len() - 1);
    }
    let list: Vec<(PathBuf, PathBuf)> =
        images.iter().map(|(id, file)| (file.clone(), audit::anonymised_name(&args.out.join(id)))).collect();
    let of: std::collections::HashMap<&Path, &str> = images.iter().map(|(id, file)| (file.as_path(), id.as_str())).collect();
    copy(&list, &args.out, args.json, |from, to| audit::anonymised_copy(from, to, of.get(from).map_or(&[], |id| regions.of(id))))
}

/// Copies one after the other; what fails is told, and fails the command at the end: what was not copied must not go unnoticed.
fn copy(list: &[(PathBuf, PathBuf)], out: &Path, json: bool, one: impl Fn(&Path, &Path) -> Result<(), AuditError>) -> Result<()> {
    if list.is_empty() {
        return Err(Usage("no pictures given: the folders hold none".into()).into());
    }
    let mut failed = Vec::new();
    for (from, to) in list {
        if let Err(error) = one(from, to) {
            let reason = crate::failure::message(&error.into());
            eprintln!("warning: {reason}");
            failed.push(serde_json::json!({ "path": from, "reason": reason }));
        }
    }
    let copied = list.len() - failed.len();
    match json {
        true => output::json(&serde_json::json!({ "out": out, "copied": copied, "failed": failed }))?,
        false => output::line(&format!("{copied} pictures copied to {}", out.display()))?,
    }
    match failed.len() {
        0 => Ok(()),
        n => bail!("{n} of {} pictures were not copied", list.len()),
    }
}
