//! int8 convolutions and linear layers.

use crate::conv::ConvShape;
use crate::dot::{Family, Geometry, PackedWords, Sizes, convolve};
use crate::int8::isa::Int8;
use crate::int8::maps::Quant;

/// Where results go, and in which form.
#[derive(Debug)]
pub enum Output<'a> {
    /// Bytes of the output's scale: [`Epilogue::scale`] is the product's scale over the output's.
    U8(&'a mut [u8]),
    /// As f32: [`Epilogue::scale`] is the product's scale.
    F32(&'a mut [f32]),
}

/// What is added to a product.
#[derive(Debug, Clone, Copy)]
pub enum Residual<'a> {
    /// Bytes of another scale: where the output is bytes.
    U8(&'a [u8], Quant),
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
    /// Scale and zero point of bytes written (unused for f32).
    pub output: Quant,
    /// Bounds of the result, in real units: the activation.
    pub low: f32,
    /// The upper bound.
    pub high: f32,
}

/// [`Epilogue`] and the result, by pointers: row `r`, column `c` is at `r * stride + c`.
#[derive(Clone, Copy)]
pub(crate) struct Finish {
    pub bias: *const i32,
    pub scale: *const f32,
    /// Bytes, or f32 where `wide`; or null.
    pub residual: *const u8,
    pub residual_scale: f32,
    pub residual_zero: i32,
    /// Bounds: of the f32, or of bytes before the zero point is added.
    pub low: f32,
    pub high: f32,
    pub zero: i32,
    pub out: *mut u8,
    /// Results are f32.
    pub wide: bool,
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
    groups: Vec<PackedWords<Int8>>,
    geometry: Geometry,
    kernel: [usize; 2],
    dilation: [usize; 2],
    channels: usize,
}

impl ConvWeights {
    /// Packs `weight` `[out, channels / groups, KH, KW]`.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn new(weight: &[i8], out: usize, channels: usize, groups: usize, kernel: [usize; 2], dilation: [usize; 2]) -> Self {
        Self::for_isa(Int8::best(), weight, out, channels, groups, kernel, dilation)
    }

    pub(crate) fn for_isa(
        isa: Int8,
        weight: &[i8],
        out: usize,
        channels: usize,
        groups: usize,
        kernel: [usize; 2],
        dilation: [usize; 2],
    ) -> Self {
        let (taps, count, columns) = (kernel[0] * kernel[1], channels / groups, out / groups);
        assert_eq!(weight.len(), out * count * taps, "weights");
        let geometry = Geometry::new(kernel, dilation, channels, groups, isa.word_bytes());
        let pack = |g: usize| {
            PackedWords::new(isa, geometry.layout, columns, |segment, at, column| {
                let k = segment * geometry.layout.run + at;
                u32::from(weight[((g * columns + column) * count + k % count) * taps + k / count] as u8)
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

/// A convolution of `input` `[N, H, W, C]`, bytes whose zero point (and so padding) is `zero`, into `output` `[N, OH, OW, out]`; a linear
/// layer is one with `[1, 1]` maps.
///
/// # Panics
/// Where sizes disagree, or residual and output are of different kinds.
pub fn conv2d(output: Output, input: &[u8], zero: u8, shape: &ConvShape, weights: &ConvWeights, epilogue: &Epilogue) {
    let columns = weights.columns();
    let pixels = shape.batch * shape.output[0] * shape.output[1];
    assert_eq!(input.len(), shape.batch * shape.input[0] * shape.input[1] * shape.channels, "input");
    let window = &shape.window;
    let packed = (weights.kernel, weights.dilation, weights.channels);
    assert_eq!((window.kernel, window.dilation, shape.channels), packed, "weights of another convolution");
    assert!(epilogue.bias.len() == columns && epilogue.scale.len() == columns, "one bias and scale a column");
    let (out, wide, length) = match output {
        Output::U8(out) => (out.as_mut_ptr(), false, out.len()),
        Output::F32(out) => (out.as_mut_ptr().cast::<u8>(), true, out.len()),
    };
    assert_eq!(length, pixels * columns, "output");
    let (low, high) = if wide { (epilogue.low, epilogue.high) } else { epilogue.output.bounds(epilogue.low, epilogue.high) };
    let (residual, quant) = match epilogue.residual {
        None => (std::ptr::null(), Quant::default()),
        Some(Residual::U8(bytes, quant)) => {
            assert!(!wide && bytes.len() == length, "a residual of the result's shape and kind");
            (bytes.as_ptr(), quant)
        }
        Some(Residual::F32(values)) => {
            assert!(wide && values.len() == length, "a residual of the result's shape and kind");
            (values.as_ptr().cast::<u8>(), Quant::default())
        }
    };
    let size = if wide { 4 } else { 1 };
    let mut column = 0;
    for (index, group) in weights.groups.iter().enumerate() {
        let finish = Finish {
            bias: epilogue.bias[column..].as_ptr(),
            scale: epilogue.scale[column..].as_ptr(),
            residual: if residual.is_null() { residual } else { residual.wrapping_add(column * size) },
            residual_scale: quant.scale / epilogue.output.scale,
            residual_zero: i32::from(quant.zero),
            low,
            high,
            zero: i32::from(epilogue.output.zero),
            out: out.wrapping_add(column * size),
            wide,
            stride: columns,
        };
        let first = index * (shape.channels / weights.groups.len());
        let sizes = Sizes { shape, geometry: weights.geometry, input, padding: zero, first };
        // SAFETY: output, bias, scale and residual were checked above, and are borrowed until the end.
        unsafe { convolve(sizes, group, &finish) };
        column += group.n;
    }
}
