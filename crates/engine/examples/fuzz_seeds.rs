//! Writes the seeds of the fuzz targets, from the tests' golden files and from what the writers write:
//! `cargo run -p fieldmark-engine --example fuzz_seeds -- FOLDER` (see `docs/fuzzing.md`).

use std::fs;
use std::path::{Path, PathBuf};

use fieldmark_engine::{Metadata, Model};

type Done = Result<(), Box<dyn std::error::Error>>;

fn main() -> Done {
    let out = PathBuf::from(std::env::args().nth(1).ok_or("usage: fuzz_seeds FOLDER")?);
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    pictures(&crates.join("images/tests/golden"), &out)?;
    models(&out)?;
    weights(&out)?;
    copy(&crates.join("graph/tests/golden/pth"), "pth", &out.join("pth"))?;
    copy(&crates.join("graph/tests/golden/onnx"), "onnx", &out.join("onnx"))?;
    let mut idx = vec![0, 0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 3];
    idx.extend(0..18);
    write(&out, "idx", "pictures", &[0], &idx)?;
    for entry in fs::read_dir(crates.join("../recipes"))? {
        let path = entry?.path();
        write(&out, "recipe", &path.file_name().unwrap_or_default().to_string_lossy(), &[], &fs::read(&path)?)?;
    }
    Ok(())
}

fn write(out: &Path, target: &str, name: &str, before: &[u8], bytes: &[u8]) -> Done {
    let folder = out.join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(name), [before, bytes].concat())?)
}

/// The files of a folder that end in `.ending`.
fn copy(from: &Path, ending: &str, to: &Path) -> Done {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == ending) {
            fs::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

/// JPEG files without their first three bytes, behind a size; the others without what tells the format, behind its number.
fn pictures(golden: &Path, out: &Path) -> Done {
    for entry in fs::read_dir(golden)? {
        let path = entry?.path();
        let bytes = fs::read(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Small ones only: a fuzzer learns nothing from more pixels.
        if bytes.len() > 8192 {
            continue;
        }
        let starts: [&[u8]; 7] = [b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"P"];
        if let Some(rest) = bytes.strip_prefix(&[0xff, 0xd8, 0xff]) {
            write(out, "jpeg", &name, &[2], rest)?;
        } else if let Some((number, rest)) = starts.iter().enumerate().find_map(|(n, start)| Some((n as u8, bytes.strip_prefix(*start)?))) {
            write(out, "raster", &name, &[number], rest)?;
        }
    }
    Ok(())
}

fn models(out: &Path) -> Done {
    let mut b = graph::GraphBuilder::new("tiny", [3, 8, 8]);
    let x = b.conv("conv", b.input(), graph::Conv2d::new(3, 4, 3));
    let x = b.global_avg_pool("pool", x);
    let x = b.linear("fc", x, 2);
    let graph = b.finish(x)?;
    let metadata = Metadata::new(vec!["robin".into(), "wren".into()], images::Preprocess::imagenet([8, 8]));
    let model = Model { weights: graph.init_weights(7), graph, metadata };
    let path = out.join("model");
    fs::create_dir_all(&path)?;
    Ok(model.save(&path.join("tiny"))?)
}

fn weights(out: &Path) -> Done {
    let mut b = graph::GraphBuilder::new("tiny", [2, 4, 4]);
    let x = b.conv("conv", b.input(), graph::Conv2d::new(2, 2, 3));
    let x = b.global_avg_pool("pool", x);
    let graph = b.finish(x)?;
    let bytes = graph::weights::encode_safetensors(&graph.init_weights(1), &[("a".to_string(), "b".to_string())].into())?;
    write(out, "safetensors", "tiny", &[], &bytes)
}
