//! From a table to a judgement.

use std::collections::BTreeMap;

use crate::evaluation::{ClassMetrics, Evaluation, FoldScores, Folds, Options, Scores, Slice, Spread};
use crate::tally::{NAMES, Prepared};
use crate::{EvaluateError, Metric, Predictions, bootstrap};

/// Distinct values a slice column may have.
const SLICE_LIMIT: usize = 256;

/// Judges a table of predictions; samples without a truth are counted and set aside.
///
/// With folds in the table, the numbers are those of all out-of-fold predictions pooled, and [`Evaluation::folds`] tells how
/// they vary.
///
/// # Errors
/// When the table fails its check, no sample is labelled, an option is out of range, or a slice column is missing or has more
/// than 256 values.
pub fn evaluate(predictions: &Predictions, options: &Options) -> Result<Evaluation, EvaluateError> {
    predictions.check()?;
    check_options(predictions, options)?;
    let labelled: Vec<usize> = (0..predictions.len()).filter(|&i| predictions.truth[i].is_some()).collect();
    if labelled.is_empty() {
        return Err(EvaluateError::NoTruth { samples: predictions.len() });
    }
    let judged = Judged::new(predictions, &labelled, options, options.bootstrap);
    let mut slices = Vec::new();
    for column in &options.slices {
        slices.extend(slice(predictions, &labelled, column, options)?);
    }
    Ok(Evaluation {
        n: labelled.len(),
        unlabelled: predictions.len() - labelled.len(),
        classes: predictions.classes.clone(),
        absent_classes: judged.absent_classes(),
        scores: judged.scores(),
        per_class: judged.per_class(),
        confusion: judged.prepared.confusion(),
        slices,
        folds: folds(predictions, &labelled, options),
        options: options.clone(),
    })
}

fn check_options(predictions: &Predictions, options: &Options) -> Result<(), EvaluateError> {
    let bins = options.ece_bins;
    if bins == 0 || bins > 10_000 {
        return Err(EvaluateError::Option { option: "ece_bins", found: bins, expected: "1 to 10000" });
    }
    if options.bootstrap > 1_000_000 {
        return Err(EvaluateError::Option { option: "bootstrap", found: options.bootstrap, expected: "0 to 1000000" });
    }
    if let Some(&found) = options.top_k.iter().find(|&&k| k == 0) {
        return Err(EvaluateError::Option { option: "top_k", found, expected: "1 or more" });
    }
    match options.slices.iter().find(|column| !predictions.columns.contains_key(*column)) {
        Some(column) => {
            Err(EvaluateError::UnknownColumn { column: column.clone(), columns: predictions.columns.keys().cloned().collect() })
        }
        None => Ok(()),
    }
}

/// A set of samples with its numbers.
struct Judged<'a> {
    predictions: &'a Predictions,
    prepared: Prepared,
    confusion: Vec<Vec<usize>>,
    values: Vec<f64>,
    intervals: Vec<Option<[f64; 2]>>,
}

impl<'a> Judged<'a> {
    fn new(predictions: &'a Predictions, samples: &[usize], options: &Options, replicates: usize) -> Self {
        let prepared = Prepared::new(predictions, samples, options.ece_bins, &options.top_k);
        let values = prepared.score(&vec![1; prepared.len()], true);
        let intervals = bootstrap::intervals(&prepared, replicates, options.seed);
        Self { predictions, confusion: prepared.confusion(), prepared, values, intervals }
    }

    fn support(&self, class: usize) -> usize {
        self.confusion[class].iter().sum()
    }

    fn absent_classes(&self) -> Vec<String> {
        let absent = |(class, name): (usize, &String)| (self.support(class) == 0).then(|| name.clone());
        self.predictions.classes.iter().enumerate().filter_map(absent).collect()
    }

    fn metric(&self, position: usize, reason: impl FnOnce() -> String) -> Metric {
        let value = self.values[position];
        if value.is_nan() {
            Metric::undefined(reason())
        } else {
            Metric { value: Some(value), ci95: self.intervals[position], undefined: None }
        }
    }

