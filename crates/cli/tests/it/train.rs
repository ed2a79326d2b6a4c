//! `train`, `evaluate`, `info` and `augment-preview` on good input.

use std::fs;

use serde_json::Value;

use super::{Place, manifest, model};

/// The metrics that every evaluation has in JSON.
const METRICS: [&str; 10] = [
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "micro_f1",
    "roc_auc_macro",
    "log_loss",
    "brier",
    "ece",
];

#[track_caller]
fn check_metrics(scores: &Value) {
    for name in METRICS {
        let metric = scores[name].as_object().unwrap_or_else(|| panic!("{name} in {scores}"));
        assert!(metric.contains_key("value") && metric.contains_key("ci95"), "{name}: {metric:?}");
    }
    assert!(scores["n"].is_u64(), "{scores}");
}

#[test]
fn json_has_every_metric_with_its_interval_by_class_and_by_slice() {
    let place = Place::new();
    place.sky("sky", 8);
    let camera = |i: usize| if i.is_multiple_of(2) { "left" } else { "right" };
    place.write("sky.csv", manifest("path,label,camera", |class, i| format!("{class},{}", camera(i))));
    let told = place.train("sky.csv", &["--out", "run", "--json", "--seed", "5", "--set", "data.test=0.5"]).expect(0);
    let result = told.json();
    check_metrics(&result);
    assert_eq!(result["n"], 8);
    let accuracy = &result["accuracy"];
    let [low, high] = [0, 1].map(|i| accuracy["ci95"][i].as_f64().unwrap());
    assert!((low..=high).contains(&accuracy["value"].as_f64().unwrap()), "{accuracy}");
    let classes: Vec<&Value> = result["per_class"].as_array().unwrap().iter().map(|c| &c["class"]).collect();
    assert_eq!(classes, ["day", "night"]);
    let slices = result["slices"].as_array().unwrap();
    let names: Vec<[&Value; 2]> = slices.iter().map(|s| [&s["column"], &s["value"]]).collect();
    assert_eq!(names, [["camera", "left"], ["camera", "right"]]);
    slices.iter().for_each(check_metrics);
    assert_eq!((&result["seed"], &result["judged_on"], &result["set_aside"]), (&5.into(), &"test".into(), &0.into()));
    assert_eq!((&result["model"], &result["report"]), (&"run/model.safetensors".into(), &"run/report.html".into()));
    for file in ["model.safetensors", "report.html", "recipe.toml", "metrics.jsonl", "predictions.csv", "predictions.parquet", "split.csv"]
    {
        assert!(place.path("run").join(file).is_file(), "{file}");
    }
}

#[test]
fn the_summary_says_what_was_learned_and_where_it_is() {
    let place = Place::new();
    place.sky("sky", 8);
    let told = place.train("sky", &[]).expect(0);
    assert!(told.stdout.starts_with("scratch on tiny_cnn, sky (16 images), judged on test, seed 0\n\nmetric "), "{}", told.stdout);
    for line in ["model   runs/sky-scratch-1/model.safetensors", "report  runs/sky-scratch-1/report.html"] {
        assert!(told.stdout.contains(line), "{}", told.stdout);
    }
    assert!(told.stderr.starts_with("looking for copies\nreading images\ntraining\n  epoch 1: train loss "), "{}", told.stderr);
}

#[test]
fn folds_are_judged_out_of_fold_and_the_same_seed_gives_the_same_model() {
    let place = Place::new();
    place.sky("sky", 6);
    let first = place.train("sky", &["--folds", "2", "--out", "a", "--json"]).expect(0).json();
    assert_eq!((&first["n"], &first["judged_on"]), (&12.into(), &"out of fold (2 folds)".into()));
    let second = place.train("sky", &["--folds", "2", "--out", "b", "--json"]).expect(0).json();
    assert_eq!(first["log_loss"], second["log_loss"]);
    let [a, b] = ["a", "b"].map(|run| fs::read(place.path(run).join("model.safetensors")).unwrap());
    assert!(a == b, "the same data, recipe and seed gave two models");
}

#[test]
fn evaluate_judges_writes_and_warns() {
    let place = Place::new();
    place.sky("sky", 5);
    place.sky("parts/test", 3);
    place.sky("parts/train", 2);
    let args = ["evaluate", model(), "sky", "--bootstrap", "20", "--predictions", "p.csv", "--report", "r.html", "--json"];
    let result = place.run(args).expect(0).json();
    check_metrics(&result);
    assert_eq!((&result["n"], &result["judged_on"]), (&10.into(), &"all samples".into()));
    assert_eq!(result["accuracy"]["value"], 1.0, "the model tells day from night");
    assert_eq!(fs::read_to_string(place.path("p.csv")).unwrap().lines().count(), 11);
    assert!(fs::read_to_string(place.path("r.html")).unwrap().contains("judged by"));
    let told = place.run(["evaluate", model(), "parts", "--bootstrap", "0"]).expect(0);
    assert!(told.stdout.contains("parts, the split test: 6 images\n"), "{}", told.stdout);
    let own = format!("{}/../sky", model());
    let told = place.run(["evaluate", model(), &own, "--bootstrap", "0"]).expect(0);
    assert!(told.stderr.starts_with("warning: the model was trained on part of this data"), "{}", told.stderr);
}

#[test]
fn info_describes_models_and_data_sets() {
    let place = Place::new();
    place.sky("sky", 3);
    let about = place.run(["info", model(), "--json"]).expect(0).json();
    assert_eq!((&about["kind"], &about["architecture"]), (&"model".into(), &"tiny_cnn".into()));
    assert_eq!(about["input"], serde_json::json!([1, 28, 28]));
    assert_eq!(about["metadata"]["classes"], serde_json::json!(["day", "night"]));
    assert_eq!(about["metadata"]["seed"], 1);
    let text = place.run(["info", model()]).expect(0).stdout;
    assert!(text.contains("2: day, night") && text.contains("[fit]") && text.contains("judged on"), "{text}");
    let about = place.run(["info", "sky", "--json"]).expect(0).json();
    assert_eq!((&about["kind"], &about["images"]), (&"dataset".into(), &6.into()));
    assert_eq!(about["class_counts"], serde_json::json!({ "no split": [3, 3] }));
    insta::assert_snapshot!("info_data", without_fingerprint(&place.run(["info", "sky"]).expect(0).stdout));
}

fn without_fingerprint(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("fingerprint ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn augment_preview_writes_a_picture() {
    let place = Place::new();
    place.sky("sky", 3);
    let told = place.run(["augment-preview", "sky", "--images", "2", "--variants", "3", "--out", "sheet.png"]).expect(0);
    assert_eq!(told.stdout, "sheet.png: 2 images, each with 3 variants (seed 0)\n");
    let sheet = images::open(&place.path("sheet.png"), &images::DecodeOptions::default()).unwrap();
    assert!(sheet.width() > 4 * 28 && sheet.height() > 2 * 28, "{}×{}", sheet.width(), sheet.height());
    let first = fs::read(place.path("sheet.png")).unwrap();
    place.run(["augment-preview", "sky", "--images", "2", "--variants", "3", "--out", "again.png"]).expect(0);
    assert!(first == fs::read(place.path("again.png")).unwrap(), "the same seed draws the same sheet");
}
