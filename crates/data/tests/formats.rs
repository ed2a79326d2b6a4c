//! Every layout, opened from files written here.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::Path;

use data::{Classes, DataError, Dataset, OpenOptions, Target, content_hash};
use images::DecodeOptions;

/// A binary PGM of 2x2 pixels.
fn picture(path: &Path, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut bytes = b"P5 2 2 255\n".to_vec();
    bytes.extend([value; 4]);
    fs::write(path, bytes).unwrap();
}

fn open(path: &Path) -> Dataset {
    Dataset::open(path.to_str().unwrap()).unwrap()
}

fn ids(dataset: &Dataset) -> Vec<&str> {
    dataset.samples.iter().map(|s| s.id.as_str()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn class_folders() {
    let dir = tempfile::tempdir().unwrap();
    picture(&dir.path().join("dog/b.pgm"), 1);
    picture(&dir.path().join("dog/deep/er/a.PGM"), 2);
    picture(&dir.path().join("cat/a.JPeG"), 3);
    picture(&dir.path().join("cat/.hidden.png"), 4);
    picture(&dir.path().join("loose.png"), 5);
    fs::write(dir.path().join("cat/notes.txt"), "x").unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    let dataset = open(dir.path());
    assert_eq!(ids(&dataset), ["cat/a.JPeG", "dog/b.pgm", "dog/deep/er/a.PGM"]);
    assert_eq!(dataset.classes.names(), ["cat", "dog"]);
    assert_eq!(dataset.samples[2].target, Some(Target::Label(1)));
    assert_eq!(dataset.class_counts(&[0, 1, 2]), [1, 2]);
    let warnings = dataset.warnings.join("\n");
    for part in ["loose.png", "notes.txt", "the folder `empty` holds no image"] {
        assert!(warnings.contains(part), "{warnings}");
    }
    assert!(!warnings.contains("hidden"));
    let image = dataset.image(1, &DecodeOptions::default()).unwrap();
    assert_eq!((image.width(), image.height()), (2, 2));
}

#[test]
fn splits_never_shift_labels() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["train/a", "train/b", "train/c", "Validation/b", "test/c"] {
        picture(&dir.path().join(path).join("1.png"), 0);
    }
    let dataset = open(dir.path());
    assert_eq!(dataset.classes.names(), ["a", "b", "c"]);
    assert_eq!(dataset.split_names(), ["test", "train", "val"]);
    assert_eq!(dataset.split("valid"), dataset.split("val"));
    let val = &dataset.samples[dataset.split("val")[0]];
    assert_eq!((val.id.as_str(), &val.target), ("Validation/b/1.png", &Some(Target::Label(1))));
    assert_eq!(dataset.samples[dataset.split("test")[0]].target, Some(Target::Label(2)));
    assert!(dataset.warnings.contains(&"the split `val` has no sample of the class `a`".to_string()), "{:?}", dataset.warnings);
}

#[test]
fn a_class_called_train_is_a_class() {
    let dir = tempfile::tempdir().unwrap();
    picture(&dir.path().join("train/1.png"), 0);
    picture(&dir.path().join("car/1.png"), 0);
    assert_eq!(open(dir.path()).classes.names(), ["car", "train"]);
}

#[test]
fn manifests_keep_every_column() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c d"] {
        picture(&dir.path().join(format!("{name}.pgm")), 7);
    }
    let csv =
        "\u{feff}Path;Label;split;group;weight;camera\n./a.pgm;yes;train;g1;2;north\n\"b.pgm\";no;Valid;;;\"so;uth\"\nc d.pgm;;test;g1;;\n";
    fs::write(dir.path().join("set.csv"), csv).unwrap();
    let dataset = open(&dir.path().join("set.csv"));
    assert_eq!(ids(&dataset), ["a.pgm", "b.pgm", "c d.pgm"]);
    assert_eq!(dataset.classes.names(), ["no", "yes"]);
    let [a, b, c] = &dataset.samples[..] else { panic!() };
    assert_eq!((a.target.clone(), a.weight, a.group.as_deref()), (Some(Target::Label(1)), 2.0, Some("g1")));
    assert_eq!((b.split.as_deref(), b.weight, b.group.as_deref()), (Some("val"), 1.0, None));
    assert_eq!(b.columns["camera"], "so;uth");
    assert_eq!(c.target, None);
    assert!(dataset.warnings.contains(&"rows without a label: 1".to_string()));
    assert_eq!(dataset.groups().unwrap(), ["group:g1", "sample:b.pgm", "group:g1"]);
    assert_eq!(dataset.column_names(), ["camera"]);
    assert_eq!(dataset.strata(&[]), [2, 1, 0]);
    assert_eq!(dataset.strata(&["group"]), [2, 1, 0]);
}

