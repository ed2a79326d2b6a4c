//! The published weights: name maps, class names, and, where the weights have been fetched, logits (golden/make.py wrote the expected ones).
#![allow(clippy::unwrap_used)]

#[path = "golden/formula.rs"]
mod formula;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fieldmark_zoo as zoo;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    size: usize,
    formula: Vec<f32>,
    picture: Vec<f32>,
}

#[test]
fn the_classes_are_imagenets() {
    let classes = zoo::imagenet_classes();
    assert_eq!(classes.len(), 1000);
    assert_eq!(classes.iter().collect::<BTreeSet<_>>().len(), 1000, "each name once");
    assert_eq!([classes[0], classes[281], classes[504], classes[999]], ["tench", "tabby", "coffee mug", "toilet tissue"]);
}

/// The parameters of a published file, in its own naming.
fn theirs(blocks: usize) -> Vec<String> {
    let bn = ["weight", "bias", "running_mean", "running_var"];
    let norm = |module: String| bn.map(|parameter| format!("{module}.{parameter}"));
    let mut names = vec!["_conv_stem.weight".to_string(), "_conv_head.weight".into(), "_fc.weight".into(), "_fc.bias".into()];
    names.extend(["_bn0", "_bn1"].into_iter().flat_map(|bn| norm(bn.into())));
    for block in 0..blocks {
        for (conv, bn) in [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")] {
            if block > 0 || conv != "_expand_conv" {
                names.push(format!("_blocks.{block}.{conv}.weight"));
                names.extend(norm(format!("_blocks.{block}.{bn}")));
            }
        }
    }
    names
}

#[test]
fn every_published_name_maps_to_one_of_the_graph() {
    for (name, blocks) in [("efficientnet_lite0", 16), ("efficientnet_lite1", 21), ("efficientnet_lite2", 21)] {
        let model = zoo::model(name).unwrap();
        let published = model.published().unwrap();
        let mapped: BTreeSet<String> = theirs(blocks).iter().map(|theirs| (published.rename)(theirs).unwrap()).collect();
        let graph = model.build(&model.config()).unwrap();
        let ours: BTreeSet<String> = graph.parameters().map(|p| p.name.clone()).collect();
        assert_eq!(mapped, ours, "{name}");
        for stranger in ["_fc", "fc.weight", "_blocks.40._bn1.weight", "_blocks.x._bn1.weight", "_blocks.0._expand_conv.weight", ""] {
            assert_eq!((published.rename)(stranger), None, "{stranger:?}");
        }
    }
}

#[test]
fn unpublished_models_say_which_are() {
    let error = zoo::load_published(zoo::model("resnet18").unwrap(), Path::new("x.pth")).unwrap_err();
    let expected =
        "model \"resnet18\" has no published weights here; those that have are efficientnet_lite0, efficientnet_lite1, efficientnet_lite2";
    assert_eq!(error.to_string(), expected);
}

/// The file somewhere in the cache of fetched things.
fn fetched(file: &str) -> Option<PathBuf> {
    fn find(folder: &Path, file: &str, depth: usize) -> Option<PathBuf> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        let here = paths.iter().find(|path| path.file_name().is_some_and(|name| name == file)).cloned();
        here.or_else(|| paths.iter().filter(|path| depth > 0 && path.is_dir()).find_map(|path| find(path, file, depth - 1)))
    }
    find(Path::new(&std::env::var_os("FIELDMARK_CACHE")?), file, 4)
}

/// A picture of 320 × 280 pixels: two waves and a little noise, as in `make.py`.
fn picture() -> images::Image {
    let (h, w) = (280, 320);
    let pixels = formula::uniform("picture").take(h * w * 3).enumerate().map(|(index, noise)| {
        let (channel, x, y) = (index % 3, index / 3 % w, index / 3 / w);
        let waves = (x * (channel + 2) % 256 + y * (3 - channel) % 256) as f64 / 2.0;
        (0.8 * waves + 50.0 * noise) as u8
    });
    images::Image::from_rgb8(w, h, pixels.collect()).unwrap()
}

#[test]
fn published_weights_give_the_originals_logits() {
    let golden: Golden = serde_json::from_str(include_str!("golden/published.json")).unwrap();
    for case in golden.cases {
        let model = zoo::model(&case.model).unwrap();
        let file = model.published().unwrap().file;
        let Some(path) = fetched(file) else {
            println!("skipped {}: {file} is not in FIELDMARK_CACHE", case.model);
            continue;
        };
        let (graph, weights) = zoo::load_published(model, &path).unwrap();
        let logits = |input: graph::Tensor| graph::reference::run(&graph, &weights, &input, &[]).unwrap().remove(0).data;
        let found = logits(formula::images([1, 3, case.size, case.size]));
        let difference = formula::relative_difference(&found, &case.formula);
        assert!(difference < 1e-4, "{}: relative difference {difference:e}", case.model);
        // Through our own resizing, which may differ from Pillow's by a rounding of a pixel here and there.
        let values = model.preprocess(&model.config()).apply(&picture());
        let found = logits(graph::Tensor::new([1, 3, case.size, case.size], values).unwrap());
        let difference = formula::relative_difference(&found, &case.picture);
        println!("{}: the picture's logits differ by {difference:e}", case.model);
        assert!(difference < 0.02, "{}: relative difference {difference:e} on the picture", case.model);
    }
}
