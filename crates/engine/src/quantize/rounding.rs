//! Weights rounded so that what a layer makes of calibration images changes least: the error of one weight is taken up by the rounding of
//! those whose inputs go with its own.
//!
//! For an output channel with weights `w`, rounded ones `v` and inputs of covariance `H`, the error `(w - v)ᵀ H (w - v)` is made small by
//! cyclic coordinate descent over the bytes (Behdin et al., "QuantEase", 2023). The covariance has the mean taken out: a mean error is the
//! bias's to correct.

use graph::{Conv2d, Graph, Op, Tensor};
use kernels::int8::quantize_channels;
use kernels::{Loops, Matrix};
use rayon::prelude::*;

/// Outputs of a map, at most, whose inputs are looked at for each image: evenly spaced, from another one for each image.
const POSITIONS: usize = 128;
/// Rounds over all weights of a channel, at most.
const SWEEPS: usize = 4;
/// Added to the diagonal of a covariance, as a share of its mean: a part always, and a part for each weight and image position.
const RIDGE: [f64; 2] = [0.01, 0.1];

/// What the outputs of a layer read.
#[derive(Debug, Clone)]
enum Reads {
    Map(Conv2d),
    Vector,
}

/// Inputs of a layer over the calibration images: for each group the sums of their products, two by two.
#[derive(Debug)]
pub(crate) struct Inputs {
    reads: Reads,
    groups: usize,
    /// Inputs of an output.
    row: usize,
    products: Vec<f32>,
    sums: Vec<f64>,
    count: usize,
}

impl Inputs {
    /// Of the layer at node `head`, whose weights have the shape `[out, row..]`.
    pub fn new(graph: &Graph, head: usize) -> Self {
        let node = &graph.nodes[head];
        let row = node.parameters.first().map_or(0, |p| p.shape[1..].iter().product());
        let (reads, groups) = match &node.op {
            Op::Conv2d(c) => (Reads::Map(c.clone()), c.groups),
            _ => (Reads::Vector, 1),
        };
        Self { reads, groups, row, products: vec![0.0; groups * row * row], sums: vec![0.0; groups * row], count: 0 }
    }

    /// Adds what the layer reads of one image; `output` is the layer's own shape.
    pub fn add(&mut self, input: &Tensor, output: &[usize], image: usize, factors: Option<&[f32]>) {
        let positions = match (&self.reads, output) {
            (Reads::Map(_), [_, h, w]) => spaced(h * w, image),
            _ => spaced(input.data.len() / self.row.max(1), image),
        };
        let mut rows = Vec::new();
        for group in 0..self.groups {
            rows.clear();
            match &self.reads {
                Reads::Map(conv) => positions.iter().for_each(|&at| patch(input, conv, group, [at / output[2], at % output[2]], &mut rows)),
                Reads::Vector => positions.iter().for_each(|&at| rows.extend_from_slice(&input.data[at * self.row..(at + 1) * self.row])),
            }
            if let Some(factors) = factors {
                let (channels, taps) = (factors.len() / self.groups, self.row * self.groups / factors.len().max(1));
                for row in rows.chunks_exact_mut(self.row) {
                    row.iter_mut().enumerate().for_each(|(i, v)| *v /= factors[group * channels + i / taps]);
                }
            }
            self.add_rows(group, &rows);
        }
        self.count += positions.len();
    }

    fn add_rows(&mut self, group: usize, rows: &[f32]) {
        let row = self.row;
        let sums = &mut self.sums[group * row..(group + 1) * row];
        rows.chunks_exact(row).for_each(|values| sums.iter_mut().zip(values).for_each(|(s, &v)| *s += f64::from(v)));
        let products = &mut self.products[group * row * row..(group + 1) * row * row];
        if row >= 64 {
            let matrix = Matrix::new(rows, rows.len() / row, row);
            return kernels::gemm(products, matrix.t(), matrix, true);
        }
        for values in rows.chunks_exact(row) {
            for (products, a) in products.chunks_exact_mut(row).zip(values) {
                products.iter_mut().zip(values).for_each(|(p, b)| *p += a * b);
            }
        }
    }

