//! CSV and TSV manifests: a header, then one row a picture.
//!
//! Columns, in any order and case: the file (`path`, `file`, `filename` or `image`; relative to the manifest's folder, or `FILE#INDEX` for a
//! picture of an IDX file, gzipped or not), the label
//! (`label`, `class` or `target`; or `labels` with several between `|`; or probabilities `p:CLASS`), and optionally `split`,
//! `group` and `weight`. All other columns are kept for slices.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{name_of, some_of, split_name};
use crate::{Classes, DataError, Dataset, IdxImages, OpenOptions, Sample, Source, Target};

const PATH_COLUMNS: [&str; 4] = ["path", "file", "filename", "image"];
const LABEL_COLUMNS: [&str; 4] = ["label", "class", "target", "labels"];
const SOFT_PREFIX: &str = "p:";

/// Opens a manifest.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    let root = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let csv_error = |source| DataError::Csv { path: path.into(), source };
    let delimiter = delimiter(path)?;
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_path(path).map_err(csv_error)?;
    let header: Vec<String> =
        reader.headers().map_err(csv_error)?.iter().map(|h| h.trim_start_matches('\u{feff}').trim().to_string()).collect();
    if header.iter().all(String::is_empty) {
        let message = "it is empty: expected a header with the columns path and label, then one row a picture".into();
        return Err(DataError::Layout { path: path.into(), message });
    }
    let columns = Columns::find(path, header, options)?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(csv_error)?;
        let line = record.position().map_or(0, csv::Position::line);
        rows.push(columns.row(&record, line, path)?);
    }
    if rows.is_empty() {
        return Err(DataError::Layout { path: path.into(), message: "it has a header but no row: expected one row a picture".into() });
    }
    assemble(path, root, &columns, rows, options)
}

/// Tabs for `.tsv` and `.tab`; otherwise what the header has most of: commas, semicolons or tabs.
fn delimiter(path: &Path) -> Result<u8, DataError> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    if extension == "tsv" || extension == "tab" {
        return Ok(b'\t');
    }
    let file = File::open(path).map_err(DataError::io("read", path))?;
    let mut header = Vec::new();
    BufReader::new(std::io::Read::take(file, 1 << 20)).read_until(b'\n', &mut header).map_err(DataError::io("read", path))?;
    let count = |d: u8| header.iter().filter(|&&b| b == d).count();
    Ok([b'\t', b';', b','].into_iter().max_by_key(|&d| count(d)).unwrap_or(b','))
}

/// What each column is for, as its position.
struct Columns {
    header: Vec<String>,
    path: usize,
    label: Option<usize>,
    several: bool,
    /// Class name and position.
    soft: Vec<(String, usize)>,
    split: Option<usize>,
    group: Option<usize>,
    weight: Option<usize>,
    others: Vec<usize>,
}

impl Columns {
    fn find(manifest: &Path, header: Vec<String>, options: &OpenOptions) -> Result<Columns, DataError> {
        let found = header.join(", ");
        let lacking = |expected: String| DataError::Columns { path: manifest.into(), expected, found: found.clone() };
        let position = |name: &str| header.iter().position(|h| h.eq_ignore_ascii_case(name));
        // A column that was asked for must be there; the usual names need not.
        let pick = |asked: &Option<String>, usual: &[&str]| match asked {
            Some(name) => position(name).map(Some).ok_or_else(|| lacking(format!("`{name}`"))),
            None => Ok(usual.iter().find_map(|n| position(n))),
        };
        let either = |names: &[&str]| names.join(", ");
        let path = pick(&options.path_column, &PATH_COLUMNS)?
            .ok_or_else(|| lacking(format!("for the file (one of {}; or name it with --path-column)", either(&PATH_COLUMNS))))?;
        let label = pick(&options.label_column, &LABEL_COLUMNS)?;
        let soft: Vec<(String, usize)> = header
            .iter()
            .enumerate()
            .filter_map(|(i, h)| h.strip_prefix(SOFT_PREFIX).map(str::trim).filter(|c| !c.is_empty()).map(|c| (c.to_string(), i)))
            .collect();
        if label.is_none() && soft.is_empty() {
            return Err(lacking(format!(
                "for the label (one of {}, or p:CLASS for probabilities; or name it with --label-column)",
                either(&LABEL_COLUMNS)
            )));
        }
        let split = pick(&options.split_column, &["split"])?;
        let group = pick(&options.group_column, &["group"])?;
        let weight = position("weight");
        let used = [Some(path), label, split, group, weight];
        let others = (0..header.len()).filter(|i| !used.contains(&Some(*i)) && !soft.iter().any(|(_, s)| s == i)).collect();
        let several = label.is_some_and(|l| header[l].eq_ignore_ascii_case("labels"));
        Ok(Columns { header, path, label, several, soft, split, group, weight, others })
    }

