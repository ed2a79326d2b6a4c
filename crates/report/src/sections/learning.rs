//! How it learned: curves over epochs, or a probe's sweep over strengths.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::figure;
use crate::input::{Epoch, ReportInput, SweepPoint};
use crate::plots::{Axis, Line, LinePlot, Scale, Stroke};
use crate::text;

const SIZE: [f64; 2] = [440.0, 320.0];

pub fn body(input: &ReportInput) -> Option<Markup> {
    if !input.history.is_empty() {
        return Some(curves(&input.history, &input.val_metric));
    }
    (!input.sweep.is_empty()).then(|| sweep(&input.sweep))
}

/// Points by fold, folds in rising order.
type ByFold = BTreeMap<usize, Vec<[f64; 2]>>;

fn curves(history: &[Epoch], metric: &str) -> Markup {
    let of = |value: fn(&Epoch) -> Option<f64>| by_fold(history.iter().filter_map(|e| Some((e.fold, [e.epoch as f64, value(e)?]))));
    let (train, val) = (of(|e| Some(e.train_loss)), of(|e| e.val_loss));
    let (watched, rate) = (of(|e| e.val_metric), of(|e| Some(e.lr)));
    let folds = train.len();
    let epochs = history.iter().map(|e| e.epoch);
    let x = Axis::counting("Epoch", epochs.clone().min().unwrap_or(1) as f64, epochs.max().unwrap_or(1) as f64);
    let chart = |title: &str, y: Axis, lines: Vec<Line>| {
        let description = format!("{title} over epochs: {}.", lines.iter().filter_map(ends).collect::<Vec<_>>().join("; "));
        LinePlot { title: title.to_owned(), description, x: x.clone(), y, lines, marks: vec![], size: SIZE }.draw()
    };
    let around = |label: &str, sets: &[&ByFold]| Axis::around(label, Scale::Linear, values(sets));
    let seconds: f64 = history.iter().map(|e| e.seconds).sum();
    html! {
        p {
            (text::plural(history.len(), "epoch", "epochs"))
            @if folds > 1 { " over " (folds) " folds; pale lines are single folds, strong ones their mean" }
            @if seconds > 0.0 { ". Training took " (text::duration(seconds)) }
            "."
        }
        div.plots {
            (figure(chart("Loss", around("Loss", &[&train, &val]), [lines("training", &train, 1, true), lines("validation", &val, 0, false)].concat()),
                html! { "Loss by epoch." }))
            @if !watched.is_empty() {
                (figure(chart(metric, around(&capital(metric), &[&watched]), lines(metric, &watched, 2, false)),
                    html! { "What was watched on the validation images: " (metric) "." }))
            }
            @let first: BTreeMap<usize, Vec<[f64; 2]>> = rate.iter().take(1).map(|(k, v)| (*k, v.clone())).collect();
            (figure(chart("Learning rate", around("Learning rate", &[&first]), lines("learning rate", &first, 3, false)), html! { "Learning rate at the end of each epoch." }))
        }
    }
}

fn sweep(points: &[SweepPoint]) -> Markup {
    let losses = by_fold(points.iter().map(|p| (p.fold, [p.c, p.log_loss])));
    let chosen: Vec<&SweepPoint> = points.iter().filter(|p| p.chosen).collect();
    let tried = points.iter().map(|p| p.c).filter(|c| c.is_finite()).fold((f64::INFINITY, 0.0f64), |(l, h), c| (l.min(c), h.max(c)));
    let marks = marked(&chosen, &losses);
    let mut lines = lines("validation log loss", &losses, 0, false);
    lines.iter_mut().for_each(|line| line.dots = losses.len() == 1 || line.name.is_some());
    let plot = LinePlot {
        title: "Strength sweep".to_owned(),
        description: format!("Validation log loss of {} strengths; {}.", points.len(), chosen_text(&chosen)),
        x: Axis::around("C (inverse strength of regularisation)", Scale::Log, [tried.0, tried.1].into_iter()),
        y: Axis::around("Validation log loss", Scale::Linear, values(&[&losses])),
        lines,
        marks,
        size: SIZE,
    };
    html! {
        p { "A linear probe on frozen features: its only choice is the strength of regularisation, made by the log loss of validation images." }
        div.plots {
            (figure(plot.draw(), html! { "Validation log loss by strength: to the left stronger, to the right weaker regularisation; rings mark the choice (" (chosen_text(&chosen)) ")." }))
        }
    }
}

/// One ring for each strength that was chosen, on the mean of the folds.
fn marked(chosen: &[&SweepPoint], losses: &ByFold) -> Vec<([f64; 2], String)> {
    let is_chosen = |point: &[f64; 2]| chosen.iter().any(|p| p.c == point[0]);
    mean(losses).into_iter().filter(is_chosen).map(|[c, loss]| ([c, loss], format!("chosen: C = {c}, log loss {loss:.3}"))).collect()
}

fn chosen_text(chosen: &[&SweepPoint]) -> String {
    let mut values: Vec<String> = chosen.iter().map(|p| format!("C = {}", p.c)).collect();
    values.sort();
    values.dedup();
    if values.is_empty() { "none is marked as chosen".to_owned() } else { values.join(", ") }
}

fn by_fold(points: impl Iterator<Item = (usize, [f64; 2])>) -> ByFold {
    let mut folds = ByFold::new();
    points.for_each(|(fold, point)| folds.entry(fold).or_default().push(point));
    folds.values_mut().for_each(|points| points.sort_by(|a, b| a[0].total_cmp(&b[0])));
    folds
}

fn values<'a>(sets: &'a [&'a ByFold]) -> impl Iterator<Item = f64> + 'a {
    sets.iter().flat_map(|set| set.values().flatten().map(|p| p[1]))
}

/// One line for one fold; pale lines and their mean for several.
fn lines(name: &str, folds: &ByFold, colour: usize, dashed: bool) -> Vec<Line> {
    let strong = if dashed { Stroke::Dashed(colour) } else { Stroke::Series(colour) };
    let named = |points: Vec<[f64; 2]>| Line { name: Some(name.to_owned()), dots: points.len() < 12 && !dashed, points, stroke: strong };
    if folds.len() < 2 {
        return folds.values().filter(|points| !points.is_empty()).map(|points| named(points.clone())).collect();
    }
    let faint = |points: &Vec<[f64; 2]>| Line { name: None, points: points.clone(), stroke: Stroke::Faint(colour), dots: false };
    folds.values().map(faint).chain([named(mean(folds))]).collect()
}

/// The mean over the folds that have a value at the same place.
fn mean(folds: &ByFold) -> Vec<[f64; 2]> {
    let mut points: Vec<[f64; 2]> = folds.values().flatten().copied().filter(|p| p[1].is_finite()).collect();
    points.sort_by(|a, b| a[0].total_cmp(&b[0]));
    points.chunk_by(|a, b| a[0] == b[0]).map(|same| [same[0][0], same.iter().map(|p| p[1]).sum::<f64>() / same.len() as f64]).collect()
}

fn ends(line: &Line) -> Option<String> {
    let (first, last) = (line.points.first()?, line.points.last()?);
    Some(format!("{} from {:.4} to {:.4}", line.name.as_ref()?, first[1], last[1]))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
