//! `auto`: what is fastest within bounds, by measurement.

use std::time::Instant;

use graph::{Graph, RunError, Weights};

use crate::precision::Precision;
use crate::quantize::calibrate::logits;
use crate::quantize::{Agreement, Bounds, Chosen, Quantization};
use crate::run::{Engine, EngineOptions};

/// Timed runs of each precision, taken in turns.
const RUNS: usize = 15;

/// One precision on the calibration images.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The precision.
    pub precision: Precision,
    /// Closeness to f32.
    pub agreement: Agreement,
    /// Median milliseconds for one image, batch 1.
    pub ms: f64,
}

/// Measures f32, bf16 and (where there is a quantization) int8 on preprocessed `images` `[C, H, W]` one after the other, and chooses the
/// fastest within `bounds`. Times depend on the machine, and so may the choice; it is stored with the model to be the same in every run.
///
/// # Errors
/// Images of the wrong size, or what the engine says.
pub fn choose(
    graph: &Graph,
    weights: &Weights,
    quantization: Option<&Quantization>,
    images: &[f32],
    bounds: &Bounds,
    threads: usize,
) -> Result<(Chosen, Vec<Measured>), RunError> {
    let mut candidates = vec![Precision::F32, Precision::Bf16];
    candidates.extend(quantization.map(|_| Precision::Int8));
    let make = |&precision: &Precision| Engine::quantized(graph, weights, quantization, EngineOptions { threads, precision });
    let mut engines = candidates.iter().map(make).collect::<Result<Vec<Engine>, RunError>>()?;
    let outputs = engines.iter_mut().map(|engine| logits(engine, images)).collect::<Result<Vec<_>, _>>()?;
    let size: usize = graph.input_shape().iter().product();
    let image = images.get(..size).ok_or_else(|| RunError::Input { expected: graph.input_shape().to_vec(), found: vec![images.len()] })?;
    let (mut times, mut out) = (vec![Vec::new(); engines.len()], Vec::new());
    for _ in 0..RUNS {
        for (engine, times) in engines.iter_mut().zip(&mut times) {
            let start = Instant::now();
            engine.run_into(image, graph.output, &mut out)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let measured: Vec<Measured> = candidates
        .iter()
        .zip(&outputs)
        .zip(&mut times)
        .map(|((&precision, found), times)| {
            let agreement = Agreement::of(&outputs[0], found, graph.num_classes());
            Measured { precision, agreement, ms: median(times) }
        })
        .collect();
    Ok((decide(&measured, bounds), measured))
}

/// The fastest within bounds; f32 always is.
fn decide(measured: &[Measured], bounds: &Bounds) -> Chosen {
    let within = |m: &&Measured| m.precision == Precision::F32 || bounds.hold(&m.agreement);
    let best = measured.iter().filter(within).min_by(|a, b| a.ms.total_cmp(&b.ms));
    let each: Vec<String> = measured
        .iter()
        .map(|m| {
            let a = &m.agreement;
            let verdict = if within(&m) { "" } else { ", outside the bounds" };
            let (top1, error) = (100.0 * a.top1, 100.0 * a.logit_error);
            format!("{} {:.2} ms, top-1 agreement {top1:.1} %, logit error {error:.2} %{verdict}", m.precision.name(), m.ms)
        })
        .collect();
    let precision = best.map_or(Precision::F32, |m| m.precision);
    let why = format!(
        "the fastest within {:.1} % agreement and {:.1} % logit error: {}",
        100.0 * bounds.top1,
        100.0 * bounds.logit_error,
        each.join("; ")
    );
    Chosen { precision, why }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn measured(precision: Precision, top1: f64, logit_error: f64, ms: f64) -> Measured {
        Measured { precision, agreement: Agreement { top1, logit_error, images: 100 }, ms }
    }

    #[test]
    fn the_fastest_within_bounds_wins() {
        let f32 = measured(Precision::F32, 1.0, 0.0, 9.0);
        let bf16 = measured(Precision::Bf16, 0.995, 0.005, 6.0);
        let int8 = measured(Precision::Int8, 0.97, 0.01, 3.0);
        let chosen = decide(&[f32.clone(), bf16.clone(), int8.clone()], &Bounds::default());
        assert_eq!(chosen.precision, Precision::Bf16);
        assert!(chosen.why.contains("int8 3.00 ms, top-1 agreement 97.0 %, logit error 1.00 %, outside the bounds"), "{}", chosen.why);
        let loose = Bounds { top1: 0.9, logit_error: 0.02 };
        assert_eq!(decide(&[f32.clone(), bf16, int8], &loose).precision, Precision::Int8);
        assert_eq!(decide(&[f32], &Bounds { top1: 2.0, logit_error: -1.0 }).precision, Precision::F32);
    }

    #[test]
    fn agreement_counts_classes_and_measures_logits() {
        let a = Agreement::of(&[0.0, 10.0, 5.0, 0.0], &[0.0, 9.0, 0.0, 5.0], 2);
        assert_eq!((a.top1, a.images), (0.5, 2));
        assert!((a.logit_error - (0.05 + 1.0) / 2.0).abs() < 1e-9);
    }
}
