//! The operations a graph may contain.

use serde::{Deserialize, Serialize};

/// Zeros added around the height and width of a feature map; asymmetric padding is TensorFlow's `SAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same padding on all four sides.
    pub const fn same(p: usize) -> Self {
        Self { top: p, left: p, bottom: p, right: p }
    }

    /// TensorFlow's `SAME` for an input of `size = [H, W]`: the output has `ceil(size / stride)` rows and columns, the odd zero goes
    /// below and to the right.
    pub fn tensorflow_same(size: [usize; 2], kernel: [usize; 2], stride: [usize; 2]) -> Self {
        let total = |i: usize| {
            let out = size[i].div_ceil(stride[i]);
            ((out - 1) * stride[i] + kernel[i]).saturating_sub(size[i])
        };
        let (h, w) = (total(0), total(1));
        Self { top: h / 2, left: w / 2, bottom: h - h / 2, right: w - w / 2 }
    }
}

/// A two-dimensional convolution, weight `[out_channels, in_channels / groups, kernel_h, kernel_w]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv2d {
    /// Channels read.
    pub in_channels: usize,
    /// Channels written.
    pub out_channels: usize,
    /// `[height, width]` of the kernel.
    pub kernel: [usize; 2],
    /// `[rows, columns]` between outputs.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: Padding,
    /// `[rows, columns]` between kernel taps.
    pub dilation: [usize; 2],
    /// Groups of channels that do not mix; `in_channels` makes it depthwise.
    pub groups: usize,
    /// Whether a bias `[out_channels]` is added.
    pub bias: bool,
}

impl Conv2d {
    /// A square convolution with stride 1, no padding, no dilation, one group and no bias.
    pub fn new(in_channels: usize, out_channels: usize, kernel: usize) -> Self {
        Self {
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: Padding::default(),
            dilation: [1; 2],
            groups: 1,
            bias: false,
        }
    }

    /// Sets the stride in both directions.
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = [stride; 2];
        self
    }

    /// Sets the same padding on all sides.
    pub fn padding(mut self, padding: usize) -> Self {
        self.padding = Padding::same(padding);
        self
    }

    /// Sets the padding side by side.
    pub fn pad(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// Sets the number of groups.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Adds a bias.
    pub fn with_bias(mut self) -> Self {
        self.bias = true;
        self
    }

    /// Whether every output channel reads exactly one input channel.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.in_channels && self.in_channels == self.out_channels
    }
}

/// A fully connected layer over the last dimension, weight `[out_features, in_features]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linear {
    /// Size of the last dimension read.
    pub in_features: usize,
    /// Size of the last dimension written.
    pub out_features: usize,
    /// Whether a bias `[out_features]` is added.
    pub bias: bool,
}

/// Batch normalisation over channels (Ioffe and Szegedy, 2015).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm {
    /// Channels.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Share of the new batch in the running statistics (PyTorch's convention; .1 by default).
    pub momentum: f32,
}

/// Layer normalisation over the last dimension (Ba et al., 2016).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerNorm {
    /// Size of the last dimension.
    pub features: usize,
    /// Added to the variance.
    pub eps: f32,
}

/// A square pooling window. Padded positions never win a maximum; an average counts them only where `count_include_pad`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool2d {
    /// `[height, width]` of the window.
    pub kernel: [usize; 2],
    /// `[rows, columns]` between windows.
    pub stride: [usize; 2],
    /// Padding around the input.
    pub padding: Padding,
    /// For averages: padded zeros count in the divisor.
    pub count_include_pad: bool,
}

impl Pool2d {
    /// A square window.
    pub fn new(kernel: usize, stride: usize, padding: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: Padding::same(padding), count_include_pad: true }
    }
}

/// Elementwise non-linearities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x Φ(x)`, exact (by erf).
    Gelu,
    /// `x σ(x)`.
    Silu,
    /// `x relu6(x + 3) / 6`.
    HardSwish,
    /// `relu6(x + 3) / 6`.
    HardSigmoid,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

