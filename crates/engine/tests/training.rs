//! Training plans against the reference interpreter and against central differences.
//!
//! Tolerances:
//!
//! | what | bound | why |
//! |---|---|---|
//! | activations in inference mode | 1e-4 of the largest value | sums in another order |
//! | slope along a gradient | 5e-3 of it | differences of f32 passes over a step of 2e-3 |
//! | threads, recomputation, batches after one another, in f32 and bf16 | the same bits | sums over fixed blocks in a fixed order |
//! | logits in bf16 beside f32 | 2e-2 of their length | values keep 8 bits: each is off by up to 2⁻⁹ of itself, five layers deep |
//! | gradients in bf16 beside f32 | 5e-2 of their length | as above, both ways |
//! | gradients of whole networks in bf16 | cosine above .98 | up to twenty layers of the above |
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use fieldmark_engine::train::{Gradients, Scope, StageMode, TrainPlan};
use graph::{Activation, Conv2d, Graph, GraphBuilder, NodeId, Op, Padding, Pool2d, Tensor, Weights};
use kernels::Threads;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ACTIVATIONS: f32 = 1e-4;
const SLOPES: f64 = 5e-3;
const LOGITS_BF16: f64 = 2e-2;
const GRADIENTS_BF16: f64 = 5e-2;
const COSINE_BF16: f64 = 0.98;

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = shape.iter().product();
    Tensor::new(shape, (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()).unwrap()
}

fn weights(graph: &Graph, seed: u64) -> Weights {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = graph.init_weights(seed);
    for (name, tensor) in &mut weights {
        for value in &mut tensor.data {
            let noise: f32 = rng.random_range(-0.3..0.3);
            *value = if name.ends_with("running_var") { *value + noise } else { *value + noise * 0.5 };
        }
    }
    weights
}

/// A mask that is a function of the node and the place.
fn mask(node: usize, p: f32, mask: &mut [f32]) {
    mask.iter_mut().enumerate().for_each(|(i, m)| *m = if (i * 7 + node) % 10 < (p * 10.0) as usize { 0.0 } else { 1.0 / (1.0 - p) });
}

