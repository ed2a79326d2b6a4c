//! bf16 convolutions and linear layers.

use crate::bf16::isa::Bf16;
use crate::bf16::round;
use crate::conv::ConvShape;
use crate::dot::{Family, Geometry, PackedWords, Sizes, convolve};
use crate::gemm::Clamp;

/// Where results go, and in which form.
#[derive(Debug)]
pub enum Output<'a> {
    /// Rounded to bf16.
    Bf16(&'a mut [u16]),
    /// As f32.
    F32(&'a mut [f32]),
}

impl Output<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Bf16(out) => out.len(),
            Self::F32(out) => out.len(),
        }
    }
}

/// What is added to a product: bf16 where the output is, f32 where that is.
#[derive(Debug, Clone, Copy)]
pub enum Residual<'a> {
    /// bf16.
    Bf16(&'a [u16]),
    /// f32.
    F32(&'a [f32]),
}

/// What happens to a product before it is rounded and written: `clamp(product + bias + residual)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// One value a column.
    pub bias: Option<&'a [f32]>,
    /// Of the result's shape and kind.
    pub residual: Option<Residual<'a>>,
    /// The activation.
    pub clamp: Option<Clamp>,
}

/// [`Epilogue`] and the result, by pointers: row `r`, column `c` is at `r * stride + c`.
#[derive(Clone, Copy)]
pub(crate) struct Finish {
    pub bias: *const f32,
    /// bf16, or f32 where `wide`; or null.
    pub residual: *const u8,
    pub low: f32,
    pub high: f32,
    pub out: *mut u8,
    /// Results are f32.
    pub wide: bool,
    pub stride: usize,
}

// SAFETY: the pointers are those of borrows that outlive the call; each task writes rows and columns of its own.
unsafe impl Sync for Finish {}

/// Weights of a convolution, rounded to bf16 and packed: one operand a group.
#[derive(Debug, Clone)]
pub struct ConvWeights {
    groups: Vec<PackedWords<Bf16>>,
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
    pub fn new(weight: &[f32], out: usize, channels: usize, groups: usize, kernel: [usize; 2], dilation: [usize; 2]) -> Self {
        Self::for_isa(Bf16::best(), weight, out, channels, groups, kernel, dilation)
    }

    pub(crate) fn for_isa(
        isa: Bf16,
        weight: &[f32],
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
                isa.bits(round(weight[((g * columns + column) * count + k % count) * taps + k / count]))
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

/// A convolution of bf16 `input` `[N, H, W, C]` into `output` `[N, OH, OW, out]`; a linear layer is one with `[1, 1]` maps.
///
/// # Panics
/// Where sizes disagree.
pub fn conv2d(output: Output, input: &[u16], shape: &ConvShape, weights: &ConvWeights, epilogue: &Epilogue) {
    let columns = weights.columns();
    let pixels = shape.batch * shape.output[0] * shape.output[1];
    assert_eq!(input.len(), shape.batch * shape.input[0] * shape.input[1] * shape.channels, "input");
    assert_eq!(output.len(), pixels * columns, "output");
    let window = &shape.window;
    let packed = (weights.kernel, weights.dilation, weights.channels);
    assert_eq!((window.kernel, window.dilation, shape.channels), packed, "weights of another convolution");
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == columns), "one bias a column");
    let clamp = epilogue.clamp.unwrap_or(Clamp { low: f32::NEG_INFINITY, high: f32::INFINITY });
    let (out, wide) = match output {
        Output::Bf16(out) => (out.as_mut_ptr().cast::<u8>(), false),
        Output::F32(out) => (out.as_mut_ptr().cast::<u8>(), true),
    };
    let (residual, matches) = match epilogue.residual {
        None => (std::ptr::null(), true),
        Some(Residual::Bf16(r)) => (r.as_ptr().cast::<u8>(), !wide && r.len() == pixels * columns),
        Some(Residual::F32(r)) => (r.as_ptr().cast::<u8>(), wide && r.len() == pixels * columns),
    };
    assert!(matches, "a residual of the result's shape and kind");
    let size = if wide { 4 } else { 2 };
    let mut column = 0;
    for (index, group) in weights.groups.iter().enumerate() {
        let finish = Finish {
            bias: epilogue.bias.map_or(std::ptr::null(), |b| b.as_ptr().wrapping_add(column)),
            residual: if residual.is_null() { residual } else { residual.wrapping_add(column * size) },
            low: clamp.low,
            high: clamp.high,
            out: out.wrapping_add(column * size),
            wide,
            stride: columns,
        };
        // SAFETY: a u16 is two bytes, any of which make a byte.
        let bytes = unsafe { std::slice::from_raw_parts(input.as_ptr().cast::<u8>(), input.len() * 2) };
        let first = index * (shape.channels / weights.groups.len());
        let sizes = Sizes { shape, geometry: weights.geometry, input: bytes, padding: 0, first };
        // SAFETY: output, bias and residual were checked above, and are borrowed until the end.
        unsafe { convolve(sizes, group, &finish) };
        column += group.n;
    }
}
