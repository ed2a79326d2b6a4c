//! What an audit is worth: the gain of a probe when its findings are acted on, and what the checks find of faults that were injected.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use audit::{Check, Finding};
use data::{Classes, Dataset, Sample, Source, Target, sampler, split};
use evaluate::{Options, Predictions, paired_difference};
use images::{DecodeOptions, Image, Interpolation, Pixels};
use serde::Serialize;

use crate::audited::{Audited, audit};
use crate::features;
use crate::plan::label;
use crate::progress::{Event, Progress};
use crate::train::network_predictions;
use crate::{AuditOptions, Backbone, LearnError, Method, Plan, ProbeData, Recipe, table};

/// Accuracy of what is trained on the data before and after a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gain {
    /// What was trained, twice: `probe on efficientnet_lite0`, `tiny_cnn from scratch`.
    pub trained: String,
    /// Test images: in both data sets, judged by the reviewed labels.
    pub n: usize,
    /// Accuracy on the data as it was.
    pub before: f64,
    /// Accuracy on the data after the plan.
    pub after: f64,
    /// `after - before`.
    pub gain: f64,
    /// Its paired bootstrap interval (95 %): over the test images, not over seeds of training.
    pub ci95: [f64; 2],
}

/// Share of the samples that judge where the data set declares no test split.
const TEST_SHARE: f64 = 0.25;

