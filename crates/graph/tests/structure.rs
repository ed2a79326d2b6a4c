#![allow(clippy::unwrap_used)]
//! Checks, passes, JSON and fresh weights, from the outside.

use fieldmark_graph::{Activation, Conv2d, Graph, GraphBuilder, NodeId, Op, Pool2d, Tensor, reference};
use proptest::prelude::*;

/// A small residual network with stages stem, block, head.
fn residual() -> Graph {
    let mut b = GraphBuilder::new("residual", [3, 9, 9]);
    let x = b.input();
    let x = b.conv("conv1", x, Conv2d::new(3, 4, 3).stride(2).padding(1));
    let x = b.batch_norm("bn1", x, 1e-5);
    let x = b.activation("relu1", x, Activation::Relu);
    let x = b.max_pool("pool1", x, Pool2d::new(2, 1, 0));
    b.stage("block");
    let y = b.conv("block.conv", x, Conv2d::new(4, 4, 3).padding(1).groups(2).with_bias());
    let y = b.activation("block.act", y, Activation::Gelu);
    let x = b.sum("block.add", x, y);
    b.stage("head");
    let x = b.global_avg_pool("pool", x);
    b.tap("features", x);
    let x = b.add("drop", Op::Dropout { p: 0.2 }, &[x]);
    let x = b.linear("fc", x, 7);
    b.finish(x).unwrap()
}

fn image() -> Tensor {
    Tensor::new([2, 3, 9, 9], (0..2 * 3 * 81).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect()).unwrap()
}

#[test]
fn the_first_misfit_is_named() {
    let mut b = GraphBuilder::new("wrong", [1, 8, 8]);
    let x = b.input();
    let x = b.conv("conv1", x, Conv2d::new(3, 4, 3));
    let x = b.linear("fc", x, 7);
    assert_eq!(b.finish(x).unwrap_err().to_string(), "in node \"conv1\" (Conv2d): expected 3 input channels, got 1");

    let mut b = GraphBuilder::new("small", [1, 4, 4]);
    let x = b.input();
    let x = b.conv("conv1", x, Conv2d::new(1, 4, 7).padding(1));
    let problem = "a window of 7 does not fit a padded input of 6; use larger images";
    assert_eq!(b.finish(x).unwrap_err().to_string(), format!("in node \"conv1\" (Conv2d): {problem}"));

    let mut b = GraphBuilder::new("map", [1, 4, 4]);
    let x = b.input();
    let x = b.conv("conv1", x, Conv2d::new(1, 4, 3));
    let error = b.finish(x).unwrap_err().to_string();
    assert_eq!(error, "in graph \"map\": expected an output [num_classes], got [4, 2, 2] from node \"conv1\"");

    let mut b = GraphBuilder::new("twice", [1, 4, 4]);
    let x = b.input();
    let x = b.global_avg_pool("pool", x);
    let x = b.linear("fc", x, 2);
    let x = b.linear("fc", x, 2);
    assert_eq!(b.finish(x).unwrap_err().to_string(), "in node \"fc\" (Linear): the name occurs twice");
}

#[test]
fn huge_sizes_are_errors() {
    for conv in [
        Conv2d::new(1, usize::MAX, 3),
        Conv2d::new(1, 1 << 24, 1 << 24),
        Conv2d::new(1, 4, usize::MAX).padding(usize::MAX),
        Conv2d { dilation: [usize::MAX; 2], ..Conv2d::new(1, 4, 3) },
        Conv2d::new(1, 0, 3),
    ] {
        let mut b = GraphBuilder::new("huge", [1, 8, 8]);
        let x = b.input();
        let x = b.conv("conv1", x, conv);
        assert!(b.finish(x).unwrap_err().to_string().contains("conv1"));
    }
    let b = GraphBuilder::new("huge", [usize::MAX, usize::MAX, 2]);
    let x = b.input();
    assert!(b.finish(x).is_err());
}

#[test]
fn json_round_trip() {
    let graph = residual();
    assert_eq!(Graph::from_json(&graph.to_json().unwrap()).unwrap(), graph);
    let empty = r#"{"name":"none","nodes":[],"output":0,"taps":{},"stages":[]}"#;
    assert_eq!(Graph::from_json(empty).unwrap_err().to_string(), "in graph \"none\": expected 1 to 1048576 nodes, got 0");
    assert!(Graph::from_json("{}").unwrap_err().to_string().contains("expected a graph"));
}

