//! The file's nodes with names resolved: every value a number, made before it is read.

use std::collections::{BTreeMap, HashMap};

use prost::Message;

use super::constant::{self, Constant};
use crate::onnx::error::OnnxError;
use crate::onnx::proto::{AttributeProto, ModelProto, NodeProto, ValueInfoProto};
use crate::onnx::{MAX_OPSET, MIN_IMPORT_OPSET, limits};

/// A value of the file: an index into [`Source::names`].
pub(super) type ValueId = usize;

/// A dimension of the model's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InputDim {
    Known(usize),
    Named(String),
}

/// One node.
#[derive(Debug)]
pub(super) struct Operator {
    /// The name, or that of the first output.
    pub name: String,
    pub op: String,
    pub domain: String,
    /// `None` where an optional input is left out.
    pub inputs: Vec<Option<ValueId>>,
    pub outputs: Vec<Option<ValueId>>,
    pub attributes: BTreeMap<String, AttributeProto>,
    /// Path of the module that it came from, where the exporter says so.
    pub scope: Option<String>,
}

impl Operator {
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attributes.get(name)?.i
    }

    pub fn float(&self, name: &str) -> Option<f32> {
        self.attributes.get(name)?.f
    }

    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attributes.get(name).map(|a| a.ints.as_slice())
    }

    pub fn string(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attributes.get(name)?.s.as_deref()?).ok()
    }

    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    pub fn output(&self, index: usize) -> Option<ValueId> {
        self.outputs.get(index).copied().flatten()
    }
}

/// A decoded file.
#[derive(Debug)]
pub(super) struct Source {
    pub graph_name: String,
    pub operators: Vec<Operator>,
    /// Name of each value.
    pub names: Vec<String>,
    /// Initializers and `Constant` nodes.
    pub constants: HashMap<ValueId, Constant>,
    /// The operator that makes a value.
    pub maker: HashMap<ValueId, usize>,
    pub input: ValueId,
    pub input_dims: Vec<InputDim>,
    pub outputs: Vec<ValueId>,
    pub opset: i64,
    /// Other operator sets: domain and version.
    pub domains: BTreeMap<String, i64>,
    pub producer: String,
    pub metadata: BTreeMap<String, String>,
}

impl Source {
    pub fn decode(bytes: &[u8]) -> Result<Self, OnnxError> {
        limits::check(bytes)?;
        let model = ModelProto::decode(bytes).map_err(|e| OnnxError::malformed(e.to_string()))?;
        let graph = model.graph.ok_or_else(|| OnnxError::malformed("there is no graph in it"))?;
        let mut domains: BTreeMap<String, i64> = BTreeMap::new();
        for set in model.opset_import {
            let domain = if set.domain == "ai.onnx" { String::new() } else { set.domain };
            domains.insert(domain, set.version.unwrap_or(1));
        }
        let opset = domains.remove("").ok_or_else(|| OnnxError::malformed("it names no version of the ONNX operators"))?;
        if !(MIN_IMPORT_OPSET..=MAX_OPSET).contains(&opset) {
            let cure = if opset > MAX_OPSET {
                "export again with an older opset (torch: `opset_version=20`)"
            } else {
                "convert it with `onnx.version_converter`, or export again"
            };
            return Err(OnnxError::Opset { found: opset, supported: [MIN_IMPORT_OPSET, MAX_OPSET], cure });
        }
        let mut reader = Reader::default();
        for tensor in graph.initializer {
            let name = tensor.name.clone();
            let constant = constant::read(tensor)?;
            let value = reader.define(&name)?;
            reader.constants.insert(value, constant);
        }
        let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(|i| !reader.ids.contains_key(&i.name)).collect();
        let (name, input_dims) = interface(&inputs)?;
        let input = reader.define(&name)?;
        for node in graph.node {
            reader.operator(node)?;
        }
        let outputs = graph.output.iter().map(|o| {
            let known = reader.ids.get(&o.name).copied();
            known.ok_or_else(|| OnnxError::malformed(format!("the output {:?} is made by no node", o.name)))
        });
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            graph_name: graph.name,
            operators: reader.operators,
            names: reader.names,
            constants: reader.constants,
            maker: reader.maker,
            input,
            input_dims,
            outputs,
            opset,
            domains,
            producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_string(),
            metadata: model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect(),
        })
    }

    /// The operator that makes a value, where one does.
    pub fn made_by(&self, value: ValueId) -> Option<&Operator> {
        self.maker.get(&value).map(|&index| &self.operators[index])
    }

    /// The error of a node that is not covered.
    pub fn refuse(&self, operator: &Operator, problem: impl Into<String>, cure: impl Into<String>) -> OnnxError {
        let opset = if operator.domain.is_empty() { self.opset } else { self.domains.get(&operator.domain).copied().unwrap_or(0) };
        let (node, op, domain) = (operator.name.clone(), operator.op.clone(), operator.domain.clone());
        OnnxError::Operator {
            node: node.into(),
            op: op.into(),
            domain: domain.into(),
            opset,
            problem: problem.into().into(),
            cure: cure.into().into(),
        }
    }
}

