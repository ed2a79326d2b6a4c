//! The document around the sections: head, title block, contents.

use maud::{DOCTYPE, Markup, html};

use crate::head::head;
use crate::input::ReportInput;
use crate::sections::{self, Section};
use crate::text;

const STYLE: &str = include_str!("report.css");

pub fn document(input: &ReportInput) -> Markup {
    let sections = sections::all(input);
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(&input.title, STYLE))
            body {
                div.sheet {
                    (heading(input))
                    (contents(&sections))
                    main {
                        @for section in &sections {
                            section id=(section.id) aria-labelledby=(format!("{}-title", section.id)) {
                                h2 id=(format!("{}-title", section.id)) { (section.title) }
                                (section.body)
                            }
                        }
                    }
                    footer { p { "Written by Fieldmark, " (input.generated_at) ". This file is complete: it loads nothing and runs nothing." } }
                }
            }
        }
    }
}

fn heading(input: &ReportInput) -> Markup {
    let evaluation = input.evaluation;
    html! {
        header {
            p.kind { "Classification report" }
            h1 { (input.title) }
            p.verdict { (input.verdict.clone().unwrap_or_else(|| sections::summary::verdict(evaluation))) }
            ul.meta {
                @if !input.data.name.is_empty() { li { "Data: " (input.data.name) } }
                li { (text::plural(evaluation.n, "image judged", "images judged")) }
                @if !input.data.evaluated_on.is_empty() { li { (input.data.evaluated_on) } }
                li { (text::plural(evaluation.classes.len(), "class", "classes")) }
                @if !input.warnings.is_empty() { li { a href="#data" { (text::plural(input.warnings.len(), "warning", "warnings")) } } }
                li { (input.generated_at) }
            }
        }
    }
}

fn contents(sections: &[Section]) -> Markup {
    html! {
        nav aria-label="Contents" {
            ol { @for section in sections { li { a href=(format!("#{}", section.id)) { (section.title) } } } }
        }
    }
}
