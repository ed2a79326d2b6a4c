use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;

use super::{Column, PROBABILITY_PREFIX, assemble, write_atomically};
use crate::{EvaluateError, Predictions};

/// Metadata key under which the class names stand in order, as JSON.
const CLASSES_KEY: &str = "fieldmark.classes";
/// Rows asked of the decoder at a time.
const CHUNK: usize = 1 << 16;

type Named = (String, Column);

pub(crate) fn write_parquet(predictions: &Predictions, path: &Path) -> Result<(), EvaluateError> {
    let columns = columns(predictions);
    write_atomically(path, |file| {
        // The writer needs a `Send` sink: the file is put together in memory, where the table is anyway.
        let classes = serde_json::to_string(&predictions.classes).map_err(|error| ParquetError::General(error.to_string()));
        let classes = classes.map(|text| vec![KeyValue::new(CLASSES_KEY.to_string(), text)]);
        let bytes = classes.and_then(|classes| encode(&columns, Some(classes))).map_err(|error| of_parquet(path, error))?;
        file.write_all(&bytes).map_err(|source| EvaluateError::Io { path: path.to_path_buf(), source })
    })
}

/// Writes named columns, all of one length, as a Parquet file, whole or not at all.
///
/// # Errors
/// Columns of different lengths, or a file that cannot be written.
pub fn write_columns(columns: &[(String, Column)], path: &Path) -> Result<(), EvaluateError> {
    let rows = columns.first().map_or(0, |(_, column)| column.len());
    if let Some((name, column)) = columns.iter().find(|(_, column)| column.len() != rows) {
        let reason = format!("the column `{name}` has {} cells, expected {rows} as in the first", column.len());
        return Err(of_parquet(path, ParquetError::General(reason)));
    }
    write_atomically(path, |file| {
        let bytes = encode(columns, None).map_err(|error| of_parquet(path, error))?;
        file.write_all(&bytes).map_err(|source| EvaluateError::Io { path: path.to_path_buf(), source })
    })
}

/// The table by columns, in the order of the file.
fn columns(predictions: &Predictions) -> Vec<Named> {
    let samples = 0..predictions.len();
    let class = |class: usize| Some(predictions.classes[class].clone());
    let best = |i: usize| predictions.row(i)[predictions.predicted(i)];
    let fold = |i: usize| predictions.fold.as_ref().and_then(|fold| i64::try_from(fold[i]).ok());
    let mut columns = vec![
        ("id".to_string(), Column::Text(predictions.ids.iter().cloned().map(Some).collect())),
        ("truth".to_string(), Column::Text(predictions.truth.iter().map(|truth| class((*truth)?)).collect())),
        ("predicted".to_string(), Column::Text(samples.clone().map(|i| class(predictions.predicted(i))).collect())),
        ("probability".to_string(), Column::Number(samples.clone().map(|i| Some(best(i))).collect())),
        ("fold".to_string(), Column::Whole(samples.clone().map(fold).collect())),
    ];
    for (class, name) in predictions.classes.iter().enumerate() {
        let cells = samples.clone().map(|i| Some(predictions.row(i)[class])).collect();
        columns.push((format!("{PROBABILITY_PREFIX}{name}"), Column::Number(cells)));
    }
    for (name, cells) in &predictions.columns {
        columns.push((name.clone(), Column::Text(cells.iter().cloned().map(Some).collect())));
    }
    columns
}

fn encode(columns: &[Named], metadata: Option<Vec<KeyValue>>) -> Result<Vec<u8>, ParquetError> {
    let fields = columns.iter().map(|(name, column)| field(name, column)).collect::<Result<Vec<_>, _>>()?;
    let schema = Type::group_type_builder("schema").with_fields(fields).build()?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).set_key_value_metadata(metadata).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    let mut rows = writer.next_row_group()?;
    for (_, column) in columns {
        match column {
            Column::Text(cells) => write_cells::<ByteArrayType>(&mut rows, cells.iter().map(|cell| cell.as_deref().map(ByteArray::from)))?,
            Column::Number(cells) => write_cells::<DoubleType>(&mut rows, cells.iter().copied())?,
            Column::Whole(cells) => write_cells::<Int64Type>(&mut rows, cells.iter().copied())?,
        }
    }
    rows.close()?;
    writer.into_inner()
}

