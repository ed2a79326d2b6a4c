//! Convolutions forward and back, on slices: feature maps `[N, H, W, C]`, weights as the graph keeps them, `[O, I / groups, KH, KW]`.

// Loops by index over arrays of fixed size: the form that becomes vectors in registers.
#![allow(clippy::needless_range_loop)]

use graph::Conv2d;
use kernels::{ConvShape, Epilogue, Loops, Matrix, PackedB, Window, gemm, gemm_packed, vectorized};
use rayon::prelude::*;

/// Values of a block of patches, at most: it should stay in the second level of cache.
const BLOCK: usize = 1 << 18;

/// A convolution with the sizes of one batch.
#[derive(Debug, Clone)]
pub(super) struct Conv {
    shape: ConvShape,
    out: usize,
    groups: usize,
    depthwise: bool,
}

impl Conv {
    /// For an input `[n, h, w, _]`.
    pub(super) fn new(c: &Conv2d, [n, h, w, _]: [usize; 4]) -> Self {
        let p = c.padding;
        let size = |i: usize, size: usize, pad: usize| (size + pad - c.dilation[i] * (c.kernel[i] - 1) - 1) / c.stride[i] + 1;
        let output = [size(0, h, p.top + p.bottom), size(1, w, p.left + p.right)];
        let window = Window { kernel: c.kernel, stride: c.stride, dilation: c.dilation, padding: [p.top, p.left] };
        let shape = ConvShape { batch: n, input: [h, w], channels: c.in_channels, output, window };
        Self { shape, out: c.out_channels, groups: c.groups, depthwise: c.is_depthwise() }
    }

    /// `[n, oh, ow, out]`.
    pub(super) fn output(&self) -> [usize; 4] {
        [self.shape.batch, self.shape.output[0], self.shape.output[1], self.out]
    }

    /// `[n, h, w, c]`.
    pub(super) fn input(&self) -> [usize; 4] {
        [self.shape.batch, self.shape.input[0], self.shape.input[1], self.shape.channels]
    }

    fn taps(&self) -> usize {
        self.shape.window.kernel[0] * self.shape.window.kernel[1]
    }

    /// Input channels of a group.
    fn inner(&self) -> usize {
        self.shape.channels / self.groups
    }

    /// Output pixels of one image.
    fn pixels(&self) -> usize {
        self.shape.output[0] * self.shape.output[1]
    }

    fn is_pointwise(&self) -> bool {
        let w = &self.shape.window;
        self.groups == 1 && w.kernel == [1; 2] && w.stride == [1; 2] && self.shape.input == self.shape.output
    }

