//! The engine: compiled plans run on a pool of threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use graph::{Graph, Interpreter, NodeId, RunError, Tensor, Weights};
use kernels::{Buffer, Threads};

use crate::lower::Lowering;
use crate::plan::{Plan, Step, compile};
use crate::precision::{Policy, Precision};
use crate::quantize::Quantization;
use crate::step::Work;

/// How an [`Engine`] runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineOptions {
    /// Threads; 0 means one for each core. Results are the same, bit for bit, for any number.
    pub threads: usize,
    /// Numbers it computes with; inputs and outputs are f32 in any case.
    pub precision: Precision,
}

/// Runs a graph on the CPU: batch norms folded, activations fused, weights packed once, buffers kept between calls.
#[derive(Debug)]
pub struct Engine {
    pub(crate) graph: Arc<Graph>,
    compiled: Arc<Mutex<Compiled>>,
    /// Those of `compiled` that this engine has run.
    plans: BTreeMap<Vec<NodeId>, Arc<Plan>>,
    arena: Vec<Buffer>,
    threads: Threads,
}

/// What an engine and its forks share: packed weights and the plans that hold them.
#[derive(Debug)]
struct Compiled {
    lowering: Lowering,
    plans: BTreeMap<Vec<NodeId>, Arc<Plan>>,
}

impl Engine {
    /// Prepares a checked graph and its weights (further ones are ignored).
    ///
    /// # Errors
    /// A weight that is missing or has the wrong shape; threads that the system refuses; int8, which needs [`Engine::quantized`].
    pub fn new(graph: &Graph, weights: &Weights, options: EngineOptions) -> Result<Self, RunError> {
        Self::quantized(graph, weights, None, options)
    }

    /// As [`Engine::new`], with what int8 needs to know: a calibration's result.
    ///
    /// # Errors
    /// As [`Engine::new`]; int8 without a quantization, or one that names nodes which the graph lacks.
    pub fn quantized(
        graph: &Graph,
        weights: &Weights,
        quantization: Option<&Quantization>,
        options: EngineOptions,
    ) -> Result<Self, RunError> {
        graph.check().map_err(|error| RunError::Interpreter(error.to_string()))?;
        let mut kept = Weights::new();
        for node in &graph.nodes {
            for parameter in &node.parameters {
                let name = || (node.name.clone(), parameter.name.clone());
                let tensor = weights.get(&parameter.name).ok_or_else(|| {
                    let (node, weight) = name();
                    RunError::MissingWeight { node, weight }
                })?;
                if tensor.shape != parameter.shape || tensor.data.len() != parameter.shape.iter().product::<usize>() {
                    let ((node, weight), expected) = (name(), parameter.shape.clone());
                    return Err(RunError::WeightShape { node, weight, expected, found: tensor.shape.clone(), values: tensor.data.len() });
                }
                kept.insert(parameter.name.clone(), tensor.clone());
            }
        }
        let policy = Policy::new(graph, options.precision, quantization)?;
        let compiled = Compiled { lowering: Lowering::new(Arc::new(kept), policy), plans: BTreeMap::new() };
        let (graph, compiled) = (Arc::new(graph.clone()), Arc::new(Mutex::new(compiled)));
        Ok(Self { graph, compiled, plans: BTreeMap::new(), arena: Vec::new(), threads: start(options.threads)? })
    }

    /// Another engine of the same network, for another thread of the caller: it has its own buffers and its own `threads` (0 means one
    /// for each core), and shares the packed weights. It gives the same results, bit for bit.
    ///
    /// # Errors
    /// Threads that the system refuses.
    pub fn fork(&self, threads: usize) -> Result<Self, RunError> {
        let (graph, compiled, plans) = (self.graph.clone(), self.compiled.clone(), self.plans.clone());
        Ok(Self { graph, compiled, plans, arena: Vec::new(), threads: start(threads)? })
    }

    /// The graph it runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Weight and bias of a layer with its norm folded in.
    pub(crate) fn folded(&self, head: usize, norm: Option<usize>) -> (Vec<f32>, Option<Vec<f32>>) {
        let compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.lowering.folded(&self.graph, head, norm)
    }

