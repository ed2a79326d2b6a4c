//! Times a network of the zoo: `cargo run --release -p fieldmark-engine --example time -- efficientnet_lite0 8 [threads [precision [profile]]]`.
//! Int8 is calibrated on noise, which is good for its time only; with 16-bit maps where the environment variable `WIDE` is set.

use std::time::Instant;

use fieldmark_engine::quantize::{Activations, CalibrationOptions, Method, calibrate};
use fieldmark_engine::{Engine, EngineOptions, Precision};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("efficientnet_lite0", String::as_str);
    let batch: usize = arguments.get(1).map_or(Ok(1), |s| s.parse())?;
    let threads: usize = arguments.get(2).map_or(Ok(0), |s| s.parse())?;
    let precision: Precision = arguments.get(3).map_or(Ok(Precision::F32), |s| s.parse())?;
    let model = zoo::model(name)?;
    let graph = model.build(&model.config())?;
    // Values as images have them: the time of some instructions depends on them.
    let input: Vec<f32> =
        (0..batch * graph.input_shape().iter().product::<usize>()).map(|i| ((i * 7919) % 513) as f32 / 256.0 - 1.0).collect();
    let weights = graph.init_weights(1);
    let size: usize = graph.input_shape().iter().product();
    let activations = if std::env::var_os("WIDE").is_some() { Activations::I16 } else { Activations::U8 };
    let settings = CalibrationOptions {
        method: Some(Method::MinMax),
        activations: Some(activations),
        fit_weights: false,
        most_kept: 0,
        ..CalibrationOptions::default()
    };
    let quantization = (precision == Precision::Int8).then(|| calibrate(&graph, &weights, &input[..size], &settings)).transpose()?;
    let mut engine = Engine::quantized(&graph, &weights, quantization.as_ref(), EngineOptions { threads, precision })?;
    let mut logits = Vec::new();
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..35 {
        let start = Instant::now();
        engine.run_into(&input, graph.output, &mut logits)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let times = &mut times[5..];
    times.sort_by(f64::total_cmp);
    println!(
        "{name}, batch {batch}, {}, {} threads: fastest {:.2} ms, median {:.2} ms",
        precision.name(),
        engine.threads(),
        times[0],
        times[15]
    );
    if arguments.len() > 4 {
        for step in engine.profile(&input, 21)? {
            let shape = step.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
            println!("{:<40} {:<14} {shape:<14} {:>8.3} ms {:>7.1} GFLOP/s", step.name, step.op, step.milliseconds, step.gflops());
        }
    }
    Ok(())
}
