#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::tensor::Tensor;

#[derive(Deserialize)]
struct Expected {
    files: BTreeMap<String, BTreeMap<String, Values>>,
}

#[derive(Deserialize)]
struct Values {
    shape: Vec<usize>,
    data: Vec<f64>,
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pth").join(name)
}

fn message(name: &str) -> String {
    let error = read_pth(&golden(name)).unwrap_err().to_string();
    error.split_once(": ").unwrap().1.to_owned()
}

#[test]
fn state_dicts_written_by_pytorch() {
    let expected: Expected = serde_json::from_slice(&std::fs::read(golden("expected.json")).unwrap()).unwrap();
    assert_eq!(expected.files.len(), 11);
    for (name, tensors) in &expected.files {
        let weights = read_pth(&golden(&format!("{name}.pth"))).unwrap();
        assert_eq!(weights.keys().collect::<Vec<_>>(), tensors.keys().collect::<Vec<_>>(), "{name}");
        for (key, tensor) in tensors {
            assert_eq!(weights[key].shape, tensor.shape, "{name}: {key}");
            let values: Vec<f32> = tensor.data.iter().map(|&v| v as f32).collect();
            assert_eq!(weights[key].data, values, "{name}: {key}");
        }
    }
}

#[test]
fn pickles_that_want_more_are_refused_by_name() {
    let refused = |wants: &str| format!("refused: the pickle wants to {wants}; only state dicts of tensors are read");
    assert_eq!(message("calls_system.pth"), refused("call \"posix.system\""));
    assert_eq!(message("calls_eval.pth"), refused("call \"__builtin__.eval\""));
    assert_eq!(message("legacy_calls_system.pth"), refused("call \"posix.system\""));
    assert_eq!(message("opcode_inst.pth"), refused("run the opcode STRING"));
    assert_eq!(message("opcode_newobj.pth"), refused("run the opcode NEWOBJ"));
}

#[test]
fn depth_costs_no_stack() {
    let tuples = [b")".as_slice(), &vec![0x85; 1 << 20], b"."].concat();
    assert!(pickle::read(&tuples).is_ok());
}

#[test]
fn other_files_are_explained() {
    for (name, expected) in [
        ("expected.json", "not a PyTorch file"),
        ("no_pickle.pth", "without a data.pkl"),
        ("list.pth", "expected a state dict"),
        ("no_tensors.pth", "it has the keys \"lr\""),
        ("out_of_bounds.pth", "tensor \"w\": shape [5], strides [1] and offset 0 leave its storage of 4 values"),
        ("negative_offset.pth", "offset -1 leave its storage"),
        ("huge_expanded.pth", "larger than the file can hold"),
        ("overflowing.pth", "larger than the file can hold"),
        ("storage_too_long.pth", "more than the file can hold"),
        ("storage_missing.pth", "archive/data/0"),
    ] {
        let found = message(name);
        assert!(found.contains(expected), "{name}: {found}");
    }
    let missing = read_pth(&golden("none.pth")).unwrap_err();
    assert!(matches!(missing, WeightsError::Io { .. }), "{missing}");
}

#[test]
fn every_truncation_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pth");
    for name in ["nested.pth", "legacy.pth"] {
        let whole = std::fs::read(golden(name)).unwrap();
        for length in (0..whole.len()).step_by(11).chain([whole.len() - 1]) {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(read_pth(&path).is_err(), "{name} cut to {length} bytes");
        }
    }
}

fn some_weights() -> Weights {
    let mut weights = Weights::new();
    weights.insert("b".into(), Tensor::new([2, 2], vec![1.0, -0.5, f32::MIN_POSITIVE, 3e38]).unwrap());
    weights.insert("a.weight".into(), Tensor::new([3], vec![0.0, 1.0, 2.0]).unwrap());
    weights.insert("scalar".into(), Tensor::new([], vec![7.0]).unwrap());
    weights.insert("empty".into(), Tensor::zeros([0, 3]));
    weights
}

