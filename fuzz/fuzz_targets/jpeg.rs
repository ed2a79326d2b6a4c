//! JPEG: full decoding and decoding at part of the size. What the reduced decoder accepts has the size that the full decoder finds.
#![no_main]

use images::{DecodeOptions, Limits, Preprocess, Resize, decode, decode_for};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first byte chooses how small the picture is wanted.
    let Some((&first, rest)) = data.split_first() else { return };
    let bytes = [&[0xff, 0xd8, 0xff], rest].concat();
    let limits = Limits { max_pixels: 1 << 20, max_memory: 64 << 20, ..Limits::default() };
    let options = DecodeOptions { limits, ..DecodeOptions::default() };
    let side = 1 << (first % 8);
    let preprocess = Preprocess { resize: Resize::Squash, ..Preprocess::imagenet([side, side]) };
    let reduced = decode_for(&bytes, &preprocess, &options);
    let full = decode(&bytes, &options);
    for error in [reduced.as_ref().err(), full.as_ref().err()].into_iter().flatten() {
        assert!(!error.to_string().contains("gave up") || full.is_err(), "a panic inside the reduced decoder");
    }
    if let (Ok(reduced), Ok(full)) = (&reduced, &full) {
        assert_eq!(reduced.whole(), [full.height(), full.width()]);
        let mut values = vec![0.0; 3 * side * side];
        preprocess.apply_picture(reduced, &mut values);
        assert!(values.iter().all(|value| value.is_finite()));
    }
});
