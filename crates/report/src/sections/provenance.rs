//! What is needed to repeat the run.

use maud::{Markup, html};

use super::scrolling;
use crate::input::ReportInput;

pub fn body(input: &ReportInput) -> Option<Markup> {
    (!input.facts.is_empty() || !input.recipe.is_empty()).then(|| {
        html! {
            @if !input.facts.is_empty() {
                (scrolling("Versions, machine, seed and times", html! {
                    table.facts { tbody { @for (name, value) in &input.facts { tr { th scope="row" { (name) } td { (value) } } } } }
                }))
            }
            @if !input.recipe.is_empty() {
                h3 { "Recipe" }
                p { "With its seed, this recipe repeats the run." }
                pre tabindex="0" role="region" aria-label="Recipe" { code { (input.recipe) } }
            }
        }
    })
}
