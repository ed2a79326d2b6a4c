//! Times a network of the zoo: `cargo run --release -p fieldmark-engine --example time -- efficientnet_lite0 8 [threads]`.

use std::time::Instant;

use fieldmark_engine::{Engine, EngineOptions};
use graph::Tensor;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("efficientnet_lite0", String::as_str);
    let batch: usize = arguments.get(1).map_or(Ok(1), |s| s.parse())?;
    let threads: usize = arguments.get(2).map_or(Ok(0), |s| s.parse())?;
    let model = zoo::model(name)?;
    let graph = model.build(&model.config())?;
    let mut engine = Engine::new(&graph, &graph.init_weights(1), EngineOptions { threads })?;
    let input = Tensor::zeros([&[batch], graph.input_shape()].concat());
    let mut logits = Vec::new();
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..30 {
        let start = Instant::now();
        engine.run_into(&input.data, graph.output, &mut logits)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!("{name}, batch {batch}, {} threads: fastest {:.1} ms, median {:.1} ms", engine.threads(), times[0], times[15]);
    Ok(())
}
