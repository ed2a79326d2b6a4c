//! Operator by operator from the file to drafts.

use std::collections::HashSet;

use super::attention::Scores;
use super::constant::{Constant, Dim};
use super::draft::{Drafts, Fit, NameRank};
use super::places::Places;
use super::source::{Operator, Source, ValueId};
use super::view::View;
use super::{cures, fold, names};
use crate::onnx::error::OnnxError;
use crate::op::{Activation, Op};

/// What an ONNX value is to us.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Known when the file is read.
    Constant(Constant),
    /// A constant `[1, ..]` repeated for each image.
    PerImage(Constant),
    /// Computed.
    Active(View),
    /// Scores of an attention, before or after their softmax.
    Scores(Scores),
    /// Indices along the batch.
    Places(Places),
    /// Which values are no numbers: exporters guard a softmax of fully masked rows, which there are none of here.
    NotANumber,
}

pub(super) struct Translator<'a> {
    pub source: &'a Source,
    pub drafts: Drafts,
    pub values: Vec<Option<Value>>,
    /// How often each value is read.
    pub uses: Vec<usize>,
    /// The file's own batch size, where it has one.
    pub batch: Option<usize>,
    /// Names that are taken.
    pub taken: HashSet<String>,
    /// What the caller may want to know.
    pub notes: Vec<String>,
    /// Values of folded constants so far.
    folded: usize,
    /// Most that they may be.
    budget: usize,
}

impl<'a> Translator<'a> {
    pub fn new(source: &'a Source, input: [usize; 3], channels_last: bool, batch: Option<usize>, uses: Vec<usize>) -> Self {
        // Shared weights are copied, vectors scaled by matrices, constants computed: a few times what the file holds, and no more.
        let stored: usize = source.constants.values().map(Constant::len).sum();
        let budget = stored.saturating_mul(4).saturating_add(1 << 23);
        let drafts = Drafts::new(input, budget);
        let mut values: Vec<Option<Value>> = vec![None; source.names.len()];
        for (&id, constant) in &source.constants {
            values[id] = Some(Value::Constant(constant.clone()));
        }
        let view = drafts.view(0);
        let view = if channels_last { view.transpose(&[0, 2, 3, 1]) } else { view };
        values[source.input] = Some(Value::Active(view));
        let taken = HashSet::from(["input".to_string()]);
        Self { source, drafts, values, uses, batch, taken, notes: Vec::new(), folded: 0, budget }
    }

    /// Translates one operator, all of whose inputs are done.
    pub fn operator(&mut self, operator: &'a Operator) -> Result<(), OnnxError> {
        let refuse = |problem: String| self.source.refuse(operator, problem, cures::of(&operator.op));
        let known = operator.domain.is_empty() || (operator.domain == "com.microsoft" && operator.op == "FusedConv");
        if !known {
            return Err(refuse(format!("the domain {:?} is not covered", operator.domain)));
        }
        let made = match self.folded(operator).map_err(&refuse)? {
            Some(constants) => constants.into_iter().map(Value::Constant).collect(),
            None => self.dispatch(operator).map_err(|problem| self.source.refuse(operator, problem, cures::of(&operator.op)))?,
        };
        for (index, value) in made.into_iter().enumerate() {
            if let Some(id) = operator.output(index) {
                self.values[id] = Some(value);
            }
        }
        Ok(())
    }

    /// The outputs of an operator on constants, or of one that asks for shapes.
    fn folded(&mut self, operator: &Operator) -> Fit<Option<Vec<Constant>>> {
        let mut inputs = Vec::with_capacity(operator.inputs.len());
        for input in &operator.inputs {
            inputs.push(match input.map(|id| &self.values[id]) {
                None => None,
                Some(Some(Value::Constant(constant))) => Some(constant),
                Some(_) => return Ok(None),
            });
        }
        let Some(outputs) = fold::fold(operator, &inputs)? else { return Ok(None) };
        self.folded += outputs.iter().map(Constant::len).sum::<usize>();
        match self.folded <= self.budget {
            true => Ok(Some(outputs)),
            false => Err(format!("more than {} values of computed constants", self.budget)),
        }
    }

