//! A graph compiled for a set of outputs: which nodes fuse, in which order they run, and which memory they share.

use std::collections::BTreeMap;

use graph::{Activation, Graph, NodeId, Op};
use kernels::{Clamp, Function};

use crate::fuse::bottlenecks;
use crate::lower::{Lowering, is_stem};
use crate::precision::Typed;
use crate::step::Work;

/// One kernel call: the slots it reads and the one it writes (the first it reads, where `in_place`).
#[derive(Debug)]
pub(crate) struct Step {
    pub work: Work,
    pub inputs: Vec<usize>,
    pub output: usize,
    pub in_place: bool,
    /// Values written for one image.
    pub size: usize,
    /// The node whose value it writes.
    pub node: usize,
    /// Multiply-adds for one image, of the convolutions and linear layers in it.
    pub multiply_adds: u64,
    /// Bytes of a value.
    pub bytes: usize,
}

/// Steps in order over a set of slots.
#[derive(Debug)]
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    /// Values of each slot for one image.
    pub slots: Vec<usize>,
    /// Slot of each wanted output.
    pub outputs: Vec<usize>,
    /// Leading steps that run one image after the other: their maps are so large that those of a batch would fall out of the cache between
    /// one step and the next.
    pub apart: usize,
    /// Slots that later steps (or callers) read of those, and bytes of an image there: what of each image is kept until all are through.
    pub held: Vec<(usize, usize)>,
}

/// Bytes of an image's map from which narrow steps take the images one by one.
const LARGE_MAP: usize = 300 << 10;

impl Plan {
    /// Finds the steps that run image by image.
    fn divided(mut self) -> Self {
        // Layers in f32 are fused in blocks that do the like by bands.
        let narrow = self.steps.iter().any(|step| matches!(step.work, Work::Narrow(_)));
        let mut held: BTreeMap<usize, usize> = BTreeMap::new();
        let mut apart = 0;
        for (at, step) in self.steps.iter().enumerate() {
            let reads = step.inputs.iter().filter_map(|slot| held.get(slot)).max().copied().unwrap_or(0);
            held.insert(step.output, step.size * step.bytes);
            if narrow && reads.max(step.size * step.bytes) >= LARGE_MAP {
                apart = at + 1;
            }
        }
        let (before, after) = self.steps.split_at(apart);
        let last: BTreeMap<usize, usize> = before.iter().map(|step| (step.output, step.size * step.bytes)).collect();
        let is_read = |slot: usize| {
            let next =
                after.iter().find_map(|step| if step.inputs.contains(&slot) { Some(true) } else { (step.output == slot).then_some(false) });
            next.unwrap_or_else(|| self.outputs.contains(&slot))
        };
        self.held = last.into_iter().filter(|&(slot, _)| is_read(slot)).collect();
        self.apart = apart;
        self
    }

    /// Bytes of all buffers for a batch.
    pub fn bytes(&self, batch: usize) -> usize {
        let mut slots = vec![0; self.slots.len()];
        for (at, step) in self.steps.iter().enumerate() {
            let images = if at < self.apart { 1 } else { batch };
            slots[step.output] = slots[step.output].max((step.size * step.bytes * images).next_multiple_of(4));
        }
        let held: usize = self.held.iter().map(|(_, bytes)| (bytes * batch).next_multiple_of(4)).sum();
        slots.iter().sum::<usize>() + held
    }
}

/// A step before memory is assigned: values are known by their nodes, and by numbers above where a node's value exists in several
/// precisions.
pub(crate) struct Draft {
    pub work: Work,
    pub inputs: Vec<usize>,
    pub value: usize,
    /// The node whose value it is.
    pub node: usize,
    /// Values for one image, and bytes of a value.
    pub size: usize,
    pub bytes: usize,
}

/// A convolution or linear layer and the nodes that it absorbs.
pub(crate) struct Chain {
    pub head: usize,
    pub norm: Option<usize>,
    /// The other operand of an absorbed addition.
    pub residual: Option<usize>,
    pub clamp: Option<Clamp>,
    /// An activation that no clamp expresses: applied in place afterwards.
    pub then: Option<Function>,
    pub last: usize,
}

