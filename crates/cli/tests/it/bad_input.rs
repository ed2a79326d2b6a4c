//! What the user reads when the input is bad.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use insta::assert_snapshot;

use super::{Place, Told, encode_png, huge_png, manifest, model, picture};

#[test]
fn an_empty_folder() {
    let place = Place::new();
    fs::create_dir(place.path("photos")).unwrap();
    assert_snapshot!("empty_folder", place.train("photos", &[]).words());
    place.write("photos/notes.doc", "not a picture");
    assert_snapshot!("folder_without_images", place.run(["info", "photos"]).words());
    assert_snapshot!("nothing_to_predict", place.run(["predict", model(), "photos"]).words());
    place.write("photos/1.png", encode_png(&picture(9, 9)));
    assert_snapshot!("images_outside_class_folders", place.train("photos", &[]).words());
}

#[test]
fn one_class_only() {
    let place = Place::new();
    place.sky("sky", 6);
    fs::remove_dir_all(place.path("sky/night")).unwrap();
    assert_snapshot!(place.train("sky", &["--out", "run"]).words());
    assert!(!place.path("run").exists(), "no run folder is left behind");
}

#[test]
fn a_class_missing_from_a_split() {
    let place = Place::new();
    ["train", "val", "test"].iter().for_each(|split| place.sky(&format!("sky/{split}"), 6));
    fs::remove_dir_all(place.path("sky/test/night")).unwrap();
    // The splits are drawn alike.
    let told = place.train("sky", &["--out", "run", "--leaks", "unchecked"]).expect(0);
    assert_snapshot!(told.words());
    assert!(told.stdout.contains("roc_auc_macro            undefined [1]"), "{}", told.stdout);
    assert!(told.stdout.contains("\n[1] the truth is all of one class"), "{}", told.stdout);
    let report = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(report.contains("the split `test` has no sample of the class `night`"));
}

/// Pictures that cannot be read among others that can.
fn broken(place: &Place) {
    place.sky("sky", 12);
    place.write("sky/day/text.jpg", "this is no picture");
    let whole = encode_png(&picture(190, 3));
    place.write("sky/day/cut.png", &whole[..whole.len() / 2]);
    place.write("sky/day/zero.png", b"");
    place.write("sky/night/huge.png", huge_png());
}

const BROKEN: [&str; 4] = ["day/cut.png", "day/text.jpg", "day/zero.png", "night/huge.png"];

#[test]
fn broken_images_are_listed_set_aside_and_counted() {
    let place = Place::new();
    broken(&place);
    let told = place.train("sky", &["--out", "run"]).expect(0);
    assert_snapshot!("broken_images", told.words());
    assert!(told.stdout.contains("\nset aside, as they could not be read: 4 of 28 images; the report lists them\n"), "{}", told.stdout);
    let report = fs::read_to_string(place.path("run/report.html")).unwrap();
    for (id, reason) in BROKEN.iter().zip(["cut short", "not an image", "0 bytes", "40000×40000"]) {
        assert!(report.contains(id) && report.contains(reason), "the report lacks {id}: {reason}");
    }
    let result: serde_json::Value = serde_json::from_str(&fs::read_to_string(place.path("run/result.json")).unwrap()).unwrap();
    assert_eq!(result["run"]["set_aside"].as_array().unwrap().len(), 4);
    let split = fs::read_to_string(place.path("run/split.csv")).unwrap();
    assert!(!BROKEN.iter().any(|id| split.contains(id)), "{split}");
    let judged = place.run(["evaluate", model(), "sky", "--bootstrap", "20", "--json"]).expect(0);
    assert_snapshot!("broken_images_evaluated", judged.words());
    assert_eq!((&judged.json()["n"], &judged.json()["set_aside"]), (&24.into(), &4.into()));
}

#[test]
fn nothing_but_broken_images() {
    let place = Place::new();
    for id in ["day/1.png", "day/2.png", "night/1.png"] {
        place.write(&format!("sky/{id}"), "no picture");
    }
    assert_snapshot!("all_broken_train", place.train("sky", &["--out", "run"]).words());
    assert_snapshot!("all_broken_evaluate", place.run(["evaluate", model(), "sky"]).words());
    assert_snapshot!("all_broken_preview", place.run(["augment-preview", "sky"]).words());
}

