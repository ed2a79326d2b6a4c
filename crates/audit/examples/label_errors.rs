//! How well the label check finds wrong labels that are known: `label_errors PREDICTIONS.csv[,PREDICTIONS.csv…] TRUE-LABELS.idx [REVIEWED]`.
//!
//! The tables have the given labels as their truth and were written by `fieldmark train` or `evaluate`; their probabilities are averaged. Sample
//! `file#i` has the i-th label of the IDX file; instead of the file, the positions of the wrong labels may be given: `947,1621,1901`.
//! Where people looked at some samples only, their positions (as the wrong ones', or a file with one a line) add the order among those: of the
//! others nobody knows whether they are wrong.
#![allow(clippy::unwrap_used)]

use audit::labels::{ConfidentJoint, ErrorsOptions, LabelScore, Labelled, PruneOptions, Rule, estimate, label_scores, prune};
use audit::self_test::{judge, precision_at};
use evaluate::Predictions;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (tables, truth, reviewed) = match args.as_slice() {
        [tables, truth] => (tables, truth, None),
        [tables, truth, reviewed] => (tables, truth, Some(reviewed)),
        _ => panic!("label_errors PREDICTIONS.csv[,…] TRUE-LABELS.idx [REVIEWED]"),
    };
    let predictions = averaged(tables);
    let given: Vec<usize> = predictions.truth.iter().map(|t| t.unwrap()).collect();
    let wrong = wrong(truth, &predictions, &given);
    let reviewed: Option<Vec<usize>> = reviewed.map(|list| {
        let text = std::fs::read_to_string(list).unwrap_or_else(|_| list.replace(',', "\n"));
        let positions: Vec<usize> = text.lines().map(|line| line.trim().parse().unwrap()).collect();
        (0..predictions.ids.len()).filter(|&row| positions.contains(&position(&predictions.ids[row]))).collect()
    });
    let report = |name: &str, wrong: &[bool], scores: &[f64]| {
        report(name, wrong, scores);
        if let Some(rows) = &reviewed {
            let wrong: Vec<bool> = rows.iter().map(|&row| wrong[row]).collect();
            let scores: Vec<f64> = rows.iter().map(|&row| scores[row]).collect();
            report("  among the reviewed", &wrong, &scores);
        }
    };
    let data = Labelled::new(&given, &predictions.probabilities, predictions.classes.len()).unwrap();
    let joint = ConfidentJoint::of(&data);
    println!("{} samples, {} wrong labels", wrong.len(), wrong.iter().filter(|w| **w).count());
    for rule in Rule::ALL {
        let flagged = prune(&data, &joint, rule, &PruneOptions::default()).unwrap();
        let found = judge(&wrong, &flagged, &vec![0.0; wrong.len()]).unwrap();
        println!(
            "{:22} flags {:5}, precision {:.4}, recall {:.4}",
            rule.name(),
            found.flagged,
            found.precision.unwrap_or(0.0),
            found.recall.unwrap_or(0.0)
        );
    }
    let errors = estimate(&data, &joint, &ErrorsOptions::default()).unwrap();
    for score in [LabelScore::SelfConfidence, LabelScore::NormalizedMargin, LabelScore::ConfidenceWeightedEntropy] {
        let scores: Vec<f64> = label_scores(&data, score).iter().map(|q| -q).collect();
        report(&format!("{score:?}"), &wrong, &scores);
    }
    report("error probability", &wrong, &errors.probability);
    println!(
        "confident errors {} {:?}, implied by the joint {}",
        errors.confident,
        errors.confident_ci95,
        joint.implied_errors(wrong.len())
    );
    println!("expected errors {:.1} {:?}", errors.expected, errors.expected_ci95);
    for share in [0.001, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3] {
        let budget = errors.budget((share * wrong.len() as f64).round() as usize).unwrap();
        let found = precision_at(&wrong, &errors.probability, share).unwrap();
        println!("reviewing {:6}: precision {found:.4}, expected {:.4} {:?}", budget.samples, budget.precision, budget.precision_ci95);
    }
}

/// The mean of tables of the same samples, in the order of the first.
fn averaged(tables: &str) -> Predictions {
    let tables: Vec<Predictions> = tables.split(',').map(|path| Predictions::read_csv(path.as_ref()).unwrap()).collect();
    let mut mean = tables[0].clone();
    for table in &tables[1..] {
        assert_eq!(table.ids, mean.ids);
        mean.probabilities.iter_mut().zip(&table.probabilities).for_each(|(a, b)| *a += b);
    }
    mean.probabilities.iter_mut().for_each(|p| *p /= tables.len() as f64);
    mean
}

/// The `i` of `file#i`.
fn position(id: &str) -> usize {
    id.rsplit('#').next().unwrap().parse().unwrap()
}

fn wrong(truth: &str, predictions: &Predictions, given: &[usize]) -> Vec<bool> {
    let indices = predictions.ids.iter().map(|id| position(id));
    match truth.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>() {
        Ok(positions) => indices.map(|i| positions.contains(&i)).collect(),
        Err(_) => {
            let bytes = std::fs::read(truth).unwrap();
            indices.zip(given).map(|(i, &given)| usize::from(bytes[8 + i]) != given).collect()
        }
    }
}

fn report(name: &str, wrong: &[bool], scores: &[f64]) {
    let at = |share| precision_at(wrong, scores, share).unwrap();
    let ap = judge(wrong, &vec![false; wrong.len()], scores).unwrap().average_precision.unwrap();
    println!("{name:26} precision in the top 1/2/3 % {:.4} {:.4} {:.4}, AP {ap:.4}", at(0.01), at(0.02), at(0.03));
    let ranked = |i: usize| scores.iter().enumerate().filter(|(j, s)| **s > scores[i] || (**s == scores[i] && *j < i)).count() + 1;
    let count = wrong.iter().filter(|w| **w).count();
    if count <= 50 {
        let mut ranks: Vec<usize> = (0..wrong.len()).filter(|&i| wrong[i]).map(ranked).collect();
        ranks.sort_unstable();
        println!("{:26} ranks {ranks:?}", "");
    }
}
