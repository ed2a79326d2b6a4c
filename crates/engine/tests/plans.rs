//! Plans of the engine: what they fuse, the same bits for any number of threads and for forks, and what does not fit.
//!
//! That they compute what the reference computes, in every precision, is the conformance suite's to say (`learn/tests/conformance`, where the
//! tolerances are); the networks here are among its cases.
#![allow(clippy::unwrap_used)]

use fieldmark_engine::quantize::{Activations, CalibrationOptions, Kept, Method, Quantization, calibrate};
use fieldmark_engine::{Engine, EngineOptions, Precision};
use graph::{Graph, NodeId, Tensor, Weights};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod networks;

fn engine(graph: &Graph, weights: &Weights, threads: usize) -> Engine {
    engine_in(Precision::F32, graph, weights, threads)
}

fn engine_in(precision: Precision, graph: &Graph, weights: &Weights, threads: usize) -> Engine {
    if precision != Precision::Int8 {
        return Engine::new(graph, weights, EngineOptions { threads, precision }).unwrap();
    }
    let images = random(&[&[60], graph.input_shape()].concat(), &mut ChaCha8Rng::seed_from_u64(0)).data;
    let (method, activations) = (Some(Method::MinMax), Some(Activations::U8));
    let options = CalibrationOptions { method, activations, fit_weights: false, most_kept: 0, threads, ..CalibrationOptions::default() };
    let quantization = calibrate(graph, weights, &images, &options).unwrap();
    Engine::quantized(graph, weights, Some(&quantization), EngineOptions { threads, precision }).unwrap()
}

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

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

#[test]
fn large_inverted_residuals_are_one_step_each() {
    let graph = networks::inverted_residuals();
    let mut engine = engine(&graph, &weights(&graph, 7), 2);
    let steps = engine.profile(&vec![0.5; 3 * 118 * 114], 1).unwrap();
    let ops: Vec<&str> = steps.iter().map(|step| step.op).collect();
    assert_eq!(ops, ["stem", "separable", "bottleneck", "bottleneck", "global average", "linear"]);
    // Buffers are shared: fewer values than all steps write.
    let written: usize = steps.iter().map(|step| step.shape.iter().product::<usize>()).sum();
    let peak = engine.peak_activations(&[], 3).unwrap();
    assert!(peak > 0 && peak < written * 3 * 4, "{peak} bytes for {written} values an image");
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for seed in [1, 2, 3] {
        let graph = networks::random(seed);
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
    let graph = networks::random(5);
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
fn what_does_not_fit_is_named() {
    let graph = networks::random(1);
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
