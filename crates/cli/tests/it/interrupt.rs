//! Ctrl-C in the middle of a training, and going on from there.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Place, Told};

/// Everything with a state of its own is on: averages, moments, dropout, augmentation, a schedule.
const TRAIN: [&str; 27] = [
    "train",
    "sky",
    "--method",
    "scratch",
    "--set",
    "fit.epochs=6",
    "--set",
    "fit.batch_size=4",
    "--set",
    "fit.ema=0.9",
    "--set",
    "network.drop_rate=0.2",
    "--set",
    "augment.horizontal_flip=0.5",
    "--set",
    "fit.schedule=\"cosine\"",
    "--set",
    "evaluate.bootstrap=0",
    "--seed",
    "3",
    "--set",
    "fit.optimizer=\"adamw\"",
    "--set",
    "data.test=0.1",
    "--out",
    "RUN",
    "--json",
];

fn args(run: &'static str) -> [&'static str; 27] {
    TRAIN.map(|word| if word == "RUN" { run } else { word })
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_weights() {
    let place = Place::new();
    place.sky("sky", 30);
    place.run(args("whole")).expect(0);
    let child = place.command().args(args("cut")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let child = wait_for(child, || place.path("cut/checkpoint.safetensors").exists());
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let told = Told::new(&place, child.wait_with_output().unwrap()).expect(1);
    assert_eq!(told.stdout, "", "no result yet");
    assert!(told.stderr.contains("\nstopping: the work done so far is being saved (Ctrl-C again ends at once)\n"), "{}", told.stderr);
    let last = told.stderr.lines().last().unwrap();
    assert_eq!(last, "error: interrupted; the same command with --out cut goes on from where it stopped");
    assert!(!place.path("cut/model.safetensors").exists(), "it was stopped before the end: {}", told.stderr);
    let told = place.run(args("cut")).expect(0);
    assert!(!told.stderr.contains("epoch 1:"), "the first epoch is not repeated: {}", told.stderr);
    let [whole, cut] = ["whole", "cut"].map(|run| fs::read(place.path(run).join("model.safetensors")).unwrap());
    assert!(whole == cut, "the resumed run ended in other weights than the uninterrupted one");
    let epochs = |run: &str| fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap().lines().count();
    assert_eq!((epochs("whole"), epochs("cut")), (6, 6));
}

/// Waits until `ready`; fails when the program ends or three minutes pass before that.
fn wait_for(mut child: Child, ready: impl Fn() -> bool) -> Child {
    let start = Instant::now();
    while !ready() {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("ended too early ({status}): {}", String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr));
        }
        assert!(start.elapsed() < Duration::from_secs(180), "no checkpoint after three minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}
