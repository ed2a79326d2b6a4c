//! Value by value, and softmax.

use kernels::train::{self, apply, clamp, clamp_gradient_in_place, function_gradient, gate_gradient, softmax_gradient};
use kernels::{Buffer, Clamp, Function};

use super::{into, sink_or};
use crate::train::layer::{Back, Keeps, Layer, There};

/// Bounds alone.
#[derive(Debug)]
pub(in crate::train) struct Bounds {
    pub clamp: Clamp,
}

impl Layer for Bounds {
    fn name(&self) -> &'static str {
        "clamp"
    }

    fn keeps(&self) -> Keeps {
        Keeps::OUTPUT
    }

    fn passes(&self, _: usize) -> bool {
        true
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        clamp(there.out, there.inputs[0], self.clamp);
    }

    fn backward(&mut self, back: Back<'_>) {
        clamp_gradient_in_place(back.dy, back.output, self.clamp);
    }
}

/// A smooth activation.
#[derive(Debug)]
pub(in crate::train) struct Activate {
    pub function: Function,
}

impl Layer for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        apply(there.out, there.inputs[0], self.function);
    }

    fn backward(&mut self, back: Back<'_>) {
        let (dy, x) = (back.dy.as_ref(), back.inputs[0]);
        into(back.sinks, 0, |dx| function_gradient(dx, x, dy, self.function));
    }
}

/// Softmax over rows.
#[derive(Debug)]
pub(in crate::train) struct Softmax {
    pub columns: usize,
}

impl Layer for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn keeps(&self) -> Keeps {
        Keeps::OUTPUT
    }

    fn forward(&mut self, there: There<'_>) {
        let out = there.out.f32();
        out.copy_from_slice(there.inputs[0].f32());
        kernels::softmax(out, self.columns);
    }

    fn backward(&mut self, back: Back<'_>) {
        let (dy, y) = (back.dy.f32(), back.output.f32());
        into(back.sinks, 0, |dx| softmax_gradient(dx.f32(), y, dy, self.columns));
    }
}

/// A sum of two.
#[derive(Debug)]
pub(in crate::train) struct AddTwo;

impl Layer for AddTwo {
    fn name(&self) -> &'static str {
        "add"
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn passes(&self, _: usize) -> bool {
        true
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        train::add(there.out, there.inputs[0], there.inputs[1]);
    }

    fn backward(&mut self, _: Back<'_>) {}
}

/// A product of two of one shape.
#[derive(Debug)]
pub(in crate::train) struct Multiply;

impl Layer for Multiply {
    fn name(&self) -> &'static str {
        "multiply"
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        train::multiply(there.out, there.inputs[0], there.inputs[1]);
    }

    fn backward(&mut self, back: Back<'_>) {
        let (dy, &[a, b]) = (back.dy.as_ref(), back.inputs) else { return };
        into(back.sinks, 0, |da| train::multiply(da, dy, b));
        into(back.sinks, 1, |db| train::multiply(db, dy, a));
    }
}

/// Maps times one factor a channel.
#[derive(Debug)]
pub(in crate::train) struct Gate {
    pub pixels: usize,
    pub channels: usize,
}

impl Layer for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        train::gate(there.out, there.inputs[0], there.inputs[1], self.pixels, self.channels);
    }

    fn backward(&mut self, back: Back<'_>) {
        let &[x, gates] = back.inputs else { return };
        let Self { pixels, channels } = *self;
        let (mut aside, mut gates_aside) = (Buffer::new(), Buffer::new());
        let (by_map, by_gates) = back.sinks.split_at_mut(1);
        let dx = sink_or(by_map, 0, &mut aside, x);
        let dgates = sink_or(by_gates, 0, &mut gates_aside, gates);
        gate_gradient(dx, dgates, x, gates, back.dy.as_ref(), pixels, channels);
    }
}

/// Dropout and stochastic depth.
#[derive(Debug)]
pub(in crate::train) struct Noise {
    pub node: usize,
    pub p: f32,
    /// Random values an image.
    pub values: usize,
    /// Values of the map that share one.
    pub each: usize,
}

impl Layer for Noise {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn state(&self) -> usize {
        self.values
    }

    fn passes(&self, _: usize) -> bool {
        true
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        let mask = there.state.numbers_mut::<f32>(self.values * there.batch);
        (there.noise)(self.node, self.p, mask);
        train::mask(there.out, there.inputs[0], mask, self.each);
    }

    fn backward(&mut self, back: Back<'_>) {
        let mask = back.state.numbers::<f32>(self.values * back.batch);
        train::mask_in_place(back.dy, mask, self.each);
    }
}