/// The one input that is no weight, and its shape.
fn interface(inputs: &[&ValueInfoProto]) -> Result<(String, Vec<InputDim>), OnnxError> {
    let cure = "expected a classifier or backbone with one image input [N, C, H, W] or [N, H, W, C]; cut the others off first";
    let [input] = inputs else {
        let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).take(8).collect();
        return Err(OnnxError::Interface { problem: format!("the model has {} inputs ({})", inputs.len(), names.join(", ")), cure });
    };
    let shape = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).and_then(|t| t.shape.as_ref());
    let Some(shape) = shape else {
        return Err(OnnxError::Interface { problem: format!("the input {:?} states no shape", input.name), cure });
    };
    let dims = shape.dim.iter().map(|d| match d.dim_value.and_then(|v| usize::try_from(v).ok()) {
        Some(size) if size > 0 => InputDim::Known(size),
        _ => InputDim::Named(d.dim_param.clone().unwrap_or_default()),
    });
    Ok((input.name.clone(), dims.collect()))
}

#[derive(Default)]
struct Reader {
    ids: HashMap<String, ValueId>,
    names: Vec<String>,
    operators: Vec<Operator>,
    constants: HashMap<ValueId, Constant>,
    maker: HashMap<ValueId, usize>,
}

impl Reader {
    /// A new value.
    fn define(&mut self, name: &str) -> Result<ValueId, OnnxError> {
        let id = self.names.len();
        if self.ids.insert(name.to_string(), id).is_some() {
            return Err(OnnxError::malformed(format!("the value {name:?} is made twice")));
        }
        self.names.push(name.to_string());
        Ok(id)
    }

    fn operator(&mut self, node: NodeProto) -> Result<(), OnnxError> {
        let name = match (node.name.is_empty(), node.output.first()) {
            (true, Some(output)) => output.clone(),
            _ => node.name,
        };
        let mut inputs = Vec::with_capacity(node.input.len());
        for input in &node.input {
            inputs.push(match (input.is_empty(), self.ids.get(input)) {
                (true, _) => None,
                (false, Some(&id)) => Some(id),
                (false, None) => {
                    return Err(OnnxError::malformed(format!("the node {name:?} reads {input:?}, which no node before it makes")));
                }
            });
        }
        let scope = node.metadata_props.iter().find(|p| p.key == "pkg.torch.onnx.name_scopes").and_then(|p| scope(&p.value));
        let mut attributes: BTreeMap<String, AttributeProto> = node.attribute.into_iter().map(|a| (a.name.clone(), a)).collect();
        let constant = match (node.op_type.as_str(), node.domain.as_str()) {
            ("Constant", "" | "ai.onnx") => constant_node(&mut attributes)?,
            _ => None,
        };
        let mut outputs = Vec::with_capacity(node.output.len());
        for output in &node.output {
            outputs.push(if output.is_empty() { None } else { Some(self.define(output)?) });
        }
        if let (Some(constant), Some(Some(value))) = (constant, outputs.first()) {
            self.constants.insert(*value, constant);
            return Ok(());
        }
        for value in outputs.iter().flatten() {
            self.maker.insert(*value, self.operators.len());
        }
        let domain = if node.domain == "ai.onnx" { String::new() } else { node.domain };
        self.operators.push(Operator { name, op: node.op_type, domain, inputs, outputs, attributes, scope });
        Ok(())
    }
}

/// What a `Constant` node holds; `None` in a form that is not read (strings, sparse tensors).
fn constant_node(attributes: &mut BTreeMap<String, AttributeProto>) -> Result<Option<Constant>, OnnxError> {
    let Some((_, attribute)) = attributes.pop_first() else { return Ok(None) };
    Ok(match attribute.name.as_str() {
        "value" => attribute.t.map(|t| constant::read(*t)).transpose()?,
        "value_float" => attribute.f.map(|v| Constant::floats(Vec::new(), vec![v])),
        "value_floats" => Some(Constant::floats(vec![attribute.floats.len()], attribute.floats)),
        "value_int" => attribute.i.map(|v| Constant::ints(Vec::new(), vec![constant::Dim::Known(v)])),
        "value_ints" => Some(Constant::vector(attribute.ints)),
        _ => None,
    })
}

/// The module path in torch's `['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']`: the last but one.
fn scope(text: &str) -> Option<String> {
    let list: Vec<&str> = text.trim_matches(['[', ']']).split(',').map(|part| part.trim().trim_matches('\'')).collect();
    let path = list.get(list.len().checked_sub(2)?)?;
    (!path.is_empty()).then(|| path.to_string())
}
