//! From a graph to steps: what is computed together, and what gradients are needed.

use graph::{Activation, Graph, NodeId, Op};
use kernels::Clamp;

use super::layer::{Kind, Layer};
use super::{Scope, lower};

/// One step before its place in memory is known. Values are known by the nodes that make them.
#[derive(Debug)]
pub(super) struct Step {
    pub layer: Box<dyn Layer>,
    /// The node whose value it makes.
    pub node: usize,
    /// The node whose parameters it reads.
    pub head: usize,
    /// Nodes whose values it reads.
    pub inputs: Vec<usize>,
    /// Values of each for one image.
    pub input_sizes: Vec<usize>,
    /// How each lies in memory.
    pub input_kinds: Vec<Kind>,
    /// Values written for one image.
    pub size: usize,
    /// How they lie in memory.
    pub kind: Kind,
    /// Names of its parameters, and whether each is trained.
    pub parameters: Vec<(String, bool)>,
    /// Whether each input needs a gradient.
    pub wants: Vec<bool>,
}

impl Step {
    /// Whether it runs backward at all.
    pub fn goes_back(&self) -> bool {
        self.wants.contains(&true) || self.parameters.iter().any(|(_, trained)| *trained)
    }

    /// Whether the layer gets memory as it is: all of one kind that it knows.
    pub fn is_direct(&self) -> bool {
        let known = self.kind == Kind::F32 || self.layer.takes_bf16();
        known && self.input_kinds.iter().all(|&kind| kind == self.kind)
    }
}

/// Nodes that one step computes: a norm or an affine layer with an addition and an activation behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    pub head: usize,
    /// The other operand of an addition.
    pub residual: Option<usize>,
    pub clamp: Option<Clamp>,
    pub last: usize,
}

/// The bounds of an activation that is a clamp.
pub(super) fn clamp_of(kind: Activation) -> Option<Clamp> {
    match kind {
        Activation::Relu => Some(Clamp::RELU),
        Activation::Relu6 => Some(Clamp::RELU6),
        Activation::Gelu | Activation::Silu | Activation::HardSwish | Activation::HardSigmoid | Activation::Sigmoid | Activation::Tanh => {
            None
        }
    }
}

/// The steps for some outputs, in running order, and the node that stands for each node's value (identities share their input's).
pub(super) fn compile(graph: &Graph, outputs: &[NodeId], scope: &Scope) -> (Vec<Step>, Vec<usize>) {
    let compiler = Compiler::new(graph, outputs, scope);
    let count = graph.nodes.len();
    let (mut ends, mut absorbed) = (vec![None; count], vec![false; count]);
    for index in 0..count {
        if compiler.needed[index] && !absorbed[index] {
            let chain = compiler.chain(index, &absorbed);
            let mut at = chain.head;
            while at != chain.last {
                at = compiler.readers[at][0];
                absorbed[at] = true;
            }
            ends[chain.last] = Some(chain);
        }
    }
    let (mut steps, mut root, mut wants) = (Vec::new(), (0..count).collect::<Vec<_>>(), vec![false; count]);
    for (index, chain) in ends.into_iter().enumerate() {
        let Some(chain) = chain else { continue };
        if compiler.is_identity(chain.head) {
            let input = root[graph.nodes[index].inputs[0].0];
            (root[index], wants[index]) = (input, wants[input]);
            continue;
        }
        let step = compiler.step(&chain, &root, &wants);
        wants[index] = step.goes_back() || (index == 0 && scope.by_input);
        steps.push(step);
    }
    if scope.bf16 {
        choose_kinds(&mut steps, count, outputs.iter().map(|id| root[id.0]).chain(scope.by_input.then_some(0)));
    }
    (steps, root)
}

/// All values are bf16 but those `read` by the caller, and those whose gradient passes to or from these in place.
fn choose_kinds(steps: &mut [Step], nodes: usize, read: impl Iterator<Item = usize>) {
    let mut wide = vec![false; nodes];
    read.for_each(|node| wide[node] = true);
    let shared: Vec<(usize, usize)> = steps
        .iter()
        .flat_map(|step| {
            let passes = move |&(input, _): &(usize, &usize)| step.wants[input] && step.layer.passes(input);
            step.inputs.iter().enumerate().filter(passes).map(move |(_, &node)| (node, step.node))
        })
        .collect();
    while let Some(&(a, b)) = shared.iter().find(|&&(a, b)| wide[a] != wide[b]) {
        (wide[a], wide[b]) = (true, true);
    }
    let kind = |node: usize| if wide[node] { Kind::F32 } else { Kind::Bf16 };
    for step in steps {
        step.kind = kind(step.node);
        step.input_kinds = step.inputs.iter().map(|&node| kind(node)).collect();
    }
}

