//! The interpreter: walks the nodes and calls one function an op.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use graph::{Activation, BatchNorm, Conv2d, Graph, Node, NodeId, Op, Pool2d, RunError};
use kernels::Clamp;

use super::NoiseKey;
use super::cpu;
use super::ops::{self, BatchStatistics, Computed};
use super::value::{Value, each};

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

/// The one reader of each batch norm whose one reader is an activation that clamps: `(its index, the bounds)`.
pub(super) fn clamped_norms(graph: &Graph) -> Vec<Option<(usize, Clamp)>> {
    let mut readers = vec![Vec::new(); graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|id| readers[id.0].push(index));
    }
    let clamped = |(node, readers): (&Node, &Vec<usize>)| match (&node.op, readers.as_slice()) {
        (Op::BatchNorm(_), &[reader]) => match graph.nodes[reader].op {
            Op::Activation(kind) => cpu::clamp_of(kind).map(|clamp| (reader, clamp)),
            _ => None,
        },
        _ => None,
    };
    graph.nodes.iter().zip(&readers).map(clamped).collect()
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

/// Runs `graph` up to the `wanted` nodes, each stage in its own mode; with `clamped_norms` by the operations of our own.
pub(super) fn forward(
    graph: &Graph,
    own: Option<&[Option<(usize, Clamp)>]>,
    input: Value,
    leaves: &Leaves,
    wanted: &[NodeId],
    modes: impl Fn(usize) -> Mode,
) -> Result<Forward, RunError> {
    let mut uses = uses(graph, wanted);
    let mut values: Vec<Option<Value>> = vec![None; graph.nodes.len()];
    let mut statistics = Vec::new();
    let mut input = Some(input);
    let mut done = vec![false; graph.nodes.len()];
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
        if done[index] {
            values[index] = inputs.pop();
            continue;
        }
        let clamp = own.and_then(|norms| norms[index]).filter(|(reader, _)| uses[index] == 1 && uses[*reader] > 0);
        if let Some((reader, _)) = clamp {
            done[reader] = true;
        }
        let step = Step { index, node, leaves, mode: modes(node.stage), own: own.is_some(), clamp: clamp.map(|c| c.1) };
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
    /// Whether the operations of our own are used.
    own: bool,
    /// For a batch norm: the activation behind it, done at once.
    clamp: Option<Clamp>,
}

impl Step<'_> {
    fn compute(&self, mut inputs: Vec<Value>, statistics: &mut Vec<(usize, BatchStatistics)>) -> Computed {
        let mut next = || if inputs.is_empty() { Err("an input is missing".to_string()) } else { Ok(inputs.remove(0)) };
        match &self.node.op {
            Op::Input { .. } => next(),
            Op::Concat => ops::concat(inputs),
            Op::Conv2d(c) => self.conv2d(next()?, c),
            Op::Linear(l) => ops::linear(next()?, l.out_features, self.weight(0)?, self.bias(l.bias)?),
            Op::BatchNorm(b) => self.batch_norm(next()?, b, statistics),
            Op::LayerNorm(l) => ops::layer_norm(next()?, l.eps, self.weight(0)?, self.weight(1)?),
            Op::Activation(kind) => self.activate(next()?, *kind),
            Op::MaxPool2d(p) => self.max_pool(next()?, p),
            Op::AvgPool2d(p) => ops::avg_pool(next()?, p),
            Op::GlobalAvgPool => self.global_avg_pool(next()?),
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

    fn conv2d(&self, x: Value, c: &Conv2d) -> Computed {
        let (weight, bias) = (self.weight(0)?, self.bias(c.bias)?);
        match x {
            Value::Map(x) if self.own => Ok(Value::Map(cpu::conv2d(x, c, weight, bias))),
            x => ops::conv2d(x, c, weight, bias),
        }
    }

    fn activate(&self, x: Value, kind: Activation) -> Computed {
        match cpu::clamp_of(kind) {
            Some(clamp) if self.own => Ok(each!(x, t => cpu::clamp(t, clamp))),
            _ => ops::activate(x, kind),
        }
    }

    fn max_pool(&self, x: Value, p: &Pool2d) -> Computed {
        match x {
            Value::Map(x) if self.own => Ok(Value::Map(cpu::max_pool(x, p))),
            x => ops::max_pool(x, p),
        }
    }

    fn global_avg_pool(&self, x: Value) -> Computed {
        match x {
            Value::Map(x) if self.own => Ok(Value::Vector(cpu::global_avg_pool(x))),
            x => ops::global_avg_pool(x),
        }
    }

    fn batch_norm(&self, x: Value, b: &BatchNorm, statistics: &mut Vec<(usize, BatchStatistics)>) -> Computed {
        let (gamma, beta) = (self.weight(0)?, self.weight(1)?);
        let (shape, x) = match x {
            // Channels are last in vectors as in maps: one kernel serves both.
            Value::Map(x) if self.own => (None, x),
            Value::Vector(x) if self.own => {
                let [n, d] = x.dims();
                (Some([n, d]), x.reshape([n, 1, 1, d]))
            }
            x => return self.batch_norm_by_burn(x, b, gamma, beta, statistics),
        };
        let y = match self.mode {
            Mode::Training { frozen_statistics: false, .. } => {
                let (y, batch) = cpu::batch_norm_by_batch(x, b.eps, gamma, beta, self.clamp);
                statistics.push((self.index, batch));
                y
            }
            Mode::Training { .. } | Mode::Inference => {
                cpu::batch_norm_by_running(x, b.eps, [gamma, beta, self.weight(2)?, self.weight(3)?], self.clamp)
            }
        };
        Ok(match shape {
            Some(shape) => Value::Vector(y.reshape(shape)),
            None => Value::Map(y),
        })
    }

    fn batch_norm_by_burn(
        &self,
        x: Value,
        b: &BatchNorm,
        gamma: Tensor<1>,
        beta: Tensor<1>,
        statistics: &mut Vec<(usize, BatchStatistics)>,
    ) -> Computed {
        let y = match self.mode {
            Mode::Training { frozen_statistics: false, .. } => {
                let (y, batch) = ops::batch_norm_by_batch(x, b, gamma, beta)?;
                statistics.push((self.index, batch));
                y
            }
            Mode::Training { .. } | Mode::Inference => ops::batch_norm_by_running(x, b, [gamma, beta, self.weight(2)?, self.weight(3)?])?,
        };
        match self.clamp {
            Some(clamp) => Ok(each!(y, t => cpu::clamp(t, clamp))),
            None => Ok(y),
        }
    }

    fn noise(&self, x: Value, p: f32, apply: fn(Value, f32, NoiseKey, usize) -> Computed) -> Computed {
        match self.mode {
            Mode::Training { key, .. } if p > 0.0 => apply(x, p, key, self.index),
            Mode::Training { .. } | Mode::Inference => Ok(x),
        }
    }
}
