//! The reliability diagram and the histogram of confidences.

use maud::{Markup, html};

use super::axes::{Axis, Frame, px};
use evaluate::ReliabilityBin;

/// A bin that holds something: its edges, count, mean confidence and accuracy.
struct Filled {
    low: f64,
    high: f64,
    count: usize,
    confidence: f64,
    accuracy: f64,
}

fn filled(bins: &[ReliabilityBin]) -> Vec<Filled> {
    let keep = |bin: &ReliabilityBin| {
        let (confidence, accuracy) = (bin.confidence?.clamp(0.0, 1.0), bin.accuracy?.clamp(0.0, 1.0));
        (bin.count > 0).then_some(Filled { low: bin.low, high: bin.high, count: bin.count, confidence, accuracy })
    };
    bins.iter().filter_map(keep).collect()
}

/// Accuracy against confidence for each bin; perfect calibration is the diagonal, the gap to it is shaded, the dot's area is the bin's share.
pub fn reliability_diagram(bins: &[ReliabilityBin], description: &str) -> Markup {
    let frame = Frame::new(440.0, 360.0);
    let (x, y) = (Axis::fixed("Mean confidence", 0.0, 1.0), Axis::fixed("Share that is right", 0.0, 1.0));
    let filled = filled(bins);
    let largest = filled.iter().map(|b| b.count).max().unwrap_or(1) as f64;
    html! {
        svg viewBox="0 0 440 360" role="img" {
            title { "Reliability diagram" }
            desc { (description) }
            (frame.draw(&x, &y))
            @for bin in &filled {
                @let (left, right) = (frame.x(bin.low), frame.x(bin.high));
                @let (said, was) = (frame.y(bin.confidence), frame.y(bin.accuracy));
                rect.share x=(px(left + 1.0)) width=(px(right - left - 2.0)) y=(px(was)) height=(px(frame.y(0.0) - was)) {}
                rect.gap x=(px(left + 1.0)) width=(px(right - left - 2.0)) y=(px(said.min(was))) height=(px((said - was).abs())) {}
            }
            path.line.guide d=(format!("M{} {}L{} {}", px(frame.x(0.0)), px(frame.y(0.0)), px(frame.x(1.0)), px(frame.y(1.0)))) {}
            @for bin in &filled {
                @let radius = 2.5 + 5.5 * (bin.count as f64 / largest).sqrt();
                circle.dot.s0 cx=(px(frame.x(bin.confidence))) cy=(px(frame.y(bin.accuracy))) r=(px(radius)) {
                    title { (format!("confidence {:.2}, right {:.2}, {} images", bin.confidence, bin.accuracy, bin.count)) }
                }
            }
        }
        ul.legend {
            li { svg.key viewBox="0 0 26 10" aria-hidden="true" { circle.dot.s0 cx="13" cy="5" r="4" {} } "measured (area: images)" }
            li { span.swatch.gap {} "gap" }
            li { svg.key viewBox="0 0 26 10" aria-hidden="true" { path.line.guide d="M1 5H25" {} } "perfectly calibrated" }
        }
    }
}

/// How many predictions fell into each bin, right and wrong ones stacked.
pub fn confidence_histogram(bins: &[ReliabilityBin], description: &str) -> Markup {
    let frame = Frame::new(440.0, 360.0);
    let tallest = bins.iter().map(|b| b.count).max().unwrap_or(0) as f64;
    let (x, y) = (Axis::fixed("Confidence", 0.0, 1.0), Axis::around("Images", super::Scale::Linear, [0.0, tallest.max(1.0)].into_iter()));
    html! {
        svg viewBox="0 0 440 360" role="img" {
            title { "Histogram of confidences" }
            desc { (description) }
            (frame.draw(&x, &y))
            @for bin in filled(bins) {
                @let right = (bin.accuracy * bin.count as f64).round();
                @let (left, width) = (frame.x(bin.low) + 1.0, frame.x(bin.high) - frame.x(bin.low) - 2.0);
                @let (floor, middle, top) = (frame.y(0.0), height(&frame, &y, right), height(&frame, &y, bin.count as f64));
                rect.f0 x=(px(left)) width=(px(width)) y=(px(middle)) height=(px(floor - middle)) { title { (format!("{right} right")) } }
                rect.f1 x=(px(left)) width=(px(width)) y=(px(top)) height=(px(middle - top)) { title { (format!("{} wrong", bin.count as f64 - right)) } }
            }
        }
        ul.legend { li { span.swatch.f0 {} "right" } li { span.swatch.f1 {} "wrong" } }
    }
}

fn height(frame: &Frame, axis: &Axis, value: f64) -> f64 {
    frame.y(axis.place(value).unwrap_or(0.0))
}
