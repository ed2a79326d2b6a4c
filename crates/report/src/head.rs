//! The head that both pages have.

use maud::{Markup, PreEscaped, html};

pub fn head(title: &str, style: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="generator" content="Fieldmark";
            title { (title) }
            style { (PreEscaped(style)) }
        }
    }
}
