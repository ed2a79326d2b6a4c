//! `fieldmark audit` without weights in the cache: pixels and duplicates are checked, the rest is said not to be.

use std::fs;

use serde_json::Value;

use super::{Place, model};

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

#[test]
fn labels_are_judged_and_proposed_and_the_gain_is_measured() {
    let place = Place::new();
    place.sky("sky", 24);
    for i in 0..3 {
        fs::rename(place.path(&format!("sky/night/{i:02}.png")), place.path(&format!("sky/day/dark{i}.png"))).unwrap();
    }
    let told = place.run(["audit", "sky", "--model", model(), "--out", "audit", "--propose", "plan.csv"]).expect(0);
    let plan = fs::read_to_string(place.path("plan.csv")).unwrap();
    let taken: Vec<&str> = plan.lines().filter(|line| line.contains(",relabel,night,day/dark")).collect();
    assert_eq!(taken.len(), 3, "{plan}");
    assert!(told.stderr.contains("which nobody has reviewed") && told.stderr.contains("faces were not looked for"), "{}", told.stderr);
    assert!(told.stdout.contains("labels are wrong (95 %:"), "{}", told.stdout);
    let page = fs::read_to_string(place.path("audit/report.html")).unwrap();
    assert!(page.contains("\"map\":[[") && page.contains("Learning curve"), "the map and the curve are on the page");
    let scores = fs::read(place.path("audit/scores.parquet")).unwrap();
    assert!(scores.starts_with(b"PAR1") && scores.ends_with(b"PAR1"));
    let head = fs::read_to_string(place.path("audit/predictions.csv")).unwrap();
    assert!(head.starts_with("id,truth,predicted,probability,fold,p:day,p:night"), "{head:.100}");

    let told = place.run(["audit", "sky", "--model", model(), "--apply", "plan.csv", "--compare", "--json"]).expect(0);
    let applied = told.json();
    assert_eq!(applied["relabelled"], plan.lines().count() as u64 - 1, "{applied}");
    let gain = &applied["comparison"];
    assert!(gain["gain"].as_f64().unwrap() >= 0.0 && gain["ci95"].as_array().unwrap().len() == 2, "{applied}");

    // The network that a recipe trains instead of the probe.
    place.write("net.toml", "method = \"scratch\"\n[fit]\nepochs = 6\nbatch_size = 4\nlr = 0.003\n");
    let compare = ["audit", "sky", "--apply", "plan.csv", "--compare", "--recipe", "net.toml", "--json"];
    let told = place.run(compare.into_iter().chain(["--manifest", "sky/net.csv"])).expect(0);
    let gain = &told.json()["comparison"];
    assert!(gain["trained"].as_str().unwrap().contains("tiny_cnn") && gain["ci95"].as_array().unwrap().len() == 2, "{gain}");
    let told = place.run(["audit", "sky", "--apply", "plan.csv", "--compare", "--recipe", "nowhere.toml", "--manifest", "sky/none.csv"]);
    let told = told.expect(2);
    assert!(told.stderr.contains("nowhere.toml") && !place.path("sky/none.csv").exists(), "{}", told.stderr);
}