    /// The output.
    pub(super) fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let mut y = vec![0.0; self.output().iter().product()];
        if self.depthwise {
            kernels::depthwise(&mut y, x, &self.shape, &swap_minor(weight, 1, self.out, self.taps()), bias, None);
            return y;
        }
        let (k, each) = (self.taps() * self.inner(), self.out / self.groups);
        let weight = swap_minor(weight, self.out, self.inner(), self.taps());
        let packed: Vec<PackedB> = weight.chunks_exact(k * each).map(|w| PackedB::new(Matrix::new(w, each, k).t())).collect();
        kernels::conv2d(&mut y, x, &self.shape, &packed, &Epilogue { bias, ..Default::default() });
        y
    }

    /// The gradient by the input, from the gradient by the output.
    pub(super) fn input_gradient(&self, dy: &[f32], weight: &[f32]) -> Vec<f32> {
        let w = &self.shape.window;
        let reach = [0, 1].map(|i| w.dilation[i] * (w.kernel[i] - 1));
        let mirrored = w.stride == [1; 2] && w.padding[0] <= reach[0] && w.padding[1] <= reach[1];
        match (mirrored, self.depthwise) {
            (true, true) => self.depthwise_mirrored(dy, weight, reach),
            (true, false) => self.mirrored(dy, weight, reach),
            (false, true) => self.depthwise_gathered(dy, weight),
            (false, false) => self.scattered(dy, weight),
        }
    }

    /// The shape that runs backwards: stride 1, the window mirrored.
    fn mirrored_shape(&self, reach: [usize; 2]) -> ConvShape {
        let w = self.shape.window;
        let window = Window { padding: [reach[0] - w.padding[0], reach[1] - w.padding[1]], ..w };
        ConvShape { batch: self.shape.batch, input: self.shape.output, channels: self.out, output: self.shape.input, window }
    }

    fn mirrored(&self, dy: &[f32], weight: &[f32], reach: [usize; 2]) -> Vec<f32> {
        let (inner, taps, each) = (self.inner(), self.taps(), self.out / self.groups);
        let mut dx = vec![0.0; self.input().iter().product()];
        let mut packed = Vec::with_capacity(self.groups);
        for group in swap_minor(weight, self.out, inner, taps).chunks_exact(each * taps * inner) {
            // Rows: mirrored tap, output channel; columns: input channel.
            let mut rows = vec![0.0; group.len()];
            for (t, block) in rows.chunks_exact_mut(each * inner).enumerate() {
                for (o, row) in block.chunks_exact_mut(inner).enumerate() {
                    let from = (o * taps + taps - 1 - t) * inner;
                    row.copy_from_slice(&group[from..from + inner]);
                }
            }
            packed.push(PackedB::new(Matrix::new(&rows, taps * each, inner)));
        }
        kernels::conv2d(&mut dx, dy, &self.mirrored_shape(reach), &packed, &Epilogue::default());
        dx
    }

    fn depthwise_mirrored(&self, dy: &[f32], weight: &[f32], reach: [usize; 2]) -> Vec<f32> {
        let by_tap = swap_minor(weight, 1, self.out, self.taps());
        let mirrored: Vec<f32> = by_tap.chunks_exact(self.out).rev().flatten().copied().collect();
        let mut dx = vec![0.0; self.input().iter().product()];
        kernels::depthwise(&mut dx, dy, &self.mirrored_shape(reach), &mirrored, None, None);
        dx
    }

    /// Each row of the input gathers from the outputs that read it.
    fn depthwise_gathered(&self, dy: &[f32], weight: &[f32]) -> Vec<f32> {
        let ([h, w], [oh, ow], c, window) = (self.shape.input, self.shape.output, self.out, self.shape.window);
        let by_tap = swap_minor(weight, 1, c, self.taps());
        let mut dx = vec![0.0; self.input().iter().product()];
        let target = |axis: usize, at: usize, tap: usize, size: usize| {
            let offset = (at + window.padding[axis]).checked_sub(tap * window.dilation[axis])?;
            let out = offset / window.stride[axis];
            (offset.is_multiple_of(window.stride[axis]) && out < size).then_some(out)
        };
        dx.par_chunks_mut(w * c).enumerate().for_each(|(line, row)| {
            let (n, y) = (line / h, line % h);
            for ky in 0..window.kernel[0] {
                let Some(oy) = target(0, y, ky, oh) else { continue };
                let source = &dy[(n * oh + oy) * ow * c..][..ow * c];
                for kx in 0..window.kernel[1] {
                    let tap = &by_tap[(ky * window.kernel[1] + kx) * c..][..c];
                    // The columns that this tap reaches lie `stride` apart, their outputs side by side.
                    let columns = (0..w).filter_map(|x| target(1, x, kx, ow).map(|ox| (x, ox)));
                    let (mut start, mut count) = ((0, 0), 0);
                    for (x, ox) in columns {
                        if count == 0 {
                            start = (x, ox);
                        }
                        count += 1;
                    }
                    let row = &mut row[start.0 * c..];
                    vectorized(Gather { row, step: window.stride[1], source: &source[start.1 * c..], tap, count });
                }
            }
        });
        dx
    }

    /// Image by image: the gradient of every patch, scattered onto the image.
    fn scattered(&self, dy: &[f32], weight: &[f32]) -> Vec<f32> {
        let (inner, taps, each, pixels) = (self.inner(), self.taps(), self.out / self.groups, self.pixels());
        let (k, image) = (inner * taps, self.shape.input[0] * self.shape.input[1] * self.shape.channels);
        let weight = swap_minor(weight, self.out, inner, taps);
        let packed: Vec<PackedB> = weight.chunks_exact(each * k).map(|w| PackedB::new(Matrix::new(w, each, k))).collect();
        let mut dx = vec![0.0; self.input().iter().product()];
        dx.par_chunks_mut(image.max(1)).zip(dy.par_chunks((pixels * self.out).max(1))).for_each(|(dx, dy)| {
            let mut patches = vec![0.0; pixels * k];
            for (group, packed) in packed.iter().enumerate() {
                let a = Matrix::strided(&dy[group * each..], pixels, each, self.out);
                gemm_packed(&mut patches, a, packed, false, &Epilogue::default());
                self.each_patch_run(group, |patch, pixel| {
                    let from = &patches[patch..patch + inner];
                    dx[pixel..pixel + inner].iter_mut().zip(from).for_each(|(d, p)| *d += p);
                });
            }
        });
        dx
    }

    /// Calls `f(position in [pixels, taps × inner], position in the image)` for each run of a group's channels inside the image.
    fn each_patch_run(&self, group: usize, mut f: impl FnMut(usize, usize)) {
        let ([h, w], [_, ow], window, inner) = (self.shape.input, self.shape.output, self.shape.window, self.inner());
        let source = |axis: usize, out: usize, tap: usize, size: usize| {
            (out * window.stride[axis] + tap * window.dilation[axis]).checked_sub(window.padding[axis]).filter(|&at| at < size)
        };
        for pixel in 0..self.pixels() {
            let (oy, ox) = (pixel / ow, pixel % ow);
            for ky in 0..window.kernel[0] {
                let Some(y) = source(0, oy, ky, h) else { continue };
                for kx in 0..window.kernel[1] {
                    let Some(x) = source(1, ox, kx, w) else { continue };
                    let patch = (pixel * self.taps() + ky * window.kernel[1] + kx) * inner;
                    f(patch, (y * w + x) * self.shape.channels + group * inner);
                }
            }
        }
    }

    /// The gradient by the weight, `[O, I / groups, KH, KW]`.
    pub(super) fn weight_gradient(&self, dy: &[f32], x: &[f32]) -> Vec<f32> {
        // The number of parts depends on the sizes alone, so that sums do not depend on the number of threads.
        let n = self.shape.batch;
        let parts = if n * self.pixels() >= 16_384 { 4 } else { 2 }.min(n.max(1));
        let images = n.div_ceil(parts).max(1);
        let (image, pixels) = (self.shape.input[0] * self.shape.input[1] * self.shape.channels, self.pixels() * self.out);
        let sums: Vec<Vec<f32>> = (0..parts)
            .into_par_iter()
            .map(|part| {
                let (from, to) = ((part * images).min(n), ((part + 1) * images).min(n));
                self.weight_gradient_of(&dy[from * pixels..to * pixels], &x[from * image..to * image], to - from)
            })
            .collect();
        let mut sums = sums.into_iter();
        let mut total = sums.next().unwrap_or_default();
        for sum in sums {
            total.iter_mut().zip(sum).for_each(|(a, b)| *a += b);
        }
        if self.depthwise { swap_minor(&total, 1, self.taps(), self.out) } else { swap_minor(&total, self.out, self.taps(), self.inner()) }
    }

    /// `[O, taps, I / groups]` (depthwise: `[taps, C]`), from some images.
    fn weight_gradient_of(&self, dy: &[f32], x: &[f32], images: usize) -> Vec<f32> {
        if self.depthwise {
            return self.depthwise_weight_gradient(dy, x, images);
        }
        let (inner, each, pixels) = (self.inner(), self.out / self.groups, self.pixels());
        let k = inner * self.taps();
        let mut dw = vec![0.0; self.out * k];
        if self.is_pointwise() {
            gemm(&mut dw, Matrix::new(dy, images * pixels, self.out).t(), Matrix::new(x, images * pixels, k), false);
            return dw;
        }
        let image = self.shape.input[0] * self.shape.input[1] * self.shape.channels;
        let block = (BLOCK / (pixels * k).max(1)).clamp(1, images.max(1));
        let mut patches = vec![0.0; block * pixels * k];
        for first in (0..images).step_by(block) {
            let count = block.min(images - first);
            for (group, dw) in dw.chunks_exact_mut(each * k).enumerate() {
                for (i, patches) in patches.chunks_exact_mut(pixels * k).take(count).enumerate() {
                    let x = &x[(first + i) * image..][..image];
                    patches.fill(0.0);
                    self.each_patch_run(group, |patch, pixel| patches[patch..patch + inner].copy_from_slice(&x[pixel..pixel + inner]));
                }
                let rows = count * pixels;
                let a = Matrix::strided(&dy[first * pixels * self.out + group * each..], rows, each, self.out).t();
                gemm(dw, a, Matrix::new(&patches[..rows * k], rows, k), true);
            }
        }
        dw
    }

    fn depthwise_weight_gradient(&self, dy: &[f32], x: &[f32], images: usize) -> Vec<f32> {
        let mut dw = vec![0.0; self.taps() * self.out];
        let [h, oh] = [self.shape.input[0], self.shape.output[0]];
        let (line, out_line) = (self.shape.input[1] * self.out, self.shape.output[1] * self.out);
        let w = self.shape.window;
        for row in 0..images * oh {
            for ky in 0..w.kernel[0] {
                let at = (row % oh * w.stride[0] + ky * w.dilation[0]).checked_sub(w.padding[0]).filter(|&y| y < h);
                let Some(y) = at else { continue };
                let meeting = Meeting {
                    dy: &dy[row * out_line..][..out_line],
                    x: &x[(row / oh * h + y) * line..][..line],
                    dw: &mut dw[ky * w.kernel[1] * self.out..][..w.kernel[1] * self.out],
                    channels: self.out,
                    shape: &self.shape,
                };
                match w.kernel[1] {
                    3 => vectorized(Meet::<3>(meeting)),
                    5 => vectorized(Meet::<5>(meeting)),
                    7 => vectorized(Meet::<7>(meeting)),
                    _ => meeting.meet_any(),
                }
            }
        }
        dw
    }
}

