//! `quantize`, and `predict`, `evaluate` and `benchmark` with what it writes.

use std::fs;

use super::{Place, model};

#[test]
fn a_quantised_model_predicts_as_before() {
    let place = Place::new();
    place.sky("sky", 12);
    place.write("sky/night/text.jpg", "no picture");
    let args =
        ["quantize", model(), "--data", "sky", "--out", "int8.safetensors", "--method", "percentile", "--images", "8", "--bound", "0"];
    let told = place.run(args.iter().copied().chain(["--logit-bound", "100", "--json"])).expect(0);
    assert!(told.stderr.contains("set aside: sky/night/text.jpg"), "{}", told.stderr);
    let made = told.json();
    let counts = ["calibrated_on", "chosen_by", "judged_on", "set_aside"].map(|field| made[field].as_u64().unwrap());
    assert_eq!(counts, [8, 5, 11, 1], "{made}");
    assert_eq!((&made["method"], &made["kept"]), (&"percentile".into(), &serde_json::json!({})), "{made}");
    let measured = made["measured"].as_array().unwrap();
    assert_eq!(measured.iter().map(|m| m["precision"].as_str().unwrap()).collect::<Vec<_>>(), ["f32", "bf16", "int8"]);
    assert!(measured.iter().all(|m| m["ms"].as_f64().unwrap() > 0.0 && m["logit_error"].as_f64().unwrap() < 0.2), "{made}");
    let label = |model: &str, precision: &str| {
        let lines =
            place.run(["predict", model, "sky/day/03.png", "sky/night/03.png", "--json", "--precision", precision]).expect(0).json_lines();
        lines.iter().map(|line| (line["label"].as_str().unwrap().to_string(), line["probability"].as_f64().unwrap())).collect::<Vec<_>>()
    };
    let (wide, narrow) = (label(model(), "f32"), label("int8.safetensors", "int8"));
    assert!(wide.iter().zip(&narrow).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 0.1), "{wide:?} {narrow:?}");
    assert!(wide != narrow, "int8 was not used");
    assert_eq!(label("int8.safetensors", "f32"), wide, "the weights are as before");
    let auto = place.run(["evaluate", "int8.safetensors", "sky", "--bootstrap", "20", "--json"]).expect(0).json();
    assert_eq!(auto["n"], 24);
    let timing = place.run(["benchmark", "int8.safetensors", "--precision", "int8", "--runs", "2", "--json"]).expect(0).json();
    assert_eq!(timing["precision"], "int8");
}

#[test]
fn what_cannot_be_quantised_is_told() {
    let place = Place::new();
    place.sky("sky", 4);
    place.write("empty/readme.txt", "nothing");
    place.write("broken/a.png", "no picture");
    let without = place.run(["predict", model(), "sky/day/00.png", "--precision", "int8"]).expect(1);
    assert!(without.stderr.contains("calibrat"), "{}", without.stderr);
    assert_ne!(place.run(["quantize", model(), "--data", "empty", "--out", "a.safetensors"]).code, 0);
    let broken = place.run(["quantize", model(), "--data", "broken", "--out", "a.safetensors"]).expect(1);
    assert!(broken.stderr.contains("none of the 1 images could be read"), "{}", broken.stderr);
    let method = place.run(["quantize", model(), "--data", "sky", "--method", "best"]).expect(2);
    assert!(method.stderr.contains("expected minmax, percentile or entropy"), "{}", method.stderr);
    place.run(["quantize", model(), "--data", "sky", "--bound", "101"]).expect(2);
    assert!(!place.path("a.safetensors").exists());
    place.run(["quantize", model(), "--data", "sky", "--out", "a.safetensors"]).expect(0);
    let before = fs::read(place.path("a.safetensors")).unwrap();
    let twice = place.run(["quantize", "a.safetensors", "--data", "sky"]).expect(2);
    assert!(twice.stderr.contains("quantised already") && twice.stderr.contains("--again"), "{}", twice.stderr);
    assert_eq!(fs::read(place.path("a.safetensors")).unwrap(), before);
    place.run(["quantize", "a.safetensors", "--data", "sky", "--out", "b.safetensors", "--again"]).expect(0);
}
