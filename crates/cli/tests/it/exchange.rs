//! `export` and `import`.

use std::path::Path;

use super::{Place, model, picture};

/// A network of another program: five classes, 3×13×11 values, neither names nor preprocessing.
fn foreign() -> String {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../graph/tests/golden/onnx/channels_last.onnx");
    golden.to_str().unwrap().to_string()
}

#[test]
fn an_exported_file_is_verified_and_predicts_the_same() {
    let place = Place::new();
    place.sky("sky", 2);
    let told = place.run(["export", model(), "sky.onnx", "--verify", "sky", "--json"]).expect(0).json();
    assert_eq!((&told["format"], &told["passes"], &told["verification"]["images"]), (&"onnx".into(), &true.into(), &4.into()));
    let labels = |model: &str| {
        let lines = place.run(["predict", model, "sky", "--json"]).expect(0).json_lines();
        lines.iter().map(|line| line["label"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(labels("sky.onnx"), labels(model()));
    place.run(["export", model(), "card", "--verify", "sky"]).expect(0);
    for file in ["config.json", "model.safetensors", "README.md"] {
        assert!(place.path("card").join(file).exists(), "{file}");
    }
    assert_eq!(labels("card"), labels(model()));
}

#[test]
fn an_imported_file_has_the_names_and_the_preprocessing_that_were_given() {
    let place = Place::new();
    place.write("names.json", r#"{"id2label": {"0": "ash", "1": "beech", "2": "cedar", "3": "elm", "4": "fir"}}"#);
    place.write("leaf.png", images::encode_png(&picture(90, 1)));
    let given = ["--labels", "names.json", "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--fit", "stretch", "--json"];
    let file = foreign();
    let told = place.run(["import", &file, "trees.safetensors"].into_iter().chain(given)).expect(0).json();
    assert_eq!(told["classes"], serde_json::json!(["ash", "beech", "cedar", "elm", "fir"]));
    assert_eq!(told["input"], serde_json::json!([3, 13, 11]));
    assert_eq!((&told["preprocess"]["resize"], &told["preprocess"]["std"][0]), (&"squash".into(), &0.25.into()));
    let prediction = place.run(["predict", "trees.safetensors", "leaf.png", "--json"]).expect(0).json();
    assert_eq!(prediction["top"].as_array().unwrap().len(), 5);
    assert!(["ash", "beech", "cedar", "elm", "fir"].iter().any(|name| prediction["label"] == *name), "{prediction}");
}

#[test]
fn wrong_imports_say_what_was_expected() {
    let place = Place::new();
    place.write("two.txt", "cat\ndog\n");
    let file = foreign();
    let told = |more: &[&str]| place.run(["import", &file, "out.safetensors"].into_iter().chain(more.iter().copied()));
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--labels", "two.txt"], 2, "two.txt: 2 class names, but the network has 5 outputs"),
        (&["--labels", "none.txt"], 1, "none.txt: cannot be read"),
        (&["--size", "99"], 1, "99×99 pixels are asked for, but the file's input is 13×11"),
        (&["--size", "0x3"], 2, "expected a side or HEIGHTxWIDTH"),
        (&["--mean", "0.5"], 2, "mean"),
        (&["--fit", "stretch", "--crop", "0.9"], 2, "--crop belongs to --fit crop"),
    ];
    for (more, code, expected) in cases {
        let told = told(more).expect(code);
        assert!(told.stderr.contains(expected), "{more:?}: {}", told.stderr);
        assert!(!place.path("out.safetensors").exists(), "{more:?} wrote a file");
    }
}
