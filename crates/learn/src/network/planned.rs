//! A network by training plans of the engine.

use std::collections::BTreeMap;

use engine::train::{Scope, StageMode, TrainPlan};
use graph::{Graph, NodeId, RunError, Tensor, Weights};
use kernels::Threads;

use super::{Loss, NoiseKey, Subject, follow};
use crate::LearnError;
use crate::fit::BatchNormMode;
use crate::optim::Gradients;

/// Plans, made when they are first asked for, and the threads they run on.
#[derive(Debug)]
pub(super) struct Planned {
    threads: Threads,
    training: Option<TrainPlan>,
    by_input: Option<TrainPlan>,
    inference: BTreeMap<Vec<NodeId>, TrainPlan>,
    recompute: usize,
    bf16: bool,
}

impl Planned {
    pub fn new(threads: usize) -> Result<Self, LearnError> {
        let threads = if threads == 0 { rayon::current_num_threads() } else { threads };
        let threads = Threads::new(threads).map_err(|e| LearnError::Training(format!("cannot start {threads} threads: {e}")))?;
        Ok(Self { threads, training: None, by_input: None, inference: BTreeMap::new(), recompute: 0, bf16: false })
    }

    pub fn threads(&self) -> &Threads {
        &self.threads
    }

    /// What is trained has changed.
    pub fn forget(&mut self) {
        self.training = None;
    }

    pub fn set_recompute(&mut self, parts: usize) {
        self.recompute = parts;
        self.forget();
    }

    pub fn set_bf16(&mut self, bf16: bool) {
        self.bf16 = bf16;
        self.forget();
    }

    pub fn step(
        &mut self,
        subject: Subject<'_>,
        weights: &mut Weights,
        input: &Tensor,
        key: NoiseKey,
        gradients: &mut Gradients,
        loss: Loss<'_>,
    ) -> Result<f64, RunError> {
        let Self { threads, training, recompute, bf16, .. } = self;
        let plan = match training {
            Some(plan) => plan,
            None => {
                let scope = Scope { segments: *recompute, bf16: *bf16, ..subject.scope() };
                training.insert(TrainPlan::new(subject.graph, &[subject.graph.output], &scope)?)
            }
        };
        let noise = |node: usize, p: f32, mask: &mut [f32]| key.fill(node, p, mask);
        threads.install(|| {
            plan.forward(weights, &input.data, &noise)?;
            let shape = [&input.shape[..1], &subject.graph.node(subject.graph.output).shape].concat();
            let (loss, gradient) = loss(&Tensor { shape, data: plan.output(0).to_vec() });
            if loss.is_finite() {
                let add = gradients.batches > 0;
                plan.backward_with(weights, &gradient, &mut gradients.values, add, &noise)?;
                gradients.batches += 1;
                plan.statistics().for_each(|s| follow(subject.graph, weights, s.node, s.mean, s.variance, s.count));
            }
            Ok(loss)
        })
    }

    pub fn run(&mut self, graph: &Graph, weights: &Weights, input: &Tensor, outputs: &[NodeId]) -> Result<Vec<Tensor>, RunError> {
        let Self { threads, inference, .. } = self;
        if !inference.contains_key(outputs) {
            // One at a time: each holds memory of its own.
            inference.clear();
            inference.insert(outputs.to_vec(), TrainPlan::new(graph, outputs, &Scope::inference(graph, false))?);
        }
        let Some(plan) = inference.get_mut(outputs) else { return Ok(Vec::new()) };
        threads.install(|| {
            plan.forward(weights, &input.data, &|_, _, _| ())?;
            let tensor = |(index, id): (usize, &NodeId)| in_order(plan.output(index), input.shape[0], &graph.node(*id).shape);
            Ok(outputs.iter().enumerate().map(tensor).collect())
        })
    }

    pub fn input_gradient(&mut self, graph: &Graph, weights: &Weights, input: &Tensor, gradient: &[f32]) -> Result<Tensor, RunError> {
        let Self { threads, by_input, .. } = self;
        let plan = match by_input {
            Some(plan) => plan,
            None => by_input.insert(TrainPlan::new(graph, &[graph.output], &Scope::inference(graph, true))?),
        };
        threads.install(|| {
            plan.forward(weights, &input.data, &|_, _, _| ())?;
            plan.backward(weights, gradient, &mut BTreeMap::new(), false)?;
            Ok(match plan.input_gradient() {
                Some(gradient) => in_order(gradient, input.shape[0], graph.input_shape()),
                None => Tensor::zeros(input.shape.clone()),
            })
        })
    }
}

impl Subject<'_> {
    fn scope(&self) -> Scope {
        let trained = match self.batch_norm {
            BatchNormMode::Batch => StageMode::Trained,
            BatchNormMode::Frozen => StageMode::TrainedByRunning,
        };
        let stages = self.frozen.iter().map(|&frozen| if frozen { StageMode::Frozen } else { trained }).collect();
        Scope { stages, by_input: false, segments: 0, bf16: false }
    }
}

/// Values of a batch in the graph's order: maps channels first.
fn in_order(values: &[f32], batch: usize, shape: &[usize]) -> Tensor {
    let mut data = values.to_vec();
    if let &[c, h, w] = shape {
        kernels::nhwc_to_nchw(&mut data, values, c, h * w);
    }
    Tensor { shape: [&[batch], shape].concat(), data }
}