    fn dispatch(&mut self, o: &'a Operator) -> Fit<Vec<Value>> {
        let one = |value: Value| Ok(vec![value]);
        if let Some(value) = self.on_places(o) {
            return value.and_then(one);
        }
        match o.op.as_str() {
            "Identity" | "Cast" | "CastLike" => self.pass(o).and_then(one),
            "Dropout" => self.dropout(o).and_then(one),
            "Conv" => self.conv(o).and_then(one),
            "Gemm" => self.gemm(o).and_then(one),
            "MatMul" => self.matmul(o).and_then(one),
            "BatchNormalization" => self.batch_norm(o).and_then(one),
            "LayerNormalization" => self.layer_norm(o).and_then(one),
            "Relu" => self.activation(o, Activation::Relu).and_then(one),
            "Sigmoid" => self.activation(o, Activation::Sigmoid).and_then(one),
            "Tanh" => self.activation(o, Activation::Tanh).and_then(one),
            "HardSwish" => self.activation(o, Activation::HardSwish).and_then(one),
            "Silu" | "Swish" => self.silu(o).and_then(one),
            "Gelu" => self.gelu(o).and_then(one),
            "HardSigmoid" => self.hard_sigmoid(o).and_then(one),
            "Clip" => self.clip(o).and_then(one),
            "Softmax" => self.softmax(o).and_then(one),
            "MaxPool" => self.max_pool(o).and_then(one),
            "AveragePool" => self.average_pool(o).and_then(one),
            "GlobalAveragePool" => self.global_pool(o, true).and_then(one),
            "GlobalMaxPool" => self.global_pool(o, false).and_then(one),
            "ReduceMean" => self.reduce(o, true).and_then(one),
            "ReduceMax" => self.reduce(o, false).and_then(one),
            "Flatten" => self.flatten(o).and_then(one),
            "Reshape" => self.reshape(o).and_then(one),
            "Transpose" => self.transpose(o).and_then(one),
            "Squeeze" => self.squeeze(o).and_then(one),
            "Unsqueeze" => self.unsqueeze(o).and_then(one),
            "Shape" => self.shape(o).and_then(one),
            "Expand" => self.expand(o).and_then(one),
            "Add" | "Sum" => self.add(o).and_then(one),
            "Sub" => self.sub(o).and_then(one),
            "Mul" => self.mul(o).and_then(one),
            "Div" => self.div(o).and_then(one),
            "Concat" => self.concat(o).and_then(one),
            "Split" => self.split(o),
            "Slice" => self.slice(o).and_then(one),
            "Gather" => self.gather(o).and_then(one),
            "Pad" => self.pad(o).and_then(one),
            "IsNaN" => one(Value::NotANumber),
            "Where" => self.guard(o).and_then(one),
            "Attention" => self.attention_operator(o).and_then(one),
            "Range" => self.image_numbers(o).and_then(one),
            "Resize" | "Round" | "Floor" => self.pixels(o).and_then(one),
            _ => Err("the operator is not covered".into()),
        }
    }

    /// What an operator makes of indices along the batch, where it reads some.
    fn on_places(&mut self, o: &Operator) -> Option<Fit<Value>> {
        let mut found = None;
        for input in o.inputs.iter().flatten() {
            if let Some(Value::Places(places)) = &self.values[*input] {
                found = Some(places.clone());
            }
        }
        let places = found?;
        Some(if o.op == "Gather" { self.gather_places(o, &places) } else { self.placed(o, &places) })
    }

    /// The value of an input.
    pub fn value(&self, o: &Operator, index: usize) -> Fit<&Value> {
        let id = o.input(index).ok_or_else(|| format!("input {index} is missing"))?;
        self.values[id].as_ref().ok_or_else(|| format!("input {index} ({:?}) is an output that is not covered", self.source.names[id]))
    }

    /// An input that is known; `None` where it is left out or computed.
    pub fn constant(&self, o: &Operator, index: usize) -> Option<Constant> {
        match self.values[o.input(index)?].as_ref()? {
            Value::Constant(constant) => Some(constant.clone()),
            Value::PerImage(_) | Value::Active(_) | Value::Scores(_) | Value::Places(_) | Value::NotANumber => None,
        }
    }

    /// The floats of an input that must be known.
    pub fn weights(&self, o: &Operator, index: usize, what: &str) -> Fit<(Vec<usize>, Vec<f32>)> {
        let constant = self.constant(o, index).ok_or_else(|| format!("expected {what} that is stored in the file, got a computed one"))?;
        let data = constant.to_floats().ok_or_else(|| format!("expected {what} of numbers"))?;
        Ok((constant.dims, data))
    }