    /// Why a metric of the whole set does not exist.
    fn reason(&self, name: &str) -> String {
        let absent = self.absent_classes();
        let present = self.predictions.classes.len() - absent.len();
        match name {
            "kappa" => "the truth and the predictions are all of one and the same class".into(),
            "mcc" => "the truth or the predictions are all of one class".into(),
            _ if self.predictions.classes.len() == 1 => "there is only one class".into(),
            _ if present == 1 => "the truth is all of one class".into(),
            _ => match absent.as_slice() {
                [one] => format!("class `{one}` is absent from the truth"),
                many => format!("{} classes are absent from the truth", many.len()),
            },
        }
    }

    fn scores(&self) -> Scores {
        let mut positions = 0..NAMES.len();
        let mut next = || {
            let position = positions.next().unwrap_or_default();
            self.metric(position, || self.reason(NAMES[position]))
        };
        // In the order of NAMES, which a test compares with Scores::summary.
        Scores {
            accuracy: next(),
            balanced_accuracy: next(),
            macro_precision: next(),
            macro_recall: next(),
            macro_f1: next(),
            micro_precision: next(),
            micro_recall: next(),
            micro_f1: next(),
            weighted_precision: next(),
            weighted_recall: next(),
            weighted_f1: next(),
            roc_auc_macro: next(),
            roc_auc_micro: next(),
            roc_auc_weighted: next(),
            average_precision_macro: next(),
            log_loss: next(),
            brier: next(),
            ece: next(),
            kappa: next(),
            mcc: next(),
            top_k: self.top_k(),
        }
    }

    fn top_k(&self) -> BTreeMap<usize, Metric> {
        let metric = |i: usize| self.metric(NAMES.len() + i, || "no samples".into());
        self.prepared.top_k().iter().enumerate().map(|(i, &k)| (k, metric(i))).collect()
    }

    fn per_class(&self) -> Vec<ClassMetrics> {
        (0..self.predictions.classes.len()).map(|class| self.class(class)).collect()
    }

    fn class(&self, class: usize) -> ClassMetrics {
        let at = self.prepared.class_offset(class);
        let support = self.support(class);
        let absent = || "the class is absent from the truth".to_string();
        ClassMetrics {
            class: self.predictions.classes[class].clone(),
            support,
            predicted: self.confusion.iter().map(|row| row[class]).sum(),
            precision: self.metric(at, || "nothing is predicted as the class".into()),
            recall: self.metric(at + 1, absent),
            f1: self.metric(at + 2, || "the class is neither in the truth nor predicted".into()),
            roc_auc: self.metric(at + 3, || if support == 0 { absent() } else { "the truth is all of this class".into() }),
            average_precision: self.metric(at + 4, absent),
        }
    }
}

fn slice(predictions: &Predictions, labelled: &[usize], column: &str, options: &Options) -> Result<Vec<Slice>, EvaluateError> {
    let Some(values) = predictions.columns.get(column) else {
        return Ok(Vec::new());
    };
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for &i in labelled {
        groups.entry(&values[i]).or_default().push(i);
    }
    if groups.len() > SLICE_LIMIT {
        return Err(EvaluateError::TooManySlices { column: column.into(), values: groups.len(), limit: SLICE_LIMIT });
    }
    let of = |(value, samples): (&str, Vec<usize>)| {
        let judged = Judged::new(predictions, &samples, options, options.bootstrap);
        Slice {
            column: column.into(),
            value: value.into(),
            n: samples.len(),
            absent_classes: judged.absent_classes(),
            scores: judged.scores(),
        }
    };
    Ok(groups.into_iter().map(of).collect())
}

fn folds(predictions: &Predictions, labelled: &[usize], options: &Options) -> Option<Folds> {
    let fold = predictions.fold.as_ref()?;
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &i in labelled {
        groups.entry(fold[i]).or_default().push(i);
    }
    let per_fold: Vec<FoldScores> = groups
        .into_iter()
        .map(|(fold, samples)| FoldScores { fold, n: samples.len(), scores: Judged::new(predictions, &samples, options, 0).scores() })
        .collect();
    let values = |name: &str| per_fold.iter().filter_map(|fold| fold.scores.get(name)?.value).collect::<Vec<_>>();
    let spread = NAMES.iter().map(|name| (name.to_string(), Spread::of(&values(name)))).collect();
    Some(Folds { per_fold, spread })
}

impl Spread {
    /// Mean and sample standard deviation of values.
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / n);
        let std = mean.filter(|_| values.len() > 1).map(|m| (values.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (n - 1.0)).sqrt());
        Self { folds: values.len(), mean, std }
    }
}
