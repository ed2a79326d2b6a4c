//! The pass over files: damage, the cache, interruption and what is flagged.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use audit::{AuditError, Check, PixelOptions, Thresholds, measure, pixel_findings};
use data::Dataset;
use images::{Image, encode_png};

fn photo(seed: usize) -> Image {
    let value = |i: usize| (i * i % (97 + seed) + i / 40 * (seed + 3) % 120) as u8;
    Image::from_rgb8(80, 60, (0..80 * 60 * 3).map(value).collect()).unwrap()
}

/// Writes a file with a time of change that lies back, as files in a data set do.
fn write(path: &Path, bytes: &[u8], age: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..6 {
        write(&dir.path().join(format!("set/{}/{i}.png", ["a", "b"][i % 2])), &encode_png(&photo(i)), 100);
    }
    let whole = encode_png(&photo(9));
    write(&dir.path().join("set/a/cut.png"), &whole[..whole.len() / 2], 100);
    write(&dir.path().join("set/a/text.png"), b"not a picture", 100);
    write(
        &dir.path().join("set/b/dark.png"),
        &encode_png(&Image::from_rgb8(80, 60, (0..80 * 60 * 3).map(|i| (i % 23) as u8).collect()).unwrap()),
        100,
    );
    dir
}

fn open(dir: &tempfile::TempDir) -> Dataset {
    Dataset::open(dir.path().join("set").to_str().unwrap()).unwrap()
}

#[test]
fn a_bad_file_is_a_finding_and_stops_nothing() {
    let dir = folder();
    let dataset = open(&dir);
    let calls = AtomicUsize::new(0);
    let count = |_: usize, total: usize| {
        assert_eq!(total, 9);
        calls.fetch_add(1, Ordering::Relaxed);
    };
    let table = measure(&dataset, &PixelOptions::default(), &count, &AtomicBool::new(false)).unwrap();
    assert_eq!((calls.into_inner(), table.decoded), (9, 9));
    let findings = pixel_findings(&dataset, &table, &Thresholds::default());
    let of = |check: Check| findings.iter().filter(|f| f.check == check).collect::<Vec<_>>();
    let ids: Vec<&str> = of(Check::Unreadable).iter().map(|f| dataset.samples[f.sample.unwrap()].id.as_str()).collect();
    assert_eq!(ids, ["a/cut.png", "a/text.png"]);
    assert!(of(Check::Unreadable)[0].detail.contains("cut short"), "{:?}", of(Check::Unreadable));
    let dark = of(Check::Dark);
    assert_eq!(dark.iter().map(|f| dataset.samples[f.sample.unwrap()].id.as_str()).collect::<Vec<_>>(), ["b/dark.png"]);
    assert!(dark[0].score > 0.8 && dark[0].given == Some(1));
}

#[test]
fn a_second_pass_reads_new_and_changed_files_only() {
    let dir = folder();
    let options = PixelOptions { cache: Some(dir.path().join("cache")), ..PixelOptions::default() };
    let pass =
        |threads: usize| measure(&open(&dir), &PixelOptions { threads, ..options.clone() }, &|_, _| (), &AtomicBool::new(false)).unwrap();
    let first = pass(2);
    assert_eq!(first.decoded, 9);
    let second = pass(1);
    // What cannot be read is tried again; the rest is known, to the last digit.
    assert_eq!(second.decoded, 2);
    assert_eq!(first.rows, second.rows);
    write(&dir.path().join("set/a/0.png"), &encode_png(&photo(20)), 50);
    write(&dir.path().join("set/b/new.png"), &encode_png(&photo(21)), 50);
    let third = pass(1);
    assert_eq!(third.decoded, 4);
    assert_ne!(third.rows[0], first.rows[0]);
    // A file changed just now could change again within the same tick of the clock: it is not believed.
    write(&dir.path().join("set/a/0.png"), &encode_png(&photo(22)), 0);
    assert_eq!((pass(1).decoded, pass(1).decoded), (3, 3));
    // A torn line costs its own record only.
    let file = fs::read_dir(dir.path().join("cache")).unwrap().next().unwrap().unwrap().path();
    let text = fs::read(&file).unwrap();
    let end = text.iter().position(|&b| b == b'}').unwrap();
    fs::write(&file, &text[end..]).unwrap();
    assert!(pass(1).decoded <= 4);
}

#[test]
fn an_interrupted_pass_says_so() {
    let dir = folder();
    let stopped = measure(&open(&dir), &PixelOptions::default(), &|_, _| (), &AtomicBool::new(true));
    assert!(matches!(stopped, Err(AuditError::Interrupted)));
}
