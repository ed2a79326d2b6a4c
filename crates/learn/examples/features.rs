//! Images per second from a folder to pooled EfficientNet-Lite0 features, nothing cached.
//!
//! `cargo run --release -p fieldmark-learn --example features -- DIR` prints one JSON object: the rate, and the network's share of the threads'
//! time; `benchmarks/embed_peers.py` is its twin.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use data::{Classes, Dataset, Sample, Source};
use learn::progress::Silent;
use learn::{Backbone, Recipe, features};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: features DIR")?;
    let listing = data::list_images(Path::new(&folder))?;
    let samples: Vec<Sample> = listing.images.into_iter().map(|(id, path)| Sample::new(id, Source::File(path))).collect();
    let indices: Vec<usize> = (0..samples.len()).collect();
    let classes = Classes::sorted(["any"]);
    let dataset = Arc::new(Dataset { name: folder.clone(), root: folder.into(), classes, samples, warnings: Vec::new() });
    let backbone = Backbone::pretrained(&Recipe::default())?;
    let start = Instant::now();
    let rows = features::extract(&dataset, &indices, &backbone, None, &Silent, &AtomicBool::new(false))?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = rows.indices.len() as f64 / seconds;
    let share = rows.timings.network_share();
    println!("{{\"images\": {}, \"images_per_second\": {rate:.1}, \"network_share\": {share:.3}}}", rows.indices.len());
    Ok(())
}
