//! The mistakes that the classifier was surest of, as pictures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};

use crate::input::ErrorPicture;
use crate::text;

/// Smaller pictures are enlarged pixel by pixel, so that they do not blur.
const TINY: u32 = 64;

pub fn body(errors: &[ErrorPicture]) -> Option<Markup> {
    let mut ordered: Vec<&ErrorPicture> = errors.iter().collect();
    ordered.sort_by(|a, b| b.probability.total_cmp(&a.probability).then_with(|| a.id.cmp(&b.id)));
    (!ordered.is_empty()).then(|| {
        html! {
            p { "The mistakes that the classifier was surest of: wrong labels in the data are often among them." }
            ol.errors { @for error in ordered { li { (card(error)) } } }
        }
    })
}

fn card(error: &ErrorPicture) -> Markup {
    let alt = format!("{}: labelled {}, predicted {}", error.id, error.truth, error.predicted);
    let tiny = png_size(&error.bytes).is_some_and(|[w, h]| w.max(h) <= TINY);
    html! {
        div.picture {
            @match media_type(&error.bytes) {
                Some(kind) => img class=[tiny.then_some("tiny")] alt=(alt) loading="lazy" src=(format!("data:{kind};base64,{}", STANDARD.encode(&error.bytes)));,
                None => span.missing { "no picture" },
            }
        }
        dl {
            dt { "Label" }
            dd { (error.truth) @if let Some(p) = error.truth_probability { " " span.share { (text::percent(p)) } } }
            dt { "Said" }
            dd.said { (error.predicted) " " span.share { (text::percent(error.probability)) } }
        }
        p.path { (error.id) }
    }
}

/// What the bytes are, by their first ones: only pictures that browsers show and that hold no script.
fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xFF, 0xD8, 0xFF, ..] => Some("image/jpeg"),
        _ => None,
    }
}

/// Width and height of a PNG, from its header.
fn png_size(bytes: &[u8]) -> Option<[u32; 2]> {
    let header: [u8; 8] = bytes.get(16..24)?.try_into().ok()?;
    let number = |i: usize| u32::from_be_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    (media_type(bytes)? == "image/png").then(|| [number(0), number(4)])
}
