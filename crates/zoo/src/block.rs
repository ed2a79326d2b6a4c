//! The pieces that all convolutional families are made of.

use graph::{Activation, Conv2d, GraphBuilder, NodeId, Op, Padding};

/// How a family normalises and activates.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    pub eps: f32,
    pub activation: Activation,
    /// TensorFlow's `SAME` instead of `(kernel - 1) / 2` on every side.
    pub tensorflow_same: bool,
}

/// One convolution of a [`conv_bn`].
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub out: usize,
    pub kernel: usize,
    pub stride: usize,
    pub depthwise: bool,
}

impl Shape {
    pub(crate) fn pointwise(out: usize) -> Self {
        Self { out, kernel: 1, stride: 1, depthwise: false }
    }

    pub(crate) fn dense(out: usize, kernel: usize, stride: usize) -> Self {
        Self { out, kernel, stride, depthwise: false }
    }

    pub(crate) fn depthwise(channels: usize, kernel: usize, stride: usize) -> Self {
        Self { out: channels, kernel, stride, depthwise: true }
    }
}

/// Channels of a feature map.
pub(crate) fn channels(b: &GraphBuilder, x: NodeId) -> usize {
    b.shape(x).first().copied().unwrap_or(0)
}

/// Convolution without bias, then batch norm.
pub(crate) fn conv_bn(b: &mut GraphBuilder, style: Style, names: [&str; 2], x: NodeId, shape: Shape) -> NodeId {
    let Shape { out, kernel, stride, depthwise } = shape;
    let side = |i: usize| b.shape(x).get(i).copied().unwrap_or(1).max(1);
    let padding = match style.tensorflow_same {
        true => Padding::tensorflow_same([side(1), side(2)], [kernel; 2], [stride; 2]),
        false => Padding::same((kernel - 1) / 2),
    };
    let conv = Conv2d::new(channels(b, x), out, kernel).stride(stride).pad(padding);
    let conv = if depthwise { conv.groups(out) } else { conv };
    let x = b.conv(names[0], x, conv);
    b.batch_norm(names[1], x, style.eps)
}

/// [`conv_bn`], then the family's activation, named after the batch norm.
pub(crate) fn conv_bn_act(b: &mut GraphBuilder, style: Style, names: [&str; 2], x: NodeId, shape: Shape) -> NodeId {
    let x = conv_bn(b, style, names, x, shape);
    b.activation(format!("{}.act", names[1]), x, style.activation)
}

/// Adds a residual branch to its shortcut, dropping whole branches with probability `drop_path` in training.
pub(crate) fn residual(b: &mut GraphBuilder, block: &str, branch: NodeId, shortcut: NodeId, drop_path: f32) -> NodeId {
    let branch = match drop_path > 0.0 {
        true => b.add(format!("{block}.drop_path"), Op::DropPath { p: drop_path }, &[branch]),
        false => branch,
    };
    b.sum(format!("{block}.add"), branch, shortcut)
}

/// Ends the stage: its output is tapped under the stage's name, and the stage `next` begins.
pub(crate) fn next_stage(b: &mut GraphBuilder, finished: &str, x: NodeId, next: &str) {
    b.tap(finished, x);
    b.stage(next);
}

/// Dropout and the classifier on the pooled vector `features`, in the stage `head`.
pub(crate) fn classifier(b: &mut GraphBuilder, name: &str, features: NodeId, drop_rate: f32, num_classes: usize) -> NodeId {
    b.tap("features", features);
    let x = match drop_rate > 0.0 {
        true => b.add("dropout", Op::Dropout { p: drop_rate }, &[features]),
        false => features,
    };
    let logits = b.linear(name, x, num_classes);
    b.tap("head", logits);
    logits
}
