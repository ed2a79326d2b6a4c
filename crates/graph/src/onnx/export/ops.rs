//! Nodes of the graph as ONNX nodes.

use super::writer::{self, Writer};
use crate::ir::{Graph, Node};
use crate::onnx::proto::AttributeProto;
use crate::op::{Activation, Conv2d, Linear, Op, Padding, Pool2d};
use crate::tensor::Weights;

pub(super) struct Exporter<'a> {
    pub graph: &'a Graph,
    pub weights: &'a Weights,
    pub writer: &'a mut Writer,
    pub opset: i64,
    /// The ONNX value of each node done.
    pub values: Vec<String>,
}

impl Exporter<'_> {
    /// Writes every node; returns the name of the logits.
    pub fn run(&mut self, input: &str) -> String {
        let graph = self.graph;
        for node in &graph.nodes[..=graph.output.0] {
            let value = match node.op {
                Op::Input { .. } => input.to_string(),
                _ => self.export(node),
            };
            self.values.push(value);
        }
        self.values.last().cloned().unwrap_or_default()
    }

    fn export(&mut self, node: &Node) -> String {
        let x = node.inputs.first().map(|id| self.values[id.0].clone()).unwrap_or_default();
        let input = node.inputs.first().map(|&id| self.graph.node(id).shape.as_slice()).unwrap_or_default();
        let name = node.name.as_str();
        match &node.op {
            Op::Input { .. } | Op::Dropout { .. } | Op::DropPath { .. } => x,
            Op::Conv2d(conv) => self.conv(node, conv, &x),
            Op::Linear(linear) => self.linear(node, linear, &x, input.len()),
            Op::BatchNorm(norm) => {
                let attributes = vec![writer::float("epsilon", norm.eps), writer::float("momentum", 1.0 - norm.momentum)];
                self.with_parameters("BatchNormalization", node, &x, attributes)
            }
            Op::LayerNorm(norm) => {
                let attributes = vec![writer::int("axis", -1), writer::float("epsilon", norm.eps)];
                self.with_parameters("LayerNormalization", node, &x, attributes)
            }
            Op::Activation(activation) => self.activation(name, *activation, &x),
            Op::MaxPool2d(pool) => self.node("MaxPool", name, &[&x], window(pool)),
            Op::AvgPool2d(pool) => {
                let count = writer::int("count_include_pad", i64::from(pool.count_include_pad));
                self.node("AveragePool", name, &[&x], [window(pool), vec![count]].concat())
            }
            Op::GlobalAvgPool => {
                let x = self.step("GlobalAveragePool", name, "", &[&x], Vec::new());
                self.step("Flatten", name, "Flatten", &[&x], vec![writer::int("axis", 1)])
            }
            Op::Flatten => self.node("Flatten", name, &[&x], vec![writer::int("axis", 1)]),
            Op::Add => {
                let y = self.values[node.inputs[1].0].clone();
                self.node("Add", name, &[&x, &y], Vec::new())
            }
            Op::Mul => self.mul(node, &x, input.len()),
            Op::Concat => {
                let inputs: Vec<String> = node.inputs.iter().map(|id| self.values[id.0].clone()).collect();
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                self.node("Concat", name, &inputs, vec![writer::int("axis", 1)])
            }
            Op::ToTokens => {
                let shape = self.writer.ints(&[0, input[0] as i64, -1]);
                let x = self.step("Reshape", name, "Reshape", &[&x, &shape], Vec::new());
                self.step("Transpose", name, "", &[&x], vec![writer::ints("perm", &[0, 2, 1])])
            }
            Op::ToMap { size: [h, w] } => {
                let x = self.step("Transpose", name, "Transpose", &[&x], vec![writer::ints("perm", &[0, 2, 1])]);
                let shape = self.writer.ints(&[0, input[1] as i64, *h as i64, *w as i64]);
                self.step("Reshape", name, "", &[&x, &shape], Vec::new())
            }
            Op::Slice { start, len } => {
                let (from, to) = (self.writer.ints(&[*start as i64]), self.writer.ints(&[(start + len) as i64]));
                let axis = self.writer.ints(&[1]);
                self.node("Slice", name, &[&x, &from, &to, &axis], Vec::new())
            }
            Op::PrependToken => self.prepend_token(node, &x, input[1]),
            Op::AddPosition => self.with_parameters("Add", node, &x, Vec::new()),
            Op::SelectToken { index } => {
                let index = self.writer.int(*index as i64);
                self.node("Gather", name, &[&x, &index], vec![writer::int("axis", 1)])
            }
            Op::Attention { heads } => self.attention(name, &x, input[0], input[1] / 3, *heads),
            Op::Softmax => self.node("Softmax", name, &[&x], vec![writer::int("axis", -1)]),
        }
    }

    /// A node of the graph's name; returns its output.
    fn node(&mut self, op: &str, name: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.step(op, name, "", inputs, attributes)
    }

    /// One of several nodes that a node of the graph becomes; `part` is empty for the one that has its name.
    fn step(&mut self, op: &str, name: &str, part: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = if part.is_empty() { name.to_string() } else { format!("{name}/{part}") };
        // Values and weights share a name space: a leading slash keeps them apart.
        let output = format!("/{name}");
        self.writer.node(op, &name, inputs, &output, attributes);
        output
    }

    fn with_parameters(&mut self, op: &str, node: &Node, x: &str, attributes: Vec<AttributeProto>) -> String {
        for index in 0..node.parameters.len() {
            self.weight(node, index);
        }
        let names = node.parameters.iter().map(|p| p.name.as_str());
        let inputs: Vec<&str> = std::iter::once(x).chain(names).collect();
        self.node(op, &node.name, &inputs, attributes)
    }

    fn weight(&mut self, node: &Node, index: usize) {
        let parameter = &node.parameters[index];
        if let Some(tensor) = self.weights.get(&parameter.name) {
            self.writer.weight(&parameter.name, &tensor.shape, &tensor.data);
        }
    }

    fn conv(&mut self, node: &Node, c: &Conv2d, x: &str) -> String {
        let attributes = vec![
            writer::ints("dilations", &c.dilation),
            writer::int("group", c.groups as i64),
            writer::ints("kernel_shape", &c.kernel),
            pads(c.padding),
            writer::ints("strides", &c.stride),
        ];
        self.with_parameters("Conv", node, x, attributes)
    }

    /// `Gemm` on vectors, with the weight as it is; `MatMul`, which has no transposition, with the weight transposed, on anything else.
    fn linear(&mut self, node: &Node, linear: &Linear, x: &str, rank: usize) -> String {
        if rank == 1 {
            return self.with_parameters("Gemm", node, x, vec![writer::int("transB", 1)]);
        }
        let (rows, columns) = (linear.out_features, linear.in_features);
        let weight = &node.parameters[0].name;
        if let Some(tensor) = self.weights.get(weight) {
            let transposed: Vec<f32> = (0..rows * columns).map(|i| tensor.data[i % rows * columns + i / rows]).collect();
            self.writer.weight(weight, &[columns, rows], &transposed);
        }
        let y = self.node("MatMul", &node.name, &[x, weight], Vec::new());
        match node.parameters.get(1) {
            Some(bias) => {
                self.weight(node, 1);
                self.step("Add", &node.name, "Add", &[&y, &bias.name], Vec::new())
            }
            None => y,
        }
    }

    fn activation(&mut self, name: &str, activation: Activation, x: &str) -> String {
        match activation {
            Activation::Relu => self.node("Relu", name, &[x], Vec::new()),
            Activation::Relu6 => {
                let (low, high) = (self.writer.float(0.0), self.writer.float(6.0));
                self.node("Clip", name, &[x, &low, &high], Vec::new())
            }
            Activation::Gelu if self.opset >= 20 => self.node("Gelu", name, &[x], Vec::new()),
            Activation::Gelu => {
                let (root, one, half) = (self.writer.float(std::f32::consts::SQRT_2), self.writer.float(1.0), self.writer.float(0.5));
                let y = self.step("Div", name, "Div", &[x, &root], Vec::new());
                let y = self.step("Erf", name, "Erf", &[&y], Vec::new());
                let y = self.step("Add", name, "Add", &[&y, &one], Vec::new());
                let y = self.step("Mul", name, "Mul", &[x, &y], Vec::new());
                self.step("Mul", name, "", &[&y, &half], Vec::new())
            }
            Activation::Silu => {
                let y = self.step("Sigmoid", name, "Sigmoid", &[x], Vec::new());
                self.step("Mul", name, "", &[x, &y], Vec::new())
            }
            Activation::HardSwish => self.node("HardSwish", name, &[x], Vec::new()),
            Activation::HardSigmoid => self.node("HardSigmoid", name, &[x], vec![writer::float("alpha", 1.0 / 6.0)]),
            Activation::Sigmoid => self.node("Sigmoid", name, &[x], Vec::new()),
            Activation::Tanh => self.node("Tanh", name, &[x], Vec::new()),
        }
    }

    fn mul(&mut self, node: &Node, x: &str, rank: usize) -> String {
        let mut gate = self.values[node.inputs[1].0].clone();
        if self.graph.node(node.inputs[1]).shape.len() != rank {
            let axes = self.writer.ints(&[2, 3]);
            gate = self.step("Unsqueeze", &node.name, "Unsqueeze", &[&gate, &axes], Vec::new());
        }
        self.node("Mul", &node.name, &[x, &gate], Vec::new())
    }

    /// The token once for each image, in front of the others.
    fn prepend_token(&mut self, node: &Node, x: &str, width: usize) -> String {
        self.weight(node, 0);
        let name = &node.name;
        let batch = self.step("Shape", name, "Shape", &[x], vec![writer::int("start", 0), writer::int("end", 1)]);
        let rest = self.writer.ints(&[1, width as i64]);
        let shape = self.step("Concat", name, "Concat", &[&batch, &rest], vec![writer::int("axis", 0)]);
        let token = self.step("Expand", name, "Expand", &[&node.parameters[0].name, &shape], Vec::new());
        self.node("Concat", name, &[&token, x], vec![writer::int("axis", 1)])
    }

    /// `[N, T, 3 D] -> [N, T, D]` by `[3, N, heads, T, D / heads]`.
    fn attention(&mut self, name: &str, x: &str, tokens: usize, width: usize, heads: usize) -> String {
        let size = width / heads;
        let split = self.writer.ints(&[0, tokens as i64, 3, heads as i64, size as i64]);
        let y = self.step("Reshape", name, "Split", &[x, &split], Vec::new());
        let y = self.step("Transpose", name, "Order", &[&y], vec![writer::ints("perm", &[2, 0, 3, 1, 4])]);
        let [q, k, v] = [0, 1, 2].map(|i| {
            let index = self.writer.int(i);
            self.step("Gather", name, ["Query", "Key", "Value"][i as usize], &[&y, &index], vec![writer::int("axis", 0)])
        });
        let scale = self.writer.float((1.0 / (size as f64).sqrt()) as f32);
        let q = self.step("Mul", name, "Scale", &[&q, &scale], Vec::new());
        let k = self.step("Transpose", name, "Transpose", &[&k], vec![writer::ints("perm", &[0, 1, 3, 2])]);
        let scores = self.step("MatMul", name, "Scores", &[&q, &k], Vec::new());
        let shares = self.step("Softmax", name, "Softmax", &[&scores], vec![writer::int("axis", -1)]);
        let y = self.step("MatMul", name, "", &[&shares, &v], Vec::new());
        let y = self.step("Transpose", name, "Back", &[&y], vec![writer::ints("perm", &[0, 2, 1, 3])]);
        let joined = self.writer.ints(&[0, tokens as i64, width as i64]);
        self.step("Reshape", name, "Join", &[&y, &joined], Vec::new())
    }
}

fn pads(p: Padding) -> AttributeProto {
    writer::ints("pads", &[p.top, p.left, p.bottom, p.right])
}

fn window(pool: &Pool2d) -> Vec<AttributeProto> {
    vec![writer::ints("kernel_shape", &pool.kernel), pads(pool.padding), writer::ints("strides", &pool.stride)]
}
