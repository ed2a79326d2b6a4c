//! The `fieldmark` command as its user meets it: exit code, stdout and stderr of the real binary on small drawn pictures, without network
//! and without a cache.
//!
//! Snapshots lie in `snapshots/`; after a wanted change, look at the difference and accept it with `INSTA_UPDATE=always`.
#![allow(clippy::unwrap_used)]

mod audit;
mod bad_input;
mod copies;
mod exchange;
mod interrupt;
mod predict;
mod quantize;
mod train;
mod usage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use images::{Image, encode_png};
use serde_json::Value;

/// A network and a number of epochs that take well under a second.
const QUICK: [&str; 8] = ["--method", "scratch", "--set", "fit.epochs=1", "--set", "fit.batch_size=8", "--set", "evaluate.bootstrap=20"];

/// A working folder that goes away with the test; the cache inside it is empty.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// `count` bright pictures under `NAME/day` and as many dark ones under `NAME/night`.
    fn sky(&self, name: &str, count: usize) {
        draw_sky(&self.path(name), count);
    }

    fn command(&self) -> Command {
        command(self.0.path())
    }

    fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Told {
        Told::new(self, self.command().args(args).stdin(Stdio::null()).output().unwrap())
    }

    /// `fieldmark train DATA` with [`QUICK`] and more arguments.
    fn train(&self, data: &str, more: &[&str]) -> Told {
        self.run(["train", data].into_iter().chain(QUICK).chain(more.iter().copied()))
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldmark"));
    command.current_dir(folder).env("FIELDMARK_CACHE", folder.join("cache")).env_remove("FIELDMARK_LOG");
    command
}

/// What the user reads, with the working folder as `[DIR]`.
struct Told {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Told {
    fn new(place: &Place, output: Output) -> Self {
        let folder = place.0.path().canonicalize().unwrap();
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace(&*folder.to_string_lossy(), "[DIR]");
            text.replace(&*place.0.path().to_string_lossy(), "[DIR]")
        };
        let told = Self { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) };
        assert!(!told.stderr.contains("panicked"), "{}", told.stderr);
        told
    }

    /// Exit code and stderr, without the lines whose numbers differ from machine to machine.
    fn words(&self) -> String {
        let lines = self.stderr.lines().filter(|line| !line.trim_start().starts_with("epoch ") && !line.contains("images/s"));
        format!("exit {}\n{}", self.code, lines.collect::<Vec<_>>().join("\n"))
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// [`words`](Self::words) under a title, for snapshots of many cases.
    fn case(&self, title: &str) -> String {
        format!("== {title}\n{}\n\n", self.words())
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    #[track_caller]
    fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

/// A grey picture around a shade, with a pattern of its own.
fn picture(shade: u8, number: usize) -> Image {
    let pixel = |i: usize| shade.wrapping_add(((i * 7 + number * 13 + i / 28 * 3) % 41) as u8);
    Image::from_gray8(28, 28, (0..28 * 28).map(pixel).collect()).unwrap()
}

fn draw_sky(folder: &Path, count: usize) {
    for (class, shade) in [("day", 190), ("night", 20)] {
        fs::create_dir_all(folder.join(class)).unwrap();
        for number in 0..count {
            fs::write(folder.join(class).join(format!("{number:02}.png")), encode_png(&picture(shade, number))).unwrap();
        }
    }
}

/// A manifest with the columns path, label and more, of 8 pictures a class in `sky/`.
fn manifest(head: &str, row: impl Fn(&str, usize) -> String) -> String {
    let rows = ["day", "night"].into_iter().flat_map(|class| (0..8).map(move |i| (class, i)));
    let rows = rows.map(|(class, i)| format!("sky/{class}/{i:02}.png,{}\n", row(class, i)));
    format!("{head}\n{}", rows.collect::<String>())
}

/// A PNG whose header says 40000×40000 pixels.
fn huge_png() -> Vec<u8> {
    let chunk = |kind: &[u8; 4], body: &[u8]| {
        let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
        let covered = [kind.as_slice(), body].concat();
        bytes.extend(&covered);
        bytes.extend(crc32(&covered).to_be_bytes());
        bytes
    };
    let mut head = [40_000u32.to_be_bytes(), 40_000u32.to_be_bytes()].concat();
    head.extend([8, 2, 0, 0, 0]);
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &head), chunk(b"IDAT", &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]), chunk(b"IEND", b"")].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 });
    !bytes.iter().fold(!0, step)
}

/// A run folder with a model that tells day from night, trained once for all tests.
fn model() -> &'static str {
    static MODEL: OnceLock<String> = OnceLock::new();
    MODEL.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sky-model");
        let _ = fs::remove_dir_all(&folder);
        draw_sky(&folder.join("sky"), 24);
        let settings = ["fit.epochs=6", "fit.batch_size=4", "fit.lr=0.003", "evaluate.bootstrap=20"];
        let mut command = command(&folder);
        command.args(["train", "sky", "--method", "scratch", "--seed", "1", "--out", "run"]);
        let output = command.args(settings.iter().flat_map(|s| ["--set", *s])).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder.join("run").to_str().unwrap().to_string()
    })
}
