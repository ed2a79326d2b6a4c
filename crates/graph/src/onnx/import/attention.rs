//! Attention, which ONNX spells as products of matrices: `softmax(q kᵀ · scale) v`, with whatever reshapes in between.

use super::constant::Dim;
use super::draft::{Fit, NameRank};
use super::source::Operator;
use super::translate::{Translator, Value};
use super::view::{Atom, Factor, View};
use crate::op::{Linear, Op};
use crate::tensor::Tensor;

/// Queries, keys or values: which features of which node, head after head.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Projection {
    pub node: usize,
    pub features: Vec<usize>,
}

/// Scores `q kᵀ`, and what became of them so far.
#[derive(Debug, Clone)]
pub(super) struct Scores {
    pub queries: Projection,
    pub keys: Projection,
    /// Features of a head.
    pub size: usize,
    /// What the scores are multiplied by.
    pub scale: f64,
    pub softmax: bool,
    /// Dimensions of the scores; the node means nothing.
    pub view: View,
}

/// A view taken as the heads of a projection.
struct Heads {
    projection: Projection,
    /// Sizes of the head atoms, in order.
    heads: Vec<usize>,
    tokens: usize,
    size: usize,
}

impl Translator<'_> {
    pub fn attention_product(&mut self, o: &Operator) -> Fit<Value> {
        match (self.value(o, 0)?.clone(), self.value(o, 1)?.clone()) {
            (Value::Active(q), Value::Active(k)) => self.scores(&q, &k, true),
            (Value::Scores(scores), Value::Active(v)) => self.attend(o, &scores, &v),
            _ => Err("a product that is neither a linear layer nor part of an attention".into()),
        }
    }

    /// Queries `[.., T, d]` and keys `[.., d, T]`, or where not `transposed` `[.., T, d]`.
    fn scores(&mut self, q: &View, k: &View, transposed: bool) -> Fit<Value> {
        let rank = q.rank();
        if rank < 3 || k.rank() != rank {
            return Err(format!("a product of {} and {}; expected the heads of an attention", q.describe(), k.describe()));
        }
        let (token, feature) = if transposed { (rank - 1, rank - 2) } else { (rank - 2, rank - 1) };
        let (queries, keys) = (self.heads(q, rank - 2, rank - 1)?, self.heads(k, token, feature)?);
        if queries.heads != keys.heads || queries.size != keys.size || queries.tokens != keys.tokens {
            return Err(format!("queries {} and keys {} of different shapes", q.describe(), k.describe()));
        }
        // Dimensions of the scores: the heads, the queries' tokens, the keys'.
        let mut view = View { scale: 1.0, ..q.clone() };
        view.atoms = queries.heads.iter().map(|&size| Atom { axis: 2, size, fixed: None }).collect();
        let mut head = 0;
        for dim in &mut view.dims[..rank - 2] {
            for factor in dim.iter_mut().filter(|f| **f != Factor::Batch) {
                *factor = Factor::Atom(head);
                head += 1;
            }
        }
        for (at, axis) in [(rank - 2, 0), (rank - 1, 1)] {
            view.dims[at] = Vec::new();
            if queries.tokens > 1 {
                view.dims[at].push(Factor::Atom(view.atoms.len()));
                view.atoms.push(Atom { axis, size: queries.tokens, fixed: None });
            }
        }
        let scale = q.scale * k.scale;
        let size = queries.size;
        Ok(Value::Scores(Scores { queries: queries.projection, keys: keys.projection, size, scale, softmax: false, view }))
    }

    pub fn attention_softmax(&mut self, o: &Operator) -> Fit<Value> {
        let Value::Scores(scores) = self.value(o, 0)?.clone() else { return Err("expected scores".into()) };
        let rank = scores.view.rank();
        let default = if self.source.opset < 13 { 1 } else { -1 };
        if self.axis(o.int("axis").unwrap_or(default), rank)? + 1 != rank || !scores.view.is_axis(rank - 1, 1) || scores.softmax {
            return Err("scores of an attention; expected a softmax over the keys".into());
        }
        Ok(Value::Scores(Scores { softmax: true, ..scores }))
    }

    /// Shares `[.., T, T]` times values `[.., T, d]`.
    fn attend(&mut self, o: &Operator, scores: &Scores, v: &View) -> Fit<Value> {
        let rank = v.rank();
        let in_order = scores.view.sequence().iter().copied().eq(0..scores.view.atoms.len());
        let shares = scores.view.rank();
        if !scores.softmax
            || rank < 3
            || shares < 3
            || !in_order
            || !scores.view.is_axis(shares - 1, 1)
            || !scores.view.is_axis(shares - 2, 0)
        {
            return Err("scores of an attention that reach the values without a softmax over the keys, or in another order".into());
        }
        let values = self.heads(v, rank - 2, rank - 1)?;
        let tokens = scores.view.size(shares - 1);
        let fits =
            values.size == scores.size && values.tokens == tokens && values.projection.features.len() == scores.queries.features.len();
        if !fits || v.scale != 1.0 {
            return Err(format!("values {} of another size than queries and keys", v.describe()));
        }
        let heads: usize = values.heads.iter().product();
        let factor = scores.scale * (scores.size as f64).sqrt();
        let name = self.plain_name(o);
        let joined = self.joined(&name.0, [&scores.queries, &scores.keys, &values.projection], factor)?;
        let node = self.drafts.add(name, Op::Attention { heads }, vec![joined], Vec::new())?;
        Ok(Value::Active(attended(v, node, &values)))
    }

    /// One node with all queries, all keys, all values, each head after head; its queries are scaled by `1 / sqrt(d)` alone.
    fn joined(&mut self, name: &str, parts: [&Projection; 3], factor: f64) -> Fit<usize> {
        let width = parts[0].features.len();
        let node = parts[0].node;
        let natural = (factor - 1.0).abs() < 1e-5;
        let in_place = |(i, p): (usize, &&Projection)| p.node == node && p.features.iter().copied().eq(i * width..(i + 1) * width);
        if natural && parts.iter().enumerate().all(in_place) && self.drafts.shape(node)[1] == 3 * width {
            return Ok(node);
        }
        // Rows of the linear layers that make them, in our order.
        let input = self.drafts.nodes[node].inputs.first().copied();
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        let mut in_features = 0;
        for (part, factor) in parts.into_iter().zip([if natural { 1.0 } else { factor as f32 }, 1.0, 1.0]) {
            let draft = &self.drafts.nodes[part.node];
            let Op::Linear(linear) = &draft.op else {
                return Err(format!("queries, keys or values that {} makes ({:?}); expected linear layers", draft.op.kind(), draft.name));
            };
            if draft.inputs.first().copied() != input {
                return Err("queries, keys and values of different inputs".into());
            }
            in_features = linear.in_features;
            for &row in &part.features {
                weight.extend(draft.weights[0].data[row * in_features..][..in_features].iter().map(|w| w * factor));
                bias.push(draft.weights.get(1).map_or(0.0, |b| b.data[row]) * factor);
            }
        }
        let has_bias = parts.iter().any(|p| self.drafts.nodes[p.node].weights.len() > 1);
        let named = self.joined_name(name, parts);
        let mut weights = vec![Tensor { shape: vec![3 * width, in_features], data: weight }];
        if has_bias {
            weights.push(Tensor { shape: vec![3 * width], data: bias });
        }
        let op = Op::Linear(Linear { in_features, out_features: 3 * width, bias: has_bias });
        self.drafts.add(named, op, input.into_iter().collect(), weights)
    }

    /// The name of the one layer, or of what the three are within.
    fn joined_name(&self, attention: &str, parts: [&Projection; 3]) -> (String, NameRank) {
        let names = parts.map(|p| self.drafts.nodes[p.node].name.as_str());
        let rank = self.drafts.nodes[parts[0].node].rank;
        if names[0] == names[1] && names[1] == names[2] {
            return (names[0].to_string(), rank);
        }
        let parents = names.map(|n| n.rsplit_once('.').map(|(parent, _)| parent));
        match parents {
            [Some(a), Some(b), Some(c)] if a == b && b == c => (format!("{a}.qkv"), rank),
            _ => (format!("{attention}.qkv"), NameRank::Made),
        }
    }

    /// Takes a view as heads: `token` and `feature` are its dimensions of tokens and of a head's features, the others heads and batch.
    fn heads(&self, x: &View, token: usize, feature: usize) -> Fit<Heads> {
        let shape = self.drafts.shape(x.node);
        let strange = || format!("{} as heads of an attention; expected [.., tokens, features] of one layer", x.describe());
        let size = x.atoms_of(feature).ok_or_else(strange)?;
        if shape.len() != 2 || !x.is_axis(token, 0) || x.pad != crate::op::Padding::default() {
            return Err(strange());
        }
        let lead: Vec<Factor> = (0..x.rank()).filter(|&d| d != token && d != feature).flat_map(|d| x.dims[d].clone()).collect();
        let heads: Vec<usize> = lead.iter().filter_map(|f| if let Factor::Atom(a) = f { Some(*a) } else { None }).collect();
        if heads.len() + 1 != lead.len() || heads.iter().chain(&size).any(|&a| x.atoms[a].axis != 1) {
            return Err(strange());
        }
        // Where an atom's next index is in the row.
        let stride = |atom: usize| x.atoms[atom + 1..].iter().filter(|a| a.axis == 1).map(|a| a.size).product::<usize>();
        let base: usize = (0..x.atoms.len()).filter_map(|a| x.atoms[a].fixed.map(|index| index * stride(a))).sum();
        let mut features = vec![base];
        for &atom in heads.iter().chain(&size) {
            let (count, step) = (x.atoms[atom].size, stride(atom));
            features = features.iter().flat_map(|&at| (0..count).map(move |i| at + i * step)).collect();
        }
        let sizes = |atoms: &[usize]| atoms.iter().map(|&a| x.atoms[a].size).collect::<Vec<usize>>();
        Ok(Heads {
            projection: Projection { node: x.node, features },
            heads: sizes(&heads),
            tokens: shape[0],
            size: sizes(&size).iter().product(),
        })
    }

    /// ONNX's own operator, since opset 23.
    pub fn attention_operator(&mut self, o: &Operator) -> Fit<Value> {
        if o.inputs.iter().skip(3).any(Option::is_some) || o.int("is_causal").unwrap_or(0) != 0 || o.float("softcap").unwrap_or(0.0) != 0.0
        {
            return Err("a mask, a cache, a cap or a causal order".into());
        }
        let views = [self.view(o, 0)?, self.view(o, 1)?, self.view(o, 2)?];
        let split = |x: &View| -> Fit<View> {
            let heads = o.int("q_num_heads").filter(|_| x.rank() == 3);
            let Some(heads) = heads else { return Ok(x.clone()) };
            let size = x.dim(2).div(Dim::Known(heads)).ok_or("heads that do not divide the features")?;
            let parts =
                x.reshape(&[x.dim(0), x.dim(1), Dim::Known(heads), size], self.batch).ok_or("heads that do not divide the features")?;
            Ok(parts.transpose(&[0, 2, 1, 3]))
        };
        let three = views[0].rank() == 3;
        let [q, k, v] = [split(&views[0])?, split(&views[1])?, split(&views[2])?];
        let Value::Scores(scores) = self.scores(&q, &k, false)? else { return Err("no scores".into()) };
        let default = 1.0 / (scores.size as f64).sqrt();
        let scale = o.float("scale").map_or(default, f64::from);
        let scores = Scores { scale: scores.scale * scale, softmax: true, ..scores };
        let value = self.attend(o, &scores, &v)?;
        match value {
            Value::Active(view) if three => {
                let view = view.transpose(&[0, 2, 1, 3]);
                let dims = [view.dims[0].clone(), view.dims[1].clone(), view.dims[2..].concat()].to_vec();
                Ok(Value::Active(View { dims, ..view }))
            }
            other => Ok(other),
        }
    }
}

/// The value of an attention over `node` `[T, heads * d]`, in the dimensions of its values.
fn attended(v: &View, node: usize, values: &Heads) -> View {
    let mut view = View { node, exclusive: true, scale: 1.0, ..v.clone() };
    let rank = v.rank();
    view.atoms.clear();
    if values.tokens > 1 {
        view.atoms.push(Atom { axis: 0, size: values.tokens, fixed: None });
        view.dims[rank - 2] = vec![Factor::Atom(0)];
    }
    for &size in &values.heads {
        view.atoms.push(Atom { axis: 1, size, fixed: None });
    }
    let mut next = usize::from(values.tokens > 1);
    for dim in &mut view.dims[..rank - 2] {
        for factor in dim.iter_mut().filter(|f| **f != Factor::Batch) {
            *factor = Factor::Atom(next);
            next += 1;
        }
    }
    view.dims[rank - 1].clear();
    if values.size > 1 {
        view.atoms.push(Atom { axis: 1, size: values.size, fixed: None });
        view.dims[rank - 1].push(Factor::Atom(next));
    }
    view
}
