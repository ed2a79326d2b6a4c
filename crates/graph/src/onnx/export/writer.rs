//! Collects nodes, weights and small constants of the file being written.

use std::collections::BTreeSet;

use crate::onnx::proto::{
    AttributeProto, DimensionProto, NodeProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type,
    data_type,
};

#[derive(Default)]
pub(super) struct Writer {
    pub nodes: Vec<NodeProto>,
    pub initializers: Vec<TensorProto>,
    constants: BTreeSet<String>,
}

impl Writer {
    /// A node with one output.
    pub fn node(&mut self, op: &str, name: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|i| i.to_string()).collect(),
            output: vec![output.to_string()],
            name: name.to_string(),
            op_type: op.to_string(),
            attribute: attributes,
            domain: String::new(),
            metadata_props: Vec::new(),
        });
    }

    /// A weight under its own name.
    pub fn weight(&mut self, name: &str, shape: &[usize], data: &[f32]) {
        let raw = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializers.push(tensor(name, data_type::FLOAT, shape, raw));
    }

    /// A vector of integers; the same one is written once. Returns its name.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let name = format!("/ints/{}", join(values.iter()));
        if self.constants.insert(name.clone()) {
            let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            self.initializers.push(tensor(&name, data_type::INT64, &[values.len()], raw));
        }
        name
    }

    /// An integer without dimensions.
    pub fn int(&mut self, value: i64) -> String {
        let name = format!("/int/{value}");
        if self.constants.insert(name.clone()) {
            self.initializers.push(tensor(&name, data_type::INT64, &[], value.to_le_bytes().to_vec()));
        }
        name
    }

    /// A number without dimensions.
    pub fn float(&mut self, value: f32) -> String {
        let name = format!("/float/{value:e}");
        if self.constants.insert(name.clone()) {
            self.weight(&name, &[], &[value]);
        }
        name
    }
}

fn join<'a>(values: impl Iterator<Item = &'a i64>) -> String {
    values.map(i64::to_string).collect::<Vec<_>>().join("_")
}

fn tensor(name: &str, data_type: i32, shape: &[usize], raw: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: shape.iter().map(|&d| d as i64).collect(),
        data_type: Some(data_type),
        name: name.to_string(),
        raw_data: Some(raw),
        ..TensorProto::default()
    }
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: Some(value), r#type: Some(attribute_type::INT), ..AttributeProto::default() }
}

pub(super) fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|&v| v as i64).collect();
    AttributeProto { name: name.into(), ints, r#type: Some(attribute_type::INTS), ..AttributeProto::default() }
}

pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f: Some(value), r#type: Some(attribute_type::FLOAT), ..AttributeProto::default() }
}

pub(super) fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { name: name.into(), s: Some(value.into()), r#type: Some(attribute_type::STRING), ..AttributeProto::default() }
}

/// A dimension of an input or output.
pub(super) enum Dimension<'a> {
    Named(&'a str),
    Known(usize),
}

pub(super) fn value_info(name: &str, elem_type: i32, shape: &[Dimension]) -> ValueInfoProto {
    let dimension = |d: &Dimension| match d {
        Dimension::Named(name) => DimensionProto { dim_value: None, dim_param: Some(name.to_string()) },
        Dimension::Known(size) => DimensionProto { dim_value: Some(*size as i64), dim_param: None },
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dimension).collect() };
    let tensor_type = TensorTypeProto { elem_type: Some(elem_type), shape: Some(shape) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
