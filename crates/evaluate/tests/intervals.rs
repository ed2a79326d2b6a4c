//! Bootstrap intervals: repeatable, of the right width, honest where there is little to say.
#![allow(clippy::unwrap_used)]

use fieldmark_evaluate::{Options, Predictions, evaluate, paired_difference};

/// `n` samples of `k` classes; `right(i)` says which are classified rightly. Scores are spread a little, without ties.
fn table(n: usize, k: usize, right: impl Fn(usize) -> bool) -> Predictions {
    let mut probabilities = Vec::new();
    for i in 0..n {
        let winner = if right(i) { i % k } else { (i + 1) % k };
        let top = 0.6 + 0.3 * (i as f64 * 0.618_033_988).fract();
        probabilities.extend((0..k).map(|class| if class == winner { top } else { (1.0 - top) / (k - 1) as f64 }));
    }
    let classes = (0..k).map(|class| format!("c{class}")).collect();
    Predictions::new(classes, (0..n).map(|i| i.to_string()).collect(), (0..n).map(|i| Some(i % k)).collect(), probabilities).unwrap()
}

#[test]
fn threads_do_not_change_the_intervals_and_seeds_do() {
    let predictions = table(200, 3, |i| i % 5 != 0);
    let options = Options { bootstrap: 200, ..Options::default() };
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| evaluate(&predictions, &options).unwrap())
    };
    let one = on(1);
    assert_eq!(one, on(4));
    let other = evaluate(&predictions, &Options { seed: 1, ..options.clone() }).unwrap();
    assert_eq!(one.scores.log_loss.value, other.scores.log_loss.value);
    assert_ne!(one.scores.log_loss.ci95, other.scores.log_loss.ci95);
}

#[test]
fn the_interval_of_accuracy_has_the_binomial_width() {
    let n = 1000;
    let evaluation = evaluate(&table(n, 2, |i| i % 5 != 0), &Options { bootstrap: 2000, ..Options::default() }).unwrap();
    let [low, high] = evaluation.scores.accuracy.ci95.unwrap();
    let half = 1.96 * (0.8 * 0.2 / n as f64).sqrt();
    assert!((low - (0.8 - half)).abs() < 0.003 && (high - (0.8 + half)).abs() < 0.003, "{low} {high}");
    for (name, metric) in evaluation.summary() {
        let ([low, high], value) = (metric.ci95.unwrap(), metric.value.unwrap());
        assert!(low < value && value < high, "{name}: {low} {value} {high}");
    }
}

#[test]
fn rare_classes_and_single_samples_have_no_false_interval() {
    let one = evaluate(&table(1, 3, |_| true), &Options::default()).unwrap();
    assert_eq!((one.scores.accuracy.value, one.scores.accuracy.ci95), (Some(1.0), None));
    // Class 1 occurs once in 40: it is missing from 37 % of the replicates, so its metrics keep an interval; two such classes
    // are missing together from most, so the macro area has none.
    let mut predictions = table(40, 4, |_| true);
    predictions.truth = (0..40).map(|i| Some(if i == 1 || i == 2 || i == 3 { i } else { 0 })).collect();
    let evaluation = evaluate(&predictions, &Options { bootstrap: 500, ..Options::default() }).unwrap();
    assert!(evaluation.per_class[1].recall.ci95.is_some());
    assert!(evaluation.scores.roc_auc_macro.value.is_some());
    assert_eq!(evaluation.scores.roc_auc_macro.ci95, None);
}

#[test]
fn a_paired_difference_is_narrower_than_two_intervals() {
    let (a, b) = (table(500, 4, |i| i % 4 != 0), table(500, 4, |i| i % 4 != 0 || i % 8 == 0));
    let options = Options { bootstrap: 500, ..Options::default() };
    let difference = paired_difference(&a, &b, &options).unwrap();
    assert_eq!((difference.n, difference.first), (500, 0.75));
    assert!((difference.difference.value.unwrap() - 0.126).abs() < 1e-9);
    let [low, high] = difference.difference.ci95.unwrap();
    assert!(low > 0.09 && high < 0.16, "{low} {high}");
    let same = paired_difference(&a, &a, &options).unwrap();
    assert_eq!((same.difference.value, same.difference.ci95), (Some(0.0), Some([0.0, 0.0])));
    let mut contradicting = b.clone();
    contradicting.truth[3] = Some(0);
    let error = paired_difference(&a, &contradicting, &options).unwrap_err().to_string();
    assert!(error.contains("sample `3` is truly `c3` in the first and `c0` in the second"), "{error}");
}

/// Run in release: `cargo test --release -p fieldmark-evaluate --test intervals -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn a_thousand_replicates_of_ten_thousand_samples() {
    let predictions = table(10_000, 10, |i| i % 7 != 0);
    let start = std::time::Instant::now();
    let evaluation = evaluate(&predictions, &Options::default()).unwrap();
    eprintln!("{:.2} s, accuracy {:?}", start.elapsed().as_secs_f64(), evaluation.scores.accuracy);
}