    /// An input that is computed.
    pub fn view(&self, o: &Operator, index: usize) -> Fit<View> {
        match self.value(o, index)? {
            Value::Active(view) => Ok(self.read(o, index, view)),
            Value::Constant(_) | Value::PerImage(_) => Err(format!("expected a computed input {index}, got a constant")),
            Value::Scores(_) => Err("the scores of an attention, used for something else".into()),
            Value::Places(_) | Value::NotANumber => Err("expected computed values, got indices or truth values".into()),
        }
    }

    /// The view as this reader sees it.
    pub fn read(&self, o: &Operator, index: usize, view: &View) -> View {
        let alone = o.input(index).is_some_and(|id| self.uses[id] <= 1);
        View { exclusive: view.exclusive && alone, ..view.clone() }
    }

    /// Integers from an attribute or, since later opsets, from an input.
    pub fn ints(&self, o: &Operator, attribute: &str, input: usize) -> Fit<Option<Vec<i64>>> {
        if let Some(values) = o.ints(attribute) {
            return Ok(Some(values.to_vec()));
        }
        if o.input(input).is_none() {
            return Ok(None);
        }
        let constant = self.constant(o, input).ok_or_else(|| format!("its {attribute} are computed from the image"))?;
        constant.as_ints().map(Some).ok_or_else(|| format!("its {attribute} depend on the batch size"))
    }

    /// A dimension, which may count from the end.
    pub fn axis(&self, axis: i64, rank: usize) -> Fit<usize> {
        let at = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(at).ok().filter(|&a| a < rank).ok_or_else(|| format!("axis {axis} of {rank} dimensions"))
    }

    /// Adds a node; its value in its own dimensions.
    pub fn add_node(&mut self, name: (String, NameRank), op: Op, inputs: Vec<usize>, weights: Vec<crate::tensor::Tensor>) -> Fit<View> {
        let node = self.drafts.add(name, op, inputs, weights)?;
        Ok(self.drafts.view(node))
    }

    /// The name of a node that has no weights.
    pub fn plain_name(&self, o: &Operator) -> (String, NameRank) {
        (names::of_node(&o.name, &o.op), NameRank::Node)
    }

    /// The name of a node with weights, after the weights where their names say what they were.
    pub fn weighted_name(&mut self, o: &Operator, weights: &[usize]) -> (String, NameRank) {
        let inputs = weights.iter().filter_map(|&i| o.input(i)).map(|id| self.origin(id).to_string());
        let module = inputs.filter_map(|name| names::of_module(&name)).chain(o.scope.clone()).find(|name| !self.taken.contains(name));
        match module {
            Some(name) => {
                self.taken.insert(name.clone());
                (name, NameRank::Module)
            }
            None => self.plain_name(o),
        }
    }

    /// The name of the value that a constant was computed from.
    pub fn origin(&self, mut id: ValueId) -> &str {
        for _ in 0..32 {
            // An Identity gives a shared weight the name that it had in its own module.
            let Some(maker) = self.source.made_by(id).filter(|m| m.op != "Identity") else { break };
            let Some(input) = maker.input(0) else { break };
            id = input;
        }
        &self.source.names[id]
    }

    /// The value's dimensions, where it has some.
    pub fn dims(&self, value: &Value) -> Vec<Dim> {
        match value {
            Value::Constant(c) => c.dims.iter().map(|&d| Dim::Known(d as i64)).collect(),
            Value::PerImage(c) => std::iter::once(Dim::Batch(1)).chain(c.dims.iter().skip(1).map(|&d| Dim::Known(d as i64))).collect(),
            Value::Active(view) => (0..view.rank()).map(|d| view.dim(d)).collect(),
            Value::Scores(scores) => (0..scores.view.rank()).map(|d| scores.view.dim(d)).collect(),
            Value::Places(_) | Value::NotANumber => Vec::new(),
        }
    }

    fn pass(&mut self, o: &Operator) -> Fit<Value> {
        Ok(match self.value(o, 0)? {
            Value::Active(view) => Value::Active(self.read(o, 0, view)),
            other => other.clone(),
        })
    }
}
