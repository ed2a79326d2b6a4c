//! Kernel calls with everything but the batch.

use std::sync::Arc;

use kernels::{Bottleneck, Buffer, Clamp, ConvShape, Epilogue, Function, Matrix, PackedB, Pointwise, PoolShape, WinogradWeights};

use crate::precision::Narrow;

/// Weights of a convolution or linear layer as the kernels read them.
#[derive(Debug)]
pub(crate) struct Affine {
    /// One packed operand a group; none for a depthwise convolution or one by Winograd's method.
    pub groups: Vec<PackedB>,
    /// Of a convolution by Winograd's method.
    pub winograd: Option<WinogradWeights>,
    /// `[KH * KW, C]` of a depthwise convolution.
    pub taps: Buffer,
    pub bias: Option<Vec<f32>>,
}

impl Affine {
    /// A bias and no weights yet.
    pub fn empty(bias: Option<Vec<f32>>) -> Self {
        Self { groups: Vec::new(), winograd: None, taps: Buffer::default(), bias }
    }
}

/// What a step computes. Shapes carry a batch of 0 until the step runs.
#[derive(Debug)]
pub(crate) enum Work {
    Load {
        channels: usize,
        pixels: usize,
    },
    /// A convolution that reads the image as it comes, `[N, C, H, W]`.
    Stem {
        shape: ConvShape,
        affine: Arc<Affine>,
        clamp: Option<Clamp>,
        then: Option<Function>,
    },
    /// Three convolutions at a time: pointwise (or none), depthwise, pointwise.
    Bottleneck {
        expand: Option<(Arc<Affine>, Option<Clamp>)>,
        shape: ConvShape,
        middle: Arc<Affine>,
        clamp: Option<Clamp>,
        project: Arc<Affine>,
        last: Option<Clamp>,
        residual: bool,
    },
    Conv {
        shape: ConvShape,
        affine: Arc<Affine>,
        clamp: Option<Clamp>,
        residual: bool,
        then: Option<Function>,
    },
    Depthwise {
        shape: ConvShape,
        affine: Arc<Affine>,
        clamp: Option<Clamp>,
        then: Option<Function>,
    },
    Linear {
        affine: Arc<Affine>,
        clamp: Option<Clamp>,
        residual: bool,
        then: Option<Function>,
    },
    ScaleShift {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    LayerNorm {
        weight: Vec<f32>,
        bias: Vec<f32>,
        eps: f32,
    },
    Softmax {
        columns: usize,
    },
    Activate(Function),
    MaxPool {
        shape: PoolShape,
    },
    AveragePool {
        shape: PoolShape,
        padding_end: [usize; 2],
        count_padding: bool,
    },
    GlobalAverage {
        pixels: usize,
        channels: usize,
    },
    Flatten {
        channels: usize,
        pixels: usize,
    },
    Add,
    Multiply,
    Gate {
        pixels: usize,
        channels: usize,
    },
    Concat {
        widths: Vec<usize>,
    },
    Copy,
    Prepend {
        token: Vec<f32>,
        size: usize,
    },
    AddTable {
        table: Vec<f32>,
    },
    Select {
        from: usize,
        width: usize,
        size: usize,
    },
    /// Some columns of each row.
    Columns {
        from: usize,
        width: usize,
        row: usize,
    },
    Attention {
        tokens: usize,
        width: usize,
        heads: usize,
    },
    /// A rare op over the width of a feature map: through `[N, C, H, W]` and back.
    Planar {
        input: [usize; 2],
        output: [usize; 2],
        inner: Box<Work>,
    },
    /// Between values of which some are no f32.
    Narrow(Box<Narrow>),
}

impl Work {
    /// `inner` run on a feature map `[C, H, W]` in the planar layout.
    pub fn planar(input: &[usize], output: &[usize], inner: Work) -> Self {
        let sizes = |s: &[usize]| [s[0], s[1] * s[2]];
        Self::Planar { input: sizes(input), output: sizes(output), inner: Box::new(inner) }
    }