/// Some columns of a row gather from the outputs side by side: every `step`-th pixel of `row` `+= source × tap`.
struct Gather<'a> {
    row: &'a mut [f32],
    step: usize,
    source: &'a [f32],
    tap: &'a [f32],
    count: usize,
}

impl Loops for Gather<'_> {
    #[inline(always)]
    fn run(self) {
        let c = self.tap.len();
        for (pixel, source) in self.row.chunks_mut(self.step * c).zip(self.source.chunks_exact(c)).take(self.count) {
            for ((d, &s), &t) in pixel[..c].iter_mut().zip(source).zip(self.tap) {
                *d += s * t;
            }
        }
    }
}

/// A row of output gradients meets a row of inputs: their products are the gradients of one row of taps, `[KW, C]`.
struct Meeting<'a> {
    dy: &'a [f32],
    x: &'a [f32],
    dw: &'a mut [f32],
    channels: usize,
    shape: &'a ConvShape,
}

impl Meeting<'_> {
    #[inline(always)]
    fn source(&self, ox: usize, kx: usize) -> Option<usize> {
        let w = &self.shape.window;
        (ox * w.stride[1] + kx * w.dilation[1]).checked_sub(w.padding[1]).filter(|&x| x < self.shape.input[1])
    }

    fn meet_any(self) {
        let c = self.channels;
        for (ox, dy) in self.dy.chunks_exact(c).enumerate() {
            for kx in 0..self.shape.window.kernel[1] {
                if let Some(x) = self.source(ox, kx) {
                    let products = dy.iter().zip(&self.x[x * c..(x + 1) * c]);
                    self.dw[kx * c..(kx + 1) * c].iter_mut().zip(products).for_each(|(d, (&a, &b))| *d += a * b);
                }
            }
        }
    }
}

