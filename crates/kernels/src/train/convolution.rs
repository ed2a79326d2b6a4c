//! Convolutions forward and back: which way each is computed.

use super::{dense, depthwise, weight, winograd_weight};
use crate::conv::ConvShape;
use crate::dispatch::Isa;
use crate::gemm::Epilogue;
use crate::value::{Value, Values, ValuesMut, alike};

/// A convolution with the sizes of one batch: input `[N, H, W, C]`, output `[N, OH, OW, O]`, weight `[O, C / groups, KH, KW]`.
#[derive(Debug, Clone, Copy)]
pub struct Convolution {
    pub(super) shape: ConvShape,
    pub(super) outputs: usize,
    pub(super) groups: usize,
    pub(super) isa: Isa,
}

impl Convolution {
    /// A convolution of `shape` to `outputs` channels.
    ///
    /// # Panics
    /// Where the channels are no whole groups.
    pub fn new(shape: ConvShape, outputs: usize, groups: usize) -> Self {
        Self::on(Isa::best(), shape, outputs, groups)
    }

    pub(crate) fn on(isa: Isa, shape: ConvShape, outputs: usize, groups: usize) -> Self {
        let whole = groups > 0 && shape.channels.is_multiple_of(groups) && outputs.is_multiple_of(groups);
        assert!(whole, "{} channels to {outputs} in {groups} groups", shape.channels);
        Self { shape, outputs, groups, isa }
    }

    /// Sizes of the input, the window and the output.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Channels written.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Values of an input.
    pub fn input_len(&self) -> usize {
        self.shape.batch * self.shape.input[0] * self.shape.input[1] * self.shape.channels
    }

    /// Values of an output.
    pub fn output_len(&self) -> usize {
        self.shape.pixels() * self.outputs
    }

    /// Values of the weight.
    pub fn weight_len(&self) -> usize {
        self.outputs * self.inner() * self.taps()
    }

    pub(super) fn taps(&self) -> usize {
        self.shape.window.kernel[0] * self.shape.window.kernel[1]
    }

    /// Input channels of a group.
    pub(super) fn inner(&self) -> usize {
        self.shape.channels / self.groups
    }

    /// Output channels of a group.
    pub(super) fn each(&self) -> usize {
        self.outputs / self.groups
    }

    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.shape.channels && self.outputs == self.groups
    }

    pub(super) fn is_pointwise(&self) -> bool {
        self.groups == 1 && self.shape.is_pointwise()
    }

    /// The output, with what comes after it in the same pass: a bias a channel, a residual of the output's shape (where values are f32), bounds.
    ///
    /// # Panics
    /// Where sizes or kinds disagree.
    pub fn forward<'a, 'b>(&self, y: impl Into<ValuesMut<'a>>, x: impl Into<Values<'b>>, weight: &[f32], epilogue: &Epilogue) {
        alike!((y; x) => self.forward_of(y, x, weight, epilogue));
    }

    fn forward_of<T: Value>(&self, y: &mut [T], x: &[T], weight: &[f32], epilogue: &Epilogue) {
        self.check(x.len(), y.len(), weight.len());
        if self.is_depthwise() && epilogue.residual.is_none() {
            return depthwise::forward(self, y, x, weight, epilogue);
        }
        dense::forward(self, y, x, weight, epilogue);
    }

    /// The gradient `dx` by the input from the gradient `dy` by the output, written or (`accumulate`) added to `dx`.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn input_gradient<'a, 'b>(&self, dx: impl Into<ValuesMut<'a>>, dy: impl Into<Values<'b>>, weight: &[f32], accumulate: bool) {
        alike!((dx; dy) => self.input_gradient_of(dx, dy, weight, accumulate));
    }

    fn input_gradient_of<T: Value>(&self, dx: &mut [T], dy: &[T], weight: &[f32], accumulate: bool) {
        self.check(dx.len(), dy.len(), weight.len());
        if self.is_depthwise() {
            return depthwise::input_gradient(self, dx, dy, weight, accumulate);
        }
        dense::input_gradient(self, dx, dy, weight, accumulate);
    }

    /// The gradient `dw` by the weight from the gradient `dy` by the output.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn weight_gradient<'a, 'b>(&self, dw: &mut [f32], dy: impl Into<Values<'a>>, x: impl Into<Values<'b>>) {
        alike!((; dy, x) => self.weight_gradient_of(dw, dy, x));
    }

    fn weight_gradient_of<T: Value>(&self, dw: &mut [f32], dy: &[T], x: &[T]) {
        self.check(x.len(), dy.len(), dw.len());
        if self.is_depthwise() {
            return depthwise::weight_gradient(self, dw, dy, x);
        }
        if winograd_weight::gains(self) {
            return winograd_weight::weight_gradient(self, dw, dy, x);
        }
        weight::weight_gradient(self, dw, dy, x);
    }

    fn check(&self, input: usize, output: usize, weight: usize) {
        assert_eq!(input, self.input_len(), "input");
        assert_eq!(output, self.output_len(), "output");
        assert_eq!(weight, self.weight_len(), "weight");
    }

    /// Whether the gradient by the input is a convolution of stride 1 with the window mirrored, and its shape.
    pub(super) fn mirrored(&self) -> Option<ConvShape> {
        let w = self.shape.window;
        let reach = [0, 1].map(|i| w.dilation[i] * (w.kernel[i] - 1));
        if w.stride != [1; 2] || w.padding[0] > reach[0] || w.padding[1] > reach[1] {
            return None;
        }
        let window = crate::conv::Window { padding: [reach[0] - w.padding[0], reach[1] - w.padding[1]], ..w };
        Some(ConvShape { batch: self.shape.batch, input: self.shape.output, channels: self.outputs, output: self.shape.input, window })
    }
}
