//! Wrong usage is exit code 2 and a message that says what to give instead; help, completions and closed pipes are no failures.

use std::fs;
use std::process::Stdio;

use insta::assert_snapshot;

use super::{Place, model};

#[test]
fn wrong_flags() {
    let (place, mut all) = (Place::new(), String::new());
    for (name, args) in [
        ("unknown_flag", vec!["train", "sky", "--epochs", "3"]),
        ("unknown_method", vec!["train", "sky", "--method", "magic"]),
        ("no_number", vec!["train", "sky", "--folds", "many"]),
        ("missing_argument", vec!["predict", "model.safetensors"]),
        ("top_k_of_zero", vec!["predict", "model.safetensors", "a.png", "--top-k", "0"]),
        ("json_and_csv", vec!["predict", "model.safetensors", "a.png", "--json", "--csv"]),
        ("unknown_command", vec!["tain"]),
        ("unknown_to_fetch", vec!["fetch", "imagenet"]),
        ("unknown_data", vec!["train", "photos"]),
        ("weights_as_data", vec!["train", "efficientnet_lite0"]),
        ("batch_of_zero", vec!["benchmark", "lenet5", "--batch", "0"]),
        ("benchmark_of_nothing", vec!["benchmark", "lenet6"]),
    ] {
        let told = place.run(args).expect(2);
        assert_eq!(told.stdout, "", "{name}");
        all += &told.case(name);
    }
    assert_snapshot!("wrong_flags", all);
}

#[test]
fn wrong_recipes() {
    let (place, mut all) = (Place::new(), String::new());
    place.sky("sky", 6);
    place.write("misspelt.toml", "method = \"scratch\"\n\n[data]\nstratfy = [\"type\"]\n");
    place.write("broken.toml", "method = \"scratch\nseed = 1\n");
    for (name, more) in [
        ("misspelt_field", vec!["--recipe", "misspelt.toml"]),
        ("broken_toml", vec!["--recipe", "broken.toml"]),
        ("missing_file", vec!["--recipe", "none.toml"]),
        ("misspelt_setting", vec!["--set", "network.imagesize=3"]),
        ("wrong_type", vec!["--set", "fit.epochs=many"]),
        ("no_setting", vec!["--set", "epochs"]),
        ("out_of_range", vec!["--set", "data.test=1.5"]),
        ("unknown_column", vec!["--set", "data.stratify=[\"type\"]"]),
        ("unknown_model", vec!["--model", "resnet99"]),
        ("one_fold", vec!["--folds", "1"]),
        ("more_folds_than_images", vec!["--folds", "50"]),
    ] {
        let told = place.train("sky", &[more, vec!["--out", "run"]].concat()).expect(2);
        all += &told.case(name);
        assert!(!place.path("run").exists(), "{name}: no run folder is left behind");
    }
    assert_snapshot!("wrong_recipes", all);
}

#[test]
#[cfg(not(feature = "cuda"))]
fn a_device_that_the_build_leaves_out() {
    let place = Place::new();
    place.sky("sky", 3);
    let told = place.train("sky", &["--device", "cuda"]).expect(2);
    assert_eq!(told.stderr, "error: this build cannot train on cuda: build it with --features cuda, or leave --device out\n");
}

#[test]
fn bf16_where_nothing_trains_in_it() {
    let place = Place::new();
    place.sky("sky", 3);
    let told = place.train("sky", &["--precision", "bf16", "--set", "fit.backend=burn"]).expect(2);
    assert!(told.stderr.contains("fit.precision") && told.stderr.contains("by plans on the CPU alone"), "{}", told.stderr);
    let told = place.run(["train", "sky", "--precision", "bf16"]).expect(2);
    assert!(told.stderr.contains("a probe trains none; add --method finetune or scratch"), "{}", told.stderr);
}

#[test]
fn a_probe_without_the_published_weights() {
    let place = Place::new();
    place.sky("sky", 3);
    assert_snapshot!("weights_not_fetched", place.run(["train", "sky", "--out", "run"]).expect(1).words());
    assert_snapshot!("data_not_fetched", place.run(["train", "elpv"]).expect(1).words());
}

#[test]
fn a_run_folder_that_is_taken() {
    let place = Place::new();
    place.sky("sky", 6);
    place.train("sky", &["--out", "run"]).expect(0);
    let before = fs::read(place.path("run/result.json")).unwrap();
    assert_snapshot!("run_finished", place.train("sky", &["--out", "run"]).expect(2).words());
    assert_eq!(fs::read(place.path("run/result.json")).unwrap(), before);
    assert_snapshot!("run_of_something_else", place.train("sky", &["--out", "sky"]).expect(2).words());
    assert!(!place.path("sky/recipe.toml").exists());
    fs::remove_file(place.path("run/result.json")).unwrap();
    assert_snapshot!("run_of_another_recipe", place.train("sky", &["--out", "run", "--seed", "3"]).expect(2).words());
}

#[test]
fn splits_and_columns_that_do_not_exist() {
    let place = Place::new();
    place.sky("sky", 3);
    assert_snapshot!("split_of_none", place.run(["evaluate", model(), "sky", "--split", "tst"]).expect(2).words());
    assert_snapshot!("slice_of_none", place.run(["evaluate", model(), "sky", "--slice", "camera"]).expect(2).words());
    ["train", "test"].iter().for_each(|split| place.sky(&format!("parts/{split}"), 2));
    assert_snapshot!("split_unknown", place.run(["evaluate", model(), "parts", "--split", "tst"]).expect(2).words());
}

#[test]
fn help_and_completions() {
    let place = Place::new();
    let help = place.run(["--help"]).expect(0);
    assert!(help.stdout.starts_with("From a folder of labelled pictures to a judged classifier"), "{}", help.stdout);
    assert!(help.stdout.contains("Exit codes: 0 done, 1 failed, 2 wrong usage."), "{}", help.stdout);
    for (shell, sign) in [("bash", "complete -F _fieldmark"), ("zsh", "#compdef fieldmark"), ("fish", "complete -c fieldmark")] {
        let script = place.run(["completions", shell]).expect(0).stdout;
        assert!(script.contains(sign) && script.contains("augment-preview"), "{shell}: {script}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    place.sky("sky", 3);
    for args in [vec!["completions", "zsh"], vec!["predict", model(), "sky"], vec!["predict", model(), "sky", "--csv"]] {
        let mut child = place.command().args(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{args:?}: {:?}: {stderr}", output.status);
    }
}

#[test]
fn benchmark_times_an_architecture_by_itself() {
    let place = Place::new();
    let told = place.run(["benchmark", "lenet5", "--batch", "2", "--threads", "1", "--runs", "3", "--json"]).expect(0);
    let timing: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!((&timing["model"], &timing["precision"]), (&"lenet5".into(), &"f32".into()));
    assert_eq!((&timing["batch"], &timing["threads"], &timing["runs"]), (&2.into(), &1.into(), &3.into()));
    let [least, ms, most] = ["ms_min", "ms", "ms_max"].map(|key| timing[key].as_f64().unwrap());
    assert!(0.0 < least && least <= ms && ms <= most, "{timing}");
}
