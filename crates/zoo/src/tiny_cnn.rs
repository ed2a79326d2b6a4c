//! A small network for images of 28 to 32 pixels: six 3×3 convolutions with batch norm, two poolings, global average pooling.
//!
//! 110,298 parameters and 9.1 million multiply-adds for a grey image of 28 pixels. Global pooling lets it read any size from 4 pixels up.

use graph::{Activation, Graph, GraphBuilder, GraphError, Pool2d};

use crate::block::{Shape, Style, classifier, conv_bn_act, next_stage};
use crate::config::Config;

/// Channels of each stage's convolutions; a max pooling stands before every stage but the first two.
const STAGES: [(&str, &[usize], bool); 4] =
    [("stem", &[16], false), ("layer1", &[16], false), ("layer2", &[32, 32], true), ("layer3", &[64, 128], true)];

pub(crate) fn tiny_cnn(name: &'static str, config: &Config) -> Result<Graph, GraphError> {
    let style = Style { eps: 1e-5, activation: Activation::Relu, tensorflow_same: false };
    let mut b = GraphBuilder::new(name, config.input_shape());
    let mut x = b.input();
    let mut index = 0;
    for (position, (stage, widths, pooled)) in STAGES.into_iter().enumerate() {
        if pooled {
            x = b.max_pool(format!("{stage}.pool"), x, Pool2d::new(2, 2, 0));
        }
        for &width in widths {
            index += 1;
            let names = [format!("conv{index}"), format!("bn{index}")];
            x = conv_bn_act(&mut b, style, [&names[0], &names[1]], x, Shape::dense(width, 3, 1));
        }
        next_stage(&mut b, stage, x, STAGES.get(position + 1).map_or("head", |next| next.0));
    }
    let x = b.global_avg_pool("avgpool", x);
    let logits = classifier(&mut b, "fc", x, config.drop_rate, config.num_classes);
    b.finish(logits)
}
