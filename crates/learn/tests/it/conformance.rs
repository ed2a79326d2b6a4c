//! Every op, and networks of the zoo, against the reference interpreter.

use graph::{Activation, Conv2d, Differentiable, Graph, GraphBuilder, Interpreter, NodeId, Op, Padding, Pool2d, reference};
use learn::{DeviceKind, Network};

use crate::tiny::{noise, weights};

/// Largest difference, relative to the largest value.
fn distance(a: &graph::Tensor, b: &graph::Tensor) -> f32 {
    assert_eq!(a.shape, b.shape);
    let scale = b.data.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    a.data.iter().zip(&b.data).fold(0.0f32, |m, (x, y)| m.max((x - y).abs())) / scale
}

fn same(graph: &Graph, batch: usize) {
    let weights = weights(graph, 7);
    let input = noise(&[&[batch], graph.input_shape()].concat(), 3);
    let wanted: Vec<NodeId> = (0..graph.nodes.len()).map(NodeId).collect();
    let expected = reference::run(graph, &weights, &input, &wanted).unwrap();
    let found = Network::new(graph.clone(), weights, DeviceKind::Cpu).unwrap().run(&input, &wanted).unwrap();
    for ((node, expected), found) in graph.nodes.iter().zip(&expected).zip(&found) {
        let d = distance(found, expected);
        assert!(d < 1e-4, "{} ({}) of {}: {d}", node.name, node.op.kind(), graph.name);
    }
}

/// `op` on a map, then a head.
fn on_map(op: impl FnOnce(&mut GraphBuilder, NodeId) -> NodeId) {
    let mut b = GraphBuilder::new("op", [4, 9, 7]);
    let x = b.input();
    let x = op(&mut b, x);
    let x = if b.shape(x).len() == 1 { x } else { b.add("flat", Op::Flatten, &[x]) };
    let x = b.linear("fc", x, 3);
    same(&b.finish(x).unwrap(), 2);
}

#[test]
fn convolutions() {
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 6, 3).padding(1)));
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 6, 3).stride(2).padding(1).with_bias()));
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 6, 1).with_bias()));
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 6, 1).stride(2)));
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 6, 3).groups(2).padding(1)));
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 4, 3).groups(4).padding(1).with_bias()));
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 4, 5).groups(4).stride(2).pad(Padding::tensorflow_same([9, 7], [5; 2], [2; 2]))));
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 5, 3).stride(2).pad(Padding { top: 0, left: 1, bottom: 1, right: 2 })));
    on_map(|b, x| {
        let mut dilated = Conv2d::new(4, 5, 3).padding(2);
        dilated.dilation = [2, 2];
        b.conv("c", x, dilated)
    });
}

#[test]
fn norms_activations_and_pools() {
    on_map(|b, x| b.batch_norm("bn", x, 1e-3));
    on_map(|b, x| b.layer_norm("ln", x, 1e-6));
    for kind in [
        Activation::Relu,
        Activation::Relu6,
        Activation::Gelu,
        Activation::Silu,
        Activation::HardSwish,
        Activation::HardSigmoid,
        Activation::Sigmoid,
        Activation::Tanh,
    ] {
        on_map(|b, x| {
            let x = b.conv("c", x, Conv2d::new(4, 12, 3));
            b.activation("a", x, kind)
        });
    }
    on_map(|b, x| b.max_pool("p", x, Pool2d::new(3, 2, 1)));
    on_map(|b, x| b.max_pool("p", x, Pool2d { padding: Padding { top: 0, left: 1, bottom: 1, right: 1 }, ..Pool2d::new(3, 2, 0) }));
    on_map(|b, x| b.avg_pool("p", x, Pool2d::new(2, 2, 0)));
    on_map(|b, x| b.avg_pool("p", x, Pool2d::new(3, 2, 1)));
    on_map(|b, x| b.avg_pool("p", x, Pool2d { count_include_pad: false, ..Pool2d::new(3, 1, 1) }));
    on_map(|b, x| b.global_avg_pool("p", x));
    on_map(|b, x| {
        let x = b.global_avg_pool("p", x);
        b.batch_norm("bn", x, 1e-5)
    });
}

