//! Building a graph node by node; shapes are inferred as nodes are added, and the first problem is reported by [`GraphBuilder::finish`].

use std::collections::BTreeMap;

use crate::error::GraphError;
use crate::infer::infer_shape;
use crate::ir::{Graph, Node, NodeId, Parameter};
use crate::op::{Activation, BatchNorm, Conv2d, LayerNorm, Linear, Op, Pool2d};

/// Builds a [`Graph`].
///
/// ```
/// use fieldmark_graph::{Activation, Conv2d, GraphBuilder};
///
/// let mut b = GraphBuilder::new("tiny", [1, 28, 28]);
/// let x = b.input();
/// let x = b.conv("conv1", x, Conv2d::new(1, 8, 3).padding(1));
/// let x = b.batch_norm("bn1", x, 1e-5);
/// let x = b.activation("relu1", x, Activation::Relu);
/// b.stage("head");
/// let x = b.global_avg_pool("pool", x);
/// b.tap("features", x);
/// let x = b.linear("fc", x, 10);
/// let graph = b.finish(x)?;
/// assert_eq!(graph.num_classes(), 10);
/// # Ok::<(), fieldmark_graph::GraphError>(())
/// ```
#[derive(Debug)]
pub struct GraphBuilder {
    graph: Graph,
    error: Option<GraphError>,
}

impl GraphBuilder {
    /// Starts a graph for images `[channels, height, width]`; the first stage is `stem`.
    pub fn new(name: impl Into<String>, input: [usize; 3]) -> Self {
        let shape = input.to_vec();
        let node = Node {
            name: "input".into(),
            op: Op::Input { shape: shape.clone() },
            inputs: Vec::new(),
            parameters: Vec::new(),
            stage: 0,
            shape,
        };
        let graph = Graph { name: name.into(), nodes: vec![node], output: NodeId(0), taps: BTreeMap::new(), stages: vec!["stem".into()] };
        Self { graph, error: None }
    }

    /// The image batch.
    pub fn input(&self) -> NodeId {
        NodeId(0)
    }

    /// Starts a stage: the nodes added from now on belong to it.
    pub fn stage(&mut self, name: impl Into<String>) {
        self.graph.stages.push(name.into());
    }

    /// Names an activation.
    pub fn tap(&mut self, name: impl Into<String>, node: NodeId) {
        self.graph.taps.insert(name.into(), node);
    }

    /// Shape of a node without the batch dimension.
    pub fn shape(&self, node: NodeId) -> &[usize] {
        &self.graph.node(node).shape
    }

    /// Adds any op. Parameters are named `{name}.{suffix}`, or `{name}` where the op's suffix is empty.
    pub fn add(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> NodeId {
        let name = name.into();
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|&i| self.shape(i).to_vec()).collect();
        let borrowed: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        let shape = match infer_shape(&op, &borrowed) {
            Ok(shape) => shape,
            Err(problem) => {
                let error = GraphError::Node { node: name.clone(), op: op.kind(), problem };
                self.error.get_or_insert(error);
                // Carry on with some shape: only the first error is reported.
                shapes.first().cloned().unwrap_or_default()
            }
        };
        let parameters = op
            .parameters(borrowed.first().copied().unwrap_or_default())
            .into_iter()
            .map(|(suffix, role, shape)| Parameter {
                name: if suffix.is_empty() { name.clone() } else { format!("{name}.{suffix}") },
                role,
                shape,
            })
            .collect();
        let stage = self.graph.stages.len() - 1;
        self.graph.nodes.push(Node { name, op, inputs: inputs.to_vec(), parameters, stage, shape });
        NodeId(self.graph.nodes.len() - 1)
    }

    /// A convolution.
    pub fn conv(&mut self, name: impl Into<String>, x: NodeId, conv: Conv2d) -> NodeId {
        self.add(name, Op::Conv2d(conv), &[x])
    }

    /// Batch normalisation with momentum .1.
    pub fn batch_norm(&mut self, name: impl Into<String>, x: NodeId, eps: f32) -> NodeId {
        let channels = self.shape(x).first().copied().unwrap_or(0);
        self.add(name, Op::BatchNorm(BatchNorm { channels, eps, momentum: 0.1 }), &[x])
    }

    /// Layer normalisation over the last dimension.
    pub fn layer_norm(&mut self, name: impl Into<String>, x: NodeId, eps: f32) -> NodeId {
        let features = self.shape(x).last().copied().unwrap_or(0);
        self.add(name, Op::LayerNorm(LayerNorm { features, eps }), &[x])
    }

    /// A non-linearity.
    pub fn activation(&mut self, name: impl Into<String>, x: NodeId, activation: Activation) -> NodeId {
        self.add(name, Op::Activation(activation), &[x])
    }

    /// Max pooling.
    pub fn max_pool(&mut self, name: impl Into<String>, x: NodeId, pool: Pool2d) -> NodeId {
        self.add(name, Op::MaxPool2d(pool), &[x])
    }

    /// Average pooling.
    pub fn avg_pool(&mut self, name: impl Into<String>, x: NodeId, pool: Pool2d) -> NodeId {
        self.add(name, Op::AvgPool2d(pool), &[x])
    }

    /// The mean over height and width.
    pub fn global_avg_pool(&mut self, name: impl Into<String>, x: NodeId) -> NodeId {
        self.add(name, Op::GlobalAvgPool, &[x])
    }

    /// A fully connected layer with bias; the input size is read off `x`.
    pub fn linear(&mut self, name: impl Into<String>, x: NodeId, out_features: usize) -> NodeId {
        let in_features = self.shape(x).last().copied().unwrap_or(0);
        self.add(name, Op::Linear(Linear { in_features, out_features, bias: true }), &[x])
    }

    /// The sum of two equal shapes.
    pub fn sum(&mut self, name: impl Into<String>, a: NodeId, b: NodeId) -> NodeId {
        self.add(name, Op::Add, &[a, b])
    }

    /// Ends the graph at its logits.
    ///
    /// # Errors
    /// The first node that did not fit, or what [`Graph::check_classifier`] finds.
    pub fn finish(mut self, output: NodeId) -> Result<Graph, GraphError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.graph.output = output;
        self.graph.check_classifier()?;
        Ok(self.graph)
    }
}
