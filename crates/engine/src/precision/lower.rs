//! Layers in narrow numbers: weights packed once, and what the kinds of their values make of bias and scale.

use std::sync::Arc;

use graph::{Graph, Op};
use kernels::int8::{MOST_WEIGHT, Quant, Width};
use kernels::{ConvShape, Window, bf16, int8};

use crate::lower::{Lowering, window};
use crate::plan::Chain;
use crate::precision::Layer;

/// Weights of a layer, packed for narrow products.
#[derive(Debug)]
pub(crate) enum NarrowWeights {
    Bf16 { conv: bf16::ConvWeights, bias: Option<Vec<f32>> },
    Bf16Depthwise { taps: bf16::DepthwiseWeights, bias: Option<Vec<f32>> },
    Int8 { conv: int8::ConvWeights, terms: Terms },
    Int8Depthwise { taps: int8::DepthwiseWeights, terms: Terms },
}

/// What int8 adds and multiplies, by column.
#[derive(Debug)]
pub(crate) struct Terms {
    /// In real units.
    bias: Vec<f32>,
    /// Scale of the weights.
    scales: Vec<f32>,
    /// Sum of the column's weights.
    sums: Vec<i32>,
}

impl Terms {
    /// Bias and scale for an input and (unless it is f32) an output.
    pub fn of(&self, input: Quant, output: Option<Quant>) -> (Vec<i32>, Vec<f32>) {
        let columns = self.bias.iter().zip(&self.scales).zip(&self.sums);
        let both = columns.map(|((&bias, &scale), &sum)| {
            let product = f64::from(input.scale) * f64::from(scale);
            let bias = (f64::from(bias) / product).round_ties_even().clamp(-LARGEST_BIAS, LARGEST_BIAS) as i32;
            (bias - i32::from(input.zero) * sum, (product / output.map_or(1.0, |q| f64::from(q.scale))) as f32)
        });
        both.unzip()
    }
}

impl NarrowWeights {
    /// Columns of the result.
    pub fn columns(&self) -> usize {
        match self {
            Self::Bf16 { conv, .. } => conv.columns(),
            Self::Int8 { conv, .. } => conv.columns(),
            Self::Bf16Depthwise { taps, .. } => taps.channels(),
            Self::Int8Depthwise { taps, .. } => taps.channels(),
        }
    }

    /// Input channels that an output reads.
    pub fn channels_read(&self) -> usize {
        match self {
            Self::Bf16 { conv, .. } => conv.channels_read(),
            Self::Int8 { conv, .. } => conv.channels_read(),
            Self::Bf16Depthwise { .. } | Self::Int8Depthwise { .. } => 1,
        }
    }

    pub fn terms(&self) -> Option<&Terms> {
        match self {
            Self::Int8 { terms, .. } | Self::Int8Depthwise { terms, .. } => Some(terms),
            Self::Bf16 { .. } | Self::Bf16Depthwise { .. } => None,
        }
    }
}

/// What the channels of a layer's input and output are multiplied by beside their scale.
#[derive(Debug, Default)]
pub(crate) struct Factors {
    pub read: Option<Arc<[f32]>>,
    pub written: Option<Arc<[f32]>>,
}

impl Factors {
    /// Takes them into weights `[out, in / groups, ..]` and bias: inputs come divided by theirs, outputs are to go so.
    fn fold(&self, weight: &mut [f32], bias: Option<&mut Vec<f32>>, s: &Sizes) {
        let row = weight.len() / s.out.max(1);
        if let Some(read) = &self.read {
            let count = read.len() / s.groups.max(1);
            let taps = (row / count.max(1)).max(1);
            for (i, w) in weight.iter_mut().enumerate() {
                let (o, k) = (i / row, i % row);
                *w *= read[o * s.groups / s.out * count + k / taps];
            }
        }
        if let Some(written) = &self.written {
            weight.chunks_exact_mut(row.max(1)).zip(written.iter()).for_each(|(row, f)| row.iter_mut().for_each(|w| *w /= f));
            bias.into_iter().flatten().zip(written.iter()).for_each(|(b, f)| *b /= f);
        }
    }
}

/// What a layer's weights look like, whichever op it is.
struct Sizes {
    out: usize,
    /// Channels of the stored input: those of the layer, or more.
    stored: usize,
    channels: usize,
    groups: usize,
    kernel: [usize; 2],
    dilation: [usize; 2],
    depthwise: bool,
}

