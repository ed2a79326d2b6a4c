//! Gradients: training plans beside Burn, and both beside central differences of the reference in f64.

use std::collections::BTreeMap;
use std::path::Path;

use engine::train::{Scope, TrainPlan};
use graph::reference::{self, Mode};
use graph::{Activation, Differentiable, Graph, GraphBuilder, Op, Tensor, Weights};
use learn::fit::{Backend, BatchNormMode, OptimizerKind};
use learn::network::NoiseKey;
use learn::optim::{Gradients, Group, Optimizer};
use learn::{DeviceKind, FitOptions, Network};
use rand::seq::index::sample;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cases::{Case, noise, ops};
use crate::networks::{blocks, small};
use crate::tolerances::{Kind, Ledger, Row, judge};

const KEY: NoiseKey = NoiseKey { seed: 7, epoch: 1, step: 2 };

const BATCH: usize = 3;

/// Σ logits² / 2 weighted by position: a smooth loss whose gradient by the logits is at hand.
fn factor(i: usize) -> f32 {
    0.3 + (i % 5) as f32 * 0.2
}

fn loss(logits: &Tensor) -> (f64, Vec<f32>) {
    let value = logits.data.iter().enumerate().map(|(i, &x)| f64::from(factor(i)) * f64::from(x) * f64::from(x) / 2.0).sum();
    (value, logits.data.iter().enumerate().map(|(i, &x)| factor(i) * x).collect())
}

fn network(graph: &Graph, weights: &Weights, backend: Backend) -> Network {
    Network::with_backend(graph.clone(), weights.clone(), DeviceKind::Cpu, backend, 2).unwrap()
}

// Plans beside Burn.

/// One step and the gradient by the input, by plan and by Burn.
fn beside_burn(ledger: &mut Ledger, case: &Case, batch: usize, frozen: &[bool], mode: BatchNormMode) {
    let (graph, row) = (&case.graph, Row::BesideBurn(case.kind));
    let (input, weights) = (case.images(batch), case.weights());
    let by_logits = noise(&[&[batch], graph.node(graph.output).shape.as_slice()].concat(), case.seed() + 9);
    let [plan, burn] = [Backend::Plan, Backend::Burn].map(|backend| {
        let mut network = network(graph, &weights, backend);
        network.freeze(frozen);
        network.set_batch_norm(mode);
        let mut gradients = Gradients::default();
        let loss = network.step(&input, KEY, &mut gradients, loss).unwrap();
        let by_input = network.input_gradient(&input, &by_logits).unwrap();
        (loss, gradients.values, by_input, network)
    });
    let place = |what: &str| format!("{}, frozen {frozen:?}, norms by {mode:?}, {what}", graph.name);
    ledger.note(row, place("loss"), (plan.0 - burn.0).abs() / burn.0.abs().max(1e-3), 0.0);
    assert_eq!(plan.1.keys().collect::<Vec<_>>(), burn.1.keys().collect::<Vec<_>>(), "{}", graph.name);
    // Before a norm the gradient of a bias is nothing: sums over whole maps that cancel, and leave what rounding makes of their terms.
    let largest = burn.1.values().flatten().fold(0.0f32, |largest, value| largest.max(value.abs()));
    for (name, gradient) in &burn.1 {
        let is_nothing = gradient.iter().all(|value| value.abs() < 1e-3 * largest);
        let terms = if name.ends_with(".bias") && is_nothing { largest } else { 0.0 };
        ledger.compare_beside(row, place(name), (&plan.1[name], gradient), terms.into());
    }
    ledger.compare(row, place("input"), &plan.2.data, &burn.2.data);
    for (name, tensor) in burn.3.weights() {
        ledger.compare(Row::Statistics, place(name), &plan.3.weights()[name].data, &tensor.data);
    }
}

#[test]
fn plans_agree_with_burn_on_every_op() {
    judge(|ledger| {
        for case in ops() {
            let stages = case.graph.stages.len();
            let frozen = [vec![false; stages], (0..stages).map(|i| i == 0).collect(), (0..stages).map(|i| i == 1).collect()];
            for frozen in &frozen[..stages.min(3)] {
                for mode in [BatchNormMode::Batch, BatchNormMode::Frozen] {
                    beside_burn(ledger, &case, BATCH, frozen, mode);
                }
            }
        }
    });
}

