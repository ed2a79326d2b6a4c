//! What was learned from: class balance, files set aside, warnings.

use maud::{Markup, html};

use super::{figure, scrolling};
use crate::input::ReportInput;
use crate::plots::{BarGroup, COLOURS, Extent, stacked_bars};
use crate::text;

/// With more classes than this, only the most and the least frequent are drawn.
const MOST_ROWS: usize = 40;

pub fn body(input: &ReportInput) -> Option<Markup> {
    let nothing = input.data.splits.is_empty() && input.set_aside.is_empty() && input.warnings.is_empty();
    (!nothing).then(|| {
        html! {
            @if !input.warnings.is_empty() {
                div.warnings {
                    h3 { "Before trusting the numbers" }
                    ul { @for warning in &input.warnings { li { (warning) } } }
                }
            }
            (balance(input))
            (set_aside(&input.set_aside))
        }
    })
}

fn balance(input: &ReportInput) -> Markup {
    let (classes, splits) = (&input.evaluation.classes, &input.data.splits);
    if splits.is_empty() || classes.is_empty() {
        return html! {};
    }
    if classes.len() <= COLOURS {
        let groups: Vec<BarGroup> = splits.iter().map(|(name, counts)| BarGroup { name: name.clone(), values: counts.clone() }).collect();
        return figure(stacked_bars(classes, &groups, Extent::Share), html! { "Share of each class in each split; numbers are images." });
    }
    let of = |class: usize| splits.iter().map(|(_, counts)| counts.get(class).copied().unwrap_or(0)).collect::<Vec<_>>();
    let mut groups: Vec<BarGroup> = classes.iter().enumerate().map(|(i, name)| BarGroup { name: name.clone(), values: of(i) }).collect();
    let cut = groups.len() > MOST_ROWS;
    if cut {
        groups.sort_by_key(|g| std::cmp::Reverse(g.values.iter().sum::<usize>()));
        groups.drain(MOST_ROWS / 2..groups.len() - MOST_ROWS / 2);
    }
    let names: Vec<String> = splits.iter().map(|(name, _)| name.clone()).collect();
    let caption = html! {
        "Images of each class by split."
        @if cut { " Of " (text::count(classes.len())) " classes, the " (MOST_ROWS / 2) " most and the " (MOST_ROWS / 2) " least frequent are shown." }
    };
    figure(stacked_bars(&names, &groups, Extent::Length), caption)
}

fn set_aside(files: &[(String, String)]) -> Markup {
    html! {
        @if files.is_empty() {
            p { "Every file could be read; none was set aside." }
        } @else {
            details open[files.len() <= 8] {
                summary { (text::plural(files.len(), "file was", "files were")) " set aside and took no part" }
                (scrolling("Files set aside", html! {
                    table {
                        thead { tr { th scope="col" { "File" } th scope="col" { "Reason" } } }
                        tbody { @for (file, why) in files { tr { th.path scope="row" { (file) } td { (why) } } } }
                    }
                }))
            }
        }
    }
}
