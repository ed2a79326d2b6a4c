//! Norms.

use kernels::train::{BatchNorm, layer_norm, layer_norm_gradient, moments};
use kernels::{Buffer, Clamp, Values};

use super::{sink_or, two};
use crate::train::layer::{Back, Keeps, Layer, There};

/// `clamp(batch norm(x) + residual)` over rows of channels.
#[derive(Debug)]
pub(in crate::train) struct Norm {
    eps: f32,
    by_batch: bool,
    clamp: Option<Clamp>,
    residual: bool,
    mean: Vec<f32>,
    variance: Vec<f32>,
    inverse: Vec<f32>,
    /// Where gradients by gamma and beta go that nobody wants.
    unwanted: [Vec<f32>; 2],
    /// Rows that the statistics were taken over.
    count: usize,
}

impl Norm {
    pub fn new(eps: f32, by_batch: bool, clamp: Option<Clamp>, residual: bool) -> Self {
        let none = Vec::new;
        Self { eps, by_batch, clamp, residual, mean: none(), variance: none(), inverse: none(), unwanted: [none(), none()], count: 0 }
    }

    fn look(&mut self, x: Values<'_>, [running_mean, running_variance]: [&[f32]; 2]) {
        let c = running_mean.len();
        self.mean.resize(c, 0.0);
        self.variance.resize(c, 0.0);
        if self.by_batch {
            moments(&mut self.mean, &mut self.variance, x);
        } else {
            self.mean.copy_from_slice(running_mean);
            self.variance.copy_from_slice(running_variance);
        }
        self.inverse.clear();
        self.inverse.extend(self.variance.iter().map(|v| 1.0 / (v + self.eps).sqrt()));
        self.count = x.len() / c.max(1);
    }

    fn kernel<'a>(&'a self, gamma: &'a [f32], beta: &'a [f32]) -> BatchNorm<'a> {
        BatchNorm { mean: &self.mean, inverse: &self.inverse, gamma, beta, clamp: self.clamp, by_batch: self.by_batch }
    }
}

impl Layer for Norm {
    fn name(&self) -> &'static str {
        "batch norm"
    }

    fn keeps(&self) -> Keeps {
        Keeps { inputs: true, output: self.residual }
    }

    fn passes(&self, input: usize) -> bool {
        // Alone it works in place; with a residual, that takes the place of the gradient by the output.
        input == usize::from(self.residual)
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        let &[gamma, beta, mean, variance] = there.parameters else { return };
        if !there.again {
            self.look(there.inputs[0], [mean, variance]);
        }
        let residual = self.residual.then(|| there.inputs[1]);
        self.kernel(gamma, beta).forward(there.out, there.inputs[0], residual);
    }

    fn backward(&mut self, back: Back<'_>) {
        let &[gamma, beta, ..] = back.parameters else { return };
        let mut unwanted = std::mem::take(&mut self.unwanted);
        let (dgamma, dbeta) = two(back.gradients, &mut unwanted, gamma.len());
        let (kernel, x) = (self.kernel(gamma, beta), back.inputs[0]);
        if self.residual {
            let mut aside = Buffer::new();
            let dx = sink_or(back.sinks, 0, &mut aside, x);
            kernel.backward_added(dx, back.dy, dgamma, dbeta, x, back.output);
        } else {
            kernel.backward_in_place(back.dy, dgamma, dbeta, x);
        }
        self.unwanted = unwanted;
    }

    fn statistics(&self) -> Option<(&[f32], &[f32], usize)> {
        self.by_batch.then_some((&self.mean, &self.variance, self.count))
    }
}

/// Layer norm over rows.
#[derive(Debug)]
pub(in crate::train) struct LayerNorm {
    pub eps: f32,
}

impl Layer for LayerNorm {
    fn name(&self) -> &'static str {
        "layer norm"
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        layer_norm(there.out, there.inputs[0], there.parameters[0], there.parameters[1], self.eps);
    }

    fn backward(&mut self, back: Back<'_>) {
        let (weight, x) = (back.parameters[0], back.inputs[0]);
        let (mut unwanted, mut aside) = ([Vec::new(), Vec::new()], Buffer::new());
        let (dweight, dbias) = two(back.gradients, &mut unwanted, weight.len());
        let dx = sink_or(back.sinks, 0, &mut aside, x);
        layer_norm_gradient(dx, dweight, dbias, x, back.dy.as_ref(), weight, self.eps);
    }
}