/// The graph with SiLU in the place of clamps: without corners, a rounding error stays a rounding error and is no jump.
fn smooth(mut graph: Graph) -> Graph {
    for node in &mut graph.nodes {
        if matches!(node.op, Op::Activation(Activation::Relu | Activation::Relu6)) {
            node.op = Op::Activation(Activation::Silu);
        }
    }
    graph.check().unwrap();
    graph
}

fn of_zoo(name: &str, size: usize) -> Graph {
    let model = zoo::model(name).unwrap();
    model.build(&zoo::Config { num_classes: 4, image_size: [size; 2], drop_rate: 0.1, ..model.config() }).unwrap()
}

#[test]
fn plans_agree_with_burn_on_networks() {
    judge(|ledger| {
        let zoo = [("tiny_cnn", 28), ("resnet18", 64), ("efficientnet_lite0", 64), ("vit_tiny_patch16_224", 32)];
        let zoo = zoo.map(|(name, size)| Case { kind: Kind::Zoo, graph: smooth(of_zoo(name, size)) });
        let blocks = blocks().into_iter().map(|case| Case { graph: smooth(case.graph), ..case });
        for case in blocks.chain(zoo) {
            beside_burn(ledger, &case, 4, &vec![false; case.graph.stages.len()], BatchNormMode::Batch);
        }
        let half = Case { kind: Kind::Zoo, graph: smooth(of_zoo("efficientnet_lite0", 64)) };
        let frozen: Vec<bool> = (0..half.graph.stages.len()).map(|stage| stage < 4).collect();
        beside_burn(ledger, &half, 4, &frozen, BatchNormMode::Frozen);
    });
}

/// Lite0 without corners: see the tests after this one.
#[test]
fn ten_steps_end_in_the_same_weights() {
    let networks = [("tiny_cnn", 28), ("resnet18", 64), ("vit_tiny_patch16_224", 32)].map(|(name, size)| of_zoo(name, size));
    judge(|ledger| {
        for graph in networks.into_iter().chain([smooth(of_zoo("efficientnet_lite0", 64))]) {
            let start = graph.init_weights(3);
            let [plan, burn] = [Backend::Plan, Backend::Burn].map(|backend| ten_steps(&graph, &start, backend));
            let (relative, moved) = (distance(&plan, &burn), distance(&start, &burn));
            println!("{}: {relative:.1e} of the weights' length apart, moved by {moved:.1e}", graph.name);
            ledger.note(Row::TenSteps, &graph.name, relative, relative);
            assert!(moved > 10.0 * relative, "{}: moved by {moved}, apart by {relative}", graph.name);
        }
    });
}

/// Lite0 as it is, clamps and all, from its published weights, at the size and the batch of its published figures. Where the weights have been
/// fetched (`FIELDMARK_CACHE`).
#[test]
fn ten_steps_of_published_lite0_end_in_the_same_weights() {
    let model = zoo::model("efficientnet_lite0").unwrap();
    let file = Path::new("efficientnet_lite0").join(model.published().unwrap().file);
    let fetched = std::env::var_os("FIELDMARK_CACHE").map(|cache| Path::new(&cache).join(file)).filter(|path| path.exists());
    let Some(path) = fetched else { return println!("skipped: efficientnet_lite0 is not in FIELDMARK_CACHE") };
    let graph = of_zoo("efficientnet_lite0", 224);
    let (_, published) = zoo::load_published(model, &path).unwrap();
    // But the classifier, which is of other classes.
    let classifier = graph.node(graph.output).name.clone();
    let mut start = graph.init_weights(3);
    start.iter_mut().filter(|(name, _)| !name.starts_with(&classifier)).for_each(|(name, tensor)| *tensor = published[name].clone());
    judge(|ledger| {
        let [plan, burn] = [Backend::Plan, Backend::Burn].map(|backend| ten_steps(&graph, &start, backend));
        let relative = distance(&plan, &burn);
        println!("{relative:.1e} of the weights' length apart, moved by {:.1e}", distance(&start, &burn));
        ledger.note(Row::TenSteps, "published Lite0", relative, relative);
    });
}

