//! Self-contained HTML reports and SVG plots from results that others computed.