#[test]
fn tampered_graphs_are_errors() {
    let tamper = |change: &dyn Fn(&mut Graph)| {
        let mut graph = residual();
        change(&mut graph);
        let error = graph.check().unwrap_err().to_string();
        // What cannot be checked cannot be run either, and does not panic.
        assert!(reference::run(&graph, &residual().init_weights(0), &image(), &[]).is_err());
        error
    };
    let error = tamper(&|g| g.nodes[1].inputs = vec![NodeId(usize::MAX)]);
    assert!(error.starts_with("in node \"conv1\" (Conv2d): reads node 18446744073709551615, which is not earlier"), "{error}");
    assert!(tamper(&|g| g.nodes[1].inputs.clear()).contains("expected 1 input, got 0"));
    assert!(tamper(&|g| g.nodes[2].shape = vec![4, 5, 6]).contains("states the shape [4, 5, 6], inferred [4, 5, 5]"));
    assert!(tamper(&|g| g.nodes[3].stage = 9).contains("stage 9 of 3"));
    assert!(tamper(&|g| g.output = NodeId(99)).contains("the output is node 99"));
    assert!(tamper(&|g| g.taps.extend([("x".into(), NodeId(99))])).contains("tap \"x\" names node 99"));
    assert!(tamper(&|g| g.nodes[1].parameters[0].shape[0] = 1 << 60).contains("parameter \"conv1.weight\""));
    assert!(tamper(&|g| g.nodes[2].parameters[0].name = "conv1.weight".into()).contains("occurs twice"));
    assert!(tamper(&|g| g.nodes[9].op = Op::Dropout { p: f32::NAN }).contains("expected a probability"));
    assert!(tamper(&|g| g.nodes[1].op = Op::Input { shape: vec![4, 5, 5] }).contains("the first node, and no other"));
    assert!(tamper(&|g| drop(g.nodes.remove(0))).contains("the first node, and no other"));
}

#[test]
fn another_number_of_classes_changes_the_last_layer_only() {
    let graph = residual();
    let ten = graph.with_num_classes(10).unwrap();
    assert_eq!((graph.num_classes(), ten.num_classes()), (7, 10));
    assert_eq!(ten.parameter_count() - graph.parameter_count(), 3 * 5);
    assert_eq!(ten.nodes[..ten.output.0], graph.nodes[..graph.output.0]);
    assert!(graph.with_num_classes(0).unwrap_err().to_string().contains("fc"));

    let mut b = GraphBuilder::new("no head", [3, 4, 4]);
    let x = b.input();
    let x = b.global_avg_pool("pool", x);
    let error = b.finish(x).unwrap().with_num_classes(2).unwrap_err().to_string();
    assert_eq!(error, "in graph \"no head\": expected a Linear that makes the logits, found GlobalAvgPool at node \"pool\"");
}

#[test]
fn the_two_parts_of_a_split_make_the_whole() {
    let graph = residual();
    let weights = graph.init_weights(5);
    let whole = reference::run(&graph, &weights, &image(), &[]).unwrap();
    for stage in 1..3 {
        let (first, second) = graph.split_at_stage(stage).unwrap();
        assert_eq!(first.stages.len() + second.stages.len(), 3);
        assert_eq!(second.stages, graph.stages[stage..]);
        let boundary = reference::run(&first, &weights, &image(), &[]).unwrap();
        assert_eq!(reference::run(&second, &weights, &boundary[0], &[]).unwrap(), whole, "cut before stage {stage}");
        assert_eq!(first.parameter_count() + second.parameter_count(), graph.parameter_count());
        assert_eq!(second.num_classes(), 7);
        assert!(second.taps.contains_key("features"));
    }
    assert!(graph.split_at_stage(0).is_err() && graph.split_at_stage(3).is_err());
}

#[test]
fn a_split_through_a_residual_branch_is_refused() {
    let mut b = GraphBuilder::new("crossing", [3, 4, 4]);
    let x = b.input();
    let y = b.activation("act", x, Activation::Relu);
    b.stage("late");
    let x = b.sum("add", x, y);
    let x = b.global_avg_pool("pool", x);
    let error = b.finish(x).unwrap().split_at_stage(1).unwrap_err().to_string();
    assert_eq!(error, "in graph \"crossing\": expected one activation that enters stage \"late\", got 2: \"input\", \"act\"");
}

#[test]
fn a_prefix_ends_at_its_node() {
    let graph = residual();
    let weights = graph.init_weights(5);
    for name in ["relu1", "block.act", "pool", "input"] {
        let at = graph.find(name).unwrap();
        let prefix = graph.prefix(at).unwrap();
        assert_eq!(reference::run(&prefix, &weights, &image(), &[]).unwrap(), reference::run(&graph, &weights, &image(), &[at]).unwrap());
    }
    assert!(graph.prefix(NodeId(99)).is_err());
}

