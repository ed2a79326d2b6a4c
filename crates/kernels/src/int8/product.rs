//! int8 convolutions and linear layers.

use crate::conv::ConvShape;
use crate::dot::{Family, Geometry, PackedWords, Sizes, convolve};
use crate::int8::Width;
use crate::int8::isa::{Integers, Products};
use crate::int8::maps::Quant;

/// What is read.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Bytes, and the one that stands for 0 (and so for padding).
    U8(&'a [u8], u8),
    /// 16-bit integers within [`LIMIT`](crate::int8::LIMIT).
    I16(&'a [i16]),
}

/// Where results go, and in which form.
#[derive(Debug)]
pub enum Output<'a> {
    /// Bytes of the output's scale: [`Epilogue::scale`] is the product's scale over the output's.
    U8(&'a mut [u8]),
    /// 16-bit integers of the output's scale, likewise; its zero point is unused.
    I16(&'a mut [i16]),
    /// As f32: [`Epilogue::scale`] is the product's scale.
    F32(&'a mut [f32]),
}

/// What is added to a product.
#[derive(Debug, Clone, Copy)]
pub enum Residual<'a> {
    /// Bytes of another scale: where the output is bytes.
    U8(&'a [u8], Quant),
    /// 16-bit integers of this scale: where the output is such.
    I16(&'a [i16], f32),
    /// f32: where the output is f32.
    F32(&'a [f32]),
}

/// What happens to an integer sum: `clamp((sum + bias) * scale + residual)`, and for bytes rounded and shifted by the zero point.
#[derive(Debug, Clone, Copy)]
pub struct Epilogue<'a> {
    /// One integer a column: the layer's bias in the product's scale, less the input's zero point times the sum of the column's weights.
    pub bias: &'a [i32],
    /// One factor a column.
    pub scale: &'a [f32],
    /// Of the result's shape.
    pub residual: Option<Residual<'a>>,
    /// Scale and zero point of what is written (unused for f32).
    pub output: Quant,
    /// Bounds of the result, in real units: the activation.
    pub low: f32,
    /// The upper bound.
    pub high: f32,
}

/// Numbers of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Bytes,
    Halves,
    F32,
}

/// [`Epilogue`] and the result, by pointers: row `r`, column `c` is at `r * stride + c`.
#[derive(Clone, Copy)]
pub(crate) struct Finish {
    pub bias: *const i32,
    pub scale: *const f32,
    /// In the results' form; or null.
    pub residual: *const u8,
    pub residual_scale: f32,
    pub residual_zero: i32,
    /// Bounds: of the f32, or of bytes before the zero point is added.
    pub low: f32,
    pub high: f32,
    pub zero: i32,
    pub out: *mut u8,
    /// What results and residual are.
    pub form: Form,
    pub stride: usize,
}

// SAFETY: the pointers are those of borrows that outlive the call; each task writes rows and columns of its own.
unsafe impl Sync for Finish {}

/// Weights `[out, ..]` in f32 as symmetric bytes in `-127..=127`, one scale for each output channel (never 0).
///
/// # Panics
/// Where `weight` is no multiple of `out`.
pub fn quantize_channels(weight: &[f32], out: usize) -> (Vec<i8>, Vec<f32>) {
    assert!(out > 0 && weight.len().is_multiple_of(out), "{} weights of {out} channels", weight.len());
    let (mut bytes, mut scales) = (Vec::with_capacity(weight.len()), Vec::with_capacity(out));
    for row in weight.chunks_exact((weight.len() / out).max(1)) {
        let largest = row.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        bytes.extend(row.iter().map(|w| (w / scale).round_ties_even().clamp(-127.0, 127.0) as i8));
        scales.push(scale);
    }
    (bytes, scales)
}

/// Weights of a convolution, packed: one operand a group.
#[derive(Debug, Clone)]
pub struct ConvWeights {
    groups: Vec<PackedWords<Products>>,
    geometry: Geometry,
    kernel: [usize; 2],
    dilation: [usize; 2],
    channels: usize,
}

impl ConvWeights {
    /// Packs `weight` `[out, channels / groups, KH, KW]` for maps of a width; for bytes its values are those of `i8`.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn new(width: Width, weight: &[i16], out: usize, channels: usize, groups: usize, kernel: [usize; 2], dilation: [usize; 2]) -> Self {
        Self::for_family(Integers::best(width), weight, out, channels, groups, kernel, dilation)
    }

    pub(crate) fn for_family(
        family: Integers,
        weight: &[i16],
        out: usize,
        channels: usize,
        groups: usize,
        kernel: [usize; 2],
        dilation: [usize; 2],
    ) -> Self {
        let (taps, count, columns) = (kernel[0] * kernel[1], channels / groups, out / groups);
        assert_eq!(weight.len(), out * count * taps, "weights");
        let family = Products(family);
        let geometry = Geometry::new(kernel, dilation, channels, groups, family.word_bytes());
        let pack = |g: usize| {
            PackedWords::new(family, geometry.layout, columns, |segment, at, column| {
                let k = segment * geometry.layout.run + at;
                let weight = weight[((g * columns + column) * count + k % count) * taps + k / count];
                match family.word_bytes() {
                    1 => u32::from(weight as i8 as u8),
                    _ => u32::from(weight as u16),
                }
            })
        };
        Self { groups: (0..groups).map(pack).collect(), geometry, kernel, dilation, channels }
    }

    /// Input channels that a column reads.
    pub fn channels_read(&self) -> usize {
        self.channels / self.groups.len().max(1)
    }

    /// Columns of the result.
    pub fn columns(&self) -> usize {
        self.groups.iter().map(|g| g.n).sum()
    }
}

impl<'a> Input<'a> {
    pub(crate) fn width(self) -> Width {
        match self {
            Self::U8(..) => Width::Bytes,
            Self::I16(_) => Width::Halves,
        }
    }

    /// The bytes in memory, and those of padding.
    fn bytes(self) -> (&'a [u8], u8) {
        match self {
            Self::U8(bytes, zero) => (bytes, zero),
            // SAFETY: an i16 is two bytes, any of which make a byte.
            Self::I16(halves) => (unsafe { std::slice::from_raw_parts(halves.as_ptr().cast(), halves.len() * 2) }, 0),
        }
    }
}

impl Output<'_> {
    /// Where it is, its form, and its length in values.
    fn parts(self) -> (*mut u8, Form, usize) {
        match self {
            Self::U8(out) => (out.as_mut_ptr(), Form::Bytes, out.len()),
            Self::I16(out) => (out.as_mut_ptr().cast(), Form::Halves, out.len()),
            Self::F32(out) => (out.as_mut_ptr().cast(), Form::F32, out.len()),
        }
    }
}

impl Epilogue<'_> {
    /// [`Finish`] for all columns.
    ///
    /// # Panics
    /// Where there is not one bias and scale a column, the result has not `length` values, or the residual is of another kind or size.
    pub(crate) fn finish(&self, output: Output, length: usize, columns: usize) -> Finish {
        assert!(self.bias.len() == columns && self.scale.len() == columns, "one bias and scale a column");
        let (out, form, written) = output.parts();
        assert_eq!(written, length, "output");
        let (low, high) = match form {
            Form::Bytes => self.output.bounds(self.low, self.high),
            Form::Halves => self.output.half_bounds(self.low, self.high),
            Form::F32 => (self.low, self.high),
        };
        let (residual, quant, matches) = match self.residual {
            None => (std::ptr::null(), Quant::default(), true),
            Some(Residual::U8(bytes, quant)) => (bytes.as_ptr(), quant, form == Form::Bytes && bytes.len() == length),
            Some(Residual::I16(halves, scale)) => {
                (halves.as_ptr().cast(), Quant { scale, zero: 0 }, form == Form::Halves && halves.len() == length)
            }
            Some(Residual::F32(values)) => (values.as_ptr().cast(), Quant::default(), form == Form::F32 && values.len() == length),
        };
        assert!(matches, "a residual of the result's shape and kind");
        Finish {
            bias: self.bias.as_ptr(),
            scale: self.scale.as_ptr(),
            residual,
            residual_scale: quant.scale / self.output.scale,
            residual_zero: i32::from(quant.zero),
            low,
            high,
            zero: i32::from(self.output.zero),
            out,
            form,
            stride: columns,
        }
    }
}