/// Every small graph of the tests: an op between a layer with weights and a head.
fn cases() -> Vec<Graph> {
    type Build = Box<dyn Fn(&mut GraphBuilder, NodeId) -> NodeId>;
    let conv = |c: Conv2d| -> Build { Box::new(move |b, x| b.conv("c", x, c.clone())) };
    let op = |op: Op| -> Build { Box::new(move |b, x| b.add("op", op.clone(), &[x])) };
    let mut list: Vec<(&str, Build)> = vec![
        ("conv", conv(Conv2d::new(4, 5, 3).padding(1).with_bias())),
        ("conv wide", conv(Conv2d::new(4, 33, 3).padding(1))),
        ("strided", conv(Conv2d::new(4, 5, 3).stride(2).pad(Padding { top: 0, left: 0, bottom: 1, right: 1 }))),
        ("pointwise", conv(Conv2d::new(4, 18, 1).with_bias())),
        ("pointwise strided", conv(Conv2d::new(4, 5, 1).stride(2))),
        ("grouped", conv(Conv2d::new(4, 6, 3).groups(2).padding(1))),
        ("depthwise", conv(Conv2d::new(4, 4, 3).groups(4).padding(1))),
        ("depthwise strided", conv(Conv2d::new(4, 4, 5).groups(4).stride(2).padding(2).with_bias())),
        ("mean pool", Box::new(|b, x| b.avg_pool("p", x, Pool2d::new(3, 2, 1)))),
        ("mean pool without padding", Box::new(|b, x| b.avg_pool("p", x, Pool2d { count_include_pad: false, ..Pool2d::new(3, 1, 1) }))),
        ("max pool", Box::new(|b, x| b.max_pool("p", x, Pool2d::new(2, 2, 0)))),
        ("global mean", Box::new(|b, x| b.global_avg_pool("p", x))),
        ("softmax", op(Op::Softmax)),
        ("slice", op(Op::Slice { start: 1, len: 2 })),
        ("dropout", op(Op::Dropout { p: 0.3 })),
        ("drop path", op(Op::DropPath { p: 0.3 })),
        ("linear over the width", Box::new(|b, x| b.linear("l", x, 4))),
        ("layer norm over the width", Box::new(|b, x| b.layer_norm("ln", x, 1e-2))),
        ("itself twice", Box::new(|b, x| b.sum("s", x, x))),
        ("square", Box::new(|b, x| b.add("m", Op::Mul, &[x, x]))),
        (
            "gate",
            Box::new(|b, x| {
                let y = b.global_avg_pool("p", x);
                let y = b.activation("a", y, Activation::Sigmoid);
                b.add("m", Op::Mul, &[x, y])
            }),
        ),
        (
            "concat",
            Box::new(|b, x| {
                let y = b.activation("a", x, Activation::Tanh);
                b.add("j", Op::Concat, &[x, y, x])
            }),
        ),
        (
            "residual norm",
            Box::new(|b, x| {
                let y = b.conv("c", x, Conv2d::new(4, 4, 3).padding(1));
                let y = b.batch_norm("bn", y, 1e-2);
                b.sum("s", y, x)
            }),
        ),
        (
            "norm of vectors",
            Box::new(|b, x| {
                let x = b.add("flat", Op::Flatten, &[x]);
                let x = b.linear("l", x, 6);
                b.batch_norm("bn", x, 1e-1)
            }),
        ),
        (
            "norm of tokens",
            Box::new(|b, x| {
                let x = b.add("t", Op::ToTokens, &[x]);
                b.batch_norm("bn", x, 1e-2)
            }),
        ),
        (
            "attention",
            Box::new(|b, x| {
                let x = b.add("t", Op::ToTokens, &[x]);
                let x = b.add("cls", Op::PrependToken, &[x]);
                let x = b.add("pos", Op::AddPosition, &[x]);
                let y = b.layer_norm("ln", x, 1e-3);
                let y = b.linear("qkv", y, 12);
                let y = b.add("a", Op::Attention { heads: 2 }, &[y]);
                let y = b.linear("proj", y, 4);
                let x = b.sum("s", x, y);
                let x = b.add("some", Op::Slice { start: 1, len: 6 }, &[x]);
                let x = b.add("map", Op::ToMap { size: [3, 2] }, &[x]);
                let x = b.add("again", Op::ToTokens, &[x]);
                b.add("select", Op::SelectToken { index: 0 }, &[x])
            }),
        ),
    ];
    for kind in [Activation::Gelu, Activation::Silu, Activation::HardSwish, Activation::HardSigmoid, Activation::Sigmoid, Activation::Tanh]
    {
        list.push((kind_name(kind), Box::new(move |b, x| b.activation("a", x, kind))));
    }
    let build = |(name, op): (&str, Build)| {
        let mut b = GraphBuilder::new(name, [3, 6, 5]);
        let x = b.input();
        let x = b.conv("before", x, Conv2d::new(3, 4, 1).with_bias());
        b.stage("op");
        let x = op(&mut b, x);
        b.stage("head");
        let x = if b.shape(x).len() == 1 { x } else { b.add("flatten", Op::Flatten, &[x]) };
        let x = b.linear("fc", x, 3);
        b.finish(x).unwrap()
    };
    list.into_iter().map(build).collect()
}

fn kind_name(kind: Activation) -> &'static str {
    match kind {
        Activation::Relu => "relu",
        Activation::Relu6 => "relu6",
        Activation::Gelu => "gelu",
        Activation::Silu => "silu",
        Activation::HardSwish => "hard swish",
        Activation::HardSigmoid => "hard sigmoid",
        Activation::Sigmoid => "sigmoid",
        Activation::Tanh => "tanh",
    }
}

