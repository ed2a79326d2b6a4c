//! Every model against its PyTorch original: parameter counts and logits (golden/make.py wrote the expected values).
#![allow(clippy::unwrap_used)]

#[path = "golden/formula.rs"]
mod formula;

use std::collections::BTreeMap;

use fieldmark_zoo::{self as zoo, Config, Stem};
use serde::Deserialize;

/// Allowed differences as shares of the greatest logit. Both sides sum in different orders: ReLU6 networks with many layers differ by up to
/// 3e-5 (Lite4), all others by 1e-6. An eps of 1e-5 instead of 1e-6 in ViT's norms changes its logits by 1e-5, hence the closer bound.
const RELU6: f32 = 1e-4;
const CLOSE: f32 = 5e-6;

#[derive(Deserialize)]
struct Golden {
    parameters: BTreeMap<String, usize>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    in_chans: usize,
    num_classes: usize,
    image_size: [usize; 2],
    small: bool,
    batch: usize,
    parameters: usize,
    tensors: usize,
    logits: Vec<f32>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/models.json")).unwrap()
}

#[test]
fn published_settings_have_the_originals_parameter_counts() {
    let golden = golden();
    assert_eq!(zoo::names().collect::<Vec<_>>().len(), golden.parameters.len());
    for name in zoo::names() {
        let model = zoo::model(name).unwrap();
        assert_eq!(model.build(&model.config()).unwrap().parameter_count(), golden.parameters[name], "{name}");
    }
}

/// Compares all cases of one model, of which there are at least `least`.
fn agree(name: &str, least: usize, tolerance: f32) {
    let cases: Vec<Case> = golden().cases.into_iter().filter(|case| case.model == name).collect();
    assert!(cases.len() >= least, "{} cases of {name}", cases.len());
    for case in cases {
        let model = zoo::model(name).unwrap();
        let config = Config {
            stem: if case.small { Stem::Small } else { Stem::Standard },
            ..model.config().with_classes(case.num_classes).with_input(case.in_chans, case.image_size)
        };
        let graph = model.build(&config).unwrap();
        let weights = formula::weights(&graph);
        assert_eq!(graph.parameter_count(), case.parameters, "{name} {config:?}");
        assert_eq!(weights.len(), case.tensors, "{name} {config:?}");
        let [h, w] = case.image_size;
        let input = formula::images([case.batch, case.in_chans, h, w]);
        let logits = graph::reference::run(&graph, &weights, &input, &[]).unwrap();
        let difference = formula::relative_difference(&logits[0].data, &case.logits);
        println!("{name} {:?}: {difference:e}", case.image_size);
        assert!(difference < tolerance, "{name} {config:?}: relative difference {difference:e}");
    }
}

macro_rules! parity {
    ($($name:ident: $cases:literal within $tolerance:ident),* $(,)?) => {
        $(#[test] fn $name() { agree(stringify!($name), $cases, $tolerance); })*
    };
}

parity! {
    vit_tiny_patch16_224: 3 within CLOSE,
    resnet18: 2 within CLOSE,
    resnet34: 2 within CLOSE,
    resnet50: 2 within CLOSE,
    mobilenet_v2: 2 within RELU6,
    efficientnet_lite0: 3 within RELU6,
    efficientnet_lite1: 1 within RELU6,
    efficientnet_lite2: 1 within RELU6,
    efficientnet_lite3: 1 within RELU6,
    efficientnet_lite4: 2 within RELU6,
    lenet5: 2 within CLOSE,
    tiny_cnn: 2 within CLOSE,
}
