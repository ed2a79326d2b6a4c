//! From nodes and weights to kernel calls: batch norms folded into what precedes them, weights packed once.

use std::collections::BTreeMap;
use std::sync::Arc;

use graph::{BatchNorm, Conv2d, Graph, Op, Padding, Weights};
use kernels::{Buffer, ConvShape, Matrix, PackedB, Window, WinogradWeights};

use crate::plan::{Chain, function};
use crate::precision::{NarrowWeights, Policy};
use crate::step::{Affine, Work};

/// Weights ready for the kernels, kept by node (and absorbed norm), so that every plan shares them.
#[derive(Debug)]
pub(crate) struct Lowering {
    weights: Arc<Weights>,
    affine: BTreeMap<(usize, Option<usize>), Arc<Affine>>,
    /// Which layers run in which precision, and their packed weights.
    pub(crate) policy: Policy,
    pub(crate) narrow: BTreeMap<(usize, Option<usize>, bool), Arc<NarrowWeights>>,
}

impl Lowering {
    pub fn new(weights: Arc<Weights>, policy: Policy) -> Self {
        Self { weights, affine: BTreeMap::new(), policy, narrow: BTreeMap::new() }
    }

    /// A node's parameter; the engine checked at the start that it is there.
    fn parameter(&self, graph: &Graph, node: usize, index: usize) -> &[f32] {
        let name = graph.nodes[node].parameters.get(index).map(|p| p.name.as_str()).unwrap_or_default();
        self.weights.get(name).map(|t| t.data.as_slice()).unwrap_or_default()
    }

    /// A batch norm as `x * scale + shift`.
    fn scale_shift(&self, graph: &Graph, node: usize, norm: &BatchNorm) -> (Vec<f32>, Vec<f32>) {
        let [weight, bias, mean, var] = std::array::from_fn(|i| self.parameter(graph, node, i));
        let scale: Vec<f64> = weight.iter().zip(var).map(|(&w, &v)| f64::from(w) / (f64::from(v) + f64::from(norm.eps)).sqrt()).collect();
        let shift = bias.iter().zip(mean).zip(&scale).map(|((&b, &m), &s)| (f64::from(b) - f64::from(m) * s) as f32).collect();
        (scale.iter().map(|&s| s as f32).collect(), shift)
    }

    /// Weight and bias of a convolution or linear layer with its norm folded in.
    pub(crate) fn folded(&self, graph: &Graph, head: usize, norm: Option<usize>) -> (Vec<f32>, Option<Vec<f32>>) {
        let mut weight = self.parameter(graph, head, 0).to_vec();
        let mut bias = (graph.nodes[head].parameters.len() > 1).then(|| self.parameter(graph, head, 1).to_vec());
        if let Some(norm) = norm
            && let Op::BatchNorm(settings) = &graph.nodes[norm].op
        {
            let (scale, shift) = self.scale_shift(graph, norm, settings);
            let row = weight.len() / scale.len().max(1);
            weight.chunks_exact_mut(row.max(1)).zip(&scale).for_each(|(row, s)| row.iter_mut().for_each(|w| *w *= s));
            let folded = match bias {
                Some(bias) => bias.iter().zip(scale.iter().zip(&shift)).map(|(b, (s, t))| b * s + t).collect(),
                None => shift,
            };
            bias = Some(folded);
        }
        (weight, bias)
    }

    /// The weights of a convolution or linear layer with its norm folded in, packed for f32.
    fn affine(&mut self, graph: &Graph, head: usize, norm: Option<usize>) -> Arc<Affine> {
        if let Some(done) = self.affine.get(&(head, norm)) {
            return done.clone();
        }
        let (weight, bias) = self.folded(graph, head, norm);
        let done = Arc::new(match &graph.nodes[head].op {
            Op::Conv2d(c) if c.is_depthwise() => Affine { taps: depthwise_taps(&weight, c), ..Affine::empty(bias) },
            Op::Conv2d(c) => match winograd_side(graph, head, c) {
                Some(side) => {
                    let weights = WinogradWeights::new(&weight, c.out_channels, c.in_channels, side);
                    Affine { winograd: Some(weights), ..Affine::empty(bias) }
                }
                None => Affine { groups: pack_conv(&weight, c, is_stem(graph, head)), ..Affine::empty(bias) },
            },
            Op::Linear(l) => {
                let packed = PackedB::new(Matrix::new(&weight, l.out_features, l.in_features).t());
                Affine { groups: vec![packed], ..Affine::empty(bias) }
            }
            _ => Affine::empty(bias),
        });
        self.affine.insert((head, norm), done.clone());
        done
    }

