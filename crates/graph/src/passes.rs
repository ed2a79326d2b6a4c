//! Graphs from graphs: another number of classes, a part of a network.

use std::collections::BTreeSet;

use crate::error::GraphError;
use crate::infer::infer_shape;
use crate::ir::{Graph, Node, NodeId};
use crate::op::Op;

impl Graph {
    /// Parses a graph from JSON and checks it.
    ///
    /// # Errors
    /// Text that is no graph, or what [`Graph::check`] finds.
    pub fn from_json(json: &str) -> Result<Self, GraphError> {
        let graph: Self = serde_json::from_str(json)
            .map_err(|e| GraphError::Graph { graph: "JSON".into(), problem: format!("expected a graph, got text that is none: {e}") })?;
        graph.check()?;
        Ok(graph)
    }

    /// The graph as JSON, for [`Graph::from_json`].
    ///
    /// # Errors
    /// A graph that [`Graph::check`] refuses, since it could not be read again.
    pub fn to_json(&self) -> Result<String, GraphError> {
        self.check()?;
        serde_json::to_string(self).map_err(|e| self.problem(e.to_string()))
    }

    /// The same network with `num_classes` logits: the last linear layer's outputs are changed, and nothing before it.
    ///
    /// # Errors
    /// No classes, or an output that no linear layer makes.
    pub fn with_num_classes(&self, num_classes: usize) -> Result<Self, GraphError> {
        let mut graph = self.clone();
        let mut at = self.output.0;
        loop {
            let node = graph.nodes.get_mut(at).ok_or_else(|| self.problem(format!("no node {at}")))?;
            match (&mut node.op, node.inputs.as_slice()) {
                (Op::Linear(linear), _) => {
                    linear.out_features = num_classes;
                    break;
                }
                (Op::Activation(_) | Op::Dropout { .. } | Op::DropPath { .. } | Op::Softmax | Op::Flatten, [input]) => at = input.0,
                (op, _) => {
                    let problem = format!("expected a Linear that makes the logits, found {} at node {:?}", op.kind(), node.name);
                    return Err(self.problem(problem));
                }
            }
        }
        graph.infer_again()?;
        graph.check_classifier()?;
        Ok(graph)
    }

    /// The part of the graph that `at` depends on, with `at` as its output. Node ids change; names stay.
    ///
    /// # Errors
    /// `at` out of range.
    pub fn prefix(&self, at: NodeId) -> Result<Self, GraphError> {
        if at.0 >= self.nodes.len() {
            return Err(self.problem(format!("node {} of {}", at.0, self.nodes.len())));
        }
        let mut needed = BTreeSet::from([0, at.0]);
        for index in (0..=at.0).rev() {
            if needed.contains(&index) {
                needed.extend(self.nodes[index].inputs.iter().map(|input| input.0));
            }
        }
        self.part(&needed, at.0, 0)
    }

