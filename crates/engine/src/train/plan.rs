//! The plan: steps, script and memory, and how they run.

use std::collections::BTreeMap;

use graph::{Graph, NodeId, RunError, Weights};
use kernels::Buffer;

use super::Scope;
use super::compile::{Step, compile};
use super::layer::{Back, Sink, There};
use super::memory;
use super::script::{self, Action, Wanted};

/// Gradients by parameter name, flat, in the parameter's own order.
pub type Gradients = BTreeMap<String, Vec<f32>>;

/// Fills the mask of a node that drops values with probability `p`: zeros, and `1 / (1 - p)` elsewhere. Called as
/// `noise(node, p, mask)`, once a pass (and again, to be filled alike, where activations are computed twice).
pub type Noise<'a> = &'a dyn Fn(usize, f32, &mut [f32]);

/// What a batch norm saw of a batch.
#[derive(Debug, Clone, Copy)]
pub struct NormStatistics<'a> {
    /// The norm's position in the graph.
    pub node: usize,
    /// One mean a channel.
    pub mean: &'a [f32],
    /// One biased variance a channel.
    pub variance: &'a [f32],
    /// Values that each was taken over.
    pub count: usize,
}

/// A graph compiled for passes forward and back; see the [module](super).
#[derive(Debug)]
pub struct TrainPlan {
    input: Vec<usize>,
    steps: Vec<Step>,
    actions: Vec<Action>,
    /// Words for one image of each slot.
    sizes: Vec<usize>,
    slots: Vec<Buffer>,
    /// Slot and values for one image of each output.
    outputs: Vec<(usize, usize)>,
    /// Slot of the gradient by the input.
    input_gradient: Option<usize>,
    /// Where the way back begins in `actions`.
    turn: usize,
    /// The images of the pass under way, for a second look at them.
    image: Vec<f32>,
    batch: usize,
    aside: Vec<f32>,
}

impl TrainPlan {
    /// Compiles `graph` for the values of `outputs`; the way back starts at the last of them. Passes run on the installed
    /// [`kernels::Threads`], else on rayon's current pool; results are the same, bit for bit, for any number of threads.
    ///
    /// # Errors
    /// A graph that [`Graph::check`] refuses, no outputs or one that does not exist.
    pub fn new(graph: &Graph, outputs: &[NodeId], scope: &Scope) -> Result<Self, RunError> {
        graph.check().map_err(|e| RunError::Interpreter(e.to_string()))?;
        let nodes = graph.nodes.len();
        if let Some(id) = outputs.iter().find(|id| id.0 >= nodes) {
            return Err(RunError::NoSuchNode { node: id.0, nodes });
        }
        let Some(last) = outputs.last() else { return Err(RunError::Interpreter("expected at least one output, got none".into())) };
        let (steps, root) = compile(graph, outputs, scope);
        let outputs: Vec<usize> = outputs.iter().map(|id| root[id.0]).collect();
        let wanted = Wanted { outputs: &outputs, logits: root[last.0], by_input: scope.by_input, segments: scope.segments };
        let mut script = script::write(&steps, nodes, &wanted);
        let sizes = memory::assign(&mut script);
        let mut plan = Self {
            input: graph.input_shape().to_vec(),
            slots: vec![Buffer::new(); sizes.len()],
            steps,
            actions: script.actions,
            sizes,
            outputs: Vec::new(),
            input_gradient: None,
            turn: 0,
            image: Vec::new(),
            batch: 0,
            aside: Vec::new(),
        };
        for (at, action) in plan.actions.iter().enumerate() {
            match action {
                Action::Outputs { pieces } => {
                    let size = |node: &usize| plan.steps.iter().find(|s| s.node == *node).map_or(0, |s| s.size);
                    plan.outputs = pieces.iter().copied().zip(outputs.iter().map(size)).collect();
                    plan.turn = at + 1;
                }
                Action::Done { input_gradient } => plan.input_gradient = *input_gradient,
                Action::Forward { .. } | Action::Seed { .. } | Action::Backward { .. } => {}
            }
        }
        Ok(plan)
    }

    /// Layers that run on the way back.
    pub fn layers_back(&self) -> usize {
        self.actions.iter().filter(|action| matches!(action, Action::Backward { .. })).count()
    }

    /// Bytes of activations, gradients and masks for one image.
    pub fn bytes_an_image(&self) -> usize {
        self.sizes.iter().sum::<usize>() * 4
    }

