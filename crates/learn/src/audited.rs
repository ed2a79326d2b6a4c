//! The whole audit of a data set: pixels, features of a frozen network, out-of-fold probabilities of a probe, and every check on them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use audit::labels::{self, ConfidentJoint, ConfusedPair, Errors, ErrorsOptions, LabelScore, Labelled, PruneOptions, Rule};
use audit::spurious::{self, Property, SpuriousOptions, Values};
use audit::{AuditError, DuplicateOptions, FeatureRows, Finding, Neighbours, PixelOptions, PixelTable, Thresholds};
use audit::{balance, clusters, order, outliers};
use data::Dataset;

use crate::features::{self, Rows};
use crate::plan::label;
use crate::progress::{Event, Meter, Progress};
use crate::{Backbone, LearnError, OutOfFold, ProbeData, Recipe};

/// How an audit is done.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// The network whose features are used, and how its probe is fitted.
    pub recipe: Recipe,
    /// Folds of the probe that judges labels.
    pub folds: usize,
    /// Thresholds of the pixel checks.
    pub thresholds: Thresholds,
    /// How near duplicates are told.
    pub duplicates: DuplicateOptions,
    /// Which rule calls a label wrong.
    pub rule: Rule,
    /// Folder of the caches; `None` keeps nothing.
    pub cache: Option<PathBuf>,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            recipe: Recipe::default(),
            folds: 5,
            thresholds: Thresholds::default(),
            duplicates: DuplicateOptions::default(),
            rule: Rule::PruneByNoiseRate,
            cache: None,
        }
    }
}

/// What an audit gave.
#[derive(Debug, Clone, Default)]
pub struct Audited {
    /// What was measured of each picture.
    pub pixels: PixelTable,
    /// Features of the pictures that could be read; empty without a network.
    pub features: Rows,
    /// Probabilities of the labelled samples; absent where labels could not be judged.
    pub out_of_fold: Option<OutOfFold>,
    /// Everything that was found; samples are indices into the data set.
    pub findings: Vec<Finding>,
    /// How many labels are wrong; its samples are the positions of `out_of_fold`.
    pub label_errors: Option<Errors>,
    /// Pairs of classes that are confused, most frequent first.
    pub confused: Vec<ConfusedPair>,
    /// Share of the labels that the probe predicts, out of fold.
    pub accuracy: Option<f64>,
    /// What was not checked, and why.
    pub notes: Vec<String>,
}

/// Neighbours behind outliers, order and clusters (cleanlab's number).
const NEIGHBOURS: usize = 10;
/// Samples up to which all pairs of features are compared.
const MOST_FOR_PAIRS: usize = 60_000;

/// Audits a data set. What cannot be checked (no published weights in the cache, classes too rare for folds) is noted, not an error.
///
/// # Errors
/// A cache that cannot be used, a network that cannot be loaded, or [`LearnError::Interrupted`].
pub fn audit(dataset: &Arc<Dataset>, options: &AuditOptions, progress: &dyn Progress, stop: &AtomicBool) -> Result<Audited, LearnError> {
    let mut audited = Audited { pixels: pixels(dataset, options, progress, stop)?, ..Audited::default() };
    audited.findings = audit::pixel_findings(dataset, &audited.pixels, &options.thresholds);
    audited.findings.extend(balance_findings(dataset));
    match backbone(options) {
        Ok(backbone) => {
            progress.event(&Event::Stage("features".into()));
            let readable: Vec<usize> = (0..dataset.len()).filter(|&i| audited.pixels.get(i).is_some()).collect();
            audited.features = features::extract(dataset, &readable, &backbone, options.cache.as_deref(), progress, stop)?;
        }
        Err(reason) => audited.notes.push(format!("labels, outliers, order and clusters were not checked: {reason}")),
    }
    progress.event(&Event::Stage("checks".into()));
    duplicates(dataset, options, &mut audited)?;
    spurious_properties(dataset, options, &mut audited)?;
    if !audited.features.indices.is_empty() {
        label_checks(dataset, options, &mut audited)?;
        feature_checks(dataset, options, &mut audited)?;
    }
    Ok(audited)
}