/// With its clamps and weights as it starts, Lite0 forgets its last bits within ten steps of eight small images: values cross corners, and
/// norms of a few values each magnify that. A plan is then as far from Burn as from itself with the last bit of each weight changed.
#[test]
fn ten_steps_with_clamps_are_as_near_as_a_change_of_the_last_bits() {
    let graph = of_zoo("efficientnet_lite0", 64);
    let start = graph.init_weights(3);
    let mut other = start.clone();
    other.values_mut().flat_map(|tensor| &mut tensor.data).for_each(|value| *value = f32::from_bits(value.to_bits() ^ 1));
    let [plan, burn] = [Backend::Plan, Backend::Burn].map(|backend| ten_steps(&graph, &start, backend));
    let (beside, itself) = (distance(&plan, &burn), distance(&plan, &ten_steps(&graph, &other, Backend::Plan)));
    println!("beside Burn {beside:.1e}, beside itself {itself:.1e}");
    assert!(beside <= 3.0 * itself, "{beside:.1e} beside Burn, {itself:.1e} beside itself with other last bits");
}

/// How far two sets of weights are apart, statistics included, as a share of the second's length.
fn distance(a: &Weights, b: &Weights) -> f64 {
    let (mut distance, mut length) = (0.0, 0.0);
    for (name, b) in b {
        for (&a, &b) in a[name].data.iter().zip(&b.data) {
            distance += f64::from(a - b).powi(2);
            length += f64::from(b).powi(2);
        }
    }
    (distance / length).sqrt()
}

/// Ten steps of SGD on a few images.
fn ten_steps(graph: &Graph, start: &Weights, backend: Backend) -> Weights {
    let input = noise(&[&[8], graph.input_shape()].concat(), 4);
    let options = FitOptions { optimizer: OptimizerKind::Sgd, momentum: 0.0, weight_decay: 1e-4, ..FitOptions::default() };
    let mut network = network(graph, start, backend);
    let (mut optimizer, mut gradients) = (Optimizer::new(&options), Gradients::default());
    for step in 0..10 {
        gradients.clear();
        let key = NoiseKey { step, ..KEY };
        network.step(&input, key, &mut gradients, |logits| cross_entropy(&logits.data)).unwrap();
        let group = |_: &str| Group { lr: 1.0, decay: true, l1: false };
        network.change(|weights| optimizer.update(weights, &gradients.values, 1e-3, group));
    }
    network.weights().clone()
}

/// Mean cross-entropy where every image is of class `index % 4`.
fn cross_entropy(logits: &[f32]) -> (f64, Vec<f32>) {
    let rows = logits.len() / 4;
    let one_hot: Vec<f32> = (0..logits.len()).map(|i| if i % 4 == i / 4 % 4 { 1.0 } else { 0.0 }).collect();
    learn::fit::cross_entropy(logits, &learn::fit::Targets::new(&one_hot, &vec![1.0; rows], &[1.0; 4], 0.0))
}

// Central differences in f64.

/// Half the distance of two losses. Small enough that no value of a case crosses a corner (a clamp, a change of the largest of a window); with
/// values in f64 the difference of losses still has ten digits.
const STEP: f64 = 1e-6;

/// Coordinates of a tensor that are asked: all, or so many drawn.
const MOST: usize = 160;

/// A place in the space of weights and images, where the loss is computed by the reference in f64.
struct Point<'a> {
    graph: &'a Graph,
    weights: Weights<f64>,
    input: Tensor<f64>,
    training: bool,
}

impl<'a> Point<'a> {
    fn new(graph: &'a Graph, weights: &Weights, input: &Tensor, training: bool) -> Self {
        let weights = weights.iter().map(|(name, tensor)| (name.clone(), tensor.to_f64())).collect();
        Self { graph, weights, input: input.to_f64(), training }
    }