/// Trains by a recipe (a probe, or a network) on the data as it was and on the data after a plan, and judges both on the same images, by the
/// labels after the plan: the declared test split, or a stratified quarter that neither trains on. A network's validation samples, declared or
/// drawn, have the labels that its training samples have: before the plan, wrong ones.
///
/// # Errors
/// No sample in common, a network that is not there, classes too rare, or [`LearnError::Interrupted`].
pub fn gain(
    before: &Arc<Dataset>,
    after: &Arc<Dataset>,
    recipe: &Recipe,
    cache: Option<&Path>,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Gain, LearnError> {
    let (before, after) = &in_one_class_list(before, after)?;
    let test = test_ids(after, recipe.seed);
    let one = |dataset: &Arc<Dataset>| match recipe.method {
        Method::Probe => probe_predictions(dataset, &test, recipe, cache, progress, stop),
        Method::Finetune | Method::Scratch => network_predictions(dataset, plan(dataset, &test), recipe, cache, progress, stop),
    };
    let tables = [one(before)?, one(after)?];
    Ok(Gain { trained: name(recipe), ..judged(after, tables, recipe.seed)? })
}

fn name(recipe: &Recipe) -> String {
    match recipe.method {
        Method::Probe => format!("probe on {}", recipe.model_name()),
        Method::Finetune => format!("{}, fine-tuned", recipe.model_name()),
        Method::Scratch => format!("{} from scratch", recipe.model_name()),
    }
}

/// What a network trains on: all labelled samples that do not judge.
fn plan(dataset: &Dataset, test: &BTreeSet<&str>) -> Plan {
    let mut plan = Plan::default();
    for i in (0..dataset.len()).filter(|&i| label(dataset, i).is_some()) {
        let sample = &dataset.samples[i];
        match sample.split.as_deref() {
            _ if test.contains(sample.id.as_str()) => plan.test.push(i),
            Some("val") => plan.validation.push(i),
            _ => plan.train.push(i),
        }
    }
    plan.declared_validation = !plan.validation.is_empty();
    plan
}

fn probe_predictions(
    dataset: &Arc<Dataset>,
    test: &BTreeSet<&str>,
    recipe: &Recipe,
    cache: Option<&Path>,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Predictions, LearnError> {
    let backbone = Backbone::pretrained(recipe)?;
    progress.event(&Event::Stage("features".into()));
    let labelled: Vec<usize> = (0..dataset.len()).filter(|&i| label(dataset, i).is_some()).collect();
    let rows = features::extract(dataset, &labelled, &backbone, cache, progress, stop)?;
    progress.event(&Event::Stage("probe".into()));
    let data = ProbeData { dataset, features: &rows, recipe };
    let is_test = |p: &usize| test.contains(dataset.samples[rows.indices[*p]].id.as_str());
    let (held, train): (Vec<usize>, Vec<usize>) = (0..rows.indices.len()).partition(is_test);
    let probe = data.fit(&train, data.strength(&train, recipe.seed)?)?;
    let indices: Vec<usize> = held.iter().map(|&p| rows.indices[p]).collect();
    Ok(table(dataset, &indices, probe.probabilities(&rows, &held)))
}

/// Both data sets with the classes of the first in their order, then those that only the second has: a manifest sorts them, and a plan may bring
/// new ones.
fn in_one_class_list(before: &Arc<Dataset>, after: &Arc<Dataset>) -> Result<(Arc<Dataset>, Arc<Dataset>), LearnError> {
    if before.classes == after.classes {
        return Ok((before.clone(), after.clone()));
    }
    let new = after.classes.names().iter().filter(|name| before.classes.index_of(name).is_none());
    let all = Classes::in_order(before.classes.names().iter().chain(new).cloned().collect())?;
    let with = |dataset: &Arc<Dataset>| -> Result<Arc<Dataset>, LearnError> {
        let mut dataset = Dataset::clone(dataset);
        dataset.remap_classes(&all)?;
        Ok(Arc::new(dataset))
    };
    Ok((with(before)?, with(after)?))
}

/// Ids of the samples that judge.
fn test_ids(dataset: &Dataset, seed: u64) -> BTreeSet<&str> {
    let labelled: Vec<usize> = (0..dataset.len()).filter(|&i| label(dataset, i).is_some()).collect();
    let declared: Vec<usize> = labelled.iter().copied().filter(|&i| dataset.samples[i].split.as_deref() == Some("test")).collect();
    let chosen = if declared.is_empty() {
        let strata: Vec<usize> = labelled.iter().filter_map(|&i| label(dataset, i)).collect();
        let groups = dataset.groups().map(|g| labelled.iter().map(|&i| g[i].clone()).collect::<Vec<_>>());
        let parts = split::stratified(&strata, groups.as_deref(), &[1.0 - TEST_SHARE, TEST_SHARE], seed);
        parts.into_iter().nth(1).unwrap_or_default().into_iter().map(|at| labelled[at]).collect()
    } else {
        declared
    };
    chosen.into_iter().map(|i| dataset.samples[i].id.as_str()).collect()
}

/// Both tables with the truth of the reviewed data set.
fn judged(after: &Dataset, tables: [Predictions; 2], seed: u64) -> Result<Gain, LearnError> {
    let truth: BTreeMap<&str, usize> = (0..after.len()).filter_map(|i| Some((after.samples[i].id.as_str(), label(after, i)?))).collect();
    let [first, second] = tables.map(|mut table| {
        table.truth = table.ids.iter().map(|id| truth.get(id.as_str()).copied()).collect();
        table
    });
    let difference = paired_difference(&first, &second, &Options { seed, ..Options::default() })?;
    let gain = difference.second - difference.first;
    Ok(Gain {
        trained: String::new(),
        n: difference.n,
        before: difference.first,
        after: difference.second,
        gain,
        ci95: difference.difference.ci95.unwrap_or([gain; 2]),
    })
}

/// How well one check found one kind of injected fault.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SelfTest {
    /// What was injected.
    pub fault: String,
    /// The check that should find it.
    pub check: Check,
    /// Faults injected.
    pub injected: usize,
    /// Samples that the check found and did not find before the injection.
    pub found: usize,
    /// Share of the injected faults that were found.
    pub recall: Option<f64>,
    /// Share of the newly found samples that were injected: a lower bound, for a real fault that the injection uncovers counts as wrong.
    pub precision: Option<f64>,
}

/// Share of the samples that get each fault.
const FAULT_SHARE: f64 = 0.03;

/// A copy of the data set in memory with wrong labels, duplicates (resized, flipped, darker), leaks and blurred images is audited; the files stay
/// as they are. Samples that a check found without the injection are left out of its count.
///
/// # Errors
/// As [`audit()`]; fewer than two classes.
pub fn audit_self_test(
    dataset: &Arc<Dataset>,
    options: &AuditOptions,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Vec<SelfTest>, LearnError> {
    let options = &AuditOptions { growth: None, mapped: 0, ..options.clone() };
    let before = audit(dataset, options, progress, stop)?;
    let (faulty, faults, copies) = inject(dataset, &before, options.recipe.seed);
    let after = audit(&Arc::new(faulty), options, progress, stop)?;
    before.notes.iter().for_each(|note| progress.event(&Event::Note(format!("note: {note}"))));
    let of = |audited: &Audited, check: Check| -> BTreeSet<usize> {
        let counts = |f: &&Finding| f.check == check || (check == Check::NearDuplicate && f.check == Check::ExactDuplicate);
        audited.findings.iter().filter(counts).filter_map(|f| f.sample).collect()
    };
    let row = |(name, check, injected): (&'static str, Check, BTreeSet<usize>)| {
        let known = of(&before, check);
        // Of a pair either may be called the copy.
        let named = |i: &usize| if check == Check::NearDuplicate { *copies.get(i).unwrap_or(i) } else { *i };
        let found: BTreeSet<usize> = of(&after, check).difference(&known).map(named).collect();
        let right = found.intersection(&injected).count() as f64;
        // What was not checked is not what was not found.
        let checked = check != Check::Label || after.out_of_fold.is_some();
        let share = |whole: usize| (whole > 0 && checked).then(|| right / whole as f64);
        SelfTest {
            fault: name.into(),
            check,
            injected: injected.len(),
            found: found.len(),
            recall: share(injected.len()),
            precision: share(found.len()),
        }
    };
    Ok(faults.into_iter().map(row).collect())
}

/// A fault, the check that should see it, and the samples (of the faulty set) that have it.
type Fault = (&'static str, Check, BTreeSet<usize>);

/// The faulty copy, what was done to it, and the injected copy of each sample that has one.
fn inject(dataset: &Dataset, before: &Audited, seed: u64) -> (Dataset, Vec<Fault>, BTreeMap<usize, usize>) {
    let usable: Vec<usize> = (0..dataset.len()).filter(|&i| before.pixels.get(i).is_some() && label(dataset, i).is_some()).collect();
    let order = sampler::shuffled(&usable, seed, 0);
    let share = ((usable.len() as f64 * FAULT_SHARE).ceil() as usize).min(usable.len() / 4);
    let mut parts = order.chunks(share.max(1));
    let mut next = || parts.next().unwrap_or_default().to_vec();
    let mut faulty = dataset.clone();
    let (wrong, copied, blurred) = (next(), next(), next());
    let classes = dataset.classes.len();
    for (turn, &i) in wrong.iter().enumerate() {
        if let (Some(given), true) = (label(dataset, i), classes > 1) {
            faulty.samples[i].target = Some(Target::Label((given + 1 + turn % (classes - 1)) % classes));
        }
    }
    let image = |i: usize| dataset.image(i, &DecodeOptions::default()).ok();
    let (mut duplicates, mut leaks, mut copies) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    for (turn, &i) in copied.iter().enumerate() {
        let Some(image) = image(i) else { continue };
        let original = &dataset.samples[i];
        let changed = match turn % 3 {
            0 => image.resize([image.height().div_ceil(2) + 1, image.width().div_ceil(2) + 1], Interpolation::Bilinear),
            1 => mapped(&image, |x, y| (image.width() - 1 - x, y), 1.0),
            _ => mapped(&image, |x, y| (x, y), 0.85),
        };
        let leaking = original.split.is_some() && turn % 2 == 0;
        let split = if leaking { other_split(dataset, original) } else { original.split.clone() };
        let id = format!("injected/{turn}");
        if leaking && split != original.split {
            leaks.insert(faulty.samples.len());
        }
        duplicates.insert(faulty.samples.len());
        copies.insert(i, faulty.samples.len());
        faulty.samples.push(Sample { id, source: Source::Memory(Arc::new(changed)), split, ..original.clone() });
    }
    for &i in &blurred {
        if let Some(image) = image(i) {
            let small = image.resize([(image.height() / 24).max(2), (image.width() / 24).max(2)], Interpolation::Bilinear);
            faulty.samples[i].source = Source::Memory(Arc::new(small.resize([image.height(), image.width()], Interpolation::Bilinear)));
        }
    }
    let mut faults = vec![
        ("wrong label", Check::Label, wrong.into_iter().collect()),
        ("resized, flipped or darker copy", Check::NearDuplicate, duplicates),
        ("blur", Check::Blurry, blurred.into_iter().collect()),
    ];
    if !leaks.is_empty() {
        faults.push(("copy in another split", Check::Leak, leaks));
    }
    (faulty, faults, copies)
}

fn other_split(dataset: &Dataset, sample: &Sample) -> Option<String> {
    dataset.split_names().into_iter().find(|name| Some(name) != sample.split.as_ref()).or_else(|| sample.split.clone())
}

/// The image with every pixel taken from elsewhere and scaled in brightness.
fn mapped(image: &Image, from: impl Fn(usize, usize) -> (usize, usize), gain: f32) -> Image {
    let (width, height) = (image.width(), image.height());
    let rgb = image.to_rgb8();
    let Pixels::U8(rgb) = rgb.pixels() else { return image.clone() };
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (sx, sy) = from(x, y);
            let at = (sy * width + sx) * 3;
            pixels.extend(rgb[at..at + 3].iter().map(|&v| (f32::from(v) * gain).round() as u8));
        }
    }
    Image::from_rgb8(width, height, pixels).unwrap_or_else(|_| image.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn classes_are_matched_by_name() {
        let set = |names: &[&str], labels: &[usize]| {
            let classes = Classes::in_order(names.iter().map(|n| n.to_string()).collect()).unwrap();
            let image = Arc::new(Image::from_gray8(1, 1, vec![0]).unwrap());
            let sample = |(i, l): (usize, &usize)| Sample {
                target: Some(Target::Label(*l)),
                ..Sample::new(i.to_string(), Source::Memory(image.clone()))
            };
            let samples = labels.iter().enumerate().map(sample).collect();
            Arc::new(Dataset { name: "set".into(), root: ".".into(), classes, samples, warnings: vec![] })
        };
        // A manifest sorts its classes, and the plan brought a new one.
        let (before, after) = in_one_class_list(&set(&["good", "bad"], &[0, 1, 1]), &set(&["bad", "good", "odd"], &[1, 0, 2])).unwrap();
        assert_eq!(before.classes.names(), ["good", "bad", "odd"]);
        assert_eq!(after.classes, before.classes);
        assert_eq!((0..3).map(|i| label(&after, i).unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
        // Predictions that are right of everything but the last sample, which only the new labels call odd.
        let sure = |k: usize| (0..3).map(move |c| if c == k { 1.0 } else { 0.0 });
        let rows: Vec<f64> = [0, 1, 1].into_iter().flat_map(sure).collect();
        let tables = [table(&before, &[0, 1, 2], rows.clone()), table(&after, &[0, 1, 2], rows)];
        let gain = judged(&after, tables, 0).unwrap();
        assert!((gain.before - 2.0 / 3.0).abs() < 1e-12 && gain.gain == 0.0, "{gain:?}");
    }
}
