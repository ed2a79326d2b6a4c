//! Networks of some layers: what the engine joins, shares and reorders. The conformance suite (`learn/tests/conformance`) takes them through
//! every interpreter; the tests beside this file look at plans.

use graph::{Activation, Conv2d, Graph, GraphBuilder, NodeId, Op, Padding, Pool2d};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random graphs, then blocks.
#[allow(dead_code)] // Read by the conformance suite.
pub fn blocks() -> Vec<Graph> {
    let blocks = [residual_blocks(), transformer(), inverted_residuals(), maps_of_tokens(), ops_over_the_width()];
    (0..30).map(random).chain(blocks).collect()
}

/// A random stack of convolutions, norms, residuals, pools and gates.
pub fn random(seed: u64) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (channels, h, w) = (rng.random_range(1..4), rng.random_range(9..14), rng.random_range(9..14));
    let mut b = GraphBuilder::new(format!("random graph {seed}"), [channels, h, w]);
    let mut x = b.input();
    let mut earlier: Vec<NodeId> = vec![x];
    for i in 0..rng.random_range(4..12) {
        x = random_layer(&mut b, &mut rng, i, x, &earlier);
        earlier.push(x);
    }
    let x = if rng.random() { b.global_avg_pool("pool", x) } else { b.add("flatten", Op::Flatten, &[x]) };
    let x = b.batch_norm("head_norm", x, 1e-5);
    let x = b.linear("fc", x, 5);
    b.finish(x).unwrap()
}

fn random_layer(b: &mut GraphBuilder, rng: &mut ChaCha8Rng, i: usize, x: NodeId, earlier: &[NodeId]) -> NodeId {
    let c = b.shape(x)[0];
    let small = b.shape(x)[1] < 4 || b.shape(x)[2] < 4;
    match rng.random_range(0..11) {
        0 | 1 => {
            let conv = random_convolution(rng, c, small);
            b.conv(format!("conv{i}"), x, conv)
        }
        2 | 3 => {
            let kernel = [3, 5, 2][rng.random_range(0..3)];
            let pad = Padding { top: 0, left: kernel / 2, bottom: kernel - 1, right: kernel / 2 };
            let mut conv = Conv2d::new(c, c, kernel).groups(c).pad(pad);
            conv.bias = rng.random();
            conv.stride = [if small { 1 } else { rng.random_range(1..3) }; 2];
            b.conv(format!("depthwise{i}"), x, conv)
        }
        4 if c.is_multiple_of(2) => b.conv(format!("grouped{i}"), x, Conv2d::new(c, c * 2, 3).groups(c / 2).padding(1)),
        5 | 6 => b.batch_norm(format!("norm{i}"), x, 1e-3),
        7 => b.activation(format!("act{i}"), x, random_activation(rng)),
        8 if !small => {
            let mut pool = Pool2d::new(3, 2, 1);
            pool.count_include_pad = rng.random();
            if rng.random() { b.max_pool(format!("max{i}"), x, pool) } else { b.avg_pool(format!("mean{i}"), x, pool) }
        }
        9 => {
            let gate = b.global_avg_pool(format!("squeeze{i}"), x);
            let gate = b.activation(format!("gate{i}"), gate, Activation::Sigmoid);
            b.add(format!("scaled{i}"), Op::Mul, &[x, gate])
        }
        _ => {
            let shape = b.shape(x).to_vec();
            let same = earlier.iter().rev().copied().find(|&e| b.shape(e) == shape && e != x);
            match same {
                Some(other) if rng.random() => b.sum(format!("sum{i}"), other, x),
                Some(other) => b.add(format!("concat{i}"), Op::Concat, &[x, other, x]),
                None => b.add(format!("drop{i}"), Op::Dropout { p: 0.5 }, &[x]),
            }
        }
    }
}

fn random_convolution(rng: &mut ChaCha8Rng, c: usize, small: bool) -> Conv2d {
    let kernel = [1, 3, 3, 5][rng.random_range(0..4)];
    let pad = Padding { top: kernel / 2, left: kernel / 2, bottom: kernel - 1 - kernel / 2, right: kernel / 2 };
    let mut conv = Conv2d::new(c, [3, 8, 17, 24][rng.random_range(0..4)], kernel).pad(pad);
    conv.bias = rng.random();
    conv.stride = if small { [1; 2] } else { [rng.random_range(1..3), rng.random_range(1..3)] };
    if kernel == 3 && rng.random() && !small {
        conv.dilation = [1, 2];
        conv.padding = Padding::same(2);
    }
    conv
}

fn random_activation(rng: &mut ChaCha8Rng) -> Activation {
    use Activation::{Gelu, HardSigmoid, HardSwish, Relu, Relu6, Sigmoid, Silu, Tanh};
    [Relu, Relu6, Gelu, Silu, HardSwish, Sigmoid, Tanh, HardSigmoid][rng.random_range(0..8)]
}

fn residual_blocks() -> Graph {
    let mut b = GraphBuilder::new("residual blocks", [3, 10, 10]);
    let stem = b.conv("stem", b.input(), Conv2d::new(3, 16, 3).padding(1));
    let x = b.batch_norm("bn0", stem, 1e-5);
    let trunk = b.activation("relu0", x, Activation::Relu);
    let x = b.conv("conv1", trunk, Conv2d::new(16, 24, 3).padding(1).stride(2));
    let x = b.batch_norm("bn1", x, 1e-5);
    let x = b.activation("relu1", x, Activation::Relu);
    let x = b.conv("conv2", x, Conv2d::new(24, 24, 3).padding(1));
    let x = b.batch_norm("bn2", x, 1e-5);
    let x = b.add("path", Op::DropPath { p: 0.1 }, &[x]);
    let down = b.conv("down", trunk, Conv2d::new(16, 24, 1).stride(2));
    let down = b.batch_norm("down_bn", down, 1e-5);
    let x = b.sum("sum", x, down);
    let x = b.activation("relu2", x, Activation::Relu);
    let x = b.global_avg_pool("pool", x);
    let x = b.add("dropout", Op::Dropout { p: 0.2 }, &[x]);
    let x = b.linear("fc", x, 7);
    let drop = b.add("late", Op::Dropout { p: 0.2 }, &[x]);
    let drop = b.add("later", Op::Dropout { p: 0.2 }, &[drop]);
    let x = b.add("softmax", Op::Softmax, &[drop]);
    b.finish(x).unwrap()
}

