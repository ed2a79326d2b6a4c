//! The engine against the reference interpreter: every op, every tap, fused or not, in every precision.
//!
//! Tolerances, as shares of the largest value of a tensor: of the worst value, and of the mean error.
//!
//! | precision | worst | mean | why |
//! |---|---|---|---|
//! | f32 | 1e-4 | 1e-4 | sums in another order, batch norms folded, Winograd's transforms |
//! | bf16 | 3e-2 | 1e-2 | weights and maps have 8 bits: each layer adds up to 2^-9 of its largest value, some dozens of layers and sums follow |
//! | int8 | 2.5e-1 | 5e-2 | steps of 1/255 of a map's range and 1/254 of a row of weights; with random weights and few channels they add up |
#![allow(clippy::unwrap_used)]

use fieldmark_engine::quantize::{Activations, CalibrationOptions, Kept, Method, Quantization, calibrate};
use fieldmark_engine::{Engine, EngineOptions, Precision};
use graph::{Activation, Conv2d, Graph, GraphBuilder, NodeId, Op, Padding, Pool2d, Tensor, Weights};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn engine(graph: &Graph, weights: &Weights, threads: usize) -> Engine {
    engine_in(Precision::F32, graph, weights, threads)
}

fn engine_in(precision: Precision, graph: &Graph, weights: &Weights, threads: usize) -> Engine {
    if precision != Precision::Int8 {
        return Engine::new(graph, weights, EngineOptions { threads, precision }).unwrap();
    }
    // Calibrated on the images that the tests use (a tiny graph on noise clips what it has not seen): rounding is what is left.
    let seeds = if graph.nodes.len() < 40 { 0..30 } else { 1..2 };
    let noise = |seed| random(&[&[2], graph.input_shape()].concat(), &mut ChaCha8Rng::seed_from_u64(seed)).data;
    let images: Vec<f32> = seeds.flat_map(noise).collect();
    let (method, activations) = (Some(Method::MinMax), Some(Activations::U8));
    let options = CalibrationOptions { method, activations, fit_weights: false, most_kept: 0, threads, ..CalibrationOptions::default() };
    let quantization = calibrate(graph, weights, &images, &options).unwrap();
    Engine::quantized(graph, weights, Some(&quantization), EngineOptions { threads, precision }).unwrap()
}

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

/// The table above: of the worst value, and of the mean.
fn tolerance(precision: Precision) -> [f32; 2] {
    match precision {
        Precision::F32 | Precision::Auto => [1e-4; 2],
        Precision::Bf16 => [3e-2, 1e-2],
        Precision::Int8 => [2.5e-1, 5e-2],
    }
}