/// What a node computes. Shapes leave out the batch dimension, which stays symbolic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// The image batch `[C, H, W]`; always node 0, and there only.
    Input {
        /// `[C, H, W]`.
        shape: Vec<usize>,
    },
    /// `[C, H, W] -> [C', H', W']`.
    Conv2d(Conv2d),
    /// `[.., in] -> [.., out]`.
    Linear(Linear),
    /// `[C, H, W]` or `[C]`, same shape.
    BatchNorm(BatchNorm),
    /// `[.., features]`, same shape.
    LayerNorm(LayerNorm),
    /// Any shape, same shape.
    Activation(Activation),
    /// `[C, H, W] -> [C, H', W']`.
    MaxPool2d(Pool2d),
    /// `[C, H, W] -> [C, H', W']`.
    AvgPool2d(Pool2d),
    /// `[C, H, W] -> [C]`.
    GlobalAvgPool,
    /// `[..] -> [product]`.
    Flatten,
    /// Two equal shapes.
    Add,
    /// Two equal shapes, or `[C, H, W]` times `[C]` (channel gates).
    Mul,
    /// Two or more maps joined along the channels (the first dimension after the batch).
    Concat,
    /// Zeroes each value with probability `p` in training and scales the rest by `1 / (1 - p)`; the identity otherwise.
    Dropout {
        /// In `0..1`.
        p: f32,
    },
    /// Stochastic depth: zeroes whole samples of a residual branch with probability `p` in training (Huang et al., 2016).
    DropPath {
        /// In `0..1`.
        p: f32,
    },
    /// `[D, H, W] -> [H * W, D]`.
    ToTokens,
    /// `[H * W, D] -> [D, H, W]`: the way back of `ToTokens`.
    ToMap {
        /// `[H, W]`.
        size: [usize; 2],
    },
    /// `[F, ..] -> [len, ..]`: a range of the first dimension (channels of maps, tokens, features of vectors).
    Slice {
        /// First kept.
        start: usize,
        /// Number kept.
        len: usize,
    },
    /// `[T, D] -> [T + 1, D]`: a learned token `[1, 1, D]` in front.
    PrependToken,
    /// `[T, D] -> [T, D]`: adds a learned position table `[1, T, D]`.
    AddPosition,
    /// `[T, D] -> [D]`.
    SelectToken {
        /// Which token.
        index: usize,
    },
    /// Multi-head self-attention on joined queries, keys and values `[T, 3 * D] -> [T, D]`; scale `1 / sqrt(D / heads)`.
    Attention {
        /// Heads; divides `D`.
        heads: usize,
    },
    /// Softmax over the last dimension.
    Softmax,
}

/// What a parameter is for: training treats the kinds differently (no weight decay on norms and biases, no gradient for statistics).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A kernel or matrix.
    Weight,
    /// An additive bias.
    Bias,
    /// A norm's multiplier.
    NormWeight,
    /// A norm's offset.
    NormBias,
    /// A batch norm's running mean: state, not learned.
    RunningMean,
    /// A batch norm's running variance: state, not learned.
    RunningVar,
    /// A learned token or position table.
    Embedding,
}

impl Role {
    /// Whether gradients train it.
    pub fn is_learned(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVar)
    }
}

impl Op {
    /// The suffix, role and shape of each parameter that the op reads, in order. `input` is the shape of its first input without the batch.
    pub fn parameters(&self, input: &[usize]) -> Vec<(&'static str, Role, Vec<usize>)> {
        match self {
            Self::Conv2d(c) => {
                let weight = vec![c.out_channels, c.in_channels / c.groups.max(1), c.kernel[0], c.kernel[1]];
                weight_and_bias(weight, c.out_channels, c.bias)
            }
            Self::Linear(l) => weight_and_bias(vec![l.out_features, l.in_features], l.out_features, l.bias),
            Self::BatchNorm(b) => vec![
                ("weight", Role::NormWeight, vec![b.channels]),
                ("bias", Role::NormBias, vec![b.channels]),
                ("running_mean", Role::RunningMean, vec![b.channels]),
                ("running_var", Role::RunningVar, vec![b.channels]),
            ],
            Self::LayerNorm(l) => {
                vec![("weight", Role::NormWeight, vec![l.features]), ("bias", Role::NormBias, vec![l.features])]
            }
            Self::PrependToken => vec![("", Role::Embedding, vec![1, 1, *input.last().unwrap_or(&0)])],
            Self::AddPosition => vec![("", Role::Embedding, [&[1], input].concat())],
            Self::Input { .. }
            | Self::Activation(_)
            | Self::MaxPool2d(_)
            | Self::AvgPool2d(_)
            | Self::GlobalAvgPool
            | Self::Flatten
            | Self::Add
            | Self::Mul
            | Self::Concat
            | Self::Dropout { .. }
            | Self::DropPath { .. }
            | Self::ToTokens
            | Self::ToMap { .. }
            | Self::Slice { .. }
            | Self::SelectToken { .. }
            | Self::Attention { .. }
            | Self::Softmax => Vec::new(),
        }
    }

    /// The op's name in messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input { .. } => "Input",
            Self::Conv2d(_) => "Conv2d",
            Self::Linear(_) => "Linear",
            Self::BatchNorm(_) => "BatchNorm",
            Self::LayerNorm(_) => "LayerNorm",
            Self::Activation(_) => "Activation",
            Self::MaxPool2d(_) => "MaxPool2d",
            Self::AvgPool2d(_) => "AvgPool2d",
            Self::GlobalAvgPool => "GlobalAvgPool",
            Self::Flatten => "Flatten",
            Self::Add => "Add",
            Self::Mul => "Mul",
            Self::Concat => "Concat",
            Self::Dropout { .. } => "Dropout",
            Self::DropPath { .. } => "DropPath",
            Self::ToTokens => "ToTokens",
            Self::ToMap { .. } => "ToMap",
            Self::Slice { .. } => "Slice",
            Self::PrependToken => "PrependToken",
            Self::AddPosition => "AddPosition",
            Self::SelectToken { .. } => "SelectToken",
            Self::Attention { .. } => "Attention",
            Self::Softmax => "Softmax",
        }
    }
}

fn weight_and_bias(weight: Vec<usize>, out: usize, bias: bool) -> Vec<(&'static str, Role, Vec<usize>)> {
    let mut list = vec![("weight", Role::Weight, weight)];
    if bias {
        list.push(("bias", Role::Bias, vec![out]));
    }
    list
}