/// Every case, and one whose clamps have corners.
fn all_cases() -> Vec<Graph> {
    let mut b = GraphBuilder::new("corners", [2, 6, 6]);
    let x = b.input();
    let x = b.conv("c", x, Conv2d::new(2, 6, 3).padding(1));
    let x = b.batch_norm("bn", x, 1e-5);
    let x = b.activation("a", x, Activation::Relu6);
    let y = b.conv("c2", x, Conv2d::new(6, 6, 3).padding(1));
    let y = b.batch_norm("bn2", y, 1e-5);
    let x = b.sum("s", y, x);
    let x = b.activation("r", x, Activation::Relu);
    let x = b.max_pool("p", x, Pool2d::new(3, 2, 1));
    let x = b.add("d", Op::Dropout { p: 0.2 }, &[x]);
    let x = b.add("flat", Op::Flatten, &[x]);
    let x = b.linear("fc", x, 3);
    let mut cases = cases();
    cases.push(b.finish(x).unwrap());
    cases
}

fn in_order(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let mut out = values.to_vec();
    if let &[_, c, h, w] = shape {
        kernels::nhwc_to_nchw(&mut out, values, c, h * w);
    }
    out
}

/// What a pass forward and back gives: the loss Σ logits² / 2, gradients, and the gradient by the input.
fn pass(plan: &mut TrainPlan, weights: &Weights, input: &[f32]) -> (f64, Gradients, Option<Vec<f32>>) {
    let mut gradients = BTreeMap::new();
    plan.forward(weights, input, &mask).unwrap();
    let logits = plan.output(0).to_vec();
    plan.backward_with(weights, &logits, &mut gradients, false, &mask).unwrap();
    let loss = logits.iter().map(|&x| f64::from(x) * f64::from(x) / 2.0).sum();
    (loss, gradients, plan.input_gradient().map(<[f32]>::to_vec))
}

fn plan(graph: &Graph, scope: &Scope) -> TrainPlan {
    TrainPlan::new(graph, &[graph.output], scope).unwrap()
}

#[test]
fn activations_are_the_references() {
    let zoo = ["tiny_cnn", "lenet5"].map(|name| {
        let model = zoo::model(name).unwrap();
        model.build(&model.config()).unwrap()
    });
    for graph in all_cases().into_iter().chain(zoo) {
        let (weights, input) = (weights(&graph, 1), random(&[&[2], graph.input_shape()].concat(), 2));
        let all: Vec<NodeId> = (0..graph.nodes.len()).map(NodeId).collect();
        let expected = graph::reference::run(&graph, &weights, &input, &all).unwrap();
        for wanted in [all, vec![graph.output]] {
            let mut plan = TrainPlan::new(&graph, &wanted, &Scope::inference(&graph, false)).unwrap();
            plan.forward(&weights, &input.data, &mask).unwrap();
            for (index, id) in wanted.iter().enumerate() {
                let (expected, found) = (&expected[id.0], in_order(plan.output(index), &expected[id.0].shape));
                let scale = expected.data.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
                for (f, e) in found.iter().zip(&expected.data) {
                    assert!((f - e).abs() <= ACTIVATIONS * scale, "{}, {}: {f} for {e}", graph.name, graph.nodes[id.0].name);
                }
            }
        }
    }
}

fn length(g: &[f32]) -> f64 {
    g.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt()
}

/// `values`, moved by `step` along `g`.
fn along(values: &[f32], g: &[f32], step: f64) -> Vec<f32> {
    let factor = step / length(g);
    values.iter().zip(g).map(|(&v, &g)| (f64::from(v) + factor * f64::from(g)) as f32).collect()
}

/// Along a gradient the loss rises as fast as it is long.
fn assert_slope(what: &str, g: &[f32], loss: &mut dyn FnMut(f64) -> f64) {
    let (h, slope) = (2e-3, length(g));
    let numeric = (loss(h) - loss(-h)) / (2.0 * h);
    assert!((numeric - slope).abs() < SLOPES * slope.max(0.1), "{what}: {slope}, by differences {numeric}");
}