fn random(shape: &[usize], rng: &mut ChaCha8Rng) -> Tensor {
    let count = shape.iter().product();
    Tensor::new(shape, (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()).unwrap()
}

/// Initial weights with statistics and norms that are not the identity.
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

fn assert_close(precision: Precision, name: &str, got: &Tensor, want: &Tensor) {
    assert_eq!(got.shape, want.shape, "{name}");
    let scale = want.data.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    let [worst, mean] = tolerance(precision).map(|share| share * scale);
    let mut sum = 0.0;
    for (i, (g, w)) in got.data.iter().zip(&want.data).enumerate() {
        assert!((g - w).abs() <= worst, "{} {name}: value {i}: {g} for {w} (largest {scale})", precision.name());
        sum += (g - w).abs();
    }
    let found = sum / want.data.len().max(1) as f32;
    assert!(found <= mean, "{} {name}: mean error {found}, at most {mean} (largest {scale})", precision.name());
}

/// Logits alone (everything fuses), every node at once (nothing does), and each node alone.
fn conforms(graph: &Graph, seed: u64) {
    for precision in PRECISIONS {
        conforms_in(precision, graph, seed);
    }
}

fn conforms_in(precision: Precision, graph: &Graph, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let weights = weights(graph, seed);
    let input = random(&[&[2], graph.input_shape()].concat(), &mut rng);
    let all: Vec<NodeId> = (0..graph.nodes.len()).map(NodeId).collect();
    let want = graph::reference::run(graph, &weights, &input, &all).unwrap();
    let mut engine = engine_in(precision, graph, &weights, 2);
    let logits = engine.run(&input, &[]).unwrap();
    assert_close(precision, "logits", &logits[0], &want[graph.output.0]);
    let got = engine.run(&input, &all).unwrap();
    for (node, (got, want)) in graph.nodes.iter().zip(got.iter().zip(&want)) {
        assert_close(precision, &node.name, got, want);
    }
    for id in all {
        let got = engine.run(&input, &[id]).unwrap();
        assert_close(precision, &graph.node(id).name, &got[0], &want[id.0]);
    }
    // After other shapes of work have been through the buffers, another batch size.
    let small = Tensor::new([&[1], graph.input_shape()].concat(), input.data[..input.data.len() / 2].to_vec()).unwrap();
    let again = engine.run(&small, &[]).unwrap();
    assert_eq!(again[0].data[..], logits[0].data[..graph.num_classes()]);
}

fn activation(i: usize) -> Activation {
    use Activation::{Gelu, HardSigmoid, HardSwish, Relu, Relu6, Sigmoid, Silu, Tanh};
    [Relu, Relu6, Gelu, Silu, HardSwish, Sigmoid, Tanh, HardSigmoid][i % 8]
}

/// A random stack of convolutions, norms, residuals, pools and gates.
fn random_map_graph(seed: u64) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (channels, h, w) = (rng.random_range(1..4), rng.random_range(9..14), rng.random_range(9..14));
    let mut b = GraphBuilder::new("random", [channels, h, w]);
    let mut x = b.input();
    let mut earlier: Vec<NodeId> = vec![x];
    for i in 0..rng.random_range(4..12) {
        let c = b.shape(x)[0];
        let small = b.shape(x)[1] < 4 || b.shape(x)[2] < 4;
        x = match rng.random_range(0..11) {
            0 | 1 => {
                let kernel = [1, 3, 3, 5][rng.random_range(0..4)];
                let pad = Padding { top: kernel / 2, left: kernel / 2, bottom: kernel - 1 - kernel / 2, right: kernel / 2 };
                let mut conv = Conv2d::new(c, [3, 8, 17, 24][rng.random_range(0..4)], kernel).pad(pad);
                conv.bias = rng.random();
                conv.stride = if small { [1; 2] } else { [rng.random_range(1..3), rng.random_range(1..3)] };
                if kernel == 3 && rng.random() && !small {
                    conv.dilation = [1, 2];
                    conv.padding = Padding::same(2);
                }
                b.conv(format!("conv{i}"), x, conv)
            }
            2 | 3 => {
                let kernel = [3, 5, 2][rng.random_range(0..3)];
                let mut conv =
                    Conv2d::new(c, c, kernel).groups(c).pad(Padding { top: 0, left: kernel / 2, bottom: kernel - 1, right: kernel / 2 });
                conv.bias = rng.random();
                conv.stride = [if small { 1 } else { rng.random_range(1..3) }; 2];
                b.conv(format!("depthwise{i}"), x, conv)
            }
            4 if c.is_multiple_of(2) => b.conv(format!("grouped{i}"), x, Conv2d::new(c, c * 2, 3).groups(c / 2).padding(1)),
            5 | 6 => b.batch_norm(format!("norm{i}"), x, 1e-3),
            7 => b.activation(format!("act{i}"), x, activation(rng.random_range(0..8))),
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
        };
        earlier.push(x);
    }
    let x = if rng.random() { b.global_avg_pool("pool", x) } else { b.add("flatten", Op::Flatten, &[x]) };
    let x = b.batch_norm("head_norm", x, 1e-5);
    let x = b.linear("fc", x, 5);
    b.finish(x).unwrap()
}

#[test]
fn random_graphs_agree_with_the_reference() {
    for seed in 0..30 {
        conforms(&random_map_graph(seed), seed);
    }
}

#[test]
fn residual_blocks_agree_with_the_reference() {
    let mut b = GraphBuilder::new("residual", [3, 10, 10]);
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
    conforms(&b.finish(x).unwrap(), 3);
}

