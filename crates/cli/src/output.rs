//! Tables for people and JSON for programs, on stdout.

use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::Context;
use evaluate::{Evaluation, Metric};
use serde::Serialize;

/// Prints one line of JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Prints a line.
pub fn line(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot write to stdout")
}

/// Writes a file; an error names it and says what to do.
pub fn file(path: &Path, bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
    std::fs::write(path, bytes).map_err(|error| {
        let cure = match error.kind() {
            ErrorKind::NotFound => "; create its folder first",
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; free some space, or choose another place",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "; choose a place that you may write to",
            _ => "",
        };
        anyhow::anyhow!("cannot write {}: {error}{cure}", path.display())
    })
}

/// A table with a header; columns are as wide as their widest cell, numbers (cells that begin with a digit or sign) stand right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|h| h.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let is_number =
        |cell: &str| cell.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '–')) || cell.starts_with("undefined");
    let right: Vec<bool> =
        (0..header.len()).map(|c| !rows.is_empty() && rows.iter().all(|row| row.get(c).is_none_or(|v| is_number(v)))).collect();
    let render = |row: &[String]| {
        let cells = row
            .iter()
            .zip(&widths)
            .zip(&right)
            .map(|((cell, &w), &right)| if right { format!("{cell:>w$}") } else { format!("{cell:<w$}") });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    let header: Vec<String> = header.iter().map(|h| h.to_string()).collect();
    let mut lines = vec![render(&header)];
    lines.push(widths.iter().map(|&w| "─".repeat(w)).collect::<Vec<_>>().join("  "));
    lines.extend(rows.iter().map(|row| render(row)));
    lines.join("\n")
}

/// Why values are undefined, each reason once, numbered in the order in which they came up.
#[derive(Default)]
struct Reasons(Vec<String>);

impl Reasons {
    /// `0.8537`, or `undefined [1]`.
    fn value(&mut self, metric: &Metric) -> String {
        match (metric.value, &metric.undefined) {
            (Some(value), _) => format!("{value:.4}"),
            (None, Some(reason)) => format!("undefined [{}]", self.number(reason)),
            (None, None) => "undefined".into(),
        }
    }

    fn number(&mut self, reason: &str) -> usize {
        let known = self.0.iter().position(|r| r == reason);
        known.unwrap_or_else(|| {
            self.0.push(reason.into());
            self.0.len() - 1
        }) + 1
    }

    /// `[1] why` for each, or nothing.
    fn text(&self) -> Option<String> {
        let lines = self.0.iter().enumerate().map(|(i, reason)| format!("[{}] {reason}", i + 1));
        (!self.0.is_empty()).then(|| lines.collect::<Vec<_>>().join("\n"))
    }
}

/// `0.84 – 0.87`, or nothing.
pub fn interval(metric: &Metric) -> String {
    metric.ci95.map_or_else(|| "–".into(), |[low, high]| format!("{low:.4} – {high:.4}"))
}

/// The metrics that a summary shows, in its order.
const SUMMARY: [&str; 10] =
    ["accuracy", "balanced_accuracy", "macro_f1", "roc_auc_macro", "average_precision_macro", "log_loss", "brier", "ece", "kappa", "mcc"];

/// The evaluation as tables: metrics, classes, slices, folds.
pub fn evaluation(evaluation: &Evaluation) -> String {
    let scores = &evaluation.scores;
    let mut reasons = Reasons::default();
    let mut metric_row = |name: &str, metric: &Metric| vec![name.to_string(), reasons.value(metric), interval(metric)];
    let mut rows: Vec<Vec<String>> = SUMMARY.iter().filter_map(|name| scores.get(name).map(|m| metric_row(name, m))).collect();
    rows.extend(scores.top_k.iter().filter(|(k, _)| **k < evaluation.classes.len()).map(|(k, m)| metric_row(&format!("top_{k}"), m)));
    let mut parts = vec![table(&["metric", "value", "95 % interval"], &rows)];
    let most = 30;
    let class_rows: Vec<Vec<String>> = evaluation
        .per_class
        .iter()
        .take(most)
        .map(|c| {
            let mut row = vec![c.class.clone()];
            row.extend([&c.precision, &c.recall, &c.f1, &c.roc_auc].map(|metric| reasons.value(metric)));
            row.push(c.support.to_string());
            row
        })
        .collect();
    parts.push(table(&["class", "precision", "recall", "F1", "ROC-AUC", "images"], &class_rows));
    if evaluation.per_class.len() > most {
        parts.push(format!("… and {} more classes (--json has all)", evaluation.per_class.len() - most));
    }
    if !evaluation.slices.is_empty() {
        let row = |s: &evaluate::Slice| {
            let (name, accuracy) = (format!("{} = {}", s.column, s.value), &s.scores.accuracy);
            let [f1, auc] = [&s.scores.macro_f1, &s.scores.roc_auc_macro].map(|metric| reasons.value(metric));
            vec![name, s.n.to_string(), reasons.value(accuracy), interval(accuracy), f1, auc]
        };
        let rows: Vec<Vec<String>> = evaluation.slices.iter().map(row).collect();
        parts.push(table(&["slice", "images", "accuracy", "95 % interval", "macro F1", "ROC-AUC"], &rows));
    }
    if let Some(folds) = &evaluation.folds {
        let row = |name: &&str| {
            let spread = folds.spread.get(*name)?;
            Some(vec![name.to_string(), format!("{:.4}", spread.mean?), format!("{:.4}", spread.std?)])
        };
        let rows: Vec<Vec<String>> = SUMMARY.iter().filter_map(row).collect();
        parts.push(table(&[&format!("over {} folds", folds.per_fold.len()), "mean", "std"], &rows));
    }
    parts.extend(reasons.text());
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let text = table(&["class", "images"], &[vec!["cat".into(), "5".into()], vec!["rhinoceros".into(), "120".into()]]);
        assert_eq!(text, "class       images\n──────────  ──────\ncat              5\nrhinoceros     120");
    }

    #[test]
    fn an_undefined_value_says_why_below_the_table() {
        let mut reasons = Reasons::default();
        assert_eq!(reasons.value(&Metric::undefined("one class only")), "undefined [1]");
        assert_eq!(reasons.value(&Metric::undefined("no images")), "undefined [2]");
        assert_eq!(reasons.value(&Metric::undefined("one class only")), "undefined [1]");
        assert_eq!(reasons.text().as_deref(), Some("[1] one class only\n[2] no images"));
        assert_eq!(Reasons::default().text(), None);
    }
}
