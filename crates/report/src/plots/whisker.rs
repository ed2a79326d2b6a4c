//! A value with its interval on a common scale, small enough for a table cell.

use maud::{Markup, html};

use super::axes::px;

/// A dot at `value` and a line over `interval`, on a scale from `low` to `high`; `reference` is a thin upright line.
/// It is drawn beside the numbers that it shows, so that it is hidden from screen readers.
pub fn whisker(value: f64, interval: Option<[f64; 2]>, reference: Option<f64>, [low, high]: [f64; 2]) -> Markup {
    let place = |v: f64| 2.0 + ((v - low) / (high - low)).clamp(0.0, 1.0) * 116.0;
    html! {
        svg.whisker viewBox="0 0 120 16" aria-hidden="true" focusable="false" {
            line.track x1="2" x2="118" y1="8" y2="8" {}
            @if let Some([from, to]) = interval { line.range x1=(px(place(from))) x2=(px(place(to))) y1="8" y2="8" {} }
            @if let Some(at) = reference { line.reference x1=(px(place(at))) x2=(px(place(at))) y1="0" y2="16" {} }
            circle.point cx=(px(place(value))) cy="8" r="2.6" {}
        }
    }
}