fn backbone(options: &AuditOptions) -> Result<Backbone, LearnError> {
    Backbone::pretrained(&options.recipe)
}

fn pixels(dataset: &Dataset, options: &AuditOptions, progress: &dyn Progress, stop: &AtomicBool) -> Result<PixelTable, LearnError> {
    progress.event(&Event::Stage("pixels".into()));
    let meter = Meter::start(dataset.len());
    let tell = |done: usize, _: usize| {
        if done.is_multiple_of(64) {
            progress.event(&Event::Step(meter.step(done, "")));
        }
    };
    let options = PixelOptions { cache: options.cache.clone(), ..PixelOptions::default() };
    audit::measure(dataset, &options, &tell, stop).map_err(interrupted)
}

fn interrupted(error: AuditError) -> LearnError {
    match error {
        AuditError::Interrupted => LearnError::Interrupted,
        other => other.into(),
    }
}

/// Labelled samples among `samples`, with their classes.
fn labelled(dataset: &Dataset, samples: impl Iterator<Item = usize>) -> (Vec<usize>, Vec<usize>) {
    samples.filter_map(|i| Some((i, label(dataset, i)?))).unzip()
}

fn balance_findings(dataset: &Dataset) -> Vec<Finding> {
    let (_, labels) = labelled(dataset, 0..dataset.len());
    let classes = dataset.classes.len();
    balance::balance(&labels, classes, balance::RAREST).findings(balance::RAREST, dataset.classes.names())
}

fn duplicates(dataset: &Dataset, options: &AuditOptions, audited: &mut Audited) -> Result<(), LearnError> {
    let rows = &audited.features;
    let features = FeatureRows { samples: &rows.indices, data: &rows.data, columns: rows.columns };
    let features = (!rows.indices.is_empty()).then_some(features);
    let found = audit::find_duplicates(&audited.pixels, features, &options.duplicates)?;
    audited.findings.extend(audit::duplicate_findings(dataset, &found));
    Ok(())
}

/// Brightness, size, colour, border, file name and camera of every labelled sample that could be read.
fn spurious_properties(dataset: &Dataset, options: &AuditOptions, audited: &mut Audited) -> Result<(), LearnError> {
    let readable = (0..dataset.len()).filter(|&i| audited.pixels.get(i).is_some());
    let (samples, labels) = labelled(dataset, readable);
    let measured: Vec<_> = samples.iter().filter_map(|&i| audited.pixels.get(i)).collect();
    let Some(first) = measured.first() else { return Ok(()) };
    let mut properties: Vec<Property> = Vec::new();
    for (at, (name, _)) in first.properties.numbers().iter().enumerate() {
        let values: Option<Vec<f64>> = measured.iter().map(|m| m.properties.numbers()[at].1).collect();
        properties.extend(values.map(|values| Property { name: (*name).to_string(), values: Values::Numeric(values) }));
    }
    for (at, (name, _)) in first.properties.categories().iter().enumerate() {
        let values = measured.iter().map(|m| m.properties.categories()[at].1.clone().unwrap_or_default()).collect();
        properties.push(Property { name: (*name).to_string(), values: Values::Categorical(values) });
    }
    let names: Vec<&str> = samples.iter().map(|&i| dataset.samples[i].id.as_str()).collect();
    properties.extend(spurious::file_name_tokens(&names, 40));
    let settings = SpuriousOptions { seed: options.recipe.seed, ..SpuriousOptions::default() };
    match spurious::spurious(&properties, &labels, dataset.classes.len(), &settings) {
        Ok(correlations) => audited.findings.extend(spurious::findings(&correlations)),
        Err(reason) => audited.notes.push(format!("properties that give the label away were not checked: {reason}")),
    }
    Ok(())
}

