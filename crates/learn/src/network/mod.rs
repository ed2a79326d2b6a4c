//! A graph with its weights, trainable: gradients by weights and by the input, inference.

mod burned;
mod noise;
mod planned;

use graph::{Differentiable, Graph, Interpreter, NodeId, Role, RunError, Tensor as HostTensor, Weights};

pub use noise::NoiseKey;

use crate::fit::{BURN_BF16, Backend, BatchNormMode, Precision};
use crate::optim::Gradients;
use crate::{DeviceKind, LearnError};
use burned::Burned;
use planned::Planned;

/// A graph with its weights, trainable.
///
/// The weights live on the host, as [`Weights`]; whatever changes them (an optimiser, a checkpoint) works on plain slices. On the CPU they
/// are read in place by a plan that the engine compiles for training ([`engine::train`]); on a GPU, or where asked for, they are lent to
/// Burn for each pass.
///
/// ```
/// use graph::{GraphBuilder, Interpreter, Op, Tensor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut b = GraphBuilder::new("tiny", [1, 2, 2]);
/// let x = b.input();
/// let x = b.add("flat", Op::Flatten, &[x]);
/// let x = b.linear("fc", x, 3);
/// let graph = b.finish(x)?;
/// let weights = graph.init_weights(0);
/// let mut network = learn::Network::new(graph, weights, learn::DeviceKind::Cpu)?;
/// let logits = network.run(&Tensor::zeros([5, 1, 2, 2]), &[])?;
/// assert_eq!(logits[0].shape, [5, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Network {
    graph: Graph,
    weights: Weights,
    /// By stage: inference mode and no gradients.
    frozen: Vec<bool>,
    batch_norm: BatchNormMode,
    runner: Runner,
}

/// What computes.
#[derive(Debug)]
enum Runner {
    Planned(Box<Planned>),
    Burned(Box<Burned>),
}

/// What a runner is told of the network.
#[derive(Clone, Copy)]
struct Subject<'a> {
    graph: &'a Graph,
    frozen: &'a [bool],
    batch_norm: BatchNormMode,
}

/// How a runner wants the loss: from logits `[N, num_classes]` to the loss and its gradient by them.
type Loss<'a> = Box<dyn FnOnce(&HostTensor) -> (f64, Vec<f32>) + 'a>;

impl Network {
    /// A network on a device: by training plans on the CPU, by Burn elsewhere.
    ///
    /// # Errors
    /// Missing, extra or wrongly shaped weights, all of them in one error; a device that this build leaves out.
    pub fn new(graph: Graph, weights: Weights, device: DeviceKind) -> Result<Self, LearnError> {
        Self::with_backend(graph, weights, device, Backend::Plan, 0)
    }

    /// A network on a device, computed by `backend` (a GPU is Burn's in any case), on so many threads: 0 means as many as rayon's pool
    /// has; Burn always uses that pool.
    ///
    /// # Errors
    /// As [`Network::new`], or threads that cannot be started.
    pub fn with_backend(graph: Graph, weights: Weights, device: DeviceKind, backend: Backend, threads: usize) -> Result<Self, LearnError> {
        graph.check_weights(&weights).map_err(|e| LearnError::Training(e.to_string()))?;
        let runner = match (device, backend) {
            (DeviceKind::Cpu, Backend::Plan) => Runner::Planned(Box::new(Planned::new(threads)?)),
            (DeviceKind::Cpu, Backend::Burn) | (DeviceKind::Cuda | DeviceKind::Wgpu, _) => Runner::Burned(Box::new(Burned::new(device)?)),
        };
        let frozen = vec![false; graph.stages.len()];
        Ok(Self { graph, weights, frozen, batch_norm: BatchNormMode::Batch, runner })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Changes the values of the weights (not their names or shapes); kernels that `change` calls use the network's threads.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut Weights) -> R) -> R {
        match &mut self.runner {
            Runner::Planned(planned) => planned.threads().install(|| change(&mut self.weights)),
            Runner::Burned(burned) => {
                burned.forget();
                change(&mut self.weights)
            }
        }
    }

    /// Freezes stages (one flag a stage): they run in inference mode and get no gradients.
    pub fn freeze(&mut self, frozen: &[bool]) {
        self.frozen = frozen.to_vec();
        self.frozen.resize(self.graph.stages.len(), false);
        self.forget_plans();
    }

    /// What batch norms of trained stages normalise by.
    pub fn set_batch_norm(&mut self, mode: BatchNormMode) {
        self.batch_norm = mode;
        self.forget_plans();
    }

