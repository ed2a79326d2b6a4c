//! The document around queues, gallery and map.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;

use super::{AuditPage, LearningCurve, Queue};
use crate::head::head;
use crate::plots::{Axis, Line, LinePlot, Scale, Stroke};
use crate::text;

const STYLE: &str = concat!(include_str!("../report.css"), include_str!("page.css"));
const SCRIPT: &str = include_str!("page.js");

pub(super) fn document(page: &AuditPage) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(&page.title, STYLE))
            body {
                div.sheet {
                    (heading(page))
                    main {
                        (review())
                        @if !page.confused.is_empty() { (confused(page)) }
                        @if !page.map.is_empty() { (map(page)) }
                        @if let Some(curve) = &page.curve { (learning(curve)) }
                        (provenance(page))
                    }
                    footer { p { "Written by Fieldmark, " (page.generated_at) ". This file is complete: it sends nothing and asks for nothing." } }
                }
                script id="audit-data" type="application/json" { (PreEscaped(json(page))) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

fn heading(page: &AuditPage) -> Markup {
    html! {
        header {
            p.kind { "Data audit" }
            h1 { (page.title) }
            p.verdict { (page.verdict) }
            ul.meta {
                li { (text::plural(page.ids.len(), "image", "images")) }
                li { (text::plural(page.classes.len(), "class", "classes")) }
                li { (text::plural(page.findings.len(), "finding", "findings")) }
                li { (page.generated_at) }
            }
        }
    }
}

fn review() -> Markup {
    html! {
        section #review aria-labelledby="review-title" {
            h2 #review-title { "Review" }
            p.note {
                "Arrows move. " kbd { "a" } " it is fine, " kbd { "r" } " take the suggested label, " kbd { "d" } " drop, " kbd { "u" } " undo, " kbd { "e" }
                " export the plan; then " code { "fieldmark audit … --apply plan.csv" } " writes a new manifest. No image is touched."
            }
            div.review {
                ul #checks {}
                div {
                    div.filters {
                        select #class aria-label="class" { option value="" { "all classes" } }
                        select #split aria-label="split" { option value="" { "all splits" } }
                        select #order aria-label="order" {
                            option value="score" { "clearest first" } option value="group" { "by group" } option value="id" { "by name" }
                        }
                        input #search type="search" placeholder="part of a name" aria-label="part of a name";
                        label { input #hide type="checkbox"; " hide what is decided" }
                    }
                    div #threshold {}
                    div #gallery tabindex="0" aria-label="findings" {}
                }
                aside #detail {}
            }
            div.bar {
                p #tally aria-live="polite" {}
                button #undo type="button" { "Undo" }
                button #export type="button" { "Export the plan" }
            }
        }
    }
}

fn confused(page: &AuditPage) -> Markup {
    let name = |class: usize| page.classes.get(class).map_or("?", String::as_str);
    html! {
        section #pairs aria-labelledby="pairs-title" {
            h2 #pairs-title { "Confused pairs" }
            div.scroll {
                table {
                    thead { tr { th { "given" } th { "looks like" } th.number { "images" } } }
                    tbody {
                        @for &(given, suggested, count) in page.confused.iter().take(20) {
                            tr {
                                td { button.pair type="button" data-given=(given) { (name(given)) } }
                                td { (name(suggested)) }
                                td.number { (text::count(count)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How many images the map shows, where not all.
fn shown(page: &AuditPage) -> String {
    let places = page.map.iter().flatten().count();
    if places == page.ids.len() {
        return String::new();
    }
    format!("It shows {} of {} images: what was found, and a draw of the others.", text::count(places), text::count(page.ids.len()))
}

fn map(page: &AuditPage) -> Markup {
    html! {
        section #features aria-labelledby="features-title" {
            h2 #features-title { "Map of the images" }
            p.note {
                "Each point is an image; what the network finds alike lies together (t-SNE; distances between far groups mean nothing). Colours are classes, "
                "rings the queue above. " (shown(page)) " A click shows the image, what was found of it and what lies around it."
            }
            div.map {
                canvas #map role="img" aria-label="map of the features" {}
                div { ul #legend {} div #near {} }
            }
        }
    }
}

fn learning(curve: &LearningCurve) -> Markup {
    html! {
        section #amount aria-labelledby="amount-title" {
            h2 #amount-title { "How much more data" }
            p { (curve.statement) }
            figure { (growth(curve)) }
        }
    }
}

/// Accuracy by training images: measured points, the fitted law and its interval.
fn growth(curve: &LearningCurve) -> Markup {
    let line = |name: &str, points: Vec<[f64; 2]>, stroke, dots| Line { name: Some(name.to_owned()), points, stroke, dots };
    let law = |value: fn(&(f64, f64, f64, f64)) -> f64| curve.law.iter().map(|row| [row.0, value(row)]).collect::<Vec<_>>();
    let mut lines = vec![line("measured", curve.points.iter().map(|&(n, y)| [n, y]).collect(), Stroke::Series(0), true)];
    if !curve.law.is_empty() {
        lines.push(line("inverse power law", law(|row| row.1), Stroke::Ink, false));
        lines.push(line("95 % interval, low", law(|row| row.2), Stroke::Dashed(1), false));
        lines.push(line("95 % interval, high", law(|row| row.3), Stroke::Dashed(1), false));
    }
    let images = || lines.iter().flat_map(|line| &line.points).map(|point| point[0]);
    let accuracy = || lines.iter().flat_map(|line| &line.points).map(|point| point[1]);
    LinePlot {
        title: "Learning curve".to_owned(),
        description: curve.statement.clone(),
        x: Axis::around("training images", Scale::Log, images()),
        y: Axis::around("accuracy", Scale::Linear, accuracy()),
        lines: lines.clone(),
        marks: Vec::new(),
        size: [640.0, 320.0],
    }
    .draw()
}

fn provenance(page: &AuditPage) -> Markup {
    html! {
        section #provenance aria-labelledby="provenance-title" {
            h2 #provenance-title { "Provenance" }
            div.scroll { table.facts { tbody { @for (name, value) in &page.facts { tr { th { (name) } td { (value) } } } } } }
        }
    }
}

/// What the script reads.
#[derive(Serialize)]
struct Data<'a> {
    classes: &'a [String],
    ids: &'a [&'a str],
    labels: &'a [Option<usize>],
    splits: &'a [String],
    hashes: &'a [String],
    files: &'a [String],
    pictures: BTreeMap<usize, String>,
    map: &'a [Option<[f32; 2]>],
    checks: &'a [Queue],
    findings: &'a [audit::Finding],
    plan_columns: &'a [&'a str],
}

/// JSON that no text inside it can end early: `<` is written as an escape.
fn json(page: &AuditPage) -> String {
    let address = |jpeg: &Vec<u8>| format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg));
    let pictures = page.pictures.iter().map(|(sample, jpeg)| (*sample, address(jpeg))).collect();
    let AuditPage { classes, ids, labels, splits, hashes, files, map, queues: checks, findings, plan_columns, .. } = page;
    let data = Data { classes, ids, labels, splits, hashes, files, pictures, map, checks, findings, plan_columns };
    // Strings, numbers and lists with string keys: serialising them cannot fail.
    serde_json::to_string(&data).unwrap_or_default().replace('<', "\\u003c")
}