pub(crate) fn function(activation: Activation) -> Function {
    match activation {
        Activation::Relu => Function::Relu,
        Activation::Relu6 => Function::Relu6,
        Activation::Gelu => Function::Gelu,
        Activation::Silu => Function::Silu,
        Activation::HardSwish => Function::HardSwish,
        Activation::HardSigmoid => Function::HardSigmoid,
        Activation::Sigmoid => Function::Sigmoid,
        Activation::Tanh => Function::Tanh,
    }
}

pub(crate) struct Compiler<'a> {
    pub graph: &'a Graph,
    needed: Vec<bool>,
    /// Nodes that read each node.
    pub readers: Vec<Vec<usize>>,
    wanted: Vec<bool>,
}

impl<'a> Compiler<'a> {
    fn new(graph: &'a Graph, outputs: &[NodeId]) -> Self {
        let count = graph.nodes.len();
        let (mut needed, mut wanted, mut readers) = (vec![false; count], vec![false; count], vec![Vec::new(); count]);
        for id in outputs {
            (needed[id.0], wanted[id.0]) = (true, true);
        }
        for index in (0..count).rev() {
            if needed[index] {
                for input in &graph.nodes[index].inputs {
                    needed[input.0] = true;
                    readers[input.0].push(index);
                }
            }
        }
        Self { graph, needed, readers, wanted }
    }

    fn op(&self, index: usize) -> &Op {
        &self.graph.nodes[index].op
    }

    /// The one node that reads `index`, where nobody else wants its value.
    fn only_reader(&self, index: usize) -> Option<usize> {
        match self.readers[index][..] {
            [reader] if !self.wanted[index] => Some(reader),
            _ => None,
        }
    }

    /// What the convolution or linear layer `head` can absorb.
    fn chain(&self, head: usize, absorbed: &[bool]) -> Chain {
        let mut chain = Chain { head, norm: None, residual: None, clamp: None, then: None, last: head };
        let rank = self.graph.nodes[head].shape.len();
        let adds = !matches!(self.op(head), Op::Conv2d(c) if c.is_depthwise()) && !is_stem(self.graph, head);
        while let Some(next) = self.only_reader(chain.last).filter(|&next| !absorbed[next]) {
            match self.op(next) {
                Op::Dropout { .. } | Op::DropPath { .. } => {}
                Op::BatchNorm(_) if chain.norm.is_none() && chain.residual.is_none() && rank != 2 => chain.norm = Some(next),
                Op::Add if chain.residual.is_none() && adds => {
                    let inputs = &self.graph.nodes[next].inputs;
                    let other = if inputs[0].0 == chain.last { inputs[1].0 } else { inputs[0].0 };
                    chain.residual = Some(other);
                }
                Op::Activation(activation) => {
                    match activation {
                        Activation::Relu => chain.clamp = Some(Clamp::RELU),
                        Activation::Relu6 => chain.clamp = Some(Clamp::RELU6),
                        other => chain.then = Some(function(*other)),
                    }
                    chain.last = next;
                    break;
                }
                _ => break,
            }
            chain.last = next;
        }
        chain
    }

    /// Every chain, by its last node, and the nodes that belong to one.
    fn chains(&self) -> (BTreeMap<usize, Chain>, Vec<bool>) {
        let count = self.graph.nodes.len();
        let (mut chains, mut absorbed) = (BTreeMap::new(), vec![false; count]);
        for index in (0..count).filter(|&index| self.needed[index] && is_chain_head(self.graph, index)) {
            let chain = self.chain(index, &absorbed);
            let mut at = chain.head;
            while at != chain.last {
                absorbed[at] = true;
                at = self.readers[at][0];
            }
            absorbed[chain.last] = true;
            chains.insert(chain.last, chain);
        }
        (chains, absorbed)
    }

