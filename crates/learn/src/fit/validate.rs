//! Judging the weights on the validation samples.

use std::sync::atomic::{AtomicBool, Ordering};

use data::{Dataset, Loader};
use evaluate::Predictions;
use graph::Tensor;

use super::Metric;
use super::loss::log_softmax;
use super::trainer::Inference;
use crate::LearnError;

/// Mean cross-entropy and the metric, where it is defined.
pub(super) struct Judged {
    pub(super) loss: f64,
    pub(super) metric: Option<f64>,
}

/// Runs `network` over the `indices`; `None` where `stop` was raised.
pub(super) fn judge(
    mut network: Inference,
    dataset: &Dataset,
    loader: &Loader,
    indices: &[usize],
    metric: Metric,
    stop: &AtomicBool,
) -> Result<Option<Judged>, LearnError> {
    let k = dataset.classes.len();
    let (mut ids, mut truth, mut probabilities) = (Vec::new(), Vec::new(), Vec::new());
    let (mut loss, mut row) = (0.0, vec![0.0; k]);
    for batch in loader.epoch(indices, 0) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if batch.indices.is_empty() {
            continue;
        }
        let logits = network.logits(&Tensor { shape: batch.shape.to_vec(), data: batch.images })?;
        for (&index, values) in batch.indices.iter().zip(logits.data.chunks_exact(k)) {
            let sample = &dataset.samples[index];
            log_softmax(values, &mut row);
            if let Some(target) = &sample.target {
                loss -=
                    target.as_distribution(k).iter().zip(&row).map(|(&t, &l)| if t > 0.0 { f64::from(t) * l } else { 0.0 }).sum::<f64>();
            }
            ids.push(sample.id.clone());
            truth.push(sample.target.as_ref().and_then(data::Target::argmax));
            probabilities.extend(row.iter().map(|l| l.exp()));
        }
    }
    if ids.is_empty() {
        return Err(LearnError::Data(format!("none of the {} validation images could be read", indices.len())));
    }
    let loss = loss / ids.len() as f64;
    if !loss.is_finite() {
        return Ok(Some(Judged { loss, metric: None }));
    }
    let wrong = |e: evaluate::EvaluateError| LearnError::Training(format!("cannot judge the validation samples: {e}"));
    let table = Predictions::new(dataset.classes.names().to_vec(), ids, truth, probabilities).map_err(wrong)?;
    let options = evaluate::Options { bootstrap: 0, top_k: Vec::new(), ..Default::default() };
    let scores = evaluate::evaluate(&table, &options).map_err(wrong)?;
    Ok(Some(Judged { loss, metric: scores.scores.get(metric.name()).and_then(|m| m.value) }))
}