#[test]
fn macs_by_hand() {
    // conv1 5×5×4 outputs of 3×9 taps; block.conv 4×4×4 of 2×9; fc 7 of 4.
    assert_eq!(residual().macs(), 100 * 27 + 64 * 18 + 28);
}

#[test]
fn every_misfit_of_weights_is_listed() {
    let graph = residual();
    let mut weights = graph.init_weights(0);
    weights.insert("bn1.num_batches_tracked".into(), Tensor::zeros([]));
    graph.check_weights(&weights).unwrap();
    weights.remove("fc.bias");
    weights.insert("fc.weight".into(), Tensor::zeros([1000, 4]));
    weights.insert("fc2.weight".into(), Tensor::zeros([2]));
    let expected = "the weights do not fit graph \"residual\", 3 problems:\n  \"fc.weight\": expected shape [7, 4], got [1000, 4]\n  \
                    missing \"fc.bias\" [7]\n  extra \"fc2.weight\" [2]";
    assert_eq!(graph.check_weights(&weights).unwrap_err().to_string(), expected);
}

#[test]
fn fresh_weights_depend_on_seed_and_name_only() {
    let graph = residual();
    let weights = graph.init_weights(1);
    assert_eq!(weights, graph.init_weights(1));
    assert_ne!(weights["conv1.weight"], graph.init_weights(2)["conv1.weight"]);
    let (_, second) = graph.split_at_stage(2).unwrap();
    assert_eq!(second.init_weights(1)["fc.weight"], weights["fc.weight"]);
    assert!(weights["fc.bias"].data.iter().all(|v| v.abs() <= 0.5) && weights["fc.bias"].data.iter().any(|v| *v != 0.0));
    assert!(weights["bn1.weight"].data.iter().chain(&weights["bn1.running_var"].data).all(|&v| v == 1.0));
    assert!(weights["bn1.bias"].data.iter().chain(&weights["block.conv.bias"].data).all(|&v| v == 0.0));
}

#[test]
fn fresh_weights_have_their_distributions() {
    let mut b = GraphBuilder::new("wide", [16, 8, 8]);
    let x = b.input();
    let x = b.conv("conv", x, Conv2d::new(16, 64, 3).groups(2));
    let x = b.add("tokens", Op::ToTokens, &[x]);
    let x = b.add("position", Op::AddPosition, &[x]);
    let x = b.add("first", Op::SelectToken { index: 0 }, &[x]);
    let x = b.linear("fc", x, 100);
    let weights = b.finish(x).unwrap().init_weights(9);
    let moments = |name: &str| {
        let data = &weights[name].data;
        let mean = data.iter().map(|&v| f64::from(v)).sum::<f64>() / data.len() as f64;
        (mean, (data.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / data.len() as f64).sqrt())
    };
    let near = |name: &str, sigma: f64| {
        let (mean, found) = moments(name);
        assert!(mean.abs() < 0.06 * sigma && (found / sigma - 1.0).abs() < 0.04, "{name}: mean {mean}, σ {found}, expected {sigma}");
    };
    near("conv.weight", (2.0 / (32.0 * 9.0f64)).sqrt());
    near("fc.weight", 1.0 / (3.0 * 64.0f64).sqrt());
    near("position", 0.02 * 0.8796);
    assert!(weights["position"].data.iter().all(|v| v.abs() <= 0.04));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any number in the file replaced by any other: an error, or a graph that holds together.
    #[test]
    fn changed_numbers_never_panic(which in any::<prop::sample::Index>(), number in prop_oneof![0..20u64, Just(u64::MAX), any::<u64>()]) {
        let json = residual().to_json().unwrap();
        let starts: Vec<usize> = (1..json.len()).filter(|&i| json.as_bytes()[i].is_ascii_digit() && matches!(json.as_bytes()[i - 1], b':' | b'[' | b',')).collect();
        let at = starts[which.index(starts.len())];
        let end = at + json[at..].find(|c: char| !c.is_ascii_digit()).unwrap();
        if let Ok(graph) = Graph::from_json(&format!("{}{number}{}", &json[..at], &json[end..])) {
            let _ = (graph.macs(), graph.parameter_count(), graph.split_at_stage(1), graph.with_num_classes(3), graph.prefix(graph.output));
        }
    }
}
