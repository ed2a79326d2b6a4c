//! Tables of predictions as files. Both formats share the columns and the way back from columns to [`Predictions`].

mod csv_file;
mod parquet_file;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

pub(crate) use csv_file::{read_csv, write_csv};
pub use parquet_file::write_columns;
pub(crate) use parquet_file::{read_parquet, write_parquet};

use crate::{EvaluateError, Predictions};

/// What the name of a class is prefixed with to name the column of its probability.
const PROBABILITY_PREFIX: &str = "p:";

/// Whether the table itself uses that column name.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(PROBABILITY_PREFIX) || ["id", "truth", "predicted", "probability", "fold"].contains(&name)
}

/// The cells of one column of a file, `None` where empty.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Words.
    Text(Vec<Option<String>>),
    /// Numbers.
    Number(Vec<Option<f64>>),
    /// Whole numbers.
    Whole(Vec<Option<i64>>),
}

type Reason = String;

impl Column {
    fn len(&self) -> usize {
        match self {
            Column::Text(cells) => cells.len(),
            Column::Number(cells) => cells.len(),
            Column::Whole(cells) => cells.len(),
        }
    }

    fn text(self) -> Vec<Option<String>> {
        match self {
            Column::Text(cells) => cells,
            Column::Number(cells) => cells.into_iter().map(|cell| cell.map(|x| x.to_string())).collect(),
            Column::Whole(cells) => cells.into_iter().map(|cell| cell.map(|x| x.to_string())).collect(),
        }
    }

    /// Numbers, none of them missing.
    fn numbers(self, name: &str) -> Result<Vec<f64>, Reason> {
        let cell = |row: usize, number: Option<f64>| number.ok_or_else(|| format!("{}: expected a number, found nothing", at(row, name)));
        match self {
            Column::Text(cells) => {
                cells.into_iter().enumerate().map(|(row, text)| cell(row, parse(row, name, text, "a number")?)).collect()
            }
            Column::Number(cells) => cells.into_iter().enumerate().map(|(row, number)| cell(row, number)).collect(),
            Column::Whole(cells) => cells.into_iter().enumerate().map(|(row, number)| cell(row, number.map(|x| x as f64))).collect(),
        }
    }

    /// Whole numbers from 0.
    fn indices(self, name: &str) -> Result<Vec<Option<usize>>, Reason> {
        let wrong = |row: usize, found: String| format!("{}: expected a whole number from 0, found {found}", at(row, name));
        match self {
            Column::Text(cells) => {
                cells.into_iter().enumerate().map(|(row, text)| parse(row, name, text, "a whole number from 0")).collect()
            }
            Column::Whole(cells) => cells
                .into_iter()
                .enumerate()
                .map(|(row, cell)| cell.map(|x| usize::try_from(x).map_err(|_| wrong(row, x.to_string()))).transpose())
                .collect(),
            // As other tools store whole numbers when some are missing.
            Column::Number(cells) => cells
                .into_iter()
                .enumerate()
                .map(|(row, cell)| match cell.filter(|x| !x.is_nan()) {
                    Some(x) if x < 0.0 || x.fract() != 0.0 => Err(wrong(row, x.to_string())),
                    other => Ok(other.map(|x| x as usize)),
                })
                .collect(),
        }
    }
}

fn at(row: usize, column: &str) -> String {
    format!("row {}, column `{column}`", row + 1)
}

fn parse<T: std::str::FromStr>(row: usize, name: &str, cell: Option<String>, expected: &str) -> Result<Option<T>, Reason> {
    let Some(text) = cell else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| format!("{}: expected {expected}, found `{text}`", at(row, name)))
}

