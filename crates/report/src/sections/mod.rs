//! The parts of the report, in reading order: one file a part.

mod calibration;
mod confusion;
mod data;
mod errors;
mod folds;
mod learning;
mod per_class;
mod provenance;
mod ranking;
mod slices;
pub mod summary;

use evaluate::Metric;
use maud::{Markup, html};

use crate::input::ReportInput;
use crate::text;

/// A part of the report with its heading.
pub struct Section {
    pub id: &'static str,
    pub title: &'static str,
    pub body: Markup,
}

/// Every part that there is something to say about.
pub fn all(input: &ReportInput) -> Vec<Section> {
    let parts: [(&str, &str, Option<Markup>); 11] = [
        ("summary", "Summary", Some(summary::body(input.evaluation))),
        ("data", "Data", data::body(input)),
        ("learning", "Learning", learning::body(input)),
        ("confusion", "Confusion", confusion::body(input.evaluation)),
        ("classes", "Classes", per_class::body(input.evaluation)),
        ("ranking", "Ranking", ranking::body(input)),
        ("calibration", "Calibration", calibration::body(input)),
        ("folds", "Folds", folds::body(input.evaluation)),
        ("slices", "Slices", slices::body(input.evaluation)),
        ("errors", "Worst errors", errors::body(&input.errors)),
        ("provenance", "Provenance", provenance::body(input)),
    ];
    parts.into_iter().filter_map(|(id, title, body)| Some(Section { id, title, body: body? })).collect()
}

/// A metric in a table cell: the value, and its interval beneath.
fn metric(metric: &Metric) -> Markup {
    html! {
        @match metric.value {
            Some(value) => { span.value { (text::number(value)) } @if let Some(between) = text::interval(metric) { span.interval { (between) } } }
            None => { span.undefined title=(reason(metric)) { "undefined" } }
        }
    }
}

fn reason(metric: &Metric) -> &str {
    metric.undefined.as_deref().unwrap_or("no reason was given")
}

/// The range that the whiskers of a table share: it holds all values and intervals, rounded outwards to tenths.
fn common_range<'a>(metrics: impl Iterator<Item = &'a Metric>) -> [f64; 2] {
    let ends = metrics.flat_map(|m| m.ci95.into_iter().flatten().chain(m.value));
    let (low, high) = ends.fold((1.0f64, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
    let (low, high) = ((low * 10.0 + 1e-9).floor() / 10.0, (high * 10.0 - 1e-9).ceil() / 10.0);
    if low < high { [low.max(0.0), high.min(1.0)] } else { [0.0, 1.0] }
}

/// The head of a column of whiskers: both ends of its scale.
fn scale_ends([low, high]: [f64; 2]) -> Markup {
    html! { td.scale { div { span { (format!("{low:.1}")) } span { (format!("{high:.1}")) } } } }
}

/// A plot with its caption.
fn figure(plot: Markup, caption: Markup) -> Markup {
    html! { figure { (plot) figcaption { (caption) } } }
}

/// A wide table: it scrolls inside its own box, also by keyboard, so that the page never does.
fn scrolling(label: &str, table: Markup) -> Markup {
    html! { div.scroll role="region" aria-label=(label) tabindex="0" { (table) } }
}
