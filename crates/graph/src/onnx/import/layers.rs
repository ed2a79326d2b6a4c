//! Operators with weights: convolutions, linear layers, norms.

use super::constant::Dim;
use super::draft::Fit;
use super::source::Operator;
use super::translate::{Translator, Value};
use super::view::View;
use crate::op::{BatchNorm, Conv2d, LayerNorm, Linear, Op, Padding};
use crate::tensor::Tensor;

/// The window of a convolution or pooling.
pub(super) struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: Padding,
}

/// Two numbers of an attribute.
fn pair(values: Option<&[i64]>, what: &str, default: [usize; 2]) -> Fit<[usize; 2]> {
    match values {
        None | Some([]) => Ok(default),
        Some(&[a, b]) => match (usize::try_from(a), usize::try_from(b)) {
            (Ok(a), Ok(b)) => Ok([a, b]),
            _ => Err(format!("{what} of {a} and {b}")),
        },
        Some(other) => Err(format!("expected {what} for height and width, got {other:?}")),
    }
}

/// Reads the attributes of a window over a map of `size`.
pub(super) fn window(o: &Operator, kernel: Option<[usize; 2]>, size: [usize; 2]) -> Fit<Window> {
    let stated = match o.ints("kernel_shape") {
        Some(values) => Some(pair(Some(values), "kernels", [1; 2])?),
        None => None,
    };
    let kernel = kernel.or(stated).ok_or("it states no kernel")?;
    let stride = pair(o.ints("strides"), "strides", [1; 2])?;
    let dilation = pair(o.ints("dilations"), "dilations", [1; 2])?;
    if stride.contains(&0) || dilation.contains(&0) || kernel.contains(&0) {
        return Err("a kernel, stride or dilation of 0".into());
    }
    if kernel.iter().chain(&stride).chain(&dilation).any(|&v| v > 1 << 24) {
        return Err("a window beyond reason".into());
    }
    let reach = [0, 1].map(|i| (kernel[i] - 1).saturating_mul(dilation[i]).saturating_add(1));
    let padding = match o.string("auto_pad").unwrap_or("NOTSET") {
        "NOTSET" => pads(o.ints("pads").unwrap_or(&[]))?,
        "VALID" => Padding::default(),
        upper_or_lower @ ("SAME_UPPER" | "SAME_LOWER") => {
            let p = Padding::tensorflow_same(size, reach, stride);
            match upper_or_lower {
                "SAME_UPPER" => p,
                _ => Padding { top: p.bottom, bottom: p.top, left: p.right, right: p.left },
            }
        }
        other => return Err(format!("auto_pad {other:?}")),
    };
    Ok(Window { kernel, stride, dilation, padding })
}

/// `[top, left, bottom, right]`.
fn pads(values: &[i64]) -> Fit<Padding> {
    match values {
        [] => Ok(Padding::default()),
        &[t, l, b, r] => {
            let side = |v: i64| usize::try_from(v).ok().filter(|&v| v <= 1 << 24).ok_or_else(|| format!("padding of {v}"));
            Ok(Padding { top: side(t)?, left: side(l)?, bottom: side(b)?, right: side(r)? })
        }
        other => Err(format!("expected padding on four sides, got {other:?}")),
    }
}

pub(super) fn joined(a: Padding, b: Padding) -> Padding {
    Padding { top: a.top + b.top, left: a.left + b.left, bottom: a.bottom + b.bottom, right: a.right + b.right }
}