#[test]
fn images_that_cannot_be_opened() {
    let place = Place::new();
    place.sky("sky", 6);
    symlink("nowhere.png", place.path("sky/night/dangling.png")).unwrap();
    fs::create_dir(place.path("sky/night/folder.png")).unwrap();
    assert_snapshot!(place.run(["info", "sky"]).expect(0).words());
}

#[test]
fn manifests() {
    let place = Place::new();
    place.sky("sky", 8);
    let good = manifest("path,label", |class, _| class.into());
    let cases: [(&str, Vec<u8>); 11] = [
        ("missing_file", format!("{good}sky/day/none.png,day\n").into()),
        ("missing_all_files", b"path,label\nx/1.png,day\nx/2.png,night\n".into()),
        ("duplicate_rows", format!("{good}sky/day/03.png,day\n").into()),
        ("conflicting_rows", format!("{good}sky/day/03.png,night\n").into()),
        ("wrong_columns", manifest("picture,kind", |class, _| class.into()).into()),
        ("no_label_column", manifest("path,kind", |class, _| class.into()).into()),
        ("no_rows", b"path,label\n".into()),
        ("nothing_at_all", b"".into()),
        ("short_row", format!("{good}sky/day/03.png\n").into()),
        ("latin_1", [good.as_bytes(), b"sky/day/03.png,f\xfcr\n"].concat()),
        ("bad_weight", manifest("path,label,weight", |class, i| format!("{class},{}", if i == 3 { "much" } else { "1" })).into()),
    ];
    let mut told = String::new();
    for (name, text) in cases {
        place.write("sky.csv", text);
        told += &place.run(["info", "sky.csv"]).case(name);
    }
    place.write("sky.csv", good);
    told += &place.run(["info", "sky.csv", "--label-column", "kind"]).case("a column that was asked for");
    told += &place.run(["info", "sky/day/03.png"]).case("a picture as data set");
    assert_snapshot!("manifests", told);
}

#[test]
fn a_run_goes_on_without_missing_and_repeated_rows() {
    let place = Place::new();
    place.sky("sky", 8);
    place.write("sky.csv", manifest("path,label", |class, _| class.into()) + "sky/day/none.png,day\nsky/day/03.png,day\n");
    let told = place.train("sky.csv", &["--out", "run"]).expect(0);
    assert!(told.stdout.contains("sky.csv (16 images)"), "{}", told.stdout);
    let report = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(report.contains("none.png is missing; set aside") && report.contains("as they repeat an earlier row"));
}

#[test]
fn an_unknown_label() {
    let place = Place::new();
    place.sky("sky", 8);
    place.write("sky.csv", manifest("path,label", |class, i| if (class, i) == ("night", 2) { "dusk".into() } else { class.into() }));
    let judge = |data: &str| Told::words(&place.run(["evaluate", model(), data])).replace(model(), "[MODEL]");
    assert_snapshot!("unknown_label", judge("sky.csv"));
    fs::rename(place.path("sky/night"), place.path("sky/dusk")).unwrap();
    assert_snapshot!("unknown_class_folder", judge("sky"));
}

#[test]
#[cfg(target_os = "linux")]
fn names_that_are_not_utf_8() {
    let place = Place::new();
    place.sky("sky", 8);
    let odd = |bytes: &[u8]| place.path("sky/day").join(std::ffi::OsStr::from_bytes(bytes));
    for name in [b"\xff\xfe.png", b"\xff\xfd.png"] {
        fs::write(odd(name), encode_png(&picture(190, 5))).unwrap();
    }
    place.train("sky", &["--out", "run"]).expect(0);
    let split = fs::read_to_string(place.path("run/split.csv")).unwrap();
    assert!(split.contains("day/\\xFF\\xFD.png,") && split.contains("day/\\xFF\\xFE.png,"), "both are told apart: {split}");
    let output = place.command().args(["predict", model(), "--json"]).arg(odd(b"\xff\xfe.png")).output().unwrap();
    let told = Told::new(&place, output).expect(0);
    assert_eq!(told.json()["label"], "day");
    // The same file out of a list on stdin.
    place.write("list", [place.path("sky/day").as_os_str().as_bytes(), b"/\xff\xfe.png\r\n"].concat());
    let list = Stdio::from(fs::File::open(place.path("list")).unwrap());
    let output = place.command().args(["predict", model(), "-", "--json"]).stdin(list).output().unwrap();
    assert_eq!(Told::new(&place, output).expect(0).json()["label"], "day");
}