/// Label errors, and clusters on which the probe does poorly.
fn label_checks(dataset: &Dataset, options: &AuditOptions, audited: &mut Audited) -> Result<(), LearnError> {
    let rows = &audited.features;
    let positions: Vec<usize> = (0..rows.indices.len()).filter(|&p| label(dataset, rows.indices[p]).is_some()).collect();
    let data = ProbeData { dataset, features: rows, recipe: &options.recipe };
    let judged = match data.out_of_fold(&positions, options.folds, options.recipe.seed) {
        Ok(judged) => judged,
        Err(reason) => {
            audited.notes.push(format!("labels were not checked: {reason}"));
            return Ok(());
        }
    };
    let (samples, labels) = labelled(dataset, positions.iter().map(|&p| rows.indices[p]));
    let table = Labelled::new(&labels, &judged.probabilities, dataset.classes.len())?;
    let joint = ConfidentJoint::of(&table);
    let wrong = labels::prune(&table, &joint, options.rule, &PruneOptions::default())?;
    let found = labels::findings(&table, &wrong, LabelScore::SelfConfidence, dataset.classes.names());
    audited.findings.extend(found.into_iter().map(|finding| at_sample(finding, &samples)));
    audited.label_errors =
        Some(labels::estimate(&table, &joint, &ErrorsOptions { seed: options.recipe.seed, ..ErrorsOptions::default() })?);
    audited.confused = labels::confused_pairs(&joint);
    let right = table.rows().filter(|(label, row)| (0..row.len()).all(|k| row[k] <= row[*label])).count();
    audited.accuracy = Some(right as f64 / labels.len().max(1) as f64);
    audited.out_of_fold = Some(judged);
    Ok(())
}

/// A finding on a position of a list, as one on its sample.
fn at_sample(finding: Finding, samples: &[usize]) -> Finding {
    Finding { sample: finding.sample.map(|position| samples[position]), ..finding }
}

/// Outliers, off-topic pictures, the order, and clusters: from the nearest neighbours.
fn feature_checks(dataset: &Dataset, options: &AuditOptions, audited: &mut Audited) -> Result<(), LearnError> {
    let rows = &audited.features;
    if rows.indices.len() > MOST_FOR_PAIRS || rows.indices.len() <= NEIGHBOURS {
        audited.notes.push(format!(
            "outliers, order and clusters were not checked: {} images, expected {NEIGHBOURS} to {MOST_FOR_PAIRS}",
            rows.indices.len()
        ));
        return Ok(());
    }
    let neighbours = Neighbours::exact(&rows.data, rows.columns, NEIGHBOURS)?;
    let settings = outliers::OutlierOptions::default();
    let out = outliers::outliers(&neighbours, &settings);
    let classes: Vec<Option<usize>> = rows.indices.iter().map(|&i| label(dataset, i)).collect();
    let known: Option<Vec<usize>> = classes.iter().copied().collect();
    let off_topic = match &known {
        Some(labels) => {
            let distances = outliers::class_distances(&rows.data, rows.columns, labels, dataset.classes.len())?;
            outliers::off_topic(&out, &distances, &settings)
        }
        None => vec![false; rows.indices.len()],
    };
    let mut found = outliers::findings(&out, &off_topic, &known.clone().unwrap_or_default());
    let test = order::order(&neighbours, &order::OrderOptions { seed: options.recipe.seed, ..order::OrderOptions::default() })?;
    found.extend(test.findings());
    if let (Some(judged), Some(labels)) = (&audited.out_of_fold, &known) {
        let table = Labelled::new(labels, &judged.probabilities, dataset.classes.len())?;
        let count = (rows.indices.len() / 100).clamp(2, 30);
        let members = clusters::k_means(&rows.data, rows.columns, count, options.recipe.seed)?;
        let members: Vec<Option<usize>> = members.into_iter().map(Some).collect();
        found.extend(clusters::findings(&clusters::underperforming(&table, &members, &clusters::ClusterOptions::default())?));
    }
    let samples = rows.indices.clone();
    audited.findings.extend(found.into_iter().map(|finding| at_sample(finding, &samples)));
    Ok(())
}