    fn loss(&self) -> f64 {
        let fill = |node: usize, p: f32, mask: &mut [f64]| self.mask(node, p, mask);
        let mode = if self.training { Mode::Training(&fill) } else { Mode::Inference };
        let logits = reference::run_f64(self.graph, &self.weights, &self.input, mode, &[]).unwrap().remove(0);
        logits.data.iter().enumerate().map(|(i, x)| f64::from(factor(i)) * x * x / 2.0).sum()
    }

    /// The key's masks in the graph's order: networks draw those of maps channels last.
    fn mask(&self, node: usize, p: f32, mask: &mut [f64]) {
        let mut drawn = vec![0.0; mask.len()];
        KEY.fill(node, p, &mut drawn);
        if let (Op::Dropout { .. }, &[c, h, w]) = (&self.graph.nodes[node].op, &self.graph.nodes[node].shape[..]) {
            let last = drawn.clone();
            kernels::nhwc_to_nchw(&mut drawn, &last, c, h * w);
        }
        mask.iter_mut().zip(drawn).for_each(|(m, d)| *m = f64::from(d));
    }

    /// The values of a weight, or of the images.
    fn values(&mut self, weight: Option<&str>) -> &mut Vec<f64> {
        match weight {
            Some(name) => &mut self.weights.get_mut(name).unwrap().data,
            None => &mut self.input.data,
        }
    }

    /// The derivative of the loss by one value.
    fn difference(&mut self, weight: Option<&str>, index: usize) -> f64 {
        let start = self.values(weight)[index];
        let mut moved = |by: f64| {
            self.values(weight)[index] = start + by;
            self.loss()
        };
        let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        self.values(weight)[index] = start;
        slope
    }
}

/// Compares gradients (by the images: `None`) with differences.
fn beside_differences(ledger: &mut Ledger, case: &Case, training: bool, gradients: &[(Row, Option<&str>, &[f32])]) {
    let mut point = Point::new(&case.graph, &case.weights(), &case.images(BATCH), training);
    let mut known: BTreeMap<Option<&str>, (Vec<usize>, Vec<f64>)> = BTreeMap::new();
    for (row, weight, gradient) in gradients {
        let (indices, wanted) = known.entry(*weight).or_insert_with(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(case.seed());
            let indices = sample(&mut rng, gradient.len(), gradient.len().min(MOST)).into_vec();
            let wanted = indices.iter().map(|&i| point.difference(*weight, i)).collect();
            (indices, wanted)
        });
        let found: Vec<f32> = indices.iter().map(|&i| gradient[i]).collect();
        let mode = if training { "training" } else { "inference" };
        ledger.compare(*row, format!("{}, {mode}, {}", case.graph.name, weight.unwrap_or("the input")), &found, wanted);
    }
}

/// Gradients of [`loss`] in training mode by a plan: by weights, and by the images in the graph's order.
fn plan_gradients(graph: &Graph, weights: &Weights, input: &Tensor) -> (BTreeMap<String, Vec<f32>>, Vec<f32>) {
    let scope = Scope { by_input: true, ..Scope::training(graph) };
    let mut plan = TrainPlan::new(graph, &[graph.output], &scope).unwrap();
    let fill = |node: usize, p: f32, mask: &mut [f32]| KEY.fill(node, p, mask);
    plan.forward(weights, &input.data, &fill).unwrap();
    let (_, by_logits) = loss(&Tensor { shape: vec![input.shape[0], graph.num_classes()], data: plan.output(0).to_vec() });
    let mut gradients = BTreeMap::new();
    plan.backward_with(weights, &by_logits, &mut gradients, false, &fill).unwrap();
    let mut by_input = plan.input_gradient().unwrap().to_vec();
    if let &[c, h, w] = graph.input_shape() {
        kernels::nhwc_to_nchw(&mut by_input, plan.input_gradient().unwrap(), c, h * w);
    }
    (gradients, by_input)
}

