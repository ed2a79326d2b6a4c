//! The graph under construction: nodes with their weights, and the nodes that put a view's data in order.

use std::collections::HashMap;

use super::view::{Factor, View};
use crate::infer::infer_shape;
use crate::op::{Activation, BatchNorm, Conv2d, LayerNorm, Linear, Op, Padding};
use crate::tensor::Tensor;

/// How well a node's name is known; better ones replace worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NameRank {
    /// Made up here.
    Made,
    /// The ONNX node's.
    Node,
    /// A weight's or module's, as the original model had it.
    Module,
}

/// A node to be.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub name: String,
    pub rank: NameRank,
    pub op: Op,
    pub inputs: Vec<usize>,
    /// In the order of [`Op::parameters`].
    pub weights: Vec<Tensor>,
    pub shape: Vec<usize>,
}

/// What a node that only reorders data is made of, so that it is made once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Reorder {
    ToTokens,
    ToMap([usize; 2]),
    Flatten,
    Token(usize),
    Slice(usize, usize),
}

/// What does not fit; the caller adds the ONNX node.
pub(super) type Fit<T> = Result<T, String>;

#[derive(Debug, Default)]
pub(super) struct Drafts {
    pub nodes: Vec<Draft>,
    made: HashMap<(usize, Reorder), usize>,
    /// What the input is multiplied by and what is then added, by channel.
    pub input_affine: Vec<(f64, f64)>,
    /// Values that weights may still have.
    budget: usize,
}

impl Drafts {
    /// `budget` bounds the values of all weights together.
    pub fn new(input: [usize; 3], budget: usize) -> Self {
        let shape = input.to_vec();
        let draft = Draft {
            name: "input".into(),
            rank: NameRank::Module,
            op: Op::Input { shape: shape.clone() },
            inputs: Vec::new(),
            weights: Vec::new(),
            shape,
        };
        Self { nodes: vec![draft], made: HashMap::new(), input_affine: vec![(1.0, 0.0); input[0]], budget }
    }

    pub fn shape(&self, node: usize) -> &[usize] {
        &self.nodes[node].shape
    }

