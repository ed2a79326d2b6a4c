//! Numbers as people read them.

use evaluate::Metric;

/// What stands where there is no value.
pub const NOTHING: &str = "–";

/// `2624` as `2,624`.
pub fn count(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share as a percentage: one decimal below 10 %, none above; never rounded to 0 % or 100 % unless it is exactly that.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if share > 0.0 && value < 0.1 {
        return "<0.1 %".to_owned();
    }
    if value < 9.95 && share > 0.0 {
        return format!("{value:.1} %");
    }
    if share < 1.0 && value > 99.5 {
        return if value > 99.9 { ">99.9 %".to_owned() } else { format!("{value:.1} %") };
    }
    format!("{value:.0} %")
}

/// A measured number with three decimals, and a real minus sign.
pub fn number(value: f64) -> String {
    format!("{value:.3}").replace('-', "\u{2212}")
}

/// `0.846–0.873`; nothing without an interval. Intervals that reach below zero are written with "to".
pub fn interval(metric: &Metric) -> Option<String> {
    let [low, high] = metric.ci95?;
    let between = if low < 0.0 { " to " } else { "–" };
    Some(format!("{}{between}{}", number(low), number(high)))
}

/// Seconds as `42 s`, `3 min 20 s` or `1 h 05 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) if seconds < 9.95 => format!("{seconds:.1} s"),
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// `one fold`, `5 folds`.
pub fn plural(value: usize, singular: &str, plural: &str) -> String {
    format!("{} {}", count(value), if value == 1 { singular } else { plural })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_shares() {
        assert_eq!([count(7), count(999), count(2624), count(1_234_567)], ["7", "999", "2,624", "1,234,567"]);
        assert_eq!([percent(0.0), percent(1.0), percent(0.0999), percent(0.62)], ["0 %", "100 %", "10 %", "62 %"]);
        assert_eq!([percent(0.9997), percent(0.99951), percent(0.0004), percent(0.999)], [">99.9 %", ">99.9 %", "<0.1 %", "99.9 %"]);
    }

    #[test]
    fn metrics_and_times() {
        let metric = Metric { value: Some(0.0), ci95: Some([-0.1, 0.1]), undefined: None };
        assert_eq!(interval(&metric).as_deref(), Some("\u{2212}0.100 to 0.100"));
        assert_eq!(interval(&Metric::of(1.0)), None);
        assert_eq!([duration(2.34), duration(42.0), duration(200.0), duration(3900.0)], ["2.3 s", "42 s", "3 min 20 s", "1 h 05 min"]);
    }
}
