//! Whether it works equally well on every kind of image.

use evaluate::{Evaluation, Metric, Slice};
use maud::{Markup, html};

use super::{common_range, metric, scale_ends, scrolling};
use crate::plots::whisker;
use crate::text;

pub fn body(evaluation: &Evaluation) -> Option<Markup> {
    let slices = &evaluation.slices;
    (!slices.is_empty()).then(|| {
        let range = common_range(slices.iter().map(|s| &s.scores.accuracy).chain([&evaluation.scores.accuracy]));
        html! {
            (scrolling("Metrics by slice", html! {
                table.metrics {
                    thead {
                        tr {
                            th scope="col" { "Slice" }
                            th.number scope="col" { "Images" }
                            th.number scope="col" { "Accuracy" }
                            (scale_ends(range))
                            th.number scope="col" { "Macro F1" }
                            th.number scope="col" { "ROC AUC" }
                            th scope="col" { "Against all images" }
                        }
                    }
                    tbody {
                        tr.overall {
                            th scope="row" { "All images" }
                            td.number { (text::count(evaluation.n)) }
                            (accuracy(&evaluation.scores.accuracy, evaluation, range))
                            td.number { (metric(&evaluation.scores.macro_f1)) }
                            td.number { (metric(&evaluation.scores.roc_auc_macro)) }
                            td {}
                        }
                    }
                    @for same in slices.chunk_by(|a, b| a.column == b.column) {
                        tbody {
                            tr { th.group scope="rowgroup" colspan="7" { "By " (same[0].column) } }
                            @for slice in same { (row(slice, evaluation, range)) }
                        }
                    }
                }
            }))
            p.note {
                "A slice is flagged when the 95 % interval of one of its metrics leaves out the value of all images (upright line). "
                "Among many slices, about one metric in twenty is flagged by chance alone."
            }
        }
    })
}

fn row(slice: &Slice, evaluation: &Evaluation, range: [f64; 2]) -> Markup {
    let flags = flags(slice, evaluation);
    html! {
        tr class=[(!flags.is_empty()).then_some("flagged")] {
            th scope="row" { @if slice.value.is_empty() { em { "(empty)" } } @else { (slice.value) } }
            td.number { (text::count(slice.n)) }
            (accuracy(&slice.scores.accuracy, evaluation, range))
            td.number { (metric(&slice.scores.macro_f1)) }
            td.number { (metric(&slice.scores.roc_auc_macro)) }
            td.flags {
                @for flag in &flags { span class=(if flag.starts_with('▲') { "flag up" } else { "flag" }) { (flag) } }
                @if !slice.absent_classes.is_empty() { span.remark { "no " (slice.absent_classes.join(", ")) } }
            }
        }
    }
}

fn accuracy(value: &Metric, evaluation: &Evaluation, range: [f64; 2]) -> Markup {
    html! {
        td.number { (metric(value)) }
        td.drawn { @if let Some(v) = value.value { (whisker(v, value.ci95, evaluation.scores.accuracy.value, range)) } }
    }
}

fn flags(slice: &Slice, evaluation: &Evaluation) -> Vec<String> {
    let (here, all) = (&slice.scores, &evaluation.scores);
    let watched = [
        ("accuracy", &here.accuracy, &all.accuracy),
        ("macro F1", &here.macro_f1, &all.macro_f1),
        ("AUC", &here.roc_auc_macro, &all.roc_auc_macro),
    ];
    let flag = |(name, slice, all): (&str, &Metric, &Metric)| {
        let ([low, high], all) = (slice.ci95?, all.value?);
        if high < all {
            return Some(format!("▼ lower {name}"));
        }
        (low > all).then(|| format!("▲ higher {name}"))
    };
    watched.into_iter().filter_map(flag).collect()
}
