//! Learning curves, their extrapolation, and active learning, with a classifier small enough for a test: the nearest class mean.
#![allow(clippy::unwrap_used)]

use audit::amount::{
    ActiveOptions, Candidates, CurveOptions, CurvePoint, FitError, LearningCurve, NeedOptions, Needed, Strategy, learning_curve, needed,
    prioritise, simulate,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const COLUMNS: usize = 8;

/// Labels, and features that overlap.
fn world(n: usize, classes: usize, seed: u64) -> (Vec<usize>, Vec<f32>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let labels: Vec<usize> = (0..n).map(|i| i % classes).collect();
    let x = labels
        .iter()
        .flat_map(|&l| (0..COLUMNS).map(|c| f32::from(u8::from(c == l)) * 1.2 + rng.random::<f32>() * 2.0).collect::<Vec<_>>());
    let x = x.collect();
    (labels, x)
}

/// Softmax of the negative distances to the class means.
fn probabilities(labels: &[usize], x: &[f32], classes: usize, train: &[usize], test: &[usize]) -> Vec<f64> {
    let row = |i: usize| &x[i * COLUMNS..(i + 1) * COLUMNS];
    let mut means = vec![[0.0f64; COLUMNS]; classes];
    let mut counts = vec![0.0f64; classes];
    for &i in train {
        counts[labels[i]] += 1.0;
        means[labels[i]].iter_mut().zip(row(i)).for_each(|(m, &v)| *m += f64::from(v));
    }
    let mut out = Vec::new();
    for &i in test {
        let e: Vec<f64> = (0..classes)
            .map(|k| {
                let d: f64 = means[k].iter().zip(row(i)).map(|(m, &v)| (m / counts[k].max(1.0) - f64::from(v)).powi(2)).sum();
                if counts[k] > 0.0 { (-d).exp() } else { 0.0 }
            })
            .collect();
        let sum: f64 = e.iter().sum();
        out.extend(e.iter().map(|v| v / sum));
    }
    out
}

fn predictions(p: &[f64], classes: usize) -> Vec<usize> {
    p.chunks_exact(classes).map(|row| (0..classes).fold(0, |b, k| if row[k] > row[b] { k } else { b })).collect()
}

#[test]
fn a_curve_keeps_classes_apart_from_what_judges() {
    let (labels, x) = world(600, 3, 1);
    let mut sizes = Vec::new();
    let mut fit = |train: &[usize], test: &[usize]| -> Result<Vec<usize>, FitError> {
        assert!(train.iter().all(|i| !test.contains(i)));
        sizes.push((train.len(), test.len()));
        Ok(predictions(&probabilities(&labels, &x, 3, train, test), 3))
    };
    let curve = learning_curve(&labels, 3, &CurveOptions::default(), &mut fit).unwrap();
    assert_eq!(curve.points.len(), 30);
    assert_eq!(&sizes[..6], [(24, 120), (48, 120), (96, 120), (168, 120), (288, 120), (480, 120)]);
    assert!(curve.points.iter().all(|p| p.class_samples.iter().all(|n| *n == p.samples / 3)));
    let mean = |n: usize| curve.points.iter().filter(|p| p.samples == n).map(|p| p.accuracy).sum::<f64>() / 5.0;
    assert!(mean(480) > mean(24) && mean(480) > 0.6, "{} {}", mean(24), mean(480));
    let failed = learning_curve(&labels, 3, &CurveOptions::default(), &mut |_, _| Err("no memory".into()));
    assert_eq!(failed.unwrap_err().to_string(), "fitting on 24 samples failed");
}

/// A curve that follows the law, with noise from repeat to repeat.
fn made(noise: f64, law: impl Fn(usize, f64) -> f64) -> LearningCurve {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut points = Vec::new();
    for repeat in 0..6 {
        for n in [100usize, 200, 400, 800, 1600] {
            let of = |class: usize, rng: &mut ChaCha8Rng| law(class, n as f64 / 2.0) + noise * (rng.random::<f64>() - 0.5);
            let each = [of(0, &mut rng), of(1, &mut rng)];
            points.push(CurvePoint {
                samples: n,
                class_samples: vec![n / 2; 2],
                repeat,
                accuracy: (each[0] + each[1]) / 2.0,
                class_accuracy: each.map(Some).to_vec(),
            });
        }
    }
    LearningCurve { classes: 2, points }
}

#[test]
fn the_number_needed_is_found_and_covered() {
    // Class 1 is harder: .95 needs 444 and 3200 images of the two.
    let curve = made(0.01, |class, n| 0.99 - [1.0, 2.263][class] / n.sqrt() * 0.843);
    let options = NeedOptions::default();
    let need = needed(&curve, &options).unwrap();
    let Needed::About { images, interval } = need.needed else { panic!("{need:?}") };
    let truth = 2.0 * (0.5 * (1.0 + 2.263) * 0.843 / 0.04f64).powi(2);
    assert!((images / truth - 1.0).abs() < 0.25, "{images} {truth}");
    assert!(interval[0] < truth && truth < interval[1], "{interval:?} {truth}");
    assert!(matches!(need.classes[0].needed, Needed::Reached { .. }), "{:?}", need.classes[0]);
    assert!((need.classes[1].share - 1.0).abs() < 1e-12);
    let sentence = need.sentence(0.95, &["fine".to_string(), "crack".to_string()]);
    assert!(sentence.starts_with("for 95.0 % you need about ") && sentence.ends_with("most of them of class crack (100 %)"), "{sentence}");
}

#[test]
fn what_cannot_be_extrapolated_is_refused() {
    let options = NeedOptions::default();
    let noise = needed(&made(0.3, |_, _| 0.7), &options).unwrap();
    assert!(matches!(noise.needed, Needed::Refused { .. }), "{noise:?}");
    let ceiling = needed(&made(0.002, |_, n| 0.85 - 2.0 / n), &options).unwrap();
    assert!(matches!(ceiling.needed, Needed::OutOfReach { .. }), "{:?}", ceiling.needed);
    let slow = needed(&made(0.002, |_, n| 1.0 - 0.9 * n.powf(-0.15)), &options).unwrap();
    assert!(matches!(slow.needed, Needed::Beyond { .. }), "{:?}", slow.needed);
    let done = needed(&made(0.002, |_, n| 0.99 - 0.5 / n), &options).unwrap();
    assert!(matches!(done.needed, Needed::Reached { .. }), "{:?}", done.needed);
    let mut short = made(0.002, |_, n| 0.9 - 2.0 / n);
    short.points.retain(|p| p.samples <= 400);
    let short = needed(&short, &options).unwrap();
    assert_eq!(short.sentence(0.95, &[]), "how many images 95.0 % needs cannot be said: 3 sizes were measured, at least 4 are needed");
}

#[test]
fn each_strategy_has_its_order() {
    let p = [0.5, 0.5, 0.0, 0.4, 0.3, 0.3, 0.9, 0.1, 0.0, 0.6, 0.2, 0.2];
    let features = [1.0f32, 0.0, 1.0, 0.01, 0.0, 1.0, -1.0, 0.1];
    let candidates = Candidates { probabilities: &p, classes: 3, features: &features, labelled: &[1.0, 0.0], columns: 2 };
    let order = |strategy| prioritise(&candidates, strategy, 4).unwrap();
    assert_eq!(order(Strategy::Entropy), [1, 3, 0, 2]);
    assert_eq!(order(Strategy::Margin), [0, 1, 3, 2]);
    assert_eq!(order(Strategy::Coreset), [3, 2, 1, 0]);
    assert_eq!(prioritise(&candidates, Strategy::Mixed, 1).unwrap(), [3]);
    assert_eq!(prioritise(&Candidates { features: &[], labelled: &[], columns: 0, ..candidates }, Strategy::Margin, 9).unwrap().len(), 4);
    let error = prioritise(&Candidates { features: &features[..6], ..candidates }, Strategy::Mixed, 1).unwrap_err();
    assert_eq!(error.to_string(), "`features` has 6 entries, expected 8");
}

#[test]
fn a_replay_never_labels_twice_and_learns() {
    let (labels, x) = world(300, 4, 2);
    let pool: Vec<usize> = (0..200).collect();
    let held: Vec<usize> = (200..300).collect();
    for strategy in [Strategy::Margin, Strategy::Coreset, Strategy::Mixed] {
        let options = ActiveOptions { strategy, start: 8, batch: 12, rounds: 20, random_repeats: 3, seed: 1 };
        let mut fit = |train: &[usize], test: &[usize]| Ok(probabilities(&labels, &x, 4, train, test));
        let found = simulate(&labels, 4, &x, COLUMNS, &pool, &held, &options, &mut fit).unwrap();
        let mut order = found.order.clone();
        order.sort_unstable();
        assert_eq!(order, pool);
        assert_eq!(found.points.len(), 17);
        let (first, last) = (found.points[0], found.points[16]);
        assert!(last.chosen > first.chosen && (last.chosen - last.random).abs() < 1e-12, "{first:?} {last:?}");
        assert!(last.random_range[0] <= last.random && last.random <= last.random_range[1]);
    }
}
