//! How well the label check finds wrong labels that are known: `label_errors PREDICTIONS.csv[,PREDICTIONS.csv…] TRUE-LABELS.idx [REVIEWED]`.
//!
//! The tables have the given labels as their truth and were written by `fieldmark train` or `evaluate`; their probabilities are averaged. Sample
//! `file#i` has the i-th label of the IDX file; instead of the file, the positions of the wrong labels may be given: `947,1621,1901`.
//! Where people looked at some samples only, REVIEWED gives their positions in the same way and adds the order among those: of the others nobody
//! knows whether they are wrong.

use std::error::Error;

use audit::labels::{ConfidentJoint, ErrorsOptions, LabelScore, Labelled, PruneOptions, Rule, estimate, label_scores, prune};
use audit::self_test::{judge, precision_at};
use evaluate::Predictions;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [tables, truth] => found(tables, truth, None),
        [tables, truth, reviewed] => found(tables, truth, Some(reviewed)),
        _ => {
            eprintln!("usage: label_errors PREDICTIONS.csv[,PREDICTIONS.csv…] TRUE-LABELS.idx|POSITIONS [REVIEWED-POSITIONS]");
            std::process::exit(2)
        }
    }
}

fn found(tables: &str, truth: &str, reviewed: Option<&String>) -> Result<()> {
    let predictions = averaged(tables)?;
    let unlabelled = || format!("{tables}: expected a true label in every row");
    let given: Vec<usize> = predictions.truth.iter().copied().collect::<Option<_>>().ok_or_else(unlabelled)?;
    let at: Vec<usize> = predictions.ids.iter().map(|id| position(id)).collect::<Result<_>>()?;
    let wrong = match positions(truth) {
        Ok(wrong) => at.iter().map(|i| wrong.contains(i)).collect(),
        Err(_) => differing(truth, &at, &given)?,
    };
    let reviewed = reviewed.map(|list| positions(list)).transpose()?;
    let reviewed: Option<Vec<usize>> = reviewed.map(|list| (0..at.len()).filter(|&row| list.contains(&at[row])).collect());
    let report = |name: &str, scores: &[f64]| -> Result<()> {
        let share = |share| precision_at(&wrong, scores, share);
        println!("{name:26} precision in the top 1/2/3 % {:.4} {:.4} {:.4}", share(0.01)?, share(0.02)?, share(0.03)?);
        order("", &wrong, scores)?;
        let Some(rows) = &reviewed else { return Ok(()) };
        let wrong: Vec<bool> = rows.iter().map(|&row| wrong[row]).collect();
        order("among the reviewed", &wrong, &rows.iter().map(|&row| scores[row]).collect::<Vec<_>>())
    };
    let data = Labelled::new(&given, &predictions.probabilities, predictions.classes.len())?;
    let joint = ConfidentJoint::of(&data);
    println!("{} samples, {} wrong labels", wrong.len(), wrong.iter().filter(|w| **w).count());
    for rule in Rule::ALL {
        let flagged = prune(&data, &joint, rule, &PruneOptions::default())?;
        let found = judge(&wrong, &flagged, &vec![0.0; wrong.len()])?;
        println!(
            "{:22} flags {:5}, precision {:.4}, recall {:.4}",
            rule.name(),
            found.flagged,
            found.precision.unwrap_or(0.0),
            found.recall.unwrap_or(0.0)
        );
    }
    let errors = estimate(&data, &joint, &ErrorsOptions::default())?;
    for score in [LabelScore::SelfConfidence, LabelScore::NormalizedMargin, LabelScore::ConfidenceWeightedEntropy] {
        let scores: Vec<f64> = label_scores(&data, score).iter().map(|q| -q).collect();
        report(&format!("{score:?}"), &scores)?;
    }
    report("error probability", &errors.probability)?;
    println!(
        "confident errors {} {:?}, implied by the joint {}",
        errors.confident,
        errors.confident_ci95,
        joint.implied_errors(wrong.len())
    );
    println!("expected errors {:.1} {:?}", errors.expected, errors.expected_ci95);
    for share in [0.001, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3] {
        let Some(budget) = errors.budget((share * wrong.len() as f64).round() as usize) else { continue };
        let found = precision_at(&wrong, &errors.probability, share)?;
        println!("reviewing {:6}: precision {found:.4}, expected {:.4} {:?}", budget.samples, budget.precision, budget.precision_ci95);
    }
    Ok(())
}

/// The mean of tables of the same samples, in the order of the first.
fn averaged(tables: &str) -> Result<Predictions> {
    let mut read = tables.split(',').map(|path| Predictions::read_csv(path.as_ref()));
    let mut mean = read.next().ok_or("no table")??;
    let mut count = 1.0;
    for table in read {
        let table = table?;
        if table.ids != mean.ids {
            return Err(format!("{tables}: expected the same samples in the same order").into());
        }
        mean.probabilities.iter_mut().zip(&table.probabilities).for_each(|(a, b)| *a += b);
        count += 1.0;
    }
    mean.probabilities.iter_mut().for_each(|p| *p /= count);
    Ok(mean)
}

/// The `i` of `file#i`.
fn position(id: &str) -> Result<usize> {
    let number = id.rsplit_once('#').and_then(|(_, number)| number.parse().ok());
    number.ok_or_else(|| format!("{id}: expected FILE#POSITION").into())
}

fn positions(list: &str) -> Result<Vec<usize>> {
    list.split(',').map(|text| text.parse().map_err(|_| format!("{text:?} in {list:?}: expected positions, as 947,1621").into())).collect()
}

/// Whether each given label is another than that of an IDX file.
fn differing(truth: &str, at: &[usize], given: &[usize]) -> Result<Vec<bool>> {
    let bytes = std::fs::read(truth).map_err(|error| format!("{truth}: neither positions nor an IDX file: {error}"))?;
    let label = |i: usize| bytes.get(8 + i).copied().ok_or_else(|| format!("{truth}: no label of position {i}"));
    at.iter().zip(given).map(|(&i, &given)| Ok(usize::from(label(i)?) != given)).collect()
}

/// Wrong labels whose ranks are printed, at most.
const MOST_RANKS: usize = 50;

/// Prints how well scores put wrong labels first.
fn order(among: &str, wrong: &[bool], scores: &[f64]) -> Result<()> {
    let precision = judge(wrong, &vec![false; wrong.len()], scores)?.average_precision;
    let Some(precision) = precision else {
        println!("  {among:24} no wrong label");
        return Ok(());
    };
    let ranked = |i: usize| scores.iter().enumerate().filter(|(j, s)| **s > scores[i] || (**s == scores[i] && *j < i)).count() + 1;
    let mut ranks: Vec<usize> = (0..wrong.len()).filter(|&i| wrong[i]).take(MOST_RANKS + 1).map(ranked).collect();
    ranks.sort_unstable();
    let ranks = if ranks.len() > MOST_RANKS { String::new() } else { format!(", ranks {ranks:?}") };
    println!("  {among:24} average precision {precision:.4}{ranks}");
    Ok(())
}