/// Every column may have gaps, as other tools write them.
fn field(name: &str, column: &Column) -> Result<Arc<Type>, ParquetError> {
    let (physical, logical) = match column {
        Column::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Column::Number(_) => (Physical::DOUBLE, None),
        Column::Whole(_) => (Physical::INT64, None),
    };
    let field = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL).with_logical_type(logical);
    Ok(Arc::new(field.build()?))
}

fn write_cells<T: DataType>(
    rows: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    cells: impl Iterator<Item = Option<T::T>> + Clone,
) -> Result<(), ParquetError> {
    let levels: Vec<i16> = cells.clone().map(|cell| i16::from(cell.is_some())).collect();
    let values: Vec<T::T> = cells.flatten().collect();
    let mut column = rows.next_column()?.ok_or_else(|| ParquetError::General("fewer columns than the schema has".into()))?;
    column.typed::<T>().write_batch(&values, Some(&levels), None)?;
    column.close()
}

pub(crate) fn read_parquet(path: &Path) -> Result<Predictions, EvaluateError> {
    let file = File::open(path).map_err(|source| EvaluateError::Io { path: path.to_path_buf(), source })?;
    // The decoder trusts some numbers of a damaged file and panics on them: that is an unreadable file, too.
    let read = std::panic::catch_unwind(AssertUnwindSafe(|| read_table(file)));
    let damaged = || ReadError::Parquet(ParquetError::General("the file is damaged".into()));
    read.unwrap_or_else(|_| Err(damaged())).map_err(|error| match error {
        ReadError::Parquet(error) => of_parquet(path, error),
        ReadError::Reason(reason) => EvaluateError::Format { path: path.to_path_buf(), reason },
    })
}

fn read_table(file: File) -> Result<Predictions, ReadError> {
    let size = file.metadata().map_err(|error| ParquetError::External(Box::new(error)))?.len();
    let reader = SerializedFileReader::new(file)?;
    check_ranges(&reader, size)?;
    let classes = stated_classes(&reader).map_err(ReadError::Reason)?;
    let names = flat_columns(&reader).map_err(ReadError::Reason)?;
    let mut columns = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        columns.push((name.clone(), read_column(&reader, index, &name)?));
    }
    assemble(columns, classes).map_err(ReadError::Reason)
}

/// Every column must lie within the file.
fn check_ranges(reader: &SerializedFileReader<File>, size: u64) -> Result<(), ReadError> {
    for column in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let end = start.checked_add(column.compressed_size());
        let inside = start >= 0 && column.compressed_size() >= 0 && end.is_some_and(|end| end as u64 <= size);
        if !inside {
            let name = column.column_path().string();
            return Err(ReadError::Reason(format!("not readable as Parquet: column `{name}` lies outside of the file")));
        }
    }
    Ok(())
}

fn stated_classes(reader: &SerializedFileReader<File>) -> Result<Option<Vec<String>>, String> {
    let Some(pairs) = reader.metadata().file_metadata().key_value_metadata() else { return Ok(None) };
    let Some(classes) = pairs.iter().find(|pair| pair.key == CLASSES_KEY).and_then(|pair| pair.value.as_deref()) else {
        return Ok(None);
    };
    serde_json::from_str(classes).map(Some).map_err(|error| format!("metadata `{CLASSES_KEY}` is not a list of names: {error}"))
}

