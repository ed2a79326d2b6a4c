//! PNG, BMP, GIF, TIFF, WebP and PNM: the first byte chooses the format, whose first bytes are put in front.
#![no_main]

use images::{DecodeOptions, Limits, decode};
use libfuzzer_sys::fuzz_target;

const STARTS: [&[u8]; 7] = [b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"P"];

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let bytes = [STARTS[usize::from(first) % STARTS.len()], rest].concat();
    let limits = Limits { max_pixels: 1 << 20, max_memory: 64 << 20, ..Limits::default() };
    let _ = decode(&bytes, &DecodeOptions { limits, ..DecodeOptions::default() });
});
