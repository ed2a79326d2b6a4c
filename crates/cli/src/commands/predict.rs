//! `fieldmark predict`.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use engine::{Classifier, ClassifyError, EngineOptions, PathOutcome, StreamOptions};
use images::{DecodeOptions, ImageError};

use crate::args;
use crate::failure::Usage;
use crate::open;
use crate::output;

pub fn run(args: &args::Predict) -> Result<()> {
    let options = EngineOptions { precision: args.precision, ..EngineOptions::default() };
    let classifier = Classifier::with_options(open::model(&args.model)?, options)?;
    let paths = expand(&args.paths)?;
    let options = StreamOptions { decode: decode_options(args.max_pixels), ..StreamOptions::default() };
    let mut writer = Writer::new(args, classifier.classes().len(), &paths)?;
    let (mut failed, mut problem) = (0, None);
    let timings = classifier.classify_paths(&paths, &options, |outcome| {
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
    if args.timings {
        eprintln!("{}", if args.json { serde_json::to_string(&timings)? } else { timings.to_string() });
    }
    if failed == paths.len() {
        anyhow::bail!(
            "{}",
            if failed == 1 { "the file could not be read".into() } else { format!("none of the {failed} files could be read") }
        );
    }
    if failed > 0 {
        eprintln!("warning: {failed} of {} files could not be read", paths.len());
    }
    Ok(())
}

/// Limits with another number of pixels; memory for twelve bytes of each is allowed too.
fn decode_options(max_pixels: Option<u64>) -> DecodeOptions {
    let mut options = DecodeOptions::default();
    if let Some(pixels) = max_pixels {
        options.limits.max_pixels = pixels;
        options.limits.max_memory = options.limits.max_memory.max(pixels.saturating_mul(12));
    }
    options
}

/// Folders become the images in them, `-` becomes what stdin lists; each path once, in order.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let (mut list, mut seen) = (Vec::new(), BTreeSet::new());
    let mut add = |path: PathBuf| {
        if seen.insert(path.clone()) {
            list.push(path);
        }
    };
    for path in paths {
        if path == Path::new("-") {
            for line in std::io::stdin().lock().split(b'\n') {
                let line = line.context("stdin cannot be read")?;
                let line = line.strip_suffix(b"\r").unwrap_or(&line);
                if !line.is_empty() {
                    add(path_of(line));
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

/// A path as the system has it: on Unix any bytes.
#[cfg(unix)]
fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

/// Paths that are longer do not widen the table's first column.
const WIDEST_PATH: usize = 60;

enum Writer {
    Json { top_k: usize },
    Csv { writer: Box<csv::Writer<std::io::Stdout>>, top_k: usize },
    Table { top_k: usize, width: usize },
}

impl Writer {
    fn new(args: &args::Predict, classes: usize, paths: &[PathBuf]) -> Result<Self> {
        let top_k = usize::from(args.top_k).min(classes);
        if args.json {
            return Ok(Self::Json { top_k });
        }
        if args.csv {
            let mut writer = Box::new(csv::Writer::from_writer(std::io::stdout()));
            let mut header = vec!["path".to_string(), "label".into(), "probability".into()];
            header.extend((2..=top_k).flat_map(|k| [format!("label_{k}"), format!("probability_{k}")]));
            header.push("error".into());
            writer.write_record(&header)?;
            return Ok(Self::Csv { writer, top_k });
        }
        let widths = paths.iter().map(|path| path.to_string_lossy().chars().count());
        Ok(Self::Table { top_k, width: widths.max().unwrap_or(0).min(WIDEST_PATH) })
    }

    fn outcome(&mut self, outcome: &PathOutcome) -> Result<()> {
        let path = outcome.path.to_string_lossy();
        match self {
            Self::Json { top_k } => {
                let value = match &outcome.result {
                    Ok(p) => {
                        let top: Vec<_> =
                            p.top(*top_k).into_iter().map(|(l, p)| serde_json::json!({ "label": l, "probability": p })).collect();
                        serde_json::json!({ "path": path, "label": p.label, "probability": p.probability, "top": top })
                    }
                    Err(error) => serde_json::json!({ "path": path, "error": reason(error) }),
                };
                output::line(&value.to_string())
            }
            Self::Csv { writer, top_k } => {
                let mut record = vec![path.to_string()];
                let top = outcome.result.as_ref().map(|p| p.top(*top_k)).unwrap_or_default();
                record.extend(top.iter().flat_map(|(label, p)| [label.clone(), p.to_string()]));
                record.resize(1 + 2 * *top_k, String::new());
                record.push(outcome.result.as_ref().err().map(reason).unwrap_or_default());
                writer.write_record(&record)?;
                Ok(writer.flush()?)
            }
            Self::Table { top_k, width } => {
                let text = match &outcome.result {
                    Ok(p) => p.top(*top_k).iter().map(|(label, p)| format!("{label} {:.1} %", p * 100.0)).collect::<Vec<_>>().join(" · "),
                    Err(error) => format!("error: {}", reason(error)),
                };
                output::line(&format!("{path:<width$}  {text}", width = *width))
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

/// What is wrong with a file, without its path: that stands beside it.
fn reason(error: &ClassifyError) -> String {
    match error {
        ClassifyError::Image(ImageError::File { source, .. }) => source.to_string(),
        ClassifyError::Image(ImageError::Read { source, .. }) => format!("cannot be read: {source}"),
        other => other.to_string(),
    }
}
