//! Shape inference and the checks of a whole graph.

use std::collections::HashSet;

use crate::error::GraphError;
use crate::ir::{Graph, Node};
use crate::op::{Op, Padding};

/// Largest size of a dimension, kernel, stride and the like.
const MAX_SIZE: usize = 1 << 24;
/// Most values of an activation (a sample) or a weight: 8 GiB.
const MAX_VOLUME: usize = 1 << 31;
const MAX_RANK: usize = 8;
const MAX_NODES: usize = 1 << 20;

/// Output shape of `op` for `inputs`, all without the batch dimension, or what does not fit.
///
/// With inputs from this function, no size overflows: settings are bounded first, the result last.
pub(crate) fn infer_shape(op: &Op, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
    check_settings(op)?;
    let shape = fit(op, inputs)?;
    check_volume("output", &shape)?;
    for (suffix, _, shape) in op.parameters(inputs.first().copied().unwrap_or_default()) {
        check_volume(if suffix.is_empty() { "parameter" } else { suffix }, &shape)?;
    }
    Ok(shape)
}

fn check_volume(what: &str, shape: &[usize]) -> Result<(), String> {
    if shape.is_empty() || shape.len() > MAX_RANK || shape.contains(&0) {
        return Err(format!("{what} {shape:?}: expected 1 to {MAX_RANK} dimensions, each at least 1"));
    }
    match shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
        Some(volume) if volume <= MAX_VOLUME => Ok(()),
        _ => Err(format!("{what} {shape:?} has more than {MAX_VOLUME} values")),
    }
}

/// Bounds every number in an op, so that arithmetic on them cannot overflow.
fn check_settings(op: &Op) -> Result<(), String> {
    let sizes = |sizes: &[usize]| match sizes.iter().find(|&&size| size > MAX_SIZE) {
        Some(size) => Err(format!("{size} is too large; expected at most {MAX_SIZE}")),
        None => Ok(()),
    };
    let sides = |p: &Padding| sizes(&[p.top, p.left, p.bottom, p.right]);
    let eps = |eps: f32| if eps.is_finite() && eps >= 0.0 { Ok(()) } else { Err(format!("expected eps of at least 0, got {eps}")) };
    match op {
        Op::Input { shape } => sizes(shape),
        Op::Conv2d(c) => {
            sizes(&[c.in_channels, c.out_channels, c.groups])?;
            sizes(&[c.kernel, c.stride, c.dilation].concat())?;
            sides(&c.padding)
        }
        Op::Linear(l) => sizes(&[l.in_features, l.out_features]),
        Op::BatchNorm(b) => {
            sizes(&[b.channels])?;
            if !(0.0..=1.0).contains(&b.momentum) {
                return Err(format!("expected a momentum in 0..=1, got {}", b.momentum));
            }
            eps(b.eps)
        }
        Op::LayerNorm(l) => sizes(&[l.features]).and_then(|()| eps(l.eps)),
        Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => {
            sizes(&[pool.kernel, pool.stride].concat())?;
            sides(&pool.padding)?;
            let p = &pool.padding;
            if p.top.max(p.bottom) >= pool.kernel[0] || p.left.max(p.right) >= pool.kernel[1] {
                return Err(format!("expected padding smaller than the window {:?}, got {p:?}", pool.kernel));
            }
            Ok(())
        }
        Op::SelectToken { index } => sizes(&[*index]),
        Op::ToMap { size } => sizes(size),
        Op::Slice { start, len } => sizes(&[*start, *len]),
        Op::Attention { heads } => sizes(&[*heads]),
        Op::Dropout { p } | Op::DropPath { p } => {
            if (0.0..1.0).contains(p) {
                Ok(())
            } else {
                Err(format!("expected a probability in 0..1, got {p}"))
            }
        }
        Op::Activation(_)
        | Op::GlobalAvgPool
        | Op::Flatten
        | Op::Add
        | Op::Mul
        | Op::Concat
        | Op::ToTokens
        | Op::PrependToken
        | Op::AddPosition
        | Op::Softmax => Ok(()),
    }
}

