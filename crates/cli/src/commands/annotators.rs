//! `fieldmark annotators`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use audit::annotators::{Annotations, DawidSkeneOptions, crowdlab, dawid_skene};
use evaluate::Predictions;
use serde::Serialize;

use crate::args;
use crate::failure::Usage;
use crate::output;

pub fn run(args: &args::Annotators) -> Result<()> {
    let predictions = args.predictions.as_deref().map(read_predictions).transpose()?;
    let votes = Votes::read(&args.votes, predictions.as_ref().map(|p| p.classes.as_slice()))?;
    let data = Annotations::new(&votes.table, votes.annotators.len(), votes.classes.len())?;
    let judged = match &predictions {
        Some(predictions) => {
            let result = crowdlab(&data, &votes.probabilities(predictions)?)?;
            Judged { method: "CROWDLAB", consensus: result.consensus, quality: result.quality, annotator_quality: result.annotator_quality }
        }
        None => {
            let result = dawid_skene(&data, &DawidSkeneOptions::default());
            if !result.converged {
                eprintln!("warning: Dawid and Skene's estimate did not settle in {} steps", result.iterations);
            }
            Judged {
                method: "Dawid–Skene",
                consensus: result.consensus,
                quality: result.quality,
                annotator_quality: result.annotator_quality,
            }
        }
    };
    let images = rows(&votes, &data, &judged);
    let annotators = annotators(&votes, &data, &judged);
    if let Some(out) = &args.out {
        write_consensus(&images, out)?;
    }
    if args.json {
        return output::json(&serde_json::json!({ "method": judged.method, "annotators": annotators, "images": images }));
    }
    print(args, &votes, &judged, &annotators, &images)
}

/// What either method gives.
struct Judged {
    method: &'static str,
    consensus: Vec<usize>,
    quality: Vec<f64>,
    annotator_quality: Vec<f64>,
}

/// Votes by image and annotator.
struct Votes {
    ids: Vec<String>,
    annotators: Vec<String>,
    classes: Vec<String>,
    /// `[ids, annotators]`.
    table: Vec<Option<usize>>,
}

impl Votes {
    /// Reads the columns id (or path), annotator and label; `classes` fixes the classes, or they are the labels in the file, sorted.
    fn read(file: &Path, classes: Option<&[String]>) -> Result<Self> {
        let delimiter = if file.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv")) { b'\t' } else { b',' };
        let name = file.display();
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .trim(csv::Trim::All)
            .from_path(file)
            .with_context(|| format!("cannot read {name}"))?;
        let header = reader.headers().with_context(|| format!("cannot read {name}"))?.clone();
        let find = |names: &[&str]| {
            let place = header.iter().position(|h| names.iter().any(|n| h.trim_start_matches('\u{feff}').eq_ignore_ascii_case(n)));
            place.ok_or_else(|| {
                let found = header.iter().collect::<Vec<_>>().join(", ");
                Usage(format!("{name}: no column {}; expected id, annotator and label, found {found}", names[0]))
            })
        };
        let columns = [find(&["id", "path", "image", "file"])?, find(&["annotator", "worker", "user"])?, find(&["label", "class"])?];
        let mut seen: BTreeMap<(String, String), String> = BTreeMap::new();
        for record in reader.records() {
            let record = record.with_context(|| format!("cannot read {name}"))?;
            let line = record.position().map_or(0, csv::Position::line);
            let [id, annotator, label] = columns.map(|c| record.get(c).unwrap_or("").to_string());
            if id.is_empty() || annotator.is_empty() {
                return Err(Usage(format!("{name}: row {line}: id or annotator is empty")).into());
            }
            if label.is_empty() {
                continue;
            }
            if let Some(other) = seen.insert((id.clone(), annotator.clone()), label.clone())
                && other != label
            {
                return Err(Usage(format!("{name}: row {line}: {annotator} gave {id} two labels, {other} and {label}; keep one")).into());
            }
        }
        if seen.is_empty() {
            return Err(Usage(format!("{name} has no vote: expected rows of id, annotator and label")).into());
        }
        let distinct = |of: fn(&((String, String), String)) -> String| -> Vec<String> {
            seen.clone().into_iter().map(|entry| of(&entry)).collect::<BTreeSet<_>>().into_iter().collect()
        };
        let (ids, annotators) = (distinct(|e| e.0.0.clone()), distinct(|e| e.0.1.clone()));
        let classes = classes.map_or_else(|| distinct(|e| e.1.clone()), <[String]>::to_vec);
        let mut table = vec![None; ids.len() * annotators.len()];
        for ((id, annotator), label) in &seen {
            let (row, column) = (ids.binary_search(id).unwrap_or(0), annotators.binary_search(annotator).unwrap_or(0));
            let class = classes.iter().position(|c| c == label);
            let known = || Usage(format!("{name}: the label {label} of {id} is none of the classes {}", classes.join(", ")));
            table[row * annotators.len() + column] = Some(class.ok_or_else(known)?);
        }
        Ok(Self { ids, annotators, classes, table })
    }

