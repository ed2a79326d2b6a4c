//! Sizes of convolutions and pools, from the graph's description and a batch.

use graph::{Conv2d, Pool2d};
use kernels::train::Convolution;
use kernels::{ConvShape, Window};

/// For an input `[n, h, w, _]`.
pub(super) fn convolution(c: &Conv2d, [n, h, w, _]: [usize; 4]) -> Convolution {
    let p = c.padding;
    let size = |i: usize, size: usize, pad: usize| (size + pad - c.dilation[i] * (c.kernel[i] - 1) - 1) / c.stride[i] + 1;
    let output = [size(0, h, p.top + p.bottom), size(1, w, p.left + p.right)];
    let window = Window { kernel: c.kernel, stride: c.stride, dilation: c.dilation, padding: [p.top, p.left] };
    let shape = ConvShape { batch: n, input: [h, w], channels: c.in_channels, output, window };
    Convolution::new(shape, c.out_channels, c.groups)
}

/// A pool over `[n, h, w, c]`.
pub(super) fn pool(p: &Pool2d, [n, h, w, c]: [usize; 4]) -> ConvShape {
    let size = |i: usize, size: usize, pad: usize| (size + pad - p.kernel[i]) / p.stride[i] + 1;
    let output = [size(0, h, p.padding.top + p.padding.bottom), size(1, w, p.padding.left + p.padding.right)];
    let window = Window { kernel: p.kernel, stride: p.stride, dilation: [1; 2], padding: [p.padding.top, p.padding.left] };
    ConvShape { batch: n, input: [h, w], channels: c, output, window }
}

/// `[n, h, w, c]` read.
pub(super) fn read(s: &ConvShape) -> [usize; 4] {
    [s.batch, s.input[0], s.input[1], s.channels]
}
