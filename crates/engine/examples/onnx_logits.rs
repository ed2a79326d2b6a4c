//! The logits of an ONNX file or model file on made-up values, as little-endian `f32`: `benchmarks/onnx_parity.py` compares them with those
//! of ONNX Runtime.
//!
//! `onnx_logits import FILE.onnx OUT.f32` reads a file; `onnx_logits export ARCHITECTURE OUT.onnx OUT.f32` writes one of the zoo.

use std::path::Path;

use fieldmark_engine::{Engine, EngineOptions};
use graph::{Graph, Role, Tensor, Weights, onnx};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["import", file, out] => {
            let options = onnx::ImportOptions { image_size: Some([224; 2]), ..Default::default() };
            let imported = onnx::read(Path::new(file), &options)?;
            for note in &imported.info.notes {
                eprintln!("{note}");
            }
            println!(
                "{} nodes, {} parameters, input {:?}, stages {}",
                imported.graph.nodes.len(),
                imported.graph.parameter_count(),
                imported.graph.input_shape(),
                imported.graph.stages.join(" ")
            );
            run(&imported.graph, &imported.weights, out)
        }
        ["export", name, file, out] => {
            let model = zoo::model(name)?;
            let graph = model.build(&model.config())?;
            let weights = lively(&graph);
            std::fs::write(file, onnx::export(&graph, &weights, &onnx::ExportOptions::default())?)?;
            run(&graph, &weights, out)
        }
        _ => Err("expected import FILE.onnx OUT.f32, or export ARCHITECTURE OUT.onnx OUT.f32".into()),
    }
}

fn run(graph: &Graph, weights: &Weights, out: &str) -> Result<(), Failure> {
    let shape = [&[2], graph.input_shape()].concat();
    let count = shape.iter().product::<usize>();
    let data = (0..count).map(|i| (((i * 37) % 101) as f64 / 50.0 - 1.0) as f32).collect();
    let input = Tensor::new(shape, data).ok_or("sizes")?;
    let logits = Engine::new(graph, weights, EngineOptions::default())?.run(&input, &[])?;
    let bytes: Vec<u8> = logits[0].data.iter().flat_map(|v| v.to_le_bytes()).collect();
    Ok(std::fs::write(out, bytes)?)
}

/// Random weights with norms that do something.
fn lively(graph: &Graph) -> Weights {
    let mut weights = graph.init_weights(5);
    for parameter in graph.parameters() {
        let Some(tensor) = weights.get_mut(&parameter.name) else { continue };
        for (i, v) in tensor.data.iter_mut().enumerate() {
            let wave = ((i * 37) % 101) as f32 / 101.0;
            match parameter.role {
                Role::NormWeight | Role::RunningVar => *v = 0.6 + wave,
                Role::NormBias | Role::RunningMean => *v = 0.4 * wave - 0.2,
                Role::Weight | Role::Bias | Role::Embedding => {}
            }
        }
    }
    weights
}
