//! What can be wrong with a graph or its weights.

use thiserror::Error;

/// An error in a graph's structure; names the node.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GraphError {
    /// A node's inputs or settings do not fit.
    #[error("in node {node:?} ({op}): {problem}")]
    Node {
        /// Node name.
        node: String,
        /// Op kind.
        op: &'static str,
        /// What was expected and what was found.
        problem: String,
    },
    /// The graph as a whole is malformed.
    #[error("in graph {graph:?}: {problem}")]
    Graph {
        /// Graph name.
        graph: String,
        /// What was expected and what was found.
        problem: String,
    },
}
