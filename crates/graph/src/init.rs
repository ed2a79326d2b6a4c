//! Fresh weights from a seed.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ir::{Graph, Parameter};
use crate::op::{Op, Role};
use crate::tensor::{Tensor, Weights};

impl Graph {
    /// Fresh weights: each parameter from its own generator, derived from `seed` and its name, so that neither the order of the
    /// nodes nor the rest of the graph matters. The same on every platform.
    ///
    /// - convolutions: normal with variance `2 / fan_out` (He et al., 2015, equation 14), biases 0;
    /// - linear layers: weight and bias uniform in `±1 / sqrt(in_features)`, as PyTorch;
    /// - norms: weight 1, bias 0, running mean 0, running variance 1;
    /// - token and position tables: normal, σ .02, cut off at 2 σ.
    pub fn init_weights(&self, seed: u64) -> Weights {
        let node = |node: &crate::ir::Node| {
            node.parameters.iter().map(|p| (p.name.clone(), init(&node.op, p, &mut generator(seed, &p.name)))).collect::<Vec<_>>()
        };
        self.nodes.iter().flat_map(node).collect()
    }
}

fn init(op: &Op, parameter: &Parameter, random: &mut ChaCha8Rng) -> Tensor {
    let mut fill = |draw: &mut dyn FnMut(&mut ChaCha8Rng) -> f64| {
        let count = parameter.shape.iter().product();
        Tensor { shape: parameter.shape.clone(), data: (0..count).map(|_| draw(random) as f32).collect() }
    };
    match (parameter.role, op) {
        (Role::Weight, Op::Conv2d(conv)) => {
            let fan_out = conv.out_channels / conv.groups.max(1) * conv.kernel[0] * conv.kernel[1];
            let sigma = (2.0 / fan_out.max(1) as f64).sqrt();
            fill(&mut |random| sigma * normal(random))
        }
        (Role::Weight | Role::Bias, Op::Linear(linear)) => {
            let bound = 1.0 / (linear.in_features.max(1) as f64).sqrt();
            fill(&mut |random| bound * (2.0 * unit(random) - 1.0))
        }
        (Role::Embedding, _) => fill(&mut |random| loop {
            let z = normal(random);
            if z.abs() <= 2.0 {
                break 0.02 * z;
            }
        }),
        (Role::NormWeight | Role::RunningVar, _) => fill(&mut |_| 1.0),
        (Role::Weight | Role::Bias | Role::NormBias | Role::RunningMean, _) => fill(&mut |_| 0.0),
    }
}

/// The seed's generator, on a stream of its own for each name (FNV-1a).
fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(hash);
    random
}

/// Uniform in `[0, 1)`, 53 bits.
fn unit(random: &mut ChaCha8Rng) -> f64 {
    (random.random::<u64>() >> 11) as f64 / (1u64 << 53) as f64
}

/// Standard normal (Box and Muller, 1958), by `libm` so that platforms agree.
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (radius, angle) = (1.0 - unit(random), unit(random));
    (-2.0 * libm::log(radius)).sqrt() * libm::cos(std::f64::consts::TAU * angle)
}
