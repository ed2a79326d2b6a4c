//! Horizontal stacked bars: how the classes share each split.

use maud::{Markup, html};

use super::COLOURS;
use crate::text;

/// One row of the chart: its name and a value for each series.
#[derive(Clone, Debug)]
pub struct BarGroup {
    pub name: String,
    pub values: Vec<usize>,
}

/// What the length of a bar says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every row is as long as its total.
    Length,
    /// Every row is equally long: its parts are shares.
    Share,
}

/// Rows of stacked bars; counts stand inside the parts that have the room, totals at the end.
pub fn stacked_bars(series: &[String], groups: &[BarGroup], extent: Extent) -> Markup {
    let longest = groups.iter().map(|g| g.values.iter().sum::<usize>()).max().unwrap_or(0);
    html! {
        div.bars role="img" aria-label=(describe(series, groups)) {
            @for group in groups {
                @let total: usize = group.values.iter().sum();
                @let whole = if extent == Extent::Share { total } else { longest }.max(1) as f64;
                div.bar-row aria-hidden="true" {
                    span.bar-name { (group.name) }
                    span.bar-track {
                        @for (i, value) in group.values.iter().enumerate().filter(|(_, v)| **v > 0) {
                            @let share = *value as f64 / whole * 100.0;
                            span class=(format!("bar f{}", i % COLOURS)) style=(format!("width:{share:.2}%")) {
                                @if share > 12.0 { (text::count(*value)) }
                            }
                        }
                    }
                    span.bar-total { (text::count(total)) }
                }
            }
        }
        ul.legend {
            @for (i, name) in series.iter().enumerate() { li { span class=(format!("swatch f{}", i % COLOURS)) {} (name) } }
        }
    }
}

fn describe(series: &[String], groups: &[BarGroup]) -> String {
    let row = |g: &BarGroup| {
        let parts: Vec<String> = series.iter().zip(&g.values).map(|(name, value)| format!("{value} {name}")).collect();
        format!("{}: {}", g.name, parts.join(", "))
    };
    groups.iter().map(row).collect::<Vec<_>>().join("; ")
}
