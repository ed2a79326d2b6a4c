//! What a network refuses.

use graph::{Differentiable, Interpreter, NodeId};
use learn::{DeviceKind, Network};

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