fn fit(op: &Op, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
    let one = || match inputs {
        [x] => Ok(*x),
        _ => Err(format!("expected 1 input, got {}", inputs.len())),
    };
    let map = || match one()? {
        &[c, h, w] => Ok([c, h, w]),
        other => Err(format!("expected an input [C, H, W], got {other:?}")),
    };
    let tokens = || match one()? {
        &[t, d] => Ok([t, d]),
        other => Err(format!("expected an input [T, D], got {other:?}")),
    };
    match op {
        Op::Input { shape } if inputs.is_empty() => Ok(shape.clone()),
        Op::Input { .. } => Err(format!("expected no inputs, got {}", inputs.len())),
        Op::Conv2d(c) => {
            let [channels, h, w] = map()?;
            expect("input channels", c.in_channels, channels)?;
            if c.groups == 0 || c.in_channels % c.groups != 0 || c.out_channels % c.groups != 0 {
                return Err(format!("{} groups do not divide {} -> {} channels", c.groups, c.in_channels, c.out_channels));
            }
            let [oh, ow] = window([h, w], c.kernel, c.stride, c.padding, c.dilation)?;
            Ok(vec![c.out_channels, oh, ow])
        }
        Op::Linear(l) => {
            let x = one()?;
            expect("input features", l.in_features, x.last().copied().unwrap_or(0))?;
            let mut shape = x.to_vec();
            if let Some(last) = shape.last_mut() {
                *last = l.out_features;
            }
            Ok(shape)
        }
        Op::BatchNorm(b) => {
            let x = one()?;
            expect("channels", b.channels, x.first().copied().unwrap_or(0))?;
            Ok(x.to_vec())
        }
        Op::LayerNorm(l) => {
            let x = one()?;
            expect("features", l.features, x.last().copied().unwrap_or(0))?;
            Ok(x.to_vec())
        }
        Op::Activation(_) | Op::Softmax | Op::Dropout { .. } | Op::DropPath { .. } => Ok(one()?.to_vec()),
        Op::MaxPool2d(p) | Op::AvgPool2d(p) => {
            let [c, h, w] = map()?;
            let [oh, ow] = window([h, w], p.kernel, p.stride, p.padding, [1; 2])?;
            Ok(vec![c, oh, ow])
        }
        Op::GlobalAvgPool => Ok(vec![map()?[0]]),
        Op::Flatten => Ok(vec![one()?.iter().product()]),
        Op::Add => match inputs {
            [a, b] if a == b => Ok(a.to_vec()),
            [a, b] => Err(format!("expected two equal shapes, got {a:?} and {b:?}")),
            _ => Err(format!("expected 2 inputs, got {}", inputs.len())),
        },
        Op::Mul => match inputs {
            [a, b] if a == b || (a.len() == 3 && b.len() == 1 && a[0] == b[0]) => Ok(a.to_vec()),
            [a, b] => Err(format!("expected two equal shapes, or [C, H, W] and [C], got {a:?} and {b:?}")),
            _ => Err(format!("expected 2 inputs, got {}", inputs.len())),
        },
        Op::Concat => {
            let first = inputs.first().filter(|_| inputs.len() > 1).ok_or("expected 2 or more inputs")?;
            if first.is_empty() || inputs.iter().any(|x| x.len() != first.len() || x[1..] != first[1..]) {
                return Err(format!("expected shapes that differ in channels only, got {inputs:?}"));
            }
            let mut shape = first.to_vec();
            shape[0] = inputs.iter().map(|x| x[0]).sum();
            Ok(shape)
        }
        Op::ToTokens => map().map(|[d, h, w]| vec![h * w, d]),
        Op::ToMap { size: [h, w] } => match tokens()? {
            [t, d] if h * w == t => Ok(vec![d, *h, *w]),
            [t, _] => Err(format!("{t} tokens are not {h} × {w}")),
        },
        Op::Slice { start, len } => match one()?.split_first() {
            Some((&size, rest)) if *len > 0 && start + len <= size => Ok([&[*len], rest].concat()),
            _ => Err(format!("{start}..{} is no range within {:?}", start + len, one()?.first())),
        },
        Op::PrependToken => tokens().map(|[t, d]| vec![t + 1, d]),
        Op::AddPosition => tokens().map(|t| t.to_vec()),
        Op::SelectToken { index } => match tokens()? {
            [t, d] if *index < t => Ok(vec![d]),
            [t, _] => Err(format!("token {index} of {t}")),
        },
        Op::Attention { heads } => match tokens()? {
            [t, d] if *heads > 0 && d % (3 * heads) == 0 => Ok(vec![t, d / 3]),
            [_, d] => Err(format!("{d} features are not 3 × {heads} equal heads")),
        },
    }
}

fn expect(what: &str, expected: usize, found: usize) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("expected {expected} {what}, got {found}")) }
}

