//! `fieldmark predict`.

use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use engine::{Classifier, PathOutcome, StreamOptions};
use images::DecodeOptions;

use crate::args;
use crate::failure::Usage;
use crate::open;

pub fn run(args: &args::Predict) -> Result<()> {
    let classifier = Classifier::new(open::model(&args.model)?)?;
    let paths = expand(&args.paths)?;
    let decode = DecodeOptions { background: classifier.preprocess().background, ..DecodeOptions::default() };
    let options = StreamOptions { decode, ..StreamOptions::default() };
    let mut writer = Writer::new(args)?;
    let (mut failed, mut problem) = (0, None);
    classifier.classify_paths(&paths, &options, |outcome| {
        failed += usize::from(outcome.result.is_err());
        if problem.is_none()
            && let Err(error) = writer.outcome(&outcome)
        {
            problem = Some(error);
        }
    });
    if let Some(error) = problem {
        return Err(error);
    }
    writer.finish()?;
    if failed == paths.len() {
        anyhow::bail!("none of the {failed} files could be read");
    }
    if failed > 0 {
        eprintln!("warning: {failed} of {} files could not be read", paths.len());
    }
    Ok(())
}

/// Folders become the images in them, `-` becomes what stdin lists; each path once, in order.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let (mut list, mut seen) = (Vec::new(), BTreeSet::new());
    let mut add = |path: PathBuf| {
        if seen.insert(path.clone()) {
            list.push(path);
        }
    };
    for path in paths {
        if path == Path::new("-") {
            for line in std::io::stdin().lock().lines() {
                let line = line.context("stdin is no list of paths")?;
                if !line.is_empty() {
                    add(PathBuf::from(line));
                }
            }
        } else if path.is_dir() {
            data::list_images(path)?.images.into_iter().for_each(|(_, file)| add(file));
        } else {
            add(path.clone());
        }
    }
    if list.is_empty() {
        return Err(Usage("no images given: the folders hold none, and the list on stdin is empty".into()).into());
    }
    Ok(list)
}

enum Writer {
    Json { top_k: usize },
    Csv { writer: csv::Writer<std::io::Stdout>, top_k: usize },
    Table { top_k: usize, width: usize },
}

impl Writer {
    fn new(args: &args::Predict) -> Result<Self> {
        let top_k = usize::from(args.top_k);
        if args.json {
            return Ok(Self::Json { top_k });
        }
        if args.csv {
            let mut writer = csv::Writer::from_writer(std::io::stdout());
            let mut header = vec!["path".to_string(), "label".into(), "probability".into()];
            header.extend((2..=top_k).flat_map(|k| [format!("label_{k}"), format!("probability_{k}")]));
            header.push("error".into());
            writer.write_record(&header)?;
            return Ok(Self::Csv { writer, top_k });
        }
        Ok(Self::Table { top_k, width: 0 })
    }

    fn outcome(&mut self, outcome: &PathOutcome) -> Result<()> {
        let path = outcome.path.to_string_lossy();
        match self {
            Self::Json { top_k } => {
                let value = match &outcome.result {
                    Ok(p) => {
                        let top: Vec<_> = p.top(*top_k).into_iter().map(|(l, p)| serde_json::json!({ "label": l, "probability": p })).collect();
                        serde_json::json!({ "path": path, "label": p.label, "probability": p.probability, "top": top })
                    }
                    Err(error) => serde_json::json!({ "path": path, "error": chain(error) }),
                };
                Ok(writeln!(std::io::stdout(), "{value}")?)
            }
            Self::Csv { writer, top_k } => {
                let mut record = vec![path.to_string()];
                let top = outcome.result.as_ref().map(|p| p.top(*top_k)).unwrap_or_default();
                record.extend(top.iter().flat_map(|(label, p)| [label.clone(), p.to_string()]));
                record.resize(1 + 2 * *top_k, String::new());
                record.push(outcome.result.as_ref().err().map(|e| chain(e)).unwrap_or_default());
                writer.write_record(&record)?;
                Ok(writer.flush()?)
            }
            Self::Table { top_k, width } => {
                *width = (*width).max(path.chars().count());
                let text = match &outcome.result {
                    Ok(p) => p.top(*top_k).iter().map(|(label, p)| format!("{label} {:.1} %", p * 100.0)).collect::<Vec<_>>().join(" · "),
                    Err(error) => format!("error: {}", chain(error)),
                };
                Ok(writeln!(std::io::stdout(), "{path:<width$}  {text}", width = *width)?)
            }
        }
    }

    fn finish(self) -> Result<()> {
        if let Self::Csv { mut writer, .. } = self {
            writer.flush()?;
        }
        Ok(())
    }
}

fn chain(error: &engine::ClassifyError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if !text.contains(&inner.to_string()) {
            text = format!("{text}: {inner}");
        }
        source = inner.source();
    }
    text
}
