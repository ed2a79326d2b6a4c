//! The operations as nodes of Burn's autodiff graph.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Flex};
use burn::tensor::{Tensor, TensorData};
use kernels::train::{self, Convolution};
use kernels::{Clamp, ConvShape, Epilogue};

use super::norm::Norm;
use super::shape::read;

/// `[n, oh, ow, channels]`.
fn written(s: &ConvShape, channels: usize) -> [usize; 4] {
    [s.batch, s.output[0], s.output[1], channels]
}

/// A tensor of the CPU back end with its place in the autodiff graph.
type Lifted = FloatTensor<Autodiff<Flex>>;

fn lift<const D: usize>(t: Tensor<D>) -> Lifted {
    let lifted = if t.is_autodiff() {
        t.try_into_primitive::<Autodiff<Flex>>()
    } else {
        t.try_into_primitive::<Flex>().map(Autodiff::<Flex>::from_inner)
    };
    match lifted {
        Ok(t) => t,
        Err(e) => unreachable!("the operations of this module are called on the CPU back end alone: {e:?}"),
    }
}

fn lower<const D: usize>(t: Lifted) -> Tensor<D> {
    Tensor::from_primitive::<Autodiff<Flex>>(t)
}

fn tensor(data: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(data, shape.to_vec()))
}

/// Values of a contiguous tensor.
fn values(t: &FlexTensor) -> &[f32] {
    t.as_slice::<f32>().unwrap_or_default()
}

/// The values without gaps.
fn plain(t: Lifted) -> FlexTensor {
    t.into_parts().0.to_contiguous()
}

/// Reads a tensor's values in place.
pub(super) fn with_values<const D: usize, T>(t: &Tensor<D>, f: impl FnOnce(&[f32]) -> T) -> T {
    f(values(&plain(lift(t.clone()))))
}

#[derive(Debug)]
struct ConvBackward;

impl Backward<Flex, 3> for ConvBackward {
    type State = (FlexTensor, FlexTensor, Convolution);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, weight_node, bias_node] = ops.parents;
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (x, weight, conv) = ops.state;
        let dy = values(&dy);
        if let Some(node) = x_node {
            let mut gradient = vec![0.0; conv.input_len()];
            conv.input_gradient(&mut gradient, dy, values(&weight), false);
            grads.register::<Flex>(node.id, tensor(gradient, &read(conv.shape())));
        }
        if let Some(node) = weight_node {
            let len = conv.weight_len();
            let mut gradient = vec![0.0; len];
            conv.weight_gradient(&mut gradient, dy, values(&x));
            grads.register::<Flex>(node.id, tensor(gradient, &[len]));
        }
        if let Some(node) = bias_node {
            let mut sums = vec![0.0; conv.outputs()];
            train::column_sums(&mut sums, dy);
            grads.register::<Flex>(node.id, tensor(sums, &[conv.outputs()]));
        }
    }
}

/// A convolution.
pub(super) fn conv(x: Tensor<4>, weight: Tensor<1>, bias: Option<Tensor<1>>, conv: Convolution) -> Tensor<4> {
    let (x, weight) = (lift(x), lift(weight));
    let has_bias = bias.is_some();
    let bias = match bias {
        Some(bias) => lift(bias),
        None => Autodiff::<Flex>::from_inner(tensor(vec![0.0], &[1])),
    };
    let prepared = ConvBackward.prepare::<NoCheckpointing>([x.node(), weight.node(), bias.node()]).compute_bound().stateful();
    let (x, weight, bias) = (plain(x), plain(weight), plain(bias));
    let mut y = vec![0.0; conv.output_len()];
    let epilogue = Epilogue { bias: has_bias.then(|| values(&bias)), ..Epilogue::default() };
    conv.forward(&mut y, values(&x), values(&weight), &epilogue);
    let y = tensor(y, &written(conv.shape(), conv.outputs()));
    lower(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish((x, weight, conv), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    })
}

#[derive(Debug)]
struct NormBackward;

impl Backward<Flex, 3> for NormBackward {
    type State = (FlexTensor, Arc<Norm>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, gamma_node, beta_node] = ops.parents;
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (x, norm) = ops.state;
        let channels = norm.gamma.len();
        let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; values(&x).len()], vec![0.0; channels], vec![0.0; channels]);
        norm.lent().backward(&mut dx, &mut dgamma, &mut dbeta, values(&x), values(&dy));
        if let Some(node) = x_node {
            grads.register::<Flex>(node.id, tensor(dx, &dy.layout().shape().to_vec()));
        }
        if let Some(node) = gamma_node {
            grads.register::<Flex>(node.id, tensor(dgamma, &[channels]));
        }
        if let Some(node) = beta_node {
            grads.register::<Flex>(node.id, tensor(dbeta, &[channels]));
        }
    }
}

