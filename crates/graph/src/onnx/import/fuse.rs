//! Functions that exporters take apart, put together again: GELU by erf, SiLU, hard swish, hard sigmoid, layer norm.
//!
//! Patterns are matched backwards from their last operator; that becomes one operator on the pattern's input, and what it no longer reads
//! is left for dead.

use std::collections::BTreeMap;

use super::source::{Operator, Source, ValueId};
use crate::onnx::proto::{AttributeProto, attribute_type};

/// Most factors of a product that is looked at.
const MAX_FACTORS: usize = 6;

pub(super) fn fuse(source: &mut Source) {
    for index in (0..source.operators.len()).rev() {
        let found = {
            let finder = Finder { source };
            let operator = &source.operators[index];
            match operator.op.as_str() {
                _ if !operator.domain.is_empty() => None,
                "Mul" => finder.layer_norm(operator).or_else(|| finder.product(operator)),
                "Div" => finder.layer_norm(operator).or_else(|| finder.product(operator)),
                _ => None,
            }
        };
        if let Some((op, input, attributes)) = found {
            let operator = &mut source.operators[index];
            operator.op = op.to_string();
            operator.inputs = vec![Some(input)];
            operator.attributes = attributes;
        }
    }
}

type Found = (&'static str, ValueId, BTreeMap<String, AttributeProto>);

fn attributes(list: &[(&str, f32)]) -> BTreeMap<String, AttributeProto> {
    let one = |&(name, value): &(&str, f32)| {
        let attribute =
            AttributeProto { name: name.into(), f: Some(value), r#type: Some(attribute_type::FLOAT), ..AttributeProto::default() };
        (name.to_string(), attribute)
    };
    list.iter().map(one).collect()
}

struct Finder<'a> {
    source: &'a Source,
}

impl Finder<'_> {
    fn made_by(&self, value: ValueId, op: &str) -> Option<&Operator> {
        self.source.made_by(value).filter(|o| o.op == op && o.domain.is_empty())
    }

    fn scalar(&self, value: ValueId) -> Option<f64> {
        let mut value = value;
        for _ in 0..4 {
            if let Some(constant) = self.source.constants.get(&value) {
                return constant.scalar().map(f64::from);
            }
            let maker = self.source.made_by(value)?;
            if maker.op != "Identity" && maker.op != "Cast" {
                return None;
            }
            value = maker.input(0)?;
        }
        None
    }

    /// The two operands of a binary operator, one of them a number: `(the other, the number)`.
    fn with_scalar(&self, o: &Operator) -> Option<(ValueId, f64)> {
        let (a, b) = (o.input(0)?, o.input(1)?);
        match (self.scalar(a), self.scalar(b)) {
            (None, Some(v)) => Some((a, v)),
            (Some(v), None) => Some((b, v)),
            _ => None,
        }
    }

    /// The factors of a product and the number that they are multiplied by, through nested products and quotients.
    fn factors(&self, o: &Operator) -> Option<(Vec<ValueId>, f64)> {
        let (mut factors, mut number) = (Vec::new(), 1.0);
        let mut open = vec![(o.input(0)?, false), (o.input(1)?, o.op == "Div")];
        let mut steps = 0;
        while let Some((value, divided)) = open.pop() {
            steps += 1;
            if steps > 4 * MAX_FACTORS || factors.len() > MAX_FACTORS {
                return None;
            }
            if let Some(v) = self.scalar(value) {
                number *= if divided { 1.0 / v } else { v };
                continue;
            }
            let inner = self.source.made_by(value).filter(|m| m.domain.is_empty() && !divided && (m.op == "Mul" || m.op == "Div"));
            match inner {
                Some(m) => open.extend([(m.input(0)?, false), (m.input(1)?, m.op == "Div")]),
                None if divided => return None,
                None => factors.push(value),
            }
        }
        Some((factors, number))
    }

    /// Activations that end in a product.
    fn product(&self, o: &Operator) -> Option<Found> {
        // The operands as they are first: what is multiplied may be a product itself.
        let whole = (o.op == "Mul").then(|| (vec![o.input(0), o.input(1)].into_iter().flatten().collect(), 1.0));
        whole.and_then(|(factors, number)| self.activation(factors, number)).or_else(|| {
            let (factors, number) = self.factors(o)?;
            self.activation(factors, number)
        })
    }

    fn activation(&self, factors: Vec<ValueId>, number: f64) -> Option<Found> {
        let near = |value: f64| (number - value).abs() < 1e-4 * value;
        match *factors.as_slice() {
            [only] => {
                let x = self.clipped_shift(only).filter(|_| near(1.0 / 6.0))?;
                Some(("HardSigmoid", x, attributes(&[("alpha", 1.0 / 6.0), ("beta", 0.5)])))
            }
            [a, b] => [(a, b), (b, a)].into_iter().find_map(|(x, y)| {
                if self.made_by(y, "Sigmoid").is_some_and(|s| s.input(0) == Some(x)) && near(1.0) {
                    return Some(("Silu", x, BTreeMap::new()));
                }
                let hard = self.made_by(y, "HardSigmoid").filter(|s| s.input(0) == Some(x)).is_some_and(|s| {
                    let (alpha, beta) = (s.float("alpha").unwrap_or(0.2), s.float("beta").unwrap_or(0.5));
                    (alpha - 1.0 / 6.0).abs() < 1e-5 && (beta - 0.5).abs() < 1e-6
                });
                if (hard && near(1.0)) || (self.clipped_shift(y) == Some(x) && near(1.0 / 6.0)) {
                    return Some(("HardSwish", x, BTreeMap::new()));
                }
                (self.erf_plus_one(y) == Some(x) && near(0.5)).then(|| ("Gelu", x, BTreeMap::new()))
            }),
            _ => None,
        }
    }

    /// `x` of `clip(x + 3, 0, 6)`.
    fn clipped_shift(&self, value: ValueId) -> Option<ValueId> {
        let clip = self.made_by(value, "Clip")?;
        let bound = |name: &str, input: usize| clip.input(input).map_or_else(|| clip.float(name).map(f64::from), |v| self.scalar(v));
        if bound("min", 1) != Some(0.0) || bound("max", 2) != Some(6.0) {
            return None;
        }
        let (x, three) = self.with_scalar(self.made_by(clip.input(0)?, "Add")?)?;
        (three == 3.0).then_some(x)
    }

    /// `x` of `erf(x / √2) + 1`.
    fn erf_plus_one(&self, value: ValueId) -> Option<ValueId> {
        let (erf, one) = self.with_scalar(self.made_by(value, "Add")?)?;
        if one != 1.0 {
            return None;
        }
        let inside = self.made_by(erf, "Erf")?.input(0)?;
        let (x, factor) = match self.made_by(inside, "Div") {
            Some(o) => (o.input(0)?, 1.0 / self.scalar(o.input(1)?)?),
            None => self.with_scalar(self.made_by(inside, "Mul")?)?,
        };
        ((factor - std::f64::consts::FRAC_1_SQRT_2).abs() < 1e-4).then_some(x)
    }

    /// `(x - mean(x)) / sqrt(mean((x - mean(x))²) + eps)`, also as a product with the reciprocal root.
    fn layer_norm(&self, o: &Operator) -> Option<Found> {
        let (a, b) = (o.input(0)?, o.input(1)?);
        let (centred, root) = match o.op.as_str() {
            "Div" => (a, self.made_by(b, "Sqrt")?),
            _ => [(a, b), (b, a)].into_iter().find_map(|(x, y)| {
                let sqrt = self.made_by(self.made_by(y, "Reciprocal")?.input(0)?, "Sqrt")?;
                Some((x, sqrt))
            })?,
        };
        let (variance, eps) = self.with_scalar(self.made_by(root.input(0)?, "Add")?)?;
        let squared = self.last_mean(variance)?;
        let square = self.source.made_by(squared)?;
        let fits = match square.op.as_str() {
            "Pow" => square.input(0) == Some(centred) && self.scalar(square.input(1)?) == Some(2.0),
            "Mul" => square.input(0) == Some(centred) && square.input(1) == Some(centred),
            _ => false,
        };
        let sub = self.made_by(centred, "Sub").filter(|_| fits)?;
        let x = sub.input(0)?;
        (self.last_mean(sub.input(1)?) == Some(x)).then(|| ("LayerNormalization", x, attributes(&[("epsilon", eps as f32)])))
    }

    /// What the mean over the last dimension is taken of.
    fn last_mean(&self, value: ValueId) -> Option<ValueId> {
        let mean = self.made_by(value, "ReduceMean")?;
        let axes = match mean.ints("axes") {
            Some(axes) => axes.to_vec(),
            None => self.source.constants.get(&mean.input(1)?)?.as_ints()?,
        };
        // The last of however many: exporters write -1, or 2 of three dimensions; the norm itself checks where it is.
        (axes == [-1] && mean.int("keepdims").unwrap_or(1) == 1).then(|| mean.input(0)).flatten()
    }
}
