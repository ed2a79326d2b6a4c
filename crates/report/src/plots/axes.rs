//! Scales, ticks and the frame that every plot is drawn in.

use maud::{Markup, html};

/// How values spread along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps for equal differences.
    Linear,
    /// Equal steps for equal ratios; values at or below zero are not drawn.
    Log,
}

/// One axis: its label, scale, range and ticks.
#[derive(Clone, Debug)]
pub struct Axis {
    pub label: String,
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// An axis from `low` to `high`, exactly, with ticks inside.
    pub fn fixed(label: &str, low: f64, high: f64) -> Axis {
        let ticks = ticks_by(nice_step((high - low) / 5.0), low, high);
        Axis { label: label.to_owned(), scale: Scale::Linear, low, high, ticks }
    }

    /// An axis over whole numbers (epochs): it starts and ends at the data, ticks are integers.
    pub fn counting(label: &str, low: f64, high: f64) -> Axis {
        let (low, high) = if high > low { (low, high) } else { (low - 0.5, high + 0.5) };
        let ticks = ticks_by(nice_step((high - low) / 6.0).max(1.0), low, high);
        Axis { label: label.to_owned(), scale: Scale::Linear, low, high, ticks }
    }

    /// An axis that holds all of `values`, rounded outwards to whole ticks.
    pub fn around(label: &str, scale: Scale, values: impl Iterator<Item = f64>) -> Axis {
        let usable = |v: &f64| v.is_finite() && (scale == Scale::Linear || *v > 0.0);
        let (low, high) = values.filter(usable).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if low > high { (0.1, 1.0) } else { (low, high) };
        match scale {
            Scale::Linear => Axis::around_linear(label, low, high),
            Scale::Log => Axis::around_log(label, low, high),
        }
    }

