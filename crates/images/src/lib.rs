//! Pixels for Fieldmark: decoding with limits, resizing, preprocessing and augmentation.
//!
//! An [`Image`] is what a file decodes to; a [`Preprocess`] is how a model sees it; an [`Augment`] is how training varies it.
//!
//! ```
//! use images::{DecodeOptions, Image, Preprocess};
//!
//! let photo = Image::from_rgb8(4, 2, vec![128; 4 * 2 * 3])?;
//! let bytes = images::encode_png(&photo);
//! let again = images::decode(&bytes, &DecodeOptions::default())?;
//! let input = Preprocess::imagenet([224, 224]).apply(&again);
//! assert_eq!(input.len(), 3 * 224 * 224);
//! # Ok::<(), images::ImageError>(())
//! ```

mod augment;
mod decode;
mod encode;
mod error;
mod image;
mod preprocess;
mod reader;
mod redact;
mod resize;
mod sheet;
mod strip;

pub use augment::{Augment, Fill};
pub use decode::{DecodeOptions, Limits, Picture, decode, decode_for, open, open_for, read};
pub use encode::{encode_jpeg, encode_png};
pub use error::ImageError;
pub use image::{Image, Pixels};
pub use preprocess::{ChannelMode, Preprocess, Resize};
pub use reader::{Reader, ReaderTimes};
pub use redact::Rectangle;
pub use resize::Interpolation;
pub use sheet::{contact_sheet, labelled_contact_sheet};
pub use strip::strip_metadata;
