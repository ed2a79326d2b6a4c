//! The pipeline: order, errors in their place, the same rows for any division of the work, breaking off, and a bound on what waits.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use fieldmark_engine::{Engine, EngineOptions, Load, PipelineOptions};
use graph::{Conv2d, GraphBuilder, RunError};

/// Input `i` holds values that depend on `i`; every seventh is missing.
struct Numbers {
    loaded: AtomicUsize,
    panics_at: usize,
}

impl Load for Numbers {
    type State = usize;
    type Error = String;

    fn state(&self) -> usize {
        0
    }

    fn load(&self, state: &mut usize, index: usize, out: &mut [f32]) -> Result<(), String> {
        assert_ne!(index, self.panics_at, "the test asked for it");
        *state += 1;
        self.loaded.fetch_add(1, Ordering::SeqCst);
        out.iter_mut().enumerate().for_each(|(at, value)| *value = ((index * 31 + at * 7) % 101) as f32 / 50.0 - 1.0);
        if index % 7 == 3 { Err(format!("no input {index}")) } else { Ok(()) }
    }
}

fn numbers() -> Numbers {
    Numbers { loaded: AtomicUsize::new(0), panics_at: usize::MAX }
}

fn engine() -> Engine {
    let mut b = GraphBuilder::new("small", [3, 9, 9]);
    let x = b.conv("conv", b.input(), Conv2d::new(3, 5, 3));
    let x = b.global_avg_pool("pool", x);
    let x = b.linear("fc", x, 4);
    let graph = b.finish(x).unwrap();
    Engine::new(&graph, &graph.init_weights(3), EngineOptions { threads: 1, ..EngineOptions::default() }).unwrap()
}

type Row = Result<Vec<f32>, String>;

fn run(engine: &Engine, count: usize, options: PipelineOptions) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let source = numbers();
    let pass = engine
        .run_many(engine.graph().output, count, options, &source, |index, row| {
            assert_eq!(index, rows.len());
            rows.push(row.map(<[f32]>::to_vec));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(pass.states.iter().sum::<usize>(), count);
    rows
}

#[test]
fn rows_come_in_order_and_are_the_same_for_any_division() {
    let engine = engine();
    for count in [0, 1, 2, 5, 40] {
        let want = run(&engine, count, PipelineOptions { batch_size: 1, threads: 1 });
        assert_eq!(want.len(), count);
        for (index, row) in want.iter().enumerate() {
            match row {
                Ok(row) => assert_eq!((row.len(), index % 7 == 3), (4, false)),
                Err(error) => assert_eq!(*error, format!("no input {index}")),
            }
        }
        for threads in [0, 1, 2, 7] {
            for batch_size in [0, 1, 3, 16, 100] {
                assert_eq!(
                    run(&engine, count, PipelineOptions { batch_size, threads }),
                    want,
                    "{threads} threads, batches of {batch_size}"
                );
            }
        }
    }
}

#[test]
fn breaking_off_stops_the_loading() {
    let engine = engine();
    let (source, mut seen) = (numbers(), 0);
    let options = PipelineOptions { batch_size: 2, threads: 3 };
    engine
        .run_many(engine.graph().output, 100_000, options, &source, |_, _| {
            seen += 1;
            if seen == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(seen, 20);
    assert!(source.loaded.load(Ordering::SeqCst) < 200);
}

#[test]
fn a_slow_reader_holds_the_threads_back() {
    let engine = engine();
    let (source, mut most) = (numbers(), 0);
    let options = PipelineOptions { batch_size: 1, threads: 2 };
    engine
        .run_many(engine.graph().output, 300, options, &source, |index, _| {
            std::thread::sleep(std::time::Duration::from_micros(300));
            most = most.max(source.loaded.load(Ordering::SeqCst) - index);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(most <= 16, "{most} inputs were ahead");
}

#[test]
fn a_panic_in_a_thread_is_an_error() {
    let engine = engine();
    let source = Numbers { panics_at: 12, ..numbers() };
    let options = PipelineOptions { batch_size: 2, threads: 2 };
    let result = engine.run_many(engine.graph().output, 50, options, &source, |_, _| ControlFlow::Continue(()));
    assert!(matches!(result, Err(RunError::Interpreter(_))), "{result:?}");
    let node = graph::NodeId(99);
    assert!(engine.run_many(node, 5, options, &numbers(), |_, _| ControlFlow::Continue(())).is_err());
}
