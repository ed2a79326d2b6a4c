//! Gradients of the training plans against central differences.

use graph::{Activation, Conv2d, Differentiable, Graph, GraphBuilder, Interpreter, Op, Padding, Pool2d, Tensor};
use learn::network::NoiseKey;
use learn::optim::Gradients;
use learn::{DeviceKind, Network};

use crate::tiny::{noise, weights};

const KEY: NoiseKey = NoiseKey { seed: 1, epoch: 0, step: 0 };

/// Σ logits² / 2 weighted by position: a smooth loss whose gradient by the logits is at hand.
fn loss(logits: &Tensor) -> (f64, Vec<f32>) {
    let factor = |i: usize| 0.3 + (i % 5) as f32 * 0.2;
    let value = logits.data.iter().enumerate().map(|(i, &x)| f64::from(factor(i)) * f64::from(x) * f64::from(x) / 2.0).sum();
    (value, logits.data.iter().enumerate().map(|(i, &x)| factor(i) * x).collect())
}

/// Compares the training gradients of some values of every parameter with central differences.
fn check(graph: &Graph, batch: usize) {
    let start = weights(graph, 11);
    let input = noise(&[&[batch], graph.input_shape()].concat(), 4);
    let at = |w: graph::Weights| {
        let mut network = Network::new(graph.clone(), w, DeviceKind::Cpu).unwrap();
        let mut gradients = Gradients::default();
        let loss = network.step(&input, KEY, &mut gradients, loss).unwrap();
        (loss, gradients.values)
    };
    let (_, analytic) = at(start.clone());
    for p in graph.parameters().filter(|p| p.role.is_learned()) {
        let gradient = &analytic[&p.name];
        let scale = gradient.iter().fold(1e-2f32, |m, g| m.max(g.abs()));
        for i in [0, gradient.len() / 2, gradient.len() - 1] {
            let shifted = |d: f32| {
                let mut w = start.clone();
                w.get_mut(&p.name).unwrap().data[i] += d;
                at(w).0
            };
            let numeric = (shifted(4e-3) - shifted(-4e-3)) / 8e-3;
            let difference = (numeric as f32 - gradient[i]).abs();
            assert!(difference < 2e-2 * scale, "{} [{i}]: {numeric} by differences, {} by autodiff (scale {scale})", p.name, gradient[i]);
        }
    }
}

fn on_map(op: impl FnOnce(&mut GraphBuilder, graph::NodeId) -> graph::NodeId) {
    let mut b = GraphBuilder::new("op", [3, 6, 5]);
    let x = b.input();
    let x = b.conv("before", x, Conv2d::new(3, 4, 1).with_bias());
    let x = op(&mut b, x);
    let x = if b.shape(x).len() == 1 { x } else { b.add("flat", Op::Flatten, &[x]) };
    let x = b.linear("fc", x, 3);
    check(&b.finish(x).unwrap(), 3);
}

#[test]
fn of_convolutions() {
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 5, 3).padding(1).with_bias()));
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 5, 3).stride(2).pad(Padding { top: 0, left: 0, bottom: 1, right: 1 })));
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 5, 1).stride(2)));
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 6, 3).groups(2).padding(1)));
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 4, 3).groups(4).padding(1)));
    on_map(|b, x| b.conv("c", x, Conv2d::new(4, 4, 3).groups(4).stride(2).padding(1).with_bias()));
    on_map(|b, x| {
        let mut dilated = Conv2d::new(4, 5, 2).padding(1);
        dilated.dilation = [2, 2];
        b.conv("c", x, dilated)
    });
}

#[test]
fn of_norms_and_smooth_activations() {
    on_map(|b, x| b.batch_norm("bn", x, 1e-3));
    on_map(|b, x| b.layer_norm("ln", x, 1e-3));
    for kind in [Activation::Gelu, Activation::Silu, Activation::HardSwish, Activation::HardSigmoid, Activation::Sigmoid, Activation::Tanh]
    {
        on_map(|b, x| b.activation("a", x, kind));
    }
    on_map(|b, x| {
        let x = b.batch_norm("bn", x, 1e-3);
        b.activation("a", x, Activation::Silu)
    });
}