/// In training mode by all weights, and (of plans) by the images; in inference mode by the images.
fn agrees_with_differences(ledger: &mut Ledger, case: &Case) {
    let (graph, weights, input) = (&case.graph, case.weights(), case.images(BATCH));
    let (by_plan, plan_input) = plan_gradients(graph, &weights, &input);
    let mut by_burn = Gradients::default();
    let mut burn = network(graph, &weights, Backend::Burn);
    burn.step(&input, KEY, &mut by_burn, loss).unwrap();
    let learned: Vec<&str> = graph.parameters().filter(|p| p.role.is_learned()).map(|p| p.name.as_str()).collect();
    let mut gradients = vec![(Row::PlanDifferences, None, plan_input.as_slice())];
    for name in learned {
        gradients.push((Row::PlanDifferences, Some(name), &by_plan[name]));
        gradients.push((Row::BurnDifferences, Some(name), &by_burn.values[name]));
    }
    beside_differences(ledger, case, true, &gradients);
    let by_input = [Backend::Plan, Backend::Burn].map(|backend| {
        let mut network = network(graph, &weights, backend);
        let logits = graph::Interpreter::run(&mut network, &input, &[]).unwrap().remove(0);
        let (_, by_logits) = loss(&logits);
        network.input_gradient(&input, &Tensor { shape: logits.shape, data: by_logits }).unwrap().data
    });
    let gradients = [(Row::PlanDifferences, None, &by_input[0][..]), (Row::BurnDifferences, None, &by_input[1][..])];
    beside_differences(ledger, case, false, &gradients);
}

#[test]
fn gradients_of_every_op_are_differences_of_the_loss() {
    judge(|ledger| ops().iter().for_each(|case| agrees_with_differences(ledger, case)));
}

/// Along each tensor's own gradient at once, with signs drawn: the loss rises by the sum of the signed lengths.
#[test]
fn gradients_of_networks_are_slopes_of_the_loss() {
    judge(|ledger| {
        for name in ["lenet5", "tiny_cnn", "resnet18", "mobilenet_v2", "efficientnet_lite0", "vit_tiny_patch16_224"] {
            let case = Case { kind: Kind::Zoo, graph: smooth(small(name)) };
            let (weights, input) = (case.weights(), case.images(BATCH));
            let (mut gradients, by_input) = plan_gradients(&case.graph, &weights, &input);
            gradients.insert(String::new(), by_input);
            let mut rng = ChaCha8Rng::seed_from_u64(case.seed());
            for draw in 0..2 {
                let (mut slope, mut lengths) = (0.0, 0.0);
                let mut ends = [STEP, -STEP].map(|step| (step, Point::new(&case.graph, &weights, &input, true)));
                for (name, gradient) in &gradients {
                    let length = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
                    let sign = if rng.random() { 1.0 } else { -1.0 };
                    slope += sign * length;
                    lengths += length;
                    for (step, point) in &mut ends {
                        let values = point.values((!name.is_empty()).then_some(name.as_str()));
                        values.iter_mut().zip(gradient).for_each(|(v, &g)| *v += *step * sign * f64::from(g) / length.max(1e-9));
                    }
                }
                let numeric = (ends[0].1.loss() - ends[1].1.loss()) / (2.0 * STEP);
                let error = (numeric - slope).abs() / lengths;
                ledger.note(Row::Slopes, format!("{name}, draw {draw}"), error, error);
            }
        }
    });
}

/// The running statistics follow PyTorch: `(1 - m) old + m new`, with the unbiased variance.
#[test]
fn running_statistics_follow_the_batch() {
    let mut b = GraphBuilder::new("bn", [2, 2, 2]);
    let x = b.input();
    let x = b.batch_norm("bn", x, 1e-5);
    let x = b.global_avg_pool("p", x);
    let graph = b.finish(x).unwrap();
    let input = noise(&[3, 2, 2, 2], 1);
    for backend in [Backend::Plan, Backend::Burn] {
        let mut network = network(&graph, &graph.init_weights(0), backend);
        network.step(&input, KEY, &mut Gradients::default(), loss).unwrap();
        for c in 0..2 {
            let values: Vec<f64> = (0..24).filter(|i| i / 4 % 2 == c).map(|i| f64::from(input.data[i])).collect();
            let mean = values.iter().sum::<f64>() / 12.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 11.0;
            let found = |name: &str| f64::from(network.weights()[name].data[c]);
            assert!((found("bn.running_mean") - 0.1 * mean).abs() < 1e-6);
            assert!((found("bn.running_var") - (0.9 + 0.1 * variance)).abs() < 1e-6);
        }
    }
}
