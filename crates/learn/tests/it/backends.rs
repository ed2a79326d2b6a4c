//! Training plans beside Burn: one step of every op, some steps of whole networks.
//!
//! Tolerances, as shares of the largest value of each gradient (or activation, or weight), which counts as at least .05: what cancels to zero
//! (a bias before a norm) leaves rounding errors.
//!
//! | what | share | why |
//! |---|---|---|
//! | loss, gradients of one op | 1e-4 | sums in another order |
//! | running statistics | 1e-5 | one sum in another order, mixed with what was |
//! | gradients of a network, one step | 1e-3 | dozens of layers, Winograd's transforms; clamps replaced by SiLU, since a rounding error that crosses a corner is a jump |
//! | weights after ten steps of SGD, whole network (Euclidean) | 1e-4 | the bound that training promises |

use std::collections::BTreeMap;

use graph::{Activation, Conv2d, Differentiable, Graph, GraphBuilder, NodeId, Op, Padding, Pool2d, Tensor};
use learn::fit::{Backend, BatchNormMode, OptimizerKind};
use learn::network::NoiseKey;
use learn::optim::{Gradients, Group, Optimizer};
use learn::{DeviceKind, FitOptions, Network};

use crate::tiny::{noise, weights};

const OP: f32 = 1e-4;
const STATISTICS: f32 = 1e-5;
const NETWORK: f32 = 1e-3;
const TEN_STEPS: f64 = 1e-4;

const KEY: NoiseKey = NoiseKey { seed: 7, epoch: 1, step: 2 };

fn loss(logits: &Tensor) -> (f64, Vec<f32>) {
    let factor = |i: usize| 0.3 + (i % 5) as f32 * 0.2;
    let value = logits.data.iter().enumerate().map(|(i, &x)| f64::from(factor(i)) * f64::from(x) * f64::from(x) / 2.0).sum();
    (value, logits.data.iter().enumerate().map(|(i, &x)| factor(i) * x).collect())
}

fn networks(graph: &Graph, seed: u64) -> [Network; 2] {
    [Backend::Plan, Backend::Burn].map(|backend| {
        let weights = weights(graph, seed);
        Network::with_backend(graph.clone(), weights, DeviceKind::Cpu, backend, 2).unwrap()
    })
}

fn close(what: &str, found: &[f32], expected: &[f32], share: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.05f32, |m, v| m.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= share * scale, "{what} [{i}]: {f} by the plan, {e} by Burn (largest {scale})");
    }
}

fn all_close(what: &str, found: &BTreeMap<String, Vec<f32>>, expected: &BTreeMap<String, Vec<f32>>, share: f32) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
    for (name, expected) in expected {
        close(&format!("{what}: {name}"), &found[name], expected, share);
    }
}

/// One step and the gradient by the input, with all ways of freezing.
fn agree(graph: &Graph, batch: usize, frozen: &[bool], mode: BatchNormMode, share: f32) {
    let input = noise(&[&[batch], graph.input_shape()].concat(), 4);
    let by_logits = noise(&[&[batch], graph.node(graph.output).shape.as_slice()].concat(), 9);
    let [plan, burn] = networks(graph, 11).map(|mut network| {
        network.freeze(frozen);
        network.set_batch_norm(mode);
        let mut gradients = Gradients::default();
        let loss = network.step(&input, KEY, &mut gradients, loss).unwrap();
        let by_input = network.input_gradient(&input, &by_logits).unwrap();
        (loss, gradients.values, by_input, network)
    });
    let name = &graph.name;
    assert!((plan.0 - burn.0).abs() < f64::from(OP) * burn.0.abs().max(1e-3), "{name}: loss {} {}", plan.0, burn.0);
    all_close(name, &plan.1, &burn.1, share);
    close(&format!("{name}: input"), &plan.2.data, &burn.2.data, share);
    for (weight, tensor) in burn.3.weights() {
        close(&format!("{name}: {weight}"), &plan.3.weights()[weight].data, &tensor.data, STATISTICS);
    }
}