/// `clamp((x - mean) * inverse * gamma + beta)`; where `by_batch`, mean and inverse are those of `x`, and gradients flow through them.
pub(super) fn norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    mean: Vec<f32>,
    inverse: Vec<f32>,
    clamp: Option<Clamp>,
    by_batch: bool,
) -> Tensor<4> {
    let shape = x.dims();
    let (x, gamma, beta) = (lift(x), lift(gamma), lift(beta));
    let prepared = NormBackward.prepare::<NoCheckpointing>([x.node(), gamma.node(), beta.node()]).compute_bound().stateful();
    let flat = |t: Lifted| values(&plain(t)).to_vec();
    let x = plain(x);
    let norm = Norm { mean, inverse, gamma: flat(gamma), beta: flat(beta), clamp, by_batch };
    let mut y = vec![0.0; values(&x).len()];
    norm.lent().forward(&mut y, values(&x), None);
    let y = tensor(y, &shape);
    lower(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish((x, Arc::new(norm)), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    })
}

/// The gradient by the one input of an op, from the gradient by its output.
fn one(ops: Ops<(), 1>, grads: &mut Gradients, shape: &[usize], f: impl FnOnce(&mut [f32], &[f32])) {
    let [node] = ops.parents;
    let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
    if let Some(node) = node {
        let mut dx = vec![0.0; shape.iter().product()];
        f(&mut dx, values(&dy));
        grads.register::<Flex>(node.id, tensor(dx, shape));
    }
}

/// Splits off the state, so that [`one`] takes any op.
fn stateless<S>(ops: Ops<S, 1>) -> (Ops<(), 1>, S) {
    (Ops::new(ops.parents, ops.node, ()), ops.state)
}

#[derive(Debug)]
struct ClampBackward;

impl Backward<Flex, 1> for ClampBackward {
    type State = (FlexTensor, Clamp);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (ops, (y, clamp)) = stateless(ops);
        let shape = y.layout().shape().to_vec();
        one(ops, grads, &shape, |dx, dy| train::clamp_gradient(dx, values(&y), dy, clamp));
    }
}

/// A clamp.
pub(super) fn clamp<const D: usize>(x: Tensor<D>, clamp: Clamp) -> Tensor<D> {
    let shape = x.dims();
    let x = lift(x);
    let prepared = ClampBackward.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful();
    let x = plain(x);
    let mut y = vec![0.0; values(&x).len()];
    train::clamp(&mut y, values(&x), clamp);
    let y = tensor(y, &shape);
    lower(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish((y.clone(), clamp), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    })
}

#[derive(Debug)]
struct MaxPoolBackward;

impl Backward<Flex, 1> for MaxPoolBackward {
    type State = (Arc<Vec<u32>>, ConvShape);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (ops, (argmax, s)) = stateless(ops);
        one(ops, grads, &read(&s), |dx, dy| train::max_pool_gradient(dx, dy, &argmax, &s));
    }
}

/// Maxima of windows.
pub(super) fn max_pool(x: Tensor<4>, s: ConvShape) -> Tensor<4> {
    let x = lift(x);
    let prepared = MaxPoolBackward.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful();
    let shape = written(&s, s.channels);
    let mut y = vec![0.0; shape.iter().product()];
    let mut argmax = vec![0; y.len()];
    kernels::max_pool_with_argmax(&mut y, &mut argmax, values(&plain(x)), &s);
    let y = tensor(y, &shape);
    lower(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish((Arc::new(argmax), s), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    })
}

#[derive(Debug)]
struct GlobalAverageBackward;

impl Backward<Flex, 1> for GlobalAverageBackward {
    type State = [usize; 4];

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (ops, shape) = stateless(ops);
        let [_, h, w, c] = shape;
        one(ops, grads, &shape, |dx, dy| train::global_average_gradient(dx, dy, h * w, c));
    }
}

/// Means of whole maps.
pub(super) fn global_avg_pool(x: Tensor<4>) -> Tensor<2> {
    let shape = x.dims();
    let [n, h, w, c] = shape;
    let x = lift(x);
    let prepared = GlobalAverageBackward.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful();
    let mut y = vec![0.0; n * c];
    kernels::global_average(&mut y, values(&plain(x)), h * w, c);
    let y = tensor(y, &[n, c]);
    lower(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish(shape, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    })
}
