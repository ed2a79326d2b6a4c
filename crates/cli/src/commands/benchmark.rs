//! `fieldmark benchmark`.

use std::time::{Duration, Instant};

use anyhow::Result;
use engine::quantize::{Activations, CalibrationOptions, Method, calibrate};
use engine::{Engine, EngineOptions, Model, Precision};
use serde::Serialize;

use crate::args;
use crate::open;
use crate::output;

/// Runs before the clock is read.
const WARM_UP: usize = 5;

#[derive(Serialize)]
struct Timing<'a> {
    model: &'a str,
    batch: usize,
    precision: &'a str,
    threads: usize,
    runs: usize,
    /// Milliseconds a batch: median, fastest and slowest run.
    ms: f64,
    ms_min: f64,
    ms_max: f64,
    images_per_second: f64,
}

pub fn run(args: &args::Benchmark) -> Result<()> {
    let model = open::network(&args.model)?;
    let mut engine = engine(&model, args)?;
    let image: usize = model.graph.input_shape().iter().product();
    let input = noise(image * args.batch);
    let mut out = Vec::new();
    let mut once = || -> Result<Duration> {
        let start = Instant::now();
        engine.run_into(&input, model.graph.output, &mut out)?;
        Ok(start.elapsed())
    };
    for _ in 0..WARM_UP {
        once()?;
    }
    let mut times = (0..args.runs).map(|_| Ok(once()?.as_secs_f64() * 1e3)).collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    let ms = median(&times);
    let timing = Timing {
        model: &args.model,
        batch: args.batch,
        precision: args.precision.name(),
        threads: engine.threads(),
        runs: args.runs,
        ms,
        ms_min: times[0],
        ms_max: times[times.len() - 1],
        images_per_second: 1e3 * args.batch as f64 / ms,
    };
    if args.json { output::json(&timing) } else { print(&timing) }
}

/// Int8 of a model without a calibration is calibrated on noise: good for nothing but its time.
fn engine(model: &Model, args: &args::Benchmark) -> Result<Engine> {
    let options = EngineOptions { threads: args.threads, precision: args.precision };
    let stored = model.metadata.quantization.as_ref();
    if args.precision == Precision::Int8 && stored.is_none() {
        let image: usize = model.graph.input_shape().iter().product();
        let settings = CalibrationOptions {
            method: Some(Method::MinMax),
            activations: Some(Activations::U8),
            fit_weights: false,
            most_kept: 0,
            ..CalibrationOptions::default()
        };
        let made = calibrate(&model.graph, &model.weights, &noise(image * 2), &settings)?;
        return Ok(Engine::quantized(&model.graph, &model.weights, Some(&made), options)?);
    }
    Ok(Engine::quantized(&model.graph, &model.weights, stored, options)?)
}

fn print(timing: &Timing) -> Result<()> {
    let row = vec![
        timing.batch.to_string(),
        timing.precision.to_string(),
        timing.threads.to_string(),
        format!("{:.2}", timing.ms),
        format!("{:.2} – {:.2}", timing.ms_min, timing.ms_max),
        format!("{:.1}", timing.images_per_second),
    ];
    output::line(&format!("{}: median of {} runs\n", timing.model, timing.runs))?;
    output::line(&output::table(&["batch", "precision", "threads", "ms", "range", "images/s"], &[row]))
}

/// Median of sorted times; there is at least one.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

/// Values in -1..1 that are the same in every run (a linear congruential generator: speed does not depend on their quality).
fn noise(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
    }

    #[test]
    fn noise_fills_the_range() {
        let values = noise(1000);
        assert!(values.iter().all(|v| (-1.0..1.0).contains(v)));
        assert!(values.iter().any(|&v| v < -0.9) && values.iter().any(|&v| v > 0.9));
    }
}
