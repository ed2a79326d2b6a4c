//! `fieldmark fetch`.

use anyhow::Result;
use data::fetch::{self, FetchOptions, Fetched, Kind, Progress};

use crate::args;
use crate::output;

pub fn run(args: &args::Fetch) -> Result<()> {
    if args.list {
        return list(args.json);
    }
    for name in &args.names {
        let fetched = bring(name)?;
        if args.json {
            let kind = if fetched.kind == Kind::Dataset { "dataset" } else { "weights" };
            output::json(&serde_json::json!({
                "name": fetched.name, "kind": kind, "path": fetched.path, "licence": fetched.licence, "cached": fetched.cached,
            }))?;
        } else {
            output::line(&format!("{}: {}\n  licence: {}", fetched.name, fetched.path.display(), fetched.licence))?;
        }
    }
    Ok(())
}

/// Fetches unless the cache has it, telling on stderr what is being done.
pub fn bring(name: &str) -> Result<Fetched> {
    let label = name.to_string();
    let progress = Box::new(move |progress: &Progress| match progress {
        Progress::Waiting => eprintln!("{label}: another process is fetching it; waiting"),
        Progress::Downloading { bytes, .. } => eprintln!("{label}: downloading {:.1} MB", *bytes as f64 / 1e6),
        Progress::Verifying => eprintln!("{label}: verifying"),
        Progress::Unpacking { done: 0, total } => eprintln!("{label}: unpacking {total} files"),
        _ => {}
    });
    let fetched = fetch::fetch(name, &FetchOptions { progress: Some(progress), ..FetchOptions::default() })?;
    if fetched.cached {
        eprintln!("{name}: already in the cache");
    }
    Ok(fetched)
}

fn list(json: bool) -> Result<()> {
    let cache = fetch::cache_dir();
    if json {
        for e in fetch::entries() {
            let cached = fetch::locate(e.name, &cache).is_some();
            output::json(
                &serde_json::json!({ "name": e.name, "about": e.about, "licence": e.licence, "bytes": e.bytes, "cached": cached }),
            )?;
        }
        return Ok(());
    }
    let row = |e: &fetch::Entry| {
        let here = if fetch::locate(e.name, &cache).is_some() { "yes" } else { "no" };
        vec![e.name.into(), e.about.into(), e.licence.into(), format!("{:.1} MB", e.bytes as f64 / 1e6), here.into()]
    };
    let rows: Vec<Vec<String>> = fetch::entries().iter().map(row).collect();
    output::line(&output::table(&["name", "what", "licence", "download", "in the cache"], &rows))
}
