//! From results to the report's input: pictures of the worst errors, facts about machine and versions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data::Dataset;
use engine::Model;
use evaluate::{Curves, Evaluation, Predictions};
use images::{DecodeOptions, encode_jpeg};
use learn::features::Rows;
use learn::{Account, Trained};
use report::{DataFacts, Epoch, ErrorPicture, ReportInput, SweepPoint};

/// Misclassified pictures shown.
const PICTURES: usize = 24;
/// Longest side of a picture in pixels.
const PICTURE_SIDE: usize = 240;
/// JPEG quality of a picture.
const PICTURE_QUALITY: u8 = 82;
/// Points kept of a curve.
const CURVE_POINTS: usize = 400;

/// The report of a training run.
pub fn training(dataset: &Dataset, trained: &Trained, elapsed: Duration) -> String {
    let account = &trained.account;
    let recipe = &account.recipe;
    let title = format!("{} · {} on {}", account.data, recipe.method.name(), recipe.model_name());
    let mut input = ReportInput::new(title, now(), &trained.evaluation);
    let curves = Curves::new(&trained.predictions, trained.evaluation.options.ece_bins, CURVE_POINTS).ok();
    input.curves = curves.as_ref();
    input.data = DataFacts { name: account.data.clone(), splits: account.class_counts.clone(), evaluated_on: account.judged_on.clone() };
    input.history = history(account);
    input.val_metric = recipe.fit.early_stopping.metric.name().replace('_', " ");
    input.sweep = account.sweep.iter().map(|s| SweepPoint { c: s.c, fold: 0, log_loss: s.log_loss, chosen: s.chosen }).collect();
    input.errors = pictures(dataset, &account.judged, &trained.predictions);
    input.recipe = recipe.to_toml().unwrap_or_default();
    input.set_aside.clone_from(&account.set_aside);
    input.warnings.clone_from(&account.warnings);
    input.facts = facts(&trained.model, Some(recipe.seed), &account.data_fingerprint);
    input.facts.extend(account.seconds.iter().map(|(phase, s)| (format!("Time, {phase}"), format!("{s:.1} s"))));
    input.facts.push(("Time in all".into(), format!("{:.1} s", elapsed.as_secs_f64())));
    report::render(&input)
}

/// The report of a model judged on other data.
pub fn evaluation(
    dataset: &Dataset,
    model: &Model,
    model_name: &str,
    judged_on: &str,
    rows: &Rows,
    predictions: &Predictions,
    evaluation: &Evaluation,
) -> String {
    let mut input = ReportInput::new(format!("{} · judged by {model_name}", dataset.name), now(), evaluation);
    let curves = Curves::new(predictions, evaluation.options.ece_bins, CURVE_POINTS).ok();
    input.curves = curves.as_ref();
    let counts = dataset.class_counts(rows.indices.iter());
    input.data = DataFacts { name: dataset.name.clone(), splits: vec![(judged_on.into(), counts)], evaluated_on: judged_on.into() };
    input.errors = pictures(dataset, &rows.indices, predictions);
    input.recipe = model.metadata.recipe.clone().unwrap_or_default();
    input.set_aside = rows.failed.iter().map(|(i, why)| (dataset.samples[*i].id.clone(), why.clone())).collect();
    input.warnings.clone_from(&dataset.warnings);
    input.facts = facts(model, model.metadata.seed, &dataset.fingerprint());
    report::render(&input)
}

fn history(account: &Account) -> Vec<Epoch> {
    let row = |fold: usize, r: &learn::fit::EpochRecord| Epoch {
        epoch: r.epoch + 1,
        fold,
        train_loss: r.train_loss,
        val_loss: r.validation_loss,
        val_metric: r.metric_value,
        lr: r.learning_rate,
        seconds: r.seconds,
    };
    // With folds, the final model's own curve would pass for one more fold.
    let folds = account.history.iter().any(|(fold, _)| fold.is_some());
    let shown = account.history.iter().filter(|(fold, _)| fold.is_some() == folds);
    shown.flat_map(|(fold, records)| records.iter().map(move |r| row(fold.unwrap_or(0), r))).collect()
}

/// The mistakes made with the highest probability, as small JPEGs.
fn pictures(dataset: &Dataset, judged: &[usize], predictions: &Predictions) -> Vec<ErrorPicture> {
    let mut wrong: Vec<(f64, usize, usize, usize)> = (0..predictions.len())
        .filter_map(|p| {
            let (truth, predicted) = (predictions.truth[p]?, predictions.predicted(p));
            (truth != predicted).then(|| (predictions.row(p)[predicted], p, truth, predicted))
        })
        .collect();
    wrong.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let picture = |&(probability, p, truth, predicted): &(f64, usize, usize, usize)| {
        let image = dataset.image(*judged.get(p)?, &DecodeOptions::default()).ok()?;
        Some(ErrorPicture {
            id: predictions.ids[p].clone(),
            bytes: encode_jpeg(&image.thumbnail(PICTURE_SIDE), PICTURE_QUALITY),
            truth: predictions.classes[truth].clone(),
            predicted: predictions.classes[predicted].clone(),
            probability,
            truth_probability: Some(predictions.row(p)[truth]),
        })
    };
    wrong.iter().take(PICTURES).filter_map(picture).collect()
}

fn facts(model: &Model, seed: Option<u64>, fingerprint: &str) -> Vec<(String, String)> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut facts = vec![
        ("Fieldmark".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ("Model".into(), format!("{}, {} parameters", model.graph.name, model.graph.parameter_count())),
        ("Input".into(), format!("{:?} (channels, height, width)", model.metadata.preprocess.shape())),
        ("Data fingerprint".into(), fingerprint.into()),
        ("Machine".into(), format!("{} {}, {threads} threads", std::env::consts::OS, std::env::consts::ARCH)),
    ];
    facts.extend(seed.map(|seed| ("Seed".to_string(), seed.to_string())));
    facts
}

/// The date and time, UTC (civil date from days by Howard Hinnant's algorithm).
pub fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, of_day) = ((seconds / 86_400) as i64 + 719_468, seconds % 86_400);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", of_day / 3600, of_day % 3600 / 60)
}
