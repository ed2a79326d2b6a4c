//! ONNX files of torch, timm and a TensorFlow-like converter against ONNX Runtime, and files that are not covered.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use fieldmark_graph::onnx::{self, ImportOptions, Imported, ImportedOutput};
use fieldmark_graph::{Op, Tensor, reference};
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/onnx")
}

fn imported(name: &str) -> Imported {
    let path = folder().join(format!("{name}.onnx"));
    onnx::read(&path, &ImportOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// As `images` in `onnx_files.py`.
fn images(shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    Tensor::new(shape, (0..count).map(|i| (((i * 37) % 101) as f64 / 50.0 - 1.0) as f32).collect()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The file's output from the graph's logits.
fn output(kind: ImportedOutput, logits: &Tensor, logarithm: bool) -> Vec<f64> {
    let columns = logits.shape[1];
    let row = |row: &[f32]| -> Vec<f64> {
        let sum: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
        row.iter()
            .map(|&v| f64::from(v))
            .map(|v| match kind {
                ImportedOutput::Logits => v,
                ImportedOutput::Softmax if logarithm => v - sum.ln(),
                ImportedOutput::Softmax => v.exp() / sum,
                ImportedOutput::Sigmoid => 1.0 / (1.0 + (-v).exp()),
            })
            .collect()
    };
    logits.data.chunks_exact(columns).flat_map(row).collect()
}

#[test]
fn files_of_other_exporters_compute_what_onnx_runtime_computes() {
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(folder().join("expected.json")).unwrap()).unwrap();
    let mut problems = Vec::new();
    for (name, case) in expected["cases"].as_object().unwrap() {
        let path = folder().join(format!("{name}.onnx"));
        let import = match onnx::read(&path, &ImportOptions::default()) {
            Ok(import) => import,
            Err(e) => {
                problems.push(format!("{name}: {e}"));
                continue;
            }
        };
        let shape: Vec<usize> = numbers(&case["input"]).iter().map(|&v| v as usize).collect();
        let mut input = images(&shape);
        if let Some(affine) = &import.info.input_affine {
            let plane = shape[2] * shape[3];
            for (i, v) in input.data.iter_mut().enumerate() {
                let (scale, shift) = affine[i / plane % shape[1]];
                *v = *v * scale + shift;
            }
        }
        let wanted = numbers(&case["values"]);
        let logits = match reference::run(&import.graph, &import.weights, &input, &[]) {
            Ok(mut outputs) => outputs.remove(0),
            Err(e) => {
                problems.push(format!("{name}: {e}"));
                continue;
            }
        };
        let found = output(import.info.output, &logits, name.starts_with("halves"));
        let difference = found.iter().zip(&wanted).map(|(x, y)| (x - y).abs() / y.abs().max(1.0)).fold(0.0, f64::max);
        println!("{name}: {difference:.1e}, {} nodes, stages {:?}", import.graph.nodes.len(), import.graph.stages);
        if found.len() != wanted.len() || difference.is_nan() || difference > 1e-4 {
            problems.push(format!("{name}: differs by {difference:.1e} ({} and {} values)", found.len(), wanted.len()));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

fn count(import: &Imported, kind: &str) -> usize {
    import.graph.nodes.iter().filter(|n| n.op.kind() == kind).count()
}

#[test]
fn attentions_are_recognised_in_every_form() {
    for name in [
        "vit.legacy",
        "vit.dynamo",
        "vit_unfused.old",
        "vit_unfused.dynamo",
        "vit.static",
        "vit_torchvision.legacy",
        "vit_torchvision.dynamo",
    ] {
        let import = imported(name);
        assert_eq!(count(&import, "Attention"), 2, "{name}");
        assert_eq!(count(&import, "PrependToken"), 1, "{name}");
        assert_eq!(count(&import, "AddPosition"), 1, "{name}");
        assert_eq!(count(&import, "SelectToken"), 1, "{name}");
        assert_eq!(count(&import, "LayerNorm"), 5, "{name}");
    }
    for name in ["attention_separate.legacy", "attention_separate.dynamo", "attention_separate.old"] {
        let import = imported(name);
        let joined = import.graph.nodes.iter().filter(|n| matches!(&n.op, Op::Linear(l) if l.out_features == 36)).count();
        assert_eq!((count(&import, "Attention"), joined), (1, 1), "{name}: three layers become one");
        assert_eq!(count(&import, "Linear"), 3, "{name}");
    }
}

#[test]
fn names_stages_and_the_features_are_found() {
    let import = imported("vit.legacy");
    assert!(import.weights.contains_key("blocks.1.attn.qkv.weight"));
    assert!(import.weights.contains_key("cls_token") && import.weights.contains_key("pos_embed"));
    assert_eq!(import.graph.stages, ["stem", "blocks.0", "blocks.1", "head"]);
    assert_eq!(import.graph.node(import.graph.taps["features"]).shape, [24]);
    let import = imported("resnet_deep_stem.dynamo");
    assert_eq!(import.graph.stages, ["stem", "layer1", "layer2", "layer3", "layer4", "head"]);
    assert!(import.graph.split_at_stage(3).is_ok());
    assert!(import.graph.with_num_classes(2).is_ok());
}

#[test]
fn channels_last_is_no_node_and_preprocessing_is_told() {
    let import = imported("channels_last");
    assert!(import.info.channels_last);
    assert_eq!(import.graph.input_shape(), [3, 13, 11]);
    assert_eq!(import.info.output, ImportedOutput::Softmax);
    assert_eq!(import.info.input_affine.as_ref().map(Vec::len), Some(3));
    assert_eq!(count(&import, "ToTokens") + count(&import, "ToMap"), 0);
}

/// Every file with bytes cut off, and with bytes changed: an error or a graph, never a panic.
#[test]
fn broken_files_are_errors() {
    for name in ["vit.legacy", "halves.dynamo", "channels_last", "efficientnet_same.legacy"] {
        let bytes = std::fs::read(folder().join(format!("{name}.onnx"))).unwrap();
        let options = ImportOptions::default();
        for part in 1..40 {
            let cut = bytes.len() * part / 40;
            assert!(onnx::import(&bytes[..cut], &options).is_err(), "{name} cut to {cut} bytes");
        }
        // Nodes and shapes stand in the beginning and the end; weights between.
        let places: Vec<usize> = (0..1500).map(|i| (i * 7919) % bytes.len().min(9000)).collect();
        for (i, &at) in places.iter().enumerate() {
            let mut changed = bytes.clone();
            changed[at] = changed[at].wrapping_add([1, 0x80, 0x7f, 0xff, 13][i % 5]);
            if let Ok(import) = onnx::import(&changed, &options) {
                assert!(import.graph.check().is_ok(), "{name} changed at {at}");
            }
        }
    }
    assert!(onnx::import(&[], &ImportOptions::default()).is_err());
    assert!(onnx::import(b"no model at all", &ImportOptions::default()).is_err());
}
