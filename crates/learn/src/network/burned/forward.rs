//! The interpreter: walks the nodes and calls one function an op.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use graph::{BatchNorm, Graph, Node, NodeId, Op, RunError};

use super::ops::{self, BatchStatistics, Computed};
use super::value::Value;
use crate::network::NoiseKey;

/// Weights on the device, flat, by name.
pub(super) type Leaves = BTreeMap<String, Tensor<1>>;

/// How a stage computes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mode {
    /// Running statistics, no dropout.
    Inference,
    /// Dropout and stochastic depth by the key; batch norms by their batch, or (`frozen_statistics`) by the running ones.
    Training { key: NoiseKey, frozen_statistics: bool },
}

/// What a forward pass leaves behind.
pub(super) struct Forward {
    /// The wanted activations, in order.
    pub(super) outputs: Vec<Value>,
    /// Statistics of the batch norms that used them, by node.
    pub(super) statistics: Vec<(usize, BatchStatistics)>,
}

/// Which nodes `wanted` depends on, and how often each is read (a wanted node once more).
fn uses(graph: &Graph, wanted: &[NodeId]) -> Vec<usize> {
    let mut uses = vec![0; graph.nodes.len()];
    for id in wanted {
        uses[id.0] += 1;
    }
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        if uses[index] > 0 {
            for input in &node.inputs {
                uses[input.0] += 1;
            }
        }
    }
    uses
}

/// Runs `graph` up to the `wanted` nodes, each stage in its own mode.
pub(super) fn forward(
    graph: &Graph,
    input: Value,
    leaves: &Leaves,
    wanted: &[NodeId],
    modes: impl Fn(usize) -> Mode,
) -> Result<Forward, RunError> {
    let mut uses = uses(graph, wanted);
    let mut values: Vec<Option<Value>> = vec![None; graph.nodes.len()];
    let mut statistics = Vec::new();
    let mut input = Some(input);
    for (index, node) in graph.nodes.iter().enumerate() {
        if uses[index] == 0 {
            continue;
        }
        let mut inputs = Vec::with_capacity(node.inputs.len().max(1));
        for id in &node.inputs {
            uses[id.0] -= 1;
            let value = if uses[id.0] == 0 { values[id.0].take() } else { values[id.0].clone() };
            inputs.extend(value);
        }
        if index == 0 {
            inputs.extend(input.take());
        }
        let step = Step { index, node, leaves, mode: modes(node.stage) };
        let value = step.compute(inputs, &mut statistics);
        let value = value.map_err(|problem| RunError::Node { node: node.name.clone(), op: node.op.kind(), problem })?;
        values[index] = Some(value);
    }
    let outputs = wanted.iter().filter_map(|id| values[id.0].clone()).collect();
    Ok(Forward { outputs, statistics })
}

struct Step<'a> {
    index: usize,
    node: &'a Node,
    leaves: &'a Leaves,
    mode: Mode,
}

impl Step<'_> {
    fn compute(&self, mut inputs: Vec<Value>, statistics: &mut Vec<(usize, BatchStatistics)>) -> Computed {
        let mut next = || if inputs.is_empty() { Err("an input is missing".to_string()) } else { Ok(inputs.remove(0)) };
        match &self.node.op {
            Op::Input { .. } => next(),
            Op::Concat => ops::concat(inputs),
            Op::Conv2d(c) => ops::conv2d(next()?, c, self.weight(0)?, self.bias(c.bias)?),
            Op::Linear(l) => ops::linear(next()?, l.out_features, self.weight(0)?, self.bias(l.bias)?),
            Op::BatchNorm(b) => self.batch_norm(next()?, b, statistics),
            Op::LayerNorm(l) => ops::layer_norm(next()?, l.eps, self.weight(0)?, self.weight(1)?),
            Op::Activation(kind) => ops::activate(next()?, *kind),
            Op::MaxPool2d(p) => ops::max_pool(next()?, p),
            Op::AvgPool2d(p) => ops::avg_pool(next()?, p),
            Op::GlobalAvgPool => ops::global_avg_pool(next()?),
            Op::Flatten => ops::flatten(next()?),
            Op::Add => ops::add(next()?, next()?),
            Op::Mul => ops::multiply(next()?, next()?),
            Op::Dropout { p } => self.noise(next()?, *p, ops::dropout),
            Op::DropPath { p } => self.noise(next()?, *p, ops::drop_path),
            Op::ToTokens => ops::to_tokens(next()?),
            Op::ToMap { size } => ops::to_map(next()?, *size),
            Op::Slice { start, len } => ops::slice(next()?, *start, *len),
            Op::PrependToken => ops::prepend_token(next()?, self.weight(0)?),
            Op::AddPosition => ops::add_position(next()?, self.weight(0)?),
            Op::SelectToken { index } => ops::select_token(next()?, *index),
            Op::Attention { heads } => ops::attention(next()?, *heads),
            Op::Softmax => ops::softmax(next()?),
        }
    }

    fn weight(&self, index: usize) -> Result<Tensor<1>, String> {
        let parameter = self.node.parameters.get(index).ok_or("a parameter is missing from the node")?;
        self.leaves
            .get(&parameter.name)
            .cloned()
            .ok_or_else(|| format!("weight {:?} is missing; load it or initialise it first", parameter.name))
    }

    fn bias(&self, present: bool) -> Result<Option<Tensor<1>>, String> {
        if present { self.weight(1).map(Some) } else { Ok(None) }
    }

    fn batch_norm(&self, x: Value, b: &BatchNorm, statistics: &mut Vec<(usize, BatchStatistics)>) -> Computed {
        let (gamma, beta) = (self.weight(0)?, self.weight(1)?);
        match self.mode {
            Mode::Training { frozen_statistics: false, .. } => {
                let (y, batch) = ops::batch_norm_by_batch(x, b, gamma, beta)?;
                statistics.push((self.index, batch));
                Ok(y)
            }
            Mode::Training { .. } | Mode::Inference => ops::batch_norm_by_running(x, b, [gamma, beta, self.weight(2)?, self.weight(3)?]),
        }
    }

    fn noise(&self, x: Value, p: f32, apply: fn(Value, f32, NoiseKey, usize) -> Computed) -> Computed {
        match self.mode {
            Mode::Training { key, .. } if p > 0.0 => apply(x, p, key, self.index),
            Mode::Training { .. } | Mode::Inference => Ok(x),
        }
    }
}