impl Sizes {
    fn of(graph: &Graph, head: usize, stored: usize) -> Self {
        let node = &graph.nodes[head];
        match &node.op {
            Op::Conv2d(c) => Self {
                out: c.out_channels,
                stored,
                channels: c.in_channels,
                groups: c.groups,
                kernel: c.kernel,
                dilation: c.dilation,
                depthwise: c.is_depthwise(),
            },
            _ => {
                let shape = node.parameters.first().map(|p| p.shape.as_slice()).unwrap_or_default();
                let (out, channels) = (shape.first().copied().unwrap_or(0), shape.get(1).copied().unwrap_or(0));
                Self { out, stored, channels, groups: 1, kernel: [1; 2], dilation: [1; 2], depthwise: false }
            }
        }
    }

    /// Weights with zeros for channels that are stored only.
    fn padded<T: Copy + Default>(&self, weight: Vec<T>) -> Vec<T> {
        if self.stored == self.channels {
            return weight;
        }
        let taps = self.kernel[0] * self.kernel[1];
        let mut padded = vec![T::default(); self.out * self.stored * taps];
        for (to, from) in padded.chunks_exact_mut(self.stored * taps).zip(weight.chunks_exact(self.channels * taps)) {
            to[..from.len()].copy_from_slice(from);
        }
        padded
    }
}

impl Lowering {
    /// The packed weights of a layer; its input is stored with `stored` channels (of one group, where it is more than the layer's), as
    /// `input` says where they are integers.
    pub fn narrow(
        &mut self,
        graph: &Graph,
        chain: &Chain,
        layer: Layer,
        (stored, input): (usize, Option<Quant>),
        factors: &Factors,
    ) -> Arc<NarrowWeights> {
        let key = (chain.head, chain.norm, factors.written.is_some());
        if let Some(done) = self.narrow.get(&key) {
            return done.clone();
        }
        let s = Sizes::of(graph, chain.head, stored);
        let (weight, mut bias) = self.folded(graph, chain.head, chain.norm);
        let mut weight = s.padded(weight);
        if let Some(correction) = self.policy.correction(chain.head, chain.norm) {
            let bias = bias.get_or_insert_with(|| vec![0.0; s.out]);
            bias.iter_mut().zip(correction).for_each(|(b, c)| *b += c);
        }
        factors.fold(&mut weight, bias.as_mut(), &s);
        let done = match (layer, s.depthwise) {
            (Layer::Int8, _) => {
                let (width, bias) = (self.policy.width, bias.unwrap_or_else(|| vec![0.0; s.out]));
                let (mut integers, mut scales) = match width {
                    Width::Halves => wide_weights(&weight, s.out),
                    Width::Bytes => {
                        let (nearest, scales) = int8::quantize_channels(&weight, s.out);
                        let fitted = self.policy.rounded(chain.head, chain.norm);
                        let bytes = fitted.map_or(nearest, |bytes| s.padded(bytes.to_vec()));
                        (bytes.into_iter().map(i16::from).collect(), scales)
                    }
                };
                if let Some(input) = input {
                    make_room(&mut integers, &mut scales, &bias, input.scale);
                }
                let sums =
                    integers.chunks_exact((integers.len() / s.out).max(1)).map(|row| row.iter().map(|&w| i32::from(w)).sum()).collect();
                let terms = Terms { bias, scales, sums };
                if s.depthwise {
                    NarrowWeights::Int8Depthwise { taps: int8::DepthwiseWeights::new(width, &integers, s.out, s.kernel), terms }
                } else {
                    let conv = int8::ConvWeights::new(width, &integers, s.out, s.stored, s.groups, s.kernel, s.dilation);
                    NarrowWeights::Int8 { conv, terms }
                }
            }
            (Layer::F32 | Layer::Bf16, true) => {
                NarrowWeights::Bf16Depthwise { taps: bf16::DepthwiseWeights::new(&weight, s.out, s.kernel), bias }
            }
            (Layer::F32 | Layer::Bf16, false) => {
                NarrowWeights::Bf16 { conv: bf16::ConvWeights::new(&weight, s.out, s.stored, s.groups, s.kernel, s.dilation), bias }
            }
        };
        self.keep(key, done)
    }

    fn keep(&mut self, key: (usize, Option<usize>, bool), weights: NarrowWeights) -> Arc<NarrowWeights> {
        self.narrow.entry(key).or_insert(Arc::new(weights)).clone()
    }
}

/// Largest bias in units of a product: sums of products have the rest of 32 bits.
const LARGEST_BIAS: f64 = 1e9;