    /// The predictions' rows in the order of the votes, `[ids, classes]`.
    fn probabilities(&self, predictions: &Predictions) -> Result<Vec<f64>> {
        let rows: BTreeMap<&str, usize> = predictions.ids.iter().enumerate().map(|(row, id)| (id.as_str(), row)).collect();
        let mut out = Vec::with_capacity(self.ids.len() * self.classes.len());
        for id in &self.ids {
            let row = rows.get(id.as_str()).ok_or_else(|| Usage(format!("the predictions have no row for {id}, which has votes")))?;
            out.extend_from_slice(predictions.row(*row));
        }
        Ok(out)
    }
}

fn read_predictions(file: &Path) -> Result<Predictions> {
    let parquet = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet"));
    Ok(if parquet { Predictions::read_parquet(file)? } else { Predictions::read_csv(file)? })
}

#[derive(Serialize)]
struct Image<'a> {
    id: &'a str,
    label: &'a str,
    quality: f64,
    agreement: f64,
    votes: usize,
}

fn rows<'a>(votes: &'a Votes, data: &Annotations<'_>, judged: &Judged) -> Vec<Image<'a>> {
    let image = |i: usize| {
        let label = judged.consensus[i];
        let given = data.row(i).iter().flatten().count();
        let same = data.row(i).iter().filter(|l| **l == Some(label)).count();
        Image {
            id: &votes.ids[i],
            label: &votes.classes[label],
            quality: judged.quality[i],
            agreement: same as f64 / given as f64,
            votes: given,
        }
    };
    (0..votes.ids.len()).map(image).collect()
}

#[derive(Serialize)]
struct Annotator<'a> {
    annotator: &'a str,
    /// None where nobody else labelled the same images.
    quality: Option<f64>,
    agreement: f64,
    votes: usize,
}

/// The best first.
fn annotators<'a>(votes: &'a Votes, data: &Annotations<'_>, judged: &Judged) -> Vec<Annotator<'a>> {
    let annotator = |a: usize| {
        let labels: Vec<(usize, usize)> = (0..data.len()).filter_map(|i| Some((i, data.row(i)[a]?))).collect();
        let same = labels.iter().filter(|(i, label)| judged.consensus[*i] == *label).count();
        let quality = Some(judged.annotator_quality[a]).filter(|q| q.is_finite());
        Annotator { annotator: &votes.annotators[a], quality, agreement: same as f64 / labels.len() as f64, votes: labels.len() }
    };
    let mut list: Vec<Annotator<'_>> = (0..votes.annotators.len()).map(annotator).collect();
    list.sort_by(|a, b| b.quality.unwrap_or(-1.0).total_cmp(&a.quality.unwrap_or(-1.0)).then(a.annotator.cmp(b.annotator)));
    list
}

fn write_consensus(images: &[Image<'_>], out: &Path) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["path", "label", "quality", "agreement", "votes"])?;
    for image in images {
        let numbers = [image.quality, image.agreement].map(|v| format!("{v:.6}"));
        writer.write_record([image.id, image.label, &numbers[0], &numbers[1], &image.votes.to_string()])?;
    }
    output::file(out, writer.into_inner()?)
}

/// Images shown of which the consensus is least sure.
const DOUBTFUL: usize = 10;

fn print(args: &args::Annotators, votes: &Votes, judged: &Judged, annotators: &[Annotator<'_>], images: &[Image<'_>]) -> Result<()> {
    let given = votes.table.iter().flatten().count();
    let counts = format!("{given} votes of {} annotators on {} images", votes.annotators.len(), votes.ids.len());
    output::line(&format!("{counts}, {} classes, by {}\n", votes.classes.len(), judged.method))?;
    let row = |a: &Annotator<'_>| {
        let quality = a.quality.map_or("–".to_string(), |q| format!("{q:.3}"));
        vec![a.annotator.to_string(), a.votes.to_string(), quality, format!("{:.3}", a.agreement)]
    };
    let table: Vec<Vec<String>> = annotators.iter().map(row).collect();
    output::line(&output::table(&["annotator", "votes", "quality", "agrees with consensus"], &table))?;
    let mut doubtful: Vec<&Image<'_>> = images.iter().collect();
    doubtful.sort_by(|a, b| a.quality.total_cmp(&b.quality).then(a.id.cmp(b.id)));
    let row = |i: &&Image<'_>| vec![i.id.to_string(), i.label.to_string(), format!("{:.3}", i.quality), i.votes.to_string()];
    let table: Vec<Vec<String>> = doubtful.iter().take(DOUBTFUL).map(row).collect();
    output::line(&format!("\n{}", output::table(&["least sure", "consensus", "quality", "votes"], &table)))?;
    match &args.out {
        Some(out) => output::line(&format!("\nconsensus  {}", out.display())),
        None => Ok(()),
    }
}
