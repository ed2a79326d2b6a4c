//! The slow, obvious interpreter: the oracle of every test.

mod dense;
mod number;
mod spatial;
#[cfg(test)]
mod tests;

use crate::interpreter::{Interpreter, RunError};
use crate::ir::{Graph, Node, NodeId};
use crate::op::Op;
use crate::tensor::{Tensor, Weights};
use number::Number;

/// Runs `graph` on `input` `[N, C, H, W]` in inference mode and returns the activations of `taps`, each with the batch dimension in
/// front; no taps means the logits `[N, num_classes]`. Values are `f32`; sums are taken in `f64`.
///
/// ```
/// use fieldmark_graph::{GraphBuilder, Tensor, reference};
///
/// let mut b = GraphBuilder::new("mean", [3, 2, 2]);
/// let x = b.input();
/// let x = b.global_avg_pool("pool", x);
/// let graph = b.finish(x)?;
/// let input = Tensor::new([1, 3, 2, 2], (0..12).map(|i| i as f32).collect()).ok_or("sizes")?;
/// let logits = reference::run(&graph, &graph.init_weights(0), &input, &[])?;
/// assert_eq!(logits[0].data, [1.5, 5.5, 9.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// An input of the wrong shape, a tap out of range, a weight that is missing or wrongly shaped, a graph that [`Graph::check`] refuses.
pub fn run(graph: &Graph, weights: &Weights, input: &Tensor, taps: &[NodeId]) -> Result<Vec<Tensor>, RunError> {
    walk(graph, weights, input, Mode::Inference, taps, |_, _| ())
}

/// [`run`], where `change` sees the values of each node before others read them: what a number format rounds off.
///
/// # Errors
/// As [`run`].
pub fn run_changed(
    graph: &Graph,
    weights: &Weights,
    input: &Tensor,
    taps: &[NodeId],
    change: impl FnMut(NodeId, &mut Tensor),
) -> Result<Vec<Tensor>, RunError> {
    walk(graph, weights, input, Mode::Inference, taps, change)
}

/// How ops compute that training knows.
#[derive(Clone, Copy)]
pub enum Mode<'a> {
    /// Batch norms by their running statistics, nothing dropped.
    Inference,
    /// Batch norms by the mean and the biased variance of the batch. Dropout and stochastic depth multiply by a mask of factors that is
    /// filled by `(node, p, mask)`: one for each value, and one for each image.
    Training(&'a dyn Fn(usize, f32, &mut [f64])),
}

/// [`run`] with every value in `f64`, in a mode: what differences of a loss are taken of, to judge gradients.
///
/// # Errors
/// As [`run`].
pub fn run_f64(
    graph: &Graph,
    weights: &Weights<f64>,
    input: &Tensor<f64>,
    mode: Mode<'_>,
    taps: &[NodeId],
) -> Result<Vec<Tensor<f64>>, RunError> {
    walk(graph, weights, input, mode, taps, |_, _| ())
}

fn walk<T: Number>(
    graph: &Graph,
    weights: &Weights<T>,
    input: &Tensor<T>,
    mode: Mode<'_>,
    taps: &[NodeId],
    mut change: impl FnMut(NodeId, &mut Tensor<T>),
) -> Result<Vec<Tensor<T>>, RunError> {
    graph.check().map_err(|e| RunError::Interpreter(e.to_string()))?;
    graph.check_run(input, taps)?;
    let wanted = if taps.is_empty() { std::slice::from_ref(&graph.output) } else { taps };
    let last = wanted.iter().map(|id| id.0).max().unwrap_or(0);
    let mut activations: Vec<Tensor<T>> = Vec::with_capacity(last + 1);
    for (index, node) in graph.nodes[..=last].iter().enumerate() {
        let inputs: Vec<&Tensor<T>> = node.inputs.iter().map(|id| &activations[id.0]).collect();
        let mut output = match node.op {
            Op::Input { .. } => input.clone(),
            _ => evaluate(&node.op, &inputs, &parameters(node, weights)?, mode, index),
        };
        change(NodeId(index), &mut output);
        activations.push(output);
    }
    Ok(wanted.iter().map(|id| activations[id.0].clone()).collect())
}

/// The reference behind the [`Interpreter`] trait.
#[derive(Debug, Clone, Copy)]
pub struct Reference<'a> {
    /// What to run.
    pub graph: &'a Graph,
    /// Its weights.
    pub weights: &'a Weights,
}

