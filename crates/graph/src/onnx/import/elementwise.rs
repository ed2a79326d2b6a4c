//! Activations and arithmetic.

use super::constant::Constant;
use super::draft::Fit;
use super::source::Operator;
use super::translate::{Translator, Value};
use super::view::View;
use crate::op::{Activation, Op, Padding};
use crate::tensor::Tensor;

/// A constant operand, as far as it is one number or one for each channel.
enum Operand {
    Scalar(f64),
    /// One for each channel or feature.
    Channels,
    /// Anything else.
    Table,
}

impl Translator<'_> {
    pub fn activation(&mut self, o: &Operator, kind: Activation) -> Fit<Value> {
        let x = self.view(o, 0)?;
        self.activate(o, &x, kind)
    }

    fn activate(&mut self, o: &Operator, x: &View, kind: Activation) -> Fit<Value> {
        let x = self.drafts.settle(x)?;
        let name = self.plain_name(o);
        let node = self.drafts.add(name, Op::Activation(kind), vec![x.node], Vec::new())?;
        Ok(Value::Active(x.over(node)))
    }

    pub fn silu(&mut self, o: &Operator) -> Fit<Value> {
        match o.float("alpha").unwrap_or(1.0) {
            1.0 => self.activation(o, Activation::Silu),
            alpha => Err(format!("alpha {alpha}; expected 1")),
        }
    }

    pub fn gelu(&mut self, o: &Operator) -> Fit<Value> {
        match o.string("approximate").unwrap_or("none") {
            "none" => self.activation(o, Activation::Gelu),
            other => Err(format!("the approximation {other:?}; expected the exact function")),
        }
    }

    pub fn hard_sigmoid(&mut self, o: &Operator) -> Fit<Value> {
        let (alpha, beta) = (o.float("alpha").unwrap_or(0.2), o.float("beta").unwrap_or(0.5));
        if (beta - 0.5).abs() > 1e-6 || alpha <= 0.0 {
            return Err(format!("alpha {alpha} and beta {beta}; expected beta 0.5"));
        }
        // relu6(x + 3) / 6 has the slope 1/6: another slope is a factor on x.
        let x = self.view(o, 0)?;
        let factor = f64::from(alpha) * 6.0;
        let scale = if (factor - 1.0).abs() < 1e-5 { x.scale } else { x.scale * factor };
        self.activate(o, &View { scale, ..x }, Activation::HardSigmoid)
    }

    pub fn clip(&mut self, o: &Operator) -> Fit<Value> {
        let bound = |name: &str, input: usize, default: f32| -> Fit<f32> {
            if o.input(input).is_none() {
                return Ok(o.float(name).unwrap_or(default));
            }
            self.constant(o, input).and_then(|c| c.scalar()).ok_or_else(|| format!("its {name} is computed"))
        };
        let (low, high) = (bound("min", 1, f32::MIN)?, bound("max", 2, f32::MAX)?);
        let x = self.view(o, 0)?;
        let unbounded = |v: f32| v.abs() >= f32::MAX;
        if x.node == 0 && low <= 0.0 && high >= 255.0 {
            return Ok(Value::Active(x));
        }
        match (low, high) {
            (0.0, 6.0) => self.activate(o, &x, Activation::Relu6),
            (0.0, high) if unbounded(high) => self.activate(o, &x, Activation::Relu),
            (low, high) if unbounded(low) && unbounded(high) => Ok(Value::Active(x)),
            (low, high) => Err(format!("bounds {low} and {high}; expected 0 and 6, or 0 and none")),
        }
    }

    pub fn softmax(&mut self, o: &Operator) -> Fit<Value> {
        if let Value::Scores(_) = self.value(o, 0)? {
            return self.attention_softmax(o);
        }
        let x = self.view(o, 0)?;
        let default = if self.source.opset < 13 { 1 } else { -1 };
        if self.axis(o.int("axis").unwrap_or(default), x.rank())? + 1 != x.rank() {
            return Err(format!("over another dimension than the last of {}", x.describe()));
        }
        let x = self.drafts.as_rows(&x)?;
        let name = self.plain_name(o);
        let node = self.drafts.add(name, Op::Softmax, vec![x.node], Vec::new())?;
        Ok(Value::Active(x.over(node)))
    }

    pub fn dropout(&mut self, o: &Operator) -> Fit<Value> {
        if !matches!(self.value(o, 0)?, Value::Active(_)) {
            return Ok(self.value(o, 0)?.clone());
        }
        let p = match o.input(1) {
            Some(_) => self.constant(o, 1).and_then(|c| c.scalar()).unwrap_or(0.5),
            None => o.float("ratio").unwrap_or(0.5),
        };
        let x = self.view(o, 0)?;
        if !(0.0..1.0).contains(&p) || p == 0.0 {
            return Ok(Value::Active(x));
        }
        let x = self.drafts.settle(&x)?;
        let name = self.plain_name(o);
        let node = self.drafts.add(name, Op::Dropout { p }, vec![x.node], Vec::new())?;
        Ok(Value::Active(x.over(node)))
    }

    /// What a constant is to a view that it is broadcast with.
    fn operand(&self, x: &View, constant: &Constant) -> Fit<(Operand, Vec<f64>)> {
        let values: Vec<f64> = constant.to_floats().ok_or("arithmetic with the batch size")?.into_iter().map(f64::from).collect();
        if let Some((first, rest)) = values.split_first()
            && rest.iter().all(|v| v == first)
            && (constant.len() == 1 || constant.dims.len() <= x.rank())
        {
            return Ok((Operand::Scalar(*first), values));
        }
        let missing = x.rank().checked_sub(constant.dims.len()).ok_or("a constant of more dimensions than the value")?;
        let long: Vec<usize> = (0..constant.dims.len()).filter(|&d| constant.dims[d] != 1).collect();
        let rank = self.drafts.shape(x.node).len();
        let features = if rank == 3 { 0 } else { rank - 1 };
        match long.as_slice() {
            &[d] if x.is_axis(d + missing, features) && x.size(d + missing) == constant.dims[d] => Ok((Operand::Channels, values)),
            _ => Ok((Operand::Table, values)),
        }
    }

    /// The computed and the constant operand, in either order; whether they are swapped.
    fn with_constant(&self, o: &Operator) -> Option<(usize, Constant)> {
        match (self.constant(o, 0), self.constant(o, 1)) {
            (None, Some(c)) => Some((0, c)),
            (Some(c), None) => Some((1, c)),
            _ => None,
        }
    }

    pub fn add(&mut self, o: &Operator) -> Fit<Value> {
        if o.inputs.len() != 2 {
            return Err(format!("a sum of {}; expected 2", o.inputs.len()));
        }
        if let Some((at, constant)) = self.with_constant(o) {
            if let Value::Scores(scores) = self.value(o, at)? {
                let zero = constant.to_floats().is_some_and(|v| v.iter().all(|&v| v == 0.0));
                return match zero {
                    true => Ok(Value::Scores(scores.clone())),
                    false => Err("an attention with a bias or mask".into()),
                };
            }
            let x = self.view(o, at)?;
            return self.shifted(o, at, &x, &constant, 1.0);
        }
        let (a, b) = (self.view(o, 0)?, self.view(o, 1)?);
        let (a, b) = self.drafts.alike(&a, &b)?;
        let name = self.plain_name(o);
        let node = self.drafts.add(name, Op::Add, vec![a.node, b.node], Vec::new())?;
        Ok(Value::Active(a.over(node)))
    }

    pub fn sub(&mut self, o: &Operator) -> Fit<Value> {
        match self.with_constant(o) {
            Some((0, constant)) => {
                let x = self.view(o, 0)?;
                self.shifted(o, 0, &x, &constant, -1.0)
            }
            _ => Err("a difference; expected a constant to be taken away".into()),
        }
    }

    /// The view plus `sign` times a constant.
    fn shifted(&mut self, o: &Operator, at: usize, x: &View, constant: &Constant, sign: f64) -> Fit<Value> {
        match self.operand(x, constant)? {
            (Operand::Scalar(0.0), _) => Ok(Value::Active(x.clone())),
            (Operand::Scalar(v), _) => {
                let view = self.drafts.affine(&View { scale: 1.0, ..x.clone() }, &[x.scale], &[sign * v])?;
                Ok(Value::Active(view))
            }
            (Operand::Channels, v) => {
                let rename = self.weighted_name(o, &[1 - at]);
                let shift: Vec<f64> = v.iter().map(|v| v * sign).collect();
                let view = self.drafts.affine(&View { scale: 1.0, ..x.clone() }, &[x.scale], &shift)?;
                self.rename(view.node, rename);
                Ok(Value::Active(view))
            }
            (Operand::Table, values) if self.is_width(x, constant) && self.drafts.set_bias_of_rows(x, &values, sign) => {
                let rename = self.weighted_name(o, &[1 - at]);
                self.rename(x.node, rename);
                Ok(Value::Active(x.clone()))
            }
            (Operand::Table, values) if sign == 1.0 => self.position(o, at, x, constant, &values),
            (Operand::Table, _) => Err(format!("a table {:?} taken away from {}", constant.dims, x.describe())),
        }
    }

    /// Whether a constant has one value for each column of a map.
    fn is_width(&self, x: &View, constant: &Constant) -> bool {
        let width = self.drafts.shape(x.node).get(2).copied();
        let is_last = x.rank() == 4 && x.is_axis(3, 2);
        is_last && width.is_some_and(|w| constant.len() == w && constant.dims.last() == Some(&w))
    }

    /// A better name for a layer, from its bias.
    fn rename(&mut self, node: usize, (name, rank): (String, super::draft::NameRank)) {
        let draft = &mut self.drafts.nodes[node];
        if rank > draft.rank {
            (draft.name, draft.rank) = (name, rank);
        }
    }

    /// A learned table added to tokens.
    fn position(&mut self, o: &Operator, at: usize, x: &View, constant: &Constant, values: &[f64]) -> Fit<Value> {
        let x = self.drafts.as_rows(x)?;
        let shape = self.drafts.shape(x.node).to_vec();
        let fits = constant.dims.iter().skip_while(|&&d| d == 1).copied().eq(shape.iter().copied().skip_while(|&d| d == 1));
        if shape.len() != 2 || !fits {
            return Err(format!("a table {:?} added to {}; expected tokens and one row for each", constant.dims, x.describe()));
        }
        let table = Tensor { shape: [&[1], shape.as_slice()].concat(), data: values.iter().map(|&v| v as f32).collect() };
        let name = self.parameter_name(o, 1 - at);
        let node = self.drafts.add(name, Op::AddPosition, vec![x.node], vec![table])?;
        Ok(Value::Active(x.over(node)))
    }

    pub fn mul(&mut self, o: &Operator) -> Fit<Value> {
        if let Some((at, constant)) = self.with_constant(o) {
            return self.scaled(o, at, &constant, |v| v);
        }
        let (a, b) = (self.view(o, 0)?, self.view(o, 1)?);
        let (x, gate) = if self.drafts.shape(a.node).len() < self.drafts.shape(b.node).len() { (b, a) } else { (a, b) };
        let name = self.plain_name(o);
        if self.drafts.shape(x.node).len() == 3 && self.drafts.shape(gate.node).len() == 1 {
            let (x, gate) = (self.drafts.settle(&x)?, self.drafts.settle(&gate)?);
            let dim = (1..x.rank()).find(|&d| x.is_axis(d, 0));
            let fits = gate.rank() == x.rank()
                && dim.is_some_and(|d| gate.is_axis(d, 0))
                && self.drafts.shape(x.node)[0] == self.drafts.shape(gate.node)[0];
            if fits {
                let node = self.drafts.add(name, Op::Mul, vec![x.node, gate.node], Vec::new())?;
                return Ok(Value::Active(x.over(node)));
            }
        }
        let (x, y) = self.drafts.alike(&x, &gate)?;
        let node = self.drafts.add(name, Op::Mul, vec![x.node, y.node], Vec::new())?;
        Ok(Value::Active(x.over(node)))
    }

    pub fn div(&mut self, o: &Operator) -> Fit<Value> {
        match self.with_constant(o) {
            Some((0, constant)) => self.scaled(o, 0, &constant, |v| 1.0 / v),
            _ => Err("a quotient; expected a constant divisor".into()),
        }
    }

    /// Input `at` times `f` of a constant.
    fn scaled(&mut self, o: &Operator, at: usize, constant: &Constant, f: fn(f64) -> f64) -> Fit<Value> {
        if let Value::Scores(scores) = self.value(o, at)? {
            let factor = constant.scalar().ok_or("scores of an attention times a table")?;
            let scores = super::attention::Scores { scale: scores.scale * f(f64::from(factor)), ..scores.clone() };
            return Ok(Value::Scores(scores));
        }
        let x = self.view(o, at)?;
        match self.operand(&x, constant)? {
            (Operand::Scalar(v), _) if f(v).is_finite() => Ok(Value::Active(View { scale: x.scale * f(v), ..x })),
            (Operand::Channels, v) => {
                let scale: Vec<f64> = v.iter().map(|&v| x.scale * f(v)).collect();
                let view = self.drafts.affine(&View { scale: 1.0, ..x }, &scale, &[0.0])?;
                Ok(Value::Active(view))
            }
            _ => Err(format!("{} times a table {:?}; expected a number, or one for each channel", x.describe(), constant.dims)),
        }
    }

    /// `Where(IsNaN(x), 0, x)` is `x`: no score is one.
    pub fn guard(&mut self, o: &Operator) -> Fit<Value> {
        match (self.value(o, 0)?, self.value(o, 1)?, self.value(o, 2)?) {
            (Value::NotANumber, Value::Constant(_), value) => Ok(value.clone()),
            _ => Err("a choice between values; only the guard against NaN is covered".into()),
        }
    }

    /// Resizing and rounding of the input itself: preprocessing, which is done before.
    pub fn pixels(&mut self, o: &Operator) -> Fit<Value> {
        let x = self.view(o, 0)?;
        if x.node != 0 || x.scale != 1.0 || x.pad != Padding::default() {
            return Err("it is covered only as preprocessing of the input".into());
        }
        if o.op == "Resize" {
            self.notes.push(format!("the resizing at the input (node {:?}) is left to the preprocessing", o.name));
        }
        Ok(Value::Active(x))
    }
}