/// An op between a layer with weights and a head, so that gradients go through it and around it.
fn on_map(name: &str, op: impl FnOnce(&mut GraphBuilder, NodeId) -> NodeId) {
    let mut b = GraphBuilder::new(name, [3, 6, 5]);
    let x = b.input();
    let x = b.conv("before", x, Conv2d::new(3, 4, 1).with_bias());
    b.stage("op");
    let x = op(&mut b, x);
    b.stage("head");
    let x = if b.shape(x).len() == 1 { x } else { b.add("flat", Op::Flatten, &[x]) };
    let x = b.linear("fc", x, 3);
    let graph = b.finish(x).unwrap();
    let mut first_frozen = vec![false; graph.stages.len()];
    first_frozen[0] = true;
    let mut middle_frozen = vec![false; graph.stages.len()];
    middle_frozen[1] = true;
    for frozen in [vec![false; graph.stages.len()], first_frozen, middle_frozen] {
        for mode in [BatchNormMode::Batch, BatchNormMode::Frozen] {
            agree(&graph, 3, &frozen, mode, OP);
        }
    }
}

#[test]
fn convolutions() {
    let mut dilated = Conv2d::new(4, 5, 2).padding(1);
    dilated.dilation = [2, 2];
    let cases = [
        Conv2d::new(4, 5, 3).padding(1).with_bias(),
        Conv2d::new(4, 5, 3).stride(2).pad(Padding { top: 0, left: 0, bottom: 1, right: 1 }),
        Conv2d::new(4, 5, 1).stride(2),
        Conv2d::new(4, 19, 1).with_bias(),
        Conv2d::new(4, 6, 3).groups(2).padding(1),
        Conv2d::new(4, 8, 3).groups(4).padding(1),
        Conv2d::new(4, 4, 3).groups(4).padding(1),
        Conv2d::new(4, 4, 5).groups(4).padding(2),
        Conv2d::new(4, 4, 3).groups(4).stride(2).padding(1).with_bias(),
        dilated,
    ];
    for conv in cases {
        on_map(&format!("{conv:?}"), |b, x| b.conv("c", x, conv.clone()));
        on_map(&format!("{conv:?}, relu6"), |b, x| {
            let x = b.conv("c", x, conv.clone());
            b.activation("a", x, Activation::Relu6)
        });
    }
    on_map("residual", |b, x| {
        let y = b.conv("c", x, Conv2d::new(4, 4, 3).padding(1).with_bias());
        let x = b.sum("s", x, y);
        b.activation("a", x, Activation::Relu)
    });
}

#[test]
fn norms_with_what_follows() {
    let kinds = [None, Some(Activation::Relu), Some(Activation::Relu6), Some(Activation::Silu), Some(Activation::HardSwish)];
    for kind in kinds {
        let end = |b: &mut GraphBuilder, x| match kind {
            Some(kind) => b.activation("a", x, kind),
            None => x,
        };
        on_map(&format!("norm, {kind:?}"), |b, x| {
            let x = b.batch_norm("bn", x, 1e-3);
            end(b, x)
        });
        on_map(&format!("norm, residual, {kind:?}"), |b, x| {
            let y = b.conv("c", x, Conv2d::new(4, 4, 3).padding(1));
            let y = b.batch_norm("bn", y, 1e-3);
            let x = b.sum("s", y, x);
            end(b, x)
        });
        on_map(&format!("two norms added, {kind:?}"), |b, x| {
            let y = b.batch_norm("bn", x, 1e-3);
            let z = b.batch_norm("bn2", x, 1e-3);
            let x = b.sum("s", y, z);
            end(b, x)
        });
    }
    on_map("norm of vectors", |b, x| {
        let x = b.global_avg_pool("p", x);
        let x = b.batch_norm("bn", x, 1e-2);
        b.activation("a", x, Activation::Relu)
    });
    on_map("norm of tokens", |b, x| {
        let x = b.add("t", Op::ToTokens, &[x]);
        b.batch_norm("bn", x, 1e-2)
    });
    on_map("layer norm of maps", |b, x| b.layer_norm("ln", x, 1e-3));
    on_map("layer norm of tokens", |b, x| {
        let x = b.add("t", Op::ToTokens, &[x]);
        b.layer_norm("ln", x, 1e-3)
    });
}

