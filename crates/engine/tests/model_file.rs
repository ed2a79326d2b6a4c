//! The model file: what goes in comes out, and whatever happened to the file is said.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use fieldmark_engine::quantize::{Activations, CalibrationOptions, calibrate};
use fieldmark_engine::{Classifier, EngineOptions, Metadata, Model, ModelError, PathOutcome, Precision, StreamOptions, TargetKind};
use graph::{Conv2d, GraphBuilder};
use images::{Image, Preprocess};

fn model() -> Model {
    let mut b = GraphBuilder::new("tiny", [3, 8, 8]);
    let x = b.conv("conv", b.input(), Conv2d::new(3, 4, 3));
    let x = b.batch_norm("bn", x, 1e-3);
    let x = b.global_avg_pool("pool", x);
    b.tap("features", x);
    let x = b.linear("fc", x, 3);
    let graph = b.finish(x).unwrap();
    let weights = graph.init_weights(3);
    let classes = ["robin", "wren", "Zaunkönig"].map(String::from).to_vec();
    let mut metadata = Metadata::new(classes, Preprocess::imagenet([8, 8]));
    metadata.temperature = Some(1.234_567_890_123_4);
    metadata.thresholds = Some(vec![0.1, 0.2, 0.3]);
    metadata.recipe = Some("seed = 7\n".into());
    metadata.seed = Some(u64::MAX);
    metadata.metrics = serde_json::json!({"accuracy": {"value": 0.123_456_789_012_345_67}});
    Model { graph, weights, metadata }
}

fn image(value: u8) -> Image {
    Image::from_rgb8(12, 10, (0..360u32).map(|i| value.wrapping_add((i * i % 91) as u8)).collect()).unwrap()
}

#[test]
fn a_model_survives_the_disk_and_its_bytes_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let (path, again) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let model = model();
    model.save(&path).unwrap();
    assert_eq!(Model::load(&path).unwrap(), model);
    model.save(&again).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&again).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn a_calibration_and_its_bytes_survive_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("int8.safetensors");
    let mut model = model();
    let images: Vec<f32> = (0..12 * 192).map(|i| ((i * 7919) % 513) as f32 / 256.0 - 1.0).collect();
    let options = CalibrationOptions { activations: Some(Activations::U8), most_kept: 0, ..CalibrationOptions::default() };
    let made = calibrate(&model.graph, &model.weights, &images, &options).unwrap();
    assert_eq!(made.rounded.values().map(Vec::len).collect::<Vec<_>>(), [4 * 27, 12], "conv and fc");
    model.metadata.quantization = Some(made);
    model.save(&path).unwrap();
    let again = Model::load(&path).unwrap();
    assert_eq!(again, model);
    let engine = EngineOptions { precision: Precision::Int8, ..EngineOptions::default() };
    let logits = |model| Classifier::with_options(model, engine).unwrap().logits(&images).unwrap();
    assert_eq!(logits(again), logits(model.clone()));
    // Of another network: the layer and the cure are named.
    let fc = model.metadata.quantization.as_mut().and_then(|q| q.rounded.get_mut("fc")).unwrap();
    fc.pop();
    let wrong = Classifier::with_options(model, engine).unwrap_err().to_string();
    assert!(wrong.contains("fc") && wrong.contains("calibrate again"), "{wrong}");
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    model().save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for at in (0..bytes.len()).step_by(3).chain(bytes.len() - 40..bytes.len()) {
        for flip in [1u8, 0x40] {
            let mut bad = bytes.clone();
            bad[at] ^= flip;
            std::fs::write(&path, &bad).unwrap();
            assert!(Model::load(&path).is_err(), "byte {at} ^ {flip}");
        }
    }
}

#[test]
fn a_file_cut_short_anywhere_is_called_truncated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    model().save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(7) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let message = Model::load(&path).unwrap_err().to_string();
        assert!(message.contains("m.safetensors: truncated or damaged"), "{length}: {message}");
    }
}

#[test]
fn newer_and_foreign_files_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let mut newer = model();
    newer.metadata.format_version = 99;
    newer.save(&path).unwrap();
    let error = Model::load(&path).unwrap_err();
    assert!(matches!(error, ModelError::Newer { found: 99, .. }) && error.to_string().contains("update fieldmark"), "{error}");
    graph::weights::write_safetensors(&path, &model().weights, &Default::default()).unwrap();
    assert!(matches!(Model::load(&path).unwrap_err(), ModelError::NotAModel { .. }));
    let error = Model::load(&folder.path().join("none")).unwrap_err();
    assert!(matches!(error, ModelError::Read { .. }), "{error}");
}

