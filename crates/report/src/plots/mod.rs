//! Small SVG plots: plain data in, markup out.
//!
//! Every plot takes its colours from the page's style sheet (classes `s0`…`s7`, `axis`, `grid`), so that light, dark and printed
//! pages need no second drawing, and carries a `<title>` and `<desc>` for readers who do not see it.

mod axes;
mod bars;
mod line;
mod matrix;
mod reliability;
mod whisker;

pub use axes::{Axis, Scale};
pub use bars::{BarGroup, Extent, stacked_bars};
pub use line::{Line, LinePlot, Stroke};
pub use matrix::{Matrix, heat_map};
pub use reliability::{confidence_histogram, reliability_diagram};
pub use whisker::whisker;

/// Series colours repeat after this many (the Okabe–Ito set without black and yellow).
pub const COLOURS: usize = 6;
