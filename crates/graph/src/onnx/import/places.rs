//! Index arithmetic along the batch. torch's dynamo exporter writes a change of strides as `Gather` of the flattened value at
//! `n · size + offset`, for each image `n`; where these are all values in their order, nothing is gathered.

use super::constant::{Constant, Dim};
use super::draft::Fit;
use super::fold;
use super::source::Operator;
use super::translate::{Translator, Value};

/// Integers that are `n · step` plus the same for each image `n`.
#[derive(Debug, Clone)]
pub(super) struct Places {
    step: i64,
    /// The first dimension, of size 1, stands for the batch.
    rest: Constant,
}

impl Translator<'_> {
    /// The numbers of the images.
    pub fn image_numbers(&self, o: &Operator) -> Fit<Value> {
        let one = |i: usize| self.constant(o, i).and_then(|c| c.as_dims().and_then(|d| d.first().copied()));
        match (one(0), one(1), one(2)) {
            (Some(Dim::Known(0)), Some(Dim::Batch(1)), Some(Dim::Known(1))) => {
                Ok(Value::Places(Places { step: 1, rest: Constant::vector([0]) }))
            }
            _ => Err("a range that depends on the batch size".into()),
        }
    }

    /// An operator on places and a constant.
    pub fn placed(&self, o: &Operator, places: &Places) -> Fit<Value> {
        let constants: Vec<Constant> = (0..o.inputs.len()).filter_map(|i| self.constant(o, i)).collect();
        let strange = || format!("{} of the images' numbers", o.op);
        let [constant] = constants.as_slice() else { return Err(strange()) };
        let folded = |step: i64, inputs: [&Constant; 2]| -> Fit<Value> {
            let rest = fold::fold(o, &inputs.map(Some))?.and_then(|mut all| all.pop()).filter(|rest| rest.dims.first() == Some(&1));
            Ok(Value::Places(Places { step, rest: rest.ok_or_else(strange)? }))
        };
        match o.op.as_str() {
            "Mul" => {
                let factor = constant.as_ints().filter(|v| v.len() == 1).ok_or_else(strange)?[0];
                folded(places.step.checked_mul(factor).ok_or_else(strange)?, [&places.rest, constant])
            }
            "Add" | "Unsqueeze" => folded(places.step, [&places.rest, constant]),
            _ => Err(strange()),
        }
    }

    /// The flattened value at all its places, in order.
    pub fn gather_places(&mut self, o: &Operator, places: &Places) -> Fit<Value> {
        let x = self.view(o, 0)?;
        let size = x.size(0);
        let in_order = places.rest.as_ints().is_some_and(|v| v.iter().copied().eq(0..size as i64)) && places.step == size as i64;
        if x.rank() != 1 || o.int("axis").unwrap_or(0) != 0 || !in_order {
            return Err("values gathered across images, or in another order".into());
        }
        let mut dims = vec![Dim::Batch(1)];
        dims.extend(places.rest.dims.iter().skip(1).map(|&d| Dim::Known(d as i64)));
        x.reshape(&dims, self.batch).map(Value::Active).ok_or_else(|| format!("{} as {dims:?}", x.describe()))
    }
}
