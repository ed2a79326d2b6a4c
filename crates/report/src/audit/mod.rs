//! The audit's page: a verdict, queues to review with the keyboard, and the reviewer's plan as a CSV file.
//!
//! Unlike the report on a classifier this page runs a script, for it is a tool: queues are filtered and decided in the browser. It still
//! requests nothing from anywhere; images without an embedded picture are shown from their own files where the browser finds them.

mod document;

use std::collections::BTreeMap;

use ::audit::{Check, Finding};
use serde::Serialize;

/// What [`render_audit`] shows. Vectors with one entry a sample are all of one length.
#[derive(Debug, Clone, Default)]
pub struct AuditPage<'a> {
    /// Heading.
    pub title: String,
    /// When it was made, as people write it.
    pub generated_at: String,
    /// The finding of findings, in a sentence or two.
    pub verdict: String,
    /// Name and value of what describes the run: data, seed, versions.
    pub facts: Vec<(String, String)>,
    /// Class names in order.
    pub classes: &'a [String],
    /// Every sample's id.
    pub ids: Vec<&'a str>,
    /// Every sample's class, where it has one.
    pub labels: Vec<Option<usize>>,
    /// Every sample's split, or an empty string.
    pub splits: Vec<String>,
    /// Every sample's content hash, in hexadecimal: the key of the plan.
    pub hashes: Vec<String>,
    /// Every sample's file as a browser finds it beside the page, or an empty string.
    pub files: Vec<String>,
    /// Small JPEG files of the samples that were found.
    pub pictures: BTreeMap<usize, Vec<u8>>,
    /// Every sample's place on the map of features, both in `0..=1`; empty where no map was made.
    pub map: Vec<Option<[f32; 2]>>,
    /// The queues, in the order shown.
    pub queues: Vec<Queue>,
    /// What was found.
    pub findings: &'a [Finding],
    /// Given class, suggested class and how often, most frequent first.
    pub confused: Vec<(usize, usize, usize)>,
    /// Accuracy by number of training images.
    pub curve: Option<LearningCurve>,
    /// Column names of the plan, in order: `content`, `check`, `decision`, `label` and `id` are filled, others left empty.
    pub plan_columns: &'a [&'a str],
}

/// One check as a queue.
#[derive(Debug, Clone, Serialize)]
pub struct Queue {
    /// The check.
    pub check: Check,
    /// Its name for people.
    pub title: String,
    /// How it was checked and by whose definition.
    pub method: String,
    /// Score from which (or measure beyond which) an image is in the queue; moved live on the page.
    pub threshold: f64,
    /// Name of the measure, where every image was measured.
    pub measure: Option<String>,
    /// Whether values below the threshold are flagged rather than those above it.
    pub flag_below: bool,
    /// Every sample's measure; absent where the check gave findings only.
    pub values: Option<Vec<Option<f32>>>,
}

/// How accuracy grows with data.
#[derive(Debug, Clone, Default)]
pub struct LearningCurve {
    /// Training images and mean accuracy in `0..=1`.
    pub points: Vec<(f64, f64)>,
    /// Training images and the accuracy that the fitted law expects, with its interval.
    pub law: Vec<(f64, f64, f64, f64)>,
    /// What it means, in words.
    pub statement: String,
}

/// The page as one HTML document. Every string is escaped.
pub fn render_audit(page: &AuditPage) -> String {
    document::document(page).into_string()
}
