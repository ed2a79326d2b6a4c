//! The layer that computes a chain of nodes.

use graph::{Graph, NodeId, Op};

use super::StageMode;
use super::compile::{Chain, clamp_of};
use super::layer::Layer;
use super::layers::{
    Activate, AddTwo, Attention, AveragePool, Bounds, Concat, Conv, Flatten, Gate, GlobalAverage, LayerNorm, Linear, Load, MaxPool,
    Multiply, Noise, Norm, Position, Prepend, Rows, Softmax, Transposed,
};
use crate::lower::window;
use crate::plan::function;

/// The layer for `chain`, in a stage of this mode; `trained` says whether its parameters get gradients.
pub(super) fn layer(graph: &Graph, chain: &Chain, mode: StageMode, trained: bool) -> Box<dyn Layer> {
    let node = &graph.nodes[chain.head];
    let shape = |id: &NodeId| graph.node(*id).shape.as_slice();
    let input = node.inputs.first().map(shape).unwrap_or_default();
    let last = input.last().copied().unwrap_or(1);
    let volume: usize = input.iter().product();
    let (clamp, residual) = (chain.clamp, chain.residual.is_some());
    let planar = |inner: Box<dyn Layer>| match (input, node.shape.as_slice()) {
        // Over the width of a map: as [C * H, W].
        (&[c, h, w], &[d, i, j]) => Box::new(Transposed::new(inner, [h * w, c], [i * j, d])),
        // Over the first dimension of tokens: as [D, T].
        (&[t, d], _) => Box::new(Transposed::new(inner, [t, d], [t, d])),
        _ => inner,
    };
    match &node.op {
        Op::Input { shape } => match shape[..] {
            [c, h, w] => Box::new(Load { channels: c, pixels: h * w }),
            _ => Box::new(Load { channels: 1, pixels: shape.iter().product() }),
        },
        Op::Conv2d(c) => {
            let shape = window(input, &node.shape, c.kernel, c.stride, c.dilation, c.padding);
            Box::new(Conv { shape, outputs: c.out_channels, groups: c.groups, bias: c.bias, clamp, residual, trained })
        }
        Op::Linear(l) => {
            let linear = Box::new(Linear { sizes: [l.in_features, l.out_features], bias: l.bias, clamp, residual, trained });
            if input.len() == 3 { planar(linear) } else { linear }
        }
        Op::BatchNorm(b) => {
            let norm = Box::new(Norm::new(b.eps, mode == StageMode::Trained, clamp, residual));
            if input.len() == 2 { planar(norm) } else { norm }
        }
        Op::LayerNorm(l) => {
            let norm = Box::new(LayerNorm { eps: l.eps });
            if input.len() == 3 { planar(norm) } else { norm }
        }
        Op::Softmax => {
            let softmax = Box::new(Softmax { columns: last });
            if input.len() == 3 { planar(softmax) } else { softmax }
        }
        Op::Activation(kind) => match clamp_of(*kind) {
            Some(clamp) => Box::new(Bounds { clamp }),
            None => Box::new(Activate { function: function(*kind) }),
        },
        Op::MaxPool2d(p) => Box::new(MaxPool { shape: window(input, &node.shape, p.kernel, p.stride, [1; 2], p.padding) }),
        Op::AvgPool2d(p) => Box::new(AveragePool {
            shape: window(input, &node.shape, p.kernel, p.stride, [1; 2], p.padding),
            padding_end: [p.padding.bottom, p.padding.right],
            count_padding: p.count_include_pad,
        }),
        Op::GlobalAvgPool => Box::new(GlobalAverage { pixels: input[1] * input[2], channels: input[0] }),
        Op::Flatten => Box::new(Flatten { channels: input[0], pixels: input[1] * input[2] }),
        Op::Add => Box::new(AddTwo),
        Op::Mul if node.inputs.get(1).map(shape).unwrap_or_default().len() == input.len() => Box::new(Multiply),
        Op::Mul => Box::new(Gate { pixels: input[1] * input[2], channels: input[0] }),
        Op::Concat => {
            let width = |shape: &[usize]| if shape.len() == 3 { shape[0] } else { shape.iter().product() };
            Box::new(Concat { widths: node.inputs.iter().map(|id| width(shape(id))).collect() })
        }
        Op::Dropout { p } => Box::new(Noise { node: chain.head, p: *p, values: volume, each: 1 }),
        Op::DropPath { p } => Box::new(Noise { node: chain.head, p: *p, values: 1, each: volume }),
        // Identities in this layout: the compiler makes no step of them.
        Op::ToTokens | Op::ToMap { .. } => Box::new(Rows { from: 0, width: volume, row: volume }),
        Op::PrependToken => Box::new(Prepend { width: last, size: volume }),
        Op::AddPosition => Box::new(Position { size: volume }),
        Op::Slice { start, len } if input.len() == 3 => Box::new(Rows { from: *start, width: *len, row: input[0] }),
        Op::Slice { start, len } => {
            let inner: usize = input[1..].iter().product();
            Box::new(Rows { from: start * inner, width: len * inner, row: volume })
        }
        Op::SelectToken { index } => Box::new(Rows { from: index * last, width: last, row: volume }),
        Op::Attention { heads } => Box::new(Attention { tokens: input[0], width: last / 3, heads: *heads }),
    }
}