#[test]
fn of_pools_joins_and_noise() {
    on_map(|b, x| b.avg_pool("p", x, Pool2d::new(3, 2, 1)));
    on_map(|b, x| b.global_avg_pool("p", x));
    on_map(|b, x| {
        let y = b.global_avg_pool("p", x);
        let y = b.add("m", Op::Mul, &[x, y]);
        b.add("c", Op::Concat, &[x, y])
    });
    on_map(|b, x| b.add("d", Op::Dropout { p: 0.4 }, &[x]));
    on_map(|b, x| b.add("d", Op::DropPath { p: 0.4 }, &[x]));
}

#[test]
fn of_attention() {
    on_map(|b, x| {
        let x = b.add("t", Op::ToTokens, &[x]);
        let x = b.add("cls", Op::PrependToken, &[x]);
        let x = b.add("pos", Op::AddPosition, &[x]);
        let x = b.linear("qkv", x, 12);
        let x = b.add("a", Op::Attention { heads: 2 }, &[x]);
        let x = b.add("some", Op::Slice { start: 0, len: 6 }, &[x]);
        let x = b.add("map", Op::ToMap { size: [3, 2] }, &[x]);
        let x = b.add("again", Op::ToTokens, &[x]);
        b.add("select", Op::SelectToken { index: 0 }, &[x])
    });
}

/// Piecewise linear ops: where no value crosses a kink, differences are exact; so only the direction with the largest slope is asked.
#[test]
fn of_relu_and_max_pool_by_the_input() {
    let mut b = GraphBuilder::new("kinks", [2, 6, 6]);
    let x = b.input();
    let x = b.conv("c", x, Conv2d::new(2, 6, 3).padding(1));
    let x = b.batch_norm("bn", x, 1e-5);
    let x = b.activation("a", x, Activation::Relu6);
    let x = b.max_pool("p", x, Pool2d::new(3, 2, 1));
    let x = b.activation("r", x, Activation::Relu);
    let x = b.add("flat", Op::Flatten, &[x]);
    let x = b.linear("fc", x, 3);
    let graph = b.finish(x).unwrap();
    let mut network = Network::new(graph.clone(), weights(&graph, 2), DeviceKind::Cpu).unwrap();
    let input = noise(&[2, 2, 6, 6], 8);
    let by_logits = noise(&[2, 3], 9);
    let gradient = network.input_gradient(&input, &by_logits).unwrap();
    let mut value = |input: &Tensor| -> f64 {
        let logits = network.run(input, &[]).unwrap().remove(0);
        logits.data.iter().zip(&by_logits.data).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    // Along the gradient the loss rises by the gradient's squared length.
    let norm2: f64 = gradient.data.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
    let step = 1e-3 / norm2.sqrt();
    let moved = |sign: f64| Tensor {
        shape: input.shape.clone(),
        data: input.data.iter().zip(&gradient.data).map(|(&x, &g)| x + (sign * step * f64::from(g)) as f32).collect(),
    };
    let slope = (value(&moved(1.0)) - value(&moved(-1.0))) / (2.0 * step);
    assert!((slope / norm2 - 1.0).abs() < 0.02, "slope {slope}, expected {norm2}");
}

/// The running statistics follow PyTorch: `(1 - m) old + m new`, with the unbiased variance.
#[test]
fn running_statistics_follow_the_batch() {
    let mut b = GraphBuilder::new("bn", [2, 2, 2]);
    let x = b.input();
    let x = b.batch_norm("bn", x, 1e-5);
    let x = b.global_avg_pool("p", x);
    let graph = b.finish(x).unwrap();
    let mut network = Network::new(graph.clone(), graph.init_weights(0), DeviceKind::Cpu).unwrap();
    let input = noise(&[3, 2, 2, 2], 1);
    network.step(&input, KEY, &mut Gradients::default(), loss).unwrap();
    for c in 0..2 {
        let values: Vec<f64> = (0..24).filter(|i| i / 4 % 2 == c).map(|i| f64::from(input.data[i])).collect();
        let mean = values.iter().sum::<f64>() / 12.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 11.0;
        let found = |name: &str| f64::from(network.weights()[name].data[c]);
        assert!((found("bn.running_mean") - 0.1 * mean).abs() < 1e-6);
        assert!((found("bn.running_var") - (0.9 + 0.1 * variance)).abs() < 1e-6);
    }
}