    fn around_linear(label: &str, low: f64, high: f64) -> Axis {
        let margin = if high > low { 0.0 } else { low.abs().max(1.0) * 0.1 };
        let (low, high) = (low - margin, high + margin);
        let step = nice_step((high - low) / 5.0);
        let (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
        Axis { label: label.to_owned(), scale: Scale::Linear, low, high, ticks: ticks_by(step, low, high) }
    }

    fn around_log(label: &str, low: f64, high: f64) -> Axis {
        let (first, last) = ((low.log10() + 1e-9).floor() as i32, (high.log10() - 1e-9).ceil() as i32);
        let last = last.max(first + 1);
        let every = ((last - first) / 6 + 1) as usize;
        let mut ticks: Vec<f64> = (first..=last).step_by(every).map(|e| 10f64.powi(e)).collect();
        if last - first == 1 {
            let decade = 10f64.powi(first);
            ticks = vec![decade, 2.0 * decade, 5.0 * decade, 10.0 * decade];
        }
        Axis { label: label.to_owned(), scale: Scale::Log, low: 10f64.powi(first), high: 10f64.powi(last), ticks }
    }

    /// Where `value` lies between the ends: 0 at the low end, 1 at the high end; `None` if it cannot be drawn.
    pub fn place(&self, value: f64) -> Option<f64> {
        if !value.is_finite() {
            return None;
        }
        match self.scale {
            Scale::Linear => Some((value - self.low) / (self.high - self.low)),
            Scale::Log if value > 0.0 => Some((value.log10() - self.low.log10()) / (self.high.log10() - self.low.log10())),
            Scale::Log => None,
        }
    }
}

/// The drawing area of a plot, in SVG units: margins hold tick labels and axis labels.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub width: f64,
    pub height: f64,
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Frame {
    pub const fn new(width: f64, height: f64) -> Frame {
        Frame { width, height, left: 62.0, right: 14.0, top: 12.0, bottom: 44.0 }
    }
    pub fn x(&self, place: f64) -> f64 {
        self.left + place * (self.width - self.left - self.right)
    }
    pub fn y(&self, place: f64) -> f64 {
        self.height - self.bottom - place * (self.height - self.top - self.bottom)
    }

    /// Grid lines, tick labels and axis labels.
    pub fn draw(&self, x: &Axis, y: &Axis) -> Markup {
        let (left, right, bottom, top) = (self.x(0.0), self.x(1.0), self.y(0.0), self.y(1.0));
        let middle = (top + bottom) / 2.0;
        let x_ticks = x.ticks.iter().filter_map(|t| Some((self.x(x.place(*t)?), tick_text(*t, x))));
        let y_ticks = y.ticks.iter().filter_map(|t| Some((self.y(y.place(*t)?), tick_text(*t, y))));
        html! {
            g.frame aria-hidden="true" {
                @for (at, text) in y_ticks {
                    line.grid x1=(px(left)) x2=(px(right)) y1=(px(at)) y2=(px(at)) {}
                    text.tick x=(px(left - 7.0)) y=(px(at + 4.0)) text-anchor="end" { (text) }
                }
                @for (at, text) in x_ticks {
                    line.stub x1=(px(at)) x2=(px(at)) y1=(px(bottom)) y2=(px(bottom + 5.0)) {}
                    text.tick x=(px(at)) y=(px(bottom + 18.0)) text-anchor="middle" { (text) }
                }
                line.axis x1=(px(left)) x2=(px(right)) y1=(px(bottom)) y2=(px(bottom)) {}
                text.label x=(px((left + right) / 2.0)) y=(px(self.height - 7.0)) text-anchor="middle" { (x.label) }
                text.label x="0" y="0" text-anchor="middle" transform=(format!("translate(12 {}) rotate(-90)", px(middle))) { (y.label) }
            }
        }
    }
}

/// A coordinate with one decimal: a tenth of a unit is finer than any screen.
pub fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

fn nice_step(rough: f64) -> f64 {
    let magnitude = 10f64.powf(rough.log10().floor());
    let lead = rough / magnitude;
    let nice = if lead <= 1.0 + 1e-9 {
        1.0
    } else if lead <= 2.0 + 1e-9 {
        2.0
    } else if lead <= 5.0 + 1e-9 {
        5.0
    } else {
        10.0
    };
    nice * magnitude
}

/// The multiples of `step` from `low` to `high`; the slack is for ends that are themselves multiples, but for rounding.
fn ticks_by(step: f64, low: f64, high: f64) -> Vec<f64> {
    let first = (low / step - 1e-6).ceil() as i64;
    let last = (high / step + 1e-6).floor() as i64;
    (first..=last).map(|k| k as f64 * step).collect()
}

fn tick_text(tick: f64, axis: &Axis) -> String {
    let size = tick.abs();
    if size > 0.0 && !(1e-3..1e5).contains(&size) {
        return scientific(tick);
    }
    let step = match axis.scale {
        Scale::Log => size,
        Scale::Linear => axis.ticks.windows(2).map(|w| w[1] - w[0]).fold(f64::INFINITY, f64::min),
    };
    let decimals = if step.is_finite() && step > 0.0 { (-(step + step * 1e-6).log10().floor()).clamp(0.0, 6.0) as usize } else { 0 };
    let text = format!("{tick:.decimals$}");
    if text.trim_start_matches(['-', '0', '.']).is_empty() { "0".to_owned() } else { text.replace('-', "\u{2212}") }
}

/// `2e-5` as `2×10⁻⁵`, without the factor when it is one.
fn scientific(value: f64) -> String {
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let raised: String = exponent.chars().map(superscript).collect();
    let mantissa = match mantissa.parse::<f64>() {
        Ok(m) if (m - 1.0).abs() < 1e-9 => return format!("10{raised}"),
        Ok(m) => format!("{:.1}", m).trim_end_matches('0').trim_end_matches('.').to_owned(),
        Err(_) => mantissa.to_owned(),
    };
    format!("{mantissa}×10{raised}")
}

fn superscript(c: char) -> char {
    match c {
        '0' => '⁰',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        '9' => '⁹',
        _ => '⁻',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_that_cover_the_data() {
        let axis = Axis::around("loss", Scale::Linear, [0.13, 0.92].into_iter());
        assert_eq!(axis.ticks.len(), 6);
        assert_eq!(axis.ticks.iter().map(|t| tick_text(*t, &axis)).collect::<Vec<_>>(), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(axis.place(0.5), Some(0.5));
    }

    #[test]
    fn ticks_end_where_the_axis_ends() {
        for (low, high) in [(0.355, 0.58), (0.0, 1130.0), (0.47, 0.94), (-3.0, 7.1), (1e-4, 2.9e-3)] {
            let axis = Axis::around("", Scale::Linear, [low, high].into_iter());
            assert!(axis.ticks.len() >= 4, "{axis:?}");
            for (tick, end) in [(axis.ticks.first(), axis.low), (axis.ticks.last(), axis.high)] {
                assert!(tick.is_some_and(|t| (t - end).abs() < 1e-9 * end.abs().max(1.0)), "{axis:?}");
            }
        }
    }

    #[test]
    fn log_ticks_are_decades() {
        let axis = Axis::around("C", Scale::Log, [1e-5, 10.0].into_iter());
        let text: Vec<_> = axis.ticks.iter().map(|t| tick_text(*t, &axis)).collect();
        assert_eq!(text, ["10⁻⁵", "0.001", "0.1", "10"]);
        assert_eq!(axis.place(0.0), None);
        assert!((axis.place(1e-2).unwrap_or(0.0) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn flat_or_empty_data_still_has_an_axis() {
        for values in [vec![], vec![0.7], vec![0.7, 0.7, f64::NAN]] {
            let axis = Axis::around("", Scale::Linear, values.into_iter());
            assert!(axis.high > axis.low && axis.ticks.len() > 1, "{axis:?}");
        }
        let one = Axis::counting("epoch", 1.0, 1.0);
        assert_eq!(one.ticks, [1.0]);
        assert_eq!(one.place(1.0), Some(0.5));
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(scientific(2e-5), "2×10⁻⁵");
        assert_eq!(scientific(1e6), "10⁶");
        assert_eq!(px(3.04), "3");
        assert_eq!(px(-0.25), "-0.2");
    }
}