    /// Cuts the graph before `stage`: the first graph computes stages `0..stage`, its output is the one activation that crosses the
    /// border; the second graph's [`Op::Input`] is that activation. Node names stay, so each reads its part of the same weights.
    ///
    /// # Errors
    /// A stage out of `1..stages.len()`, or other than one activation that crosses.
    pub fn split_at_stage(&self, stage: usize) -> Result<(Self, Self), GraphError> {
        if stage == 0 || stage >= self.stages.len() {
            return Err(self.problem(format!("expected a stage in 1..{}, got {stage}", self.stages.len())));
        }
        let late = |id: usize| self.nodes[id].stage >= stage;
        let mut crossing = BTreeSet::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for input in &node.inputs {
                if late(index) && !late(input.0) {
                    crossing.insert(input.0);
                }
                if !late(index) && late(input.0) {
                    return Err(self.problem(format!("node {:?} reads a later stage than its own", node.name)));
                }
            }
        }
        let names = || crossing.iter().map(|&id| format!("{:?}", self.nodes[id].name)).collect::<Vec<_>>().join(", ");
        let (1, Some(&boundary)) = (crossing.len(), crossing.first()) else {
            let problem =
                format!("expected one activation that enters stage {:?}, got {}: {}", self.stages[stage], crossing.len(), names());
            return Err(self.problem(problem));
        };
        if !late(self.output.0) {
            return Err(self.problem(format!("the output is made before stage {:?}", self.stages[stage])));
        }
        let first = self.prefix(NodeId(boundary))?;
        let rest: BTreeSet<usize> = std::iter::once(boundary).chain((0..self.nodes.len()).filter(|&id| late(id))).collect();
        Ok((first, self.part(&rest, self.output.0, stage)?))
    }

    /// The node of this name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name).map(NodeId)
    }

    /// Multiply-adds of the convolutions, linear layers and attentions for one image.
    pub fn macs(&self) -> u64 {
        self.nodes.iter().map(macs).fold(0, u64::saturating_add)
    }

    fn problem(&self, problem: String) -> GraphError {
        GraphError::Graph { graph: self.name.clone(), problem }
    }

    /// The nodes of `keep` in order; the first becomes the Input, stages before `first_stage` are dropped, as are unused ones behind.
    fn part(&self, keep: &BTreeSet<usize>, output: usize, first_stage: usize) -> Result<Self, GraphError> {
        let position = |id: NodeId| keep.contains(&id.0).then(|| NodeId(keep.range(..id.0).count()));
        let mut nodes = Vec::with_capacity(keep.len());
        for &index in keep {
            let node = &self.nodes[index];
            let stage = node.stage.saturating_sub(first_stage);
            nodes.push(if nodes.is_empty() {
                input_node(node)
            } else {
                let inputs = node.inputs.iter().filter_map(|&id| position(id)).collect();
                Node { inputs, stage, ..node.clone() }
            });
        }
        let last_stage = nodes.iter().map(|node| node.stage).max().unwrap_or(0);
        let stages = self.stages.iter().skip(first_stage).take(last_stage + 1).cloned().collect();
        let taps = self.taps.iter().filter_map(|(name, &id)| Some((name.clone(), position(id)?))).collect();
        let output = position(NodeId(output)).ok_or_else(|| self.problem("the output is not in this part".into()))?;
        let graph = Self { name: self.name.clone(), nodes, output, taps, stages };
        graph.check()?;
        Ok(graph)
    }

    /// Writes shapes and parameter shapes anew after an op has changed.
    fn infer_again(&mut self) -> Result<(), GraphError> {
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let shapes: Vec<Vec<usize>> = node.inputs.iter().map(|&id| self.node(id).shape.clone()).collect();
            let borrowed: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
            let shape = infer_shape(&node.op, &borrowed).map_err(|problem| GraphError::Node {
                node: node.name.clone(),
                op: node.op.kind(),
                problem,
            })?;
            let expected = node.op.parameters(borrowed.first().copied().unwrap_or_default());
            let node = &mut self.nodes[index];
            node.shape = shape;
            for (parameter, (_, _, shape)) in node.parameters.iter_mut().zip(expected) {
                parameter.shape = shape;
            }
        }
        Ok(())
    }
}

/// The activation of `node` as the Input of another graph; the image Input stays what it is.
fn input_node(node: &Node) -> Node {
    let shape = node.shape.clone();
    Node { name: node.name.clone(), op: Op::Input { shape: shape.clone() }, inputs: Vec::new(), parameters: Vec::new(), stage: 0, shape }
}

fn macs(node: &Node) -> u64 {
    let outputs = node.shape.iter().product::<usize>() as u64;
    match &node.op {
        Op::Conv2d(c) => outputs.saturating_mul((c.in_channels / c.groups.max(1) * c.kernel[0] * c.kernel[1]) as u64),
        Op::Linear(l) => outputs.saturating_mul(l.in_features as u64),
        // Scores and weighted values: T × T × D each.
        Op::Attention { .. } => outputs.saturating_mul(2 * node.shape[0] as u64),
        Op::Input { .. }
        | Op::BatchNorm(_)
        | Op::LayerNorm(_)
        | Op::Activation(_)
        | Op::MaxPool2d(_)
        | Op::AvgPool2d(_)
        | Op::GlobalAvgPool
        | Op::Flatten
        | Op::Add
        | Op::Mul
        | Op::Concat
        | Op::Dropout { .. }
        | Op::DropPath { .. }
        | Op::ToTokens
        | Op::ToMap { .. }
        | Op::Slice { .. }
        | Op::PrependToken
        | Op::AddPosition
        | Op::SelectToken { .. }
        | Op::Softmax => 0,
    }
}
