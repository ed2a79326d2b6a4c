//! Steps of a plan whose values have kinds: each node's value has the kind that its producer makes, and is converted once for readers that
//! want another.

use std::collections::BTreeMap;

use graph::{Graph, Op};
use kernels::Clamp;
use kernels::int8::Width;

use crate::lower::{Lowering, conv_work, is_stem, window};
use crate::plan::{Chain, Compiler, Draft, function};
use crate::precision::lower::{Factors, product_shape};
use crate::precision::step::Product;
use crate::precision::{Kind, Layer, Narrow};
use crate::step::Work;

/// The builder of a plan's steps.
pub(crate) struct Typed<'b, 'a> {
    compiler: &'b Compiler<'a>,
    lowering: &'b mut Lowering,
    drafts: Vec<Draft>,
    /// The node whose value a node shares: itself, unless it is an identity.
    root: BTreeMap<usize, usize>,
    /// Kinds that values are made in.
    kinds: BTreeMap<usize, Kind>,
    /// Numbers of values converted from a node's: by node, kind and stored channels.
    made: Vec<(usize, Kind, usize, usize)>,
    next: usize,
}

impl<'b, 'a> Typed<'b, 'a> {
    pub fn new(compiler: &'b Compiler<'a>, lowering: &'b mut Lowering) -> Self {
        let next = compiler.graph.nodes.len();
        Self { compiler, lowering, drafts: Vec::new(), root: BTreeMap::new(), kinds: BTreeMap::new(), made: Vec::new(), next }
    }

