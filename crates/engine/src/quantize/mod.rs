//! int8: what a calibration decides, and how it is made.

mod calibrate;
mod choose;
mod ranges;
mod rounding;

pub use calibrate::{CalibrationOptions, calibrate, calibrate_judged};
pub use choose::{Measured, choose};

use std::collections::BTreeMap;

use kernels::int8::Width;
use serde::{Deserialize, Serialize};

use crate::precision::Precision;

/// How the range of an activation is chosen from what calibration images show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// From the least value seen to the largest.
    #[default]
    MinMax,
    /// The range that leaves .01 % of the values outside.
    Percentile,
    /// The range whose bytes lose least information: least Kullback–Leibler divergence between the histogram and its quantised form
    /// (Migacz, "8-bit inference with TensorRT", 2017).
    Entropy,
}

impl Method {
    const ALL: [(Self, &'static str); 3] = [(Self::MinMax, "minmax"), (Self::Percentile, "percentile"), (Self::Entropy, "entropy")];
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Self::ALL.iter().find(|(method, _)| method == self).map_or("", |(_, name)| name))
    }
}

impl std::str::FromStr for Method {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name).map(|(method, _)| *method);
        found.ok_or_else(|| format!("unknown method {name:?}; expected minmax, percentile or entropy"))
    }
}

/// The integers of maps between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// 8 bits with a zero point.
    #[default]
    U8,
    /// 12 bits and a sign, in 16-bit integers: half as fast in products, sixteen times as fine. Weights have as many bits as the sums of 32
    /// bits leave room for, some 11 and a sign; the layer that reads the image stays in f32.
    I16,
}

impl Activations {
    /// `u8` or `i16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I16 => "i16",
        }
    }

    pub(crate) fn width(self) -> Width {
        match self {
            Self::U8 => Width::Bytes,
            Self::I16 => Width::Halves,
        }
    }
}

/// What the bytes of a value mean: `scale * (q - zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ValueScale {
    /// Above 0.
    pub scale: f32,
    /// The byte of 0.
    pub zero_point: u8,
}

/// The numbers in which a layer is kept that int8 would hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
}

/// How close a precision is to f32 on the calibration images, and how fast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Share of images whose most probable class is that of f32, in `0..=1`.
    pub top1: f64,
    /// Mean absolute difference of the logits over the range (largest less least) of the f32 logits.
    pub logit_error: f64,
    /// Images judged.
    pub images: usize,
}

impl Agreement {
    /// Compares logits `[n, classes]` with those of f32.
    pub fn of(reference: &[f32], found: &[f32], classes: usize) -> Self {
        let best = |row: &[f32]| (0..row.len()).reduce(|best, i| if row[i] > row[best] { i } else { best });
        let rows = || reference.chunks_exact(classes.max(1)).zip(found.chunks_exact(classes.max(1)));
        let images = rows().count();
        let same = rows().filter(|(a, b)| best(a) == best(b)).count();
        let error: f64 = rows()
            .map(|(a, b)| {
                let (low, high) = a.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
                let mean = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / classes.max(1) as f64;
                mean / f64::from((high - low).max(f32::MIN_POSITIVE))
            })
            .sum();
        Self { top1: same as f64 / images.max(1) as f64, logit_error: error / images.max(1) as f64, images }
    }
}

/// How far from f32 a precision may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Least share of images whose most probable class is that of f32, in `0..=1`.
    pub top1: f64,
    /// Largest mean error of the logits, as a share of their range.
    pub logit_error: f64,
}

impl Default for Bounds {
    /// 99 % of the images, and 2 % of the range.
    fn default() -> Self {
        Self { top1: 0.99, logit_error: 0.02 }
    }
}

impl Bounds {
    /// Whether an agreement is within.
    pub fn hold(&self, agreement: &Agreement) -> bool {
        agreement.top1 >= self.top1 && agreement.logit_error <= self.logit_error
    }
}

/// Which precision `auto` means, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// The choice.
    pub precision: Precision,
    /// What was measured, in a sentence.
    pub why: String,
}

/// All that int8 needs beside graph and weights; stored in the model file, so that int8 of a model is the same everywhere.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Quantization {
    /// How ranges were chosen.
    pub method: Method,
    /// How wide maps are; their ranges are those that `values` give to bytes.
    #[serde(default)]
    pub activations: Activations,
    /// Scales of values, by the name of the node that makes them.
    pub values: BTreeMap<String, ValueScale>,
    /// Of maps that only layers read: what the bytes of each channel are multiplied by beside the scale, in `0..=1`; folded into the
    /// weights before and behind. By the name of the node that makes the value.
    #[serde(default)]
    pub factors: BTreeMap<String, Vec<f32>>,
    /// Added to the bias of a layer, a number for each output channel, by the layer's name.
    pub corrections: BTreeMap<String, Vec<f32>>,
    /// Weights of layers as bytes, norms and factors in them, where they are not the nearest ones; by the layer's name. In the model file
    /// these are tensors of their own.
    #[serde(skip)]
    pub rounded: BTreeMap<String, Vec<i8>>,
    /// Layers that stay in wider numbers, by name.
    pub kept: BTreeMap<String, Kept>,
    /// Agreement with f32 on images that judged.
    pub agreement: Option<Agreement>,
    /// What `auto` uses.
    pub chosen: Option<Chosen>,
}
