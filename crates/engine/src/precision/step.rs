//! Kernel calls on values of several kinds.

use std::sync::Arc;

use kernels::{Buffer, Clamp, ConvShape, Function, PoolShape, bf16, int8};

use crate::precision::{Kind, NarrowWeights};

/// What a step computes. Shapes carry a batch of 0 until the step runs.
#[derive(Debug)]
pub(crate) enum Narrow {
    /// The input, planar f32, channels padded to `stored`.
    Load {
        channels: usize,
        pixels: usize,
        stored: usize,
        kind: Kind,
    },
    /// `size` values of an image from one kind to another.
    Convert {
        from: Kind,
        to: Kind,
        size: usize,
        /// What channels of bytes are multiplied by beside their scale.
        factors: Option<Arc<[f32]>>,
    },
    /// A convolution, a depthwise convolution, or a linear layer over `rows` vectors of an image.
    Product(Product),
    MaxPool {
        shape: PoolShape,
        kind: Kind,
    },
    AveragePool {
        shape: PoolShape,
        padding_end: [usize; 2],
        count_padding: bool,
        kind: Kind,
    },
    /// To f32.
    GlobalAverage {
        pixels: usize,
        channels: usize,
        kind: Kind,
    },
    /// `size` values of an image.
    Add {
        size: usize,
        a: Kind,
        b: Kind,
        out: Kind,
    },
    Multiply {
        size: usize,
    },
    Gate {
        pixels: usize,
        channels: usize,
    },
    Activate {
        size: usize,
        function: Function,
    },
    Concat {
        widths: Vec<usize>,
        rows: usize,
    },
}

/// A layer with weights.
#[derive(Debug)]
pub(crate) struct Product {
    pub shape: ConvShape,
    /// Vectors of an image, for linear layers over tokens; else 1.
    pub rows: usize,
    pub weights: Arc<NarrowWeights>,
    pub input: Kind,
    pub output: Kind,
    pub residual: Option<Kind>,
    pub clamp: Option<Clamp>,
    pub then: Option<Function>,
    /// Of int8: bias and scale of each column, for these kinds.
    pub bias: Vec<i32>,
    pub scale: Vec<f32>,
}

impl Narrow {
    /// What it does, in a word or two.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Load { .. } => "load",
            Self::Convert { .. } => "convert",
            Self::Product(product) => match *product.weights {
                NarrowWeights::Bf16 { .. } => "bf16 product",
                NarrowWeights::Bf16Depthwise { .. } => "bf16 depthwise",
                NarrowWeights::Int8 { .. } => "int8 product",
                NarrowWeights::Int8Depthwise { .. } => "int8 depthwise",
            },
            Self::MaxPool { .. } => "max pool",
            Self::AveragePool { .. } => "average pool",
            Self::GlobalAverage { .. } => "global average",
            Self::Add { .. } => "add",
            Self::Multiply { .. } => "multiply",
            Self::Gate { .. } => "gate",
            Self::Activate { .. } => "activation",
            Self::Concat { .. } => "concat",
        }
    }

    /// Multiply-adds of a layer that writes `size` values.
    pub fn multiply_adds(&self, size: usize) -> usize {
        match self {
            Self::Product(product) => {
                let taps: usize = product.shape.window.kernel.iter().product();
                size * taps * product.weights.channels_read()
            }
            _ => 0,
        }
    }

    /// Runs the step on `batch` images; `external` is the engine's input.
    pub fn run(&self, batch: usize, external: &[f32], inputs: &[&Buffer], out: &mut Buffer) {
        let sized = |shape: &PoolShape| PoolShape { batch, ..*shape };
        match self {
            Self::Load { channels, pixels, stored, kind } => {
                let size = batch * pixels * stored;
                match kind {
                    Kind::Bf16 => bf16::load_nchw(out.numbers_mut(size), external, *channels, *pixels, *stored),
                    Kind::U8(quant) => int8::load_nchw(out.numbers_mut(size), external, *channels, *pixels, *stored, *quant),
                    Kind::F32 => kernels::nchw_to_nhwc(out, external, *channels, *pixels),
                    Kind::I16(scale) => {
                        let mut bytes = Buffer::zeros(size);
                        spread(&mut bytes, external, *channels, *pixels, *stored);
                        int8::to_halves(out.numbers_mut(size), &bytes, *scale);
                    }
                }
            }
            Self::Convert { from, to, size, factors: None } => convert(*from, *to, size * batch, inputs[0], out),
            Self::Convert { from, to, size, factors: Some(factors) } => convert_by(*from, *to, size * batch, factors, inputs[0], out),
            Self::Product(product) => product.run(batch, inputs, out),
            Self::MaxPool { shape, kind } => {
                let (shape, from, to) = (&sized(shape), read(shape, batch), written(shape, batch));
                match kind {
                    Kind::Bf16 => bf16::max_pool(out.numbers_mut(to), inputs[0].numbers(from), shape),
                    Kind::U8(_) => int8::max_pool(out.numbers_mut(to), inputs[0].numbers(from), shape),
                    // Plans keep 16-bit integers between layers alone.
                    Kind::F32 | Kind::I16(_) => kernels::max_pool(out, inputs[0], shape),
                }
            }
            Self::AveragePool { shape, padding_end, count_padding, kind } => {
                let (shape, from, to) = (&sized(shape), read(shape, batch), written(shape, batch));
                let (end, count) = (*padding_end, *count_padding);
                match kind {
                    Kind::Bf16 => bf16::average_pool(out.numbers_mut(to), inputs[0].numbers(from), shape, end, count),
                    Kind::U8(q) => int8::average_pool(out.numbers_mut(to), inputs[0].numbers(from), q.zero, shape, end, count),
                    Kind::F32 | Kind::I16(_) => kernels::average_pool(out, inputs[0], shape, end, count),
                }
            }
            Self::GlobalAverage { pixels, channels, kind } => {
                let size = batch * pixels * channels;
                match kind {
                    Kind::Bf16 => bf16::global_average(out, inputs[0].numbers(size), *pixels, *channels),
                    Kind::U8(quant) => int8::global_average(out, inputs[0].numbers(size), *pixels, *channels, *quant),
                    Kind::F32 | Kind::I16(_) => kernels::global_average(out, inputs[0], *pixels, *channels),
                }
            }
            Self::Add { size, a, b, out: kind } => {
                let size = size * batch;
                match (a, b, kind) {
                    (Kind::U8(qa), Kind::U8(qb), Kind::U8(quant)) => {
                        let (a, b) = ((inputs[0].numbers(size), *qa), (inputs[1].numbers(size), *qb));
                        int8::add(out.numbers_mut(size), *quant, a, b, f32::NEG_INFINITY, f32::INFINITY);
                    }
                    _ => bf16::add(out.numbers_mut(size), inputs[0].numbers(size), inputs[1].numbers(size)),
                }
            }
            Self::Multiply { size } => {
                let size = size * batch;
                bf16::multiply(out.numbers_mut(size), inputs[0].numbers(size), inputs[1].numbers(size));
            }
            Self::Gate { pixels, channels } => {
                let (size, gates) = (batch * pixels * channels, batch * channels);
                bf16::gate_channels(out.numbers_mut(size), inputs[0].numbers(size), inputs[1].numbers(gates), *pixels, *channels);
            }
            Self::Activate { size, function } => {
                let size = size * batch;
                let values = out.numbers_mut::<u16>(size);
                values.copy_from_slice(inputs[0].numbers(size));
                bf16::activate(values, *function);
            }
            Self::Concat { widths, rows } => concat(widths, rows * batch, inputs, out),
        }
    }
}