/// Makes the scales of outputs coarser whose bias would not fit: their weights are so small beside it that their last bits do not count.
fn make_room(integers: &mut [i16], scales: &mut [f32], bias: &[f32], input_scale: f32) {
    let row = (integers.len() / scales.len().max(1)).max(1);
    for ((row, scale), bias) in integers.chunks_exact_mut(row).zip(scales).zip(bias) {
        let excess = (f64::from(bias.abs()) / (f64::from(input_scale) * f64::from(*scale) * LARGEST_BIAS)) as f32;
        if excess > 1.0 {
            row.iter_mut().for_each(|w| *w = (f32::from(*w) / excess).round_ties_even() as i16);
            *scale *= excess;
        }
    }
}

/// Largest weight for 16-bit maps.
const LARGEST_WEIGHT: f32 = 8191.0;

/// Weights `[out, ..]` as 16-bit integers with a scale for each output: of as many bits as the sums of products have room for.
fn wide_weights(weight: &[f32], out: usize) -> (Vec<i16>, Vec<f32>) {
    let row = (weight.len() / out.max(1)).max(1);
    let (mut integers, mut scales) = (Vec::with_capacity(weight.len()), Vec::with_capacity(out));
    for row in weight.chunks_exact(row) {
        let (largest, sum) = row.iter().fold((0.0f32, 0.0f32), |(m, s), w| (m.max(w.abs()), s + w.abs()));
        // Rounding may add half a unit a weight: room for that is left.
        let room = (MOST_WEIGHT - row.len() as i64 / 2).max(1) as f32;
        let limit = (room * largest / sum.max(f32::MIN_POSITIVE)).min(LARGEST_WEIGHT);
        let scale = if largest > 0.0 { largest / limit } else { 1.0 };
        integers.extend(row.iter().map(|w| (w / scale).round_ties_even().clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT) as i16));
        scales.push(scale);
    }
    (integers, scales)
}

/// The shape of a layer as a convolution, and the vectors of an image that it reads where it is a linear layer.
pub(crate) fn product_shape(graph: &Graph, head: usize, stored: usize) -> (ConvShape, usize) {
    let node = &graph.nodes[head];
    let input = graph.node(node.inputs[0]).shape.as_slice();
    match &node.op {
        Op::Conv2d(c) => {
            let shape = window(input, &node.shape, c.kernel, c.stride, c.dilation, c.padding);
            (ConvShape { channels: stored, ..shape }, 1)
        }
        _ => {
            let one = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], padding: [0; 2] };
            let rows = input[..input.len() - 1].iter().product();
            (ConvShape { batch: 0, input: [1; 2], channels: stored, output: [1; 2], window: one }, rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_that_dwarfs_its_weights_keeps_its_value() {
        let (mut integers, mut scales) = wide_weights(&[1e-9, -3e-9, 0.5, -1.0], 2);
        let bias = vec![0.75, 0.25];
        let input = Quant { scale: 1e-3, zero: 0 };
        make_room(&mut integers, &mut scales, &bias, input.scale);
        assert_eq!(integers[2..], [4096, -8191]);
        let sums = vec![0; 2];
        let (integers, factors) = Terms { bias: bias.clone(), scales, sums }.of(input, None);
        for ((integer, factor), bias) in integers.iter().zip(&factors).zip(&bias) {
            assert!((*integer as f32 * factor - bias).abs() < 1e-5, "{integer} of {factor} for {bias}");
        }
    }

    #[test]
    fn wide_weights_leave_room_for_their_sums() {
        let weight: Vec<f32> = (0..3 * 4608).map(|i| if i < 4608 { 1.0 } else { ((i * 37) % 101) as f32 / 50.0 - 1.0 }).collect();
        let (integers, scales) = wide_weights(&weight, 3);
        for (row, integers) in integers.chunks_exact(4608).enumerate() {
            let sum: i64 = integers.iter().map(|&w| i64::from(w).abs()).sum();
            assert!(sum <= MOST_WEIGHT && sum > MOST_WEIGHT / 2, "{sum}");
            assert!(
                integers.iter().zip(&weight[row * 4608..]).all(|(&q, w)| (f32::from(q) * scales[row] - w).abs() <= 0.501 * scales[row])
            );
        }
        assert_eq!(wide_weights(&[0.5, -1.0, 0.0, 0.0], 2), (vec![4096, -8191, 0, 0], vec![1.0 / 8191.0, 1.0]));
    }
}