    /// Threads it runs on.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// Runs on `input` `[N, C, H, W]`; returns the activations of `outputs` (none: the logits `[N, num_classes]`), feature maps as
    /// `[N, C, H, W]`.
    ///
    /// # Errors
    /// An input of the wrong shape, or a node that does not exist.
    pub fn run(&mut self, input: &Tensor, outputs: &[NodeId]) -> Result<Vec<Tensor>, RunError> {
        let expected = self.graph.input_shape();
        if input.shape.len() != expected.len() + 1 || input.shape[1..] != *expected {
            return Err(RunError::Input { expected: expected.to_vec(), found: input.shape.clone() });
        }
        let logits = [self.graph.output];
        let outputs = if outputs.is_empty() { &logits[..] } else { outputs };
        self.execute(&input.data, outputs)?;
        let batch = input.shape[0];
        Ok((0..outputs.len()).map(|i| self.tensor(outputs, i, batch)).collect())
    }

    /// Bytes of activations that the plan for `outputs` (none: the logits) keeps for a batch: buffers are shared by values whose lives do
    /// not overlap. The kernels' scratch memory, which does not grow with the batch, comes on top.
    ///
    /// # Errors
    /// A node that does not exist.
    pub fn peak_activations(&mut self, outputs: &[NodeId], batch: usize) -> Result<usize, RunError> {
        let logits = [self.graph.output];
        let outputs = if outputs.is_empty() { &logits[..] } else { outputs };
        self.execute(&[], outputs)?;
        Ok(self.plans.get(outputs).map_or(0, |plan| plan.bytes(batch)))
    }

    /// Runs on `input`, the values of whole images `[C, H, W]` one after the other, and writes the activation of `output` into `into`,
    /// resized to `N × size`; feature maps as `[N, C, H, W]`.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run_into(&mut self, input: &[f32], output: NodeId, into: &mut Vec<f32>) -> Result<(), RunError> {
        self.execute(input, &[output])?;
        self.read(&[output], 0, into);
        Ok(())
    }

    /// Fills the slots of the plan's outputs.
    fn execute(&mut self, input: &[f32], outputs: &[NodeId]) -> Result<(), RunError> {
        self.execute_and(input, outputs, |_, _| ())
    }

    /// [`Engine::execute`], with something to do after each step (by its number), of which some run once an image.
    pub(crate) fn execute_and(&mut self, input: &[f32], outputs: &[NodeId], mut each: impl FnMut(usize, &Step)) -> Result<(), RunError> {
        let nodes = self.graph.nodes.len();
        if let Some(id) = outputs.iter().find(|id| id.0 >= nodes) {
            return Err(RunError::NoSuchNode { node: id.0, nodes });
        }
        let image: usize = self.graph.input_shape().iter().product();
        if image == 0 || !input.len().is_multiple_of(image) {
            let expected = self.graph.input_shape().to_vec();
            return Err(RunError::Input { expected, found: vec![input.len()] });
        }
        let Self { graph, compiled, plans, arena, threads } = self;
        if !plans.contains_key(outputs) {
            plans.insert(outputs.to_vec(), Compiled::plan(compiled, graph, outputs));
        }
        let Some(plan) = plans.get(outputs) else { return Ok(()) };
        if arena.len() < plan.slots.len() + plan.held.len() {
            arena.resize_with(plan.slots.len() + plan.held.len(), Buffer::default);
        }
        let batch = input.len() / image;
        threads.install(|| {
            let apart = if batch > 1 { plan.apart } else { 0 };
            if apart > 0 {
                run_apart(plan, arena, input, image, &mut each);
            }
            for (index, step) in plan.steps.iter().enumerate().skip(apart) {
                run_step(step, arena, input, batch);
                each(index, step);
            }
        });
        Ok(())
    }

    fn tensor(&self, outputs: &[NodeId], index: usize, batch: usize) -> Tensor {
        let shape = [&[batch], self.graph.node(outputs[index]).shape.as_slice()].concat();
        let mut data = Vec::new();
        self.read(outputs, index, &mut data);
        Tensor { shape, data }
    }

    /// Copies an output out of its slot, feature maps into `[N, C, H, W]`.
    fn read(&self, outputs: &[NodeId], index: usize, into: &mut Vec<f32>) {
        let Some(values) = self.plans.get(outputs).map(|plan| &*self.arena[plan.outputs[index]]) else { return };
        into.resize(values.len(), 0.0);
        match self.graph.node(outputs[index]).shape[..] {
            [c, h, w] => self.threads.install(|| kernels::nhwc_to_nchw(into, values, c, h * w)),
            _ => into.copy_from_slice(values),
        }
    }
}

