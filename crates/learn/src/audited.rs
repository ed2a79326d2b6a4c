//! The whole audit of a data set: pixels, features of a frozen network, out-of-fold probabilities of a probe, and every check on them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use audit::labels::{self, ConfidentJoint, ConfusedPair, Errors, ErrorsOptions, Labelled, PruneOptions};
use audit::spurious::{self, Property, SpuriousOptions, Values};
use audit::{AuditError, FeatureRows, Finding, Neighbours, PixelOptions, PixelTable};
use audit::{balance, clusters, order, outliers};
use data::{Dataset, sampler};

use crate::features::{self, Rows};
use crate::plan::label;
use crate::progress::{Event, Meter, Progress};
use crate::train::{networks_out_of_fold, trains_networks};
use crate::{AuditOptions, Backbone, Growth, LearnError, OutOfFold, ProbeData, growth};

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
    /// How many labels are wrong; its samples are those of `out_of_fold`.
    pub label_errors: Option<Errors>,
    /// Pairs of classes that are confused, most frequent first.
    pub confused: Vec<ConfusedPair>,
    /// Share of the labels that are predicted, out of fold.
    pub accuracy: Option<f64>,
    /// How accuracy grows with the number of images.
    pub growth: Option<Growth>,
    /// Every sample's place on a map of the features, both in `0..=1`; empty where none was drawn.
    pub map: Vec<Option<[f32; 2]>>,
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
/// A model or a recipe for judges that was given and does not work, a cache that cannot be used, a network that cannot be loaded, or [`LearnError::Interrupted`].
pub fn audit(dataset: &Arc<Dataset>, options: &AuditOptions, progress: &dyn Progress, stop: &AtomicBool) -> Result<Audited, LearnError> {
    // What was asked for by name must work, and is refused before anything is read.
    options.judges.iter().try_for_each(trains_networks)?;
    let backbone = match backbone(options) {
        Err(reason) if options.recipe.model.is_some() => return Err(reason),
        other => other,
    };
    let mut audited = Audited { pixels: audit_pixels(dataset, options, progress, stop)?, ..Audited::default() };
    audited.findings = audit::pixel_findings(dataset, &audited.pixels, &options.thresholds);
    audited.findings.extend(balance_findings(dataset, options.rarest));
    let readable: Vec<usize> = (0..dataset.len()).filter(|&i| audited.pixels.get(i).is_some()).collect();
    match backbone {
        // Nobody would read them: of a large set, computing them is most of an audit.
        _ if !features_wanted(options, readable.len()) => audited.notes.push(not_near(readable.len())),
        Ok(backbone) => {
            progress.event(&Event::Stage("features".into()));
            audited.features = features::extract(dataset, &readable, &backbone, options.cache.as_deref(), progress, stop)?;
        }
        Err(reason) => audited.notes.push(format!("{} were not checked: {reason}", without_features(options))),
    }
    progress.event(&Event::Stage("checks".into()));
    duplicates(dataset, options, &mut audited, stop)?;
    spurious_properties(dataset, options, &mut audited)?;
    label_checks(dataset, options, &mut audited, progress, stop)?;
    if !audited.features.indices.is_empty() {
        progress.event(&Event::Stage("checks on features".into()));
        feature_checks(dataset, options, &mut audited)?;
        audited.growth = measured_growth(dataset, options, &mut audited, progress, stop)?;
        progress.event(&Event::Stage("map".into()));
        audited.map = feature_map(dataset, options, &audited)?;
    }
    audited.notes.push("faces were not looked for: this program has no detector".into());
    Ok(audited)
}

/// Whether anything reads the features of `n` images: not where networks judge labels, neither curve nor map is asked for, and the set is too
/// large for the checks on neighbours.
fn features_wanted(options: &AuditOptions, n: usize) -> bool {
    let near = (NEIGHBOURS + 1..=MOST_FOR_PAIRS).contains(&n);
    options.judges.is_empty() || options.growth.is_some() || options.mapped > 0 || options.duplicates.cosine > 0.0 || near
}

/// What is said where neighbours are not looked at.
fn not_near(n: usize) -> String {
    format!("outliers, order and clusters were not checked: {n} images, expected {} to {MOST_FOR_PAIRS}", NEIGHBOURS + 1)
}

