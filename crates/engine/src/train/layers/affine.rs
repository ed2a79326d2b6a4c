//! Convolutions and linear layers, with the addition and the bounds behind them.

use kernels::train::{Convolution, clamp_gradient_in_place, column_sums};
use kernels::{Clamp, ConvShape, Epilogue};

use crate::train::layer::{Back, Keeps, Layer, There};

/// What the way back reads: the input for the gradient by the weight, the output to see what the bounds cut off.
fn keeps(trained: bool, clamp: Option<Clamp>) -> Keeps {
    Keeps { inputs: trained, output: clamp.is_some() }
}

fn epilogue<'a>(there: &There<'a>, bias: bool, residual: bool, clamp: Option<Clamp>) -> Epilogue<'a> {
    Epilogue { bias: bias.then(|| there.parameters[1]), residual: residual.then(|| there.inputs[1].f32()), clamp }
}

/// `clamp(conv(x) + bias + residual)`.
#[derive(Debug)]
pub(in crate::train) struct Conv {
    /// Of a batch of 0.
    pub shape: ConvShape,
    pub outputs: usize,
    pub groups: usize,
    pub bias: bool,
    pub clamp: Option<Clamp>,
    pub residual: bool,
    pub trained: bool,
}

impl Conv {
    fn sized(&self, batch: usize) -> Convolution {
        Convolution::new(ConvShape { batch, ..self.shape }, self.outputs, self.groups)
    }
}

impl Layer for Conv {
    fn name(&self) -> &'static str {
        match self.groups {
            1 if self.shape.window.kernel == [1, 1] => "pointwise",
            1 => "conv",
            _ => "depthwise",
        }
    }

    fn keeps(&self) -> Keeps {
        keeps(self.trained, self.clamp)
    }

    fn passes(&self, input: usize) -> bool {
        input == 1
    }

    fn adds(&self) -> bool {
        true
    }

    fn takes_bf16(&self) -> bool {
        // The products add residuals of f32 alone.
        !self.residual
    }

    fn forward(&mut self, there: There<'_>) {
        let epilogue = epilogue(&there, self.bias, self.residual, self.clamp);
        self.sized(there.batch).forward(there.out, there.inputs[0], there.parameters[0], &epilogue);
    }

    fn backward(&mut self, back: Back<'_>) {
        let (conv, mut dy) = (self.sized(back.batch), back.dy);
        if let Some(clamp) = self.clamp {
            clamp_gradient_in_place(dy.reborrow(), back.output, clamp);
        }
        if self.trained {
            conv.weight_gradient(back.gradients[0], dy.as_ref(), back.inputs[0]);
            if self.bias {
                column_sums(back.gradients[1], dy.as_ref());
            }
        }
        if let Some(sink) = &mut back.sinks[0] {
            conv.input_gradient(sink.values.reborrow(), dy.as_ref(), back.parameters[0], sink.add);
        }
    }
}

/// `clamp(x Wᵀ + bias + residual)` over rows.
#[derive(Debug)]
pub(in crate::train) struct Linear {
    /// Values of a row read and written.
    pub sizes: [usize; 2],
    pub bias: bool,
    pub clamp: Option<Clamp>,
    pub residual: bool,
    pub trained: bool,
}

impl Linear {
    fn sized(&self, rows: usize) -> kernels::train::Linear {
        kernels::train::Linear { rows, inputs: self.sizes[0], outputs: self.sizes[1] }
    }
}

impl Layer for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn keeps(&self) -> Keeps {
        keeps(self.trained, self.clamp)
    }

    fn passes(&self, input: usize) -> bool {
        input == 1
    }

    fn adds(&self) -> bool {
        true
    }

    fn takes_bf16(&self) -> bool {
        // The products add residuals of f32 alone.
        !self.residual
    }

    fn forward(&mut self, there: There<'_>) {
        let epilogue = epilogue(&there, self.bias, self.residual, self.clamp);
        let linear = self.sized(there.inputs[0].len() / self.sizes[0].max(1));
        linear.forward(there.out, there.inputs[0], there.parameters[0], &epilogue);
    }

    fn backward(&mut self, back: Back<'_>) {
        let (linear, mut dy) = (self.sized(back.dy.len() / self.sizes[1].max(1)), back.dy);
        if let Some(clamp) = self.clamp {
            clamp_gradient_in_place(dy.reborrow(), back.output, clamp);
        }
        if self.trained {
            linear.weight_gradient(back.gradients[0], dy.as_ref(), back.inputs[0]);
            if self.bias {
                column_sums(back.gradients[1], dy.as_ref());
            }
        }
        if let Some(sink) = &mut back.sinks[0] {
            linear.input_gradient(sink.values.reborrow(), dy.as_ref(), back.parameters[0], sink.add);
        }
    }
}