#[test]
fn several_labels_and_probabilities() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        picture(&dir.path().join(format!("{name}.pgm")), 7);
    }
    fs::write(dir.path().join("several.tsv"), "image\tlabels\na.pgm\tred|blue | red\nb.pgm\t\n").unwrap();
    let dataset = open(&dir.path().join("several.tsv"));
    assert_eq!(dataset.classes.names(), ["blue", "red"]);
    assert_eq!(dataset.samples[0].target, Some(Target::Labels(vec![0, 1])));
    assert_eq!(dataset.samples[1].target, Some(Target::Labels(vec![])));

    fs::write(dir.path().join("soft.csv"), "file,p:up,p:down\na.pgm,0.25,0.75\nb.pgm,1,0\n").unwrap();
    let dataset = open(&dir.path().join("soft.csv"));
    assert_eq!(dataset.classes.names(), ["down", "up"]);
    assert_eq!(dataset.samples[0].target, Some(Target::Soft(vec![0.75, 0.25])));
    assert_eq!(dataset.class_counts(&[0, 1]), [1, 1]);
}

#[test]
fn named_columns_and_a_class_list() {
    let dir = tempfile::tempdir().unwrap();
    picture(&dir.path().join("a.pgm"), 7);
    fs::write(dir.path().join("m.csv"), "photo,finding,label\na.pgm,ill,ignored\n").unwrap();
    let options = OpenOptions {
        path_column: Some("photo".into()),
        label_column: Some("finding".into()),
        class_list: Some(Classes::in_order(vec!["well".into(), "odd".into(), "ill".into()]).unwrap()),
        ..OpenOptions::default()
    };
    let dataset = Dataset::open_with(dir.path().join("m.csv").to_str().unwrap(), &options).unwrap();
    assert_eq!(dataset.samples[0].target, Some(Target::Label(2)));
    assert_eq!(dataset.samples[0].columns["label"], "ignored");
}

#[test]
fn repeated_rows_are_left_out_with_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    picture(&dir.path().join("a.pgm"), 7);
    picture(&dir.path().join("b.pgm"), 7);
    fs::write(dir.path().join("m.csv"), "path,label\na.pgm,x\nb.pgm,y\n./a.pgm,x\n").unwrap();
    let dataset = open(&dir.path().join("m.csv"));
    assert_eq!(dataset.len(), 2);
    assert_eq!(dataset.warnings, ["left out, as they repeat an earlier row: row 4 (as row 2)"]);
}

fn write_idx(dir: &Path, stem: &str, labels: &[u8], zip: bool) {
    let mut images = vec![0, 0, 8, 3];
    for size in [labels.len() as u32, 2, 3] {
        images.extend(size.to_be_bytes());
    }
    images.extend(labels.iter().flat_map(|&l| [l; 6]));
    let mut numbers = vec![0, 0, 8, 1];
    numbers.extend((labels.len() as u32).to_be_bytes());
    numbers.extend(labels);
    for (kind, bytes) in [("images-idx3", images), ("labels-idx1", numbers)] {
        let name = format!("{stem}-{kind}-ubyte");
        match zip {
            true => fs::write(dir.join(name + ".gz"), gzip(&bytes)).unwrap(),
            false => fs::write(dir.join(name), bytes).unwrap(),
        }
    }
}

#[test]
fn idx_plain_and_gzipped() {
    let dir = tempfile::tempdir().unwrap();
    write_idx(dir.path(), "train", &[3, 1, 10], true);
    write_idx(dir.path(), "t10k", &[1], false);
    let dataset = open(dir.path());
    assert_eq!(dataset.classes.names(), ["1", "3", "10"]);
    assert_eq!(
        ids(&dataset),
        ["t10k-images-idx3-ubyte#0", "train-images-idx3-ubyte#0", "train-images-idx3-ubyte#1", "train-images-idx3-ubyte#2"]
    );
    assert_eq!(dataset.split("test"), [0]);
    assert_eq!(dataset.samples[3].target, Some(Target::Label(2)));
    let image = dataset.image(1, &DecodeOptions::default()).unwrap();
    assert_eq!((image.width(), image.height(), image.channels()), (3, 2, 1));
    assert_eq!(*image.pixels(), images::Pixels::U8(vec![3; 6]));
    let one = open(&dir.path().join("train-images-idx3-ubyte.gz"));
    assert_eq!(one.len(), 3);
}

#[test]
fn manifests_name_pictures_of_idx_files() {
    let dir = tempfile::tempdir().unwrap();
    write_idx(dir.path(), "train", &[3, 1, 10], true);
    write_idx(dir.path(), "t10k", &[1], false);
    let rows = "train-images-idx3-ubyte#1,one,train\ntrain-images-idx3-ubyte#2,ten,train\nt10k-images-idx3-ubyte#0,one,test\n";
    fs::write(dir.path().join("m.csv"), format!("path,label,split\n{rows}train-images-idx3-ubyte#3,one,train\nno#1,one,train\n")).unwrap();
    let dataset = open(&dir.path().join("m.csv"));
    assert_eq!(ids(&dataset), ["train-images-idx3-ubyte#1", "train-images-idx3-ubyte#2", "t10k-images-idx3-ubyte#0"]);
    assert_eq!(dataset.samples[1].target, Some(Target::Label(1)));
    assert_eq!(*dataset.image(1, &DecodeOptions::default()).unwrap().pixels(), images::Pixels::U8(vec![10; 6]));
    // The third says that the split `test` lacks a class.
    assert_eq!(dataset.warnings.len(), 3, "{:?}", dataset.warnings);
    assert!(dataset.warnings[0].contains("train-images-idx3-ubyte#3 is missing"), "{:?}", dataset.warnings);
}

