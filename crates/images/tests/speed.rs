//! Images per second on one thread. `cargo test --release -p fieldmark-images --test speed -- --nocapture` prints the numbers; the
//! test only fails when something is slower than a tenth of what was measured, so that a busy machine does not fail it.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use images::{Augment, Image, Preprocess};

fn photo(width: usize, height: usize) -> Image {
    let value = |at: usize| {
        let (x, y, c) = (at / 3 % width, at / 3 / width, at % 3);
        (128.0 + 60.0 * ((x as f32 / 29.0) + c as f32).sin() + 50.0 * (y as f32 / 17.0).cos() + ((x * 7 + y * 13) % 17) as f32) as u8
    };
    Image::from_rgb8(width, height, (0..width * height * 3).map(value).collect()).unwrap()
}

/// Time that this thread has computed, so that other work on the machine does not count; the clock on the wall where it is not known.
fn clock(start: Instant) -> f64 {
    let computed = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = computed.and_then(|text| text.split(' ').next()?.parse::<f64>().ok()).filter(|&value| value > 0.0);
    nanoseconds.map_or(start.elapsed().as_secs_f64(), |value| value * 1e-9)
}

fn rate(name: &str, at_least: f64, mut work: impl FnMut(u64) -> f32) {
    let mut best = 0.0f64;
    for _ in 0..3 {
        let start = Instant::now();
        let (before, mut count) = (clock(start), 0u64);
        while start.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(work(count));
            count += 1;
        }
        best = best.max(count as f64 / (clock(start) - before).max(1e-6));
    }
    println!("{name:<44} {best:>10.0} images/s");
    assert!(best > at_least, "{name}: {best:.0} images/s, expected more than {at_least}");
}

#[test]
fn images_per_second() {
    let small = photo(28, 28).to_gray8();
    let gray = Preprocess::gray([28, 28], 0.13, 0.31);
    let affine = Augment { rotate: 10.0, translate: 0.1, shear: 5.0, scale: [0.9, 1.1], ..Augment::none() };
    rate("28 px grey, evaluation", 10_000.0, |_| gray.apply(&small)[0]);
    rate("28 px grey, affine", 2_000.0, |sample| affine.apply(&small, &gray, 0, sample, 0)[0]);

    let photo = photo(500, 375);
    let rgb = Preprocess::imagenet([224, 224]);
    let jpeg = images::encode_jpeg(&photo, 90);
    let heavy = Augment {
        rotate: 10.0,
        shear: 5.0,
        hue: 0.05,
        gamma: 0.2,
        blur_probability: 0.3,
        noise_probability: 0.3,
        noise_std: 0.02,
        erase_probability: 0.3,
        ..Augment::standard()
    };
    rate("500x375 to 224 px, evaluation", 50.0, |_| rgb.apply(&photo)[0]);
    rate("500x375 to 224 px, Augment::light", 50.0, |sample| Augment::light().apply(&photo, &rgb, 0, sample, 0)[0]);
    rate("500x375 to 224 px, Augment::standard", 30.0, |sample| Augment::standard().apply(&photo, &rgb, 0, sample, 0)[0]);
    rate("500x375 to 224 px, everything", 20.0, |sample| heavy.apply(&photo, &rgb, 0, sample, 0)[0]);
    let options = rgb.decode_options();
    rate("500x375 JPEG, decode only", 10.0, |_| images::decode(&jpeg, &options).unwrap().width() as f32);
    rate("500x375 JPEG, decode and evaluation", 10.0, |_| rgb.apply(&images::decode(&jpeg, &options).unwrap())[0]);
}
