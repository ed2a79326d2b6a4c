//! How the metrics vary from fold to fold.

use evaluate::{Evaluation, Spread};
use maud::{Markup, html};

use super::{metric, scrolling};
use crate::text;

const SHOWN: [(&str, &str); 6] = [
    ("accuracy", "Accuracy"),
    ("balanced_accuracy", "Balanced acc."),
    ("macro_f1", "Macro F1"),
    ("roc_auc_macro", "ROC AUC"),
    ("log_loss", "Log loss"),
    ("ece", "ECE"),
];

pub fn body(evaluation: &Evaluation) -> Option<Markup> {
    let folds = evaluation.folds.as_ref()?;
    Some(html! {
        (scrolling("Metrics of each fold", html! {
            table {
                thead { tr { th scope="col" { "Fold" } th.number scope="col" { "Images" } @for (_, name) in SHOWN { th.number scope="col" { (name) } } } }
                tbody {
                    @for fold in &folds.per_fold {
                        tr {
                            th scope="row" { (fold.fold + 1) }
                            td.number { (text::count(fold.n)) }
                            @for (key, _) in SHOWN { td.number { @if let Some(value) = fold.scores.get(key) { (metric(value)) } } }
                        }
                    }
                }
                tfoot {
                    tr {
                        th scope="row" { "Mean ± spread" }
                        td {}
                        @for (key, _) in SHOWN { td.number { (spread(folds.spread.get(key))) } }
                    }
                }
            }
        }))
        p.note { "Each fold is judged by a model that never saw it. Spread: standard deviation between folds. The headline metrics pool the predictions of all folds." }
    })
}

fn spread(spread: Option<&Spread>) -> String {
    match spread.map(|s| (s.mean, s.std)) {
        Some((Some(mean), Some(std))) => format!("{} ± {}", text::number(mean), text::number(std)),
        Some((Some(mean), None)) => text::number(mean),
        _ => text::NOTHING.to_owned(),
    }
}