    /// The way there: `images` `[N, C, H, W]` (or `[N, ...]` in the order of the graph's input).
    ///
    /// # Errors
    /// Images of the wrong size, a weight that is missing or has the wrong size.
    pub fn forward(&mut self, weights: &Weights, images: &[f32], noise: Noise<'_>) -> Result<(), RunError> {
        let image: usize = self.input.iter().product();
        if images.is_empty() || !images.len().is_multiple_of(image.max(1)) {
            return Err(RunError::Input { expected: self.input.clone(), found: vec![images.len()] });
        }
        self.check(weights)?;
        self.batch = images.len() / image.max(1);
        let repeats =
            self.actions[self.turn..].iter().any(|a| matches!(a, Action::Forward { step, .. } if self.steps[*step].inputs.is_empty()));
        self.image.clear();
        if repeats {
            self.image.extend_from_slice(images);
        }
        for (slot, &size) in self.slots.iter_mut().zip(&self.sizes) {
            slot.resize(size * self.batch);
        }
        for action in &self.actions[..self.turn] {
            if let Action::Forward { .. } = action {
                forward(action, &mut self.steps, &mut self.slots, weights, self.batch, images, noise);
            }
        }
        Ok(())
    }

    /// The values of an output after [`Self::forward`], feature maps channels last.
    pub fn output(&self, index: usize) -> &[f32] {
        self.outputs.get(index).map_or(&[], |&(slot, size)| &self.slots[slot][..size * self.batch])
    }

    /// Whether anything has a gradient.
    pub fn goes_back(&self) -> bool {
        matches!(self.actions.get(self.turn), Some(Action::Seed { .. }))
    }

    /// The way back, after [`Self::forward`] with the same weights and noise: `gradient` is the one of a loss by the last output. Gradients
    /// by the trained parameters are written to `gradients`, or added where `add`.
    ///
    /// # Errors
    /// A gradient of the wrong size.
    pub fn backward(&mut self, weights: &Weights, gradient: &[f32], gradients: &mut Gradients, add: bool) -> Result<(), RunError> {
        self.backward_with(weights, gradient, gradients, add, &|_, _, _| ())
    }

    /// As [`Self::backward`], where activations are computed again: with the noise of the way there.
    ///
    /// # Errors
    /// As [`Self::backward`].
    pub fn backward_with(
        &mut self,
        weights: &Weights,
        gradient: &[f32],
        gradients: &mut Gradients,
        add: bool,
        noise: Noise<'_>,
    ) -> Result<(), RunError> {
        let expected = self.output(self.outputs.len().saturating_sub(1)).len();
        if gradient.len() != expected {
            let problem = format!("expected a gradient of {expected} values by the output, got {}", gradient.len());
            return Err(RunError::Interpreter(problem));
        }
        self.prepare(weights, gradients);
        let Self { steps, actions, slots, turn, batch, image, aside, .. } = self;
        for action in &actions[*turn..] {
            match action {
                Action::Seed { gradient: slot } => slots[*slot][..gradient.len()].copy_from_slice(gradient),
                Action::Forward { .. } => forward(action, steps, slots, weights, *batch, image, noise),
                Action::Backward { .. } => backward(action, steps, slots, weights, *batch, gradients, add.then_some(&mut *aside)),
                Action::Outputs { .. } | Action::Done { .. } => {}
            }
        }
        Ok(())
    }

    /// The gradient by the input after [`Self::backward`], feature maps channels last; none where nothing depends on it.
    pub fn input_gradient(&self) -> Option<&[f32]> {
        let size = self.input.iter().product::<usize>() * self.batch;
        self.input_gradient.map(|slot| &self.slots[slot][..size])
    }

    /// What the batch norms that go by the batch saw of the last one.
    pub fn statistics(&self) -> impl Iterator<Item = NormStatistics<'_>> {
        self.steps.iter().filter_map(|step| {
            let (mean, variance, count) = step.layer.statistics()?;
            Some(NormStatistics { node: step.head, mean, variance, count })
        })
    }

    /// Names of the parameters that get gradients.
    pub fn trained(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().flat_map(|s| s.parameters.iter().filter(|(_, trained)| *trained).map(|(name, _)| name.as_str()))
    }

    fn check(&self, weights: &Weights) -> Result<(), RunError> {
        for step in &self.steps {
            for (name, _) in &step.parameters {
                if !weights.contains_key(name) {
                    return Err(RunError::MissingWeight { node: step.layer.name().into(), weight: name.clone() });
                }
            }
        }
        Ok(())
    }

    /// A place for each gradient, of the right size.
    fn prepare(&self, weights: &Weights, gradients: &mut Gradients) {
        for name in self.trained() {
            let len = weights.get(name).map_or(0, |w| w.data.len());
            if gradients.get(name).is_none_or(|g| g.len() != len) {
                gradients.insert(name.to_string(), vec![0.0; len]);
            }
        }
    }
}

fn parameters<'w>(step: &Step, weights: &'w Weights) -> Vec<&'w [f32]> {
    step.parameters.iter().map(|(name, _)| weights.get(name).map_or(&[][..], |t| t.data.as_slice())).collect()
}

