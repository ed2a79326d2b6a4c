use std::collections::BTreeMap;
use std::path::Path;

use crate::EvaluateError;
use crate::table;

/// How far the probabilities of one sample may sum away from one.
const SUM_TOLERANCE: f64 = 1e-3;

/// A table of predictions: for every sample one probability per class and, where known, the truth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Class names in the order of the probabilities (`k`).
    pub classes: Vec<String>,
    /// Sample ids (`n`).
    pub ids: Vec<String>,
    /// The true class of each sample (`n`), `None` where unknown.
    pub truth: Vec<Option<usize>>,
    /// Probabilities in 0..=1, `[n, k]` row by row; each row sums to one within 0.001.
    pub probabilities: Vec<f64>,
    /// The fold in which each sample was held out (`n`), for out-of-fold predictions.
    pub fold: Option<Vec<usize>>,
    /// Further columns (`n` each), for slices.
    pub columns: BTreeMap<String, Vec<String>>,
}

impl Predictions {
    /// A checked table without folds and further columns.
    ///
    /// # Errors
    /// As [`Predictions::check`].
    pub fn new(classes: Vec<String>, ids: Vec<String>, truth: Vec<Option<usize>>, probabilities: Vec<f64>) -> Result<Self, EvaluateError> {
        let predictions = Self { classes, ids, truth, probabilities, fold: None, columns: BTreeMap::new() };
        predictions.check()?;
        Ok(predictions)
    }