    /// The steps in running order: a chain runs where its last node stands, when all that it reads is there. Nodes that are identities
    /// share the value of their input.
    fn drafts<'b>(&'b self, lowering: &'b mut Lowering) -> Typed<'b, 'a> {
        let (chains, absorbed) = self.chains();
        let mut typed = Typed::new(self, lowering);
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if let Some(chain) = chains.get(&index) {
                typed.chain(chain);
            } else if self.needed[index] && !absorbed[index] {
                if is_identity(self.graph, index) {
                    typed.share(index, node.inputs[0].0);
                } else {
                    typed.node(index);
                }
            }
        }
        typed
    }
}

pub(crate) fn is_chain_head(graph: &Graph, index: usize) -> bool {
    let node = &graph.nodes[index];
    match &node.op {
        Op::Conv2d(_) => true,
        Op::Linear(_) => node.shape.len() < 3,
        _ => false,
    }
}

/// Whether a node's value is its input's, in the engine's layout: feature maps are NHWC, so tokens are already there.
pub(crate) fn is_identity(graph: &Graph, index: usize) -> bool {
    let node = &graph.nodes[index];
    let input = node.inputs.first().map(|&i| graph.node(i).shape.as_slice()).unwrap_or_default();
    match &node.op {
        Op::Dropout { .. } | Op::DropPath { .. } | Op::ToTokens | Op::ToMap { .. } => true,
        Op::Flatten => input.len() != 3 || input[0] == 1 || input[1] * input[2] == 1,
        _ => false,
    }
}

/// A layer with weights as the plan for the logits fuses it.
pub(crate) struct LayerOutline {
    pub head: usize,
    pub norm: Option<usize>,
    /// The node whose value it reads, and the one whose value it makes.
    pub input: usize,
    pub last: usize,
    /// No activation follows.
    pub is_linear: bool,
}

/// The layers of the plan for the logits, and the nodes whose values it makes.
pub(crate) fn outline(graph: &Graph) -> (Vec<LayerOutline>, Vec<usize>) {
    let compiler = Compiler::new(graph, &[graph.output]);
    let (chains, absorbed) = compiler.chains();
    let (mut layers, mut values, mut root) = (Vec::new(), Vec::new(), Vec::new());
    for (index, node) in graph.nodes.iter().enumerate() {
        root.push(index);
        if let Some(chain) = chains.get(&index) {
            let input = root[graph.nodes[chain.head].inputs[0].0];
            let is_linear = chain.clamp.is_none() && chain.then.is_none();
            layers.push(LayerOutline { head: chain.head, norm: chain.norm, input, last: index, is_linear });
            values.push(index);
        } else if compiler.needed[index] && !absorbed[index] {
            if is_identity(graph, index) {
                root[index] = root[node.inputs[0].0];
            } else {
                values.push(index);
            }
        }
    }
    (layers, values)
}

/// Whether the layer `head` reads the channels of its input innermost: tokens, one by one or all at once.
pub(crate) fn reads_tokens(graph: &Graph, head: usize) -> bool {
    let mut at = graph.nodes[head].inputs[0].0;
    loop {
        match graph.nodes[at].shape.len() {
            2 => return true,
            1 if is_identity(graph, at) => at = graph.nodes[at].inputs[0].0,
            _ => return false,
        }
    }
}

