//! Whole fits on tiny sets.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use graph::Weights;
use images::Augment;
use learn::fit::{Backend, BatchNormMode, ClassWeighting, EarlyStopping, Metric, OptimizerKind, Precision, SamplerKind};
use learn::schedule::ScheduleKind;
use learn::{DeviceKind, FitEvent, FitOptions, FitOutcome, FitTask, Fitted, find_lr, fit};

use crate::tiny::{halves, loading, network};

fn task(dropout: f32) -> FitTask {
    let graph = network(2, dropout);
    let weights = graph.init_weights(3);
    FitTask {
        graph,
        weights,
        dataset: halves(60, 5),
        train: (0..40).collect(),
        validation: (40..60).collect(),
        loading: loading(),
        device: DeviceKind::Cpu,
        checkpoint: None,
        resume: false,
    }
}

fn options() -> FitOptions {
    FitOptions { epochs: 3, batch_size: 8, lr: 0.02, weight_decay: 1e-3, ..FitOptions::default() }
}

fn finish(task: FitTask, options: &FitOptions) -> Fitted {
    match fit(task, options, &mut |_| {}, &AtomicBool::new(false)).unwrap() {
        FitOutcome::Finished(fitted) => fitted,
        FitOutcome::Interrupted { .. } => panic!("nobody stopped it"),
    }
}

fn bits(weights: &Weights) -> BTreeMap<&str, Vec<u32>> {
    weights.iter().map(|(n, t)| (n.as_str(), t.data.iter().map(|x| x.to_bits()).collect())).collect()
}

#[test]
fn the_loss_falls_and_the_classes_are_learned() {
    for optimizer in [OptimizerKind::Sgd, OptimizerKind::Adamw] {
        let lr = if optimizer == OptimizerKind::Sgd { 0.1 } else { 0.02 };
        let fitted = finish(task(0.0), &FitOptions { epochs: 5, optimizer, lr, ..options() });
        let (first, last) = (&fitted.history[0], &fitted.history[4]);
        assert!(last.train_loss < 0.5 * first.train_loss, "{optimizer:?}: {} -> {}", first.train_loss, last.train_loss);
        assert!(fitted.best_metric.unwrap() > 0.9, "{optimizer:?}: {:?}", fitted.best_metric);
        assert_eq!(fitted.history.len(), 5);
    }
}

#[test]
fn every_setting_trains_to_something_finite() {
    let options = FitOptions {
        epochs: 2,
        accumulate: 2,
        l1: 1e-4,
        schedule: ScheduleKind::OneCycle,
        warmup_epochs: 0.5,
        label_smoothing: 0.1,
        class_weighting: ClassWeighting::Effective,
        sampler: SamplerKind::Oversample,
        clip: 1.0,
        ema: 0.9,
        batch_norm: BatchNormMode::Frozen,
        drop_last: false,
        early_stopping: EarlyStopping { metric: Metric::LogLoss, patience: 1, restore_best: true },
        stage_lr: [("stem".to_string(), 0.1)].into(),
        ..options()
    };
    let mut task = task(0.2);
    task.train.truncate(37);
    let start = task.weights.clone();
    let fitted = finish(task, &options);
    assert!(fitted.weights.values().all(|t| t.data.iter().all(|x| x.is_finite())));
    assert_ne!(fitted.weights["fc.weight"], start["fc.weight"]);
    assert_eq!(fitted.weights["stem.bn.running_mean"], start["stem.bn.running_mean"]);
}

/// Stops after `stop_after` batches, then resumes; returns the end.
fn interrupted(task: &FitTask, options: &FitOptions, stop_after: usize, checkpoint: &Path) -> Fitted {
    let stop = AtomicBool::new(false);
    let mut steps = 0;
    let mut observe = |event: FitEvent<'_>| {
        if let FitEvent::Step { .. } = event {
            steps += 1;
            stop.store(steps >= stop_after, Ordering::Relaxed);
        }
    };
    let first = FitTask { checkpoint: Some(checkpoint.to_path_buf()), resume: true, ..task.clone() };
    match fit(first.clone(), options, &mut observe, &stop).unwrap() {
        FitOutcome::Interrupted { .. } => {}
        FitOutcome::Finished(_) => panic!("it was to stop after {stop_after} batches"),
    }
    finish(first, options)
}

