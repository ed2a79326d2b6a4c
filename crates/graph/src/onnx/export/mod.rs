//! From a graph to an ONNX file.

mod fold;
mod ops;
mod preprocessing;
mod writer;

use std::collections::BTreeMap;

use prost::Message;

use super::error::OnnxError;
use super::proto::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, data_type};
use super::{MAX_OPSET, MIN_EXPORT_OPSET, STAGES_KEY};
use crate::ir::Graph;
use crate::op::Op;
use crate::tensor::Weights;
use writer::{Dimension, Writer, value_info};

pub use preprocessing::{Preprocessing, Resampling};

/// What the exported network's output is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ExportedOutput {
    /// The graph's own output, `logits` `[N, num_classes]`.
    #[default]
    Logits,
    /// `probabilities` `[N, num_classes]`: softmax of the logits divided by a temperature (1: none).
    Softmax {
        /// Above 0.
        temperature: f32,
    },
    /// `probabilities` `[N, num_classes]`: a sigmoid of each logit divided by a temperature (1: none).
    Sigmoid {
        /// Above 0.
        temperature: f32,
    },
}

/// How a graph is exported.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportOptions {
    /// Version of the ONNX operators, 17 to 23. 17 is read by the most runtimes; 20 has GELU as one operator.
    pub opset: i64,
    /// What the output is.
    pub output: ExportedOutput,
    /// Batch norms folded into the convolutions and linear layers before them. Off by default: runtimes fold them when they load the
    /// file, and a file that keeps them can be read again and trained.
    pub fold_batch_norms: bool,
    /// Preprocessing inside the file, so that its input is pixels.
    pub preprocessing: Option<Preprocessing>,
    /// Written to `metadata_props`: class names, preprocessing and the like.
    pub metadata: BTreeMap<String, String>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            opset: MIN_EXPORT_OPSET,
            output: ExportedOutput::default(),
            fold_batch_norms: false,
            preprocessing: None,
            metadata: BTreeMap::new(),
        }
    }
}

/// The bytes of an ONNX model that computes `graph` with `weights`: one file, weights in it under their own names, input `input`
/// `[N, C, H, W]` (or `image`, with preprocessing) and output `logits` `[N, num_classes]` (or `probabilities`), the batch size `N`
/// symbolic. Dropout and stochastic depth, which do nothing in inference, are left out. The same arguments give the same bytes.
///
/// ```
/// use fieldmark_graph::{Conv2d, GraphBuilder, onnx};
///
/// let mut b = GraphBuilder::new("tiny", [3, 8, 8]);
/// let x = b.input();
/// let x = b.conv("conv", x, Conv2d::new(3, 4, 3));
/// let x = b.batch_norm("bn", x, 1e-5);
/// let x = b.global_avg_pool("pool", x);
/// let x = b.linear("fc", x, 2);
/// let graph = b.finish(x)?;
/// let weights = graph.init_weights(7);
/// let bytes = onnx::export(&graph, &weights, &onnx::ExportOptions::default())?;
/// let again = onnx::import(&bytes, &onnx::ImportOptions::default())?;
/// assert_eq!(again.weights, weights);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A graph that [`Graph::check_classifier`] refuses, weights that do not fit, an opset out of range, preprocessing that this opset cannot
/// express.
pub fn export(graph: &Graph, weights: &Weights, options: &ExportOptions) -> Result<Vec<u8>, OnnxError> {
    graph.check_classifier()?;
    let problem = |problem: String| OnnxError::Export { graph: graph.name.clone(), problem };
    graph.check_weights(weights).map_err(|e| problem(e.to_string()))?;
    if !(MIN_EXPORT_OPSET..=MAX_OPSET).contains(&options.opset) {
        let supported = [MIN_EXPORT_OPSET, MAX_OPSET];
        return Err(OnnxError::Opset { found: options.opset, supported, cure: "choose one of these for the export" });
    }
    let folded = options.fold_batch_norms.then(|| fold::fold_batch_norms(graph, weights)).transpose()?;
    let (graph, weights) = folded.as_ref().map_or((graph, weights), |(g, w)| (g, w));
    let mut writer = Writer::default();
    let (input, input_info) = match &options.preprocessing {
        Some(p) => p.write(&mut writer, graph, options.opset).map_err(problem)?,
        None => {
            let shape: Vec<Dimension> =
                std::iter::once(Dimension::Named("N")).chain(graph.input_shape().iter().map(|&d| Dimension::Known(d))).collect();
            ("input".to_string(), value_info("input", data_type::FLOAT, &shape))
        }
    };
    let mut exporter = ops::Exporter { graph, weights, writer: &mut writer, opset: options.opset, values: Vec::new() };
    let logits = exporter.run(&input);
    let output = write_output(&mut writer, &logits, options.output);
    let output_info = value_info(&output, data_type::FLOAT, &[Dimension::Named("N"), Dimension::Known(graph.num_classes())]);
    Ok(model(graph, writer, [input_info, output_info], options).encode_to_vec())
}

