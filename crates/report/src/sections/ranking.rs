//! How well the probabilities rank: ROC and precision–recall curves.

use evaluate::{ClassCurves, Metric};
use maud::{Markup, html};

use super::figure;
use crate::input::ReportInput;
use crate::plots::{Axis, COLOURS, Line, LinePlot, Stroke};
use crate::text;

/// With more classes than colours, this many of the weakest are named and the others drawn pale.
const NAMED: usize = 3;
/// Places at which the curves of the classes are averaged for drawing.
const GRID: usize = 200;

/// The curve of one class, or the average.
struct Curve {
    name: String,
    points: Vec<[f64; 2]>,
    area: Option<f64>,
}

pub fn body(input: &ReportInput) -> Option<Markup> {
    let curves = &input.curves?.per_class;
    let scores = &input.evaluation.scores;
    let roc = roc_curves(curves, &scores.roc_auc_macro);
    let recall = recall_curves(curves, &scores.average_precision_macro);
    if roc.is_empty() && recall.is_empty() {
        return None;
    }
    let positive = (curves.len() == 2).then(|| curves[1].class.as_str());
    let many = curves.len() > COLOURS;
    let prevalence = positive.and_then(|_| Some(input.evaluation.per_class.get(1)?.support as f64 / input.evaluation.n.max(1) as f64));
    let chance = |x: f64, y: f64, name: &str| Line {
        name: Some(name.to_owned()),
        points: vec![[0.0, x], [1.0, y]],
        stroke: Stroke::Guide,
        dots: false,
    };
    let whose = html! {
        @if let Some(class) = positive { " of “" (class) "” against the other class" }
        @else if many { " of each class against the rest: the " (NAMED) " weakest in colour, the others grey, their mean black" }
        @else { " of each class against the rest, and their mean" }
    };
    Some(html! {
        div.plots {
            @if !roc.is_empty() {
                (figure(plot("ROC curves", ["False positive rate", "True positive rate"], roc, Some(chance(0.0, 1.0, "chance"))),
                    html! { "Receiver operating characteristic" (whose) "; in brackets the area under the curve." }))
            }
            @if !recall.is_empty() {
                (figure(plot("Precision–recall curves", ["Recall", "Precision"], recall, prevalence.map(|p| chance(p, p, "chance"))),
                    html! { "Precision against recall" (whose) "; in brackets the average precision." }))
            }
        }
        @if input.evaluation.scores.roc_auc_macro.value.is_none() {
            p.note { "The mean ROC AUC is undefined: " (super::reason(&input.evaluation.scores.roc_auc_macro)) "." }
        }
    })
}

fn plot(title: &str, [x, y]: [&str; 2], curves: Vec<Curve>, guide: Option<Line>) -> Markup {
    let description = curves.iter().map(named).collect::<Vec<_>>().join("; ");
    let axes = (Axis::fixed(x, 0.0, 1.0), Axis::fixed(y, 0.0, 1.0));
    let lines = guide.into_iter().chain(styled(curves)).collect();
    LinePlot { title: title.to_owned(), description, x: axes.0, y: axes.1, lines, marks: vec![], size: [440.0, 400.0] }.draw()
}

fn named(curve: &Curve) -> String {
    match curve.area {
        Some(area) => format!("{} ({})", curve.name, text::number(area)),
        None => curve.name.clone(),
    }
}

/// Colours for a few classes; for many only for the weakest, drawn over the others. The mean, which has no class, comes last.
fn styled(curves: Vec<Curve>) -> Vec<Line> {
    let line =
        |curve: &Curve, stroke, name: bool| Line { name: name.then(|| named(curve)), points: curve.points.clone(), stroke, dots: false };
    let (means, mut classes): (Vec<Curve>, Vec<Curve>) = curves.into_iter().partition(|c| c.name == MEAN);
    let many = classes.len() > COLOURS;
    if many {
        classes.sort_by(|a, b| b.area.unwrap_or(0.0).total_cmp(&a.area.unwrap_or(0.0)));
    }
    let first_named = if many { classes.len() - NAMED } else { 0 };
    let stroke = |i: usize| if i < first_named { Stroke::Pale } else { Stroke::Series(i - first_named) };
    let drawn = classes.iter().enumerate().map(|(i, curve)| line(curve, stroke(i), i >= first_named));
    drawn.chain(means.iter().map(|mean| line(mean, Stroke::Ink, true))).collect()
}

