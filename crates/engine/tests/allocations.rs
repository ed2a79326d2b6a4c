//! After the first run, a run allocates nothing: memory of activations and kernels is kept.
#![allow(clippy::unwrap_used)]

use fieldmark_engine::{Engine, EngineOptions};

#[test]
fn a_later_run_allocates_nothing() {
    for name in ["efficientnet_lite0", "mobilenet_v2", "resnet18", "vit_tiny_patch16_224"] {
        let model = zoo::model(name).unwrap();
        let config = zoo::Config { image_size: [64; 2], num_classes: 10, ..model.config() };
        let graph = model.build(&config).unwrap();
        // The count is of this thread: with one, it runs every part. (With more, a thread that takes a part larger than any it had may grow
        // its scratch memory, until it has seen the largest.)
        let mut engine = Engine::new(&graph, &graph.init_weights(1), EngineOptions { threads: 1, ..EngineOptions::default() }).unwrap();
        let (two, one) = (vec![0.5; 2 * 3 * 64 * 64], vec![0.5; 3 * 64 * 64]);
        let mut logits = Vec::new();
        engine.run_into(&two, graph.output, &mut logits).unwrap();
        engine.run_into(&one, graph.output, &mut logits).unwrap();
        let later = allocation_counter::measure(|| {
            engine.run_into(&two, graph.output, &mut logits).unwrap();
            engine.run_into(&one, graph.output, &mut logits).unwrap();
        });
        assert!(later.count_total == 0, "{name}: {} allocations of {} bytes", later.count_total, later.bytes_total);
    }
}
