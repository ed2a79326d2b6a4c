//! The verdict, the cards, and the table of all metrics.

use evaluate::{Evaluation, Metric};
use maud::{Markup, html};

use super::{reason, scrolling};
use crate::plots::whisker;
use crate::text;

/// How often the classifier is right, beside the easiest rival: always giving the most frequent answer.
pub fn verdict(evaluation: &Evaluation) -> String {
    let accuracy = &evaluation.scores.accuracy;
    let Some(value) = accuracy.value else {
        return format!("How often the classifier is right is undefined: {}.", reason(accuracy));
    };
    let share = |v: f64| format!("{:.1}", v * 100.0);
    let mut sentence = format!("Right on {} % of {}", share(value), text::plural(evaluation.n, "image", "images"));
    if let Some([low, high]) = accuracy.ci95 {
        sentence.push_str(&format!(" (95 % interval {}–{} %)", share(low), share(high)));
    }
    if let Some(class) = evaluation.per_class.iter().max_by_key(|c| c.support).filter(|c| c.support > 0 && evaluation.n > 0) {
        let rival = share(class.support as f64 / evaluation.n as f64);
        sentence.push_str(&format!(", where always answering “{}” would be right on {rival} %", class.class));
    }
    sentence + "."
}

pub fn body(evaluation: &Evaluation) -> Markup {
    let scores = &evaluation.scores;
    let area = match evaluation.classes.as_slice() {
        [_, positive] => format!("of “{positive}”"),
        _ => "mean of one-vs-rest".to_owned(),
    };
    html! {
        div.cards {
            (card("Accuracy", "share that is right", &scores.accuracy, true))
            (card("Balanced accuracy", "mean recall of the classes", &scores.balanced_accuracy, true))
            (card("Macro F1", "mean over the classes", &scores.macro_f1, true))
            (card("ROC AUC", &area, &scores.roc_auc_macro, true))
            (card("Log loss", "lower is better", &scores.log_loss, false))
            (card("Calibration error", "ECE, lower is better", &scores.ece, true))
        }
        p.note {
            @if evaluation.options.bootstrap > 0 {
                "Ranges are 95 % percentile bootstrap intervals over images, from " (text::count(evaluation.options.bootstrap)) " replicates. "
            } @else { "No intervals were asked for. " }
            @if evaluation.unlabelled > 0 { (text::plural(evaluation.unlabelled, "image has", "images have")) " no label and could not be judged. " }
            @if !evaluation.absent_classes.is_empty() { "No judged image is of: " (evaluation.absent_classes.join(", ")) "." }
        }
        details { summary { "All metrics" } (scrolling("All metrics", every_metric(evaluation))) }
    }
}

fn card(name: &str, meaning: &str, metric: &Metric, in_unit_range: bool) -> Markup {
    html! {
        div.card {
            h3 { (name) }
            @match metric.value {
                Some(value) => {
                    p.figure-value { (text::number(value)) }
                    p.range { @match text::interval(metric) { Some(between) => (between), None => "no interval" } }
                    p.meaning { (meaning) }
                    @if in_unit_range { (whisker(value, metric.ci95, None, [0.0, 1.0])) }
                }
                None => { p.figure-value.undefined { "undefined" } p.range { (reason(metric)) } p.meaning { (meaning) } }
            }
        }
    }
}

fn every_metric(evaluation: &Evaluation) -> Markup {
    let ranked: Vec<(String, &Metric)> = evaluation.scores.top_k.iter().map(|(k, metric)| (format!("Top-{k} accuracy"), metric)).collect();
    let rows = evaluation.summary().into_iter().map(|(key, metric)| (long_name(key), metric)).chain(ranked);
    html! {
        table {
            thead { tr { th scope="col" { "Metric" } th.number scope="col" { "Value" } th.number scope="col" { "95 % interval" } } }
            tbody {
                @for (name, metric) in rows {
                    tr {
                        th scope="row" { (name) }
                        @match metric.value {
                            Some(value) => { td.number { (text::number(value)) } td.number { (text::interval(metric).unwrap_or(text::NOTHING.to_owned())) } }
                            None => { td.number.undefined { "undefined" } td { (reason(metric)) } }
                        }
                    }
                }
            }
        }
    }
}

/// A metric's key in words.
pub fn long_name(key: &str) -> String {
    match key {
        "roc_auc_macro" => "ROC AUC, macro".to_owned(),
        "roc_auc_micro" => "ROC AUC, micro".to_owned(),
        "roc_auc_weighted" => "ROC AUC, weighted".to_owned(),
        "average_precision_macro" => "Average precision, macro".to_owned(),
        "brier" => "Brier score".to_owned(),
        "ece" => "Expected calibration error".to_owned(),
        "kappa" => "Cohen’s κ".to_owned(),
        "mcc" => "Matthews correlation".to_owned(),
        other => {
            let words = other.replace("_f1", "_F1").replace('_', " ");
            let mut letters = words.chars();
            letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
        }
    }
}