    fn graph(&self) -> &'a Graph {
        self.compiler.graph
    }

    /// The steps in order.
    pub fn finish(self) -> Vec<Draft> {
        self.drafts
    }

    /// An identity shares its input's value.
    pub fn share(&mut self, index: usize, input: usize) {
        self.root.insert(index, self.of(input));
    }

    fn of(&self, index: usize) -> usize {
        self.root.get(&index).copied().unwrap_or(index)
    }

    /// The number of a node's value in f32, to be read from outside.
    pub fn output(&mut self, index: usize) -> usize {
        self.need(index, Kind::F32)
    }

    fn size(&self, node: usize) -> usize {
        self.graph().nodes[node].shape.iter().product()
    }

    fn push(&mut self, work: Work, inputs: Vec<usize>, node: usize, kind: Kind) {
        self.kinds.insert(node, kind);
        self.drafts.push(Draft { work, inputs, value: node, node, size: self.size(node), bytes: kind.bytes() });
    }

    fn narrow(&mut self, work: Narrow, inputs: Vec<usize>, node: usize, kind: Kind) {
        self.push(Work::Narrow(Box::new(work)), inputs, node, kind);
    }

    /// The number of the value of `index` in `kind`, converted where it is made in another.
    fn need(&mut self, index: usize, kind: Kind) -> usize {
        let node = self.of(index);
        if matches!(self.graph().nodes[node].op, Op::Input { .. }) {
            let channels = self.graph().nodes[node].shape[0];
            return self.load(node, kind, channels);
        }
        let native = self.kinds.get(&node).copied().unwrap_or(Kind::F32);
        if native == kind {
            return node;
        }
        let size = self.size(node);
        let factors = self.lowering.policy.factors(node);
        self.once(node, kind, size, size, Work::Narrow(Box::new(Narrow::Convert { from: native, to: kind, size, factors })), vec![node])
    }

    /// The number of the input in `kind`, with `stored` channels.
    fn load(&mut self, node: usize, kind: Kind, stored: usize) -> usize {
        let shape = &self.graph().nodes[node].shape;
        let (channels, pixels) = (shape[0], shape[1..].iter().product::<usize>());
        let work = match kind {
            Kind::F32 => Work::Load { channels, pixels },
            Kind::Bf16 | Kind::U8(_) | Kind::I16(_) => Work::Narrow(Box::new(Narrow::Load { channels, pixels, stored, kind })),
        };
        self.once(node, kind, stored, pixels * stored, work, Vec::new())
    }

    fn once(&mut self, node: usize, kind: Kind, stored: usize, size: usize, work: Work, inputs: Vec<usize>) -> usize {
        let same = |made: &&(usize, Kind, usize, usize)| made.0 == node && made.1 == kind && made.2 == stored;
        if let Some(made) = self.made.iter().find(same) {
            return made.3;
        }
        let value = self.next;
        self.next += 1;
        self.made.push((node, kind, stored, value));
        self.drafts.push(Draft { work, inputs, value, node, size, bytes: kind.bytes() });
        value
    }

    /// The kind that the value of `index` is made in; none of the input, which is loaded as anything.
    fn native(&self, index: usize) -> Option<Kind> {
        self.kinds.get(&self.of(index)).copied()
    }

    /// The integers of a value: as it is made, or as it is calibrated.
    fn integers(&self, index: usize) -> Option<Kind> {
        let node = self.of(index);
        self.kinds.get(&node).copied().filter(|kind| kind.quant().is_some()).or_else(|| self.lowering.policy.integers(node))
    }

    /// Whether anything that reads `index` gains from narrow values.
    fn narrow_readers(&self, index: usize) -> bool {
        self.compiler.readers[index].iter().any(|&reader| match &self.graph().nodes[reader].op {
            Op::Conv2d(_) | Op::Linear(_) => self.lowering.policy.layer(reader) != Layer::F32,
            Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::GlobalAvgPool | Op::Add | Op::Mul | Op::Concat | Op::Activation(_) => {
                self.lowering.policy.width == Width::Bytes
            }
            Op::Dropout { .. } | Op::DropPath { .. } | Op::Flatten => self.narrow_readers(reader),
            Op::Input { .. }
            | Op::BatchNorm(_)
            | Op::LayerNorm(_)
            | Op::Softmax
            | Op::ToTokens
            | Op::PrependToken
            | Op::AddPosition
            | Op::SelectToken { .. }
            | Op::ToMap { .. }
            | Op::Slice { .. }
            | Op::Attention { .. } => false,
        })
    }

    /// A convolution or linear layer with what it absorbed.
    pub fn chain(&mut self, chain: &Chain) {
        let done = match self.lowering.policy.layer(chain.head) {
            Layer::F32 => false,
            Layer::Bf16 => self.bf16_chain(chain),
            Layer::Int8 => self.int8_chain(chain),
        };
        if !done {
            // A stem reads the image as it comes.
            let input = Some(self.graph().nodes[chain.head].inputs[0].0).filter(|_| !is_stem(self.graph(), chain.head));
            let inputs = input.into_iter().chain(chain.residual).map(|i| self.need(i, Kind::F32)).collect();
            let work = conv_work(self.graph(), chain, self.lowering);
            self.push(work, inputs, chain.last, Kind::F32);
        }
    }

    /// The input of a layer: its number, and the channels it is stored with. Pixels of three channels are loaded as four.
    fn layer_input(&mut self, chain: &Chain, kind: Kind) -> (usize, usize) {
        let node = &self.graph().nodes[chain.head];
        let input = node.inputs[0].0;
        let shape = &self.graph().nodes[self.of(input)].shape;
        match &node.op {
            Op::Conv2d(c) => {
                let root = self.of(input);
                if matches!(self.graph().nodes[root].op, Op::Input { .. }) && c.groups == 1 && c.in_channels == 3 {
                    return (self.load(root, kind, 4), 4);
                }
                (self.need(input, kind), c.in_channels)
            }
            _ => {
                let last = self.graph().nodes[input].shape.last().or(shape.last()).copied().unwrap_or(1);
                (self.need(input, kind), last)
            }
        }
    }

    fn is_depthwise(&self, chain: &Chain) -> bool {
        matches!(&self.graph().nodes[chain.head].op, Op::Conv2d(c) if c.is_depthwise())
    }

    fn product(&mut self, chain: &Chain, layer: Layer, input: Kind, output: Kind) {
        let (from, stored) = self.layer_input(chain, input);
        let residual = chain.residual.map(|other| match output {
            Kind::U8(_) | Kind::I16(_) => self.integers(other).unwrap_or(Kind::F32),
            Kind::F32 | Kind::Bf16 => output,
        });
        let mut inputs = vec![from];
        if let (Some(other), Some(kind)) = (chain.residual, residual) {
            inputs.push(self.need(other, kind));
        }
        let root = self.of(self.graph().nodes[chain.head].inputs[0].0);
        let read = self.lowering.policy.factors(root).filter(|_| input.quant().is_some());
        let written = self.lowering.policy.factors(chain.last).filter(|_| output.quant().is_some());
        let factors = Factors { read, written };
        // Bytes end where the range does, which lies within the bound of an activation.
        let end = |clamp: Clamp| if factors.written.is_some() { Clamp { high: f32::INFINITY, ..clamp } } else { clamp };
        let clamp = chain.clamp.map(end);
        let weights = self.lowering.narrow(self.graph(), chain, layer, (stored, input.quant()), &factors);
        let (shape, rows) = product_shape(self.graph(), chain.head, stored);
        let terms = weights.terms().zip(input.quant());
        let (bias, scale) = terms.map(|(terms, input)| terms.of(input, output.quant())).unwrap_or_default();
        let then = chain.then;
        let product = Product { shape, rows, weights, input, output, residual, clamp, then, bias, scale };
        self.narrow(Narrow::Product(product), inputs, chain.last, output);
    }

    /// Whether a chain's value is a feature map.
    fn is_map(&self, chain: &Chain) -> bool {
        self.graph().nodes[chain.last].shape.len() == 3
    }

    fn bf16_chain(&mut self, chain: &Chain) -> bool {
        let narrow = self.is_depthwise(chain) || (self.is_map(chain) && self.narrow_readers(chain.last));
        self.product(chain, Layer::Bf16, Kind::Bf16, if narrow { Kind::Bf16 } else { Kind::F32 });
        true
    }

    /// False where calibration does not say what the bytes would mean.
    fn int8_chain(&mut self, chain: &Chain) -> bool {
        let Some(input) = self.integers(self.graph().nodes[chain.head].inputs[0].0) else { return false };
        let narrow = chain.then.is_none() && self.is_map(chain) && chain.residual.is_none_or(|other| self.integers(other).is_some());
        let output = self.lowering.policy.integers(chain.last).filter(|_| narrow && self.narrow_readers(chain.last));
        self.product(chain, Layer::Int8, input, output.unwrap_or(Kind::F32));
        true
    }

    /// A node that no chain absorbed.
    pub fn node(&mut self, index: usize) {
        let node = &self.graph().nodes[index];
        if matches!(node.op, Op::Input { .. }) {
            return;
        }
        let inputs: Vec<usize> = node.inputs.iter().map(|i| i.0).collect();
        if let Some((work, kinds, kind)) = self.narrow_work(index, &inputs) {
            let inputs = inputs.iter().zip(kinds).map(|(&input, kind)| self.need(input, kind)).collect();
            return self.narrow(work, inputs, index, kind);
        }
        let inputs = inputs.iter().map(|&input| self.need(input, Kind::F32)).collect();
        let work = self.lowering.work(self.graph(), index);
        self.push(work, inputs, index, Kind::F32);
    }

    /// The narrow kernel of a node where its first input is narrow: the kernel, the kinds it reads and the one it makes.
    fn narrow_work(&self, index: usize, inputs: &[usize]) -> Option<(Narrow, Vec<Kind>, Kind)> {
        let graph = self.graph();
        let node = &graph.nodes[index];
        let kind = self.native(*inputs.first()?).filter(|kind| !matches!(kind, Kind::F32 | Kind::I16(_)))?;
        let shape = graph.nodes[inputs[0]].shape.as_slice();
        if shape.len() != 3 {
            return None;
        }
        let (size, pixels, channels) = (self.size(index), shape[1] * shape[2], shape[0]);
        let bf16 = kind == Kind::Bf16;
        let work = match &node.op {
            Op::MaxPool2d(p) => (Narrow::MaxPool { shape: window(shape, &node.shape, p.kernel, p.stride, [1; 2], p.padding), kind }, kind),
            Op::AvgPool2d(p) => {
                let shape = window(shape, &node.shape, p.kernel, p.stride, [1; 2], p.padding);
                let padding_end = [p.padding.bottom, p.padding.right];
                (Narrow::AveragePool { shape, padding_end, count_padding: p.count_include_pad, kind }, kind)
            }
            Op::GlobalAvgPool => (Narrow::GlobalAverage { pixels, channels, kind }, Kind::F32),
            Op::Add if bf16 => (Narrow::Add { size, a: kind, b: kind, out: kind }, kind),
            Op::Add => {
                let kinds = [self.integers(inputs[0])?, self.integers(inputs[1])?, self.lowering.policy.integers(index)?];
                return Some((Narrow::Add { size, a: kinds[0], b: kinds[1], out: kinds[2] }, kinds[..2].to_vec(), kinds[2]));
            }
            Op::Mul if bf16 && graph.nodes[inputs[1]].shape.len() == 3 => (Narrow::Multiply { size }, kind),
            Op::Mul if bf16 => (Narrow::Gate { pixels, channels }, kind),
            Op::Activation(activation) if bf16 => (Narrow::Activate { size, function: function(*activation) }, kind),
            Op::Concat if bf16 => {
                let widths = inputs.iter().map(|&i| graph.nodes[i].shape[0]).collect();
                (Narrow::Concat { widths, rows: pixels }, kind)
            }
            Op::Input { .. }
            | Op::Conv2d(_)
            | Op::Linear(_)
            | Op::BatchNorm(_)
            | Op::LayerNorm(_)
            | Op::Softmax
            | Op::Activation(_)
            | Op::Flatten
            | Op::Mul
            | Op::Concat
            | Op::Dropout { .. }
            | Op::DropPath { .. }
            | Op::ToTokens
            | Op::PrependToken
            | Op::AddPosition
            | Op::SelectToken { .. }
            | Op::ToMap { .. }
            | Op::Slice { .. }
            | Op::Attention { .. } => return None,
        };
        Some((work.0, vec![kind; inputs.len()], work.1))
    }
}