/// With `K` taps in the row.
struct Meet<'a, const K: usize>(Meeting<'a>);

impl<const K: usize> Loops for Meet<'_, K> {
    #[inline(always)]
    fn run(mut self) {
        let mut c = 0;
        while c < self.0.channels {
            c += match self.0.channels - c {
                16.. => meet_block::<K, 16>(&mut self.0, c),
                8.. => meet_block::<K, 8>(&mut self.0, c),
                _ => meet_block::<K, 1>(&mut self.0, c),
            };
        }
    }
}

/// `W` channels from `c`, the sums of all taps in registers.
#[inline(always)]
fn meet_block<const K: usize, const W: usize>(m: &mut Meeting<'_>, c: usize) -> usize {
    let channels = m.channels;
    let mut sums = [[0.0f32; W]; K];
    for ox in 0..m.shape.output[1] {
        let mut dy = [0.0f32; W];
        dy.copy_from_slice(&m.dy[ox * channels + c..][..W]);
        // Inside the image the taps lie side by side; at its edges some are missing.
        if let (Some(first), Some(_)) = (m.source(ox, 0), m.source(ox, K - 1)) {
            let step = m.shape.window.dilation[1] * channels;
            for (kx, sum) in sums.iter_mut().enumerate() {
                let x = &m.x[first * channels + kx * step + c..][..W];
                for i in 0..W {
                    sum[i] += dy[i] * x[i];
                }
            }
        } else {
            for (kx, sum) in sums.iter_mut().enumerate() {
                if let Some(x) = m.source(ox, kx) {
                    let x = &m.x[x * channels + c..][..W];
                    for i in 0..W {
                        sum[i] += dy[i] * x[i];
                    }
                }
            }
        }
    }
    for (kx, sum) in sums.iter().enumerate() {
        m.dw[kx * channels + c..][..W].iter_mut().zip(sum).for_each(|(d, s)| *d += s);
    }
    W
}