#[test]
fn networks_judge_labels_out_of_fold() {
    let place = Place::new();
    place.sky("sky", 16);
    fs::rename(place.path("sky/night/00.png"), place.path("sky/day/dark.png")).unwrap();
    place.write("judge.toml", "method = \"scratch\"\n[data]\nvalidation = 0\n[fit]\nepochs = 6\nbatch_size = 4\nlr = 0.003\n");
    let audit = ["audit", "sky", "--judge", "judge.toml", "--folds", "2", "--json"];
    let told = place.run(audit.into_iter().chain(["--repeats", "2", "--out", "judged"])).expect(0);
    let worst = told.json_lines().into_iter().find(|l| l["check"] == "label").unwrap();
    assert_eq!((worst["id"].as_str(), worst["suggested"].as_str()), (Some("day/dark.png"), Some("night")), "{worst}");
    assert!(told.stderr.contains("note: outliers, order and clusters were not checked"), "{}", told.stderr);
    let page = fs::read_to_string(place.path("judged/report.html")).unwrap();
    assert!(page.contains("out of 2 folds, mean of 2 repeats"));
    // What was trained is kept: the same question has the same answer, with no network trained.
    let again = place.run(audit.into_iter().chain(["--repeats", "2", "--out", "again"])).expect(0);
    assert_eq!(again.stdout, told.stdout);
    assert!(!again.stderr.contains("epoch"), "{}", again.stderr);
    // One fold is LabelFix: the same images are learned and predicted.
    let told = place.run(["audit", "sky", "--judge", "judge.toml", "--folds", "1", "--out", "fixed"]).expect(0);
    assert!(told.stdout.contains("labels are wrong"), "{}", told.stdout);
    // Two recipes: half of each, and refused as a whole where one cannot be followed.
    place.write("other.toml", "method = \"scratch\"\nmodel = \"lenet5\"\n[data]\nvalidation = 0\n[fit]\nepochs = 2\nbatch_size = 4\n");
    let probability = |out: &str| {
        let table = fs::read_to_string(place.path(out).join("predictions.csv")).unwrap();
        let row = table.lines().find(|l| l.starts_with("day/dark.png,")).unwrap();
        row.rsplit(',').next().unwrap().parse::<f64>().unwrap()
    };
    let one = ["audit", "sky", "--judge", "judge.toml", "--folds", "2", "--out", "one"];
    let other = ["audit", "sky", "--judge", "other.toml", "--folds", "2", "--out", "other"];
    let both = ["audit", "sky", "--judge", "judge.toml", "--judge", "other.toml", "--folds", "2", "--out", "both"];
    for words in [&one[..], &other, &both] {
        place.run(words.iter().copied()).expect(0);
    }
    assert!((probability("both") - f64::midpoint(probability("one"), probability("other"))).abs() < 1e-9);
    assert!(fs::read_to_string(place.path("both/report.html")).unwrap().contains("the mean of tiny_cnn and lenet5 by the given recipes"));
    place.write("probe.toml", "method = \"probe\"\n");
    let told = place.run(["audit", "sky", "--judge", "judge.toml", "--judge", "probe.toml"]).expect(2);
    assert!(told.stderr.contains("expected finetune or scratch") && !told.stderr.contains("epoch"), "{}", told.stderr);
    let told = place.run(["audit", "sky", "--judge", "probe.toml"]).expect(2);
    assert!(told.stderr.contains("expected finetune or scratch"), "{}", told.stderr);
}

#[test]
fn what_to_label_next() {
    let place = Place::new();
    place.sky("sky", 20);
    place.sky("more", 3);
    let told = place.run(["label-next", "sky", "--pool", "more", "--model", model(), "--count", "4", "--json"]).expect(0);
    let lines = told.json_lines();
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|l| l["id"].as_str().unwrap().starts_with("more/") && l["probability"].as_f64().unwrap() >= 0.5), "{lines:?}");
    let told =
        place.run(["label-next", "sky", "--model", model(), "--simulate", "--start", "4", "--count", "4", "--rounds", "2"]).expect(0);
    assert!(told.stdout.contains("labelled  chosen  random") && told.stdout.contains("      12  "), "{}", told.stdout);
    let told = place.run(["label-next", "sky", "--model", model()]).expect(2);
    assert!(told.stderr.contains("every image has a label"), "{}", told.stderr);
}

#[test]
fn annotators_are_told_apart() {
    let place = Place::new();
    // Ann and Bob agree; Cid says cat of everything.
    let mut votes = String::from("id,annotator,label\n");
    for i in 0..12 {
        let truth = if i % 2 == 0 { "cat" } else { "dog" };
        votes.push_str(&format!("{i}.png,ann,{truth}\n{i}.png,bob,{truth}\n{i}.png,cid,cat\n"));
    }
    place.write("votes.csv", &votes);
    let told = place.run(["annotators", "votes.csv", "--out", "consensus.csv", "--json"]).expect(0).json();
    let of = |name: &str| told["annotators"].as_array().unwrap().iter().find(|a| a["annotator"] == name).unwrap()["quality"].clone();
    assert!(of("ann").as_f64().unwrap() > 0.95 && of("cid").as_f64().unwrap() < 0.6, "{told}");
    let consensus = fs::read_to_string(place.path("consensus.csv")).unwrap();
    assert!(consensus.contains("1.png,dog,") && consensus.contains("2.png,cat,"), "{consensus}");
    let mut predictions = String::from("id,truth,predicted,probability,fold,p:cat,p:dog\n");
    for i in 0..12 {
        let p = if i % 2 == 0 { 0.9 } else { 0.1 };
        predictions.push_str(&format!("{i}.png,,{},0.9,0,{p},{}\n", if i % 2 == 0 { "cat" } else { "dog" }, 1.0 - p));
    }
    place.write("predictions.csv", &predictions);
    let told = place.run(["annotators", "votes.csv", "--predictions", "predictions.csv"]).expect(0);
    assert!(told.stdout.contains("by CROWDLAB"), "{}", told.stdout);
    place.write("twice.csv", "id,annotator,label\na,ann,cat\na,ann,dog\n");
    let told = place.run(["annotators", "twice.csv"]).expect(2);
    assert!(told.stderr.contains("row 3: ann gave a two labels, cat and dog"), "{}", told.stderr);
    place.write("bare.csv", "id,label\na,cat\n");
    let told = place.run(["annotators", "bare.csv"]).expect(2);
    assert!(told.stderr.contains("no column annotator"), "{}", told.stderr);
}
