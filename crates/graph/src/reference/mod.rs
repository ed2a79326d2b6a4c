//! The slow, obvious interpreter: the oracle of every test.

mod dense;
mod spatial;
#[cfg(test)]
mod tests;

use crate::interpreter::{Interpreter, RunError};
use crate::ir::{Graph, Node, NodeId};
use crate::op::Op;
use crate::tensor::{Tensor, Weights};

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
    graph.check().map_err(|e| RunError::Interpreter(e.to_string()))?;
    graph.check_run(input, taps)?;
    let wanted = if taps.is_empty() { std::slice::from_ref(&graph.output) } else { taps };
    let last = wanted.iter().map(|id| id.0).max().unwrap_or(0);
    let mut activations: Vec<Tensor> = Vec::with_capacity(last + 1);
    for node in &graph.nodes[..=last] {
        let inputs: Vec<&Tensor> = node.inputs.iter().map(|id| &activations[id.0]).collect();
        let output = match node.op {
            Op::Input { .. } => input.clone(),
            _ => evaluate(&node.op, &inputs, &parameters(node, weights)?),
        };
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
    pub fn check_run(&self, input: &Tensor, outputs: &[NodeId]) -> Result<(), RunError> {
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

fn parameters<'w>(node: &Node, weights: &'w Weights) -> Result<Vec<&'w Tensor>, RunError> {
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

/// One op on checked inputs and parameters, all with the batch dimension in front.
fn evaluate(op: &Op, inputs: &[&Tensor], parameters: &[&Tensor]) -> Tensor {
    let x = inputs[0];
    match op {
        Op::Input { .. } | Op::Dropout { .. } | Op::DropPath { .. } => x.clone(),
        Op::Conv2d(conv) => spatial::conv2d(conv, x, parameters),
        Op::Linear(linear) => dense::linear(linear, x, parameters),
        Op::BatchNorm(norm) => dense::batch_norm(norm, x, parameters),
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
