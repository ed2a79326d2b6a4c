//! From an audit to its page: queues and small pictures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use audit::Check;
use data::{Dataset, Source};
use images::{DecodeOptions, encode_jpeg};
use learn::{AuditOptions, Audited, Growth};
use rayon::prelude::*;
use report::{AuditPage, LearningCurve, Queue, render_audit};

use crate::page;

/// Samples with a picture inside the page.
const PICTURES: usize = 1500;
const PICTURE_SIDE: usize = 160;
const PICTURE_QUALITY: u8 = 75;
/// The columns of a plan, as [`audit::Plan`] reads them.
const PLAN_COLUMNS: [&str; 6] = ["content", "check", "decision", "label", "id", "note"];

/// The page of an audit, to be written into `out`.
pub fn page(dataset: &Dataset, audited: &Audited, options: &AuditOptions, out: &Path) -> String {
    let samples = &dataset.samples;
    let hash = |i: usize| audited.pixels.get(i).map(|m| m.content.clone()).unwrap_or_default();
    render_audit(&AuditPage {
        title: dataset.name.clone(),
        generated_at: page::now(),
        verdict: verdict(dataset, audited),
        facts: facts(dataset, audited, options),
        classes: dataset.classes.names(),
        ids: samples.iter().map(|s| s.id.as_str()).collect(),
        labels: samples.iter().map(|s| s.target.as_ref().and_then(|t| t.argmax())).collect(),
        splits: samples.iter().map(|s| s.split.clone().unwrap_or_default()).collect(),
        hashes: (0..samples.len()).map(hash).collect(),
        files: samples.iter().map(|s| file(&s.source, out)).collect(),
        pictures: pictures(dataset, audited),
        map: audited.map.clone(),
        queues: queues(audited, options),
        findings: &audited.findings,
        confused: audited.confused.iter().map(|pair| (pair.given, pair.truth, pair.samples)).collect(),
        curve: audited.growth.as_ref().map(|growth| curve(growth, dataset)),
        plan_columns: &PLAN_COLUMNS,
    })
}

fn verdict(dataset: &Dataset, audited: &Audited) -> String {
    let images: BTreeSet<usize> = audited.findings.iter().filter(|f| f.check != Check::PrivateData).filter_map(|f| f.sample).collect();
    let mut text = format!("{} of {} images deserve a look.", images.len(), dataset.len());
    if let Some(errors) = &audited.label_errors {
        let [low, high] = errors.expected_ci95;
        text.push_str(&format!(" About {:.0} labels are wrong (95 %: {low:.0} to {high:.0}).", errors.expected));
    }
    let leaks = audited.findings.iter().filter(|f| f.check == Check::Leak).count();
    if leaks > 0 {
        text.push_str(&format!(" {leaks} images leak between splits or groups: what is measured on them is flattered."));
    }
    text
}

fn facts(dataset: &Dataset, audited: &Audited, options: &AuditOptions) -> Vec<(String, String)> {
    let mut facts = vec![
        ("Data".to_string(), format!("{}, fingerprint {}", dataset.name, dataset.fingerprint())),
        ("Seed".to_string(), options.recipe.seed.to_string()),
        ("Features".to_string(), options.recipe.model_name().to_string()),
        ("Labels judged by".to_string(), judge(options)),
        ("Version".to_string(), format!("fieldmark {}", env!("CARGO_PKG_VERSION"))),
    ];
    facts.extend(audited.accuracy.map(|a| (held_back(options).to_string(), format!("{a:.4}"))));
    facts.extend(audited.notes.iter().map(|note| ("Not checked".to_string(), note.clone())));
    facts
}

/// What judged the labels, in words.
fn judge(options: &AuditOptions) -> String {
    let names: Vec<&str> = options.judges.iter().map(learn::Recipe::model_name).collect();
    let what = match names.len() {
        0 => "a probe".to_string(),
        1 => format!("{} by the given recipe", names[0]),
        _ => format!("the mean of {} by the given recipes", names.join(" and ")),
    };
    let learn::Folding { folds, repeats, .. } = options.folding;
    let folds = if folds == 1 { "on the images it learned from (LabelFix)".into() } else { format!("out of {folds} folds") };
    if repeats == 1 { format!("{what}, {folds}") } else { format!("{what}, {folds}, mean of {repeats} repeats") }
}