    /// The kernel call of a node that fuses with nothing.
    pub fn work(&mut self, graph: &Graph, index: usize) -> Work {
        let node = &graph.nodes[index];
        let input = node.inputs.first().map(|&i| graph.node(i).shape.as_slice()).unwrap_or_default();
        let last = input.last().copied().unwrap_or(1);
        let is_map = input.len() == 3;
        match &node.op {
            Op::Input { .. } => Work::Load { channels: node.shape[0], pixels: node.shape[1..].iter().product() },
            // Convolutions, and linear layers over vectors, head chains: here come linear layers over the width of a map.
            Op::Conv2d(_) | Op::Linear(_) => Work::planar(
                input,
                &node.shape,
                Work::Linear { affine: self.affine(graph, index, None), clamp: None, residual: false, then: None },
            ),
            Op::BatchNorm(norm) => {
                let (scale, shift) = self.scale_shift(graph, index, norm);
                // Tokens have their channels outermost: one scale for each value of an image.
                let each = if input.len() == 2 { last } else { 1 };
                let spread = |v: Vec<f32>| v.iter().flat_map(|&x| std::iter::repeat_n(x, each)).collect();
                Work::ScaleShift { scale: spread(scale), shift: spread(shift) }
            }
            Op::LayerNorm(norm) => {
                let [weight, bias] = std::array::from_fn(|i| self.parameter(graph, index, i).to_vec());
                let work = Work::LayerNorm { weight, bias, eps: norm.eps };
                if is_map { Work::planar(input, &node.shape, work) } else { work }
            }
            Op::Softmax => {
                let work = Work::Softmax { columns: last };
                if is_map { Work::planar(input, &node.shape, work) } else { work }
            }
            Op::Activation(activation) => Work::Activate(function(*activation)),
            Op::MaxPool2d(pool) => Work::MaxPool { shape: window(input, &node.shape, pool.kernel, pool.stride, [1; 2], pool.padding) },
            Op::AvgPool2d(pool) => Work::AveragePool {
                shape: window(input, &node.shape, pool.kernel, pool.stride, [1; 2], pool.padding),
                padding_end: [pool.padding.bottom, pool.padding.right],
                count_padding: pool.count_include_pad,
            },
            Op::GlobalAvgPool => Work::GlobalAverage { pixels: input[1] * input[2], channels: input[0] },
            Op::Flatten => Work::Flatten { channels: input[0], pixels: input[1] * input[2] },
            Op::Add => Work::Add,
            Op::Mul if graph.node(node.inputs[1]).shape.len() == input.len() => Work::Multiply,
            Op::Mul => Work::Gate { pixels: input[1] * input[2], channels: input[0] },
            Op::Concat => {
                let shapes = node.inputs.iter().map(|&i| graph.node(i).shape.as_slice());
                Work::Concat { widths: shapes.map(|s| if s.len() == 3 { s[0] } else { s.iter().product() }).collect() }
            }
            Op::Dropout { .. } | Op::DropPath { .. } | Op::ToTokens | Op::ToMap { .. } => Work::Copy,
            Op::PrependToken => Work::Prepend { token: self.parameter(graph, index, 0).to_vec(), size: input.iter().product() },
            Op::AddPosition => Work::AddTable { table: self.parameter(graph, index, 0).to_vec() },
            Op::Slice { start, len } if is_map => Work::Columns { from: *start, width: *len, row: input[0] },
            Op::Slice { start, len } => {
                let inner = input[1..].iter().product::<usize>();
                Work::Select { from: start * inner, width: len * inner, size: input.iter().product() }
            }
            Op::SelectToken { index } => Work::Select { from: index * last, width: last, size: input.iter().product() },
            Op::Attention { heads } => Work::Attention { tokens: input[0], width: last / 3, heads: *heads },
        }
    }
}

