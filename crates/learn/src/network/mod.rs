//! A graph interpreted on Burn tensors: training with gradients, inference, gradients by the input.

mod cpu;
mod forward;
mod noise;
mod ops;
mod value;

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use graph::{Differentiable, Graph, Interpreter, NodeId, Op, Role, RunError, Tensor as HostTensor, Weights};

pub use noise::NoiseKey;

use crate::fit::BatchNormMode;
use crate::{DeviceKind, LearnError};
use forward::{Forward, Leaves, Mode, clamped_norms, forward};
use kernels::Clamp;
use value::{Value, flat, host};

/// A graph with its weights, trainable.
///
/// The weights live on the host, as [`Weights`], and are lent to the device for each pass; whatever changes them (an optimiser, a
/// checkpoint) works on plain slices.
///
/// ```
/// use graph::{GraphBuilder, Interpreter, Op, Tensor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut b = GraphBuilder::new("tiny", [1, 2, 2]);
/// let x = b.input();
/// let x = b.add("flat", Op::Flatten, &[x]);
/// let x = b.linear("fc", x, 3);
/// let graph = b.finish(x)?;
/// let weights = graph.init_weights(0);
/// let mut network = learn::Network::new(graph, weights, learn::DeviceKind::Cpu)?;
/// let logits = network.run(&Tensor::zeros([5, 1, 2, 2]), &[])?;
/// assert_eq!(logits[0].shape, [5, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Network {
    graph: Graph,
    weights: Weights,
    device: Device,
    /// By stage: inference mode and no gradients.
    frozen: Vec<bool>,
    batch_norm: BatchNormMode,
    /// Weights on the device for inference, until they change.
    resident: Option<Leaves>,
    /// On the CPU, for the operations of our own: batch norms that can clamp at once.
    own: Option<Vec<Option<(usize, Clamp)>>>,
}

/// What one training step yields.
#[derive(Debug, Clone)]
pub struct StepResult {
    /// The loss that the closure reported.
    pub loss: f64,
    /// Gradients of the learned parameters of stages that are not frozen, flat, by name.
    pub gradients: BTreeMap<String, Vec<f32>>,
}

impl Network {
    /// A network on a device.
    ///
    /// # Errors
    /// Missing, extra or wrongly shaped weights, all of them in one error; a device that this build leaves out.
    pub fn new(graph: Graph, weights: Weights, device: DeviceKind) -> Result<Self, LearnError> {
        graph.check_weights(&weights).map_err(|e| LearnError::Training(e.to_string()))?;
        let own = (device == DeviceKind::Cpu).then(|| clamped_norms(&graph));
        let device = device.open()?;
        let frozen = vec![false; graph.stages.len()];
        Ok(Self { graph, weights, device, frozen, batch_norm: BatchNormMode::Batch, resident: None, own })
    }