struct Compiler<'a> {
    graph: &'a Graph,
    scope: &'a Scope,
    needed: Vec<bool>,
    /// Needed nodes that read each node.
    readers: Vec<Vec<usize>>,
    wanted: Vec<bool>,
}

impl<'a> Compiler<'a> {
    fn new(graph: &'a Graph, outputs: &[NodeId], scope: &'a Scope) -> Self {
        let count = graph.nodes.len();
        let (mut needed, mut wanted, mut readers) = (vec![false; count], vec![false; count], vec![Vec::new(); count]);
        for id in outputs {
            (needed[id.0], wanted[id.0]) = (true, true);
        }
        for index in (0..count).rev().filter(|&i| i > 0) {
            if needed[index] {
                for input in &graph.nodes[index].inputs {
                    needed[input.0] = true;
                    readers[input.0].push(index);
                }
            }
        }
        needed[0] |= scope.by_input;
        Self { graph, scope, needed, readers, wanted }
    }

    /// The one node that reads a chain's value, apart from identities, and whose value it reads: the chain's or that of an identity.
    fn next(&self, chain: &Chain, absorbed: &[bool]) -> Option<(usize, usize)> {
        let mut at = chain.last;
        loop {
            let &[reader] = self.readers[at].as_slice() else { return None };
            if self.wanted[at] || absorbed[reader] {
                return None;
            }
            if !matches!(self.graph.nodes[reader].op, Op::Dropout { .. } | Op::DropPath { .. }) || !self.is_identity(reader) {
                return Some((at, reader));
            }
            at = reader;
        }
    }

    /// What node `head` does together with the nodes behind it.
    fn chain(&self, head: usize, absorbed: &[bool]) -> Chain {
        let mut chain = Chain { head, residual: None, clamp: None, last: head };
        let node = &self.graph.nodes[head];
        let rank = node.shape.len();
        let (adds, clamps) = match &node.op {
            Op::Conv2d(c) => (!c.is_depthwise(), true),
            Op::Linear(_) => (rank < 3, rank < 3),
            Op::BatchNorm(_) => (rank != 2, rank != 2),
            _ => (false, false),
        };
        if let Some((own, next)) = self.next(&chain, absorbed).filter(|_| adds)
            && let (Op::Add, &[a, b]) = (&self.graph.nodes[next].op, self.graph.nodes[next].inputs.as_slice())
        {
            chain.residual = Some(if own == a.0 { b.0 } else { a.0 });
            chain.last = next;
        }
        if let Some((_, next)) = self.next(&chain, absorbed).filter(|_| clamps)
            && let Op::Activation(kind) = self.graph.nodes[next].op
            && let Some(clamp) = clamp_of(kind)
        {
            chain.clamp = Some(clamp);
            chain.last = next;
        }
        chain
    }

    fn step(&self, chain: &Chain, root: &[usize], wants: &[bool]) -> Step {
        let node = &self.graph.nodes[chain.head];
        let inputs: Vec<usize> = node.inputs.iter().map(|i| i.0).chain(chain.residual).map(|i| root[i]).collect();
        let trained = self.scope.stage(node.stage).is_trained();
        let parameters: Vec<(String, bool)> = node.parameters.iter().map(|p| (p.name.clone(), trained && p.role.is_learned())).collect();
        let layer = lower::layer(self.graph, chain, self.scope.stage(node.stage), trained);
        let wants = inputs.iter().map(|&input| wants[input]).collect();
        let volume = |node: usize| self.graph.nodes[node].shape.iter().product();
        let (size, input_sizes) = (volume(chain.last), inputs.iter().map(|&node| volume(node)).collect());
        let (kind, input_kinds) = (Kind::F32, vec![Kind::F32; inputs.len()]);
        Step { layer, node: chain.last, head: chain.head, inputs, input_sizes, input_kinds, size, kind, parameters, wants }
    }

    /// Whether a node's value is its input's in this layout.
    fn is_identity(&self, index: usize) -> bool {
        let node = &self.graph.nodes[index];
        let input = node.inputs.first().map(|&i| self.graph.node(i).shape.as_slice()).unwrap_or_default();
        match &node.op {
            Op::Dropout { p } | Op::DropPath { p } => *p <= 0.0 || !self.scope.stage(node.stage).is_trained(),
            Op::ToTokens | Op::ToMap { .. } => true,
            Op::Flatten => input.len() != 3 || input[0] == 1 || input[1] * input[2] == 1,
            _ => false,
        }
    }
}
