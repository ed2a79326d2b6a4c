//! Copies a folder of MNIST's IDX files with wrong training labels, to see how well they are found again.
//!
//! `mnist_noise FROM TO uniform|asymmetric RATE SEED`. The test files of the copy are its training files again, so that a run trained on it predicts
//! what it was trained on (LabelFix). Which labels were changed follows from the label files of the two folders.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use audit::self_test::{LabelNoise, inject};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, kind, rate, seed] = args.as_slice() else { panic!("mnist_noise FROM TO uniform|asymmetric RATE SEED") };
    let (from, to) = (Path::new(from), Path::new(to));
    let rate = rate.parse().unwrap();
    let noise = match kind.as_str() {
        "uniform" => LabelNoise::Uniform { rate },
        "asymmetric" => LabelNoise::Asymmetric { rate, to: vec![] },
        other => panic!("uniform or asymmetric, not {other}"),
    };
    std::fs::create_dir_all(to).unwrap();
    for file in ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"] {
        std::fs::copy(from.join("train-images-idx3-ubyte"), to.join(file)).unwrap();
    }
    let mut bytes = std::fs::read(from.join("train-labels-idx1-ubyte")).unwrap();
    let labels: Vec<usize> = bytes[8..].iter().map(|&b| usize::from(b)).collect();
    let injected = inject(&labels, 10, &noise, seed.parse().unwrap()).unwrap();
    bytes[8..].iter_mut().zip(&injected.labels).for_each(|(b, &l)| *b = l as u8);
    for file in ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"] {
        std::fs::write(to.join(file), &bytes).unwrap();
    }
    println!("{} of {} labels changed", injected.changed.iter().filter(|c| **c).count(), labels.len());
}