impl Translator<'_> {
    pub fn conv(&mut self, o: &Operator) -> Fit<Value> {
        let (dims, weight) = self.weights(o, 1, "kernels")?;
        let &[out, per_group, kh, kw] = dims.as_slice() else {
            return Err(format!(
                "expected kernels [out, in, height, width], got {dims:?}; only convolutions over height and width are covered"
            ));
        };
        let bias = match o.input(2) {
            Some(_) => Some(self.weights(o, 2, "a bias")?.1),
            None => None,
        };
        let groups = o.int("group").unwrap_or(1);
        let groups = usize::try_from(groups).ok().filter(|&g| g > 0 && g <= 1 << 24).ok_or_else(|| format!("{groups} groups"))?;
        let x = self.view(o, 0)?;
        let extra = x.pad;
        let x = View { pad: Padding::default(), ..x };
        let map = self.drafts.as_map(&x)?;
        let size = map.as_ref().map_or([1, 1], |m| [m.size(2) + extra.top + extra.bottom, m.size(3) + extra.left + extra.right]);
        let w = window(o, Some([kh, kw]), size)?;
        let padding = joined(extra, w.padding);
        let name = self.weighted_name(o, &[1, 2]);
        let Some(map) = map else { return self.conv_of_vector(name, &x, (dims, weight, bias), groups, &Window { padding, ..w }) };
        let conv = Conv2d {
            in_channels: per_group.checked_mul(groups).ok_or("too many channels")?,
            out_channels: out,
            kernel: w.kernel,
            stride: w.stride,
            padding,
            dilation: w.dilation,
            groups,
            bias: bias.is_some(),
        };
        let mut weights = vec![Tensor { shape: dims, data: weight }];
        weights.extend(bias.map(|data| Tensor { shape: vec![data.len()], data }));
        Ok(Value::Active(self.add_node(name, Op::Conv2d(conv), vec![map.node], weights)?))
    }

    /// A convolution of one pixel is a linear layer: of its kernel, one tap meets the pixel.
    fn conv_of_vector(
        &mut self,
        name: (String, super::draft::NameRank),
        x: &View,
        (dims, weight, bias): (Vec<usize>, Vec<f32>, Option<Vec<f32>>),
        groups: usize,
        w: &Window,
    ) -> Fit<Value> {
        let tap = |before: usize, dilation: usize| before.is_multiple_of(dilation).then_some(before / dilation);
        let (row, column) = (tap(w.padding.top, w.dilation[0]), tap(w.padding.left, w.dilation[1]));
        let (Some(row), Some(column)) = (row.filter(|&r| r < dims[2]), column.filter(|&c| c < dims[3])) else {
            return Err("a convolution of one pixel that its kernel does not meet".into());
        };
        let after = [w.padding.bottom, w.padding.right];
        if groups != 1 || (0..2).any(|i| after[i] + [row, column][i] * w.dilation[i] + 1 > (dims[2 + i] - 1) * w.dilation[i] + w.stride[i])
        {
            return Err("a grouped or enlarging convolution of one pixel".into());
        }
        let taps = dims[2] * dims[3];
        let data = weight.iter().skip(row * dims[3] + column).step_by(taps).copied().collect();
        let weight = Tensor { shape: vec![dims[0], dims[1]], data };
        self.linear(name, x, weight, bias, |x, node, out| {
            let mut view = View::of(node, &[out]);
            view.dims.resize(x.rank(), Vec::new());
            view
        })
    }

    pub fn gemm(&mut self, o: &Operator) -> Fit<Value> {
        if o.int("transA").unwrap_or(0) != 0 {
            return Err("a transposed first input".into());
        }
        let weight = self.matrix(o, o.int("transB").unwrap_or(0) != 0, o.float("alpha").unwrap_or(1.0))?;
        let bias = match o.input(2) {
            Some(_) => {
                let beta = o.float("beta").unwrap_or(1.0);
                let bias = self.weights(o, 2, "a bias")?.1;
                let bias = if bias.len() == 1 { vec![bias[0]; weight.shape[0]] } else { bias };
                Some(bias.into_iter().map(|b| b * beta).collect())
            }
            None => None,
        };
        let x = self.view(o, 0)?;
        let name = self.weighted_name(o, &[1, 2]);
        self.linear_over_last(name, &x, weight, bias)
    }

    pub fn matmul(&mut self, o: &Operator) -> Fit<Value> {
        match (self.value(o, 0)?, self.value(o, 1)?) {
            (Value::Active(_), Value::Constant(_)) => {
                let weight = self.matrix(o, false, 1.0)?;
                let x = self.view(o, 0)?;
                let name = self.weighted_name(o, &[1]);
                self.linear_over_last(name, &x, weight, None)
            }
            _ => self.attention_product(o),
        }
    }

    /// Input 1 as `[out, in]`, times `alpha`.
    fn matrix(&self, o: &Operator, transposed: bool, alpha: f32) -> Fit<Tensor> {
        let (dims, mut data) = self.weights(o, 1, "a matrix of weights")?;
        let inner: Vec<usize> = dims.iter().copied().skip_while(|&d| d == 1 && dims.len() > 2).collect();
        let &[a, b] = (if inner.len() == 2 { inner.as_slice() } else { dims.as_slice() }) else {
            return Err(format!("expected a matrix, got {dims:?}"));
        };
        let (rows, columns) = if transposed { (a, b) } else { (b, a) };
        if !transposed {
            data = (0..rows * columns).map(|i| data[i % columns.max(1) * rows + i / columns.max(1)]).collect();
        }
        data.iter_mut().for_each(|v| *v *= alpha);
        Ok(Tensor { shape: vec![rows, columns], data })
    }

    fn linear_over_last(&mut self, name: (String, super::draft::NameRank), x: &View, weight: Tensor, bias: Option<Vec<f32>>) -> Fit<Value> {
        let rows = self.drafts.as_rows(x)?;
        let rank = self.drafts.shape(rows.node).len();
        self.linear(name, &rows, weight, bias, |x, node, out| x.with_axis(node, rank - 1, x.rank() - 1, out))
    }

    fn linear(
        &mut self,
        name: (String, super::draft::NameRank),
        x: &View,
        weight: Tensor,
        bias: Option<Vec<f32>>,
        view: impl FnOnce(&View, usize, usize) -> View,
    ) -> Fit<Value> {
        let x = self.drafts.settle(x)?;
        let (out_features, in_features) = (weight.shape[0], weight.shape[1]);
        let op = Op::Linear(Linear { in_features, out_features, bias: bias.is_some() });
        let mut weights = vec![weight];
        weights.extend(bias.map(|data| Tensor { shape: vec![data.len()], data }));
        let node = self.drafts.add(name, op, vec![x.node], weights)?;
        Ok(Value::Active(view(&x, node, out_features)))
    }

    pub fn batch_norm(&mut self, o: &Operator) -> Fit<Value> {
        let mut weights = Vec::with_capacity(4);
        for (index, what) in [(1, "a scale"), (2, "an offset"), (3, "a mean"), (4, "a variance")] {
            let (dims, data) = self.weights(o, index, what)?;
            weights.push(Tensor { shape: dims, data });
        }
        let x = self.view(o, 0)?;
        let x = self.drafts.settle(&x)?;
        let x = match x.rank() {
            4 => self.drafts.as_map(&x)?.unwrap_or(x),
            2 => self.drafts.as_vector(&x)?,
            3 if !x.is_axis(1, 0) => match self.drafts.as_rows(&x) {
                // [N, T, D]: tokens are the channels.
                Ok(rows) if rows.is_axis(1, 0) => rows,
                // [N, D, T]: a map of one column.
                _ => self.drafts.as_map(&x.unsqueeze(3))?.and_then(|m| m.squeeze(3)).ok_or("expected channels second")?,
            },
            _ => x,
        };
        let eps = o.float("epsilon").unwrap_or(1e-5);
        let momentum = 1.0 - o.float("momentum").unwrap_or(0.9);
        let op = Op::BatchNorm(BatchNorm { channels: weights[0].data.len(), eps, momentum: momentum.clamp(0.0, 1.0) });
        let name = self.weighted_name(o, &[1, 2]);
        let node = self.drafts.add(name, op, vec![x.node], weights)?;
        Ok(Value::Active(x.over(node)))
    }

    pub fn layer_norm(&mut self, o: &Operator) -> Fit<Value> {
        let x = self.view(o, 0)?;
        if self.axis(o.int("axis").unwrap_or(-1), x.rank())? + 1 != x.rank() {
            return Err(format!("a norm over more than the last dimension of {}", x.describe()));
        }
        let x = self.drafts.as_rows(&x)?;
        let features = x.size(x.rank() - 1);
        let mut weights = Vec::with_capacity(2);
        for (index, what, default) in [(1, "a scale", 1.0), (2, "an offset", 0.0)] {
            let data = match o.input(index) {
                Some(_) => self.weights(o, index, what)?.1,
                None => vec![default; features],
            };
            weights.push(Tensor { shape: vec![data.len()], data });
        }
        let op = Op::LayerNorm(LayerNorm { features, eps: o.float("epsilon").unwrap_or(1e-5) });
        let name = self.weighted_name(o, &[1, 2]);
        let node = self.drafts.add(name, op, vec![x.node], weights)?;
        Ok(Value::Active(x.over(node)))
    }

    /// Whether the file states `dim` for the batch.
    pub fn is_batch(&self, dim: Dim) -> bool {
        match dim {
            Dim::Batch(size) => size == 1,
            Dim::Known(size) => self.batch.is_some_and(|b| b as i64 == size),
        }
    }
}
