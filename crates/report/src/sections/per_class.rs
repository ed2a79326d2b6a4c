//! The metrics of each class.

use evaluate::Evaluation;
use maud::{Markup, html};

use super::{common_range, metric, scale_ends, scrolling};
use crate::plots::whisker;
use crate::text;

/// Longer tables are folded away.
const OPEN_ROWS: usize = 40;

pub fn body(evaluation: &Evaluation) -> Option<Markup> {
    let table = scrolling("Metrics of each class", table(evaluation));
    let rows = evaluation.per_class.len();
    (rows > 0).then(|| {
        html! {
            @if rows <= OPEN_ROWS { (table) } @else { details { summary { "All " (text::count(rows)) " classes" } (table) } }
            p.note { "Each class against the rest. AUC: area under the ROC curve; AP: average precision. The line beside F1 shows its interval; the ends of the scale stand above." }
        }
    })
}

fn table(evaluation: &Evaluation) -> Markup {
    let range = common_range(evaluation.per_class.iter().map(|c| &c.f1));
    html! {
        table.metrics {
            thead {
                tr {
                    th scope="col" { "Class" }
                    th.number scope="col" { "Support" }
                    @for name in ["Precision", "Recall", "F1"] { th.number scope="col" { (name) } }
                    (scale_ends(range))
                    th.number scope="col" { "AUC" }
                    th.number scope="col" { "AP" }
                }
            }
            tbody {
                @for class in &evaluation.per_class {
                    tr {
                        th scope="row" { (class.class) }
                        td.number { (text::count(class.support)) }
                        td.number { (metric(&class.precision)) }
                        td.number { (metric(&class.recall)) }
                        td.number { (metric(&class.f1)) }
                        td.drawn { @if let Some(value) = class.f1.value { (whisker(value, class.f1.ci95, None, range)) } }
                        td.number { (metric(&class.roc_auc)) }
                        td.number { (metric(&class.average_precision)) }
                    }
                }
            }
        }
    }
}
