//! The graph: nodes in topological order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::op::{Op, Role};

/// A node's position in [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub usize);

/// A named weight that a node reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Name in the weights file, as torchvision or timm spell it.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its exact shape.
    pub shape: Vec<usize>,
}

/// One operation of a graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Unique; the module path of the original where there is one (`layer1.0.conv1`).
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The nodes it reads, all of them earlier.
    pub inputs: Vec<NodeId>,
    /// The weights it reads, in the order of [`Op::parameters`].
    pub parameters: Vec<Parameter>,
    /// Index into [`Graph::stages`]: what is frozen and unfrozen together.
    pub stage: usize,
    /// Shape of its output without the batch dimension.
    pub shape: Vec<usize>,
}

/// A network: checked, in topological order, with a symbolic batch size.
///
/// Node 0 is the [`Op::Input`]; every node's `inputs` point backwards; every `shape` is what inference says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Architecture name (`resnet18`).
    pub name: String,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// The classifier's logits, shape `[num_classes]`; of any shape in a part of a network ([`Graph::prefix`], [`Graph::split_at_stage`]).
    pub output: NodeId,
    /// Named activations. Every zoo graph has `features` (the pooled vector `[D]` that the classifier head reads).
    pub taps: BTreeMap<String, NodeId>,
    /// Stage names from input to output: `stem`, …, `head`.
    pub stages: Vec<String>,
}

impl Graph {
    /// The node behind an id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// `[C, H, W]` of the input.
    pub fn input_shape(&self) -> &[usize] {
        &self.nodes[0].shape
    }

    /// Number of logits.
    pub fn num_classes(&self) -> usize {
        self.node(self.output).shape.iter().product()
    }

    /// All parameters in node order; each name once.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.nodes.iter().flat_map(|node| &node.parameters)
    }

    /// Learned values in all (what papers call the parameter count).
    pub fn parameter_count(&self) -> usize {
        self.parameters().filter(|p| p.role.is_learned()).map(|p| p.shape.iter().product::<usize>()).sum()
    }
}
