//! Self-contained HTML reports and SVG plots from results that others computed.
//!
//! [`render`] turns a [`ReportInput`] into one HTML file: styles, plots and pictures are inside, nothing is requested from anywhere,
//! and there is no script. [`render_audit`] makes the page on which an audit's findings are reviewed: a tool, so it has one. Both measure
//! nothing; every number comes from `evaluate`, `audit` or the caller.
//!
//! ```
//! use evaluate::{Evaluation, Scores};
//! use fieldmark_report::{ReportInput, render};
//!
//! # let evaluation = Evaluation { n: 0, unlabelled: 0, classes: vec![], absent_classes: vec![], scores: Scores::default(), per_class: vec![],
//! #     confusion: vec![], slices: vec![], folds: None, options: evaluate::Options::default() };
//! let mut input = ReportInput::new("elpv, linear probe", "21 November 2026", &evaluation);
//! input.facts.push(("Seed".into(), "7".into()));
//! let page: String = render(&input);
//! assert!(page.starts_with("<!DOCTYPE html>"));
//! ```

mod audit;
mod head;
mod input;
mod page;
mod plots;
mod sections;
mod text;

pub use crate::audit::{AuditPage, LearningCurve, Queue, render_audit};
pub use input::{DataFacts, Epoch, ErrorPicture, ReportInput, SweepPoint};

/// The report as one HTML document.
///
/// Parts of the input that are empty are left out of the page. Every string is escaped.
pub fn render(input: &ReportInput) -> String {
    page::document(input).into_string()
}
