//! Labelled image sets: formats, class lists, splits, samplers, loaders, feature cache and fetching.
//!
//! The front door is [`Dataset::open`]: a folder of class folders, a CSV or TSV manifest, a folder of MNIST IDX
//! files, the ELPV layout, or the name of a data set that [`fetch::fetch`] brought into the cache. What comes out
//! is one shape: [`Sample`]s with stable ids, [`Classes`] keyed by name, and warnings about whatever was set aside.
//! [`Loader`] turns an order of sample indices into batches of pixels on worker threads, in bounded memory.

mod classes;
mod dataset;
mod error;
pub mod feature_cache;
pub mod fetch;
pub mod formats;
pub mod loader;
mod sample;
pub mod sampler;
pub mod split;
pub mod weights;

pub use classes::Classes;
pub use dataset::{Dataset, OpenOptions, content_hash};
pub use error::DataError;
pub use feature_cache::FeatureCache;
pub use formats::folders::{Listing, list_images};
pub use formats::idx::IdxImages;
pub use loader::{Batch, Epoch, Loader, LoaderOptions};
pub use sample::{Sample, Source, Target};