/// The kernel call of a convolution or linear layer with what it absorbed.
pub(crate) fn conv_work(graph: &Graph, chain: &Chain, lowering: &mut Lowering) -> Work {
    let node = &graph.nodes[chain.head];
    let affine = lowering.affine(graph, chain.head, chain.norm);
    let (clamp, then, residual) = (chain.clamp, chain.then, chain.residual.is_some());
    match &node.op {
        Op::Conv2d(c) => {
            let shape = window(&graph.node(node.inputs[0]).shape, &node.shape, c.kernel, c.stride, c.dilation, c.padding);
            if c.is_depthwise() {
                Work::Depthwise { shape, affine, clamp, then }
            } else if is_stem(graph, chain.head) {
                Work::Stem { shape, affine, clamp, then }
            } else {
                Work::Conv { shape, affine, clamp, residual, then }
            }
        }
        _ => Work::Linear { affine, clamp, residual, then },
    }
}

pub(crate) fn window(
    input: &[usize],
    output: &[usize],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
) -> ConvShape {
    ConvShape {
        batch: 0,
        input: [input[1], input[2]],
        channels: input[0],
        output: [output[1], output[2]],
        window: Window { kernel, stride, dilation, padding: [padding.top, padding.left] },
    }
}

/// `[C, 1, KH, KW] -> [KH * KW, C]`.
fn depthwise_taps(weight: &[f32], c: &Conv2d) -> Buffer {
    let taps = c.kernel[0] * c.kernel[1];
    let mut packed = Buffer::zeros(taps * c.out_channels);
    packed.iter_mut().enumerate().for_each(|(i, tap)| *tap = weight[i % c.out_channels * taps + i / c.out_channels]);
    packed
}

/// Whether a convolution reads the image itself, by the kernel for few channels.
pub(crate) fn is_stem(graph: &Graph, index: usize) -> bool {
    let node = &graph.nodes[index];
    match &node.op {
        Op::Conv2d(c) => {
            let reads_image = matches!(graph.node(node.inputs[0]).op, Op::Input { .. });
            reads_image && c.groups == 1 && !c.is_depthwise() && c.dilation == [1, 1] && c.in_channels <= 4
        }
        _ => false,
    }
}

/// The tile side of a convolution that is faster by Winograd's method.
fn winograd_side(graph: &Graph, index: usize, c: &Conv2d) -> Option<usize> {
    let node = &graph.nodes[index];
    let shape = window(&graph.node(node.inputs[0]).shape, &node.shape, c.kernel, c.stride, c.dilation, c.padding);
    kernels::winograd_side(&shape, c.out_channels).filter(|_| c.groups == 1)
}

/// `[out, in / groups, KH, KW]` -> for each group a packed `[KH * KW * in / groups, out / groups]`; `[KH * in * KW, out]` for a stem.
fn pack_conv(weight: &[f32], c: &Conv2d, stem: bool) -> Vec<PackedB> {
    let ([height, width], inputs, outputs) = (c.kernel, c.in_channels / c.groups, c.out_channels / c.groups);
    let (taps, k) = (height * width, height * width * inputs);
    // Where row `at` of the packed operand is among an output's weights.
    let source = |at: usize| match stem {
        // Channels between the rows and the columns of the window, as patches of an image come.
        true => at / width % inputs * taps + at / width / inputs * width + at % width,
        // Taps outermost, channels innermost, as patches of NHWC maps come.
        false => at % inputs * taps + at / inputs,
    };
    let group = |g: usize| {
        let part = &weight[g * outputs * k..(g + 1) * outputs * k];
        let rows: Vec<f32> = (0..outputs * k).map(|i| part[i / k * k + source(i % k)]).collect();
        PackedB::new(Matrix::new(&rows, outputs, k).t())
    };
    (0..c.groups).map(group).collect()
}
