//! LeNet-5 (LeCun et al., 1998) as it is built today: ReLU for the scaled tanh, max pooling for the trained subsampling, full connections
//! from S2 to C3, a linear output layer. A 28-pixel image is padded by 2, which gives the paper's 32.

use graph::{Activation, Conv2d, Graph, GraphBuilder, GraphError, NodeId, Op, Pool2d};

use crate::block::{channels, classifier, next_stage};
use crate::config::Config;

pub(crate) fn lenet5(name: &'static str, config: &Config) -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new(name, config.input_shape());
    let x = b.input();
    let x = convolution(&mut b, 1, x, 6, 2);
    next_stage(&mut b, "stem", x, "conv2");
    let x = convolution(&mut b, 2, x, 16, 0);
    next_stage(&mut b, "conv2", x, "fc");
    let x = b.add("flatten", Op::Flatten, &[x]);
    let x = b.linear("fc1", x, 120);
    let x = b.activation("relu3", x, Activation::Relu);
    let x = b.linear("fc2", x, 84);
    let x = b.activation("relu4", x, Activation::Relu);
    next_stage(&mut b, "fc", x, "head");
    let logits = classifier(&mut b, "fc3", x, config.drop_rate, config.num_classes);
    b.finish(logits)
}

fn convolution(b: &mut GraphBuilder, index: usize, x: NodeId, out: usize, padding: usize) -> NodeId {
    let conv = Conv2d::new(channels(b, x), out, 5).padding(padding).with_bias();
    let x = b.conv(format!("conv{index}"), x, conv);
    let x = b.activation(format!("relu{index}"), x, Activation::Relu);
    b.max_pool(format!("pool{index}"), x, Pool2d::new(2, 2, 0))
}