const MEAN: &str = "mean of the classes";

fn roc_curves(curves: &[ClassCurves], mean: &Metric) -> Vec<Curve> {
    let points = |c: &ClassCurves| c.roc.iter().map(|p| [p.false_positive_rate, p.true_positive_rate]).collect();
    with_mean(curves, points, |c| c.roc_auc.value, mean, between)
}

fn recall_curves(curves: &[ClassCurves], mean: &Metric) -> Vec<Curve> {
    let points = |c: &ClassCurves| c.precision_recall.iter().map(|p| [p.recall, p.precision]).collect();
    with_mean(
        curves,
        points,
        |c| c.average_precision.value,
        mean,
        |points, x| points.iter().filter(|p| p[0] >= x - 1e-12).map(|p| p[1]).fold(0.0, f64::max),
    )
}

/// The curves that exist, and their mean when all do; of two classes only the second, positive one.
fn with_mean(
    curves: &[ClassCurves],
    points: impl Fn(&ClassCurves) -> Vec<[f64; 2]>,
    area: impl Fn(&ClassCurves) -> Option<f64>,
    mean: &Metric,
    at: impl Fn(&[[f64; 2]], f64) -> f64,
) -> Vec<Curve> {
    let judged = if curves.len() == 2 { &curves[1..] } else { curves };
    let curve = |c: &ClassCurves| Curve { name: c.class.clone(), points: points(c), area: area(c) };
    let mut all: Vec<Curve> = judged.iter().map(curve).filter(|c| c.points.len() > 1).collect();
    if judged.len() > 1 && all.len() == judged.len() {
        let over_classes = |x: f64| all.iter().map(|c| at(&c.points, x)).sum::<f64>() / all.len() as f64;
        let grid = (0..=GRID).map(|i| i as f64 / GRID as f64).map(|x| [x, over_classes(x)]).collect();
        all.push(Curve { name: MEAN.to_owned(), points: grid, area: mean.value });
    }
    all
}

/// The height of a rising curve at `x`: the upper end of an upright step, linear between points.
fn between(points: &[[f64; 2]], x: f64) -> f64 {
    let after = points.partition_point(|p| p[0] <= x);
    match (after.checked_sub(1).map(|i| points[i]), points.get(after)) {
        (Some(a), Some(b)) => a[1] + (b[1] - a[1]) * (x - a[0]) / (b[0] - a[0]),
        (Some(a), None) => a[1],
        (None, Some(b)) => b[1],
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_read_between_their_points() {
        let points = [[0.0, 0.0], [0.0, 0.5], [0.5, 1.0], [1.0, 1.0]];
        assert_eq!([between(&points, 0.0), between(&points, 0.25), between(&points, 1.0)], [0.5, 0.75, 1.0]);
    }

    #[test]
    fn of_many_classes_the_weakest_are_named() {
        let curve = |i: usize| Curve { name: format!("c{i}"), points: vec![[0.0, 0.0], [1.0, 1.0]], area: Some(i as f64 / 10.0) };
        let lines = styled((0..9).map(curve).collect());
        let names: Vec<String> = lines.iter().filter_map(|l| l.name.clone()).collect();
        assert_eq!(names, ["c2 (0.200)", "c1 (0.100)", "c0 (0.000)"]);
        assert_eq!(lines.iter().filter(|l| l.stroke == Stroke::Pale).count(), 6);
    }
}
