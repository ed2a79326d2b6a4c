//! ONNX files: a graph that is imported passes its own check, with weights that fit.
#![no_main]

use graph::onnx::{ImportOptions, import};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(imported) = import(data, &ImportOptions::default()) {
        assert!(imported.graph.check().is_ok());
        assert!(imported.graph.check_weights(&imported.weights).is_ok());
    }
});