#[test]
fn an_interrupted_and_resumed_fit_ends_in_the_same_weights_bit_for_bit() {
    let augment = Augment { ..Augment::standard() };
    let cases =
        [(OptimizerKind::Sgd, 1, Precision::F32), (OptimizerKind::Adamw, 2, Precision::F32), (OptimizerKind::Adamw, 2, Precision::Bf16)];
    for (optimizer, accumulate, precision) in cases {
        let options = FitOptions { optimizer, accumulate, precision, ema: 0.95, clip: 2.0, label_smoothing: 0.05, ..options() };
        let mut task = task(0.3);
        task.loading.augment = Some(augment.clone());
        let whole = finish(task.clone(), &options);
        // In the middle of the first and second epoch, and at the end of one.
        for stop_after in [2, 5, 7, 8] {
            let dir = tempfile::tempdir().unwrap();
            let parts = interrupted(&task, &options, stop_after, &dir.path().join("checkpoint.safetensors"));
            assert_eq!(bits(&whole.weights), bits(&parts.weights), "{optimizer:?}, {precision:?}, stopped after {stop_after}");
            let losses = |f: &Fitted| f.history.iter().map(|r| (r.train_loss, r.validation_loss, r.metric_value)).collect::<Vec<_>>();
            assert_eq!(losses(&whole), losses(&parts));
            assert_eq!((whole.best_epoch, whole.best_metric), (parts.best_epoch, parts.best_metric));
        }
    }
}

/// Two batches an update, the last of them a small one, are one batch of as many samples; nothing here depends on what shares a batch.
#[test]
fn accumulated_batches_are_one_large_batch() {
    let options = FitOptions { optimizer: OptimizerKind::Sgd, batch_norm: BatchNormMode::Frozen, drop_last: false, ..options() };
    let mut task = task(0.0);
    task.train.truncate(37);
    let large = finish(task.clone(), &FitOptions { batch_size: 20, ..options.clone() });
    let small = finish(task, &FitOptions { batch_size: 10, accumulate: 2, ..options });
    for (name, tensor) in &large.weights {
        for (a, b) in tensor.data.iter().zip(&small.weights[name].data) {
            assert!((a - b).abs() < 1e-4 * a.abs().max(0.1), "{name}: {a} {b}");
        }
    }
}

/// Where first stages are frozen and nothing is augmented, later epochs read what the first one kept; a resumed fit has kept nothing.
#[test]
fn kept_features_change_no_bit() {
    let options = FitOptions { freeze_up_to: Some("middle".into()), optimizer: OptimizerKind::Sgd, drop_last: false, ..options() };
    let mut task = task(0.3);
    task.train.truncate(37);
    let whole = finish(task.clone(), &options);
    for stop_after in [2, 7, 10] {
        let dir = tempfile::tempdir().unwrap();
        let parts = interrupted(&task, &options, stop_after, &dir.path().join("checkpoint.safetensors"));
        assert_eq!(bits(&whole.weights), bits(&parts.weights), "stopped after {stop_after}");
    }
}

/// Recomputing activations changes no bit; another backend little.
#[test]
fn recomputation_and_backends_end_alike() {
    let options = FitOptions { optimizer: OptimizerKind::Sgd, lr: 0.05, ..options() };
    let planned = finish(task(0.2), &options);
    let recomputed = finish(task(0.2), &FitOptions { recompute: 3, ..options.clone() });
    assert_eq!(bits(&planned.weights), bits(&recomputed.weights));
    let narrow = FitOptions { precision: Precision::Bf16, ..options.clone() };
    let in_bf16 = finish(task(0.2), &narrow);
    assert_ne!(bits(&planned.weights), bits(&in_bf16.weights));
    assert_eq!(bits(&in_bf16.weights), bits(&finish(task(0.2), &FitOptions { recompute: 3, ..narrow }).weights));
    let by_burn = finish(task(0.2), &FitOptions { backend: Backend::Burn, ..options });
    for (name, tensor) in &planned.weights {
        for (a, b) in tensor.data.iter().zip(&by_burn.weights[name].data) {
            assert!((a - b).abs() < 1e-3 * b.abs().max(0.1), "{name}: {a} {b}");
        }
    }
}