    /// The weights `[out, row]` as bytes of the scales that [`quantize_channels`] gives them.
    pub fn round(mut self, weights: &[f32], out: usize) -> Vec<i8> {
        let (mut bytes, scales) = quantize_channels(weights, out);
        if self.count == 0 || self.row == 0 {
            return bytes;
        }
        for group in 0..self.groups {
            self.centre(group);
        }
        let (row, each) = (self.row, out / self.groups);
        bytes.par_chunks_exact_mut(row).enumerate().for_each(|(channel, bytes)| {
            let covariance = &self.products[channel / each * row * row..][..row * row];
            kernels::vectorized(Descent { weights: &weights[channel * row..][..row], scale: scales[channel], covariance, bytes });
        });
        bytes
    }

    /// Sums of products to a covariance with a ridge.
    fn centre(&mut self, group: usize) {
        let (row, count) = (self.row, self.count as f64);
        let means: Vec<f64> = self.sums[group * row..(group + 1) * row].iter().map(|s| s / count).collect();
        let products = &mut self.products[group * row * row..(group + 1) * row * row];
        for (i, line) in products.chunks_exact_mut(row).enumerate() {
            line.iter_mut().zip(&means).for_each(|(p, mean)| *p = (f64::from(*p) / count - means[i] * mean) as f32);
        }
        let diagonal = || (0..row).map(|i| i * row + i);
        let mean = diagonal().map(|at| f64::from(products[at])).sum::<f64>() / row as f64;
        let ridge = ((RIDGE[0] + RIDGE[1] * row as f64 / count) * mean).max(f64::from(f32::MIN_POSITIVE)) as f32;
        diagonal().for_each(|at| products[at] += ridge);
    }
}

/// Up to [`POSITIONS`] of `count`, evenly spaced, other ones for each image.
fn spaced(count: usize, image: usize) -> Vec<usize> {
    let step = count.div_ceil(POSITIONS).max(1);
    (image * 7 % step..count).step_by(step).collect()
}

/// What a convolution reads for one output of a group, in the order of its weights; `input` is one image `[1, C, H, W]`.
fn patch(input: &Tensor, conv: &Conv2d, group: usize, [y, x]: [usize; 2], into: &mut Vec<f32>) {
    let (channels, [h, w]) = (conv.in_channels / conv.groups, [input.shape[2], input.shape[3]]);
    let source = |out: usize, tap: usize, axis: usize, padding: usize, size: usize| {
        (out * conv.stride[axis] + tap * conv.dilation[axis]).checked_sub(padding).filter(|&at| at < size)
    };
    for channel in group * channels..(group + 1) * channels {
        let plane = &input.data[channel * h * w..(channel + 1) * h * w];
        for (ky, kx) in (0..conv.kernel[0]).flat_map(|ky| (0..conv.kernel[1]).map(move |kx| (ky, kx))) {
            let at = source(y, ky, 0, conv.padding.top, h).zip(source(x, kx, 1, conv.padding.left, w));
            into.push(at.map_or(0.0, |(y, x)| plane[y * w + x]));
        }
    }
}

/// Coordinate descent on the bytes of one output channel.
struct Descent<'a> {
    weights: &'a [f32],
    scale: f32,
    /// `[row, row]`, with a positive diagonal.
    covariance: &'a [f32],
    bytes: &'a mut [i8],
}

