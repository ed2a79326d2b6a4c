//! Networks and data sets of a few kilobytes.

use std::sync::Arc;

use data::{Classes, Dataset, LoaderOptions, Sample, Source, Target};
use graph::{Activation, Conv2d, Graph, GraphBuilder, Pool2d, Tensor, Weights};
use images::{ChannelMode, Image, Interpolation, Preprocess, Resize};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Values in -1..1.
pub fn noise(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data = (0..shape.iter().product::<usize>()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor { shape: shape.to_vec(), data }
}

/// Weights in which nothing is zero or one: statistics and norms too.
pub fn weights(graph: &Graph, seed: u64) -> Weights {
    let mut all = graph.init_weights(seed);
    for (i, p) in graph.parameters().enumerate() {
        let mut t = noise(&p.shape, seed + i as u64);
        match p.role {
            graph::Role::Weight | graph::Role::Embedding => continue,
            graph::Role::RunningVar | graph::Role::NormWeight => t.data.iter_mut().for_each(|x| *x = 1.0 + 0.5 * *x),
            graph::Role::Bias | graph::Role::NormBias | graph::Role::RunningMean => t.data.iter_mut().for_each(|x| *x *= 0.3),
        }
        all.insert(p.name.clone(), t);
    }
    all
}

/// conv, norm, relu, pool; conv, norm, relu6, dropout; pool, head. Stages `stem`, `middle`, `head`.
pub fn network(classes: usize, dropout: f32) -> Graph {
    let mut b = GraphBuilder::new("tiny", [1, 8, 8]);
    let x = b.input();
    let x = b.conv("stem.conv", x, Conv2d::new(1, 6, 3).padding(1));
    let x = b.batch_norm("stem.bn", x, 1e-5);
    let x = b.activation("stem.act", x, Activation::Relu);
    let x = b.max_pool("stem.pool", x, Pool2d::new(2, 2, 0));
    b.stage("middle");
    let x = b.conv("middle.conv", x, Conv2d::new(6, 8, 3).padding(1).with_bias());
    let x = b.batch_norm("middle.bn", x, 1e-5);
    let x = b.activation("middle.act", x, Activation::Relu6);
    let x = b.add("middle.drop", graph::Op::Dropout { p: dropout }, &[x]);
    b.stage("head");
    let x = b.global_avg_pool("pool", x);
    b.tap("features", x);
    let x = b.linear("fc", x, classes);
    b.finish(x).unwrap()
}

/// `n` pictures of 8 × 8: class 0 has a bright left half, class 1 a bright right half, both with noise.
pub fn halves(n: usize, seed: u64) -> Arc<Dataset> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut samples = Vec::new();
    for i in 0..n {
        let label = i % 2;
        let pixels: Vec<u8> = (0..64)
            .map(|p| {
                let bright = (p % 8 < 4) == (label == 0);
                rng.random_range(0..120) + if bright { 90 } else { 0 }
            })
            .collect();
        let image = Image::from_gray8(8, 8, pixels).unwrap();
        let mut sample = Sample::new(format!("{i}"), Source::Memory(Arc::new(image)));
        sample.target = Some(Target::Label(label));
        samples.push(sample);
    }
    Arc::new(Dataset {
        name: "halves".into(),
        root: std::path::PathBuf::new(),
        classes: Classes::in_order(vec!["left".into(), "right".into()]).unwrap(),
        samples,
        warnings: Vec::new(),
    })
}

/// How 8 × 8 grey pictures are read.
pub fn loading() -> LoaderOptions {
    LoaderOptions::new(Preprocess {
        size: [8, 8],
        resize: Resize::Squash,
        interpolation: Interpolation::Bilinear,
        antialias: true,
        channels: ChannelMode::Gray,
        mean: vec![0.5],
        std: vec![0.25],
        background: [255; 3],
    })
}