#[test]
fn tokens_agree_with_the_reference() {
    let mut b = GraphBuilder::new("tokens", [3, 8, 12]);
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
    conforms(&b.finish(x).unwrap(), 5);
}

/// Maps large enough that inverted residual blocks run as one step, with and without expansion, shortcut and readers in between.
#[test]
fn large_inverted_residuals_agree_with_the_reference() {
    let mut b = GraphBuilder::new("inverted", [3, 118, 114]);
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
    let graph = b.finish(x).unwrap();
    conforms(&graph, 7);
    let mut engine = engine(&graph, &weights(&graph, 7), 2);
    let steps = engine.profile(&vec![0.5; 3 * 118 * 114], 1).unwrap();
    let ops: Vec<&str> = steps.iter().map(|step| step.op).collect();
    assert_eq!(ops, ["stem", "separable", "bottleneck", "bottleneck", "global average", "linear"]);
    // Buffers are shared: fewer values than all steps write.
    let written: usize = steps.iter().map(|step| step.shape.iter().product::<usize>()).sum();
    let peak = engine.peak_activations(&[], 3).unwrap();
    assert!(peak > 0 && peak < written * 3 * 4, "{peak} bytes for {written} values an image");
}

/// Maps so large that narrow plans take the images one by one, with values of them that are read later: by another layer, an addition, a caller.
#[test]
fn images_of_large_maps_go_one_by_one_and_keep_their_values() {
    let mut b = GraphBuilder::new("large", [3, 96, 104]);
    let x = b.conv("stem", b.input(), Conv2d::new(3, 40, 3).stride(1).padding(1).with_bias());
    let wide = b.conv("depthwise", x, Conv2d::new(40, 40, 5).groups(40).stride(2).padding(2).with_bias());
    let x = b.conv("down", wide, Conv2d::new(40, 12, 3).stride(4).padding(1).with_bias());
    let early = b.activation("early", x, Activation::Relu);
    let y = b.conv("again", wide, Conv2d::new(40, 12, 1).stride(4).with_bias());
    let x = b.sum("sum", early, y);
    let x = b.conv("last", x, Conv2d::new(12, 12, 3).padding(1).with_bias());
    let x = b.sum("residual", x, early);
    let x = b.global_avg_pool("pool", x);
    let x = b.linear("fc", x, 4);
    let graph = b.finish(x).unwrap();
    let weights = weights(&graph, 3);
    let images = random(&[3, 3, 96, 104], &mut ChaCha8Rng::seed_from_u64(5));
    let taps: Vec<NodeId> = ["early", "residual", "fc"].iter().map(|name| graph.find(name).unwrap()).collect();
    for precision in PRECISIONS {
        let mut engine = engine_in(precision, &graph, &weights, 2);
        for outputs in [&taps[..], &[]] {
            let together = engine.run(&images, outputs).unwrap();
            for (n, image) in images.data.chunks_exact(3 * 96 * 104).enumerate() {
                let alone = engine.run(&Tensor::new([1, 3, 96, 104], image.to_vec()).unwrap(), outputs).unwrap();
                for (all, one) in together.iter().zip(&alone) {
                    assert_eq!(all.data[n * one.data.len()..(n + 1) * one.data.len()], one.data[..], "{precision:?}, image {n}");
                }
            }
        }
        let (few, many) = (engine.peak_activations(&[], 2).unwrap(), engine.peak_activations(&[], 20).unwrap());
        let large = 96 * 104 * 40;
        assert_eq!(many - few > 18 * large, precision == Precision::F32, "{precision:?}: {few} and {many} bytes");
    }
}

#[test]
fn maps_made_of_tokens_and_slices_agree_with_the_reference() {
    let mut b = GraphBuilder::new("maps", [3, 6, 8]);
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
    conforms(&b.finish(x).unwrap(), 5);
}