#[test]
fn activations_and_pools() {
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
        on_map(&format!("{kind:?}"), |b, x| b.activation("a", x, kind));
    }
    on_map("softmax", |b, x| b.add("s", Op::Softmax, &[x]));
    on_map("max 3 2 1", |b, x| b.max_pool("p", x, Pool2d::new(3, 2, 1)));
    let uneven = Padding { top: 0, left: 1, bottom: 1, right: 1 };
    on_map("max uneven", |b, x| b.max_pool("p", x, Pool2d { padding: uneven, ..Pool2d::new(3, 2, 0) }));
    on_map("mean 2", |b, x| b.avg_pool("p", x, Pool2d::new(2, 2, 0)));
    on_map("mean 3 2 1", |b, x| b.avg_pool("p", x, Pool2d::new(3, 2, 1)));
    on_map("mean without padding", |b, x| b.avg_pool("p", x, Pool2d { count_include_pad: false, ..Pool2d::new(3, 1, 1) }));
    on_map("global mean", |b, x| b.global_avg_pool("p", x));
}

#[test]
fn joins_noise_and_parts() {
    on_map("a value and itself", |b, x| b.sum("s", x, x));
    on_map("a square", |b, x| b.add("m", Op::Mul, &[x, x]));
    on_map("a product", |b, x| {
        let y = b.activation("a", x, Activation::Sigmoid);
        b.add("m", Op::Mul, &[x, y])
    });
    on_map("a gate", |b, x| {
        let y = b.global_avg_pool("p", x);
        let y = b.linear("l", y, 4);
        let y = b.activation("a", y, Activation::Sigmoid);
        b.add("m", Op::Mul, &[x, y])
    });
    on_map("concat", |b, x| {
        let y = b.activation("a", x, Activation::Tanh);
        let z = b.conv("c", x, Conv2d::new(4, 3, 1));
        b.add("j", Op::Concat, &[x, y, x, z])
    });
    on_map("branches", |b, x| {
        let y = b.conv("y", x, Conv2d::new(4, 3, 1));
        let y = b.batch_norm("ybn", y, 1e-3);
        let y = b.activation("ya", y, Activation::Relu);
        let z = b.avg_pool("p", x, Pool2d::new(3, 1, 1));
        let z = b.conv("z", z, Conv2d::new(4, 3, 3).padding(1));
        let x = b.sum("s", y, z);
        let x = b.add("j", Op::Concat, &[x, y]);
        b.add("d", Op::Slice { start: 1, len: 4 }, &[x])
    });
    on_map("dropout", |b, x| b.add("d", Op::Dropout { p: 0.4 }, &[x]));
    on_map("stochastic depth", |b, x| {
        let y = b.conv("y", x, Conv2d::new(4, 4, 1));
        let y = b.add("d", Op::DropPath { p: 0.4 }, &[y]);
        b.sum("s", x, y)
    });
    on_map("slice", |b, x| b.add("s", Op::Slice { start: 1, len: 2 }, &[x]));
    on_map("linear over a map's width", |b, x| b.linear("l", x, 4));
}

#[test]
fn tokens_and_attention() {
    on_map("attention", |b, x| {
        let x = b.conv("c", x, Conv2d::new(4, 8, 3).stride(2));
        let x = b.add("t", Op::ToTokens, &[x]);
        let x = b.add("cls", Op::PrependToken, &[x]);
        let x = b.add("pos", Op::AddPosition, &[x]);
        let y = b.layer_norm("ln", x, 1e-6);
        let y = b.linear("qkv", y, 24);
        let y = b.add("a", Op::Attention { heads: 2 }, &[y]);
        let y = b.linear("proj", y, 8);
        let y = b.add("drop", Op::DropPath { p: 0.0 }, &[y]);
        let x = b.sum("s", x, y);
        let y = b.add("soft", Op::Softmax, &[x]);
        let x = b.add("c2", Op::Concat, &[x, y]);
        let x = b.add("some", Op::Slice { start: 1, len: 6 }, &[x]);
        let x = b.add("map", Op::ToMap { size: [2, 3] }, &[x]);
        let x = b.add("again", Op::ToTokens, &[x]);
        b.add("select", Op::SelectToken { index: 0 }, &[x])
    });
}