/// Sums of the columns of `[rows, columns]`: the gradient by a bias.
pub(super) fn column_sums(dy: &[f32], columns: usize) -> Vec<f32> {
    const ROWS: usize = 4096;
    let parts: Vec<Vec<f32>> = dy
        .par_chunks(ROWS * columns)
        .map(|rows| {
            let mut sum = vec![0.0f32; columns];
            vectorized(AddRows { sum: &mut sum, rows });
            sum
        })
        .collect();
    let mut total = vec![0.0f64; columns];
    parts.iter().for_each(|part| total.iter_mut().zip(part).for_each(|(t, &p)| *t += f64::from(p)));
    total.into_iter().map(|t| t as f32).collect()
}

struct AddRows<'a> {
    sum: &'a mut [f32],
    rows: &'a [f32],
}

impl Loops for AddRows<'_> {
    #[inline(always)]
    fn run(self) {
        for row in self.rows.chunks_exact(self.sum.len().max(1)) {
            self.sum.iter_mut().zip(row).for_each(|(s, &v)| *s += v);
        }
    }
}

/// `[major, a, b] -> [major, b, a]`.
fn swap_minor(values: &[f32], major: usize, a: usize, b: usize) -> Vec<f32> {
    if a == 1 || b == 1 {
        return values.to_vec();
    }
    let mut swapped = vec![0.0; major * a * b];
    let block = |(to, from): (&mut [f32], &[f32])| {
        for (j, row) in to.chunks_exact_mut(a).enumerate() {
            for (i, value) in row.iter_mut().enumerate() {
                *value = from[i * b + j];
            }
        }
    };
    swapped.par_chunks_mut(a * b).zip(values.par_chunks(a * b)).with_min_len((1 << 14) / (a * b) + 1).for_each(block);
    swapped
}
