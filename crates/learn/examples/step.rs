//! Milliseconds of one SGD training step on the CPU; `benchmarks/pytorch_step.py` is the same step in PyTorch.
//!
//! `cargo run --release -p fieldmark-learn --example step -- {resnet18_cifar|lite0|mnist_cnn|mobilenet_v2|vit_tiny} [plan|bf16|burn] [STEPS]`
//! prints one JSON object: milliseconds (the median), the loss, and the peak of resident memory in MiB, at the end and before the first step.
//! Threads: `RAYON_NUM_THREADS`.

use std::error::Error;
use std::time::Instant;

use graph::{Activation, Conv2d, Graph, GraphBuilder, Op, Pool2d, Tensor};
use learn::fit::{Backend, OptimizerKind, Precision, Targets, cross_entropy};
use learn::network::NoiseKey;
use learn::optim::{Gradients, Group, Optimizer};
use learn::{DeviceKind, FitOptions, Network};

/// conv32-conv64-pool-fc128-fc10, as the peer has it.
fn mnist_cnn() -> Result<Graph, Box<dyn Error>> {
    let mut b = GraphBuilder::new("mnist_cnn", [1, 28, 28]);
    let x = b.input();
    let x = b.conv("conv1", x, Conv2d::new(1, 32, 3).with_bias());
    let x = b.activation("relu1", x, Activation::Relu);
    let x = b.conv("conv2", x, Conv2d::new(32, 64, 3).with_bias());
    let x = b.activation("relu2", x, Activation::Relu);
    let x = b.max_pool("pool", x, Pool2d::new(2, 2, 0));
    let x = b.add("flatten", Op::Flatten, &[x]);
    let x = b.linear("fc1", x, 128);
    let x = b.activation("relu3", x, Activation::Relu);
    let x = b.linear("fc2", x, 10);
    Ok(b.finish(x)?)
}

fn build(name: &str) -> Result<(Graph, usize), Box<dyn Error>> {
    let zoo = |model: &str, size: usize| -> Result<Graph, Box<dyn Error>> {
        let model = zoo::model(model)?;
        Ok(model.build(&zoo::Config { in_chans: 3, num_classes: 10, image_size: [size; 2], ..model.config() })?)
    };
    match name {
        "resnet18_cifar" => Ok((zoo("resnet18", 32)?, 32)),
        "lite0" => Ok((zoo("efficientnet_lite0", 224)?, 8)),
        "mobilenet_v2" => Ok((zoo("mobilenet_v2", 224)?, 8)),
        "vit_tiny" => Ok((zoo("vit_tiny_patch16_224", 224)?, 8)),
        "mnist_cnn" => Ok((mnist_cnn()?, 64)),
        _ => Err(format!("expected resnet18_cifar, lite0, mobilenet_v2, vit_tiny or mnist_cnn, got {name:?}").into()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "mnist_cnn".into());
    let (graph, batch) = build(&name)?;
    let weights = graph.init_weights(0);
    kernels::keep_freed_memory();
    let (backend, precision) = match std::env::args().nth(2).as_deref() {
        None | Some("plan") => (Backend::Plan, Precision::F32),
        Some("bf16") => (Backend::Plan, Precision::Bf16),
        Some("burn") => (Backend::Burn, Precision::F32),
        Some(other) => return Err(format!("expected plan, bf16 or burn, got {other:?}").into()),
    };
    let steps = std::env::args().nth(3).map_or(Ok(9), |s| s.parse())?;
    let mut network = Network::with_backend(graph, weights, DeviceKind::Cpu, backend, 0)?;
    network.set_precision(precision)?;
    let shape = [&[batch], network.graph().input_shape()].concat();
    let data = (0..shape.iter().product::<usize>()).map(|i| ((i * 7919 % 1000) as f32 - 500.0) / 300.0).collect::<Vec<_>>();
    let input = Tensor { shape, data };
    let mut one_hot = vec![0.0; batch * 10];
    one_hot.iter_mut().step_by(10).for_each(|t| *t = 1.0);
    let targets = Targets::new(&one_hot, &vec![1.0; batch], &[1.0; 10], 0.0);
    let options = FitOptions { optimizer: OptimizerKind::Sgd, momentum: 0.0, nesterov: false, weight_decay: 0.0, ..FitOptions::default() };
    let mut optimizer = Optimizer::new(&options);
    let before_mib = peak_mib();
    let (mut times, mut loss, mut gradients) = (Vec::new(), 0.0, Gradients::default());
    for step in 0..steps {
        let start = Instant::now();
        let key = NoiseKey { seed: 0, epoch: 0, step };
        gradients.clear();
        loss = network.step(&input, key, &mut gradients, |logits| cross_entropy(&logits.data, &targets))?;
        let group = |_: &str| Group { lr: 1.0, decay: false, l1: false };
        network.change(|weights| optimizer.update(weights, &gradients.values, 0.01, group));
        if step >= 2 {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    let result = serde_json::json!({
        "step": name,
        "backend": backend,
        "precision": precision,
        "milliseconds": times.get(times.len() / 2),
        "loss": loss,
        "peak_mib": peak_mib(),
        "before_mib": before_mib,
    });
    println!("{result}");
    Ok(())
}

/// The most memory that was resident, where the system tells.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
