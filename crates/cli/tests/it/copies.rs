//! Copies between splits, and copies of pictures without what they should not tell.

use std::fs;

use images::{DecodeOptions, Image, decode, encode_png};

use super::Place;

const SIDE: usize = 84;

/// A picture unlike every other: blocks of shades that only `number` decides.
fn blocks(number: usize, light: usize) -> Vec<u8> {
    let shade = |i: usize| {
        let (x, y) = (i % SIDE / 12, i / SIDE / 12);
        40 + light + (x * 7 + y * 13 + number * 17 + x * y * (number + 3)) * 29 % 120
    };
    encode_png(&Image::from_gray8(SIDE, SIDE, (0..SIDE * SIDE).map(|i| shade(i) as u8).collect()).unwrap())
}

#[test]
fn a_leak_stops_training_unless_it_is_allowed() {
    let place = Place::new();
    for (split, numbers) in [("train", 0..12), ("test", 12..18)] {
        for n in numbers {
            place.write(&format!("parts/{split}/{}/{n}.png", ["a", "b"][n % 2]), blocks(n, 0));
        }
    }
    let told = place.train("parts", &["--out", "clean", "--json"]).expect(0).json();
    assert_eq!((&told["leaks"]["policy"], &told["leaks"]["compared"]), (&"stop".into(), &18.into()));
    assert_eq!(told["leaks"]["across"], serde_json::json!([]));

    place.write("parts/test/a/copy.png", blocks(4, 0));
    place.write("parts/test/b/brighter.png", blocks(5, 25));
    let told = place.train("parts", &["--out", "leaking"]).expect(1);
    assert!(
        told.stderr.contains(
            "error: 2 of the 8 images of the split test are copies of images that training sees: test/a/copy.png (the same pixels"
        ) && told.stderr.contains("`--leaks allow`"),
        "{}",
        told.stderr
    );
    assert!(!place.path("leaking").exists(), "no run folder is left behind");
    let told = place.train("parts", &["--out", "leaking", "--leaks", "allow"]).expect(0);
    assert!(told.stdout.contains("too good by copies: 2 of the images that judge"), "{}", told.stdout);
    let result: serde_json::Value = serde_json::from_slice(&fs::read(place.path("leaking/result.json")).unwrap()).unwrap();
    assert_eq!((&result["run"]["leaks"]["policy"], result["run"]["leaks"]["across"].as_array().unwrap().len()), (&"allow".into(), 2));
    let told = place.train("parts", &["--out", "unseen", "--leaks", "unchecked", "--json"]).expect(0).json();
    assert_eq!((&told["leaks"]["policy"], &told["leaks"]["compared"]), (&"unchecked".into(), &0.into()));
}

#[test]
fn copies_are_written_and_originals_and_other_files_stay() {
    let place = Place::new();
    let mut original = blocks(1, 0);
    original.splice(33..33, *b"\0\0\0\x0btEXtAuthor\0Jane\0\0\0\0");
    place.write("photos/day/a.png", &original);
    place.write("photos/b.png", blocks(2, 0));
    let told = place.run(["strip-metadata", "photos", "--out", "clean"]).expect(0);
    assert_eq!(told.stdout, "2 pictures copied to clean\n");
    assert_eq!(fs::read(place.path("clean/day/a.png")).unwrap(), blocks(1, 0));
    assert_eq!(fs::read(place.path("photos/day/a.png")).unwrap(), original);
    let told = place.run(["strip-metadata", "photos", "--out", "clean"]).expect(1);
    assert!(told.stderr.contains("exists already") && told.stderr.contains("2 of 2 pictures were not copied"), "{}", told.stderr);

    place.write("faces.csv", "path,x,y,w,h\nday/a.png,0,0,84,40\n");
    let told = place.run(["anonymise", "photos", "--regions", "faces.csv", "--out", "shared", "--json"]).expect(0).json();
    assert_eq!((&told["copied"], &told["failed"]), (&2.into(), &serde_json::json!([])));
    let open = |path: &str| decode(&fs::read(place.path(path)).unwrap(), &DecodeOptions::default()).unwrap();
    assert_ne!(open("shared/day/a.png").pixels(), open("photos/day/a.png").pixels());
    assert_eq!(open("shared/b.png").pixels(), open("photos/b.png").pixels());
    place.write("faces.csv", "path,x,y,w,h\nday/c.png,0,0,84,40\n");
    let told = place.run(["anonymise", "photos", "--regions", "faces.csv", "--out", "again"]).expect(1);
    assert!(told.stderr.contains("faces.csv names day/c.png") && !place.path("again").exists(), "{}", told.stderr);
}
