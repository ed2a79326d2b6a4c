//! The confusion matrix as a table whose cells are shaded by their share of the row.

use maud::{Markup, html};

/// Counts with the truth along the rows and the prediction along the columns.
#[derive(Clone, Debug)]
pub struct Matrix<'a> {
    pub classes: &'a [String],
    pub counts: &'a [Vec<usize>],
}

/// A table that is its own text alternative: each cell holds the count and the share of its row.
pub fn heat_map(matrix: &Matrix) -> Markup {
    let k = matrix.classes.len();
    let longest = matrix.classes.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let density = if k <= 4 {
        "heat roomy"
    } else if k <= 10 && longest <= 10 {
        "heat"
    } else {
        "heat tight"
    };
    html! {
        table class=(density) {
            thead {
                tr { td.corner colspan="2" {} th.over scope="colgroup" colspan=(k) { "Predicted" } td {} }
                tr { td.corner colspan="2" {} @for name in matrix.classes { th.column scope="col" { span { (name) } } } th.total scope="col" { span { "Images" } } }
            }
            tbody {
                @for (i, (name, row)) in matrix.classes.iter().zip(matrix.counts).enumerate() {
                    @let total: usize = row.iter().sum();
                    tr {
                        @if i == 0 { th.aside scope="rowgroup" rowspan=(k) { span { "True" } } }
                        th.row scope="row" { (name) }
                        @for (j, count) in row.iter().enumerate() { (cell(*count, total, i == j)) }
                        td.total { (crate::text::count(total)) }
                    }
                }
            }
        }
    }
}

fn cell(count: usize, total: usize, right: bool) -> Markup {
    let share = if total == 0 { 0.0 } else { count as f64 / total as f64 };
    let kind = match (right, count) {
        (_, 0) => "cell none",
        (true, _) => "cell right",
        (false, _) => "cell wrong",
    };
    // Errors are small shares: without the lift, one in ten would hardly be seen.
    let depth = if right { share } else { share.powf(0.65) };
    let class = if depth > 0.62 { format!("{kind} deep") } else { kind.to_owned() };
    html! {
        td class=(class) style=(format!("--depth:{depth:.3}")) {
            b { (crate::text::count(count)) }
            @if count > 0 { small { (crate::text::percent(share)) } }
        }
    }
}
