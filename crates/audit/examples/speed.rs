//! Pictures per second of the pixel checks and of the perceptual hash alone, over a data set.
//!
//! usage: cargo run --release -p fieldmark-audit --example speed -- DATASET [THREADS]   prints one JSON object

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use audit::{PixelOptions, Thresholds, measure, pixel_findings};
use data::{Dataset, Source};
use images::DecodeOptions;
use rayon::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dataset = Dataset::open(&arguments.next().ok_or("usage: speed DATASET [THREADS]")?)?;
    let threads = arguments.next().map_or(Ok(2), |t| t.parse())?;
    let start = Instant::now();
    let table = measure(&dataset, &PixelOptions { threads, ..PixelOptions::default() }, &|_, _| (), &AtomicBool::new(false))?;
    let findings = pixel_findings(&dataset, &table, &Thresholds::default()).len();
    let checks = start.elapsed().as_secs_f64();

    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let start = Instant::now();
    let hash = |sample: &data::Sample| match &sample.source {
        Source::File(path) => images::open(path, &DecodeOptions::default()).ok().map(|i| audit::pixels::phash(&i)),
        Source::Idx { images, index } => images.image(*index).ok().map(|i| audit::pixels::phash(&i)),
        Source::Memory(image) => Some(audit::pixels::phash(image)),
    };
    let hashes: Vec<Option<u64>> = pool.install(|| dataset.samples.par_iter().map(hash).collect());
    let hashing = start.elapsed().as_secs_f64();
    let same = (0..hashes.len()).all(|i| hashes[i] == table.get(i).map(|m| m.look.phash()));
    let n = dataset.len() as f64;
    println!(
        "{{\"images\": {n}, \"threads\": {threads}, \"checks_per_second\": {:.1}, \"phash_per_second\": {:.1}, \"findings\": {findings}, \"same\": {same}}}",
        n / checks,
        n / hashing
    );
    Ok(())
}
