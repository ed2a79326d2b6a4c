//! `predict`: table, JSON lines, CSV, folders, lists on stdin.

use std::fs;
use std::process::Stdio;

use insta::assert_snapshot;

use super::{Place, Told, huge_png, model};

#[test]
fn json_lines_give_path_label_probability_and_top() {
    let place = Place::new();
    place.sky("sky", 2);
    place.write("sky/night/text.jpg", "no picture");
    let told = place.run(["predict", model(), "none.png", "sky", "sky/day/00.png", "--json"]).expect(0);
    let lines = told.json_lines();
    let paths: Vec<&str> = lines.iter().map(|line| line["path"].as_str().unwrap()).collect();
    let expected = ["none.png", "sky/day/00.png", "sky/day/01.png", "sky/night/00.png", "sky/night/01.png", "sky/night/text.jpg"];
    assert_eq!(paths, expected, "in order, each once");
    for line in &lines[1..5] {
        let (label, probability) = (line["label"].as_str().unwrap(), line["probability"].as_f64().unwrap());
        assert!(line["path"].as_str().unwrap().contains(label), "{line}");
        let top = line["top"].as_array().unwrap();
        assert_eq!((&top[0]["label"], top[0]["probability"].as_f64()), (&label.into(), Some(probability)));
        assert!((top.iter().map(|t| t["probability"].as_f64().unwrap()).sum::<f64>() - 1.0).abs() < 1e-5, "{line}");
    }
    for line in [&lines[0], &lines[5]] {
        assert_eq!(line.as_object().unwrap().keys().collect::<Vec<_>>(), ["error", "path"]);
    }
    let errors: Vec<&str> = [0, 5].map(|i| lines[i]["error"].as_str().unwrap()).into();
    assert_snapshot!("predict_json_errors", errors.join("\n"));
    assert_eq!(told.stderr, "warning: 2 of 6 files could not be read\n");
}

#[test]
fn top_k_limits_the_classes() {
    let place = Place::new();
    place.sky("sky", 1);
    let line = place.run(["predict", model(), "sky/day/00.png", "--json", "--top-k", "1"]).expect(0).json();
    assert_eq!(line["top"].as_array().unwrap().len(), 1);
    let text = place.run(["predict", model(), "sky/day/00.png", "--top-k", "1"]).expect(0).stdout;
    assert!(text.starts_with("sky/day/00.png  day ") && !text.contains("night"), "{text}");
}

#[test]
fn csv_has_a_header_and_an_error_column() {
    let place = Place::new();
    place.sky("sky", 1);
    place.write("sky/huge, very.png", huge_png());
    let text = place.run(["predict", model(), "sky", "--csv"]).expect(0).stdout;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().unwrap(), vec!["path", "label", "probability", "label_2", "probability_2", "error"]);
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
    assert_eq!((&rows[0][0], &rows[0][1], &rows[0][3], &rows[0][5]), ("sky/day/00.png", "day", "night", ""));
    assert_eq!((&rows[1][0], &rows[1][1]), ("sky/huge, very.png", ""));
    assert!(rows[1][5].starts_with("the picture is 40000×40000"), "{:?}", rows[1]);
    assert!((0.5..=1.0).contains(&rows[0][2].parse::<f64>().unwrap()));
}

#[test]
fn a_list_on_stdin() {
    let place = Place::new();
    place.sky("sky", 2);
    place.write("list", "sky/night/01.png\n\nsky/day/00.png\n");
    let list = Stdio::from(fs::File::open(place.path("list")).unwrap());
    let output = place.command().args(["predict", model(), "-", "--json"]).stdin(list).output().unwrap();
    let lines = Told::new(&place, output).expect(0).json_lines();
    assert_eq!(lines.iter().map(|l| l["label"].as_str().unwrap()).collect::<Vec<_>>(), ["night", "day"]);
    assert_snapshot!("predict_empty_list", place.run(["predict", model(), "-"]).expect(2).words());
}

#[test]
fn files_of_which_none_can_be_read() {
    let place = Place::new();
    let told = place.run(["predict", model(), "none.png"]).expect(1);
    assert_snapshot!("predict_one_missing", format!("{}\n{}", told.words(), told.stdout));
    let told = place.run(["predict", model(), "none.png", "nothing/at/all.jpg"]).expect(1);
    assert_snapshot!("predict_all_missing", format!("{}\n{}", told.words(), told.stdout));
}
