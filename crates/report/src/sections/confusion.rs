//! What is taken for what.

use evaluate::Evaluation;
use maud::{Markup, html};

use super::scrolling;
use crate::plots::{Matrix, heat_map};
use crate::text;

/// More classes than this do not fit a matrix that can be read.
const LARGEST_MATRIX: usize = 20;

pub fn body(evaluation: &Evaluation) -> Option<Markup> {
    let k = evaluation.classes.len();
    let whole = k > 0 && evaluation.confusion.len() == k;
    whole.then(|| {
        html! {
            @if k <= LARGEST_MATRIX {
                figure {
                    (scrolling("Confusion matrix", heat_map(&Matrix { classes: &evaluation.classes, counts: &evaluation.confusion })))
                    figcaption { "Images by true class (rows) and predicted class (columns), with the share of the row. Blue cells are right, orange cells are wrong." }
                }
            }
            @if k > 3 { (pairs(evaluation, if k <= LARGEST_MATRIX { 8 } else { 25 })) }
        }
    })
}

fn pairs(evaluation: &Evaluation, most: usize) -> Markup {
    let rows = evaluation.confusion.iter().enumerate();
    let mut wrong: Vec<(usize, usize, usize)> = rows
        .flat_map(|(truth, row)| row.iter().enumerate().map(move |(predicted, count)| (*count, truth, predicted)))
        .filter(|(count, truth, predicted)| *count > 0 && truth != predicted)
        .collect();
    wrong.sort_by_key(|(count, truth, predicted)| (std::cmp::Reverse(*count), *truth, *predicted));
    let shown = wrong.len().min(most);
    html! {
        h3 { "Most frequent confusions" }
        @if wrong.is_empty() { p { "There are none: every image is classified right." } }
        @else {
            (scrolling("Most frequent confusions", html! {
                table {
                    thead { tr { th scope="col" { "True" } th scope="col" { "Taken for" } th.number scope="col" { "Images" } th.number scope="col" { "Of the true class" } } }
                    tbody {
                        @for (count, truth, predicted) in &wrong[..shown] {
                            @let total: usize = evaluation.confusion[*truth].iter().sum();
                            tr {
                                td { (evaluation.classes[*truth]) }
                                td { (evaluation.classes.get(*predicted).map_or("", String::as_str)) }
                                td.number { (text::count(*count)) }
                                td.number { (text::percent(*count as f64 / total as f64)) }
                            }
                        }
                    }
                }
            }))
            @if shown < wrong.len() { p.note { "The " (shown) " most frequent of " (text::count(wrong.len())) " pairs that occur." } }
        }
    }
}