impl Loops for Descent<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { weights, scale, covariance, bytes } = self;
        let row = weights.len();
        // Half the gradient of the error: covariance times what the bytes lack.
        let mut gradient = vec![0.0f32; row];
        for k in 0..row {
            let lacks = weights[k] - f32::from(bytes[k]) * scale;
            gradient.iter_mut().zip(&covariance[k * row..(k + 1) * row]).for_each(|(g, &h)| *g += lacks * h);
        }
        for _ in 0..SWEEPS {
            let mut moved = false;
            for k in 0..row {
                let line = &covariance[k * row..(k + 1) * row];
                // The byte nearest to where the error is least with all others as they are.
                let best = f32::from(bytes[k]) + gradient[k] / (line[k] * scale);
                let byte = best.round_ties_even().clamp(-127.0, 127.0) as i8;
                if byte != bytes[k] {
                    let less = f32::from(bytes[k]) * scale - f32::from(byte) * scale;
                    gradient.iter_mut().zip(line).for_each(|(g, &h)| *g += less * h);
                    (bytes[k], moved) = (byte, true);
                }
            }
            if !moved {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use graph::GraphBuilder;

    /// Noise that repeats with no short period.
    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn graph(conv: Conv2d, size: usize) -> Graph {
        let mut b = GraphBuilder::new("one", [conv.in_channels, size, size]);
        let x = b.conv("conv", b.input(), conv);
        let x = b.global_avg_pool("pool", x);
        let x = b.linear("fc", x, 2);
        b.finish(x).unwrap()
    }

    /// Mean square of what rounding takes from the outputs of one convolution, their means over the image apart.
    fn loss(graph: &Graph, weights: &[f32], bytes: &[i8], image: &Tensor) -> f64 {
        let (out, scales) = (graph.nodes[1].shape[0], quantize_channels(weights, graph.nodes[1].shape[0]).1);
        let row = weights.len() / out;
        let lost: Vec<f32> = (0..weights.len()).map(|i| weights[i] - f32::from(bytes[i]) * scales[i / row]).collect();
        let mut all = graph.init_weights(0);
        all.get_mut("conv.weight").unwrap().data = lost;
        let map = graph::reference::run(graph, &all, image, &[graph::NodeId(1)]).unwrap().remove(0);
        let planes = map.data.chunks_exact(map.data.len() / out);
        planes
            .map(|plane| {
                let mean = plane.iter().sum::<f32>() / plane.len() as f32;
                plane.iter().map(|v| f64::from(v - mean).powi(2)).sum::<f64>() / plane.len() as f64
            })
            .sum()
    }

    /// Neighbouring channels and pixels are alike, as in pictures.
    fn picture(channels: usize, size: usize, seed: u64) -> Tensor {
        let (base, own) = (noise(size * size, seed), noise(channels * size * size, seed + 1));
        let smooth = |i: usize| base[i] + base[(i + 1) % base.len()] + base[(i + size) % base.len()];
        let data = own.iter().enumerate().map(|(i, v)| (smooth(i % base.len()) + 0.3 * v).max(0.0)).collect();
        Tensor::new([1, channels, size, size], data).unwrap()
    }

    #[test]
    fn outputs_of_images_not_seen_lose_less_than_by_nearest_bytes() {
        for conv in [Conv2d::new(24, 8, 1), Conv2d::new(6, 8, 3).padding(1), Conv2d::new(8, 8, 3).groups(8).padding(1).stride(2)] {
            let graph = graph(conv, 11);
            let weights = noise(graph.nodes[1].parameters[0].shape.iter().product(), 5);
            let mut inputs = Inputs::new(&graph, 1);
            for image in 0..20 {
                inputs.add(&picture(graph.input_shape()[0], 11, 100 + image as u64), &graph.nodes[1].shape, image, None);
            }
            let rounded = inputs.round(&weights, 8);
            let nearest = quantize_channels(&weights, 8).0;
            let fresh = picture(graph.input_shape()[0], 11, 7);
            let (ours, plain) = (loss(&graph, &weights, &rounded, &fresh), loss(&graph, &weights, &nearest, &fresh));
            assert!(ours < 0.8 * plain, "{ours} against {plain}");
            assert!(rounded.iter().all(|&b| b >= -127));
        }
    }

    #[test]
    fn without_images_the_nearest_bytes_stay() {
        let graph = graph(Conv2d::new(3, 4, 3), 6);
        let weights = noise(4 * 27, 3);
        assert_eq!(Inputs::new(&graph, 1).round(&weights, 4), quantize_channels(&weights, 4).0);
    }

    #[test]
    fn inputs_come_divided_by_their_factors() {
        let graph = graph(Conv2d::new(2, 4, 1), 5);
        let image = picture(2, 5, 9);
        let (mut plain, mut divided) = (Inputs::new(&graph, 1), Inputs::new(&graph, 1));
        plain.add(&image, &graph.nodes[1].shape, 0, None);
        divided.add(&image, &graph.nodes[1].shape, 0, Some(&[1.0, 0.5]));
        for (at, by) in [(0, 1.0), (1, 2.0), (2, 2.0), (3, 4.0)] {
            assert!((divided.products[at] - by * plain.products[at]).abs() < 1e-4 * divided.products[at].abs());
        }
    }
}
