use std::fs::File;
use std::path::Path;

use super::{Column, PROBABILITY_PREFIX, assemble, write_atomically};
use crate::{EvaluateError, Predictions};

pub(crate) fn write_csv(predictions: &Predictions, path: &Path) -> Result<(), EvaluateError> {
    write_atomically(path, |file| {
        let mut writer = csv::Writer::from_writer(file);
        write_rows(predictions, &mut writer).map_err(|error| of_csv(path, error))?;
        writer.flush().map_err(|source| EvaluateError::Io { path: path.to_path_buf(), source })
    })
}

fn write_rows<W: std::io::Write>(predictions: &Predictions, writer: &mut csv::Writer<W>) -> Result<(), csv::Error> {
    let fixed = ["id", "truth", "predicted", "probability", "fold"].map(String::from);
    let classes = predictions.classes.iter().map(|class| format!("{PROBABILITY_PREFIX}{class}"));
    writer.write_record(fixed.into_iter().chain(classes).chain(predictions.columns.keys().cloned()))?;
    for (sample, id) in predictions.ids.iter().enumerate() {
        let predicted = predictions.predicted(sample);
        let row = predictions.row(sample);
        writer.write_field(id)?;
        writer.write_field(predictions.truth[sample].map_or("", |class| &predictions.classes[class]))?;
        writer.write_field(&predictions.classes[predicted])?;
        writer.write_field(row[predicted].to_string())?;
        writer.write_field(predictions.fold.as_ref().map_or_else(String::new, |fold| fold[sample].to_string()))?;
        for p in row {
            writer.write_field(p.to_string())?;
        }
        for column in predictions.columns.values() {
            writer.write_field(&column[sample])?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    Ok(())
}

pub(crate) fn read_csv(path: &Path) -> Result<Predictions, EvaluateError> {
    let file = File::open(path).map_err(|source| EvaluateError::Io { path: path.to_path_buf(), source })?;
    let columns = read_columns(file).map_err(|error| of_csv(path, error))?;
    assemble(columns, None).map_err(|reason| EvaluateError::Format { path: path.to_path_buf(), reason })
}

fn read_columns(file: File) -> Result<Vec<(String, Column)>, csv::Error> {
    let mut reader = csv::Reader::from_reader(file);
    let names: Vec<String> = reader.headers()?.iter().map(|name| name.trim_start_matches('\u{feff}').to_string()).collect();
    let mut cells: Vec<Vec<Option<String>>> = vec![Vec::new(); names.len()];
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record)? {
        for (column, cell) in cells.iter_mut().zip(&record) {
            column.push((!cell.is_empty()).then(|| cell.to_string()));
        }
    }
    Ok(names.into_iter().zip(cells.into_iter().map(Column::Text)).collect())
}

fn of_csv(path: &Path, error: csv::Error) -> EvaluateError {
    let path = path.to_path_buf();
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            EvaluateError::Format { path, reason: format!("line {line}: expected {expected_len} fields as in the header, found {len}") }
        }
        csv::ErrorKind::Utf8 { pos, err } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            EvaluateError::Format { path, reason: format!("line {line}, field {}: not UTF-8 text", err.field() + 1) }
        }
        csv::ErrorKind::Io(_) => match error.into_kind() {
            csv::ErrorKind::Io(source) => EvaluateError::Io { path, source },
            other => EvaluateError::Format { path, reason: format!("not readable as CSV: {other:?}") },
        },
        _ => EvaluateError::Format { path, reason: format!("not readable as CSV: {error}") },
    }
}