impl Product {
    fn run(&self, batch: usize, inputs: &[&Buffer], out: &mut Buffer) {
        let shape = ConvShape { batch: batch * self.rows, ..self.shape };
        let from = batch * self.rows * shape.input[0] * shape.input[1] * shape.channels;
        let to = batch * self.rows * shape.output[0] * shape.output[1] * self.weights.columns();
        match &*self.weights {
            NarrowWeights::Bf16 { conv, bias } => {
                let residual = self.residual.map(|kind| match kind {
                    Kind::Bf16 => bf16::Residual::Bf16(inputs[1].numbers(to)),
                    Kind::F32 | Kind::U8(_) | Kind::I16(_) => bf16::Residual::F32(inputs[1].numbers(to)),
                });
                let epilogue = bf16::Epilogue { bias: bias.as_deref(), residual, clamp: self.clamp };
                let output = match self.output {
                    Kind::Bf16 => bf16::Output::Bf16(out.numbers_mut(to)),
                    Kind::F32 | Kind::U8(_) | Kind::I16(_) => bf16::Output::F32(out.numbers_mut(to)),
                };
                bf16::conv2d(output, inputs[0].numbers(from), &shape, conv, &epilogue);
            }
            NarrowWeights::Bf16Depthwise { taps, bias } => {
                bf16::depthwise(out.numbers_mut(to), inputs[0].numbers(from), &shape, taps, bias.as_deref(), self.clamp);
            }
            NarrowWeights::Int8 { conv, .. } => {
                int8::conv2d(self.integers_out(out, to), self.integers_in(inputs[0], from), &shape, conv, &self.epilogue(inputs, to));
            }
            NarrowWeights::Int8Depthwise { taps, .. } => {
                int8::depthwise(self.integers_out(out, to), self.integers_in(inputs[0], from), &shape, taps, &self.epilogue(inputs, to));
            }
        }
        match (self.then, self.output) {
            (None, _) => {}
            (Some(function), Kind::Bf16) => bf16::activate(out.numbers_mut(to), function),
            (Some(function), Kind::F32 | Kind::U8(_) | Kind::I16(_)) => kernels::activate(out.numbers_mut(to), function),
        }
    }

