//! Metrics and curves against scikit-learn (`golden/make.py` made `golden/metrics.json` and names the versions).
#![allow(clippy::unwrap_used)]

use fieldmark_evaluate::{Curves, Evaluation, Metric, Options, Predictions, evaluate};
use serde_json::Value;

fn cases() -> Vec<Value> {
    let golden: Value = serde_json::from_str(include_str!("golden/metrics.json")).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn table(case: &Value) -> Predictions {
    let rows: Vec<Vec<f64>> = case["probabilities"].as_array().unwrap().iter().map(numbers).collect();
    Predictions::new(
        (0..rows[0].len()).map(|c| format!("c{c}")).collect(),
        (0..rows.len()).map(|i| format!("s{i}")).collect(),
        case["truth"].as_array().unwrap().iter().map(|t| Some(t.as_u64().unwrap() as usize)).collect(),
        rows.concat(),
    )
    .unwrap()
}

fn plain() -> Options {
    Options { bootstrap: 0, top_k: vec![2, 3], ..Options::default() }
}

fn compare(what: &str, ours: &Metric, theirs: &Value) {
    match (ours.value, theirs.as_f64()) {
        (Some(a), Some(b)) => assert!((a - b).abs() <= 1e-9, "{what}: {a} is not scikit-learn's {b}"),
        (None, None) => assert!(ours.undefined.as_ref().is_some_and(|reason| !reason.is_empty()), "{what}: no reason"),
        (a, b) => panic!("{what}: {a:?} ({:?}), scikit-learn {b:?}", ours.undefined),
    }
}

#[test]
fn scores_equal_scikit_learn() {
    for case in cases() {
        let name = case["name"].as_str().unwrap();
        let evaluation = evaluate(&table(&case), &plain()).unwrap();
        let expected = &case["expected"];
        for (key, metric) in evaluation.summary() {
            assert!(!expected[key].is_null() || expected.get(key).is_some(), "{name}: the golden file lacks {key}");
            // scikit-learn says 0 where the correlation is 0 / 0.
            let zero_by_convention = key == "mcc" && metric.value.is_none() && expected[key] == 0.0;
            if !zero_by_convention {
                compare(&format!("{name}: {key}"), metric, &expected[key]);
            }
        }
        let top_k = expected["top_k"].as_object().unwrap();
        assert_eq!(evaluation.scores.top_k.len(), top_k.len(), "{name}");
        for (k, metric) in &evaluation.scores.top_k {
            compare(&format!("{name}: top-{k}"), metric, &top_k[&k.to_string()]);
        }
        assert_eq!(serde_json::to_value(&evaluation.confusion).unwrap(), expected["confusion"], "{name}");
        compare_classes(name, &evaluation, &expected["per_class"]);
    }
}

fn compare_classes(name: &str, evaluation: &Evaluation, expected: &Value) {
    for (class, theirs) in evaluation.per_class.iter().zip(expected.as_array().unwrap()) {
        let what = |key: &str| format!("{name}: {key} of {}", class.class);
        assert_eq!(class.support as u64, theirs["support"].as_u64().unwrap(), "{}", what("support"));
        assert_eq!(class.predicted as u64, theirs["predicted"].as_u64().unwrap(), "{}", what("predicted"));
        compare(&what("precision"), &class.precision, &theirs["precision"]);
        compare(&what("recall"), &class.recall, &theirs["recall"]);
        compare(&what("f1"), &class.f1, &theirs["f1"]);
        compare(&what("roc_auc"), &class.roc_auc, &theirs["roc_auc"]);
        compare(&what("average_precision"), &class.average_precision, &theirs["average_precision"]);
    }
}

#[test]
fn curves_equal_scikit_learn() {
    let with_curves: Vec<Value> = cases().into_iter().filter(|case| case.get("curves").is_some()).collect();
    assert_eq!(with_curves.len(), 4);
    for case in with_curves {
        let curves = Curves::new(&table(&case), 15, usize::MAX).unwrap();
        let last = curves.per_class.last().unwrap();
        let expected = &case["curves"];
        let near = |ours: Vec<f64>, key: &str| {
            let theirs = numbers(&expected[key]);
            assert_eq!(ours.len(), theirs.len(), "{key}");
            assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-12), "{key}: {ours:?}, scikit-learn {theirs:?}");
        };
        near(last.roc.iter().map(|p| p.false_positive_rate).collect(), "fpr");
        near(last.roc.iter().map(|p| p.true_positive_rate).collect(), "tpr");
        near(last.precision_recall.iter().map(|p| p.precision).collect(), "precision");
        near(last.precision_recall.iter().map(|p| p.recall).collect(), "recall");
    }
}

#[test]
fn thinned_curves_keep_their_ends_and_bins_add_up() {
    let case = &cases()[1];
    let predictions = table(case);
    let curves = Curves::new(&predictions, 15, 5).unwrap();
    let roc = &curves.per_class[0].roc;
    assert_eq!(roc.len(), 5);
    assert_eq!((roc[0].false_positive_rate, roc[0].true_positive_rate, roc[0].threshold), (0.0, 0.0, None));
    assert_eq!((roc[4].false_positive_rate, roc[4].true_positive_rate), (1.0, 1.0));
    assert_eq!(curves.reliability.iter().map(|bin| bin.count).sum::<usize>(), predictions.len());
    let excess = |bin: &fieldmark_evaluate::ReliabilityBin| Some(bin.count as f64 * (bin.confidence? - bin.accuracy?).abs());
    let ece = curves.reliability.iter().filter_map(excess).sum::<f64>() / predictions.len() as f64;
    assert!((ece - case["expected"]["ece"].as_f64().unwrap()).abs() < 1e-12);
    for (class, curves) in curves.per_class.iter().enumerate() {
        let support = predictions.truth.iter().filter(|truth| **truth == Some(class)).count();
        assert_eq!(curves.histogram.positives.iter().sum::<usize>(), support);
        assert_eq!(curves.histogram.negatives.iter().sum::<usize>(), predictions.len() - support);
    }
}

