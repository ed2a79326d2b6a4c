//! A network by Burn's tensors and autodiff: on GPUs, and as the oracle of the training plans.

mod forward;
mod ops;
mod value;

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use graph::{Graph, NodeId, RunError, Tensor as HostTensor, Weights};

use super::{Loss, NoiseKey, Subject, follow};
use crate::fit::BatchNormMode;
use crate::optim::{Gradients, accumulate};
use crate::{DeviceKind, LearnError};
use forward::{Forward, Leaves, Mode, forward};
use value::{Value, flat, host};

/// A device, and the weights that are on it for inference.
#[derive(Debug)]
pub(super) struct Burned {
    device: Device,
    /// Until they change.
    resident: Option<Leaves>,
}

impl Burned {
    pub fn new(device: DeviceKind) -> Result<Self, LearnError> {
        Ok(Self { device: device.open()?, resident: None })
    }

    /// The weights have changed.
    pub fn forget(&mut self) {
        self.resident = None;
    }

    pub fn step(
        &mut self,
        subject: Subject<'_>,
        weights: &mut Weights,
        input: &HostTensor,
        key: NoiseKey,
        gradients: &mut Gradients,
        loss: Loss<'_>,
    ) -> Result<f64, RunError> {
        self.resident = None;
        let leaves = self.lend(subject, weights);
        let result = self.pass(subject, input, key, &leaves, loss);
        for (name, leaf) in leaves {
            if let Some(value) = weights.get_mut(&name) {
                value.data = host(leaf.inner()).map_err(RunError::Interpreter)?.data;
            }
        }
        let (loss, more, statistics) = result?;
        if !loss.is_finite() {
            return Ok(loss);
        }
        if gradients.batches == 0 {
            gradients.values = more;
        } else {
            accumulate(&mut gradients.values, more);
        }
        gradients.batches += 1;
        for (node, batch) in statistics {
            let [mean, variance] = [batch.mean, batch.variance].map(|t| host(t.inner()));
            let (mean, variance) = (mean.map_err(RunError::Interpreter)?, variance.map_err(RunError::Interpreter)?);
            follow(subject.graph, weights, node, &mean.data, &variance.data, batch.count);
        }
        Ok(loss)
    }

    /// Forward and back.
    #[allow(clippy::type_complexity)]
    fn pass(
        &self,
        subject: Subject<'_>,
        input: &HostTensor,
        key: NoiseKey,
        leaves: &Leaves,
        loss: Loss<'_>,
    ) -> Result<(f64, BTreeMap<String, Vec<f32>>, Vec<(usize, ops::BatchStatistics)>), RunError> {
        let x = value(flat(input.data.clone(), &self.device), &input.shape, subject.graph)?;
        let frozen_statistics = subject.batch_norm == BatchNormMode::Frozen;
        let modes = |stage: usize| if subject.frozen[stage] { Mode::Inference } else { Mode::Training { key, frozen_statistics } };
        let Forward { outputs, statistics } = forward(subject.graph, x, leaves, &[subject.graph.output], modes)?;
        let logits = logits(outputs)?;
        let on_host = host(logits.clone().inner()).map_err(RunError::Interpreter)?;
        let (loss, gradient) = loss(&on_host);
        if !loss.is_finite() {
            return Ok((loss, BTreeMap::new(), Vec::new()));
        }
        let gradient = flat(gradient, &self.device).reshape(logits.dims());
        let mut grads = (logits * gradient).sum().backward();
        let mut gradients = BTreeMap::new();
        for (name, leaf) in leaves.iter().filter(|(_, leaf)| leaf.is_require_grad()) {
            if let Some(gradient) = leaf.grad_remove(&mut grads) {
                gradients.insert(name.clone(), host(gradient).map_err(RunError::Interpreter)?.data);
            }
        }
        Ok((loss, gradients, statistics))
    }

    /// Moves the weights to the device without copying where host and device share memory; those that are trained get gradients.
    fn lend(&self, subject: Subject<'_>, weights: &mut Weights) -> Leaves {
        let tracked = self.device.clone().autodiff();
        let mut leaves = Leaves::new();
        for node in &subject.graph.nodes {
            for parameter in &node.parameters {
                let Some(value) = weights.get_mut(&parameter.name) else { continue };
                let trained = parameter.role.is_learned() && !subject.frozen[node.stage];
                let data = std::mem::take(&mut value.data);
                let leaf = if trained { flat(data, &tracked).require_grad() } else { flat(data, &self.device) };
                leaves.insert(parameter.name.clone(), leaf);
            }
        }
        leaves
    }

    /// Weights on the device for inference.
    fn resident(&mut self, weights: &Weights) -> Leaves {
        let copy = || weights.iter().map(|(name, value)| (name.clone(), flat(value.data.clone(), &self.device))).collect();
        self.resident.take().unwrap_or_else(copy)
    }

    pub fn run(&mut self, graph: &Graph, weights: &Weights, input: &HostTensor, wanted: &[NodeId]) -> Result<Vec<HostTensor>, RunError> {
        let leaves = self.resident(weights);
        let x = value(flat(input.data.clone(), &self.device), &input.shape, graph)?;
        let result = forward(graph, x, &leaves, wanted, |_| Mode::Inference);
        self.resident = Some(leaves);
        result?.outputs.into_iter().map(|value| value.into_host().map_err(RunError::Interpreter)).collect()
    }

    pub fn input_gradient(
        &mut self,
        graph: &Graph,
        weights: &Weights,
        input: &HostTensor,
        output_gradient: &HostTensor,
    ) -> Result<HostTensor, RunError> {
        let leaves = self.resident(weights);
        let leaf = flat(input.data.clone(), &self.device.clone().autodiff()).require_grad();
        let x = value(leaf.clone(), &input.shape, graph)?;
        let result = forward(graph, x, &leaves, &[graph.output], |_| Mode::Inference);
        self.resident = Some(leaves);
        let logits = logits(result?.outputs)?;
        if !logits.is_tracked() {
            return Ok(HostTensor::zeros(input.shape.clone()));
        }
        let gradient = flat(output_gradient.data.clone(), &self.device).reshape(logits.dims());
        let mut grads = (logits * gradient).sum().backward();
        let data = match leaf.grad_remove(&mut grads) {
            Some(gradient) => host(gradient).map_err(RunError::Interpreter)?.data,
            None => vec![0.0; input.data.len()],
        };
        Ok(HostTensor { shape: input.shape.clone(), data })
    }
}

fn value(flat: Tensor<1>, shape: &[usize], graph: &Graph) -> Result<Value, RunError> {
    Value::from_flat(flat, shape).ok_or_else(|| RunError::Input { expected: graph.input_shape().to_vec(), found: shape.to_vec() })
}

fn logits(outputs: Vec<Value>) -> Result<Tensor<2>, RunError> {
    match outputs.into_iter().next() {
        Some(Value::Vector(logits)) => Ok(logits),
        Some(Value::Tokens(_) | Value::Map(_)) | None => Err(RunError::Interpreter("the graph's output is no vector of logits".into())),
    }
}