#[test]
fn gradients_are_slopes() {
    for graph in cases() {
        let scope = Scope { by_input: true, ..Scope::training(&graph) };
        let mut plan = plan(&graph, &scope);
        let (weights, input) = (weights(&graph, 3), random(&[&[3], graph.input_shape()].concat(), 4));
        let (_, gradients, by_input) = pass(&mut plan, &weights, &input.data);
        for (name, g) in &gradients {
            assert_slope(&format!("{}, {name}", graph.name), g, &mut |step| {
                let mut weights = weights.clone();
                let tensor = weights.get_mut(name).unwrap();
                tensor.data = along(&tensor.data, g, step);
                pass(&mut plan, &weights, &input.data).0
            });
        }
        let g = in_order(&by_input.unwrap(), &input.shape);
        let what = format!("{}, the input", graph.name);
        assert_slope(&what, &g, &mut |step| pass(&mut plan, &weights, &along(&input.data, &g, step)).0);
    }
}

#[test]
fn threads_recomputation_and_what_ran_before_change_no_bit() {
    let lite = zoo::model("efficientnet_lite0").unwrap();
    let lite = lite.build(&zoo::Config { num_classes: 5, image_size: [40; 2], drop_rate: 0.2, ..lite.config() }).unwrap();
    let cases = all_cases().into_iter().chain([lite]).flat_map(|graph| [(graph.clone(), false), (graph, true)]);
    for (graph, bf16) in cases {
        let scope = Scope { by_input: true, bf16, ..Scope::training(&graph) };
        let weights = weights(&graph, 5);
        let input = random(&[&[4], graph.input_shape()].concat(), 6).data;
        let image = input.len() / 4;
        let expected = Threads::new(1).unwrap().install(|| pass(&mut plan(&graph, &scope), &weights, &input));
        for threads in [2, 3] {
            let found = Threads::new(threads).unwrap().install(|| pass(&mut plan(&graph, &scope), &weights, &input));
            assert!(found == expected, "{}: {threads} threads", graph.name);
        }
        for segments in [2, 3, 7] {
            let found = pass(&mut plan(&graph, &Scope { segments, ..scope.clone() }), &weights, &input);
            assert!(found == expected, "{}: {segments} segments", graph.name);
        }
        let mut plan = plan(&graph, &scope);
        let first = pass(&mut plan, &weights, &input[..image * 3]);
        assert!(pass(&mut plan, &weights, &input) == expected, "{}: a larger batch after a smaller one", graph.name);
        assert!(pass(&mut plan, &weights, &input[..image * 3]) == first, "{}: a smaller batch after a larger one", graph.name);
    }
}

#[test]
fn gradients_add_up() {
    for (graph, bf16) in all_cases().into_iter().flat_map(|graph| [(graph.clone(), false), (graph, true)]) {
        let mut plan = plan(&graph, &Scope { bf16, ..Scope::training(&graph) });
        let (weights, input) = (weights(&graph, 5), random(&[&[2], graph.input_shape()].concat(), 6).data);
        let (_, mut sum, _) = pass(&mut plan, &weights, &input);
        let once = sum.clone();
        plan.forward(&weights, &input, &mask).unwrap();
        let logits = plan.output(0).to_vec();
        plan.backward_with(&weights, &logits, &mut sum, true, &mask).unwrap();
        for (name, sum) in &sum {
            assert!(sum.iter().zip(&once[name]).all(|(&s, &o)| s == 2.0 * o), "{}: {name}", graph.name);
        }
    }
}

#[test]
fn what_is_frozen_gets_no_gradients_and_nothing_runs_back_before_what_is_trained() {
    let graph = cases().remove(0);
    let names = |scope: &Scope| {
        let plan = plan(&graph, scope);
        (plan.trained().map(str::to_string).collect::<Vec<_>>(), plan.layers_back(), plan.bytes_an_image())
    };
    let mode = StageMode::Trained;
    let (all, layers, bytes) = names(&Scope::training(&graph));
    assert_eq!((all.len(), layers), (6, 4));
    let head = Scope { stages: vec![StageMode::Frozen, StageMode::Frozen, mode], by_input: false, segments: 0, bf16: false };
    let (some, fewer, less) = names(&head);
    assert_eq!((some, fewer), (vec!["fc.weight".to_string(), "fc.bias".to_string()], 1));
    assert!(less < bytes, "{less} bytes, {bytes} where all is trained");
    let (none, layers, _) = names(&Scope::inference(&graph, true));
    assert_eq!((none.len(), layers), (0, 4));
}