fn held_back(options: &AuditOptions) -> &'static str {
    if options.folding.folds == 1 { "Its agreement with the labels it learned" } else { "Its accuracy, out of fold" }
}

/// Points of the drawn curve.
const CURVE_POINTS: usize = 40;

/// Mean accuracy by size, and the fitted law as far as three times the images there are.
fn curve(growth: &Growth, dataset: &Dataset) -> LearningCurve {
    let mut of_size: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    growth.curve.points.iter().for_each(|p| of_size.entry(p.samples).or_default().push(p.accuracy));
    let points: Vec<(f64, f64)> = of_size.iter().map(|(&n, values)| (n as f64, values.iter().sum::<f64>() / values.len() as f64)).collect();
    let first = points.first().map_or(1.0, |p| p.0);
    let last = growth.need.images as f64 * 3.0;
    let size = |i: usize| first * (last / first).powf(i as f64 / (CURVE_POINTS - 1) as f64);
    let row = |n: f64| growth.need.expected(n).map(|(value, [low, high])| (n, value, low, high));
    let statement = growth.sentence(dataset.classes.names());
    LearningCurve { points, law: (0..CURVE_POINTS).map(size).filter_map(row).collect(), statement }
}

/// The file's place as seen from the page, where both lie on one file system.
fn file(source: &Source, out: &Path) -> String {
    match source {
        Source::File(path) => {
            let base = out.canonicalize().ok();
            let full = path.canonicalize().ok();
            let (Some(base), Some(full)) = (base, full) else { return String::new() };
            let common = base.components().zip(full.components()).take_while(|(a, b)| a == b).count();
            let up = base.components().count() - common;
            let down: Vec<String> = full.components().skip(common).map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
            format!("{}{}", "../".repeat(up), down.join("/")).replace('%', "%25").replace('#', "%23").replace('?', "%3F")
        }
        Source::Idx { .. } | Source::Memory(_) => String::new(),
    }
}

/// Small JPEG files of what was found, clearest first.
fn pictures(dataset: &Dataset, audited: &Audited) -> BTreeMap<usize, Vec<u8>> {
    let mut wanted: Vec<(f64, usize)> = audited.findings.iter().filter_map(|f| Some((f.score, f.sample?))).collect();
    wanted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut seen = BTreeSet::new();
    let list: Vec<usize> = wanted.into_iter().map(|(_, i)| i).filter(|i| seen.insert(*i)).take(PICTURES).collect();
    let picture = |&i: &usize| {
        let image = dataset.image(i, &DecodeOptions::default()).ok()?;
        Some((i, encode_jpeg(&image.thumbnail(PICTURE_SIDE), PICTURE_QUALITY)))
    };
    list.par_iter().filter_map(picture).collect()
}

/// The measured checks with a live threshold, and every other check that found something.
fn queues(audited: &Audited, options: &AuditOptions) -> Vec<Queue> {
    let scores = audit::quality_scores(&audited.pixels, &options.thresholds);
    let t = &options.thresholds;
    let measured = |check: Check| -> Option<(&'static str, f64, Vec<Option<f32>>)> {
        let values = |of: fn(&audit::pixels::QualityScores) -> f64| scores.iter().map(|s| s.as_ref().map(|s| of(s) as f32)).collect();
        match check {
            Check::Dark => Some(("99th percentile of brightness", t.dark, values(|s| s.dark))),
            Check::Light => Some(("1 − 5th percentile of brightness", t.light, values(|s| s.light))),
            Check::Blurry => Some(("sharpness", t.blurry, values(|s| s.blurry))),
            Check::LowInformation => Some(("information", t.low_information, values(|s| s.low_information))),
            Check::OddAspect => Some(("shorter over longer side", t.odd_aspect, values(|s| s.odd_aspect))),
            _ => None,
        }
    };
    let queue = |check: Check| {
        let (title, method) = (check.title().to_string(), check.method().to_string());
        match measured(check) {
            Some((measure, threshold, values)) => {
                Some(Queue { check, title, method, threshold, measure: Some(measure.to_string()), flag_below: true, values: Some(values) })
            }
            None => audited.findings.iter().any(|f| f.check == check).then_some(Queue {
                check,
                title,
                method,
                threshold: 0.0,
                measure: None,
                flag_below: false,
                values: None,
            }),
        }
    };
    Check::ALL.into_iter().filter_map(queue).collect()
}