fn transformer() -> Graph {
    let mut b = GraphBuilder::new("transformer", [3, 8, 12]);
    let x = b.conv("patch", b.input(), Conv2d { stride: [4; 2], ..Conv2d::new(3, 24, 4).with_bias() });
    let x = b.add("tokens", Op::ToTokens, &[x]);
    let x = b.add("token", Op::PrependToken, &[x]);
    let x = b.add("position", Op::AddPosition, &[x]);
    let y = b.layer_norm("ln", x, 1e-6);
    let y = b.linear("qkv", y, 72);
    let y = b.add("attention", Op::Attention { heads: 3 }, &[y]);
    let y = b.linear("projection", y, 24);
    let x = b.sum("sum", x, y);
    let y = b.linear("mlp", x, 50);
    let y = b.activation("gelu", y, Activation::Gelu);
    let y = b.linear("mlp2", y, 24);
    let x = b.sum("sum2", x, y);
    let x = b.batch_norm("token_norm", x, 1e-5);
    let x = b.add("select", Op::SelectToken { index: 2 }, &[x]);
    let x = b.linear("fc", x, 4);
    b.finish(x).unwrap()
}

/// Maps large enough that the engine runs inverted residual blocks as one step: with and without expansion and shortcut.
pub fn inverted_residuals() -> Graph {
    let mut b = GraphBuilder::new("large inverted residuals", [3, 118, 114]);
    let mut x = b.conv("stem", b.input(), Conv2d::new(3, 16, 3).padding(1));
    x = b.activation("stem_act", x, Activation::Relu6);
    let block = |b: &mut GraphBuilder, name: &str, x: NodeId, (hidden, out, kernel, stride): (usize, usize, usize, usize)| {
        let c = b.shape(x)[0];
        let mut y = x;
        if hidden != c {
            y = b.conv(format!("{name}.expand"), y, Conv2d::new(c, hidden, 1));
            y = b.batch_norm(format!("{name}.bn1"), y, 1e-3);
            y = b.activation(format!("{name}.act1"), y, Activation::Relu6);
        }
        let depthwise = Conv2d::new(hidden, hidden, kernel).groups(hidden).stride(stride);
        let pad = Padding { top: kernel / 2, left: kernel / 2 - stride / 2, bottom: kernel / 2, right: kernel / 2 };
        y = b.conv(format!("{name}.depthwise"), y, depthwise.pad(pad));
        y = b.batch_norm(format!("{name}.bn2"), y, 1e-3);
        y = b.activation(format!("{name}.act2"), y, Activation::Relu);
        y = b.conv(format!("{name}.project"), y, Conv2d::new(hidden, out, 1).with_bias());
        if b.shape(y) == b.shape(x) { b.sum(format!("{name}.add"), y, x) } else { y }
    };
    x = block(&mut b, "separable", x, (16, 16, 3, 1));
    x = block(&mut b, "first", x, (40, 16, 3, 1));
    x = block(&mut b, "second", x, (24, 20, 5, 2));
    let x = b.global_avg_pool("pool", x);
    let x = b.linear("fc", x, 3);
    b.finish(x).unwrap()
}

fn maps_of_tokens() -> Graph {
    let mut b = GraphBuilder::new("maps of tokens and slices", [3, 6, 8]);
    let x = b.conv("conv", b.input(), Conv2d::new(3, 10, 3).padding(1));
    let y = b.add("left", Op::Slice { start: 0, len: 4 }, &[x]);
    let z = b.add("right", Op::Slice { start: 4, len: 6 }, &[x]);
    let x = b.add("swapped", Op::Concat, &[z, y]);
    let y = b.add("tokens", Op::ToTokens, &[x]);
    let y = b.layer_norm("norm", y, 1e-6);
    let y = b.linear("mlp", y, 10);
    let y = b.add("map", Op::ToMap { size: [6, 8] }, &[y]);
    let x = b.sum("sum", y, x);
    let x = b.conv("conv2", x, Conv2d::new(10, 5, 3));
    let x = b.add("tokens2", Op::ToTokens, &[x]);
    let x = b.add("some", Op::Slice { start: 3, len: 7 }, &[x]);
    let x = b.add("column", Op::ToMap { size: [7, 1] }, &[x]);
    let x = b.global_avg_pool("pool", x);
    let x = b.add("features", Op::Slice { start: 1, len: 3 }, &[x]);
    let x = b.linear("fc", x, 4);
    b.finish(x).unwrap()
}

fn ops_over_the_width() -> Graph {
    let mut b = GraphBuilder::new("ops over the width", [3, 5, 6]);
    let x = b.linear("linear", b.input(), 9);
    let x = b.layer_norm("norm", x, 1e-5);
    let x = b.add("softmax", Op::Softmax, &[x]);
    let x = b.add("square", Op::Mul, &[x, x]);
    let x = b.add("flat", Op::Flatten, &[x]);
    let x = b.linear("fc", x, 4);
    b.finish(x).unwrap()
}