fn zoo(name: &str, size: usize) -> Graph {
    let model = zoo::model(name).unwrap();
    let config = zoo::Config { num_classes: 4, image_size: [size; 2], drop_rate: 0.1, ..model.config() };
    model.build(&config).unwrap()
}

/// The graph with SiLU in the place of clamps: without corners, rounding stays rounding.
fn smooth(mut graph: Graph) -> Graph {
    for node in &mut graph.nodes {
        if matches!(node.op, Op::Activation(Activation::Relu | Activation::Relu6)) {
            node.op = Op::Activation(Activation::Silu);
        }
    }
    graph.check().unwrap();
    graph
}

#[test]
fn networks_of_the_zoo() {
    for (name, size) in [("tiny_cnn", 28), ("resnet18", 64), ("efficientnet_lite0", 64), ("vit_tiny_patch16_224", 32)] {
        let graph = smooth(zoo(name, size));
        let frozen = vec![false; graph.stages.len()];
        agree(&graph, 4, &frozen, BatchNormMode::Batch, NETWORK);
    }
    let graph = smooth(zoo("efficientnet_lite0", 64));
    let mut frozen = vec![false; graph.stages.len()];
    frozen[..4].fill(true);
    agree(&graph, 4, &frozen, BatchNormMode::Frozen, NETWORK);
}

/// Ten steps of SGD on a few images: the weights move together.
#[test]
fn ten_steps_end_in_the_same_weights() {
    for (name, size) in [("tiny_cnn", 28), ("resnet18", 64)] {
        let graph = zoo(name, size);
        let input = noise(&[&[8], graph.input_shape()].concat(), 4);
        let options = FitOptions { optimizer: OptimizerKind::Sgd, momentum: 0.0, weight_decay: 1e-4, ..FitOptions::default() };
        let start = graph.init_weights(3);
        let [plan, burn] = [Backend::Plan, Backend::Burn].map(|backend| {
            let mut network = Network::with_backend(graph.clone(), start.clone(), DeviceKind::Cpu, backend, 2).unwrap();
            let (mut optimizer, mut gradients) = (Optimizer::new(&options), Gradients::default());
            for step in 0..10 {
                gradients.clear();
                let key = NoiseKey { step, ..KEY };
                network.step(&input, key, &mut gradients, |logits| cross_entropy(&logits.data)).unwrap();
                let group = |_: &str| Group { lr: 1.0, decay: true, l1: false };
                network.change(|weights| optimizer.update(weights, &gradients.values, 1e-3, group));
            }
            network.weights().clone()
        });
        let (mut distance, mut length, mut moved) = (0.0, 0.0, 0.0);
        for (name, burn) in &burn {
            for ((&p, &b), &s) in plan[name].data.iter().zip(&burn.data).zip(&start[name].data) {
                distance += f64::from(p - b).powi(2);
                length += f64::from(b).powi(2);
                moved += f64::from(b - s).powi(2);
            }
        }
        let (relative, moved) = ((distance / length).sqrt(), (moved / length).sqrt());
        assert!(relative < TEN_STEPS, "{name}: {relative} of the weights' length; they moved by {moved}");
        assert!(moved > 10.0 * relative, "{name}: moved by {moved}, apart by {relative}");
    }
}

/// Mean cross-entropy where every image is of class `index % 4`.
fn cross_entropy(logits: &[f32]) -> (f64, Vec<f32>) {
    let rows = logits.len() / 4;
    let one_hot: Vec<f32> = (0..logits.len()).map(|i| if i % 4 == i / 4 % 4 { 1.0 } else { 0.0 }).collect();
    learn::fit::cross_entropy(logits, &learn::fit::Targets::new(&one_hot, &vec![1.0; rows], &[1.0; 4], 0.0))
}