#[test]
fn rare_ops_over_the_width_agree_with_the_reference() {
    let mut b = GraphBuilder::new("rare", [3, 5, 6]);
    let x = b.linear("linear", b.input(), 9);
    let x = b.layer_norm("norm", x, 1e-5);
    let x = b.add("softmax", Op::Softmax, &[x]);
    let x = b.add("square", Op::Mul, &[x, x]);
    let x = b.add("flat", Op::Flatten, &[x]);
    let x = b.linear("fc", x, 4);
    conforms(&b.finish(x).unwrap(), 5);
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for seed in [1, 2, 3] {
        let graph = random_map_graph(seed);
        let weights = weights(&graph, seed);
        let input = random(&[&[9], graph.input_shape()].concat(), &mut ChaCha8Rng::seed_from_u64(seed));
        for precision in PRECISIONS {
            let one = engine_in(precision, &graph, &weights, 1).run(&input, &[]).unwrap();
            for threads in [2, 5] {
                assert_eq!(one, engine_in(precision, &graph, &weights, threads).run(&input, &[]).unwrap());
            }
        }
    }
}

#[test]
fn forks_give_the_same_bits() {
    let graph = random_map_graph(5);
    let weights = weights(&graph, 5);
    let input = random(&[&[3], graph.input_shape()].concat(), &mut ChaCha8Rng::seed_from_u64(5));
    let mut parent = engine(&graph, &weights, 2);
    // One fork from before the plan was compiled, one from after it.
    let mut early = parent.fork(1).unwrap();
    let want = parent.run(&input, &[]).unwrap();
    let mut late = parent.fork(1).unwrap();
    assert_eq!((early.threads(), late.threads()), (1, 1));
    assert_eq!(early.run(&input, &[]).unwrap(), want);
    assert_eq!(late.run(&input, &[]).unwrap(), want);
}

#[test]
fn zoo_models_agree_with_the_reference() {
    for (name, size) in
        [("lenet5", 28), ("tiny_cnn", 28), ("efficientnet_lite0", 33), ("mobilenet_v2", 32), ("resnet18", 32), ("vit_tiny_patch16_224", 32)]
    {
        let model = zoo::model(name).unwrap();
        let config = zoo::Config { image_size: [size; 2], num_classes: 10, ..model.config() };
        let graph = model.build(&config).unwrap();
        let weights = graph.init_weights(1);
        let input = random(&[&[2], graph.input_shape()].concat(), &mut ChaCha8Rng::seed_from_u64(1));
        let outputs = [graph.output, graph.taps["features"]];
        let want = graph::reference::run(&graph, &weights, &input, &outputs).unwrap();
        for precision in PRECISIONS {
            let got = engine_in(precision, &graph, &weights, 2).run(&input, &outputs).unwrap();
            assert_close(precision, name, &got[0], &want[0]);
            assert_close(precision, name, &got[1], &want[1]);
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let graph = random_map_graph(1);
    let mut weights = weights(&graph, 1);
    let mut engine = engine(&graph, &weights, 1);
    let wrong = engine.run(&Tensor::zeros([1, 9, 9, 9]), &[]).unwrap_err().to_string();
    assert!(wrong.contains("[1, 9, 9, 9]"), "{wrong}");
    let shape = [&[1], graph.input_shape()].concat();
    let wrong = engine.run(&Tensor::zeros(shape.clone()), &[NodeId(999)]).unwrap_err().to_string();
    assert!(wrong.contains("999"), "{wrong}");
    let empty = engine.run(&Tensor::zeros([&[0], graph.input_shape()].concat()), &[]).unwrap();
    assert_eq!(empty[0].shape, [0, 5]);
    let options = EngineOptions { precision: Precision::Int8, ..EngineOptions::default() };
    let wrong = Engine::new(&graph, &weights, options).unwrap_err().to_string();
    assert!(wrong.contains("calibration"), "{wrong}");
    let mut quantization = Quantization::default();
    quantization.kept.insert("nobody".into(), Kept::F32);
    let wrong = Engine::quantized(&graph, &weights, Some(&quantization), options).unwrap_err().to_string();
    assert!(wrong.contains("nobody"), "{wrong}");
    weights.remove("fc.bias");
    let wrong = Engine::new(&graph, &weights, EngineOptions::default()).unwrap_err().to_string();
    assert!(wrong.contains("fc.bias"), "{wrong}");
}