/// What is not checked without features.
fn without_features(options: &AuditOptions) -> &'static str {
    if options.judges.is_empty() { "labels, outliers, order and clusters" } else { "outliers, order and clusters" }
}

fn backbone(options: &AuditOptions) -> Result<Backbone, LearnError> {
    Backbone::pretrained(&options.recipe)
}

/// The first part of an audit alone: what is measured of each picture. Enough to apply a plan.
///
/// # Errors
/// As [`audit()`].
pub fn audit_pixels(
    dataset: &Dataset,
    options: &AuditOptions,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<PixelTable, LearnError> {
    progress.event(&Event::Stage("pixels".into()));
    measured(dataset, options.cache.as_deref(), progress, stop)
}

/// The measures of every picture, through the cache where there is one.
pub(crate) fn measured(
    dataset: &Dataset,
    cache: Option<&Path>,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<PixelTable, LearnError> {
    let meter = Meter::start(dataset.len());
    let tell = |done: usize, _: usize| {
        if done.is_multiple_of(64) {
            progress.event(&Event::Step(meter.step(done, "")));
        }
    };
    let options = PixelOptions { cache: cache.map(Path::to_path_buf), ..PixelOptions::default() };
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

fn balance_findings(dataset: &Dataset, rarest: f64) -> Vec<Finding> {
    let (_, labels) = labelled(dataset, 0..dataset.len());
    let classes = dataset.classes.len();
    balance::balance(&labels, classes, rarest).findings(rarest, dataset.classes.names())
}

fn duplicates(dataset: &Dataset, options: &AuditOptions, audited: &mut Audited, stop: &AtomicBool) -> Result<(), LearnError> {
    let rows = &audited.features;
    let features = FeatureRows { samples: &rows.indices, data: &rows.data, columns: rows.columns };
    let features = (!rows.indices.is_empty()).then_some(features);
    let found = audit::find_duplicates_until(&audited.pixels, features, &options.duplicates, stop)?.ok_or(LearnError::Interrupted)?;
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

/// Label errors.
fn label_checks(
    dataset: &Arc<Dataset>,
    options: &AuditOptions,
    audited: &mut Audited,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<(), LearnError> {
    let judged = match judged_labels(dataset, options, audited, progress, stop) {
        Ok(None) => return Ok(()),
        Ok(Some(judged)) => judged,
        Err(LearnError::Interrupted) => return Err(LearnError::Interrupted),
        // What was asked for by name must work.
        Err(reason) if !options.judges.is_empty() => return Err(reason),
        Err(reason) => {
            audited.notes.push(format!("labels were not checked: {reason}"));
            return Ok(());
        }
    };
    let labels: Vec<usize> = judged.samples.iter().filter_map(|&i| label(dataset, i)).collect();
    let table = Labelled::new(&labels, &judged.probabilities, dataset.classes.len())?;
    let joint = ConfidentJoint::of(&table);
    let wrong = labels::prune(&table, &joint, options.rule, &PruneOptions::default())?;
    let errors = labels::estimate(&table, &joint, &ErrorsOptions { seed: options.recipe.seed, ..ErrorsOptions::default() })?;
    let mut found = labels::findings(&table, &wrong, options.score.unwrap_or_default(), dataset.classes.names());
    if options.score.is_none() {
        found
            .iter_mut()
            .for_each(|finding| finding.score = finding.sample.map_or(0.0, |position| errors.probability[position].clamp(0.0, 1.0)));
    }
    audited.findings.extend(found.into_iter().map(|finding| at_sample(finding, &judged.samples)));
    audited.label_errors = Some(errors);
    audited.confused = labels::confused_pairs(&joint);
    let right = table.rows().filter(|(label, row)| (0..row.len()).all(|k| row[k] <= row[*label])).count();
    audited.accuracy = Some(right as f64 / labels.len().max(1) as f64);
    audited.out_of_fold = Some(judged);
    Ok(())
}

/// Probabilities of all labelled samples that could be read: of networks where recipes ask for them, else of a probe; none without features.
fn judged_labels(
    dataset: &Arc<Dataset>,
    options: &AuditOptions,
    audited: &Audited,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Option<OutOfFold>, LearnError> {
    if !options.judges.is_empty() {
        let readable = (0..dataset.len()).filter(|&i| audited.pixels.get(i).is_some());
        let (samples, _) = labelled(dataset, readable);
        let judged = options
            .judges
            .iter()
            .map(|recipe| networks_out_of_fold(dataset, &samples, recipe, options.folding, options.cache.as_deref(), progress, stop))
            .collect::<Result<Vec<_>, _>>()?;
        return Ok(OutOfFold::mean(judged));
    }
    let rows = &audited.features;
    if rows.indices.is_empty() {
        return Ok(None);
    }
    progress.event(&Event::Stage("labels".into()));
    let data = ProbeData { dataset, features: rows, recipe: &options.recipe };
    data.out_of_fold(&labelled_positions(dataset, rows), options.folding).map(Some)
}

/// Rows of features whose samples have a label.
fn labelled_positions(dataset: &Dataset, rows: &Rows) -> Vec<usize> {
    (0..rows.indices.len()).filter(|&p| label(dataset, rows.indices[p]).is_some()).collect()
}

/// How many images are enough, by probes on parts of the data.
fn measured_growth(
    dataset: &Dataset,
    options: &AuditOptions,
    audited: &mut Audited,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Option<Growth>, LearnError> {
    let Some(asked) = &options.growth else { return Ok(None) };
    progress.event(&Event::Stage("learning curve".into()));
    let rows = &audited.features;
    let data = ProbeData { dataset, features: rows, recipe: &options.recipe };
    let strength = audited.out_of_fold.as_ref().and_then(|judged| judged.strength);
    match growth(&data, &labelled_positions(dataset, rows), strength, asked, progress, stop) {
        Ok(growth) => Ok(Some(growth)),
        Err(LearnError::Interrupted) => Err(LearnError::Interrupted),
        Err(reason) => {
            audited.notes.push(format!("how many images are enough was not asked: {reason}"));
            Ok(None)
        }
    }
}

/// Places of the samples on the map: all of them, or, of more than the map holds, those that were found first and of the others a draw.
fn feature_map(dataset: &Dataset, options: &AuditOptions, audited: &Audited) -> Result<Vec<Option<[f32; 2]>>, LearnError> {
    let rows = &audited.features;
    let most = options.mapped;
    if most == 0 || rows.indices.len() < 3 {
        return Ok(Vec::new());
    }
    let mut positions: Vec<usize> = (0..rows.indices.len()).collect();
    if positions.len() > most {
        let found: BTreeSet<usize> = audited.findings.iter().filter_map(|f| f.sample).collect();
        positions = sampler::shuffled(&positions, options.recipe.seed, 0);
        // At most half of the map is findings, so that they are seen among what they differ from.
        let (mut first, rest): (Vec<usize>, Vec<usize>) = positions.into_iter().partition(|&p| found.contains(&rows.indices[p]));
        first.truncate(most / 2);
        let left = most - first.len();
        positions = first.into_iter().chain(rest.into_iter().take(left)).collect();
        positions.sort_unstable();
    }
    let values: Vec<f32> = positions.iter().flat_map(|&p| rows.row(p)).copied().collect();
    let neighbours = Neighbours::exact(&values, rows.columns, audit::MAP_NEIGHBOURS)?;
    let mut places = vec![None; dataset.len()];
    for (&position, place) in positions.iter().zip(audit::map(&neighbours, options.recipe.seed)) {
        places[rows.indices[position]] = Some(place);
    }
    Ok(places)
}

/// A finding on a position of a list, as one on its sample.
fn at_sample(finding: Finding, samples: &[usize]) -> Finding {
    Finding { sample: finding.sample.map(|position| samples[position]), ..finding }
}

/// Outliers, off-topic pictures, the order, and clusters: from the nearest neighbours.
fn feature_checks(dataset: &Dataset, options: &AuditOptions, audited: &mut Audited) -> Result<(), LearnError> {
    let rows = &audited.features;
    if rows.indices.len() > MOST_FOR_PAIRS || rows.indices.len() <= NEIGHBOURS {
        audited.notes.push(not_near(rows.indices.len()));
        return Ok(());
    }
    let neighbours = Neighbours::exact(&rows.data, rows.columns, NEIGHBOURS)?;
    let settings = options.outliers;
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
    // Where every row has a label and was judged, the judge's rows are the features' rows.
    if let (Some(judged), Some(labels)) = (&audited.out_of_fold, &known)
        && judged.samples == rows.indices
    {
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