#[test]
fn an_altered_weight_fails_the_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    model().save(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = Model::load(&path).unwrap_err();
    assert!(matches!(error, ModelError::Checksum { .. }), "{error}");
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let broken = |change: fn(&mut Model), word: &str| {
        let mut model = model();
        change(&mut model);
        let message = model.check().unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    };
    broken(|m| m.metadata.classes.truncate(2), "2 class names for 3 logits");
    broken(|m| m.metadata.classes[1] = "robin".into(), "\"robin\" occurs twice");
    broken(|m| m.metadata.temperature = Some(0.0), "temperature");
    broken(|m| m.metadata.thresholds = Some(vec![0.5]), "1 thresholds");
    broken(|m| m.metadata.preprocess.size = [9, 8], "[3, 9, 8]");
    broken(|m| drop(m.weights.remove("fc.bias")), "fc.bias");
    broken(|m| m.metadata.preprocess.std.clear(), "preprocessing");
}

#[test]
fn a_folder_that_is_not_there_is_named_with_a_cure() {
    let error = model().save(Path::new("/nowhere/at/all/m.safetensors")).unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all/m.safetensors") && error.contains("create the folder first"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    model().save(&path).unwrap();
    // A folder under the file's name cannot be replaced: the write fails after the temporary file is complete.
    let taken = folder.path().join("taken.safetensors");
    std::fs::create_dir(&taken).unwrap();
    assert!(matches!(model().save(&taken).unwrap_err(), ModelError::Write { .. }));
    assert_eq!(Model::load(&path).unwrap(), model());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn probabilities_follow_temperature_and_target() {
    let mut model = model();
    model.metadata.temperature = None;
    let plain = Classifier::new(model.clone()).unwrap();
    let values = plain.preprocess().apply(&image(3));
    let logits = plain.logits(&values).unwrap();
    let p = plain.classify(&image(3)).unwrap();
    assert!((p.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    let top = p.top(2);
    assert_eq!((top[0].0.as_str(), top[0].1, top.len()), (p.label.as_str(), p.probability, 2));
    assert!(top[0].1 >= top[1].1);
    model.metadata.temperature = Some(2.0);
    let cooled = Classifier::new(model.clone()).unwrap().classify(&image(3)).unwrap();
    let ratio = |q: &[f32]| f64::from(q[0] / q[1]).ln();
    assert!((ratio(&p.probabilities) / ratio(&cooled.probabilities) - 2.0).abs() < 1e-2);
    model.metadata.target = TargetKind::Labels;
    let each = Classifier::new(model).unwrap().probabilities(&values).unwrap();
    assert!((f64::from(each[1]) - 1.0 / (1.0 + (-f64::from(logits[1]) / 2.0).exp())).abs() < 1e-6);
    assert!(plain.logits(&values[1..]).is_err());
}

#[test]
fn files_come_out_in_order_and_a_bad_one_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let classifier = Classifier::new(model()).unwrap();
    let paths: Vec<_> = (0..11).map(|i| folder.path().join(format!("{i}.png"))).collect();
    for (i, path) in paths.iter().enumerate() {
        let bytes = if i == 4 { b"not an image".to_vec() } else { images::encode_png(&image(20 * i as u8)) };
        if i != 7 {
            std::fs::write(path, bytes).unwrap();
        }
    }
    for batch_size in [1, 4, 64] {
        let mut seen: Vec<PathOutcome> = Vec::new();
        classifier.classify_paths(&paths, &StreamOptions { batch_size, workers: 2, ..Default::default() }, |outcome| seen.push(outcome));
        assert_eq!(seen.iter().map(|o| o.index).collect::<Vec<_>>(), (0..11).collect::<Vec<_>>());
        for (i, outcome) in seen.iter().enumerate() {
            assert_eq!(outcome.path, paths[i]);
            match &outcome.result {
                Ok(prediction) => assert_eq!(*prediction, classifier.classify(&image(20 * i as u8)).unwrap()),
                Err(_) => assert!(i == 4 || i == 7),
            }
            assert_eq!(outcome.result.is_err(), i == 4 || i == 7);
        }
    }
}

#[test]
fn one_classifier_serves_many_threads() {
    let classifier = Classifier::new(model()).unwrap();
    let want: Vec<_> = (0..4).map(|i| classifier.classify(&image(i)).unwrap()).collect();
    std::thread::scope(|scope| {
        for i in 0..4u8 {
            let (classifier, want) = (&classifier, &want);
            scope.spawn(move || assert_eq!(classifier.classify(&image(i)).unwrap(), want[usize::from(i)]));
        }
    });
    let images: Vec<Image> = (0..4).map(image).collect();
    assert_eq!(classifier.classify_batch(&images).unwrap(), want);
    assert!(classifier.classify_batch(&[]).unwrap().is_empty());
}
