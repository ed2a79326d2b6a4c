//! Fieldmark as a library: from a folder of labelled pictures to a judged classifier, and from a picture to a name.
//!
//! A classifier that was trained (here on a few drawn pictures) and asked:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # for (class, shade) in [("day", 200u8), ("night", 40)] {
//! #     std::fs::create_dir_all(folder.path().join("sky").join(class))?;
//! #     for i in 0..20u8 {
//! #         let image = fieldmark::Image::from_gray8(28, 28, vec![shade + i; 28 * 28])?;
//! #         std::fs::write(folder.path().join(format!("sky/{class}/{i}.png")), images::encode_png(&image))?;
//! #     }
//! # }
//! # std::env::set_current_dir(folder.path())?;
//! use fieldmark::{Classifier, Recipe, open_image, train_folder};
//! let recipe = Recipe::parse("method = \"scratch\"\n[fit]\nepochs = 2\nbatch_size = 8\n")?;
//! let trained = train_folder("sky", &recipe, "runs/sky")?;
//! println!("accuracy {:?}", trained.evaluation.scores.accuracy.value);
//! let prediction = Classifier::open("runs/sky/model.safetensors")?.classify(&open_image("sky/day/3.png")?)?;
//! println!("{} ({:.0} %)", prediction.label, 100.0 * prediction.probability);
//! # assert!(["day", "night"].contains(&prediction.label.as_str()));
//! # Ok(())
//! # }
//! ```
//!
//! The crates behind it are re-exported whole: [`graph`], [`images`], [`zoo`], [`data`], [`engine`], [`evaluate`], [`learn`], [`report`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use data::Dataset;
pub use engine::{Classifier, Model, Prediction};
pub use images::Image;
pub use learn::{LearnError, Method, Recipe, Trained};
pub use {data, engine, evaluate, graph, images, learn, report, zoo};

/// Opens an image file with the default limits.
///
/// # Errors
/// [`images::ImageError`]: unreadable, broken, too large.
pub fn open_image(path: impl AsRef<Path>) -> Result<Image, images::ImageError> {
    images::open(path.as_ref(), &images::DecodeOptions::default())
}

/// Trains on a folder, a manifest or a fetched data set and leaves everything in the folder `run`, silently and to the end.
/// [`learn::train`] is the same with progress, a stop flag and a choice of device.
///
/// # Errors
/// As [`data::Dataset::open`] and [`learn::train`].
pub fn train_folder(data: &str, recipe: &Recipe, run: impl AsRef<Path>) -> Result<Trained, LearnError> {
    let dataset = Arc::new(Dataset::open(data)?);
    let options = learn::TrainOptions { cache: Some(data::feature_cache::default_dir()), ..Default::default() };
    learn::train(&dataset, recipe, run.as_ref(), &options, &learn::progress::Silent, &AtomicBool::new(false))
}
