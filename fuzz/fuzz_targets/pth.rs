//! PyTorch state dicts, zip and legacy.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = graph::weights::decode_pth(data, Path::new("fuzz"));
});
