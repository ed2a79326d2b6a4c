//! Every model of the zoo through ONNX and back: the same outputs, the same weights under the same names, the same stages.

#![allow(clippy::unwrap_used)]

use fieldmark_zoo as zoo;
use graph::{Graph, Op, Role, Tensor, Weights, onnx, reference};
use zoo::{Config, Stem};

/// Weights with norms that do something.
fn lively(graph: &Graph) -> Weights {
    let mut weights = graph.init_weights(5);
    for parameter in graph.parameters() {
        let Some(tensor) = weights.get_mut(&parameter.name) else { continue };
        let wave = |i: usize| ((i * 37) % 101) as f32 / 101.0;
        for (i, v) in tensor.data.iter_mut().enumerate() {
            match parameter.role {
                Role::NormWeight | Role::RunningVar => *v = 0.6 + wave(i),
                Role::NormBias | Role::RunningMean => *v = 0.4 * wave(i) - 0.2,
                Role::Weight | Role::Bias | Role::Embedding => {}
            }
        }
    }
    weights
}

fn images(graph: &Graph, n: usize) -> Tensor {
    let shape = [&[n], graph.input_shape()].concat();
    let count = shape.iter().product::<usize>();
    Tensor::new(shape, (0..count).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect()).unwrap()
}

fn small(name: &str) -> Graph {
    let model = zoo::model(name).unwrap();
    let config = model.config();
    let config = match config.image_size[0] {
        ..=64 => config,
        _ => Config { image_size: [40, 32], stem: Stem::Standard, num_classes: 7, drop_path_rate: 0.0, ..config },
    };
    let config = if name.starts_with("vit") { Config { image_size: [32, 48], ..config } } else { config };
    model.build(&config).unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.shape, b.shape);
    a.data.iter().zip(&b.data).map(|(x, y)| (x - y).abs() / y.abs().max(1.0)).fold(0.0, f32::max)
}

/// Without the ops that do nothing in inference, which are not exported.
fn layers(graph: &Graph) -> Vec<(&str, &'static str)> {
    let kept = graph.nodes.iter().filter(|n| !matches!(n.op, Op::Dropout { .. } | Op::DropPath { .. }));
    kept.filter(|n| !n.parameters.is_empty()).map(|n| (n.name.as_str(), n.op.kind())).collect()
}

fn round_trip(name: &str, opset: i64) {
    let graph = small(name);
    let weights = lively(&graph);
    let options = onnx::ExportOptions { opset, ..Default::default() };
    let bytes = onnx::export(&graph, &weights, &options).unwrap();
    let again = onnx::import(&bytes, &onnx::ImportOptions::default()).unwrap_or_else(|e| panic!("{name}, opset {opset}: {e}"));
    assert_eq!(again.weights, weights, "{name}");
    assert_eq!(layers(&again.graph), layers(&graph), "{name}");
    assert_eq!(again.graph.stages, graph.stages, "{name}");
    assert_eq!(again.graph.name, graph.name);
    assert_eq!(again.graph.nodes.len(), graph.nodes.iter().filter(|n| !matches!(n.op, Op::Dropout { .. })).count(), "{name}");
    let features = |g: &Graph| g.node(g.taps["features"]).shape.clone();
    assert_eq!(features(&again.graph), features(&graph), "{name}");
    let input = images(&graph, 2);
    let wanted = reference::run(&graph, &weights, &input, &[]).unwrap();
    let found = reference::run(&again.graph, &again.weights, &input, &[]).unwrap();
    let difference = largest_difference(&found[0], &wanted[0]);
    assert!(difference <= 1e-6, "{name}, opset {opset}: {difference}");
}

#[test]
fn every_model_survives_the_way_through_onnx() {
    for name in zoo::names() {
        round_trip(name, 17);
    }
}

#[test]
fn the_newest_opset_has_operators_of_its_own() {
    for name in ["lenet5", "vit_tiny_patch16_224", "efficientnet_lite0"] {
        round_trip(name, 23);
    }
}

#[test]
fn folded_norms_compute_the_same() {
    for name in ["tiny_cnn", "resnet18", "mobilenet_v2", "efficientnet_lite0", "vit_tiny_patch16_224"] {
        let graph = small(name);
        let weights = lively(&graph);
        let options = onnx::ExportOptions { fold_batch_norms: true, ..Default::default() };
        let again = onnx::import(&onnx::export(&graph, &weights, &options).unwrap(), &onnx::ImportOptions::default()).unwrap();
        assert!(!again.graph.nodes.iter().any(|n| matches!(n.op, Op::BatchNorm(_))), "{name}");
        let input = images(&graph, 1);
        let wanted = reference::run(&graph, &weights, &input, &[]).unwrap();
        let found = reference::run(&again.graph, &again.weights, &input, &[]).unwrap();
        let difference = largest_difference(&found[0], &wanted[0]);
        assert!(difference <= 1e-4, "{name}: {difference}");
    }
}
