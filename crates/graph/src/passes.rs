//! Graphs from graphs: another number of classes, a part of a network.

use crate::error::GraphError;
use crate::ir::{Graph, NodeId};

impl Graph {
    /// Parses a graph from JSON and checks it.
    ///
    /// # Errors
    /// Text that is no graph, or what [`Graph::check`] finds.
    pub fn from_json(json: &str) -> Result<Self, GraphError> {
        let _ = json;
        unimplemented!()
    }

    /// The graph as JSON, for [`Graph::from_json`].
    ///
    /// # Errors
    /// A graph with a number that JSON has no word for (a NaN probability).
    pub fn to_json(&self) -> Result<String, GraphError> {
        unimplemented!()
    }

    /// The same network with `num_classes` logits: the last linear layer's outputs are changed.
    ///
    /// # Errors
    /// No classes, or an output that no linear layer makes.
    pub fn with_num_classes(&self, num_classes: usize) -> Result<Self, GraphError> {
        let _ = num_classes;
        unimplemented!()
    }

    /// The part of the graph that `at` depends on, with `at` as its output. Node ids change; names stay.
    ///
    /// # Errors
    /// `at` out of range.
    pub fn prefix(&self, at: NodeId) -> Result<Self, GraphError> {
        let _ = at;
        unimplemented!()
    }

    /// Cuts the graph before `stage`: the first graph computes stages `0..stage`, its output is the one activation that crosses the
    /// border; the second graph's [`crate::Op::Input`] is that activation. Node names stay, so each reads its part of the same weights.
    ///
    /// # Errors
    /// A stage out of `1..stages.len()`, or more than one activation that crosses.
    pub fn split_at_stage(&self, stage: usize) -> Result<(Self, Self), GraphError> {
        let _ = stage;
        unimplemented!()
    }

    /// The node of this name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name).map(NodeId)
    }

    /// Multiply-adds of the convolutions, linear layers and attentions for one image.
    pub fn macs(&self) -> u64 {
        unimplemented!()
    }
}
