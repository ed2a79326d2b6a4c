//! What the page holds, and what it must never hold.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use evaluate::{Curves, Evaluation, Options, Predictions, evaluate};
use fieldmark_report::{DataFacts, Epoch, ErrorPicture, ReportInput, SweepPoint, render};

const NASTY: &str = "<img src=x onerror=\"alert('1')\"> & co";

fn predictions(classes: &[&str]) -> Predictions {
    let (k, n) = (classes.len(), 60);
    let mut table = Predictions { classes: classes.iter().map(|c| (*c).to_owned()).collect(), ..Predictions::default() };
    for i in 0..n {
        let truth = i % k;
        let said = if i % 7 == 0 { (truth + 1) % k } else { truth };
        let sure = 0.55 + 0.4 * (i % 11) as f64 / 11.0;
        let rest = (1.0 - sure) / (k - 1) as f64;
        table.probabilities.extend((0..k).map(|c| if c == said { sure } else { rest }));
        table.truth.push(Some(truth));
        table.ids.push(format!("{i}.png"));
    }
    table.fold = Some((0..n).map(|i| i % 3).collect());
    table.columns = BTreeMap::from([("line".to_owned(), (0..n).map(|i| if i % 7 == 0 { NASTY } else { "b" }.to_owned()).collect())]);
    table
}

fn judged(classes: &[&str]) -> (Evaluation, Curves) {
    let table = predictions(classes);
    let options = Options { bootstrap: 40, slices: vec!["line".into()], ..Options::default() };
    (evaluate(&table, &options).unwrap(), Curves::new(&table, 10, 100).unwrap())
}

fn full<'a>(evaluation: &'a Evaluation, curves: &'a Curves) -> ReportInput<'a> {
    let mut input = ReportInput::new(NASTY, "today", evaluation);
    let counts: Vec<usize> = evaluation.per_class.iter().map(|c| c.support).collect();
    input.curves = Some(curves);
    input.data = DataFacts {
        name: NASTY.into(),
        splits: vec![("train".into(), counts.clone()), (NASTY.into(), counts)],
        evaluated_on: "test".into(),
    };
    input.history =
        (0..6).map(|i| Epoch { epoch: 1 + i / 2, fold: i % 2, train_loss: 1.0 / (i + 1) as f64, lr: 1e-3, ..Epoch::default() }).collect();
    input.val_metric = NASTY.into();
    let picture = |id: &str, probability| ErrorPicture {
        id: id.into(),
        bytes: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x1c\0\0\0\x1c".to_vec(),
        truth: NASTY.into(),
        predicted: NASTY.into(),
        probability,
        truth_probability: None,
    };
    input.errors = vec![picture("mild.png", 0.6), picture("worst.png", 0.99), picture(NASTY, 0.8)];
    input.recipe = format!("model = \"{NASTY}\"\n# see https://example.org");
    input.facts = vec![("Seed".into(), "7".into()), (NASTY.into(), NASTY.into())];
    input.set_aside = vec![(NASTY.into(), NASTY.into())];
    input.warnings = vec![NASTY.into()];
    input
}

/// The tags of the page in order, without the document type.
fn tags(page: &str) -> Vec<&str> {
    page.split('<').skip(2).filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag)).collect()
}

