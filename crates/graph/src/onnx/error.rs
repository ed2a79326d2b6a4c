//! Why an ONNX file could not be read or written.

use std::path::PathBuf;

use thiserror::Error;

use crate::error::GraphError;

/// An error about an ONNX file; names the node, its operator and the opset where it has to do with one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The bytes are no ONNX model, or stop early.
    #[error("not a whole ONNX model: {problem}; copy or export it again")]
    Malformed {
        /// What was expected and what was found.
        problem: String,
    },
    /// More than is read.
    #[error("{what}: {found}, more than the {limit} that are read")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A tensor's values are in another file.
    #[error(
        "tensor {tensor:?} keeps its values in another file, which is not read; write one file \
         (torch: `external_data=False`, onnx: `onnx.save(onnx.load(PATH), OUT)`)"
    )]
    ExternalData {
        /// The tensor.
        tensor: String,
    },
    /// A tensor is of a type or size that is not read.
    #[error("tensor {tensor:?}: {problem}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// A version of the operators that is not covered.
    #[error("opset {found} of the ONNX operators; expected {} to {}; {cure}", supported[0], supported[1])]
    Opset {
        /// As the file or the caller says.
        found: i64,
        /// Lowest and highest.
        supported: [i64; 2],
        /// What to do.
        cure: &'static str,
    },
    /// A node that is not covered; `docs/onnx.md` has the table of those that are.
    #[error("in node {node:?} ({}{op}, opset {opset}): {problem}; {cure}", domain_prefix(domain))]
    Operator {
        /// Node name, or the name of its output where it has none.
        node: Box<str>,
        /// Operator.
        op: Box<str>,
        /// Its domain; empty for ONNX's own.
        domain: Box<str>,
        /// Version of the domain's operators.
        opset: i64,
        /// What was expected and what was found.
        problem: Box<str>,
        /// What to do.
        cure: Box<str>,
    },
    /// The model's input or output is none of a classifier.
    #[error("{problem}; {cure}")]
    Interface {
        /// What was expected and what was found.
        problem: String,
        /// What to do.
        cure: &'static str,
    },
    /// The graph that came out is not sound.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A graph or weights that cannot be exported.
    #[error("cannot export {graph:?}: {problem}")]
    Export {
        /// Graph name.
        graph: String,
        /// What was expected and what was found.
        problem: String,
    },
}

fn domain_prefix(domain: &str) -> String {
    if domain.is_empty() { String::new() } else { format!("{domain}.") }
}

impl OnnxError {
    pub(crate) fn malformed(problem: impl Into<String>) -> Self {
        Self::Malformed { problem: problem.into() }
    }
}
