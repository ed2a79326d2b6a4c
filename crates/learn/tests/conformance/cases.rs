//! A case or more for each op, each between a layer with weights and a head, so that gradients go through it and around it.

use std::collections::BTreeSet;
use std::iter::successors;

use graph::{Activation, Conv2d, Graph, GraphBuilder, NodeId, Op, Padding, Pool2d, Role, Tensor, Weights};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::tolerances::Kind;

/// A graph to be computed in every way.
pub struct Case {
    pub kind: Kind,
    pub graph: Graph,
}

impl Case {
    /// Of this case alone, so that a new case changes no other.
    pub fn seed(&self) -> u64 {
        self.graph.name.bytes().fold(17, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into())) % 1_000_003
    }

    /// Images `[batch, C, H, W]` of noise.
    pub fn images(&self, batch: usize) -> Tensor {
        noise(&[&[batch], self.graph.input_shape()].concat(), self.seed())
    }

    pub fn weights(&self) -> Weights {
        weights(&self.graph, self.seed())
    }
}

/// Values in -1..1.
pub fn noise(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data = (0..shape.iter().product::<usize>()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor { shape: shape.to_vec(), data }
}

/// Weights in which nothing is zero or one: statistics and norms too.
pub fn weights(graph: &Graph, seed: u64) -> Weights {
    let mut all = graph.init_weights(seed);
    for (i, p) in graph.parameters().enumerate() {
        let mut t = noise(&p.shape, seed + i as u64);
        match p.role {
            Role::Weight | Role::Embedding => continue,
            Role::RunningVar | Role::NormWeight => t.data.iter_mut().for_each(|x| *x = 1.0 + 0.5 * *x),
            Role::Bias | Role::NormBias | Role::RunningMean => t.data.iter_mut().for_each(|x| *x *= 0.3),
        }
        all.insert(p.name.clone(), t);
    }
    all
}

/// The cases of each op. An op of `graph::Op` without an arm does not compile; an arm whose cases lack the op fails.
macro_rules! of_each_op {
    ($($op:pat => $cases:expr,)*) => {
        /// Every case of a single op.
        pub fn ops() -> Vec<Case> {
            let _exhaustive = |op: &Op| match op { $($op => (),)* };
            let mut list = Vec::new();
            $(
                let cases: Vec<Case> = $cases;
                assert!(!cases.is_empty(), "{} has no case", stringify!($op));
                for case in &cases {
                    assert!(case.graph.nodes.iter().any(|n| matches!(n.op, $op)), "{} has no {}", case.graph.name, stringify!($op));
                }
                list.extend(cases);
            )*
            list
        }
    };
}

of_each_op! {
    Op::Input { .. } => vec![graph("input alone", |b| b.input())],
    Op::Conv2d(_) => convolutions(),
    Op::Linear(_) => vec![on_map("linear over the width", |b, x| b.linear("l", x, 4)), on_tokens("linear over tokens", |b, x| b.linear("l", x, 18))],
    Op::BatchNorm(_) => batch_norms(),
    Op::LayerNorm(_) => layer_norms(),
    Op::Activation(_) => activations(),
    Op::MaxPool2d(_) => max_pools(),
    Op::AvgPool2d(_) => mean_pools(),
    Op::GlobalAvgPool => vec![on_map("global mean", |b, x| b.global_avg_pool("p", x))],
    Op::Flatten => vec![on_map("flatten", |b, x| b.add("flatten", Op::Flatten, &[x]))],
    Op::Add => additions(),
    Op::Mul => products(),
    Op::Concat => joins(),
    Op::Dropout { .. } => vec![
        on_map("dropout", |b, x| b.add("d", Op::Dropout { p: 0.4 }, &[x])),
        on_tokens("dropout of tokens", |b, x| b.add("d", Op::Dropout { p: 0.3 }, &[x])),
        on_map("no dropout", |b, x| b.add("d", Op::Dropout { p: 0.0 }, &[x])),
    ],
    Op::DropPath { .. } => stochastic_depths(),
    Op::ToTokens => vec![on_map("to tokens", |b, x| b.add("t", Op::ToTokens, &[x]))],
    Op::ToMap { .. } => vec![on_tokens("to a map", |b, x| b.add("m", Op::ToMap { size: [7, 5] }, &[x]))],
    Op::Slice { .. } => slices(),
    Op::PrependToken => vec![on_tokens("a token in front", |b, x| b.add("cls", Op::PrependToken, &[x]))],
    Op::AddPosition => vec![on_tokens("positions", |b, x| b.add("pos", Op::AddPosition, &[x]))],
    Op::SelectToken { .. } => vec![on_tokens("one token", |b, x| b.add("select", Op::SelectToken { index: 3 }, &[x]))],
    Op::Attention { .. } => attentions(),
    Op::Softmax => vec![
        on_map("softmax over the width", |b, x| b.add("s", Op::Softmax, &[x])),
        on_tokens("softmax of tokens", |b, x| b.add("s", Op::Softmax, &[x])),
    ],
}

/// Stages `stem`, `op` and `head`; what `op` returns is flattened for the head.
fn graph(name: &str, op: impl FnOnce(&mut GraphBuilder) -> NodeId) -> Case {
    let mut b = GraphBuilder::new(name, [3, 7, 5]);
    let x = op(&mut b);
    b.stage("head");
    let x = if b.shape(x).len() == 1 { x } else { b.add("flat", Op::Flatten, &[x]) };
    b.tap("features", x);
    let x = b.linear("fc", x, 3);
    Case { kind: Kind::Op, graph: b.finish(x).unwrap() }
}

/// `op` on a map `[4, 7, 5]`.
fn on_map(name: &str, op: impl FnOnce(&mut GraphBuilder, NodeId) -> NodeId) -> Case {
    graph(name, |b| {
        let x = b.input();
        let x = b.conv("before", x, Conv2d::new(3, 4, 1).with_bias());
        b.stage("op");
        op(b, x)
    })
}

/// `op` on tokens `[35, 4]`.
fn on_tokens(name: &str, op: impl FnOnce(&mut GraphBuilder, NodeId) -> NodeId) -> Case {
    on_map(name, |b, x| {
        let x = b.add("tokens", Op::ToTokens, &[x]);
        op(b, x)
    })
}

fn convolutions() -> Vec<Case> {
    let stretched = Conv2d { kernel: [3, 2], stride: [1, 2], dilation: [1, 2], ..Conv2d::new(4, 5, 3).padding(2) };
    let list = [
        ("3×3", Conv2d::new(4, 5, 3).padding(1).with_bias()),
        ("3×3 of many channels", Conv2d::new(4, 33, 3).padding(1)),
        ("3×3 without padding", Conv2d::new(4, 6, 3)),
        ("2×2, dilated", Conv2d { dilation: [2, 2], ..Conv2d::new(4, 5, 2).padding(1) }),
        ("3×3, dilated", Conv2d { dilation: [2, 2], ..Conv2d::new(4, 5, 3).padding(2) }),
        ("3×2, other strides and dilations each way", stretched),
        ("3×3 by 2, padded below and right", Conv2d::new(4, 5, 3).stride(2).pad(Padding { top: 0, left: 0, bottom: 1, right: 1 })),
        ("3×3 by 2, padded unevenly", Conv2d::new(4, 5, 3).stride(2).pad(Padding { top: 0, left: 1, bottom: 1, right: 2 }).with_bias()),
        ("1×1", Conv2d::new(4, 19, 1).with_bias()),
        ("1×1 by 2", Conv2d::new(4, 5, 1).stride(2)),
        ("two groups", Conv2d::new(4, 6, 3).groups(2).padding(1)),
        ("groups of one channel that make two", Conv2d::new(4, 8, 3).groups(4).padding(1)),
        ("depthwise 3×3", Conv2d::new(4, 4, 3).groups(4).padding(1)),
        ("depthwise 5×5", Conv2d::new(4, 4, 5).groups(4).padding(2)),
        ("depthwise 3×3 by 2", Conv2d::new(4, 4, 3).groups(4).stride(2).padding(1).with_bias()),
        (
            "depthwise 5×5 by 2, as TensorFlow pads",
            Conv2d::new(4, 4, 5).groups(4).stride(2).pad(Padding::tensorflow_same([7, 5], [5; 2], [2; 2])),
        ),
    ];
    let plain = list.iter().map(|(name, conv)| on_map(name, |b, x| b.conv("c", x, conv.clone())));
    let clamped = list.iter().map(|(name, conv)| {
        on_map(&format!("{name}, relu6"), |b, x| {
            let x = b.conv("c", x, conv.clone());
            b.activation("a", x, Activation::Relu6)
        })
    });
    plain.chain(clamped).collect()
}

fn batch_norms() -> Vec<Case> {
    let mut list = Vec::new();
    for kind in [None, Some(Activation::Relu), Some(Activation::Relu6), Some(Activation::Silu), Some(Activation::HardSwish)] {
        let end = |b: &mut GraphBuilder, x| kind.map_or(x, |kind| b.activation("a", x, kind));
        let name = kind.map_or(String::new(), |kind| format!(", {}", activation_name(kind)));
        list.push(on_map(&format!("norm{name}"), |b, x| {
            let x = b.batch_norm("bn", x, 1e-3);
            end(b, x)
        }));
        list.push(on_map(&format!("norm, residual{name}"), |b, x| {
            let y = b.conv("c", x, Conv2d::new(4, 4, 3).padding(1));
            let y = b.batch_norm("bn", y, 1e-3);
            let x = b.sum("s", y, x);
            end(b, x)
        }));
        list.push(on_map(&format!("two norms added{name}"), |b, x| {
            let y = b.batch_norm("bn", x, 1e-3);
            let z = b.batch_norm("bn2", x, 1e-3);
            let x = b.sum("s", y, z);
            end(b, x)
        }));
    }
    list.push(on_map("norm of vectors", |b, x| {
        let x = b.global_avg_pool("p", x);
        let x = b.batch_norm("bn", x, 1e-2);
        b.activation("a", x, Activation::Relu)
    }));
    list.push(on_map("norm behind a linear layer", |b, x| {
        let x = b.add("flatten", Op::Flatten, &[x]);
        let x = b.linear("l", x, 6);
        b.batch_norm("bn", x, 1e-1)
    }));
    list.push(on_tokens("norm of tokens", |b, x| b.batch_norm("bn", x, 1e-2)));
    list
}

fn layer_norms() -> Vec<Case> {
    vec![
        on_map("layer norm over the width", |b, x| b.layer_norm("ln", x, 1e-3)),
        on_tokens("layer norm of tokens", |b, x| b.layer_norm("ln", x, 1e-3)),
        on_map("layer norm of a vector", |b, x| {
            let x = b.add("flatten", Op::Flatten, &[x]);
            b.layer_norm("ln", x, 1e-6)
        }),
    ]
}

/// The activation after `kind`, in the order of the enum: a new one does not compile without a place here.
fn next(kind: &Activation) -> Option<Activation> {
    match kind {
        Activation::Relu => Some(Activation::Relu6),
        Activation::Relu6 => Some(Activation::Gelu),
        Activation::Gelu => Some(Activation::Silu),
        Activation::Silu => Some(Activation::HardSwish),
        Activation::HardSwish => Some(Activation::HardSigmoid),
        Activation::HardSigmoid => Some(Activation::Sigmoid),
        Activation::Sigmoid => Some(Activation::Tanh),
        Activation::Tanh => None,
    }
}

fn activation_name(kind: Activation) -> String {
    format!("{kind:?}").to_lowercase()
}

/// Each as it is, and on values eight times as large, which reach the ends of the clamps.
fn activations() -> Vec<Case> {
    let loud = |b: &mut GraphBuilder, x| (0..3).fold(x, |x, i| b.sum(format!("twice{i}"), x, x));
    successors(Some(Activation::Relu), next)
        .flat_map(|kind| {
            let name = activation_name(kind);
            let large = on_map(&format!("{name} of large values"), |b, x| {
                let x = loud(b, x);
                b.activation("a", x, kind)
            });
            [on_map(&name, |b, x| b.activation("a", x, kind)), large]
        })
        .collect()
}

fn max_pools() -> Vec<Case> {
    let uneven = Padding { top: 0, left: 1, bottom: 1, right: 1 };
    vec![
        on_map("largest of 2×2", |b, x| b.max_pool("p", x, Pool2d::new(2, 2, 0))),
        on_map("largest of 3×3 by 2", |b, x| b.max_pool("p", x, Pool2d::new(3, 2, 1))),
        on_map("largest of 3×3, padded unevenly", |b, x| b.max_pool("p", x, Pool2d { padding: uneven, ..Pool2d::new(3, 2, 0) })),
    ]
}

fn mean_pools() -> Vec<Case> {
    vec![
        on_map("mean of 2×2", |b, x| b.avg_pool("p", x, Pool2d::new(2, 2, 0))),
        on_map("mean of 3×3 by 2", |b, x| b.avg_pool("p", x, Pool2d::new(3, 2, 1))),
        on_map("mean of 3×3 without padding", |b, x| b.avg_pool("p", x, Pool2d { count_include_pad: false, ..Pool2d::new(3, 1, 1) })),
    ]
}

fn additions() -> Vec<Case> {
    vec![
        on_map("a value and itself", |b, x| b.sum("s", x, x)),
        on_map("residual", |b, x| {
            let y = b.conv("c", x, Conv2d::new(4, 4, 3).padding(1).with_bias());
            let x = b.sum("s", x, y);
            b.activation("a", x, Activation::Relu)
        }),
        on_map("sum of a function", |b, x| {
            let y = b.activation("a", x, Activation::Sigmoid);
            b.sum("s", x, y)
        }),
        on_tokens("sum of tokens", |b, x| {
            let y = b.linear("l", x, 4);
            b.sum("s", y, x)
        }),
    ]
}

fn products() -> Vec<Case> {
    vec![
        on_map("square", |b, x| b.add("m", Op::Mul, &[x, x])),
        on_map("product", |b, x| {
            let y = b.activation("a", x, Activation::Sigmoid);
            b.add("m", Op::Mul, &[x, y])
        }),
        on_map("channels times their means", |b, x| {
            let y = b.global_avg_pool("p", x);
            b.add("m", Op::Mul, &[x, y])
        }),
        on_map("gate", |b, x| {
            let y = b.global_avg_pool("p", x);
            let y = b.linear("l", y, 4);
            let y = b.activation("a", y, Activation::Sigmoid);
            b.add("m", Op::Mul, &[x, y])
        }),
    ]
}

fn joins() -> Vec<Case> {
    vec![
        on_map("joined channels", |b, x| {
            let y = b.activation("a", x, Activation::Tanh);
            let z = b.conv("c", x, Conv2d::new(4, 3, 1));
            b.add("j", Op::Concat, &[x, y, x, z])
        }),
        on_map("branches", |b, x| {
            let y = b.conv("y", x, Conv2d::new(4, 3, 1));
            let y = b.batch_norm("ybn", y, 1e-3);
            let y = b.activation("ya", y, Activation::Relu);
            let z = b.avg_pool("p", x, Pool2d::new(3, 1, 1));
            let z = b.conv("z", z, Conv2d::new(4, 3, 3).padding(1));
            let x = b.sum("s", y, z);
            let x = b.add("j", Op::Concat, &[x, y]);
            b.add("d", Op::Slice { start: 1, len: 4 }, &[x])
        }),
        on_tokens("joined tokens", |b, x| {
            let y = b.add("soft", Op::Softmax, &[x]);
            b.add("j", Op::Concat, &[x, y])
        }),
    ]
}

fn stochastic_depths() -> Vec<Case> {
    vec![
        on_map("stochastic depth", |b, x| {
            let y = b.conv("y", x, Conv2d::new(4, 4, 1));
            let y = b.add("d", Op::DropPath { p: 0.4 }, &[y]);
            b.sum("s", x, y)
        }),
        on_map("stochastic depth of all", |b, x| b.add("d", Op::DropPath { p: 0.3 }, &[x])),
    ]
}

fn slices() -> Vec<Case> {
    vec![
        on_map("some channels", |b, x| b.add("s", Op::Slice { start: 1, len: 2 }, &[x])),
        on_tokens("some tokens", |b, x| b.add("s", Op::Slice { start: 2, len: 6 }, &[x])),
        on_map("some features", |b, x| {
            let x = b.global_avg_pool("p", x);
            b.add("s", Op::Slice { start: 1, len: 3 }, &[x])
        }),
    ]
}

fn attentions() -> Vec<Case> {
    let attention = |heads: usize| {
        on_map(&format!("attention, heads: {heads}"), |b, x| {
            let x = b.conv("c", x, Conv2d::new(4, 8, 3).stride(2));
            let x = b.add("t", Op::ToTokens, &[x]);
            let y = b.linear("qkv", x, 24);
            b.add("a", Op::Attention { heads }, &[y])
        })
    };
    let block = on_map("transformer block", |b, x| {
        let x = b.conv("c", x, Conv2d::new(4, 8, 3).stride(2));
        let x = b.add("t", Op::ToTokens, &[x]);
        let x = b.add("cls", Op::PrependToken, &[x]);
        let x = b.add("pos", Op::AddPosition, &[x]);
        let y = b.layer_norm("ln", x, 1e-6);
        let y = b.linear("qkv", y, 24);
        let y = b.add("a", Op::Attention { heads: 2 }, &[y]);
        let y = b.linear("proj", y, 8);
        let y = b.add("drop", Op::DropPath { p: 0.0 }, &[y]);
        let x = b.sum("s", x, y);
        let y = b.add("soft", Op::Softmax, &[x]);
        let x = b.add("c2", Op::Concat, &[x, y]);
        let x = b.add("some", Op::Slice { start: 1, len: 6 }, &[x]);
        let x = b.add("map", Op::ToMap { size: [2, 3] }, &[x]);
        let x = b.add("again", Op::ToTokens, &[x]);
        b.add("select", Op::SelectToken { index: 0 }, &[x])
    });
    vec![attention(1), attention(2), attention(4), block]
}

#[test]
fn cases_have_names_of_their_own() {
    let cases: Vec<Case> = ops().into_iter().chain(crate::networks::blocks()).chain(crate::networks::zoo()).collect();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.graph.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
}