    /// Computes the activations of so many parts of the network a second time on the way back rather than keep them; 0 keeps all. Only
    /// training plans can.
    pub fn set_recompute(&mut self, parts: usize) {
        if let Runner::Planned(planned) = &mut self.runner {
            planned.set_recompute(parts);
        }
    }

    /// How values lie in memory in training; inference and gradients by the input stay f32.
    ///
    /// # Errors
    /// bf16 where Burn computes.
    pub fn set_precision(&mut self, precision: Precision) -> Result<(), LearnError> {
        match (&mut self.runner, precision) {
            (Runner::Planned(planned), _) => planned.set_bf16(precision == Precision::Bf16),
            (Runner::Burned(_), Precision::F32) => {}
            (Runner::Burned(_), Precision::Bf16) => {
                return Err(LearnError::Recipe { field: "fit.precision".into(), problem: BURN_BF16.into() });
            }
        }
        Ok(())
    }

    fn forget_plans(&mut self) {
        if let Runner::Planned(planned) = &mut self.runner {
            planned.forget();
        }
    }

    /// Learned parameters of the stages that are not frozen: name, role and stage.
    pub fn trained(&self) -> impl Iterator<Item = (&str, Role, usize)> {
        let nodes = self.graph.nodes.iter().filter(|n| !self.frozen[n.stage]);
        nodes.flat_map(|n| n.parameters.iter().filter(|p| p.role.is_learned()).map(|p| (p.name.as_str(), p.role, n.stage)))
    }

    /// One pass forward and back in training mode on `input` `[N, ...]`. `loss` gets the logits `[N, num_classes]` and returns the loss
    /// and its gradient by them; the loss comes back. The gradients by the learned parameters of stages that are not frozen are added to
    /// `gradients`. Running statistics of batch norms move along; weights do not. Where the loss is not finite, nothing is added.
    ///
    /// # Errors
    /// An input of the wrong shape, or what a node cannot compute.
    pub fn step(
        &mut self,
        input: &HostTensor,
        key: NoiseKey,
        gradients: &mut Gradients,
        loss: impl FnOnce(&HostTensor) -> (f64, Vec<f32>),
    ) -> Result<f64, RunError> {
        self.graph.check_run(input, &[])?;
        let subject = Subject { graph: &self.graph, frozen: &self.frozen, batch_norm: self.batch_norm };
        match &mut self.runner {
            Runner::Planned(planned) => planned.step(subject, &mut self.weights, input, key, gradients, Box::new(loss)),
            Runner::Burned(burned) => burned.step(subject, &mut self.weights, input, key, gradients, Box::new(loss)),
        }
    }
}

impl Interpreter for Network {
    fn run(&mut self, input: &HostTensor, outputs: &[NodeId]) -> Result<Vec<HostTensor>, RunError> {
        self.graph.check_run(input, outputs)?;
        let wanted = if outputs.is_empty() { &[self.graph.output][..] } else { outputs };
        match &mut self.runner {
            Runner::Planned(planned) => planned.run(&self.graph, &self.weights, input, wanted),
            Runner::Burned(burned) => burned.run(&self.graph, &self.weights, input, wanted),
        }
    }
}

impl Differentiable for Network {
    fn input_gradient(&mut self, input: &HostTensor, output_gradient: &HostTensor) -> Result<HostTensor, RunError> {
        self.graph.check_run(input, &[])?;
        let expected = [&input.shape[..1], &self.graph.node(self.graph.output).shape].concat();
        if output_gradient.shape != expected || output_gradient.data.len() != expected.iter().product::<usize>() {
            let problem = format!("expected a gradient {expected:?} by the logits, got {:?}", output_gradient.shape);
            return Err(RunError::Interpreter(problem));
        }
        match &mut self.runner {
            Runner::Planned(planned) => planned.input_gradient(&self.graph, &self.weights, input, &output_gradient.data),
            Runner::Burned(burned) => burned.input_gradient(&self.graph, &self.weights, input, output_gradient),
        }
    }
}

/// Moves running statistics towards those of a batch (PyTorch's convention: the unbiased variance is what is remembered).
fn follow(graph: &Graph, weights: &mut Weights, node: usize, mean: &[f32], variance: &[f32], count: usize) {
    let Some(node) = graph.nodes.get(node) else { return };
    let graph::Op::BatchNorm(b) = &node.op else { return };
    let unbias = count as f32 / (count.max(2) - 1) as f32;
    for (parameter, values, factor) in [(2, mean, 1.0), (3, variance, unbias)] {
        let Some(running) = node.parameters.get(parameter).and_then(|p| weights.get_mut(&p.name)) else { continue };
        for (old, new) in running.data.iter_mut().zip(values) {
            *old = (1.0 - b.momentum) * *old + b.momentum * factor * new;
        }
    }
}