    /// Computes with Burn's operations alone, on the CPU too: slower; what tests and measurements compare with.
    pub fn without_own_operations(mut self) -> Self {
        self.own = None;
        self
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The weights, to change their values (not their names or shapes).
    pub fn weights_mut(&mut self) -> &mut Weights {
        self.resident = None;
        &mut self.weights
    }

    /// A copy of the weights.
    pub fn to_weights(&self) -> Weights {
        self.weights.clone()
    }

    /// Freezes stages (one flag a stage): they run in inference mode and get no gradients.
    pub fn freeze(&mut self, frozen: &[bool]) {
        self.frozen = frozen.to_vec();
        self.frozen.resize(self.graph.stages.len(), false);
    }

    /// What batch norms of trained stages normalise by.
    pub fn set_batch_norm(&mut self, mode: BatchNormMode) {
        self.batch_norm = mode;
    }

    /// Learned parameters of the stages that are not frozen: name, role and stage.
    pub fn trained(&self) -> impl Iterator<Item = (&str, Role, usize)> {
        let nodes = self.graph.nodes.iter().filter(|n| !self.frozen[n.stage]);
        nodes.flat_map(|n| n.parameters.iter().filter(|p| p.role.is_learned()).map(|p| (p.name.as_str(), p.role, n.stage)))
    }

    /// One pass forward and back in training mode on `input` `[N, ...]`. `loss` gets the logits `[N, num_classes]` and returns the loss
    /// and its gradient by them. Running statistics of batch norms move along; weights do not. Where the loss is not finite, there
    /// are no gradients.
    ///
    /// # Errors
    /// An input of the wrong shape, or what a node cannot compute.
    pub fn step(
        &mut self,
        input: HostTensor,
        key: NoiseKey,
        loss: impl FnOnce(&HostTensor) -> (f64, Vec<f32>),
    ) -> Result<StepResult, RunError> {
        self.check_input(&input)?;
        self.resident = None;
        let leaves = self.lend();
        let result = self.pass(input, key, &leaves, loss);
        self.take_back(leaves)?;
        let (result, statistics) = result?;
        self.follow(statistics)?;
        Ok(result)
    }

    /// Forward and back.
    fn pass(
        &self,
        input: HostTensor,
        key: NoiseKey,
        leaves: &Leaves,
        loss: impl FnOnce(&HostTensor) -> (f64, Vec<f32>),
    ) -> Result<(StepResult, Vec<(usize, ops::BatchStatistics)>), RunError> {
        let x = self.value(flat(input.data, &self.device), &input.shape)?;
        let frozen_statistics = self.batch_norm == BatchNormMode::Frozen;
        let modes = |stage: usize| if self.frozen[stage] { Mode::Inference } else { Mode::Training { key, frozen_statistics } };
        let Forward { outputs, statistics } = forward(&self.graph, self.own.as_deref(), x, leaves, &[self.graph.output], modes)?;
        let logits = logits(outputs)?;
        let on_host = host(logits.clone().inner()).map_err(RunError::Interpreter)?;
        let (loss, gradient) = loss(&on_host);
        if !loss.is_finite() {
            return Ok((StepResult { loss, gradients: BTreeMap::new() }, Vec::new()));
        }
        let gradient = flat(gradient, &self.device).reshape(logits.dims());
        let mut grads = (logits * gradient).sum().backward();
        let mut gradients = BTreeMap::new();
        for (name, _, _) in self.trained() {
            if let Some(gradient) = leaves.get(name).and_then(|leaf| leaf.grad_remove(&mut grads)) {
                gradients.insert(name.to_string(), host(gradient).map_err(RunError::Interpreter)?.data);
            }
        }
        Ok((StepResult { loss, gradients }, statistics))
    }

    /// Moves running statistics towards those of a batch (PyTorch's convention: the unbiased variance is what is remembered).
    fn follow(&mut self, statistics: Vec<(usize, ops::BatchStatistics)>) -> Result<(), RunError> {
        for (index, batch) in statistics {
            let node = &self.graph.nodes[index];
            let Op::BatchNorm(b) = &node.op else { continue };
            let unbias = batch.count as f32 / (batch.count.max(2) - 1) as f32;
            for (parameter, value, factor) in [(2, batch.mean, 1.0), (3, batch.variance, unbias)] {
                let value = host(value.inner()).map_err(RunError::Interpreter)?.data;
                let Some(running) = node.parameters.get(parameter).and_then(|p| self.weights.get_mut(&p.name)) else { continue };
                for (old, new) in running.data.iter_mut().zip(value) {
                    *old = (1.0 - b.momentum) * *old + b.momentum * factor * new;
                }
            }
        }
        Ok(())
    }

    /// Moves the weights to the device without copying where host and device share memory; those that are trained get gradients.
    fn lend(&mut self) -> Leaves {
        let tracked = self.device.clone().autodiff();
        let mut leaves = Leaves::new();
        for node in &self.graph.nodes {
            for parameter in &node.parameters {
                let Some(value) = self.weights.get_mut(&parameter.name) else { continue };
                let trained = parameter.role.is_learned() && !self.frozen[node.stage];
                let data = std::mem::take(&mut value.data);
                let leaf = if trained { flat(data, &tracked).require_grad() } else { flat(data, &self.device) };
                leaves.insert(parameter.name.clone(), leaf);
            }
        }
        leaves
    }

    /// The way back of [`Self::lend`].
    fn take_back(&mut self, leaves: Leaves) -> Result<(), RunError> {
        for (name, leaf) in leaves {
            if let Some(value) = self.weights.get_mut(&name) {
                value.data = host(leaf.inner()).map_err(RunError::Interpreter)?.data;
            }
        }
        Ok(())
    }

    /// Weights on the device for inference.
    fn resident(&mut self) -> Leaves {
        let copy = || self.weights.iter().map(|(name, value)| (name.clone(), flat(value.data.clone(), &self.device))).collect();
        self.resident.take().unwrap_or_else(copy)
    }

    fn check_input(&self, input: &HostTensor) -> Result<(), RunError> {
        let expected = self.graph.input_shape();
        let fits = input.shape.len() == expected.len() + 1 && input.shape[1..] == *expected && input.shape[0] > 0;
        if fits && input.shape.iter().product::<usize>() == input.data.len() {
            return Ok(());
        }
        Err(RunError::Input { expected: expected.to_vec(), found: input.shape.clone() })
    }

    fn value(&self, flat: Tensor<1>, shape: &[usize]) -> Result<Value, RunError> {
        Value::from_flat(flat, shape).ok_or_else(|| RunError::Input { expected: self.graph.input_shape().to_vec(), found: shape.to_vec() })
    }
}

fn logits(outputs: Vec<Value>) -> Result<Tensor<2>, RunError> {
    match outputs.into_iter().next() {
        Some(Value::Vector(logits)) => Ok(logits),
        Some(Value::Tokens(_) | Value::Map(_)) | None => Err(RunError::Interpreter("the graph's output is no vector of logits".into())),
    }
}

impl Interpreter for Network {
    fn run(&mut self, input: &HostTensor, outputs: &[NodeId]) -> Result<Vec<HostTensor>, RunError> {
        self.check_input(input)?;
        let nodes = self.graph.nodes.len();
        if let Some(id) = outputs.iter().find(|id| id.0 >= nodes) {
            return Err(RunError::NoSuchNode { node: id.0, nodes });
        }
        let wanted = if outputs.is_empty() { &[self.graph.output][..] } else { outputs };
        let leaves = self.resident();
        let x = self.value(flat(input.data.clone(), &self.device), &input.shape)?;
        let result = forward(&self.graph, self.own.as_deref(), x, &leaves, wanted, |_| Mode::Inference);
        self.resident = Some(leaves);
        result?.outputs.into_iter().map(|value| value.into_host().map_err(RunError::Interpreter)).collect()
    }
}

impl Differentiable for Network {
    fn input_gradient(&mut self, input: &HostTensor, output_gradient: &HostTensor) -> Result<HostTensor, RunError> {
        self.check_input(input)?;
        let expected = [input.shape[0], self.graph.num_classes()];
        if output_gradient.shape != expected {
            let problem = format!("expected a gradient {expected:?} by the logits, got {:?}", output_gradient.shape);
            return Err(RunError::Interpreter(problem));
        }
        let leaves = self.resident();
        let leaf = flat(input.data.clone(), &self.device.clone().autodiff()).require_grad();
        let x = self.value(leaf.clone(), &input.shape)?;
        let result = forward(&self.graph, self.own.as_deref(), x, &leaves, &[self.graph.output], |_| Mode::Inference);
        self.resident = Some(leaves);
        let logits = logits(result?.outputs)?;
        if !logits.is_tracked() {
            return Ok(HostTensor::zeros(input.shape.clone()));
        }
        let gradient = flat(output_gradient.data.clone(), &self.device).reshape(expected);
        let mut grads = (logits * gradient).sum().backward();
        let data = match leaf.grad_remove(&mut grads) {
            Some(gradient) => host(gradient).map_err(RunError::Interpreter)?.data,
            None => vec![0.0; input.data.len()],
        };
        Ok(HostTensor { shape: input.shape.clone(), data })
    }
}
