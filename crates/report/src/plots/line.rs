//! Line charts: learning curves, sweeps, ROC and precision–recall curves.

use maud::{Markup, html};

use super::COLOURS;
use super::axes::{Axis, Frame, px};

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// A full line in a series colour.
    Series(usize),
    /// A dashed line in a series colour.
    Dashed(usize),
    /// A thin, pale line in a series colour: one fold among several.
    Faint(usize),
    /// A thin grey line: one class among many.
    Pale,
    /// A heavy line in ink: an average.
    Ink,
    /// A dotted grey line: chance, or perfection.
    Guide,
}

impl Stroke {
    fn class(self) -> String {
        match self {
            Stroke::Series(i) => format!("line s{}", i % COLOURS),
            Stroke::Dashed(i) => format!("line dash s{}", i % COLOURS),
            Stroke::Faint(i) => format!("line faint s{}", i % COLOURS),
            Stroke::Pale => "line pale".to_owned(),
            Stroke::Ink => "line ink".to_owned(),
            Stroke::Guide => "line guide".to_owned(),
        }
    }
}

/// One line; a name puts it into the legend.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: Option<String>,
    pub points: Vec<[f64; 2]>,
    pub stroke: Stroke,
    /// Whether each point is marked with a dot.
    pub dots: bool,
}

/// A whole chart.
#[derive(Clone, Debug)]
pub struct LinePlot {
    pub title: String,
    pub description: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
    /// Points ringed for attention, with what to say about each.
    pub marks: Vec<([f64; 2], String)>,
    /// Width and height in SVG units.
    pub size: [f64; 2],
}

impl LinePlot {
    /// The chart with its legend beneath.
    pub fn draw(&self) -> Markup {
        let frame = Frame::new(self.size[0], self.size[1]);
        html! {
            svg viewBox=(format!("0 0 {} {}", frame.width, frame.height)) role="img" {
                title { (self.title) }
                desc { (self.description) }
                (frame.draw(&self.x, &self.y))
                @for line in &self.lines { (self.draw_line(&frame, line)) }
                @for (point, text) in &self.marks {
                    @if let Some([x, y]) = self.place(&frame, *point) {
                        circle.mark cx=(px(x)) cy=(px(y)) r="6" { title { (text) } }
                    }
                }
            }
            (self.legend())
        }
    }

    fn place(&self, frame: &Frame, [x, y]: [f64; 2]) -> Option<[f64; 2]> {
        Some([frame.x(self.x.place(x)?), frame.y(self.y.place(y)?.clamp(0.0, 1.0))])
    }

    fn draw_line(&self, frame: &Frame, line: &Line) -> Markup {
        let placed: Vec<[f64; 2]> = thinned(line.points.iter().filter_map(|p| self.place(frame, *p)));
        let class = line.stroke.class();
        html! {
            @if placed.len() > 1 { path class=(class) d=(path(&placed)) { @if let Some(name) = &line.name { title { (name) } } } }
            @if line.dots || placed.len() == 1 {
                @for [x, y] in &placed { circle class=(class.replace("line", "dot")) cx=(px(*x)) cy=(px(*y)) r="3" {} }
            }
        }
    }

    fn legend(&self) -> Markup {
        let named = self.lines.iter().filter_map(|line| Some((line.name.as_ref()?, line.stroke.class())));
        html! {
            @if self.lines.iter().any(|l| l.name.is_some()) {
                ul.legend {
                    @for (name, class) in named {
                        li { svg.key viewBox="0 0 26 10" aria-hidden="true" { path class=(class) d="M1 5H25" {} } (name) }
                    }
                }
            }
        }
    }
}

/// Leaves out points that would move the pen less than about half a unit, and the inner points of straight runs along an axis:
/// curves over many thousand samples stay small in the file and look the same.
fn thinned(points: impl Iterator<Item = [f64; 2]>) -> Vec<[f64; 2]> {
    let mut kept: Vec<[f64; 2]> = vec![];
    let mut last = None;
    for point in points {
        last = Some(point);
        match kept.as_slice() {
            [.., end] if (end[0] - point[0]).abs() + (end[1] - point[1]).abs() < 0.6 => continue,
            [.., before, end] if straight(before, end, &point) => *kept.last_mut().unwrap_or(&mut [0.0; 2]) = point,
            _ => kept.push(point),
        }
    }
    if let Some(point) = last
        && kept.last() != Some(&point)
    {
        kept.push(point);
    }
    kept
}

fn straight(a: &[f64; 2], b: &[f64; 2], c: &[f64; 2]) -> bool {
    let same = |axis: usize| (a[axis] - b[axis]).abs() < 0.05 && (b[axis] - c[axis]).abs() < 0.05;
    same(0) || same(1)
}

fn path(points: &[[f64; 2]]) -> String {
    let mut text = String::with_capacity(points.len() * 12);
    for (i, [x, y]) in points.iter().enumerate() {
        text.push_str(if i == 0 { "M" } else { "L" });
        text.push_str(&format!("{} {}", px(*x), px(*y)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_are_thinned_and_keep_their_ends() {
        let many = (0..=100_000).map(|i| [i as f64 * 0.004, (i as f64 * 0.0001).sin() * 100.0]);
        let kept = thinned(many);
        // The pen travels about 1,040 units.
        assert!(kept.len() < 2000, "{}", kept.len());
        assert_eq!(kept[0], [0.0, 0.0]);
        assert_eq!(kept[kept.len() - 1][0], 400.0);
    }

    #[test]
    fn corners_of_steps_survive() {
        let steps = vec![[0.0, 0.0], [0.0, 5.0], [0.0, 10.0], [5.0, 10.0], [10.0, 10.0], [10.0, 20.0]];
        assert_eq!(thinned(steps.into_iter()), [[0.0, 0.0], [0.0, 10.0], [10.0, 10.0], [10.0, 20.0]]);
    }

    #[test]
    fn values_that_cannot_be_drawn_are_left_out() {
        let plot = LinePlot {
            title: "t".into(),
            description: "d".into(),
            x: Axis::counting("epoch", 1.0, 3.0),
            y: Axis::fixed("loss", 0.0, 1.0),
            lines: vec![Line {
                name: Some("a<b".into()),
                points: vec![[1.0, 0.5], [2.0, f64::NAN], [3.0, 0.2]],
                stroke: Stroke::Series(0),
                dots: false,
            }],
            marks: vec![],
            size: [400.0, 300.0],
        };
        let text = plot.draw().into_string();
        assert!(!text.contains("NaN") && text.contains("a&lt;b"), "{text}");
    }
}