#[test]
fn recomputation_takes_less_memory() {
    let model = zoo::model("resnet18").unwrap();
    let graph = model.build(&zoo::Config { image_size: [64; 2], ..model.config() }).unwrap();
    let bytes = |segments: usize| plan(&graph, &Scope { segments, ..Scope::training(&graph) }).bytes_an_image();
    assert!(bytes(4) * 4 < bytes(0) * 3, "{} of {}", bytes(4), bytes(0));
}

/// How far `found` is from `expected`, as a share of its length, which counts as at least `least`.
fn apart(found: &[f32], expected: &[f32], least: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    let difference: Vec<f32> = found.iter().zip(expected).map(|(f, e)| f - e).collect();
    length(&difference) / length(expected).max(least)
}

#[test]
fn every_op_in_bf16_is_close_to_f32() {
    // Without corners: a value beside a bound or an equal one sends its gradient elsewhere. Kernels with corners are held to the bit by tests
    // of their own.
    for graph in cases() {
        let (weights, input) = (weights(&graph, 3), random(&[&[4], graph.input_shape()].concat(), 4));
        let [(wide, gradients, by_input), (narrow, narrow_gradients, narrow_by_input)] = [false, true].map(|bf16| {
            let mut plan = plan(&graph, &Scope { by_input: true, bf16, ..Scope::training(&graph) });
            plan.forward(&weights, &input.data, &mask).unwrap();
            let logits = plan.output(0).to_vec();
            let (_, gradients, by_input) = pass(&mut plan, &weights, &input.data);
            (logits, gradients, by_input.unwrap())
        });
        let off = apart(&narrow, &wide, 0.1);
        assert!(off > 0.0 && off < LOGITS_BF16, "{}: logits by {off}", graph.name);
        // Biases before a norm cancel: what is left of their gradients is rounding.
        let least = gradients.values().map(|g| length(g)).fold(0.1, f64::max) * 0.1;
        for (name, expected) in &gradients {
            let off = apart(&narrow_gradients[name], expected, least);
            assert!(off < GRADIENTS_BF16, "{}, {name}: by {off}", graph.name);
        }
        let off = apart(&narrow_by_input, &by_input, 0.1);
        assert!(off < GRADIENTS_BF16, "{}: by the input by {off}", graph.name);
    }
}

#[test]
fn networks_in_bf16_step_as_in_f32() {
    for (name, size) in [("resnet18", 64), ("tiny_cnn", 28)] {
        let model = zoo::model(name).unwrap();
        let graph = model.build(&zoo::Config { num_classes: 5, image_size: [size; 2], ..model.config() }).unwrap();
        let (weights, input) = (graph.init_weights(1), random(&[&[8], graph.input_shape()].concat(), 2));
        let [(loss, gradients, _), (narrow, narrow_gradients, _)] =
            [false, true].map(|bf16| pass(&mut plan(&graph, &Scope { bf16, ..Scope::training(&graph) }), &weights, &input.data));
        assert!((loss - narrow).abs() < 0.05 * loss, "{name}: {loss}, in bf16 {narrow}");
        let (mut product, mut lengths) = (0.0, [0.0; 2]);
        for (name, g) in &gradients {
            let other = &narrow_gradients[name];
            product += g.iter().zip(other).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
            lengths[0] += length(g).powi(2);
            lengths[1] += length(other).powi(2);
        }
        let cosine = product / (lengths[0] * lengths[1]).sqrt();
        assert!(cosine > COSINE_BF16, "{name}: cosine {cosine}");
    }
}

#[test]
fn bf16_takes_about_half_the_memory() {
    for name in ["resnet18", "efficientnet_lite0", "mobilenet_v2"] {
        let model = zoo::model(name).unwrap();
        let graph = model.build(&zoo::Config { image_size: [64; 2], ..model.config() }).unwrap();
        let [wide, narrow] = [false, true].map(|bf16| plan(&graph, &Scope { bf16, ..Scope::training(&graph) }).bytes_an_image());
        assert!(narrow * 100 < wide * 60, "{name}: {narrow} of {wide}");
    }
}