    /// What it does, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Load { .. } => "load",
            Self::Stem { .. } => "stem",
            Self::Bottleneck { expand: Some(_), .. } => "bottleneck",
            Self::Bottleneck { expand: None, .. } => "separable",
            Self::Conv { affine, .. } if affine.winograd.is_some() => "winograd",
            Self::Conv { .. } => "conv",
            Self::Depthwise { .. } => "depthwise",
            Self::Linear { .. } => "linear",
            Self::ScaleShift { .. } => "scale",
            Self::LayerNorm { .. } => "layer norm",
            Self::Softmax { .. } => "softmax",
            Self::Activate(_) => "activation",
            Self::MaxPool { .. } => "max pool",
            Self::AveragePool { .. } => "average pool",
            Self::GlobalAverage { .. } => "global average",
            Self::Flatten { .. } => "flatten",
            Self::Add => "add",
            Self::Multiply => "multiply",
            Self::Gate { .. } => "gate",
            Self::Concat { .. } => "concat",
            Self::Copy => "copy",
            Self::Prepend { .. } => "prepend",
            Self::AddTable { .. } => "add table",
            Self::Select { .. } => "select",
            Self::Columns { .. } => "columns",
            Self::Attention { .. } => "attention",
            Self::Narrow(narrow) => narrow.name(),
            Self::Planar { inner, .. } => inner.name(),
        }
    }

    /// Multiply-adds of the convolutions and linear layers in it, by the plain sums, where it writes `size` values.
    pub fn multiply_adds(&self, size: usize) -> u64 {
        let taps = |shape: &ConvShape| shape.window.kernel.iter().product::<usize>();
        let count = match self {
            Self::Conv { shape, affine, .. } | Self::Stem { shape, affine, .. } => {
                size * taps(shape) * shape.channels / affine.groups.len().max(1)
            }
            Self::Depthwise { shape, .. } => size * taps(shape),
            Self::Bottleneck { expand, shape, .. } => {
                let read = expand.as_ref().and_then(|(affine, _)| affine.groups.first()).map_or(0, PackedB::k);
                let [input, output] = [shape.input, shape.output].map(|size| size.iter().product::<usize>());
                shape.channels * (input * read + output * taps(shape)) + size * shape.channels
            }
            Self::Linear { affine, .. } => size * affine.groups.first().map_or(0, PackedB::k),
            Self::Attention { tokens, .. } => 2 * size * tokens,
            Self::Planar { inner, .. } => return inner.multiply_adds(size),
            Self::Narrow(narrow) => narrow.multiply_adds(size),
            Self::Load { .. } | Self::ScaleShift { .. } | Self::LayerNorm { .. } | Self::Softmax { .. } | Self::Activate(_) => 0,
            Self::MaxPool { .. } | Self::AveragePool { .. } | Self::GlobalAverage { .. } | Self::Flatten { .. } | Self::Add => 0,
            Self::Multiply | Self::Gate { .. } | Self::Concat { .. } | Self::Copy | Self::Prepend { .. } => 0,
            Self::AddTable { .. } | Self::Select { .. } | Self::Columns { .. } => 0,
        };
        count as u64
    }

    /// Whether the step may write over its only input.
    pub fn works_in_place(&self) -> bool {
        matches!(self, Self::Softmax { .. } | Self::Activate(_))
    }

    /// Runs the step on `batch` images, where all values are f32. In-place steps find their input in `out` and get none in `inputs`.
    pub fn run(&self, batch: usize, inputs: &[&[f32]], out: &mut Buffer) {
        let sized = |shape: &ConvShape| ConvShape { batch, ..*shape };
        match self {
            Self::Load { channels, pixels } => kernels::nchw_to_nhwc(out, inputs[0], *channels, *pixels),
            Self::Conv { shape, affine, clamp, residual, then } => {
                let residual = residual.then(|| inputs[1]);
                let epilogue = Epilogue { bias: affine.bias.as_deref(), residual, clamp: *clamp };
                match &affine.winograd {
                    Some(weights) => kernels::winograd(out, inputs[0], &sized(shape), weights, &epilogue),
                    None => kernels::conv2d(out, inputs[0], &sized(shape), &affine.groups, &epilogue),
                }
                finish(out, *then);
            }
            Self::Stem { shape, affine, clamp, then } => {
                let epilogue = Epilogue { bias: affine.bias.as_deref(), residual: None, clamp: *clamp };
                for packed in &affine.groups {
                    kernels::conv2d_planar(out, inputs[0], &sized(shape), packed, &epilogue);
                }
                finish(out, *then);
            }
            Self::Bottleneck { expand, shape, middle, clamp, project, last, residual } => {
                let expand = expand.as_ref().and_then(|(affine, clamp)| {
                    let weights = affine.groups.first()?;
                    Some(Pointwise { weights, bias: affine.bias.as_deref(), clamp: *clamp })
                });
                let epilogue = Epilogue { bias: project.bias.as_deref(), residual: residual.then(|| inputs[1]), clamp: *last };
                for project in &project.groups {
                    let (taps, bias) = (&*middle.taps, middle.bias.as_deref());
                    Bottleneck { expand, shape: sized(shape), taps, bias, clamp: *clamp, project, epilogue }.run(out, inputs[0]);
                }
            }
            Self::Depthwise { shape, affine, clamp, then } => {
                kernels::depthwise(out, inputs[0], &sized(shape), &affine.taps, affine.bias.as_deref(), *clamp);
                finish(out, *then);
            }
            Self::Linear { affine, clamp, residual, then } => {
                let residual = residual.then(|| inputs[1]);
                let epilogue = Epilogue { bias: affine.bias.as_deref(), residual, clamp: *clamp };
                for packed in &affine.groups {
                    let rows = inputs[0].len() / packed.k().max(1);
                    kernels::gemm_packed(out, Matrix::new(inputs[0], rows, packed.k()), packed, false, &epilogue);
                }
                finish(out, *then);
            }
            Self::ScaleShift { scale, shift } => kernels::scale_shift(out, inputs[0], scale, shift),
            Self::LayerNorm { weight, bias, eps } => kernels::layer_norm(out, inputs[0], weight, bias, *eps),
            Self::Softmax { columns } => in_place(inputs, out, |out| kernels::softmax(out, *columns)),
            Self::Activate(function) => in_place(inputs, out, |out| kernels::activate(out, *function)),
            Self::MaxPool { shape } => kernels::max_pool(out, inputs[0], &sized(shape)),
            Self::AveragePool { shape, padding_end, count_padding } => {
                kernels::average_pool(out, inputs[0], &sized(shape), *padding_end, *count_padding);
            }
            Self::GlobalAverage { pixels, channels } => kernels::global_average(out, inputs[0], *pixels, *channels),
            Self::Flatten { channels, pixels } => kernels::nhwc_to_nchw(out, inputs[0], *channels, *pixels),
            Self::Add => kernels::add(out, inputs[0], inputs[1]),
            Self::Multiply => kernels::multiply(out, inputs[0], inputs[1]),
            Self::Gate { pixels, channels } => kernels::gate_channels(out, inputs[0], inputs[1], *pixels, *channels),
            Self::Concat { widths } => concat(out, inputs, widths),
            Self::Copy => out.copy_from_slice(inputs[0]),
            Self::Prepend { token, size } => {
                for (out, image) in out.chunks_exact_mut(size + token.len()).zip(inputs[0].chunks_exact(*size)) {
                    out[..token.len()].copy_from_slice(token);
                    out[token.len()..].copy_from_slice(image);
                }
            }
            Self::AddTable { table } => {
                for (out, image) in out.chunks_exact_mut(table.len()).zip(inputs[0].chunks_exact(table.len())) {
                    kernels::add(out, image, table);
                }
            }
            Self::Select { from, width, size } => {
                for (out, image) in out.chunks_exact_mut(*width).zip(inputs[0].chunks_exact(*size)) {
                    out.copy_from_slice(&image[*from..from + width]);
                }
            }
            Self::Columns { from, width, row } => {
                for (out, row) in out.chunks_exact_mut(*width).zip(inputs[0].chunks_exact(*row)) {
                    out.copy_from_slice(&row[*from..from + width]);
                }
            }
            Self::Attention { tokens, width, heads } => kernels::attention(out, inputs[0], *tokens, *width, *heads),
            // Narrow values are no slices of f32: `Narrow::run` takes buffers.
            Self::Narrow(_) => {}
            Self::Planar { input, output, inner } => {
                let (mut planar, mut result) = (Buffer::zeros(inputs[0].len()), Buffer::zeros(out.len()));
                kernels::nhwc_to_nchw(&mut planar, inputs[0], input[0], input[1]);
                inner.run(batch, &[&planar], &mut result);
                kernels::nchw_to_nhwc(out, &result, output[0], output[1]);
            }
        }
    }
}

fn finish(out: &mut [f32], then: Option<Function>) {
    if let Some(function) = then {
        kernels::activate(out, function);
    }
}

fn in_place(inputs: &[&[f32]], out: &mut [f32], run: impl FnOnce(&mut [f32])) {
    if let Some(input) = inputs.first() {
        out.copy_from_slice(input);
    }
    run(out);
}

/// Rows of each input side by side.
fn concat(out: &mut [f32], inputs: &[&[f32]], widths: &[usize]) {
    let total: usize = widths.iter().sum();
    let mut at = 0;
    for (input, &width) in inputs.iter().zip(widths) {
        for (out, row) in out.chunks_exact_mut(total).zip(input.chunks_exact(width)) {
            out[at..at + width].copy_from_slice(row);
        }
        at += width;
    }
}