impl Interpreter for Reference<'_> {
    fn run(&mut self, input: &Tensor, outputs: &[NodeId]) -> Result<Vec<Tensor>, RunError> {
        run(self.graph, self.weights, input, outputs)
    }
}

impl Graph {
    /// Checks the arguments of a run, for every interpreter: `input` is `[N, ..input_shape]` with that many values, and `outputs` exist.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check_run<T>(&self, input: &Tensor<T>, outputs: &[NodeId]) -> Result<(), RunError> {
        let fits = input.shape.len() == self.input_shape().len() + 1
            && input.shape[1..] == *self.input_shape()
            && input.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) == Some(input.data.len());
        if !fits {
            return Err(RunError::Input { expected: self.input_shape().to_vec(), found: input.shape.clone() });
        }
        match outputs.iter().find(|id| id.0 >= self.nodes.len()) {
            Some(id) => Err(RunError::NoSuchNode { node: id.0, nodes: self.nodes.len() }),
            None => Ok(()),
        }
    }
}

fn parameters<'w, T>(node: &Node, weights: &'w Weights<T>) -> Result<Vec<&'w Tensor<T>>, RunError> {
    let find = |parameter: &crate::ir::Parameter| {
        let names = || (node.name.clone(), parameter.name.clone());
        let Some(tensor) = weights.get(&parameter.name) else {
            let (node, weight) = names();
            return Err(RunError::MissingWeight { node, weight });
        };
        if tensor.shape != parameter.shape || tensor.data.len() != parameter.shape.iter().product::<usize>() {
            let (node, weight) = names();
            let (expected, found) = (parameter.shape.clone(), tensor.shape.clone());
            return Err(RunError::WeightShape { node, weight, expected, found, values: tensor.data.len() });
        }
        Ok(tensor)
    };
    node.parameters.iter().map(find).collect()
}

impl Mode<'_> {
    fn is_training(self) -> bool {
        matches!(self, Self::Training(_))
    }

    /// The mask of a node that drops with probability `p`; none where nothing is dropped.
    fn mask(self, node: usize, p: f32, values: usize) -> Option<Vec<f64>> {
        match self {
            Self::Training(fill) if p > 0.0 => {
                let mut mask = vec![1.0; values];
                fill(node, p, &mut mask);
                Some(mask)
            }
            Self::Training(_) | Self::Inference => None,
        }
    }
}

/// One op on checked inputs and parameters, all with the batch dimension in front; `node` names its mask.
fn evaluate<T: Number>(op: &Op, inputs: &[&Tensor<T>], parameters: &[&Tensor<T>], mode: Mode<'_>, node: usize) -> Tensor<T> {
    let x = inputs[0];
    match op {
        Op::Input { .. } => x.clone(),
        Op::Dropout { p } => dense::masked(x, mode.mask(node, *p, x.data.len())),
        Op::DropPath { p } => dense::masked(x, mode.mask(node, *p, x.shape[0])),
        Op::Conv2d(conv) => spatial::conv2d(conv, x, parameters),
        Op::Linear(linear) => dense::linear(linear, x, parameters),
        Op::BatchNorm(norm) => dense::batch_norm(norm, x, parameters, mode.is_training()),
        Op::LayerNorm(norm) => dense::layer_norm(norm, x, parameters),
        Op::Activation(activation) => dense::activation(*activation, x),
        Op::MaxPool2d(pool) => spatial::max_pool(pool, x),
        Op::AvgPool2d(pool) => spatial::avg_pool(pool, x),
        Op::GlobalAvgPool => spatial::global_avg_pool(x),
        Op::Flatten => Tensor { shape: vec![x.shape[0], x.shape[1..].iter().product()], data: x.data.clone() },
        Op::Add => dense::add(x, inputs[1]),
        Op::Mul => dense::mul(x, inputs[1]),
        Op::Concat => dense::concat(inputs),
        Op::ToTokens => dense::to_tokens(x),
        Op::ToMap { size } => dense::to_map(x, *size),
        Op::Slice { start, len } => dense::slice(x, *start, *len),
        Op::PrependToken => dense::prepend_token(x, parameters[0]),
        Op::AddPosition => dense::add_position(x, parameters[0]),
        Op::SelectToken { index } => dense::select_token(x, *index),
        Op::Attention { heads } => dense::attention(x, *heads),
        Op::Softmax => dense::softmax(x),
    }
}