#[test]
fn an_undefined_metric_is_null_with_its_reason_in_json() {
    let case = cases().into_iter().find(|case| case["name"] == "class absent from the truth").unwrap();
    let mut predictions = table(&case);
    predictions.classes[2] = "scratch".into();
    let evaluation = evaluate(&predictions, &Options { bootstrap: 20, ..Options::default() }).unwrap();
    let json = serde_json::to_value(&evaluation).unwrap();
    assert_eq!(json["roc_auc_macro"]["value"], Value::Null);
    assert_eq!(json["roc_auc_macro"]["ci95"], Value::Null);
    assert_eq!(json["roc_auc_macro"]["undefined"], "class `scratch` is absent from the truth");
    assert_eq!(json["absent_classes"], serde_json::json!(["scratch"]));
    assert!(json["per_class"][2]["recall"]["value"].is_null());
    assert!(json["accuracy"]["ci95"][0].is_f64() && json["accuracy"].get("undefined").is_none());
}

#[test]
fn json_has_the_promised_keys_and_comes_back() {
    let mut predictions = table(&cases()[0]);
    let n = predictions.len();
    predictions.columns.insert("type".into(), (0..n).map(|i| if i % 3 == 0 { "mono" } else { "poly" }.into()).collect());
    predictions.fold = Some((0..n).map(|i| i % 5).collect());
    let evaluation = evaluate(&predictions, &Options { bootstrap: 30, slices: vec!["type".into()], ..Options::default() }).unwrap();
    let json = serde_json::to_value(&evaluation).unwrap();
    let promised = "accuracy balanced_accuracy macro_precision macro_recall macro_f1 micro_f1 roc_auc_macro log_loss brier ece";
    for key in promised.split(' ') {
        assert!(json[key]["value"].is_f64() && json[key]["ci95"][1].is_f64(), "{key}");
        assert!(json["slices"][1][key]["value"].is_f64() && json["slices"][1][key]["ci95"][1].is_f64(), "slice {key}");
    }
    assert_eq!(json["n"], n);
    assert_eq!(json["per_class"].as_array().unwrap().len(), 4);
    assert_eq!(json["slices"][0]["value"], "mono");
    assert!(json["top_k"]["2"]["value"].is_f64());
    for (key, metric) in evaluation.summary() {
        assert_eq!(json[key], serde_json::to_value(metric).unwrap(), "{key}");
    }
    let back: Evaluation = serde_json::from_str(&serde_json::to_string(&evaluation).unwrap()).unwrap();
    let top_k = |evaluation: &Evaluation| evaluation.scores.top_k.keys().copied().collect::<Vec<_>>();
    assert_eq!((top_k(&back), back.n, &back.options), (top_k(&evaluation), n, &evaluation.options));
    // The parser may be off by the last bit.
    for ((key, a), (_, b)) in back.summary().into_iter().zip(evaluation.summary()) {
        assert!((a.value.unwrap() - b.value.unwrap()).abs() < 1e-12, "{key}");
    }
}

#[test]
fn slices_and_folds_are_evaluations_of_their_samples() {
    let mut predictions = table(&cases()[0]);
    let n = predictions.len();
    predictions.columns.insert("type".into(), (0..n).map(|i| if i < 40 { "a" } else { "b" }.into()).collect());
    predictions.fold = Some((0..n).map(|i| i / 40).collect());
    predictions.truth[0] = None;
    let options = Options { slices: vec!["type".into()], ..plain() };
    let evaluation = evaluate(&predictions, &options).unwrap();
    assert_eq!((evaluation.n, evaluation.unlabelled), (n - 1, 1));
    let alone = evaluate(&predictions.select(&(0..40).collect::<Vec<_>>()), &plain()).unwrap();
    assert_eq!(evaluation.slices[0].n, 39);
    assert_eq!(evaluation.slices[0].scores, alone.scores);
    let folds = evaluation.folds.unwrap();
    assert_eq!(folds.per_fold.len(), 4);
    assert_eq!(folds.per_fold[0].scores, alone.scores);
    let accuracies: Vec<f64> = folds.per_fold.iter().map(|fold| fold.scores.accuracy.value.unwrap()).collect();
    let mean = accuracies.iter().sum::<f64>() / 4.0;
    let std = (accuracies.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
    let spread = &folds.spread["accuracy"];
    assert_eq!(spread.folds, 4);
    assert!((spread.mean.unwrap() - mean).abs() < 1e-12 && (spread.std.unwrap() - std).abs() < 1e-12);
}

#[test]
fn requests_that_cannot_be_met_are_named() {
    let mut predictions = table(&cases()[0]);
    let n = predictions.len();
    let error = |predictions: &Predictions, options: Options| evaluate(predictions, &options).unwrap_err().to_string();
    let wrong_column = Options { slices: vec!["kind".into()], ..plain() };
    assert_eq!(error(&predictions, wrong_column), "cannot slice by `kind`: the predictions have no such column (columns: none)");
    assert_eq!(error(&predictions, Options { ece_bins: 0, ..plain() }), "option `ece_bins` is 0, expected 1 to 10000");
    predictions.truth = vec![None; n];
    assert_eq!(error(&predictions, plain()), format!("none of the {n} samples has a known class: nothing to evaluate"));
}