fn window(size: [usize; 2], kernel: [usize; 2], stride: [usize; 2], p: Padding, dilation: [usize; 2]) -> Result<[usize; 2], String> {
    let padded = [size[0] + p.top + p.bottom, size[1] + p.left + p.right];
    let mut out = [0; 2];
    for i in 0..2 {
        if kernel[i] == 0 || stride[i] == 0 || dilation[i] == 0 {
            return Err("kernel, stride and dilation must be at least 1".into());
        }
        let reach = dilation[i] * (kernel[i] - 1) + 1;
        if padded[i] < reach {
            return Err(format!("a window of {reach} does not fit a padded input of {}; use larger images", padded[i]));
        }
        out[i] = (padded[i] - reach) / stride[i] + 1;
    }
    Ok(out)
}

impl Graph {
    /// Checks the whole graph: order, unique names, shapes, parameters, stages, taps and output. A graph from anywhere may be checked;
    /// one that passes can be run.
    ///
    /// # Errors
    /// The first thing found, with the node's name.
    pub fn check(&self) -> Result<(), GraphError> {
        let whole = |problem: String| GraphError::Graph { graph: self.name.clone(), problem };
        if self.nodes.is_empty() || self.nodes.len() > MAX_NODES {
            return Err(whole(format!("expected 1 to {MAX_NODES} nodes, got {}", self.nodes.len())));
        }
        let (mut names, mut parameters) = (HashSet::new(), HashSet::new());
        for (index, node) in self.nodes.iter().enumerate() {
            let here = |problem: String| GraphError::Node { node: node.name.clone(), op: node.op.kind(), problem };
            if !names.insert(&node.name) {
                return Err(here("the name occurs twice".into()));
            }
            self.check_node(index, node).map_err(here)?;
            if let Some(twice) = node.parameters.iter().find(|p| !parameters.insert(&p.name)) {
                return Err(here(format!("parameter {:?} occurs twice", twice.name)));
            }
        }
        if let Some((tap, id)) = self.taps.iter().find(|(_, id)| id.0 >= self.nodes.len()) {
            return Err(whole(format!("tap {tap:?} names node {} of {}", id.0, self.nodes.len())));
        }
        if self.output.0 >= self.nodes.len() {
            return Err(whole(format!("the output is node {} of {}", self.output.0, self.nodes.len())));
        }
        Ok(())
    }

    /// [`Graph::check`], and that the input is an image `[C, H, W]` and the output is `[num_classes]`: a whole classifier.
    ///
    /// # Errors
    /// As [`Graph::check`], or an input or output of another shape.
    pub fn check_classifier(&self) -> Result<(), GraphError> {
        self.check()?;
        let whole = |problem: String| Err(GraphError::Graph { graph: self.name.clone(), problem });
        if self.input_shape().len() != 3 {
            return whole(format!("expected an input [C, H, W], got {:?}", self.input_shape()));
        }
        let output = self.node(self.output);
        if output.shape.len() != 1 {
            return whole(format!("expected an output [num_classes], got {:?} from node {:?}", output.shape, output.name));
        }
        Ok(())
    }

    fn check_node(&self, index: usize, node: &Node) -> Result<(), String> {
        if matches!(node.op, Op::Input { .. }) != (index == 0) {
            return Err("the first node, and no other, must be the Input".into());
        }
        if let Some(later) = node.inputs.iter().find(|i| i.0 >= index) {
            return Err(format!("reads node {}, which is not earlier; expected topological order", later.0));
        }
        if node.stage >= self.stages.len() {
            return Err(format!("stage {} of {}", node.stage, self.stages.len()));
        }
        let shapes: Vec<&[usize]> = node.inputs.iter().map(|&i| self.node(i).shape.as_slice()).collect();
        let shape = infer_shape(&node.op, &shapes)?;
        if shape != node.shape {
            return Err(format!("states the shape {:?}, inferred {shape:?}", node.shape));
        }
        let expected = node.op.parameters(shapes.first().copied().unwrap_or_default());
        if expected.len() != node.parameters.len() {
            return Err(format!("expected {} parameters, got {}", expected.len(), node.parameters.len()));
        }
        for ((_, role, shape), parameter) in expected.iter().zip(&node.parameters) {
            if parameter.role != *role || parameter.shape != *shape {
                let (name, found) = (&parameter.name, &parameter.shape);
                return Err(format!("parameter {name:?}: expected {role:?} {shape:?}, got {:?} {found:?}", parameter.role));
            }
        }
        Ok(())
    }
}