fn forward(action: &Action, steps: &mut [Step], slots: &mut [Buffer], weights: &Weights, batch: usize, image: &[f32], noise: Noise<'_>) {
    let Action::Forward { step, inputs, output, state, again } = action else { return };
    // Taken out while it is written: what is read stays in place.
    let (mut out, mut kept) = (std::mem::take(&mut slots[*output]), std::mem::take(&mut slots[*state]));
    let sizes: Vec<usize> = steps[*step].input_sizes.iter().map(|&size| size * batch).collect();
    let step = &mut steps[*step];
    let inputs: Vec<&[f32]> = inputs.iter().zip(sizes).map(|(&slot, size)| &slots[slot][..size]).collect();
    let parameters = parameters(step, weights);
    let there = There {
        batch,
        inputs: &inputs,
        out: &mut out[..step.size * batch],
        state: &mut kept,
        parameters: &parameters,
        image,
        noise,
        again: *again,
    };
    step.layer.forward(there);
    (slots[*output], slots[*state]) = (out, kept);
}

fn backward(
    action: &Action,
    steps: &mut [Step],
    slots: &mut [Buffer],
    weights: &Weights,
    batch: usize,
    gradients: &mut Gradients,
    mut aside: Option<&mut Vec<f32>>,
) {
    let Action::Backward { step, inputs, output, state, dy, sinks, merges, copies, doubled } = action else { return };
    let sizes: Vec<usize> = steps[*step].input_sizes.iter().map(|&size| size * batch).collect();
    let step = &mut steps[*step];
    let size = step.size * batch;
    let mut gradient = std::mem::take(&mut slots[*dy]);
    let mut targets: Vec<Option<(usize, Buffer, bool)>> =
        sinks.iter().map(|sink| sink.map(|s| (s.piece, std::mem::take(&mut slots[s.piece]), s.add))).collect();
    let mut own: Vec<(String, Vec<f32>)> = Vec::new();
    for (name, _) in step.parameters.iter().filter(|(_, trained)| *trained) {
        own.extend(gradients.remove_entry(name));
    }
    {
        let values: Vec<&[f32]> = inputs.iter().zip(&sizes).map(|(slot, &size)| slot.map_or(&[][..], |s| &slots[s][..size])).collect();
        let parameters = parameters(step, weights);
        let mut sums = aside.as_deref_mut().map(|aside| {
            aside.resize(own.iter().map(|(_, g)| g.len()).sum(), 0.0);
            aside.as_mut_slice()
        });
        let mut left = own.iter_mut();
        let mut by_parameter: Vec<&mut [f32]> = Vec::with_capacity(step.parameters.len());
        for (_, trained) in &step.parameters {
            let place = if *trained { left.next() } else { None };
            by_parameter.push(match (place, sums.take()) {
                (Some((_, own)), Some(rest)) => {
                    let (part, rest) = rest.split_at_mut(own.len());
                    sums = Some(rest);
                    part
                }
                (Some((_, own)), None) => own.as_mut_slice(),
                (None, rest) => {
                    sums = rest;
                    &mut []
                }
            });
        }
        let mut by_input: Vec<Option<Sink<'_>>> = targets
            .iter_mut()
            .zip(&sizes)
            .map(|(target, &size)| target.as_mut().map(|(_, buffer, add)| Sink { values: &mut buffer[..size], add: *add }))
            .collect();
        step.layer.backward(Back {
            batch,
            inputs: &values,
            output: output.map_or(&[][..], |slot| &slots[slot][..size]),
            dy: &mut gradient[..size],
            state: &slots[*state],
            parameters: &parameters,
            sinks: &mut by_input,
            gradients: &mut by_parameter,
        });
    }
    if let Some(aside) = aside {
        let mut rest = aside.as_slice();
        for (_, sum) in &mut own {
            let (part, next) = rest.split_at(sum.len());
            kernels::train::add_into(sum, part);
            rest = next;
        }
    }
    gradients.extend(own);
    for (slot, buffer, _) in targets.into_iter().flatten() {
        slots[slot] = buffer;
    }
    for &(from, to) in merges {
        let sink = sinks.iter().position(|s| s.is_some_and(|s| s.piece == from));
        let size = sink.map_or(0, |input| sizes[input]);
        let mut total = std::mem::take(&mut slots[to]);
        kernels::train::add_into(&mut total[..size], &slots[from][..size]);
        slots[to] = total;
    }
    if *doubled {
        gradient[..size].iter_mut().for_each(|g| *g *= 2.0);
    }
    for copy in copies {
        if copy.add {
            kernels::train::add_into(&mut slots[copy.piece][..size], &gradient[..size]);
        } else {
            slots[copy.piece][..size].copy_from_slice(&gradient[..size]);
        }
    }
    slots[*dy] = gradient;
}