/// Puts the columns of a file together. `classes` is the order of the classes where the file states one; otherwise it is that of
/// the columns.
fn assemble(columns: Vec<(String, Column)>, classes: Option<Vec<String>>) -> Result<Predictions, Reason> {
    let found = columns.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let in_file: Vec<String> = columns.iter().filter_map(|(name, _)| name.strip_prefix(PROBABILITY_PREFIX).map(String::from)).collect();
    let classes = classes.unwrap_or(in_file);
    let mut by_name = BTreeMap::new();
    let rows = columns.first().map_or(0, |(_, column)| column.len());
    for (name, column) in columns {
        if column.len() != rows {
            return Err(format!("column `{name}` has {} rows, the first column {rows}", column.len()));
        }
        if by_name.insert(name.clone(), column).is_some() {
            return Err(format!("column `{name}` occurs twice"));
        }
    }
    let mut take = |name: &str| by_name.remove(name);
    let missing = |name: &str| format!("no column `{name}`: expected `id` and one `p:<class>` per class, found {found}");
    let ids = take("id").ok_or_else(|| missing("id"))?.text();
    let ids = ids.into_iter().enumerate().map(|(row, id)| id.ok_or_else(|| format!("{}: the id is empty", at(row, "id"))));
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    if classes.is_empty() {
        return Err(missing("p:<class>"));
    }
    let truth = class_indices("truth", take("truth"), &classes, ids.len())?;
    let predicted = class_indices("predicted", take("predicted"), &classes, ids.len())?;
    let fold = take("fold").map(|column| folds(column.indices("fold")?)).transpose()?.flatten();
    take("probability");
    let mut probabilities = vec![0.0; ids.len() * classes.len()];
    for (class, name) in classes.iter().enumerate() {
        let column = format!("{PROBABILITY_PREFIX}{name}");
        let cells = take(&column).ok_or_else(|| missing(&column))?.numbers(&column)?;
        for (row, cell) in cells.into_iter().enumerate() {
            probabilities[row * classes.len() + class] = cell;
        }
    }
    if let Some(extra) = by_name.keys().find(|name| name.starts_with(PROBABILITY_PREFIX)) {
        return Err(format!("column `{extra}` is of no class that the file lists ({})", classes.join(", ")));
    }
    let further = |(name, column): (String, Column)| (name, column.text().into_iter().map(Option::unwrap_or_default).collect());
    let columns = by_name.into_iter().map(further).collect();
    let predictions = Predictions { classes, ids, truth, probabilities, fold, columns };
    predictions.check().map_err(|error| error.to_string())?;
    agrees(&predictions, &predicted)?;
    Ok(predictions)
}

/// Class numbers of a column of class names; all unknown without the column.
fn class_indices(name: &str, column: Option<Column>, classes: &[String], rows: usize) -> Result<Vec<Option<usize>>, Reason> {
    let Some(column) = column else { return Ok(vec![None; rows]) };
    let numbers: BTreeMap<&str, usize> = classes.iter().enumerate().map(|(i, class)| (class.as_str(), i)).collect();
    let index =
        |(row, cell): (usize, Option<String>)| match cell {
            None => Ok(None),
            Some(class) => numbers.get(class.as_str()).copied().map(Some).ok_or_else(|| {
                format!("{}: unknown class `{class}`; the file has probabilities for {}", at(row, name), shortened(classes))
            }),
        };
    column.text().into_iter().enumerate().map(index).collect()
}

fn shortened(classes: &[String]) -> String {
    let shown: Vec<_> = classes.iter().take(10).map(|class| format!("`{class}`")).collect();
    shown.join(", ") + if classes.len() > 10 { ", …" } else { "" }
}

fn folds(cells: Vec<Option<usize>>) -> Result<Option<Vec<usize>>, Reason> {
    if cells.iter().all(Option::is_none) {
        return Ok(None);
    }
    let fold = |(row, cell): (usize, Option<usize>)| cell.ok_or_else(|| format!("{}: empty, but other rows have a fold", at(row, "fold")));
    cells.into_iter().enumerate().map(fold).collect::<Result<_, _>>().map(Some)
}

/// A stated prediction must be (one of) the most probable classes: everything else is computed from the probabilities.
fn agrees(predictions: &Predictions, stated: &[Option<usize>]) -> Result<(), Reason> {
    for (sample, stated) in stated.iter().enumerate() {
        let best = predictions.predicted(sample);
        if let Some(stated) = stated.filter(|&class| predictions.row(sample)[class] < predictions.row(sample)[best]) {
            return Err(format!(
                "{}: `{}`, but `{}` has the larger probability",
                at(sample, "predicted"),
                predictions.classes[stated],
                predictions.classes[best]
            ));
        }
    }
    Ok(())
}

/// Writes a file beside its final place and renames it when it is complete.
fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), EvaluateError>) -> Result<(), EvaluateError> {
    let io = |source| EvaluateError::Io { path: path.to_path_buf(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(".predictions-").tempfile_in(folder).map_err(io)?;
    let mut buffered = std::io::BufWriter::new(&mut file);
    write(&mut buffered)?;
    buffered.flush().map_err(io)?;
    drop(buffered);
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}
