//! IDX files of pictures, plain and gzipped (the first byte chooses).
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let ending = if first % 2 == 0 { "idx" } else { "gz" };
    let path = std::env::temp_dir().join(format!("fuzz-{}.{ending}", std::process::id()));
    std::fs::write(&path, rest).expect("the temporary folder can be written");
    if let Ok(images) = data::IdxImages::read(&path) {
        let pixels: usize = images.shape().iter().product();
        // Pictures of no pixels have no upper bound in number.
        for index in 0..images.len().min(16) {
            assert_eq!(images.pixels(index).len(), pixels);
            assert!(images.image(index).is_ok());
        }
        assert!(images.image(images.len()).is_err());
    }
});
