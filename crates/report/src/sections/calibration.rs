//! Whether the probabilities mean what they say.

use maud::{Markup, html};

use super::figure;
use crate::input::ReportInput;
use crate::plots::{confidence_histogram, reliability_diagram};
use crate::text;

pub fn body(input: &ReportInput) -> Option<Markup> {
    let bins = &input.curves?.reliability;
    let scores = &input.evaluation.scores;
    let filled = bins.iter().filter(|b| b.count > 0);
    let (said, right) = filled.fold((0.0, 0.0), |(said, right), b| {
        let count = b.count as f64;
        (said + count * b.confidence.unwrap_or(0.0), right + count * b.accuracy.unwrap_or(0.0))
    });
    let n: usize = bins.iter().map(|b| b.count).sum();
    (n > 0).then(|| {
        let (said, right) = (said / n as f64, right / n as f64);
        let leaning = format!("mean confidence {}, share that is right {}", text::number(said), text::number(right));
        html! {
            p { (judgement(said - right)) " On average it claims " (text::percent(said)) " and is right on " (text::percent(right)) "." }
            div.plots {
                (figure(reliability_diagram(bins, &format!("Accuracy against confidence in {} bins; {leaning}.", bins.len())), html! {
                    "Reliability of the most probable class. Expected calibration error "
                    @match scores.ece.value { Some(ece) => { (text::number(ece)) @if let Some(i) = text::interval(&scores.ece) { " (" (i) ")" } } None => "undefined" }
                    "; shaded gaps are what it sums up."
                }))
                (figure(confidence_histogram(bins, &format!("Predictions by confidence; {leaning}.")), html! { "How confident the predictions are, and how many of them are right." }))
            }
        }
    })
}

fn judgement(excess: f64) -> &'static str {
    match excess {
        e if e > 0.03 => "The classifier is overconfident.",
        e if e < -0.03 => "The classifier is underconfident.",
        _ => "Confidence and accuracy agree overall.",
    }
}
