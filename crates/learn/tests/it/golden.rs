//! Schedules, optimisers and losses against PyTorch; the values and the script that made them lie in `tests/golden`.

use graph::Tensor;
use learn::FitOptions;
use learn::fit::{OptimizerKind, Targets, cross_entropy};
use learn::optim::{Group, Optimizer, Slots};
use learn::schedule::Schedule;
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/training.json")).unwrap()
}

fn list(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn schedules_are_pytorchs() {
    let golden = golden();
    let check = |name: &str, schedule: Schedule, warmup: usize| {
        let expected = list(&golden["schedules"][name]);
        for (step, e) in expected.iter().enumerate() {
            let found = schedule.factor(step, expected.len(), warmup);
            assert!((found - e).abs() < 1e-9, "{name} at {step}: {found}, torch {e}");
        }
    };
    check("cosine", Schedule::Cosine { final_factor: 0.0 }, 0);
    check("cosine_floor", Schedule::Cosine { final_factor: 0.1 }, 0);
    check("one_cycle", Schedule::OneCycle { pct_start: 0.25, div: 25.0, div_final: 1e5 }, 0);
    check("warmup", Schedule::Cosine { final_factor: 0.0 }, 4);
    assert_eq!(Schedule::Constant.factor(3, 10, 0), 1.0);
}

#[test]
fn optimisers_are_pytorchs() {
    let golden = golden();
    let check = |name: &str, options: FitOptions| {
        let start = vec![0.5, -1.0, 2.0, 0.0];
        let mut weights = graph::Weights::from([("p".to_string(), Tensor::new([4], start).unwrap())]);
        let mut optimizer = Optimizer::new(&options);
        for t in 0..6 {
            let bump = [0.3 * (t + 1) as f32, -0.2, 0.1 * if t % 2 == 0 { 1.0 } else { -1.0 }, 0.05];
            let gradient = bump.iter().zip(&weights["p"].data).map(|(b, p)| b + 0.1 * p).collect();
            let group = |_: &str| Group { lr: 1.0, decay: true, l1: false };
            optimizer.update(&mut weights, &Slots::from([("p".to_string(), gradient)]), options.lr, group);
        }
        for (e, f) in list(&golden["optimizers"][name]).iter().zip(&weights["p"].data) {
            assert!((e - f64::from(*f)).abs() < 1e-6, "{name}: {f}, torch {e}");
        }
    };
    let sgd = FitOptions { optimizer: OptimizerKind::Sgd, lr: 0.1, weight_decay: 0.01, nesterov: false, ..FitOptions::default() };
    check("sgd", sgd.clone());
    check("sgd_nesterov", FitOptions { nesterov: true, ..sgd });
    check("adamw", FitOptions { lr: 0.01, betas: [0.9, 0.99], weight_decay: 0.1, ..FitOptions::default() });
}

#[test]
fn losses_are_pytorchs() {
    let golden = golden();
    let logits = [1.0, 2.0, 3.0, 0.5, 0.0, -1.0, -2.0, 0.3, 0.1];
    let hard = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
    let soft = [0.2, 0.3, 0.5, 1.0, 0.0, 0.0, 0.1, 0.1, 0.8];
    let check = |name: &str, targets: &[f32], weights: &[f32], smoothing: f32| {
        let (loss, _) = cross_entropy(&logits, &Targets::new(targets, &[1.0; 3], weights, smoothing));
        let expected = golden["losses"][name].as_f64().unwrap();
        assert!((loss - expected).abs() < 1e-6, "{name}: {loss}, torch {expected}");
    };
    check("hard", &hard, &[1.0; 3], 0.0);
    check("hard_weighted", &hard, &[0.5, 2.0, 1.0], 0.0);
    check("hard_smoothed", &hard, &[1.0; 3], 0.1);
    check("soft", &soft, &[1.0; 3], 0.0);
    check("soft_smoothed", &soft, &[1.0; 3], 0.1);
}
