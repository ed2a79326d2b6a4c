#![allow(clippy::unwrap_used)]
//! Every op against PyTorch: `tests/golden/ops.json`, made by `tests/golden/ops.py`.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::spatial::add_row as spatial_row;
use super::*;
use crate::builder::GraphBuilder;
use crate::infer::infer_shape;
use crate::op::Conv2d;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    op: Op,
    inputs: Vec<Values>,
    parameters: Vec<Values>,
    output: Values,
}

#[derive(Deserialize)]
struct Values {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Values {
    fn tensor(&self) -> Tensor {
        Tensor::new(self.shape.clone(), self.data.clone()).unwrap()
    }
}

#[test]
fn every_op_agrees_with_pytorch() {
    let golden: Golden = serde_json::from_str(include_str!("../../tests/golden/ops.json")).unwrap();
    let mut kinds = BTreeSet::new();
    for case in &golden.cases {
        kinds.insert(case.op.kind());
        let inputs: Vec<Tensor> = case.inputs.iter().map(Values::tensor).collect();
        let parameters: Vec<Tensor> = case.parameters.iter().map(Values::tensor).collect();
        let shapes: Vec<&[usize]> = inputs.iter().map(|x| &x.shape[1..]).collect();
        assert_eq!(infer_shape(&case.op, &shapes).as_deref(), Ok(&case.output.shape[1..]), "{}: inferred shape", case.name);
        let stated: Vec<Vec<usize>> = case.op.parameters(shapes[0]).into_iter().map(|(_, _, shape)| shape).collect();
        assert_eq!(stated, parameters.iter().map(|p| p.shape.clone()).collect::<Vec<_>>(), "{}: parameters", case.name);
        let found = evaluate(&case.op, &inputs.iter().collect::<Vec<_>>(), &parameters.iter().collect::<Vec<_>>(), Mode::Inference, 0);
        assert_eq!(found.shape, case.output.shape, "{}", case.name);
        for (i, (x, y)) in found.data.iter().zip(&case.output.data).enumerate() {
            // Both round a f64 result to f32; the golden file keeps seven digits.
            assert!((x - y).abs() <= 1e-6 * y.abs().max(1.0), "{} at {i}: {x}, PyTorch {y}", case.name);
        }
    }
    // Input, Dropout and DropPath hand their input through.
    assert_eq!(kinds.len(), 20, "each op has a case: {kinds:?}");
}

#[test]
fn convolution_columns_agree_with_a_loop_over_single_taps() {
    // The row-wise loop against the textbook one, where stride, dilation and one-sided padding meet the borders.
    for (stride, dilation, left, right, width) in [(1, 1, 0, 0, 5), (2, 1, 3, 0, 5), (3, 2, 1, 4, 7), (2, 3, 0, 5, 4), (4, 1, 2, 2, 1)] {
        let row: Vec<f32> = (0..width).map(|i| (i * i) as f32 - 3.0).collect();
        let kernel = [0.5f32, -1.0, 2.0];
        let out = (width + left + right - dilation * 2 - 1) / stride + 1;
        let mut sums = vec![0.0; out];
        for (k, &w) in kernel.iter().enumerate() {
            spatial_row(&mut sums, &row, f64::from(w), k * dilation, left, stride);
        }
        for (ox, &sum) in sums.iter().enumerate() {
            let at = |k: usize| (ox * stride + k * dilation).checked_sub(left).and_then(|i| row.get(i)).copied().unwrap_or(0.0);
            let expected: f32 = (0..3).map(|k| kernel[k] * at(k)).sum();
            assert_eq!(sum as f32, expected, "stride {stride} dilation {dilation} left {left} at {ox}");
        }
    }
}

fn two_layers() -> Graph {
    let mut b = GraphBuilder::new("two", [2, 4, 4]);
    let x = b.input();
    let x = b.conv("conv", x, Conv2d::new(2, 3, 3).padding(1));
    let x = b.global_avg_pool("pool", x);
    b.tap("features", x);
    let x = b.linear("fc", x, 5);
    b.finish(x).unwrap()
}

#[test]
fn taps_come_in_the_order_asked_for() {
    let graph = two_layers();
    let weights = graph.init_weights(3);
    let input = Tensor::new([2, 2, 4, 4], (0..64).map(|i| (i % 7) as f32).collect()).unwrap();
    let logits = run(&graph, &weights, &input, &[]).unwrap();
    assert_eq!(logits[0].shape, [2, 5]);
    let taps = Reference { graph: &graph, weights: &weights }.run(&input, &[graph.output, graph.taps["features"], NodeId(0)]).unwrap();
    assert_eq!(taps[0], logits[0]);
    assert_eq!(taps[1].shape, [2, 3]);
    assert_eq!(taps[2], input);
}

#[test]
fn errors_name_the_node_and_the_weight() {
    let graph = two_layers();
    let input = Tensor::zeros([1, 2, 4, 4]);
    let mut weights = graph.init_weights(0);
    weights.insert("fc.weight".into(), Tensor::zeros([5, 4]));
    let message = |weights: &Weights, input: &Tensor, taps: &[NodeId]| run(&graph, weights, input, taps).unwrap_err().to_string();
    assert_eq!(message(&weights, &input, &[]), "in node \"fc\": weight \"fc.weight\": expected shape [5, 3], got [5, 4] with 20 values");
    weights.remove("conv.weight");
    assert_eq!(message(&weights, &input, &[]), "in node \"conv\": weight \"conv.weight\" is missing; load it or initialise it first");
    assert_eq!(message(&weights, &Tensor::zeros([1, 3, 4, 4]), &[]), "expected an input [N, 2, 4, 4], got [1, 3, 4, 4]");
    assert_eq!(message(&weights, &input, &[NodeId(9)]), "expected a node below 4, got node 9");
}