#[test]
fn symlink_loops() {
    let place = Place::new();
    place.sky("sky", 6);
    symlink("..", place.path("sky/day/up")).unwrap();
    symlink("self", place.path("sky/night/self")).unwrap();
    let told = place.train("sky", &["--out", "run"]).expect(0);
    assert_snapshot!(told.words());
    assert!(told.stdout.contains("sky (12 images)"), "{}", told.stdout);
}

/// The disk is full as far as the program can tell: no file may grow beyond 100 KiB. Root or not, the system keeps to that.
#[test]
fn a_full_disk_while_training() {
    let place = Place::new();
    place.sky("sky", 8);
    let words: Vec<&str> = ["train", "sky"].into_iter().chain(super::QUICK).chain(["--out", "run"]).collect();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -f 200; trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_fieldmark")]).args(&words);
    shell.current_dir(place.path("")).env("FIELDMARK_CACHE", place.path("cache"));
    let told = Told::new(&place, shell.output().unwrap());
    assert_snapshot!("full_disk", told.words());
    let left: Vec<String> = fs::read_dir(place.path("run")).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into()).collect();
    assert!(!left.iter().any(|name| name.contains("partial") || name.contains("checkpoint") || name.contains("tmp")), "{left:?}");
    place.run(words).expect(0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_for_single_files() {
    let place = Place::new();
    place.sky("sky", 2);
    let full = |args: &[&str]| place.run(args.iter().copied()).words();
    assert_snapshot!("full_disk_picture", full(&["augment-preview", "sky", "--out", "/dev/full"]));
    assert_snapshot!("full_disk_report", full(&["evaluate", model(), "sky", "--bootstrap", "0", "--report", "/dev/full"]));
    let stdout = fs::File::create("/dev/full").unwrap();
    let output = place.command().args(["predict", model(), "sky"]).stdout(stdout).output().unwrap();
    assert_snapshot!("full_disk_stdout", Told::new(&place, output).words());
}

#[test]
fn an_output_folder_that_cannot_be_written() {
    let place = Place::new();
    place.sky("sky", 6);
    place.write("file", "in the way");
    assert_snapshot!("output_below_a_file", place.train("sky", &["--out", "file/run"]).words());
    assert_snapshot!("output_is_a_file", place.train("sky", &["--out", "file"]).words());
    assert_snapshot!("picture_without_folder", place.run(["augment-preview", "sky", "--out", "none/sheet.png"]).words());
    // Root may write to a folder whose mode forbids it, so one that nobody can write to.
    if cfg!(target_os = "linux") {
        let told = place.train("sky", &["--out", "/proc/run"]).expect(1);
        assert!(told.stderr.contains("error: cannot create a run folder in /proc: "), "{}", told.stderr);
        assert!(!told.stderr.contains("reading images"), "it is said before the work: {}", told.stderr);
    }
}

#[test]
fn model_files_that_are_damaged() {
    let place = Place::new();
    place.sky("sky", 1);
    let whole = fs::read(format!("{}/model.safetensors", model())).unwrap();
    let mut altered = whole.clone();
    *altered.last_mut().unwrap() ^= 1;
    let cases = [
        ("half", whole[..whole.len() / 2].to_vec()),
        ("in_the_header", whole[..100].to_vec()),
        ("empty", Vec::new()),
        ("picture", encode_png(&picture(9, 9))),
    ];
    let mut told = String::new();
    for (name, bytes) in cases {
        place.write("model.safetensors", bytes);
        told += &place.run(["predict", "model.safetensors", "sky"]).expect(1).case(name);
    }
    told += &place.run(["predict", "sky", "sky"]).expect(2).case("a folder without a model");
    told += &place.run(["predict", "resnet1000", "sky"]).expect(2).case("an unknown name");
    told += &place.run(["predict", "efficientnet_lite0", "sky"]).expect(1).case("published weights that are not fetched");
    assert_snapshot!("models", told);
    place.write("model.safetensors", altered);
    for args in
        [vec!["predict", "model.safetensors", "sky"], vec!["info", "model.safetensors"], vec!["evaluate", "model.safetensors", "sky"]]
    {
        let told = place.run(args).expect(1);
        let message = "error: model.safetensors: altered since it was written (checksum ";
        assert!(told.stderr.starts_with(message) && told.stderr.ends_with("; copy the file again, or train again\n"), "{}", told.stderr);
    }
}
