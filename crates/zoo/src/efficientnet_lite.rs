//! EfficientNet-Lite (Google, 2020): EfficientNet (Tan and Le, 2019) without squeeze-and-excitation, ReLU6 for Swish, and a stem and a head
//! that do not grow. Names, padding and eps follow timm's `tf_efficientnet_lite*`, for which the published weights were made:
//! TensorFlow's `SAME` padding and a batch norm eps of 1e-3.

use graph::{Activation, Graph, GraphBuilder, GraphError, NodeId};

use crate::block::{Shape, Style, channels, classifier, conv_bn, conv_bn_act, next_stage, residual};
use crate::config::Config;

const STYLE: Style = Style { eps: 1e-3, activation: Activation::Relu6, tensorflow_same: true };

/// Lite0: blocks, kernel, stride, channels of each stage; all but the first expand six-fold.
const STAGES: [(usize, usize, usize, usize); 7] =
    [(1, 3, 1, 16), (2, 3, 2, 24), (2, 5, 2, 40), (3, 3, 2, 80), (3, 5, 1, 112), (4, 5, 2, 192), (1, 3, 1, 320)];
const EXPANSION: usize = 6;

/// How a size grows from Lite0: factors on channels and on blocks.
#[derive(Clone, Copy)]
struct Scale {
    width: f64,
    depth: f64,
}

/// Lite0 to Lite4.
const SCALES: [Scale; 5] = [
    Scale { width: 1.0, depth: 1.0 },
    Scale { width: 1.0, depth: 1.1 },
    Scale { width: 1.1, depth: 1.2 },
    Scale { width: 1.2, depth: 1.4 },
    Scale { width: 1.4, depth: 1.8 },
];

/// Builds Lite`SIZE`.
pub(crate) fn efficientnet_lite<const SIZE: usize>(name: &'static str, config: &Config) -> Result<Graph, GraphError> {
    build(name, config, SCALES[SIZE])
}

/// Blocks of each stage of Lite`size`.
pub(crate) fn depths(size: usize) -> [usize; 7] {
    std::array::from_fn(|stage| scaled_depth(stage, SCALES[size]))
}

fn scaled_depth(stage: usize, scale: Scale) -> usize {
    let (depth, ..) = STAGES[stage];
    // The first and the last stage keep their single block.
    if stage == 0 || stage == 6 { depth } else { (depth as f64 * scale.depth).ceil() as usize }
}

/// The multiple of 8 nearest to the scaled width, and never more than a tenth below it.
fn scaled_width(channels: usize, scale: Scale) -> usize {
    let exact = channels as f64 * scale.width;
    let rounded = (((exact + 4.0) as usize) / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * exact { rounded + 8 } else { rounded }
}

fn build(name: &'static str, config: &Config, scale: Scale) -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new(name, config.input_shape());
    let stride = if config.small_stem() { 1 } else { 2 };
    let x = b.input();
    let mut x = conv_bn_act(&mut b, STYLE, ["conv_stem", "bn1"], x, Shape::dense(32, 3, stride));
    next_stage(&mut b, "stem", x, "blocks.0");
    let total: usize = (0..STAGES.len()).map(|stage| scaled_depth(stage, scale)).sum();
    let mut done = 0;
    for (stage, (_, kernel, stride, channels)) in STAGES.into_iter().enumerate() {
        let out = scaled_width(channels, scale);
        for block in 0..scaled_depth(stage, scale) {
            let drop_path = config.drop_path_rate * done as f32 / total as f32;
            let conv = Shape::dense(out, kernel, if block == 0 { stride } else { 1 });
            let name = format!("blocks.{stage}.{block}");
            x = match stage {
                0 => depthwise_separable(&mut b, &name, x, conv),
                _ => inverted_residual(&mut b, &name, x, conv, drop_path),
            };
            done += 1;
        }
        let next = if stage == 6 { "conv_head".to_string() } else { format!("blocks.{}", stage + 1) };
        next_stage(&mut b, &format!("blocks.{stage}"), x, &next);
    }
    let x = conv_bn_act(&mut b, STYLE, ["conv_head", "bn2"], x, Shape::pointwise(1280));
    next_stage(&mut b, "conv_head", x, "head");
    let x = b.global_avg_pool("global_pool", x);
    let logits = classifier(&mut b, "classifier", x, config.drop_rate, config.num_classes);
    b.finish(logits)
}

/// The first block: it does not expand, and has no shortcut, since it halves the channels.
fn depthwise_separable(b: &mut GraphBuilder, block: &str, x: NodeId, conv: Shape) -> NodeId {
    let input = channels(b, x);
    let [dw, bn1, pw, bn2] = ["conv_dw", "bn1", "conv_pw", "bn2"].map(|layer| format!("{block}.{layer}"));
    let x = conv_bn_act(b, STYLE, [&dw, &bn1], x, Shape::depthwise(input, conv.kernel, conv.stride));
    conv_bn(b, STYLE, [&pw, &bn2], x, Shape::pointwise(conv.out))
}

fn inverted_residual(b: &mut GraphBuilder, block: &str, x: NodeId, conv: Shape, drop_path: f32) -> NodeId {
    let input = channels(b, x);
    let hidden = input * EXPANSION;
    let [pw, bn1, dw, bn2, pwl, bn3] = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"].map(|layer| format!("{block}.{layer}"));
    let y = conv_bn_act(b, STYLE, [&pw, &bn1], x, Shape::pointwise(hidden));
    let y = conv_bn_act(b, STYLE, [&dw, &bn2], y, Shape::depthwise(hidden, conv.kernel, conv.stride));
    let y = conv_bn(b, STYLE, [&pwl, &bn3], y, Shape::pointwise(conv.out));
    if conv.stride == 1 && input == conv.out { residual(b, block, y, x, drop_path) } else { y }
}