    /// Adds a node, its shape inferred and its weights checked.
    pub fn add(&mut self, (name, rank): (String, NameRank), op: Op, inputs: Vec<usize>, weights: Vec<Tensor>) -> Fit<usize> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|&i| self.nodes[i].shape.as_slice()).collect();
        let shape = infer_shape(&op, &shapes)?;
        let expected = op.parameters(shapes.first().copied().unwrap_or_default());
        for ((suffix, _, shape), weight) in expected.iter().zip(&weights) {
            if weight.shape != *shape || weight.data.len() != shape.iter().product::<usize>() {
                return Err(format!("expected the {suffix} {shape:?}, got {:?} with {} values", weight.shape, weight.data.len()));
            }
        }
        let count: usize = weights.iter().map(|w| w.data.len()).sum();
        self.budget = self.budget.checked_sub(count).ok_or("weights that are used so often that they no longer fit into memory")?;
        if expected.len() != weights.len() {
            return Err(format!("expected {} weights, got {}", expected.len(), weights.len()));
        }
        self.nodes.push(Draft { name, rank, op, inputs, weights, shape });
        Ok(self.nodes.len() - 1)
    }

    fn reorder(&mut self, node: usize, kind: Reorder) -> Fit<usize> {
        if let Some(&made) = self.made.get(&(node, kind.clone())) {
            return Ok(made);
        }
        let (op, suffix) = match kind {
            Reorder::ToTokens => (Op::ToTokens, "tokens"),
            Reorder::ToMap(size) => (Op::ToMap { size }, "map"),
            Reorder::Flatten => (Op::Flatten, "flatten"),
            Reorder::Token(index) => (Op::SelectToken { index }, "token"),
            Reorder::Slice(start, len) => (Op::Slice { start, len }, "slice"),
        };
        let name = (format!("{}.{suffix}", self.nodes[node].name), NameRank::Made);
        let made = self.add(name, op, vec![node], Vec::new())?;
        self.made.insert((node, kind), made);
        Ok(made)
    }

    /// The view without fixed atoms and without a factor: a token selected, a range of channels sliced, a scale folded or applied.
    pub fn settle(&mut self, view: &View) -> Fit<View> {
        let view = self.unscaled(view)?;
        let view = self.selected(view)?;
        if view.pad != Padding::default() {
            return Err(format!("padding {:?} before an operator that does not take it", view.pad));
        }
        Ok(view)
    }

    fn selected(&mut self, view: View) -> Fit<View> {
        if !view.has_fixed() {
            return Ok(view);
        }
        let first = view.axis(0);
        let fixed: Vec<usize> = (0..view.atoms.len()).filter(|&a| view.atoms[a].fixed.is_some()).collect();
        if fixed != first[..fixed.len().min(first.len())] {
            return Err(
                "one part of the features is used without the others; expected an attention's queries, keys and values, or channels".into(),
            );
        }
        // Mixed radix: which of the equal parts.
        let part = fixed.iter().fold(0, |n, &a| n * view.atoms[a].size + view.atoms[a].fixed.unwrap_or(0));
        let len: usize = first[fixed.len()..].iter().map(|&a| view.atoms[a].size).product();
        let token = fixed.len() == first.len() && self.shape(view.node).len() == 2;
        let kind = if token { Reorder::Token(part) } else { Reorder::Slice(part * len, len) };
        let node = self.reorder(view.node, kind)?;
        let shift = usize::from(token);
        let order: Vec<(usize, usize)> = (fixed.len()..view.atoms.len()).map(|a| (a, view.atoms[a].axis - shift)).collect();
        Ok(view.on(node, &order))
    }

    fn unscaled(&mut self, view: &View) -> Fit<View> {
        if view.scale == 1.0 {
            return Ok(view.clone());
        }
        let plain = View { scale: 1.0, ..view.clone() };
        self.affine(&plain, &[view.scale], &[0.0])
    }

    /// The view times `scale` plus `shift`: one value for all, or one for each channel or feature. Folded into the node where nothing else
    /// reads it, else a depthwise 1×1 convolution.
    pub fn affine(&mut self, view: &View, scale: &[f64], shift: &[f64]) -> Fit<View> {
        let shape = self.shape(view.node).to_vec();
        let channels = if shape.len() == 3 { shape[0] } else { shape[shape.len() - 1] };
        let spread = |v: &[f64]| if v.len() == 1 { vec![v[0]; channels] } else { v.to_vec() };
        let (scale, shift) = (spread(scale), spread(shift));
        if scale.len() != channels || shift.len() != channels {
            return Err(format!("{} factors for {channels} channels", scale.len().max(shift.len())));
        }
        if view.exclusive && !view.has_fixed() && self.fold(view.node, &scale, &shift) {
            return Ok(view.clone());
        }
        let view = self.selected(view.clone())?;
        let map = match shape.len() {
            3 => view.clone(),
            2 => self.tokens_to_map(&view, [shape[0], 1])?,
            _ => return self.affine_of_vector(&view, &scale, &shift),
        };
        let conv = Conv2d { groups: channels, bias: true, ..Conv2d::new(channels, channels, 1) };
        let floats = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let weights =
            vec![Tensor { shape: vec![channels, 1, 1, 1], data: floats(&scale) }, Tensor { shape: vec![channels], data: floats(&shift) }];
        let name = (format!("{}.affine", self.nodes[view.node].name), NameRank::Made);
        let node = self.add(name, Op::Conv2d(conv), vec![map.node], weights)?;
        Ok(map.over(node))
    }

    /// A vector has no place for a depthwise convolution: a linear layer with a diagonal matrix.
    fn affine_of_vector(&mut self, view: &View, scale: &[f64], shift: &[f64]) -> Fit<View> {
        let features = scale.len();
        if features > 4096 {
            return Err(format!("{features} values of a vector scaled one by one, after something that cannot take the factors up"));
        }
        let mut weight = vec![0.0; features * features];
        scale.iter().enumerate().for_each(|(i, &s)| weight[i * features + i] = s as f32);
        let weights = vec![
            Tensor { shape: vec![features, features], data: weight },
            Tensor { shape: vec![features], data: shift.iter().map(|&s| s as f32).collect() },
        ];
        let name = (format!("{}.affine", self.nodes[view.node].name), NameRank::Made);
        let op = Op::Linear(Linear { in_features: features, out_features: features, bias: true });
        let node = self.add(name, op, vec![view.node], weights)?;
        Ok(view.over(node))
    }

    /// Multiplies what a node makes, channel by channel, and adds to it, by changing its weights; false where it has none for that.
    fn fold(&mut self, mut node: usize, scale: &[f64], shift: &[f64]) -> bool {
        // Channels of maps and features of tokens are the same.
        while let (Op::ToTokens | Op::ToMap { .. }, [input]) = (&self.nodes[node].op, self.nodes[node].inputs.as_slice()) {
            node = *input;
        }
        let draft = &mut self.nodes[node];
        let bias_at = match &mut draft.op {
            Op::Input { .. } => {
                for (affine, (&scale, &shift)) in self.input_affine.iter_mut().zip(scale.iter().zip(shift)) {
                    *affine = (affine.0 * scale, affine.1 * scale + shift);
                }
                return true;
            }
            Op::Conv2d(Conv2d { bias, out_channels: channels, .. }) | Op::Linear(Linear { bias, out_features: channels, .. }) => {
                // A linear layer over the width of a map mixes other values than channels.
                if draft.weights[0].shape.len() == 2 && draft.shape.len() == 3 {
                    return false;
                }
                if !*bias && shift.iter().any(|&s| s != 0.0) {
                    *bias = true;
                    draft.weights.push(Tensor::zeros([*channels]));
                }
                1
            }
            Op::BatchNorm(BatchNorm { .. }) if draft.shape.len() != 2 => 1,
            Op::LayerNorm(LayerNorm { .. }) if draft.shape.len() != 3 => 1,
            _ => return false,
        };
        let row = draft.weights[0].data.len() / scale.len().max(1);
        for (i, w) in draft.weights[0].data.iter_mut().enumerate() {
            *w = (f64::from(*w) * scale[i / row.max(1)]) as f32;
        }
        if let Some(bias) = draft.weights.get_mut(bias_at) {
            for (b, (scale, shift)) in bias.data.iter_mut().zip(scale.iter().zip(shift)) {
                *b = (f64::from(*b) * scale + shift) as f32;
            }
        }
        true
    }

    /// Gives a linear layer over the width of a map, which nothing else reads, its bias, `sign` times these; false where the view is none.
    pub fn set_bias_of_rows(&mut self, view: &View, values: &[f64], sign: f64) -> bool {
        let draft = &mut self.nodes[view.node];
        let Op::Linear(linear) = &mut draft.op else { return false };
        let whole = view.exclusive && view.scale == 1.0 && !view.has_fixed();
        let fits = whole && draft.shape.len() == 3 && !linear.bias && values.len() == linear.out_features;
        if fits {
            linear.bias = true;
            draft.weights.push(Tensor { shape: vec![values.len()], data: values.iter().map(|v| (v * sign) as f32).collect() });
        }
        fits
    }

    /// Tokens `[T, D]` as a map `[D, H, W]`, the same view over it.
    pub fn tokens_to_map(&mut self, view: &View, size: [usize; 2]) -> Fit<View> {
        let node = self.reorder(view.node, Reorder::ToMap(size))?;
        let (view, rows) = view.split_axis(0, size[0]).ok_or_else(|| format!("tokens that are no {} × {}", size[0], size[1]))?;
        let tokens = view.axis(0);
        let order: Vec<(usize, usize)> = view
            .axis(1)
            .into_iter()
            .map(|a| (a, 0))
            .chain(tokens.into_iter().enumerate().map(|(i, a)| (a, if i < rows { 1 } else { 2 })))
            .collect();
        Ok(view.on(node, &order))
    }

    /// A map `[C, H, W]` as tokens `[H * W, C]`, the same view over it.
    fn map_to_tokens(&mut self, view: &View) -> Fit<View> {
        let node = self.reorder(view.node, Reorder::ToTokens)?;
        let order: Vec<(usize, usize)> =
            [(1, 0), (2, 0), (0, 1)].into_iter().flat_map(|(old, new)| view.axis(old).into_iter().map(move |a| (a, new))).collect();
        Ok(view.on(node, &order))
    }

    /// The view over a node of rank 3 whose axes are the dimensions 1 to 3; `None` where it is a vector `[N, C, 1, 1]`.
    pub fn as_map(&mut self, view: &View) -> Fit<Option<View>> {
        let view = self.settle(view)?;
        let expected = || format!("expected a map [N, C, H, W] in one piece, got {}", view.describe());
        if view.rank() != 4 || view.dims[0] != [Factor::Batch] {
            return Err(expected());
        }
        let fits = |v: &View| (0..3).all(|axis| v.is_axis(axis + 1, axis));
        match self.shape(view.node).len() {
            3 if fits(&view) => Ok(Some(view)),
            2 => {
                let size = [view.size(2), view.size(3)];
                let map = self.tokens_to_map(&view, size)?;
                if fits(&map) { Ok(Some(map)) } else { Err(expected()) }
            }
            1 if view.is_axis(1, 0) => Ok(None),
            _ => Err(expected()),
        }
    }

    /// The view over a node whose last axis is the last dimension, and whose others are in order.
    pub fn as_rows(&mut self, view: &View) -> Fit<View> {
        let view = self.settle(view)?;
        let rank = self.shape(view.node).len();
        let in_order = |v: &View| v.sequence().iter().copied().eq(0..v.atoms.len());
        let last = view.rank().checked_sub(1).ok_or("expected at least one dimension")?;
        if in_order(&view) && view.is_axis(last, rank - 1) && !(rank == 3 && self.shape(view.node)[1..] == [1, 1]) {
            return Ok(view);
        }
        // All values of an image in one row.
        if view.dims[..last].iter().all(|dim| dim.is_empty() || dim == &[Factor::Batch]) {
            return self.as_vector(&view);
        }
        if rank == 3 {
            let tokens = self.map_to_tokens(&view)?;
            if in_order(&tokens) && tokens.is_axis(last, 1) {
                return Ok(tokens);
            }
        }
        Err(format!("expected the features last and in one piece, got {}", view.describe()))
    }

    /// The view over a node of rank 1, its values in the view's order.
    pub fn as_vector(&mut self, view: &View) -> Fit<View> {
        let view = self.settle(view)?;
        let rank = self.shape(view.node).len();
        let in_order = |v: &View| v.sequence().iter().copied().eq(0..v.atoms.len());
        let mut candidates = vec![view.clone()];
        match rank {
            3 => candidates.push(self.map_to_tokens(&view)?),
            2 => candidates.push(self.tokens_to_map(&view, [self.shape(view.node)[0], 1])?),
            _ => {}
        }
        let ordered = candidates.into_iter().find(in_order);
        let ordered = ordered.ok_or_else(|| format!("expected values in an order that one node has, got {}", view.describe()))?;
        if self.shape(ordered.node).len() == 1 {
            return Ok(ordered);
        }
        let node = self.reorder(ordered.node, Reorder::Flatten)?;
        Ok(ordered.on(node, &(0..ordered.atoms.len()).map(|a| (a, 0)).collect::<Vec<_>>()))
    }

    /// Two views as views over nodes of one shape, their dimensions made of the same axes.
    pub fn alike(&mut self, a: &View, b: &View) -> Fit<(View, View)> {
        let (a, b) = (self.settle(a)?, self.settle(b)?);
        let [ranks_a, ranks_b] = [&a, &b].map(|v| self.shape(v.node).len());
        let flat = |drafts: &mut Self, v: &View, rank: usize| match rank {
            1 => Ok(v.clone()),
            _ => drafts.as_vector(v),
        };
        let (a, b) = match (ranks_a, ranks_b) {
            (3, 2) => (a.clone(), self.tokens_to_map(&b, [self.shape(a.node)[1], self.shape(a.node)[2]])?),
            (2, 3) => (self.tokens_to_map(&a, [self.shape(b.node)[1], self.shape(b.node)[2]])?, b.clone()),
            (x, y) if x != y => (flat(self, &a, x)?, flat(self, &b, y)?),
            _ => (a, b),
        };
        if self.shape(a.node) != self.shape(b.node) || a.signature() != b.signature() {
            return Err(format!("expected two equal shapes in the same order, got {} and {}", a.describe(), b.describe()));
        }
        Ok((a, b))
    }

    /// Whether no value of a node is below zero.
    pub fn is_never_negative(&self, mut node: usize) -> bool {
        while let (Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::GlobalAvgPool | Op::Dropout { .. }, [input]) =
            (&self.nodes[node].op, self.nodes[node].inputs.as_slice())
        {
            node = *input;
        }
        matches!(
            self.nodes[node].op,
            Op::Activation(Activation::Relu | Activation::Relu6 | Activation::Sigmoid | Activation::HardSigmoid) | Op::Softmax
        )
    }

    /// A node's value in its own dimensions.
    pub fn view(&self, node: usize) -> View {
        View::of(node, self.shape(node))
    }
}