#[test]
fn safetensors_round_trip_and_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let metadata: BTreeMap<String, String> = (0..9).map(|i| (format!("key {i}"), format!("\"value\" {i}"))).collect();
    write_safetensors(&path, &some_weights(), &metadata).unwrap();
    assert_eq!(read_safetensors_with_metadata(&path).unwrap(), (some_weights(), metadata.clone()));
    assert_eq!(std::fs::read(&path).unwrap(), encode_safetensors(&some_weights(), &metadata).unwrap());
    // An older file is replaced; no temporary file stays.
    write_safetensors(&path, &Weights::new(), &BTreeMap::new()).unwrap();
    assert!(read_safetensors(&path).unwrap().is_empty());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn safetensors_errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    write_safetensors(&path, &some_weights(), &BTreeMap::new()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = read_safetensors(&path).unwrap_err().to_string();
        assert!(error.contains("m.safetensors") && error.contains("cut short"), "{error}");
    }
    let wrong = Weights::from([("w".to_owned(), Tensor { shape: vec![2], data: vec![0.0] })]);
    let error = write_safetensors(&path, &wrong, &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("tensor \"w\" has shape [2] but 1 values"), "{error}");
    let error = write_safetensors(&folder.path().join("no/such/folder.safetensors"), &Weights::new(), &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, WeightsError::Io { .. }), "{error}");
}

#[test]
fn safetensors_of_other_types_become_f32() {
    use safetensors::{Dtype, tensor::TensorView};
    let halves: Vec<u8> = [1.0f32, -2.5].iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
    let brains: Vec<u8> = [1.0f32, -2.5].iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
    let doubles: Vec<u8> = [1.0f64, -2.5].iter().flat_map(|v| v.to_le_bytes()).collect();
    let views = [("f16", Dtype::F16, &halves), ("bf16", Dtype::BF16, &brains), ("f64", Dtype::F64, &doubles)]
        .map(|(name, dtype, data)| (name, TensorView::new(dtype, vec![2], data).unwrap()));
    let bytes = safetensors::serialize(views, None).unwrap();
    let (weights, _) = decode_safetensors(&bytes, &PathBuf::from("x")).unwrap();
    assert_eq!(weights.len(), 3);
    assert!(weights.values().all(|t| t.data == [1.0, -2.5]), "{weights:?}");
    let views = [("e8", TensorView::new(Dtype::F8_E4M3, vec![4], &[0; 4]).unwrap())];
    let error = decode_safetensors(&safetensors::serialize(views, None).unwrap(), &PathBuf::from("x")).unwrap_err().to_string();
    assert!(error.contains("tensor \"e8\" is of type F8_E4M3"), "{error}");
}

#[test]
fn renaming_reports_every_collision() {
    let renamed = rename(some_weights(), |name| match name {
        "scalar" => None,
        other => Some(format!("net.{other}")),
    });
    assert_eq!(renamed.unwrap().keys().collect::<Vec<_>>(), ["net.a.weight", "net.b", "net.empty"]);
    let error = rename(some_weights(), |name| Some(name[..1].replace('b', "a"))).unwrap_err();
    assert_eq!(error.to_string(), "renaming weights: \"a.weight\" and \"b\" would both be \"a\"");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the bytes: a result or an error, never a panic.
    #[test]
    fn mutated_pth_files_never_panic(
        name in prop::sample::select(vec!["nested.pth", "strided_shared.pth", "deflated.pth", "dtypes.pth", "legacy.pth", "legacy_strided.pth"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = std::fs::read(golden(name)).unwrap();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let _ = read_pth(file.path());
    }

    /// Pickles are checked by a sum inside the zip file, so they are changed here without it.
    #[test]
    fn mutated_pickles_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8), cut in any::<prop::sample::Index>()) {
        let file = std::fs::File::open(golden("nested.pth")).unwrap();
        let mut archive = zip::ZipArchive::new(file).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut archive.by_name("nested/data.pkl").unwrap(), &mut bytes).unwrap();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let _ = pickle::read(&bytes);
let _ = pickle::read(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn any_pickle_bytes_never_panic(bytes in prop::collection::vec(prop::sample::select(b"(.012NJKMGXBCTUQRbcdlthjqrsuae}]){\x80\x85\x86\x87\x88\x8a\x8c\x93\x94\x95\x00\x01\x02\n".to_vec()), 0..60)) {
        let _ = pickle::read(&bytes);
    }

    #[test]
    fn mutated_safetensors_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = encode_safetensors(&some_weights(), &BTreeMap::from([("a".to_owned(), "b".to_owned())])).unwrap();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let _ = decode_safetensors(&bytes, &PathBuf::from("x"));
    }
}