fn check_balance(page: &str) {
    let mut open: Vec<&str> = vec![];
    for tag in tags(page) {
        let name = tag.trim_start_matches('/').split_whitespace().next().unwrap_or("");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed while open: {open:?}");
        } else if !["meta", "img", "br", "hr", "link", "input"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn every_string_is_escaped_and_every_tag_closed() {
    let (evaluation, curves) = judged(&[NASTY, "b\"c'd", "plain"]);
    let page = render(&full(&evaluation, &curves));
    assert!(!page.contains("<img src=x"));
    assert!(page.contains("&lt;img src=x onerror=&quot;alert('1')&quot;&gt; &amp; co"));
    check_balance(&page);
    let images = tags(&page).into_iter().filter(|t| t.starts_with("img")).collect::<Vec<_>>();
    assert_eq!(images.len(), 3);
    assert!(images.iter().all(|t| t.contains("alt=\"") && t.contains("src=\"data:image/png;base64,")), "{images:?}");
}

#[test]
fn nothing_is_requested_and_nothing_runs() {
    let (evaluation, curves) = judged(&["a", "b", "c"]);
    let page = render(&full(&evaluation, &curves));
    for tag in tags(&page) {
        assert!(!tag.starts_with("script") && !tag.starts_with("link") && !tag.starts_with("iframe"), "{tag}");
        for attribute in ["src=\"", "href=\"", "action=\""] {
            if let Some((_, value)) = tag.split_once(attribute) {
                assert!(value.starts_with("data:image/") || value.starts_with('#'), "{tag}");
            }
        }
        assert!(!tag.contains(" onclick") && !tag.contains(" onload"), "{tag}");
    }
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    assert!(
        !style.contains("url(")
            && !style.contains("@import")
            && style.contains("prefers-color-scheme: dark")
            && style.contains("@media print")
    );
    assert!(page.contains("https://example.org"), "plain text is kept");
}

#[test]
fn parts_stand_in_order_and_each_is_linked() {
    let (evaluation, curves) = judged(&["a", "b", "c", "d"]);
    let page = render(&full(&evaluation, &curves));
    let ids: Vec<&str> = page.split("<section id=\"").skip(1).map(|s| s.split('"').next().unwrap()).collect();
    assert_eq!(
        ids,
        ["summary", "data", "learning", "confusion", "classes", "ranking", "calibration", "folds", "slices", "errors", "provenance"]
    );
    assert!(ids.iter().all(|id| page.contains(&format!("<a href=\"#{id}\">"))));
    assert_eq!(page.matches("<h1>").count(), 1);
    assert_eq!(page.matches("<figure>").count(), page.matches("<figcaption>").count());
    let drawings = page.matches("role=\"img\"").count();
    assert!(page.matches("<title>").count() + page.matches("aria-label=").count() >= drawings && drawings >= 7);
    let place = |text: &str| page.find(text).unwrap();
    assert!(place("worst.png: labelled") < place("mild.png: labelled"), "surest mistakes first");
}

#[test]
fn what_is_missing_is_left_out() {
    let (evaluation, _) = judged(&["a", "b"]);
    let plain = Evaluation { slices: vec![], folds: None, ..evaluation };
    let page = render(&ReportInput::new("t", "today", &plain));
    let ids: Vec<&str> = page.split("<section id=\"").skip(1).map(|s| s.split('"').next().unwrap()).collect();
    assert_eq!(ids, ["summary", "confusion", "classes"]);
    check_balance(&page);
}

#[test]
fn a_probe_shows_its_sweep_and_its_choice() {
    let (evaluation, _) = judged(&["a", "b"]);
    let mut input = ReportInput::new("t", "today", &evaluation);
    input.sweep = (0..5)
        .map(|i| SweepPoint { c: 10f64.powi(i - 3), fold: 0, log_loss: 0.4 + 0.01 * f64::from((i - 2).pow(2)), chosen: i == 2 })
        .collect();
    let page = render(&input);
    assert!(page.contains("Strength sweep") && page.contains("chosen: C = 0.1, log loss 0.400"));
    assert!(!page.contains("Learning rate"));
    assert_eq!(page.matches("class=\"mark\"").count(), 1);
}

#[test]
fn undefined_metrics_say_why() {
    let mut table = predictions(&["a", "b", "c"]);
    table.truth.iter_mut().for_each(|t| *t = (*t != Some(2)).then(|| t.unwrap()));
    let evaluation = evaluate(&table, &Options { bootstrap: 0, ..Options::default() }).unwrap();
    let curves = Curves::new(&table, 10, 100).unwrap();
    let mut input = ReportInput::new("t", "today", &evaluation);
    input.curves = Some(&curves);
    let page = render(&input);
    let why = evaluation.scores.roc_auc_macro.undefined.clone().unwrap();
    assert!(page.contains(&why.replace('"', "&quot;")), "{why}");
    assert!(page.contains("No judged image is of: c") && page.contains("20 images have no label"));
    assert!(!page.contains("NaN") && !page.contains(">inf"));
    check_balance(&page);
}

#[test]
fn many_classes_get_pairs_instead_of_a_matrix() {
    let names: Vec<String> = (0..25).map(|i| format!("class {i}")).collect();
    let (evaluation, _) = judged(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let page = render(&ReportInput::new("t", "today", &evaluation));
    assert!(page.contains("Most frequent confusions") && !page.contains("class=\"heat"));
}

#[test]
fn the_verdict_compares_with_the_easiest_rival() {
    let (evaluation, _) = judged(&["a", "b"]);
    let page = render(&ReportInput::new("t", "today", &evaluation));
    let verdict = page.split_once("<p class=\"verdict\">").unwrap().1.split_once("</p>").unwrap().0;
    assert!(verdict.starts_with("Right on 85.0 % of 60 images (95 % interval "), "{verdict}");
    assert!(verdict.ends_with("would be right on 50.0 %."), "{verdict}");
}