    fn row(&self, record: &csv::StringRecord, line: u64, manifest: &Path) -> Result<Row, DataError> {
        let value = |i: usize| record.get(i).unwrap_or("");
        let optional = |i: Option<usize>| i.map(value).filter(|v| !v.is_empty()).map(String::from);
        let bad = |i: usize, message: String| DataError::Row { path: manifest.into(), row: line, column: self.header[i].clone(), message };
        let path = value(self.path);
        if path.is_empty() {
            return Err(bad(self.path, "it is empty: expected the path of a picture".into()));
        }
        let weight = match optional(self.weight) {
            None => 1.0,
            Some(text) => text.parse::<f32>().ok().filter(|w| w.is_finite() && *w >= 0.0).ok_or_else(|| {
                let message = format!("expected a number of at least 0, found `{text}`");
                bad(self.weight.unwrap_or(0), message)
            })?,
        };
        let columns = self.others.iter().map(|&i| (self.header[i].clone(), value(i).to_string())).collect();
        let labels = match optional(self.label) {
            Some(text) if self.several => text.split('|').map(|l| l.trim().to_string()).filter(|l| !l.is_empty()).collect(),
            Some(text) => vec![text],
            None => Vec::new(),
        };
        let soft = self.probabilities(record, &bad)?;
        let split = optional(self.split).map(|s| split_name(&s));
        Ok(Row { line, path: path.into(), labels, soft, split, group: optional(self.group), weight, columns })
    }

    /// The `p:` columns, scaled to sum 1; `None` when there are none or all are empty.
    fn probabilities(&self, record: &csv::StringRecord, bad: &dyn Fn(usize, String) -> DataError) -> Result<Option<Vec<f32>>, DataError> {
        let texts: Vec<&str> = self.soft.iter().map(|(_, i)| record.get(*i).unwrap_or("")).collect();
        if texts.iter().all(|t| t.is_empty()) {
            return Ok(None);
        }
        let mut values = Vec::new();
        for (text, (_, i)) in texts.iter().zip(&self.soft) {
            let value = text.parse::<f32>().ok().filter(|v| (0.0..=1.0).contains(v));
            values.push(value.ok_or_else(|| bad(*i, format!("expected a probability in 0..=1, found `{text}`")))?);
        }
        let sum: f32 = values.iter().sum();
        if (sum - 1.0).abs() > 0.01 {
            return Err(bad(self.soft[0].1, format!("the probabilities of the row sum to {sum}, expected 1")));
        }
        Ok(Some(values.iter().map(|v| v / sum).collect()))
    }
}

/// One row, its labels still names.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    line: u64,
    path: String,
    labels: Vec<String>,
    soft: Option<Vec<f32>>,
    split: Option<String>,
    group: Option<String>,
    weight: f32,
    columns: BTreeMap<String, String>,
}

impl Row {
    /// The first column in which two rows of one picture differ, with both values.
    fn difference(&self, other: &Row) -> Option<String> {
        let text = |v: &Option<String>| v.clone().unwrap_or_default();
        let differ = |name: &str, a: String, b: String| (a != b).then(|| format!("{name}: `{a}` and `{b}`"));
        differ("label", self.labels.join("|"), other.labels.join("|"))
            .or_else(|| differ("probabilities", format!("{:?}", self.soft), format!("{:?}", other.soft)))
            .or_else(|| differ("split", text(&self.split), text(&other.split)))
            .or_else(|| differ("group", text(&self.group), text(&other.group)))
            .or_else(|| differ("weight", self.weight.to_string(), other.weight.to_string()))
            .or_else(|| self.columns.iter().find_map(|(k, v)| differ(k, v.clone(), other.columns.get(k).cloned().unwrap_or_default())))
    }
}

/// Rows whose file is not there.
#[derive(Default)]
pub(super) struct Missing(Vec<(u64, PathBuf)>);

impl Missing {
    /// Notes a row and the file it names.
    pub(super) fn add(&mut self, row: u64, path: &Path) {
        self.0.push((row, path.into()));
    }

    /// A warning for each, or an error when no row is left.
    pub(super) fn finish(self, manifest: &Path, root: &Path, left: usize) -> Result<Vec<String>, DataError> {
        const SHOWN: usize = 20;
        if let (0, Some((row, first))) = (left, self.0.first()) {
            let (path, folder) = (manifest.into(), root.into());
            return Err(DataError::AllMissing { path, count: self.0.len(), row: *row, first: first.clone(), folder });
        }
        let describe = |(row, file): &(u64, PathBuf)| format!("row {row}: the file {} is missing; set aside", file.display());
        let mut warnings: Vec<String> = self.0.iter().take(SHOWN).map(describe).collect();
        if self.0.len() > SHOWN {
            warnings.push(format!("{} rows in all name a missing file and were set aside", self.0.len()));
        }
        Ok(warnings)
    }
}

