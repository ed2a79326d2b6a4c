//! `fieldmark audit` without weights in the cache: pixels and duplicates are checked, the rest is said not to be.

use std::fs;

use serde_json::Value;

use super::Place;

#[test]
fn duplicates_are_found_gated_reviewed_and_applied() {
    let place = Place::new();
    place.sky("sky", 4);
    let first = fs::read_dir(place.path("sky/day")).unwrap().next().unwrap().unwrap().path();
    fs::copy(&first, place.path("sky/night/copy.png")).unwrap();
    place.write("sky/night/broken.png", b"not a picture");

    let told = place.run(["audit", "sky", "--json", "--out", "audit"]).expect(0);
    let lines: Vec<Value> = told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |check: &str| lines.iter().filter(|l| l["check"] == check).count();
    assert_eq!((of("unreadable"), of("exact_duplicate")), (1, 1), "{}", told.stdout);
    // The drawn skies differ in brightness, as duplicates may.
    assert!(of("label_conflict") >= 2, "{}", told.stdout);
    assert!(told.stderr.contains("note: labels, outliers, order and clusters were not checked"), "{}", told.stderr);
    let page = fs::read_to_string(place.path("audit/report.html")).unwrap();
    assert!(page.contains("<script id=\"audit-data\"") && page.contains("exact_duplicate"));
    assert_eq!(fs::read_to_string(place.path("audit/findings.jsonl")).unwrap().trim_end(), told.stdout.trim_end());

    let told = place.run(["audit", "sky", "--out", "again", "--fail-on", "label_conflict"]).expect(1);
    assert!(told.stderr.contains("findings on 10 samples, none is allowed"), "{}", told.stderr);
    let told = place.run(["audit", "sky", "--fail-on", "leek"]).expect(2);
    assert!(told.stderr.contains("there is no check \"leek\""), "{}", told.stderr);

    let content = page.split("\"hashes\":[\"").nth(1).unwrap().split('"').next().unwrap().to_string();
    let plan = |decision: &str| format!("content,check,decision,label,id,note\n{content},,{decision},,,\n");
    place.write("plan.csv", plan("drop"));
    let told = place.run(["audit", "sky", "--apply", "plan.csv", "--json"]).expect(0);
    let applied: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(applied["relabelled"], 0, "{applied}");
    assert!(applied["dropped"].as_u64().unwrap() >= 1, "{applied}");
    let manifest = fs::read_to_string(place.path("sky/reviewed.csv")).unwrap();
    assert!(manifest.starts_with("path,label"), "{manifest}");
    let told = place.run(["audit", "sky", "--apply", "plan.csv"]).expect(2);
    assert!(told.stderr.contains("is there already"), "{}", told.stderr);
}