fn write_output(writer: &mut Writer, logits: &str, output: ExportedOutput) -> String {
    let (op, temperature, name) = match output {
        ExportedOutput::Logits => ("Identity", 1.0, "logits"),
        ExportedOutput::Softmax { temperature } => ("Softmax", temperature, "probabilities"),
        ExportedOutput::Sigmoid { temperature } => ("Sigmoid", temperature, "probabilities"),
    };
    let mut x = logits.to_string();
    if temperature != 1.0 {
        let divisor = writer.float(temperature);
        writer.node("Div", "temperature", &[&x, &divisor], "/calibrated", Vec::new());
        x = "/calibrated".into();
    }
    match op {
        // The node that makes the logits gets the output's name, instead of one more node.
        "Identity" => match writer.nodes.iter_mut().rev().find(|node| node.output[0] == x) {
            Some(node) => node.output[0] = name.into(),
            None => writer.node("Identity", name, &[&x], name, Vec::new()),
        },
        "Softmax" => writer.node("Softmax", name, &[&x], name, vec![writer::int("axis", -1)]),
        _ => writer.node(op, name, &[&x], name, Vec::new()),
    }
    name.into()
}

fn model(graph: &Graph, writer: Writer, [input, output]: [super::proto::ValueInfoProto; 2], options: &ExportOptions) -> ModelProto {
    let mut metadata = options.metadata.clone();
    metadata.insert(STAGES_KEY.into(), stages(graph));
    let entry = |(key, value): (String, String)| StringStringEntryProto { key, value };
    let ir_version = match options.opset {
        ..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        _ => 11,
    };
    ModelProto {
        ir_version: Some(ir_version),
        producer_name: "fieldmark".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        domain: String::new(),
        graph: Some(GraphProto {
            node: writer.nodes,
            name: graph.name.clone(),
            initializer: writer.initializers,
            input: vec![input],
            output: vec![output],
        }),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: Some(options.opset) }],
        metadata_props: metadata.into_iter().map(entry).collect(),
    }
}

/// `[[stage, name of its first node, name of its first node with weights], …]` as JSON: what freezes together survives the round trip.
fn stages(graph: &Graph) -> String {
    let mut list: Vec<serde_json::Value> = Vec::new();
    for (stage, name) in graph.stages.iter().enumerate() {
        let mut nodes =
            graph.nodes.iter().skip(1).filter(|n| n.stage == stage && !matches!(n.op, Op::Dropout { .. } | Op::DropPath { .. }));
        let Some(first) = nodes.next() else { continue };
        let weighted = std::iter::once(first).chain(nodes).find(|n| !n.parameters.is_empty()).unwrap_or(first);
        list.push(serde_json::json!([name, first.name, weighted.name]));
    }
    serde_json::Value::Array(list).to_string()
}
