//! Safetensors; what is read is written and read again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = Path::new("fuzz");
    let Ok((weights, metadata)) = graph::weights::decode_safetensors(data, path) else { return };
    let bytes = graph::weights::encode_safetensors(&weights, &metadata).expect("what was read can be written");
    let (again, _) = graph::weights::decode_safetensors(&bytes, path).expect("what was written can be read");
    assert_eq!(weights.len(), again.len());
});
