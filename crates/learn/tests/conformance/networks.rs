//! Whole networks: blocks that the engine fuses, random graphs, every architecture of the zoo.

use graph::Graph;
use zoo::{Config, Stem};

use crate::cases::Case;
use crate::tolerances::Kind;

#[path = "../../../engine/tests/networks/mod.rs"]
mod blocks;

/// Random graphs and blocks of some layers.
pub fn blocks() -> Vec<Case> {
    blocks::blocks().into_iter().map(|graph| Case { kind: Kind::Network, graph }).collect()
}

/// The architecture with its published stem at a small size, or its published size where that is small.
pub fn small(name: &str) -> Graph {
    let model = zoo::model(name).unwrap();
    let config = Config { num_classes: 10, ..model.config() };
    let image_size = match (name, config.image_size[0]) {
        (_, ..=64) => config.image_size,
        // Whole patches of 16.
        (name, _) if name.starts_with("vit") => [32, 48],
        _ => [40, 32],
    };
    model.build(&Config { image_size, stem: Stem::Standard, ..config }).unwrap()
}

/// Every architecture with its published stem, and some with that for small images.
pub fn zoo() -> Vec<Case> {
    let standard = zoo::names().map(|name| Case { kind: Kind::Zoo, graph: small(name) });
    let stems = [("efficientnet_lite0", 33), ("mobilenet_v2", 32), ("resnet18", 32), ("vit_tiny_patch16_224", 32)].map(|(name, size)| {
        let model = zoo::model(name).unwrap();
        let config = Config { image_size: [size; 2], stem: Stem::Small, num_classes: 10, ..model.config() };
        let mut graph = model.build(&config).unwrap();
        graph.name = format!("{name}, small stem");
        Case { kind: Kind::Zoo, graph }
    });
    standard.chain(stems).collect()
}
