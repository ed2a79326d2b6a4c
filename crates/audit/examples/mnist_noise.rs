//! MNIST with wrong training labels, to see how well they are found again.
//!
//! `mnist_noise FROM TO uniform|asymmetric RATE SEED`. A folder TO gets copies of FROM's IDX files; its test files are its training files again, so
//! that a run trained on it predicts what it was trained on (LabelFix). A file TO.csv in the folder FROM becomes a manifest of both splits with
//! wrong labels in the training split, and TO.truth.csv the plan of a reviewer who knows every label that was changed.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::AtomicBool;

use audit::self_test::{LabelNoise, inject};
use audit::{Check, Decision, PixelOptions, Plan, Verdict, measure};
use data::Dataset;

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
    let mut bytes = std::fs::read(from.join("train-labels-idx1-ubyte")).unwrap();
    let labels: Vec<usize> = bytes[8..].iter().map(|&b| usize::from(b)).collect();
    let injected = inject(&labels, 10, &noise, seed.parse().unwrap()).unwrap();
    if to.extension().is_some_and(|e| e == "csv") {
        manifest(from, to, &labels, &injected.labels);
    } else {
        bytes[8..].iter_mut().zip(&injected.labels).for_each(|(b, &l)| *b = l as u8);
        folder(from, to, &bytes);
    }
    println!("{} of {} labels changed", injected.changed.iter().filter(|c| **c).count(), labels.len());
}

fn folder(from: &Path, to: &Path, labels: &[u8]) {
    std::fs::create_dir_all(to).unwrap();
    for file in ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"] {
        std::fs::copy(from.join("train-images-idx3-ubyte"), to.join(file)).unwrap();
    }
    for file in ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"] {
        std::fs::write(to.join(file), labels).unwrap();
    }
}

fn manifest(from: &Path, to: &Path, labels: &[usize], noisy: &[usize]) {
    let dataset = Dataset::open(from.to_str().unwrap()).unwrap();
    let table = measure(&dataset, &PixelOptions::default(), &|_, _| (), &AtomicBool::new(false)).unwrap();
    let (mut text, mut plan) = (String::from("path,label,split\n"), Plan::new());
    for (i, sample) in dataset.samples.iter().enumerate() {
        let (file, index) = sample.id.rsplit_once('#').unwrap();
        let index: usize = index.parse().unwrap();
        let training = file.starts_with("train");
        let given = if training { noisy[index] } else { sample.target.as_ref().unwrap().argmax().unwrap() };
        text.push_str(&format!("{},{given},{}\n", sample.id, sample.split.as_deref().unwrap()));
        if training && given != labels[index] {
            let decision = Decision { id: sample.id.clone(), verdict: Verdict::Relabel(labels[index].to_string()), note: String::new() };
            plan.set(&table.get(i).unwrap().content, Some(Check::Label), decision);
        }
    }
    std::fs::write(to, text).unwrap();
    plan.write(&to.with_extension("truth.csv")).unwrap();
}