/// Maps that convolutions make and nothing but convolutions reads, in groups whose members are added to one another.
pub(crate) fn groups_of_maps(graph: &Graph) -> Vec<Vec<usize>> {
    let compiler = Compiler::new(graph, &[graph.output]);
    let (chains, absorbed) = compiler.chains();
    let mut group: BTreeMap<usize, usize> = BTreeMap::new();
    let mut root: Vec<usize> = Vec::new();
    let mut spoiled = vec![false; graph.nodes.len()];
    spoiled[graph.output.0] = true;
    let find = |group: &BTreeMap<usize, usize>, mut at: usize| {
        while group.get(&at).is_some_and(|&up| up != at) {
            at = group[&at];
        }
        at
    };
    for (index, node) in graph.nodes.iter().enumerate() {
        root.push(index);
        if let Some(chain) = chains.get(&index) {
            group.insert(index, index);
            // Depthwise or not, a layer takes factors into its weights; what the rest of a chain adds must have the same.
            let ends = graph.nodes[index].shape.len() == 3 && chain.then.is_none() && chain.clamp.is_none_or(|c| c.low == 0.0);
            spoiled[index] |= !ends;
            // A layer over all tokens at once has its weights in another order than factors are for.
            let head = &graph.nodes[chain.head];
            spoiled[root[head.inputs[0].0]] |= head.shape.len() == 1 && reads_tokens(graph, chain.head);
            if let Some(other) = chain.residual {
                let (a, b) = (find(&group, root[other]), find(&group, index));
                group.insert(a, b);
                spoiled[root[other]] |= !chains.contains_key(&root[other]);
            }
        } else if compiler.needed[index] && !absorbed[index] {
            if is_identity(graph, index) {
                root[index] = root[node.inputs[0].0];
            } else {
                node.inputs.iter().for_each(|input| spoiled[root[input.0]] = true);
            }
        }
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &index in chains.keys() {
        members.entry(find(&group, index)).or_default().push(index);
    }
    members.into_values().filter(|nodes| nodes.iter().all(|&node| !spoiled[node])).collect()
}

/// Compiles `graph` for `outputs`.
pub(crate) fn compile(graph: &Graph, outputs: &[NodeId], lowering: &mut Lowering) -> Plan {
    let compiler = Compiler::new(graph, outputs);
    let mut typed = compiler.drafts(lowering);
    let wanted: Vec<usize> = outputs.iter().map(|id| typed.output(id.0)).collect();
    assign(bottlenecks(typed.finish(), &wanted), &wanted)
}

/// Gives each value a slot; a slot is free again after the last step that reads it.
fn assign(drafts: Vec<Draft>, wanted: &[usize]) -> Plan {
    let mut last_use: BTreeMap<usize, usize> = BTreeMap::new();
    for (at, draft) in drafts.iter().enumerate() {
        last_use.extend(draft.inputs.iter().map(|&input| (input, at)));
    }
    last_use.extend(wanted.iter().map(|&value| (value, usize::MAX)));
    let (mut sizes, mut free, mut place): (Vec<usize>, Vec<usize>, BTreeMap<usize, usize>) = Default::default();
    let mut steps = Vec::with_capacity(drafts.len());
    for (at, draft) in drafts.into_iter().enumerate() {
        let values = draft.inputs;
        let inputs: Vec<usize> = values.iter().map(|value| place[value]).collect();
        let dies = |value: &usize| last_use[value] == at;
        let in_place = draft.work.works_in_place() && values.len() == 1 && dies(&values[0]);
        let need = (draft.size * draft.bytes).div_ceil(4);
        let output = if in_place { inputs[0] } else { take_slot(&mut sizes, &mut free, need) };
        place.insert(draft.value, output);
        for (value, &slot) in values.iter().zip(&inputs) {
            if dies(value) && slot != output && !free.contains(&slot) {
                free.push(slot);
            }
        }
        let multiply_adds = draft.work.multiply_adds(draft.size);
        let (size, bytes, node) = (draft.size, draft.bytes, draft.node);
        steps.push(Step { work: draft.work, inputs, output, in_place, size, bytes, node, multiply_adds });
    }
    let outputs = wanted.iter().map(|value| place[value]).collect();
    Plan { steps, slots: sizes, outputs, apart: 0, held: Vec::new() }.divided()
}

/// The free slot that wastes least, grown where it must be; a new one where none is free.
fn take_slot(sizes: &mut Vec<usize>, free: &mut Vec<usize>, need: usize) -> usize {
    let cost = |slot: usize| if sizes[slot] >= need { sizes[slot] - need } else { (need - sizes[slot]) * 2 };
    match (0..free.len()).min_by_key(|&i| cost(free[i])) {
        Some(i) => {
            let slot = free.swap_remove(i);
            sizes[slot] = sizes[slot].max(need);
            slot
        }
        None => {
            sizes.push(need);
            sizes.len() - 1
        }
    }
}
