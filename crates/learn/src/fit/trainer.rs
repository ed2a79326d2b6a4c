//! The part of a network that is trained, behind the part that is not.

use engine::{Engine, EngineOptions};
use graph::{Graph, Interpreter, Tensor, Weights};

use super::FitOptions;
use crate::network::{Network, NoiseKey};
use crate::optim::Gradients;
use crate::{DeviceKind, LearnError};

/// A network in training. Frozen stages at its beginning, whose output does not depend on what is learned, run by the inference engine;
/// the rest is a [`Network`].
#[derive(Debug)]
pub(crate) struct Trainer {
    whole: Graph,
    /// All weights as they were at the beginning; those that are trained live in the network.
    all: Weights,
    prefix: Option<Engine>,
    network: Network,
    device: DeviceKind,
}

impl Trainer {
    /// Prepares `graph` for training as `options` say.
    pub(crate) fn new(graph: &Graph, weights: Weights, options: &FitOptions, device: DeviceKind) -> Result<Self, LearnError> {
        let recipe = |(field, problem): (&'static str, String)| LearnError::Recipe { field: field.into(), problem };
        let frozen = options.frozen_stages(graph).map_err(recipe)?;
        let is_frozen = |name: &String| graph.stages.iter().position(|s| s == name).is_some_and(|i| frozen[i]);
        let leading = frozen.iter().take_while(|&&f| f).count();
        let split = if leading > 0 { graph.split_at_stage(leading).ok() } else { None };
        let (prefix, rest) = match split {
            Some((prefix, rest)) => {
                let engine = Engine::new(&prefix, &part(&prefix, &weights), EngineOptions::default());
                (Some(engine.map_err(|e| LearnError::Training(e.to_string()))?), rest)
            }
            None => (None, graph.clone()),
        };
        let flags: Vec<bool> = rest.stages.iter().map(is_frozen).collect();
        let own = part(&rest, &weights);
        let mut network = Network::with_backend(rest, own, device, options.backend, 0)?;
        network.freeze(&flags);
        network.set_batch_norm(options.batch_norm);
        network.set_recompute(options.recompute);
        network.set_precision(options.precision)?;
        Ok(Self { whole: graph.clone(), all: weights, prefix, network, device })
    }

    /// The trained part.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The trained part.
    pub(crate) fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Whether the first stages are frozen and run by the engine.
    pub(crate) fn has_prefix(&self) -> bool {
        self.prefix.is_some()
    }

    /// What enters the trained part, from images `[N, C, H, W]`.
    pub(crate) fn features(&mut self, images: Tensor) -> Result<Tensor, LearnError> {
        match &mut self.prefix {
            Some(prefix) => only(prefix.run(&images, &[]).map_err(|e| LearnError::Training(e.to_string()))?),
            None => Ok(images),
        }
    }

    /// One training step on [`features`](Self::features); its gradients are added to `gradients`, its loss comes back.
    pub(crate) fn step(
        &mut self,
        features: &Tensor,
        key: NoiseKey,
        gradients: &mut Gradients,
        loss: impl FnOnce(&Tensor) -> (f64, Vec<f32>),
    ) -> Result<f64, LearnError> {
        self.network.step(features, key, gradients, loss).map_err(|e| LearnError::Training(e.to_string()))
    }

    /// All weights of the network, `trained` in the place of those that are trained.
    pub(crate) fn merged(&self, trained: &Weights) -> Weights {
        let mut all = self.all.clone();
        all.extend(trained.iter().map(|(name, t)| (name.clone(), t.clone())));
        all
    }

    /// The network with `trained` weights in inference mode: on the CPU by the inference engine.
    pub(crate) fn inference(&self, trained: &Weights) -> Result<Inference, LearnError> {
        let weights = self.merged(trained);
        Ok(match self.device {
            DeviceKind::Cpu => {
                let engine = Engine::new(&self.whole, &weights, EngineOptions::default());
                Inference::Engine(Box::new(engine.map_err(|e| LearnError::Training(e.to_string()))?))
            }
            DeviceKind::Cuda | DeviceKind::Wgpu => Inference::Burn(Box::new(Network::new(self.whole.clone(), weights, self.device)?)),
        })
    }
}

/// The weights that `graph` reads.
fn part(graph: &Graph, weights: &Weights) -> Weights {
    graph.parameters().filter_map(|p| weights.get(&p.name).map(|t| (p.name.clone(), t.clone()))).collect()
}

fn only(outputs: Vec<Tensor>) -> Result<Tensor, LearnError> {
    outputs.into_iter().next().ok_or_else(|| LearnError::Training("the network has no output".into()))
}

/// A network that classifies.
#[derive(Debug)]
pub(crate) enum Inference {
    /// On the CPU.
    Engine(Box<Engine>),
    /// On a card.
    Burn(Box<Network>),
}

impl Inference {
    /// Logits `[N, K]` of images `[N, C, H, W]`.
    pub(crate) fn logits(&mut self, images: &Tensor) -> Result<Tensor, LearnError> {
        let outputs = match self {
            Self::Engine(engine) => engine.run(images, &[]),
            Self::Burn(network) => network.run(images, &[]),
        };
        only(outputs.map_err(|e| LearnError::Training(e.to_string()))?)
    }
}
