//! Fetches what is named on the command line into the cache and says what it holds: `cargo run --example fetch -- elpv mnist`.

use data::fetch::{FetchOptions, Kind, Progress, fetch};
use data::{DataError, Dataset};

fn main() -> Result<(), DataError> {
    for name in std::env::args().skip(1) {
        let progress = |p: &Progress| {
            if !matches!(p, Progress::Unpacking { .. }) {
                eprintln!("{p:?}");
            }
        };
        let fetched = fetch(&name, &FetchOptions { progress: Some(Box::new(progress)), ..FetchOptions::default() })?;
        println!("{name}: {} (licence: {})", fetched.path.display(), fetched.licence);
        if fetched.kind == Kind::Dataset {
            let dataset = Dataset::open(&name)?;
            println!("{} samples, classes {:?}, warnings {:?}", dataset.len(), dataset.classes.names(), dataset.warnings);
            let all: Vec<usize> = (0..dataset.len()).collect();
            println!("{:?} {:?} {}", dataset.class_counts(&all), dataset.split_names(), dataset.fingerprint());
        }
    }
    Ok(())
}