#[test]
fn elpv_layout_hard_and_soft() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [("1", "0.0", "mono"), ("2", "0.3333333333333333", "poly"), ("3", "0.6666666666666666", "mono"), ("4", "1.0", "poly")];
    let mut text = String::new();
    for (n, p, kind) in rows {
        picture(&dir.path().join(format!("images/cell{n}.png")), 9);
        text.push_str(&format!("images/cell{n}.png  {p}                 {kind}\n"));
    }
    fs::write(dir.path().join("labels.csv"), text).unwrap();
    let dataset = open(dir.path());
    assert_eq!(dataset.classes.names(), ["functional", "defective"]);
    assert_eq!(dataset.class_counts(&[0, 1, 2, 3]), [2, 2]);
    assert_eq!(dataset.samples[1].columns["type"], "poly");
    assert_eq!(dataset.samples[1].columns["probability"], "0.333");
    assert_eq!(dataset.strata(&["type"]), [0, 1, 2, 3]);
    let soft = Dataset::open_with(dir.path().to_str().unwrap(), &OpenOptions { soft: true, ..OpenOptions::default() }).unwrap();
    assert_eq!(soft.samples[3].target, Some(Target::Soft(vec![0.0, 1.0])));
}

#[test]
fn optdigits_are_scaled() {
    let dir = tempfile::tempdir().unwrap();
    let row = |v: &str, digit: &str| format!("{}{digit}\n", format!("{v},").repeat(64));
    fs::write(dir.path().join("digits.csv.gz"), gzip((row("16", "7") + &row("8", "0")).as_bytes())).unwrap();
    let dataset = open(dir.path());
    assert_eq!(dataset.classes.len(), 10);
    assert_eq!(dataset.samples[0].target, Some(Target::Label(7)));
    assert_eq!(*dataset.image(0, &DecodeOptions::default()).unwrap().pixels(), images::Pixels::U8(vec![255; 64]));
    assert_eq!(*dataset.image(1, &DecodeOptions::default()).unwrap().pixels(), images::Pixels::U8(vec![128; 64]));
}

#[test]
fn relabelling_goes_by_name_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    picture(&dir.path().join("a/1.png"), 0);
    picture(&dir.path().join("b/1.png"), 0);
    let mut dataset = open(dir.path());
    dataset.remap_classes(&Classes::in_order(vec!["b".into(), "z".into(), "a".into()]).unwrap()).unwrap();
    assert_eq!(dataset.samples[0].target, Some(Target::Label(2)));
    let error = dataset.remap_classes(&Classes::sorted(["a", "y"])).unwrap_err();
    assert_eq!(error.to_string(), "the data set has classes that the class list lacks: b (the list has: a, y)");
    assert_eq!(dataset.samples[0].target, Some(Target::Label(2)));
}

#[test]
fn fingerprints_follow_the_content_and_not_the_place() {
    let fill = |dir: &Path, extra: bool| {
        picture(&dir.join("a/1.pgm"), 0);
        picture(&dir.join("b/1.pgm"), 0);
        if extra {
            fs::write(dir.join("b/1.pgm"), b"longer than it was before").unwrap();
        }
        let dataset = open(dir);
        (dataset.fingerprint(), content_hash(&dataset.samples[0]).unwrap(), content_hash(&dataset.samples[1]).unwrap())
    };
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let first = fill(dirs[0].path(), false);
    assert_eq!(first, fill(dirs[1].path(), false));
    assert_eq!(first.1, first.2);
    let other = fill(dirs[2].path(), true);
    assert_ne!(first.0, other.0);
    assert_ne!(first.2, other.2);
}

#[test]
fn a_name_that_was_not_fetched_says_how() {
    let dir = tempfile::tempdir().unwrap();
    let options = OpenOptions { cache: Some(dir.path().into()), ..OpenOptions::default() };
    let error = Dataset::open_with("elpv", &options).unwrap_err();
    assert!(error.to_string().ends_with("run `fieldmark fetch elpv`"), "{error}");
    let error = Dataset::open_with("efficientnet_lite0", &options).unwrap_err();
    assert!(matches!(error, DataError::NotADataset { .. }), "{error}");
    let error = Dataset::open_with("no-such-thing", &options).unwrap_err().to_string();
    assert!(error.contains("mnist, elpv, textile, optdigits"), "{error}");
}
