//! MobileNetV2 (Sandler et al., 2018) with torchvision's names.

use graph::{Activation, Graph, GraphBuilder, GraphError, NodeId};

use crate::block::{Shape, Style, channels, classifier, conv_bn, conv_bn_act, next_stage, residual};
use crate::config::Config;

const STYLE: Style = Style { eps: 1e-5, activation: Activation::Relu6, tensorflow_same: false };

/// The paper's table 2: the stage's name (its range of torchvision's `features`), expansion, channels, blocks, stride.
const STAGES: [(&str, usize, usize, usize, usize); 7] = [
    ("features.1", 1, 16, 1, 1),
    ("features.2-3", 6, 24, 2, 2),
    ("features.4-6", 6, 32, 3, 2),
    ("features.7-10", 6, 64, 4, 2),
    ("features.11-13", 6, 96, 3, 1),
    ("features.14-16", 6, 160, 3, 2),
    ("features.17", 6, 320, 1, 1),
];
const BLOCKS: usize = 17;

pub(crate) fn mobilenet_v2(name: &'static str, config: &Config) -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new(name, config.input_shape());
    let stride = if config.small_stem() { 1 } else { 2 };
    let x = b.input();
    let mut x = conv_bn_act(&mut b, STYLE, ["features.0.0", "features.0.1"], x, Shape::dense(32, 3, stride));
    next_stage(&mut b, "stem", x, STAGES[0].0);
    let mut block = 0;
    for (index, (stage, expansion, out, depth, stride)) in STAGES.into_iter().enumerate() {
        for position in 0..depth {
            let drop_path = config.drop_path_rate * block as f32 / BLOCKS as f32;
            block += 1;
            let stride = if position == 0 { stride } else { 1 };
            x = inverted_residual(&mut b, &format!("features.{block}"), x, (expansion, out, stride), drop_path);
        }
        next_stage(&mut b, stage, x, STAGES.get(index + 1).map_or("conv_head", |next| next.0));
    }
    let x = conv_bn_act(&mut b, STYLE, ["features.18.0", "features.18.1"], x, Shape::pointwise(1280));
    next_stage(&mut b, "conv_head", x, "head");
    let x = b.global_avg_pool("avgpool", x);
    let logits = classifier(&mut b, "classifier.1", x, config.drop_rate, config.num_classes);
    b.finish(logits)
}

fn inverted_residual(
    b: &mut GraphBuilder,
    block: &str,
    x: NodeId,
    (expansion, out, stride): (usize, usize, usize),
    drop_path: f32,
) -> NodeId {
    let (input, hidden) = (channels(b, x), channels(b, x) * expansion);
    let mut layer = 0;
    let mut y = x;
    if expansion != 1 {
        let [conv, bn] = [format!("{block}.conv.0.0"), format!("{block}.conv.0.1")];
        y = conv_bn_act(b, STYLE, [&conv, &bn], y, Shape::pointwise(hidden));
        layer = 1;
    }
    let [conv, bn] = [format!("{block}.conv.{layer}.0"), format!("{block}.conv.{layer}.1")];
    y = conv_bn_act(b, STYLE, [&conv, &bn], y, Shape::depthwise(hidden, 3, stride));
    let [conv, bn] = [format!("{block}.conv.{}", layer + 1), format!("{block}.conv.{}", layer + 2)];
    y = conv_bn(b, STYLE, [&conv, &bn], y, Shape::pointwise(out));
    if stride == 1 && input == out { residual(b, block, y, x, drop_path) } else { y }
}