/// The leading steps of a plan, image by image; leaves what later steps read of all images.
fn run_apart(plan: &Plan, arena: &mut [Buffer], input: &[f32], image: usize, each: &mut impl FnMut(usize, &Step)) {
    let batch = input.len() / image;
    let (slots, held) = arena.split_at_mut(plan.slots.len());
    for (buffer, &(_, bytes)) in held.iter_mut().zip(&plan.held) {
        buffer.resize_for::<u8>(batch * bytes);
    }
    for (n, input) in input.chunks_exact(image).enumerate() {
        for (index, step) in plan.steps[..plan.apart].iter().enumerate() {
            run_step(step, slots, input, 1);
            each(index, step);
        }
        for (buffer, &(slot, bytes)) in held.iter_mut().zip(&plan.held) {
            buffer.numbers_mut::<u8>(batch * bytes)[n * bytes..(n + 1) * bytes].copy_from_slice(slots[slot].numbers(bytes));
        }
    }
    for (buffer, &(slot, _)) in held.iter_mut().zip(&plan.held) {
        std::mem::swap(buffer, &mut slots[slot]);
    }
}

/// Inputs of a step that are gathered without an allocation; only joining maps takes more.
const FEW: usize = 4;

fn run_step(step: &Step, arena: &mut [Buffer], input: &[f32], batch: usize) {
    let mut out = std::mem::take(&mut arena[step.output]);
    out.resize((step.size * batch * step.bytes).div_ceil(4));
    if batch > 0 {
        if let Work::Narrow(work) = &step.work {
            let none = Buffer::new();
            let mut few = [&none; FEW];
            if step.inputs.len() <= FEW {
                few.iter_mut().zip(&step.inputs).for_each(|(input, &slot)| *input = &arena[slot]);
                work.run(batch, input, &few[..step.inputs.len()], &mut out);
            } else {
                let inputs: Vec<&Buffer> = step.inputs.iter().map(|&slot| &arena[slot]).collect();
                work.run(batch, input, &inputs, &mut out);
            }
        } else if step.in_place {
            step.work.run(batch, &[], &mut out);
        } else if step.inputs.is_empty() {
            step.work.run(batch, &[input], &mut out);
        } else if step.inputs.len() <= FEW {
            let mut inputs: [&[f32]; FEW] = [&[]; FEW];
            for (input, &slot) in inputs.iter_mut().zip(&step.inputs) {
                *input = &arena[slot];
            }
            step.work.run(batch, &inputs[..step.inputs.len()], &mut out);
        } else {
            let inputs: Vec<&[f32]> = step.inputs.iter().map(|&slot| &*arena[slot]).collect();
            step.work.run(batch, &inputs, &mut out);
        }
    }
    arena[step.output] = out;
}

impl Compiled {
    /// The plan for some outputs, compiled by the first engine that asks.
    fn plan(compiled: &Mutex<Compiled>, graph: &Graph, outputs: &[NodeId]) -> Arc<Plan> {
        // Plans and packed weights are added whole: what a panic elsewhere left behind is sound.
        let mut compiled = compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let Compiled { lowering, plans } = &mut *compiled;
        plans.entry(outputs.to_vec()).or_insert_with(|| Arc::new(compile(graph, outputs, lowering))).clone()
    }
}

fn start(threads: usize) -> Result<Threads, RunError> {
    Threads::new(threads).map_err(|error| RunError::Interpreter(format!("cannot start {threads} threads: {error}")))
}

impl Interpreter for Engine {
    fn run(&mut self, input: &Tensor, outputs: &[NodeId]) -> Result<Vec<Tensor>, RunError> {
        Engine::run(self, input, outputs)
    }
}
