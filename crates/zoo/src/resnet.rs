//! ResNet (He et al., 2016) with torchvision's names and its stride on the 3×3 convolution of a bottleneck.

use graph::{Activation, Graph, GraphBuilder, GraphError, NodeId, Pool2d};

use crate::block::{Shape, Style, channels, classifier, conv_bn, conv_bn_act, next_stage, residual};
use crate::config::Config;

const STYLE: Style = Style { eps: 1e-5, activation: Activation::Relu, tensorflow_same: false };
const WIDTHS: [usize; 4] = [64, 128, 256, 512];

pub(crate) fn resnet18(name: &'static str, config: &Config) -> Result<Graph, GraphError> {
    resnet(name, config, [2, 2, 2, 2], basic)
}

pub(crate) fn resnet34(name: &'static str, config: &Config) -> Result<Graph, GraphError> {
    resnet(name, config, [3, 4, 6, 3], basic)
}

pub(crate) fn resnet50(name: &'static str, config: &Config) -> Result<Graph, GraphError> {
    resnet(name, config, [3, 4, 6, 3], bottleneck)
}

/// The branch of a block of a given width and stride, and the channels that it writes.
type Branch = fn(&mut GraphBuilder, &str, NodeId, usize, usize) -> (NodeId, usize);

fn resnet(name: &'static str, config: &Config, depths: [usize; 4], branch: Branch) -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new(name, config.input_shape());
    let x = b.input();
    let mut x = match config.small_stem() {
        true => conv_bn_act(&mut b, STYLE, ["conv1", "bn1"], x, Shape::dense(64, 3, 1)),
        false => {
            let x = conv_bn_act(&mut b, STYLE, ["conv1", "bn1"], x, Shape::dense(64, 7, 2));
            b.max_pool("maxpool", x, Pool2d::new(3, 2, 1))
        }
    };
    next_stage(&mut b, "stem", x, "layer1");
    let (total, mut done) = (depths.iter().sum::<usize>(), 0);
    for (index, (&depth, width)) in depths.iter().zip(WIDTHS).enumerate() {
        for block in 0..depth {
            let stride = if index > 0 && block == 0 { 2 } else { 1 };
            let drop_path = config.drop_path_rate * done as f32 / (total - 1) as f32;
            x = residual_block(&mut b, &format!("layer{}.{block}", index + 1), x, (width, stride), branch, drop_path);
            done += 1;
        }
        let next = if index == 3 { "head".to_string() } else { format!("layer{}", index + 2) };
        next_stage(&mut b, &format!("layer{}", index + 1), x, &next);
    }
    let x = b.global_avg_pool("avgpool", x);
    let logits = classifier(&mut b, "fc", x, config.drop_rate, config.num_classes);
    b.finish(logits)
}

fn residual_block(b: &mut GraphBuilder, block: &str, x: NodeId, (width, stride): (usize, usize), branch: Branch, drop_path: f32) -> NodeId {
    let (y, out) = branch(b, block, x, width, stride);
    let shortcut = match stride != 1 || channels(b, x) != out {
        true => {
            let names = [format!("{block}.downsample.0"), format!("{block}.downsample.1")];
            conv_bn(b, STYLE, [&names[0], &names[1]], x, Shape::dense(out, 1, stride))
        }
        false => x,
    };
    let x = residual(b, block, y, shortcut, drop_path);
    b.activation(format!("{block}.act"), x, Activation::Relu)
}

fn names(block: &str, index: usize) -> [String; 2] {
    [format!("{block}.conv{index}"), format!("{block}.bn{index}")]
}

fn basic(b: &mut GraphBuilder, block: &str, x: NodeId, width: usize, stride: usize) -> (NodeId, usize) {
    let [conv, bn] = names(block, 1);
    let x = conv_bn_act(b, STYLE, [&conv, &bn], x, Shape::dense(width, 3, stride));
    let [conv, bn] = names(block, 2);
    (conv_bn(b, STYLE, [&conv, &bn], x, Shape::dense(width, 3, 1)), width)
}

fn bottleneck(b: &mut GraphBuilder, block: &str, x: NodeId, width: usize, stride: usize) -> (NodeId, usize) {
    let [conv, bn] = names(block, 1);
    let x = conv_bn_act(b, STYLE, [&conv, &bn], x, Shape::pointwise(width));
    let [conv, bn] = names(block, 2);
    let x = conv_bn_act(b, STYLE, [&conv, &bn], x, Shape::dense(width, 3, stride));
    let [conv, bn] = names(block, 3);
    (conv_bn(b, STYLE, [&conv, &bn], x, Shape::pointwise(4 * width)), 4 * width)
}
