//! Pixels for Fieldmark: decoding with limits, resizing, preprocessing and augmentation.
