//! The plan: steps, script and memory, and how they run.

use std::collections::BTreeMap;

use graph::{Graph, NodeId, RunError, Weights};
use kernels::{Buffer, Values, ValuesMut};

use super::Scope;
use super::compile::{Step, compile};
use super::layer::{Back, Kind, Sink, There};
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
    /// Values in f32 for layers that know no bf16.
    wide: Vec<Buffer>,
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
        let most_wide = 2 * steps.iter().map(|s| s.inputs.len()).max().unwrap_or(0) + 2;
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
            wide: vec![Buffer::new(); most_wide],
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
                forward(action, &mut self.steps, [&mut self.slots, &mut self.wide], weights, self.batch, images, noise);
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
        let Self { steps, actions, slots, turn, batch, image, aside, wide, .. } = self;
        for action in &actions[*turn..] {
            match action {
                Action::Seed { gradient: slot } => slots[*slot][..gradient.len()].copy_from_slice(gradient),
                Action::Forward { .. } => forward(action, steps, [slots, wide], weights, *batch, image, noise),
                Action::Backward { .. } => {
                    backward(action, steps, [slots, wide], weights, *batch, gradients, add.then_some(&mut *aside));
                }
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

/// Values as a layer reads them: where they lie, or widened into memory of their own.
fn read<'a>(kind: Kind, direct: bool, slot: &'a Buffer, len: usize, wide: &'a mut Buffer) -> Values<'a> {
    let values = kind.view(slot, len);
    if direct { values } else { Values::F32(values.widened(wide)) }
}

/// Memory as a layer writes it: itself, or memory in f32 that [`written`] rounds afterwards. Where values are `kept`, it holds them.
fn write<'a>(kind: Kind, direct: bool, slot: &'a mut Buffer, len: usize, wide: &'a mut Buffer, kept: bool) -> ValuesMut<'a> {
    if direct || kind == Kind::F32 {
        return kind.view_mut(slot, len);
    }
    wide.resize(len);
    if kept {
        kernels::copy(&mut wide[..], kind.view(slot, len));
    }
    ValuesMut::F32(wide)
}

/// Rounds what a layer wrote aside.
fn written(kind: Kind, direct: bool, slot: &mut Buffer, len: usize, wide: &Buffer) {
    if !direct && kind == Kind::Bf16 {
        kernels::copy(kind.view_mut(slot, len), &wide[..len]);
    }
}

fn forward(
    action: &Action,
    steps: &mut [Step],
    [slots, wide]: [&mut Vec<Buffer>; 2],
    weights: &Weights,
    batch: usize,
    image: &[f32],
    noise: Noise<'_>,
) {
    let Action::Forward { step, inputs, output, state, again } = action else { return };
    // Taken out while it is written: what is read stays in place.
    let (mut out, mut kept) = (std::mem::take(&mut slots[*output]), std::mem::take(&mut slots[*state]));
    let step = &mut steps[*step];
    let (direct, size) = (step.is_direct(), step.size * batch);
    let Some((wide_out, wide)) = wide.split_first_mut() else { return };
    let places = step.input_sizes.iter().zip(&step.input_kinds).zip(wide);
    let inputs: Vec<Values<'_>> =
        inputs.iter().zip(places).map(|(&slot, ((&size, &kind), wide))| read(kind, direct, &slots[slot], size * batch, wide)).collect();
    let parameters = parameters(step, weights);
    let there = There {
        batch,
        inputs: &inputs,
        out: write(step.kind, direct, &mut out, size, wide_out, false),
        state: &mut kept,
        parameters: &parameters,
        image,
        noise,
        again: *again,
    };
    step.layer.forward(there);
    written(step.kind, direct, &mut out, size, wide_out);
    (slots[*output], slots[*state]) = (out, kept);
}

/// A place for a gradient by an input: its slot and whether it is added to.
struct Place {
    slot: usize,
    memory: Buffer,
    add: bool,
}

fn backward(
    action: &Action,
    steps: &mut [Step],
    [slots, wide]: [&mut Vec<Buffer>; 2],
    weights: &Weights,
    batch: usize,
    gradients: &mut Gradients,
    mut aside: Option<&mut Vec<f32>>,
) {
    let Action::Backward { step, inputs, output, state, dy, sinks, merges, copies, doubled } = action else { return };
    let step = &mut steps[*step];
    let (kind, direct, size) = (step.kind, step.is_direct(), step.size * batch);
    let places: Vec<(Kind, usize)> = step.input_kinds.iter().copied().zip(step.input_sizes.iter().map(|&size| size * batch)).collect();
    let mut gradient = std::mem::take(&mut slots[*dy]);
    let mut targets: Vec<Option<Place>> =
        sinks.iter().map(|sink| sink.map(|s| Place { slot: s.piece, memory: std::mem::take(&mut slots[s.piece]), add: s.add })).collect();
    let mut own: Vec<(String, Vec<f32>)> = Vec::new();
    for (name, _) in step.parameters.iter().filter(|(_, trained)| *trained) {
        own.extend(gradients.remove_entry(name));
    }
    let [wide_output, wide_dy, wide @ ..] = wide.as_mut_slice() else { return };
    let (wide_inputs, wide_sinks) = wide.split_at_mut(wide.len() / 2);
    {
        let nothing = if direct && kind == Kind::Bf16 { Values::Bf16(&[]) } else { Values::F32(&[]) };
        let values: Vec<Values<'_>> = inputs
            .iter()
            .zip(&places)
            .zip(wide_inputs)
            .map(|((slot, &(kind, size)), wide)| slot.map_or(nothing, |s| read(kind, direct, &slots[s], size, wide)))
            .collect();
        let parameters = parameters(step, weights);
        let mut by_parameter = by_parameter(&step.parameters, &mut own, aside.as_deref_mut());
        let mut by_input: Vec<Option<Sink<'_>>> = targets
            .iter_mut()
            .zip(&places)
            .zip(wide_sinks.iter_mut())
            .map(|((target, &(kind, size)), wide)| {
                let Place { memory, add, .. } = target.as_mut()?;
                Some(Sink { values: write(kind, direct, memory, size, wide, *add), add: *add })
            })
            .collect();
        step.layer.backward(Back {
            batch,
            inputs: &values,
            output: output.map_or(nothing, |slot| read(kind, direct, &slots[slot], size, wide_output)),
            dy: write(kind, direct, &mut gradient, size, wide_dy, true),
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
    for ((target, &(kind, size)), wide) in targets.into_iter().zip(&places).zip(wide_sinks) {
        if let Some(mut place) = target {
            written(kind, direct, &mut place.memory, size, wide);
            slots[place.slot] = place.memory;
        }
    }
    if (0..step.inputs.len()).any(|input| step.wants[input] && step.layer.passes(input)) {
        written(kind, direct, &mut gradient, size, wide_dy);
    }
    for &(from, to) in merges {
        let Some(input) = sinks.iter().position(|s| s.is_some_and(|s| s.piece == from)) else { continue };
        let (kind, size) = places[input];
        let mut total = std::mem::take(&mut slots[to]);
        kernels::train::add_into(kind.view_mut(&mut total, size), kind.view(&slots[from], size));
        slots[to] = total;
    }
    if *doubled {
        kernels::train::mask_in_place(kind.view_mut(&mut gradient, size), &[2.0], size);
    }
    for copy in copies {
        let to = kind.view_mut(&mut slots[copy.piece], size);
        if copy.add {
            kernels::train::add_into(to, kind.view(&gradient, size));
        } else {
            kernels::copy(to, kind.view(&gradient, size));
        }
    }
    slots[*dy] = gradient;
}

/// Where the gradient by each parameter goes: to those of the trained ones, or `aside`, where it is added to them later.
fn by_parameter<'a>(
    parameters: &[(String, bool)],
    own: &'a mut [(String, Vec<f32>)],
    aside: Option<&'a mut Vec<f32>>,
) -> Vec<&'a mut [f32]> {
    let mut sums = aside.map(|aside| {
        aside.resize(own.iter().map(|(_, g)| g.len()).sum(), 0.0);
        aside.as_mut_slice()
    });
    let mut left = own.iter_mut();
    let mut places: Vec<&mut [f32]> = Vec::with_capacity(parameters.len());
    for (_, trained) in parameters {
        let place = if *trained { left.next() } else { None };
        places.push(match (place, sums.take()) {
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
    places
}