    fn integers_in<'a>(&self, input: &'a Buffer, size: usize) -> int8::Input<'a> {
        match self.input {
            Kind::I16(_) => int8::Input::I16(input.numbers(size)),
            Kind::U8(_) | Kind::F32 | Kind::Bf16 => int8::Input::U8(input.numbers(size), self.input.quant().unwrap_or_default().zero),
        }
    }

    fn integers_out<'a>(&self, out: &'a mut Buffer, size: usize) -> int8::Output<'a> {
        match self.output {
            Kind::U8(_) => int8::Output::U8(out.numbers_mut(size)),
            Kind::I16(_) => int8::Output::I16(out.numbers_mut(size)),
            Kind::F32 | Kind::Bf16 => int8::Output::F32(out.numbers_mut(size)),
        }
    }

    fn epilogue<'a>(&'a self, inputs: &[&'a Buffer], size: usize) -> int8::Epilogue<'a> {
        let residual = self.residual.map(|kind| match kind {
            Kind::U8(quant) => int8::Residual::U8(inputs[1].numbers(size), quant),
            Kind::I16(scale) => int8::Residual::I16(inputs[1].numbers(size), scale),
            Kind::F32 | Kind::Bf16 => int8::Residual::F32(inputs[1].numbers(size)),
        });
        let output = self.output.quant().unwrap_or_default();
        let clamp = self.clamp.unwrap_or(Clamp { low: f32::NEG_INFINITY, high: f32::INFINITY });
        int8::Epilogue { bias: &self.bias, scale: &self.scale, residual, output, low: clamp.low, high: clamp.high }
    }
}

/// Values of a map that a window reads, and writes.
fn read(shape: &PoolShape, batch: usize) -> usize {
    batch * shape.input[0] * shape.input[1] * shape.channels
}

fn written(shape: &PoolShape, batch: usize) -> usize {
    batch * shape.output[0] * shape.output[1] * shape.channels
}

fn convert(from: Kind, to: Kind, size: usize, input: &Buffer, out: &mut Buffer) {
    match (from, to) {
        (Kind::F32, Kind::Bf16) => bf16::from_f32(out.numbers_mut(size), input.numbers(size)),
        (Kind::Bf16, Kind::F32) => bf16::to_f32(out.numbers_mut(size), input.numbers(size)),
        (Kind::F32, Kind::U8(quant)) => int8::quantize(out.numbers_mut(size), input.numbers(size), quant),
        (Kind::U8(quant), Kind::F32) => int8::dequantize(out.numbers_mut(size), input.numbers(size), quant),
        (Kind::F32, Kind::I16(scale)) => int8::to_halves(out.numbers_mut(size), input.numbers(size), scale),
        (Kind::I16(scale), Kind::F32) => int8::from_halves(out.numbers_mut(size), input.numbers(size), scale),
        (Kind::F32, Kind::F32) | (Kind::Bf16, Kind::Bf16) => out.copy_from_slice(input),
        (Kind::Bf16 | Kind::U8(_) | Kind::I16(_), Kind::Bf16 | Kind::U8(_) | Kind::I16(_)) => {
            let mut wide = Buffer::zeros(size);
            convert(from, Kind::F32, size, input, &mut wide);
            convert(Kind::F32, to, size, &wide, out);
        }
    }
}

/// A conversion of a map whose channels have factors beside their scale.
fn convert_by(from: Kind, to: Kind, size: usize, factors: &[f32], input: &Buffer, out: &mut Buffer) {
    if let (Kind::F32, Kind::I16(scale)) = (from, to) {
        let scales: Vec<f32> = factors.iter().map(|f| f * scale).collect();
        return int8::to_halves_by_channel(out.numbers_mut(size), input.numbers(size), &scales);
    }
    let mut wide = Buffer::zeros(size);
    convert(from, Kind::F32, size, input, &mut wide);
    for pixel in wide.chunks_exact_mut(factors.len()) {
        match to {
            Kind::U8(_) | Kind::I16(_) => pixel.iter_mut().zip(factors).for_each(|(v, f)| *v /= f),
            Kind::F32 | Kind::Bf16 => pixel.iter_mut().zip(factors).for_each(|(v, f)| *v *= f),
        }
    }
    convert(Kind::F32, to, size, &wide, out);
}

/// `[N, C, H, W]` to `[N, H, W, stored]` in f32, zeros behind the channels.
fn spread(out: &mut [f32], input: &[f32], channels: usize, pixels: usize, stored: usize) {
    for (out, image) in out.chunks_exact_mut(pixels * stored).zip(input.chunks_exact(channels * pixels)) {
        for (i, value) in image.iter().enumerate() {
            out[i % pixels * stored + i / pixels] = *value;
        }
    }
}

/// Rows of bf16 inputs side by side.
fn concat(widths: &[usize], rows: usize, inputs: &[&Buffer], out: &mut Buffer) {
    let total: usize = widths.iter().sum();
    let out = out.numbers_mut::<u16>(rows * total);
    let mut at = 0;
    for (input, &width) in inputs.iter().zip(widths) {
        let input = input.numbers::<u16>(rows * width);
        for (out, row) in out.chunks_exact_mut(total).zip(input.chunks_exact(width)) {
            out[at..at + width].copy_from_slice(row);
        }
        at += width;
    }
}
