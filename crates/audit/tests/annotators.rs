//! CROWDLAB against cleanlab, Dawid-Skene against the paper's equations.
#![allow(clippy::unwrap_used)]

use audit::annotators::{Annotations, DawidSkeneOptions, crowdlab, dawid_skene, findings, majority_vote};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    crowdlab: Vec<CrowdlabCase>,
    dawid_skene: Vec<DawidSkeneCase>,
}

#[derive(Deserialize)]
struct CrowdlabCase {
    annotators: usize,
    classes: usize,
    labels: Vec<Option<usize>>,
    p: Vec<f64>,
    majority: Vec<usize>,
    majority_alone: Vec<usize>,
    consensus: Vec<usize>,
    quality: Vec<f64>,
    agreement: Vec<f64>,
    annotator_quality: Vec<Option<f64>>,
    annotator_agreement: Vec<f64>,
    worst_class: Vec<usize>,
    model_weight: f64,
    annotator_weights: Vec<f64>,
}

#[derive(Deserialize)]
struct DawidSkeneCase {
    annotators: usize,
    classes: usize,
    labels: Vec<Option<usize>>,
    steps: usize,
    p: Vec<f64>,
    prior: Vec<f64>,
    rates: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/annotators.json")).unwrap()
}

fn close(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9)
}

#[test]
fn crowdlab_agrees_with_cleanlab() {
    for case in golden().crowdlab {
        let data = Annotations::new(&case.labels, case.annotators, case.classes).unwrap();
        assert_eq!(majority_vote(&data, Some(&case.p)), case.majority);
        assert_eq!(majority_vote(&data, None), case.majority_alone);
        let found = crowdlab(&data, &case.p).unwrap();
        assert_eq!(found.consensus, case.consensus);
        assert!(close(&found.quality, &case.quality));
        assert!(close(&found.agreement, &case.agreement));
        assert!((found.model_weight - case.model_weight).abs() < 1e-9);
        assert!(close(&found.annotator_weights, &case.annotator_weights));
        let quality: Vec<f64> = case.annotator_quality.iter().map(|q| q.unwrap_or(-1.0)).collect();
        let mine: Vec<f64> = found.annotator_quality.iter().map(|q| if q.is_nan() { -1.0 } else { *q }).collect();
        assert!(close(&mine, &quality), "{mine:?} {quality:?}");
        assert!(close(&found.annotator_agreement, &case.annotator_agreement));
        assert_eq!(found.worst_class, case.worst_class);
    }
}

#[test]
fn dawid_skene_agrees_with_the_paper() {
    for case in golden().dawid_skene {
        let data = Annotations::new(&case.labels, case.annotators, case.classes).unwrap();
        let found = dawid_skene(&data, &DawidSkeneOptions::default());
        assert!(found.converged);
        assert_eq!(found.iterations, case.steps);
        assert!(close(&found.probabilities, &case.p));
        assert!(close(&found.prior, &case.prior));
        assert!(close(&found.rates, &case.rates));
    }
}

#[test]
fn a_careless_annotator_is_told_from_careful_ones() {
    // Three who are right, and one who always answers 0.
    let labels: Vec<Option<usize>> = (0..60).flat_map(|i| [Some(i % 3), Some(i % 3), Some(i % 3), Some(0)]).collect();
    let data = Annotations::new(&labels, 4, 3).unwrap();
    let found = dawid_skene(&data, &DawidSkeneOptions::default());
    assert!(found.annotator_quality[0] > 0.99 && found.annotator_quality[3] < 0.34, "{:?}", found.annotator_quality);
    let given = vec![0; 60];
    let queue = findings(&found.consensus, &found.quality, &given, 0.5);
    assert_eq!(queue.len(), 40);
    assert!(queue.iter().all(|f| f.suggested != f.given));
}

#[test]
fn nobody_goes_without_a_label() {
    let error = |labels: &[Option<usize>]| Annotations::new(labels, 2, 2).unwrap_err().to_string();
    assert_eq!(error(&[Some(0), Some(1), None, None]), "sample 1 has no label: leave it out");
    assert_eq!(error(&[Some(0), None, Some(1), None]), "annotator 1 has no label: leave it out");
    assert_eq!(error(&[Some(0), Some(2)]), "sample 0: label 2 is out of range, there are 2 classes (0 to 1)");
    let singles = [Some(0), None, None, Some(1)];
    let data = Annotations::new(&singles, 2, 2).unwrap();
    assert!(crowdlab(&data, &[0.5; 4]).unwrap_err().to_string().contains("two labels"));
}