/// Names of the columns, none of which may hold lists or records.
fn flat_columns(reader: &SerializedFileReader<File>) -> Result<Vec<String>, String> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let name = |column: &parquet::schema::types::ColumnDescPtr| {
        if column.path().parts().len() != 1 || column.max_rep_level() > 0 {
            return Err(format!("column `{}` is nested: expected a flat table", column.path().string()));
        }
        Ok(column.name().to_string())
    };
    schema.columns().iter().map(name).collect()
}

enum ReadError {
    Parquet(ParquetError),
    Reason(String),
}

impl From<ParquetError> for ReadError {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error)
    }
}

fn read_column(reader: &SerializedFileReader<File>, index: usize, name: &str) -> Result<Column, ReadError> {
    let mut whole: Option<Column> = None;
    for group in 0..reader.num_row_groups() {
        let part = read_part(reader.get_row_group(group)?.as_ref(), index, name)?;
        match (&mut whole, part) {
            (Some(Column::Text(all)), Column::Text(more)) => all.extend(more),
            (Some(Column::Number(all)), Column::Number(more)) => all.extend(more),
            (Some(Column::Whole(all)), Column::Whole(more)) => all.extend(more),
            (_, part) => whole = Some(part),
        }
    }
    Ok(whole.unwrap_or(Column::Text(Vec::new())))
}

fn read_part(group: &dyn RowGroupReader, index: usize, name: &str) -> Result<Column, ReadError> {
    Ok(match group.get_column_reader(index)? {
        ColumnReader::ByteArrayColumnReader(reader) => {
            let cells = read_cells(reader)?.into_iter().enumerate();
            Column::Text(cells.map(|(row, cell)| cell.map(|bytes| utf8(row, name, &bytes)).transpose()).collect::<Result<_, _>>()?)
        }
        ColumnReader::BoolColumnReader(reader) => Column::Text(cells_as(reader, |x| x.to_string())?),
        ColumnReader::DoubleColumnReader(reader) => Column::Number(read_cells(reader)?),
        ColumnReader::FloatColumnReader(reader) => Column::Number(cells_as(reader, f64::from)?),
        ColumnReader::Int32ColumnReader(reader) => Column::Whole(cells_as(reader, i64::from)?),
        ColumnReader::Int64ColumnReader(reader) => Column::Whole(read_cells(reader)?),
        ColumnReader::Int96ColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
            return Err(ReadError::Reason(format!("column `{name}` is of a type that a table of predictions does not use")));
        }
    })
}

fn utf8(row: usize, name: &str, bytes: &ByteArray) -> Result<String, ReadError> {
    let text = std::str::from_utf8(bytes.data()).map_err(|_| ReadError::Reason(format!("{}: not UTF-8 text", super::at(row, name))))?;
    Ok(text.to_string())
}

fn cells_as<T: DataType, U>(reader: ColumnReaderImpl<T>, convert: impl Fn(T::T) -> U) -> Result<Vec<Option<U>>, ReadError> {
    Ok(read_cells(reader)?.into_iter().map(|cell| cell.map(&convert)).collect())
}

/// All cells of a column of one row group.
fn read_cells<T: DataType>(mut reader: ColumnReaderImpl<T>) -> Result<Vec<Option<T::T>>, ReadError> {
    let mut cells = Vec::new();
    loop {
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let (records, _, _) = reader.read_records(CHUNK, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            return Ok(cells);
        }
        let mut values = values.into_iter();
        // A column that may have no gaps comes without levels.
        levels.resize(records, 1);
        cells.extend(levels.into_iter().map(|level| if level > 0 { values.next() } else { None }));
    }
}

fn of_parquet(path: &Path, error: ParquetError) -> EvaluateError {
    let path = path.to_path_buf();
    match error {
        ParquetError::External(source) => match source.downcast::<std::io::Error>() {
            Ok(source) => EvaluateError::Io { path, source: *source },
            Err(other) => EvaluateError::Format { path, reason: format!("not readable as Parquet: {other}") },
        },
        error => EvaluateError::Format { path, reason: format!("not readable as Parquet: {error}") },
    }
}