/// What is left at its default is not written: checkpoints of versions without these settings go on.
#[test]
fn new_settings_are_written_only_where_they_are_set() {
    let json = serde_json::to_string(&FitOptions::default()).unwrap();
    assert!(!json.contains("backend") && !json.contains("recompute") && !json.contains("precision"), "{json}");
    let json = serde_json::to_string(&FitOptions { backend: Backend::Burn, recompute: 2, ..FitOptions::default() }).unwrap();
    assert!(json.contains(r#""backend":"burn","recompute":2"#), "{json}");
    let json = serde_json::to_string(&FitOptions { precision: Precision::Bf16, ..FitOptions::default() }).unwrap();
    assert!(json.contains(r#""precision":"bf16""#), "{json}");
}

#[test]
fn bf16_learns_as_f32_does_and_burn_refuses_it() {
    let options = FitOptions { epochs: 5, precision: Precision::Bf16, ..options() };
    let fitted = finish(task(0.0), &options);
    assert!(fitted.history[4].train_loss < 0.5 * fitted.history[0].train_loss);
    assert!(fitted.best_metric.unwrap() > 0.9, "{:?}", fitted.best_metric);
    let by_burn = FitOptions { backend: Backend::Burn, ..options };
    let error = fit(task(0.0), &by_burn, &mut |_| {}, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("fit.precision") && error.contains("by plans on the CPU"), "{error}");
}

#[test]
fn a_finished_checkpoint_gives_the_same_result_without_training() {
    let dir = tempfile::tempdir().unwrap();
    let task = FitTask { checkpoint: Some(dir.path().join("c.safetensors")), resume: true, ..task(0.0) };
    let once = finish(task.clone(), &options());
    let mut steps = 0;
    let again =
        fit(task.clone(), &options(), &mut |e| steps += usize::from(matches!(e, FitEvent::Step { .. })), &AtomicBool::new(false)).unwrap();
    let FitOutcome::Finished(again) = again else { panic!("finished before") };
    assert_eq!((steps, bits(&once.weights)), (0, bits(&again.weights)));
    let other = FitOptions { lr: 0.03, ..options() };
    let error = fit(task, &other, &mut |_| {}, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("another training run"), "{error}");
}

#[test]
fn frozen_stages_stay_as_they_are() {
    for freeze in [vec!["stem".to_string()], vec!["middle".to_string()], vec!["stem".to_string(), "middle".to_string()]] {
        let task = task(0.2);
        let start = task.weights.clone();
        let fitted = finish(task, &FitOptions { freeze: freeze.clone(), ema: 0.9, ..options() });
        for (name, tensor) in &fitted.weights {
            let frozen = freeze.iter().any(|stage| name.starts_with(stage.as_str()));
            assert_eq!(frozen, *tensor == start[name], "{name} with {freeze:?} frozen");
        }
    }
}

/// Frozen by name in the middle of the list, everything runs on Burn; as a prefix, the engine computes it: same training.
#[test]
fn a_frozen_prefix_by_the_engine_trains_as_burn_alone_does() {
    // Not AdamW: its first steps are signs of gradients, which magnify the last bit.
    let options = FitOptions { freeze_up_to: Some("middle".into()), optimizer: OptimizerKind::Sgd, ..options() };
    let by_engine = finish(task(0.0), &options);
    let mut whole = task(0.0);
    // A stage with nothing in it in front keeps the frozen stem from being a prefix.
    let mut stages = vec!["input".to_string()];
    stages.append(&mut whole.graph.stages);
    whole.graph.stages = stages;
    whole.graph.nodes.iter_mut().skip(1).for_each(|n| n.stage += 1);
    let by_burn = finish(whole, &FitOptions { freeze: vec!["stem".into()], freeze_up_to: None, ..options });
    for (name, tensor) in &by_engine.weights {
        for (a, b) in tensor.data.iter().zip(&by_burn.weights[name].data) {
            assert!((a - b).abs() < 1e-3 * b.abs().max(0.1), "{name}: {a} {b}");
        }
    }
}

#[test]
fn early_stopping_restores_the_best_epoch() {
    let early_stopping = EarlyStopping { metric: Metric::Accuracy, patience: 2, restore_best: true };
    let fitted = finish(task(0.0), &FitOptions { epochs: 30, early_stopping, lr: 0.05, ..options() });
    assert!(fitted.stopped_early && fitted.history.len() < 30);
    let best = fitted.history.iter().filter_map(|r| r.metric_value).fold(0.0, f64::max);
    assert_eq!(fitted.best_metric, Some(best));
    assert_eq!(fitted.history[fitted.best_epoch].metric_value, Some(best));
    assert_eq!(fitted.history.len(), fitted.best_epoch + 3);
}

#[test]
fn a_loss_that_is_not_finite_names_the_step_and_the_cure() {
    let mut task = task(0.0);
    task.weights.get_mut("fc.bias").unwrap().data[0] = f32::NAN;
    let error = fit(task, &options(), &mut |_| {}, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("epoch 1 at step 1 of 5") && error.contains("lower fit.lr") && error.contains("clip"), "{error}");
}

#[test]
fn settings_that_cannot_be_are_named() {
    let error = |options: FitOptions| fit(task(0.0), &options, &mut |_| {}, &AtomicBool::new(false)).unwrap_err().to_string();
    let unknown = error(FitOptions { freeze: vec!["neck".into()], ..options() });
    assert!(unknown.contains("its stages are stem, middle, head"), "{unknown}");
    assert!(
        error(FitOptions { freeze: vec!["stem".into(), "middle".into(), "head".into()], ..options() }).contains("nothing is left to train")
    );
    assert!(error(FitOptions { batch_size: 0, ..options() }).contains("fit.batch_size"));
    assert!(error(FitOptions { label_smoothing: 1.5, ..options() }).contains("fit.label_smoothing"));
    let mut unlabelled = task(0.0);
    std::sync::Arc::get_mut(&mut unlabelled.dataset).unwrap().samples[7].target = None;
    let message = fit(unlabelled, &options(), &mut |_| {}, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(message.contains("7: expected a label"), "{message}");
}

#[test]
fn options_read_from_toml_with_defaults_and_refuse_unknown_keys() {
    let text =
        "epochs = 3\noptimizer = \"sgd\"\nschedule = \"one_cycle\"\nfreeze_up_to = \"head\"\n[early_stopping]\nmetric = \"macro_f1\"\n";
    let options: FitOptions = toml::from_str(text).unwrap();
    assert_eq!((options.epochs, options.optimizer, options.batch_size), (3, OptimizerKind::Sgd, 32));
    assert_eq!(toml::from_str::<FitOptions>(&toml::to_string(&options).unwrap()).unwrap(), options);
    assert!(toml::from_str::<FitOptions>("epoch = 3").unwrap_err().to_string().contains("epoch"));
}

#[test]
fn the_range_test_suggests_a_rate_and_changes_nothing() {
    let task = task(0.2);
    let before = task.weights.clone();
    let range = find_lr(&task, &options(), &mut |_, _| {}, &AtomicBool::new(false)).unwrap();
    assert_eq!(task.weights, before);
    assert!(range.rates.len() > 50 && range.rates[0] == 1e-7);
    let suggestion = range.suggestion.unwrap();
    assert!((1e-6..1.0).contains(&suggestion), "{suggestion}");
    let plain = finish(task.clone(), &options());
    let _ = find_lr(&task, &options(), &mut |_, _| {}, &AtomicBool::new(false)).unwrap();
    assert_eq!(bits(&plain.weights), bits(&finish(task, &options()).weights));
}