impl Finish {
    /// From a later column on.
    fn at(self, column: usize) -> Self {
        let size = match self.form {
            Form::Bytes => 1,
            Form::Halves => 2,
            Form::F32 => 4,
        };
        Self {
            bias: self.bias.wrapping_add(column),
            scale: self.scale.wrapping_add(column),
            residual: if self.residual.is_null() { self.residual } else { self.residual.wrapping_add(column * size) },
            out: self.out.wrapping_add(column * size),
            ..self
        }
    }
}

/// A convolution of `input` `[N, H, W, C]` into `output` `[N, OH, OW, out]`; a linear layer is one with `[1, 1]` maps.
///
/// # Panics
/// Where sizes disagree, weights are packed for maps of another width, or residual and output are of different kinds.
pub fn conv2d(output: Output, input: Input, shape: &ConvShape, weights: &ConvWeights, epilogue: &Epilogue) {
    let columns = weights.columns();
    let pixels = shape.batch * shape.output[0] * shape.output[1];
    let window = &shape.window;
    let packed = (weights.kernel, weights.dilation, weights.channels);
    assert_eq!((window.kernel, window.dilation, shape.channels), packed, "weights of another convolution");
    let finish = epilogue.finish(output, pixels * columns, columns);
    let (bytes, padding) = input.bytes();
    let mut column = 0;
    for (index, group) in weights.groups.iter().enumerate() {
        assert_eq!(group.family.0.width, input.width(), "weights for maps of another width");
        let first = index * (shape.channels / weights.groups.len());
        let sizes = Sizes { shape, geometry: weights.geometry, input: bytes, padding, first };
        // SAFETY: `finish` checked output, bias, scale and residual, which are borrowed until the end.
        unsafe { convolve(sizes, group, &finish.at(column)) };
        column += group.n;
    }
}