#[test]
fn joins_and_identities() {
    on_map(|b, x| {
        let y = b.activation("a", x, Activation::Sigmoid);
        b.sum("s", x, y)
    });
    on_map(|b, x| {
        let y = b.activation("a", x, Activation::Sigmoid);
        b.add("m", Op::Mul, &[x, y])
    });
    on_map(|b, x| {
        let y = b.global_avg_pool("p", x);
        b.add("m", Op::Mul, &[x, y])
    });
    on_map(|b, x| {
        let y = b.activation("a", x, Activation::Tanh);
        b.add("c", Op::Concat, &[x, y, x])
    });
    on_map(|b, x| b.add("d", Op::Dropout { p: 0.5 }, &[x]));
    on_map(|b, x| b.add("d", Op::DropPath { p: 0.5 }, &[x]));
    on_map(|b, x| b.add("s", Op::Softmax, &[x]));
    on_map(|b, x| b.linear("l", x, 5));
    on_map(|b, x| b.add("s", Op::Slice { start: 1, len: 2 }, &[x]));
}

#[test]
fn tokens_and_attention() {
    on_map(|b, x| {
        let x = b.conv("c", x, Conv2d::new(4, 8, 3).stride(2));
        let x = b.add("t", Op::ToTokens, &[x]);
        let x = b.add("cls", Op::PrependToken, &[x]);
        let x = b.add("pos", Op::AddPosition, &[x]);
        let x = b.layer_norm("ln", x, 1e-6);
        let x = b.linear("qkv", x, 24);
        let x = b.add("a", Op::Attention { heads: 2 }, &[x]);
        let y = b.add("soft", Op::Softmax, &[x]);
        let x = b.add("c2", Op::Concat, &[x, y]);
        let x = b.add("some", Op::Slice { start: 1, len: 6 }, &[x]);
        let x = b.add("map", Op::ToMap { size: [2, 3] }, &[x]);
        let x = b.add("again", Op::ToTokens, &[x]);
        b.add("select", Op::SelectToken { index: 0 }, &[x])
    });
}

#[test]
fn networks_of_the_zoo() {
    for (name, size) in [("lenet5", None), ("tiny_cnn", None), ("resnet18", Some(32)), ("efficientnet_lite0", Some(40))] {
        let model = zoo::model(name).unwrap();
        let mut config = zoo::Config { num_classes: 4, ..model.config() };
        if let Some(size) = size {
            config.image_size = [size; 2];
        }
        let graph = model.build(&config).unwrap();
        let weights = weights(&graph, 1);
        let input = noise(&[&[2], graph.input_shape()].concat(), 5);
        let wanted = [graph.taps["features"], graph.output];
        let expected = reference::run(&graph, &weights, &input, &wanted).unwrap();
        let found = Network::new(graph, weights, DeviceKind::Cpu).unwrap().run(&input, &wanted).unwrap();
        for (e, f) in expected.iter().zip(&found) {
            assert!(distance(f, e) < 1e-4, "{name}: {}", distance(f, e));
        }
    }
}

#[test]
fn wrong_inputs_are_refused() {
    let graph = crate::tiny::network(2, 0.0);
    let w = graph.init_weights(0);
    let mut network = Network::new(graph.clone(), w.clone(), DeviceKind::Cpu).unwrap();
    assert!(network.run(&graph::Tensor::zeros([1, 3, 8, 8]), &[]).unwrap_err().to_string().contains("expected an input [N, 1, 8, 8]"));
    assert!(network.run(&graph::Tensor::zeros([1, 1, 8, 8]), &[NodeId(99)]).is_err());
    let gradient = graph::Tensor::zeros([2, 2]);
    assert!(network.input_gradient(&graph::Tensor::zeros([1, 1, 8, 8]), &gradient).is_err());
    let mut missing = w;
    missing.remove("fc.bias");
    assert!(Network::new(graph, missing, DeviceKind::Cpu).unwrap_err().to_string().contains("fc.bias"));
}