    /// Whether a further column may not have this name, because the written table uses it.
    pub fn is_reserved(column: &str) -> bool {
        table::is_reserved(column)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The probabilities of one sample, one per class.
    pub fn row(&self, sample: usize) -> &[f64] {
        let k = self.classes.len();
        &self.probabilities[sample * k..(sample + 1) * k]
    }

    /// The class with the largest probability; the first of several equal ones.
    pub fn predicted(&self, sample: usize) -> usize {
        argmax(self.row(sample))
    }

    /// Verifies sizes, class indices, and that every row is a distribution: finite, 0..=1, summing to one within 0.001.
    ///
    /// # Errors
    /// The first thing that is wrong, by column or row (rows count from 1).
    pub fn check(&self) -> Result<(), EvaluateError> {
        self.check_sizes()?;
        let k = self.classes.len();
        for (sample, (id, truth)) in self.ids.iter().zip(&self.truth).enumerate() {
            let row = sample + 1;
            if let Some(found) = truth.filter(|&t| t >= k) {
                return Err(EvaluateError::Truth { row, id: id.clone(), found, classes: k });
            }
            let probabilities = self.row(sample);
            // A rounding step above one is not an error; NaN fails both comparisons.
            if let Some(class) = probabilities.iter().position(|p| !(*p >= 0.0 && *p <= 1.0 + 1e-6)) {
                return Err(EvaluateError::Probability {
                    row,
                    id: id.clone(),
                    class: self.classes[class].clone(),
                    found: probabilities[class],
                });
            }
            let found: f64 = probabilities.iter().sum();
            if (found - 1.0).abs() > SUM_TOLERANCE {
                return Err(EvaluateError::Sum { row, id: id.clone(), found });
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), EvaluateError> {
        if self.classes.is_empty() {
            return Err(EvaluateError::NoClasses);
        }
        for (i, class) in self.classes.iter().enumerate() {
            if class.is_empty() {
                return Err(EvaluateError::EmptyClass { class: i });
            }
            if self.classes[..i].contains(class) {
                return Err(EvaluateError::DuplicateClass { class: class.clone() });
            }
        }
        let n = self.ids.len();
        let length = |column: &str, expected: usize, found: usize| {
            if expected == found { Ok(()) } else { Err(EvaluateError::Length { column: column.to_string(), expected, found }) }
        };
        length("truth", n, self.truth.len())?;
        length("probabilities", n * self.classes.len(), self.probabilities.len())?;
        if let Some(fold) = &self.fold {
            length("fold", n, fold.len())?;
        }
        for (name, column) in &self.columns {
            if table::is_reserved(name) {
                return Err(EvaluateError::ReservedColumn { column: name.clone() });
            }
            length(name, n, column.len())?;
        }
        Ok(())
    }

    /// The samples at `indices`, in that order (indices may repeat).
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            classes: self.classes.clone(),
            ids: indices.iter().map(|&i| self.ids[i].clone()).collect(),
            truth: indices.iter().map(|&i| self.truth[i]).collect(),
            probabilities: indices.iter().flat_map(|&i| self.row(i).iter().copied()).collect(),
            fold: self.fold.as_ref().map(|fold| indices.iter().map(|&i| fold[i]).collect()),
            columns: self
                .columns
                .iter()
                .map(|(name, column)| (name.clone(), indices.iter().map(|&i| column[i].clone()).collect()))
                .collect(),
        }
    }

    /// The samples of several tables one after the other, as when the held-out parts of k folds are put together.
    ///
    /// # Errors
    /// When there is no table, or their classes, columns or use of folds differ.
    pub fn concat(tables: &[Predictions]) -> Result<Self, EvaluateError> {
        let mismatch = |reason: String| EvaluateError::Mismatch { reason };
        let (first, rest) = tables.split_first().ok_or_else(|| mismatch("there are none to join".into()))?;
        let mut joined = first.clone();
        for (number, table) in rest.iter().enumerate() {
            let number = number + 2;
            if table.classes != first.classes {
                return Err(mismatch(format!("table {number} has classes {:?}, the first has {:?}", table.classes, first.classes)));
            }
            if !table.columns.keys().eq(first.columns.keys()) {
                return Err(mismatch(format!("table {number} has other columns than the first")));
            }
            match (&mut joined.fold, &table.fold) {
                (Some(all), Some(more)) => all.extend(more),
                (None, None) => {}
                _ => return Err(mismatch(format!("either all tables have folds or none; table {number} differs from the first"))),
            }
            joined.ids.extend_from_slice(&table.ids);
            joined.truth.extend_from_slice(&table.truth);
            joined.probabilities.extend_from_slice(&table.probabilities);
            for (all, more) in joined.columns.values_mut().zip(table.columns.values()) {
                all.extend_from_slice(more);
            }
        }
        joined.check()?;
        Ok(joined)
    }

    /// Writes the table as CSV: `id`, `truth`, `predicted`, `probability`, `fold`, one `p:<class>` per class, then the
    /// further columns. The file appears whole or not at all.
    ///
    /// # Errors
    /// When the table fails its check or the file cannot be written.
    pub fn write_csv(&self, path: &Path) -> Result<(), EvaluateError> {
        self.check()?;
        table::write_csv(self, path)
    }

    /// Reads what [`Predictions::write_csv`] wrote, or any CSV with `id`, `truth` and `p:<class>` columns.
    ///
    /// # Errors
    /// When the file cannot be read or is no such table; the message names row and column.
    pub fn read_csv(path: &Path) -> Result<Self, EvaluateError> {
        table::read_csv(path)
    }

    /// Writes the table as Parquet with the same columns as the CSV, class order in the file's metadata. The file appears
    /// whole or not at all.
    ///
    /// # Errors
    /// When the table fails its check or the file cannot be written.
    pub fn write_parquet(&self, path: &Path) -> Result<(), EvaluateError> {
        self.check()?;
        table::write_parquet(self, path)
    }

    /// Reads what [`Predictions::write_parquet`] wrote, or any flat Parquet file with `id`, `truth` and `p:<class>` columns.
    ///
    /// # Errors
    /// When the file cannot be read or is no such table; the message names row and column.
    pub fn read_parquet(path: &Path) -> Result<Self, EvaluateError> {
        table::read_parquet(path)
    }
}

/// Index of the largest value, the first of several equal ones (as NumPy).
pub(crate) fn argmax(row: &[f64]) -> usize {
    let mut best = 0;
    for (class, &p) in row.iter().enumerate() {
        if p > row[best] {
            best = class;
        }
    }
    best
}
