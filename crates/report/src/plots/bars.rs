//! Horizontal stacked bars: how the classes share each split.

use maud::{Markup, html};

use super::COLOURS;

/// One row of the chart: its name and a value for each series.
#[derive(Clone, Debug)]
pub struct BarGroup {
    pub name: String,
    pub values: Vec<usize>,
}

/// Rows of stacked bars, each as long as its share of the longest; counts stand inside the parts that have the room.
pub fn stacked_bars(series: &[String], groups: &[BarGroup]) -> Markup {
    let longest = groups.iter().map(|g| g.values.iter().sum::<usize>()).max().unwrap_or(0).max(1);
    html! {
        div.bars role="img" aria-label=(describe(series, groups)) {
            @for group in groups {
                @let total: usize = group.values.iter().sum();
                div.bar-row aria-hidden="true" {
                    span.bar-name { (group.name) }
                    span.bar-track {
                        @for (i, value) in group.values.iter().enumerate().filter(|(_, v)| **v > 0) {
                            @let share = *value as f64 / longest as f64 * 100.0;
                            span class=(format!("bar f{}", i % COLOURS)) style=(format!("width:{share:.2}%")) {
                                @if share > 9.0 { (crate::text::count(*value)) }
                            }
                        }
                    }
                    span.bar-total { (crate::text::count(total)) }
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
