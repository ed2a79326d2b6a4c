//! What every graph of the zoo promises besides its values: stages, taps, rates, and errors that name the setting.
#![allow(clippy::unwrap_used)]

use fieldmark_zoo::{self as zoo, Config, Stem, ZooError};
use graph::Op;

fn every_graph() -> Vec<graph::Graph> {
    zoo::names()
        .map(|name| {
            let model = zoo::model(name).unwrap();
            model.build(&model.config().with_classes(3)).unwrap()
        })
        .collect()
}

#[test]
fn every_stage_and_the_features_are_tapped() {
    for graph in every_graph() {
        assert_eq!(graph.stages.first().unwrap(), "stem", "{}", graph.name);
        assert_eq!(graph.stages.last().unwrap(), "head", "{}", graph.name);
        for (index, stage) in graph.stages.iter().enumerate() {
            let tapped = graph.node(graph.taps[stage]);
            assert_eq!(tapped.stage, index, "{}: {stage}", graph.name);
            let last = graph.nodes.iter().rposition(|node| node.stage == index).unwrap();
            assert_eq!(graph.taps[stage].0, last, "{}: {stage} is tapped before its end", graph.name);
        }
        assert_eq!(graph.node(graph.taps["features"]).shape.len(), 1, "{}", graph.name);
        assert_eq!(graph.taps["head"], graph.output);
        // The head has the classifier's weights and no others: replacing it replaces what depends on the classes.
        let head = graph.stages.len() - 1;
        let weighted = graph.nodes.iter().filter(|node| node.stage == head && !node.parameters.is_empty());
        assert_eq!(weighted.map(|node| node.parameters[0].shape[0]).collect::<Vec<_>>(), [3], "{}", graph.name);
    }
}

#[test]
fn rates_become_dropout_and_linearly_growing_drop_path() {
    let resnet = zoo::model("resnet18").unwrap();
    let graph = resnet.build(&Config { drop_rate: 0.25, drop_path_rate: 0.7, ..resnet.config() }).unwrap();
    let drops: Vec<f32> = graph.nodes.iter().filter_map(|n| if let Op::DropPath { p } = n.op { Some(p) } else { None }).collect();
    assert_eq!(drops.len(), 7, "the first block keeps its branch");
    assert!(drops.iter().enumerate().all(|(i, p)| (p - 0.1 * (i + 1) as f32).abs() < 1e-6), "{drops:?}");
    assert!(graph.nodes.iter().any(|node| node.op == Op::Dropout { p: 0.25 }));
    for name in ["mobilenet_v2", "efficientnet_lite0", "vit_tiny_patch16_224"] {
        let model = zoo::model(name).unwrap();
        let graph = model.build(&Config { drop_path_rate: 0.2, ..model.config() }).unwrap();
        assert!(graph.nodes.iter().any(|node| matches!(node.op, Op::DropPath { .. })), "{name}");
    }
}

#[test]
fn the_stem_follows_the_image_size_unless_forced() {
    let model = zoo::model("mobilenet_v2").unwrap();
    let height = |size: usize, stem: Stem| {
        let graph = model.build(&Config { stem, ..model.config().with_input(3, [size; 2]) }).unwrap();
        graph.node(graph.taps["stem"]).shape[1]
    };
    assert_eq!([height(64, Stem::Auto), height(65, Stem::Auto)], [64, 33]);
    assert_eq!([height(64, Stem::Standard), height(96, Stem::Small)], [32, 96]);
}

#[test]
fn wrong_settings_are_named() {
    let message = |name: &str, change: fn(Config) -> Config| {
        let model = zoo::model(name).unwrap();
        let error = model.build(&change(model.config())).unwrap_err();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    };
    assert_eq!(message("resnet18", |c| c.with_classes(0)), "model \"resnet18\", num_classes: expected at least 1, found 0");
    assert_eq!(
        message("vit_tiny_patch16_224", |c| c.with_input(3, [224, 230])),
        "model \"vit_tiny_patch16_224\", image_size: expected multiples of the patch size 16, found [224, 230]"
    );
    assert_eq!(
        message("tiny_cnn", |c| Config { drop_path_rate: 0.1, ..c }),
        "model \"tiny_cnn\", drop_path_rate: expected 0 (it has no residual blocks), found 0.1"
    );
    assert_eq!(
        message("lenet5", |c| Config { drop_rate: f32::NAN, ..c }),
        "model \"lenet5\", drop_rate: expected a probability in 0..1, found NaN"
    );
    let small = message("lenet5", |c| c.with_input(1, [6, 6]));
    assert!(small.contains("model \"lenet5\" cannot be built") && small.contains("in node \"conv2\""), "{small}");
    let unknown = zoo::model("resnet19").unwrap_err();
    assert!(matches!(unknown, ZooError::Unknown { .. }) && unknown.to_string().contains("resnet18, resnet34"), "{unknown}");
    for size in 1..40 {
        for name in zoo::names() {
            let model = zoo::model(name).unwrap();
            // Tiny images either build or are refused; nothing panics.
            for stem in [Stem::Auto, Stem::Standard] {
                let built = model.build(&Config { stem, ..model.config().with_input(2, [size, 40]) });
                assert!(built.is_ok() || matches!(built, Err(ZooError::Graph { .. } | ZooError::Config { .. })), "{name} {size}");
            }
        }
    }
}

#[test]
fn preprocessing_is_the_originals() {
    let of = |name: &str, in_chans: usize, size: usize| {
        let model = zoo::model(name).unwrap();
        model.preprocess(&model.config().with_input(in_chans, [size; 2]))
    };
    let lite = of("efficientnet_lite0", 3, 224);
    assert_eq!((lite.shape(), lite.mean, lite.std), ([3, 224, 224], vec![0.5; 3], vec![0.5; 3]));
    assert_eq!(lite.resize, images::Resize::ShorterSide { crop_pct: 0.875 });
    assert_eq!(lite.interpolation, images::Interpolation::Bicubic);
    assert_eq!(of("resnet18", 3, 224), images::Preprocess::imagenet([224; 2]));
    let grey = of("resnet18", 1, 28);
    assert_eq!((grey.shape(), grey.channels), ([1, 28, 28], images::ChannelMode::Gray));
    assert_eq!(grey.resize, images::Resize::ShorterSide { crop_pct: 1.0 });
    assert!((of("tiny_cnn", 1, 28).mean[0] - 0.1307).abs() < 1e-6);
}
