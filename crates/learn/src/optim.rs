//! Update rules on host weights: SGD with momentum, AdamW, clipping and a moving average.
//!
//! One fused pass over each parameter, on the threads that kernels use here; every value depends on its own index alone, so that results do
//! not depend on the number of threads.

use std::collections::BTreeMap;

use graph::{Role, Weights};
use kernels::train::{AdamW, Sgd};

use crate::fit::{FitOptions, OptimizerKind};

/// Values by parameter name: gradients, and the optimiser's memory.
pub type Slots = BTreeMap<String, Vec<f32>>;

/// The sum of the gradients of some batches.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    /// By parameter name, flat. Where no batch has been added, what is there is memory for the next, not a gradient.
    pub values: Slots,
    /// Batches added.
    pub batches: usize,
}

impl Gradients {
    /// Forgets the batches and keeps the memory.
    pub fn clear(&mut self) {
        self.batches = 0;
    }
}

/// What an update does to one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// Factor of the learning rate.
    pub lr: f64,
    /// Whether weight decay applies.
    pub decay: bool,
    /// Whether the L1 penalty applies.
    pub l1: bool,
}

impl Group {
    /// The group of a parameter of this role in a stage with the multiplier `lr`.
    pub fn of(role: Role, lr: f64, options: &FitOptions) -> Self {
        let kernel = role == Role::Weight;
        Self { lr, decay: kernel || options.decay_norms_and_biases, l1: kernel }
    }
}

/// An optimiser with its memory.
#[derive(Debug, Clone)]
pub struct Optimizer {
    kind: OptimizerKind,
    momentum: f32,
    nesterov: bool,
    betas: [f64; 2],
    eps: f32,
    weight_decay: f64,
    l1: f32,
    /// Updates made.
    pub updates: u64,
    /// First moments (momentum buffers for SGD).
    pub first: Slots,
    /// Second moments (AdamW).
    pub second: Slots,
}

impl Optimizer {
    /// A fresh optimiser.
    pub fn new(options: &FitOptions) -> Self {
        Self {
            kind: options.optimizer,
            momentum: options.momentum as f32,
            nesterov: options.nesterov,
            betas: options.betas,
            eps: options.eps as f32,
            weight_decay: options.weight_decay,
            l1: options.l1 as f32,
            updates: 0,
            first: Slots::new(),
            second: Slots::new(),
        }
    }

    /// One update of all weights that have a gradient, at learning rate `lr`; `group` says how each is treated.
    pub fn update(&mut self, weights: &mut Weights, gradients: &Slots, lr: f64, group: impl Fn(&str) -> Group) {
        self.updates += 1;
        for (name, gradient) in gradients {
            let Some(weight) = weights.get_mut(name) else { continue };
            match self.kind {
                OptimizerKind::Sgd => self.sgd(name, &mut weight.data, gradient, lr, group(name)),
                OptimizerKind::Adamw => self.adamw(name, &mut weight.data, gradient, lr, group(name)),
            }
        }
    }

    /// As torch.optim.SGD.
    fn sgd(&mut self, name: &str, weight: &mut [f32], gradient: &[f32], lr: f64, group: Group) {
        let first = !self.first.contains_key(name);
        let buffer = self.first.entry(name.to_string()).or_insert_with(|| vec![0.0; weight.len()]);
        let rule = Sgd {
            lr: (lr * group.lr) as f32,
            momentum: self.momentum,
            nesterov: self.nesterov,
            decay: if group.decay { self.weight_decay as f32 } else { 0.0 },
            l1: if group.l1 { self.l1 } else { 0.0 },
            first,
        };
        rule.step(weight, gradient, buffer);
    }

    /// As torch.optim.AdamW.
    fn adamw(&mut self, name: &str, weight: &mut [f32], gradient: &[f32], lr: f64, group: Group) {
        let first = self.first.entry(name.to_string()).or_insert_with(|| vec![0.0; weight.len()]);
        let second = self.second.entry(name.to_string()).or_insert_with(|| vec![0.0; weight.len()]);
        let rule = AdamW {
            lr: lr * group.lr,
            betas: self.betas,
            eps: self.eps,
            decay: if group.decay { self.weight_decay } else { 0.0 },
            l1: if group.l1 { self.l1 } else { 0.0 },
            update: self.updates,
        };
        rule.step(weight, gradient, first, second);
    }
}

/// Scales the gradients so that their global Euclidean norm is at most `limit`; returns the norm before.
pub fn clip(gradients: &mut Slots, limit: f64) -> f64 {
    let sum: f64 =
        gradients.values().flat_map(|g| g.chunks(4096)).map(|c| c.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()).sum();
    let norm = sum.sqrt();
    if norm > limit {
        let factor = (limit / (norm + 1e-6)) as f32;
        gradients.values_mut().for_each(|g| g.iter_mut().for_each(|x| *x *= factor));
    }
    norm
}

/// Adds `more` to `sum` value by value; an empty `sum` becomes `more`.
pub fn accumulate(sum: &mut Slots, more: Slots) {
    if sum.is_empty() {
        *sum = more;
        return;
    }
    for (name, more) in more {
        match sum.get_mut(&name) {
            Some(old) => kernels::train::add_into(old, &more),
            None => drop(sum.insert(name, more)),
        }
    }
}

/// Multiplies every value.
pub fn scale(gradients: &mut Slots, factor: f32) {
    gradients.values_mut().for_each(|g| g.iter_mut().for_each(|x| *x *= factor));
}

/// Moves an average of the weights towards `weights` after update `updates` (from 1): the decay warms up as
/// `min(decay, (1 + updates) / (10 + updates))`.
pub fn average(average: &mut Weights, weights: &Weights, decay: f64, updates: u64) {
    let t = updates as f64;
    let share = (1.0 - decay.min((1.0 + t) / (10.0 + t))) as f32;
    for (name, old) in average.iter_mut() {
        if let Some(new) = weights.get(name) {
            kernels::train::average(&mut old.data, &new.data, share);
        }
    }
}