fn assemble(path: &Path, root: &Path, columns: &Columns, rows: Vec<Row>, options: &OpenOptions) -> Result<Dataset, DataError> {
    let use_soft = !columns.soft.is_empty() && (options.soft || columns.label.is_none());
    let classes = classes_of(path, columns, &rows, use_soft, options)?;
    let mut warnings = Vec::new();
    let (mut missing, mut idx_files) = (Missing::default(), IdxFiles::default());
    let mut first_rows: BTreeMap<String, usize> = BTreeMap::new();
    let mut samples = Vec::new();
    let (mut repeated, mut unlabelled) = (Vec::new(), 0);
    for (number, row) in rows.iter().enumerate() {
        let (id, file) = locate(root, &row.path);
        if let Some(&first) = first_rows.get(&id) {
            if let Some(difference) = rows[first].difference(row) {
                return Err(DataError::Conflict { path: path.into(), first: rows[first].line, second: row.line, id, difference });
            }
            repeated.push(format!("row {} (as row {})", row.line, rows[first].line));
            continue;
        }
        first_rows.insert(id.clone(), number);
        let Some(source) = idx_files.source(&file)? else {
            missing.add(row.line, &file);
            continue;
        };
        let target = target(row, columns, &classes, use_soft);
        unlabelled += usize::from(target.is_none());
        let Row { split, group, weight, columns, .. } = row.clone();
        samples.push(Sample { id, source, target, split, group, weight, columns });
    }
    warnings.extend(missing.finish(path, root, samples.len())?);
    if !repeated.is_empty() {
        warnings.push(format!("left out, as they repeat an earlier row: {}", some_of(&repeated, 5)));
    }
    if unlabelled > 0 {
        warnings.push(format!("rows without a label: {unlabelled}"));
    }
    Ok(Dataset { name: name_of(path), root: root.into(), classes, samples, warnings })
}

/// The IDX files that rows take pictures of, each read once.
#[derive(Default)]
struct IdxFiles(BTreeMap<PathBuf, Arc<IdxImages>>);

impl IdxFiles {
    /// What a row's file is: an image file, or the picture `index` of the IDX file in `FILE#index`. None where there is neither.
    fn source(&mut self, file: &Path) -> Result<Option<Source>, DataError> {
        if file.is_file() {
            return Ok(Some(Source::File(file.into())));
        }
        let text = file.to_string_lossy();
        let Some((stem, index)) = text.rsplit_once('#').and_then(|(stem, index)| Some((stem, index.parse::<usize>().ok()?))) else {
            return Ok(None);
        };
        let Some(path) = [PathBuf::from(stem), PathBuf::from(format!("{stem}.gz"))].into_iter().find(|p| p.is_file()) else {
            return Ok(None);
        };
        let images = match self.0.get(&path) {
            Some(images) => Arc::clone(images),
            None => Arc::clone(self.0.entry(path.clone()).or_insert(Arc::new(IdxImages::read(&path)?))),
        };
        Ok((index < images.len()).then_some(Source::Idx { images, index }))
    }
}

/// The class list: the given one, against which every label is checked, or the names in the manifest.
fn classes_of(path: &Path, columns: &Columns, rows: &[Row], use_soft: bool, options: &OpenOptions) -> Result<Classes, DataError> {
    let named = |row: &Row| row.labels.clone();
    let Some(list) = &options.class_list else {
        return Ok(match use_soft {
            true => Classes::sorted(columns.soft.iter().map(|(c, _)| c.clone())),
            false => Classes::sorted(rows.iter().flat_map(named)),
        });
    };
    let unknown = |label: &String, row: u64| DataError::UnknownLabel {
        path: path.into(),
        row,
        label: label.clone(),
        classes: some_of(list.names(), 20),
    };
    if use_soft {
        let stranger = columns.soft.iter().find(|(c, _)| list.index_of(c).is_none());
        return stranger.map_or_else(|| Ok(list.clone()), |(c, _)| Err(unknown(c, 1)));
    }
    let known: std::collections::BTreeSet<&String> = list.names().iter().collect();
    let stranger = rows.iter().find_map(|row| row.labels.iter().find(|l| !known.contains(l)).map(|l| unknown(l, row.line)));
    stranger.map_or_else(|| Ok(list.clone()), Err)
}

fn target(row: &Row, columns: &Columns, classes: &Classes, use_soft: bool) -> Option<Target> {
    if use_soft {
        let mut values = vec![0.0; classes.len()];
        for ((class, _), p) in columns.soft.iter().zip(row.soft.as_ref()?) {
            values[classes.index_of(class)?] += p;
        }
        return Some(Target::Soft(values));
    }
    let mut labels: Vec<usize> = row.labels.iter().filter_map(|l| classes.index_of(l)).collect();
    labels.sort_unstable();
    labels.dedup();
    match columns.several {
        true => Some(Target::Labels(labels)),
        false => labels.first().map(|&l| Target::Label(l)),
    }
}

/// Id and real path of a file named in a manifest. Backslashes are taken as separators where no file has them in its name.
fn locate(root: &Path, text: &str) -> (String, PathBuf) {
    let mut text = text.to_string();
    if text.contains('\\') && !root.join(&text).exists() {
        text = text.replace('\\', "/");
    }
    let file = root.join(&text);
    let relative = file.strip_prefix(root).unwrap_or(&file);
    let parts: Vec<String> = relative
        .components()
        .filter_map(|c| match c {
            Component::CurDir | Component::RootDir => None,
            part => Some(part.as_os_str().to_string_lossy().into_owned()),
        })
        .collect();
    let id = parts.join("/");
    (if relative.is_absolute() { format!("/{id}") } else { id }, file)
}
