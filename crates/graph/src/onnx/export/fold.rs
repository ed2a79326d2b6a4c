//! Batch norms folded into the layers before them.

use std::collections::BTreeSet;

use crate::error::GraphError;
use crate::ir::{Graph, NodeId, Parameter};
use crate::op::{BatchNorm, Op, Role};
use crate::tensor::{Tensor, Weights};

/// The same network in inference, without the batch norms that directly follow a convolution or linear layer which nothing else reads.
pub(super) fn fold_batch_norms(graph: &Graph, weights: &Weights) -> Result<(Graph, Weights), GraphError> {
    let mut readers = vec![0usize; graph.nodes.len()];
    graph.nodes.iter().flat_map(|node| &node.inputs).for_each(|id| readers[id.0] += 1);
    let mut weights = weights.clone();
    let mut folded = graph.clone();
    let mut gone = BTreeSet::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let (Op::BatchNorm(norm), Some(&before)) = (&node.op, node.inputs.first()) else { continue };
        let alone = readers[before.0] == 1 && graph.output != before;
        // Over tokens, a norm's channels are the tokens: no linear layer can take it.
        let fits = node.shape.len() != 2;
        if alone && fits && fold(&mut folded, &mut weights, before, index, norm) {
            gone.insert(index);
        }
    }
    let renumbered = |id: NodeId| {
        let at = if gone.contains(&id.0) { graph.nodes[id.0].inputs[0].0 } else { id.0 };
        NodeId(at - gone.range(..at).count())
    };
    let mut nodes = Vec::new();
    for (index, mut node) in std::mem::take(&mut folded.nodes).into_iter().enumerate() {
        if !gone.contains(&index) {
            node.inputs = node.inputs.iter().map(|&id| renumbered(id)).collect();
            nodes.push(node);
        }
    }
    folded.nodes = nodes;
    folded.output = renumbered(graph.output);
    folded.taps = graph.taps.iter().map(|(name, &id)| (name.clone(), renumbered(id))).collect();
    folded.check()?;
    Ok((folded, weights))
}

/// Folds the norm at `norm_at` into the layer at `before`; false where that is no layer with weights.
fn fold(graph: &mut Graph, weights: &mut Weights, before: NodeId, norm_at: usize, norm: &BatchNorm) -> bool {
    let names: Vec<String> = graph.nodes[norm_at].parameters.iter().map(|p| p.name.clone()).collect();
    let layer = &mut graph.nodes[before.0];
    let has_bias = match &mut layer.op {
        Op::Conv2d(conv) => std::mem::replace(&mut conv.bias, true),
        Op::Linear(linear) if layer.shape.len() == 1 => std::mem::replace(&mut linear.bias, true),
        _ => return false,
    };
    let values = |name: &String| weights.get(name).map(|t| t.data.clone()).unwrap_or_default();
    let [gamma, beta, mean, var] = [0, 1, 2, 3].map(|i| values(&names[i]));
    let scale: Vec<f64> = gamma.iter().zip(&var).map(|(&g, &v)| f64::from(g) / (f64::from(v) + f64::from(norm.eps)).sqrt()).collect();
    let weight_name = layer.parameters[0].name.clone();
    let bias_name = format!("{}.bias", layer.name);
    if !has_bias {
        layer.parameters.push(Parameter { name: bias_name, role: Role::Bias, shape: vec![norm.channels] });
    }
    let bias_name = layer.parameters[1].name.clone();
    let old = if has_bias { values(&bias_name) } else { vec![0.0; norm.channels] };
    let bias = (0..norm.channels).map(|c| (f64::from(beta[c]) + (f64::from(old[c]) - f64::from(mean[c])) * scale[c]) as f32).collect();
    if let Some(weight) = weights.get_mut(&weight_name) {
        let row = weight.data.len() / norm.channels.max(1);
        for (i, w) in weight.data.iter_mut().enumerate() {
            *w = (f64::from(*w) * scale[i / row]) as f32;
        }
    }
    weights.insert(bias_name, Tensor { shape: vec![norm.channels], data: bias });
    names.iter().for_each(|name| drop(weights.remove(name)));
    true
}
