//! The model file. Built for fuzzing, the reader ignores the checksum, which would turn every change away; a model that is accepted must
//! classify a picture.
#![no_main]

use std::path::Path;

use engine::{Classifier, EngineOptions, Model};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(model) = Model::decode(data, Path::new("fuzz")) else { return };
    let cost: usize = model.graph.nodes.iter().map(|node| node.shape.iter().product::<usize>()).sum();
    if cost > 1 << 20 {
        return;
    }
    let classifier = Classifier::with_options(model, EngineOptions { threads: 1, ..EngineOptions::default() });
    if let Ok(classifier) = classifier {
        let image = images::Image::from_gray8(5, 4, (0..20).map(|value| value * 12).collect()).expect("the sizes fit");
        let prediction = classifier.classify(&image).expect("a model that was accepted runs");
        assert_eq!(prediction.probabilities.len(), classifier.classes().len());
    }
});
