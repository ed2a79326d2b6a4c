//! The layout of the ELPV data set (Deitsch et al., arXiv 1807.02894): `labels.csv` without a header, each line a path, the
//! probability that the cell is defective (0, 1/3, 2/3 or 1) and the module's type (mono, poly), between blanks.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::{manifest::Missing, name_of, with_class_list};
use crate::{Classes, DataError, Dataset, OpenOptions, Sample, Source, Target};

/// Whether the first line of a file is one of this layout.
pub(crate) fn is_elpv(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let mut line = String::new();
    if BufReader::new(file.take(4096)).read_line(&mut line).is_err() {
        return false;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    !line.contains(',') && words.len() == 3 && words[1].parse::<f32>().is_ok()
}

/// Opens `labels.csv`. Defective is a probability of at least one half; the classes are `functional`, `defective` in this
/// order, so that the second one's probability is the file's.
pub(crate) fn open(labels: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    let root = labels.parent().unwrap_or(Path::new("."));
    let text = fs::read_to_string(labels).map_err(DataError::io("read", labels))?;
    let mut samples = Vec::new();
    let mut missing = Missing::default();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row = number as u64 + 1;
        let sample = parse(line, row, labels, root, options.soft)?;
        match &sample.source {
            Source::File(path) if !path.is_file() => missing.add(row, path),
            _ => samples.push(sample),
        }
    }
    let warnings = missing.finish(labels, root, samples.len())?;
    let classes = Classes::in_order(vec!["functional".into(), "defective".into()])?;
    with_class_list(Dataset { name: name_of(root), root: root.into(), classes, samples, warnings }, options)
}

fn parse(line: &str, row: u64, labels: &Path, root: &Path, soft: bool) -> Result<Sample, DataError> {
    let bad = |column: &str, message: String| DataError::Row { path: labels.into(), row, column: column.into(), message };
    let words: Vec<&str> = line.split_whitespace().collect();
    let &[path, probability, kind] = words.as_slice() else {
        return Err(bad("path", format!("expected three values (path, probability, type), found {}", words.len())));
    };
    let p: f32 = probability.parse().ok().filter(|p| (0.0..=1.0).contains(p)).ok_or_else(|| {
        let message = format!("expected a probability in 0..=1, found `{probability}`");
        bad("probability", message)
    })?;
    let mut sample = Sample::new(path, Source::File(root.join(path)));
    sample.target = Some(if soft { Target::Soft(vec![1.0 - p, p]) } else { Target::Label(usize::from(p >= 0.5)) });
    let thousandths = (p * 1000.0).round() / 1000.0;
    sample.columns.insert("probability".into(), thousandths.to_string());
    sample.columns.insert("type".into(), kind.into());
    Ok(sample)
}
