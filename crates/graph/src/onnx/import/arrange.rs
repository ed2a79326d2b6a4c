//! Operators that move values about: most become views, some nodes.

use super::constant::{Constant, Dim, MAX_RANK};
use super::draft::{Fit, NameRank};
use super::fold::{self, slice_range};
use super::source::Operator;
use super::translate::{Translator, Value};
use super::view::{Factor, View};
use crate::op::{Op, Padding};
use crate::tensor::Tensor;

impl Translator<'_> {
    /// What a weight that is a table or token itself is called.
    pub fn parameter_name(&mut self, o: &Operator, input: usize) -> (String, NameRank) {
        let name = o.input(input).and_then(|id| super::names::of_parameter(self.origin(id)));
        match name.filter(|name| !self.taken.contains(name)) {
            Some(name) => {
                self.taken.insert(name.clone());
                (name, NameRank::Module)
            }
            None => self.plain_name(o),
        }
    }

    pub fn shape(&mut self, o: &Operator) -> Fit<Value> {
        if matches!(self.value(o, 0)?, Value::Active(view) if view.pad != Padding::default()) {
            return Err("the shape of a padded value".into());
        }
        let dims = self.dims(self.value(o, 0)?);
        let rank = dims.len() as i64;
        let wrap = |v: i64| if v < 0 { v.saturating_add(rank) } else { v }.clamp(0, rank) as usize;
        let (start, end) = (wrap(o.int("start").unwrap_or(0)), wrap(o.int("end").unwrap_or(rank)));
        let part = dims.get(start..end).unwrap_or_default().to_vec();
        Ok(Value::Constant(Constant::ints(vec![part.len()], part)))
    }

    pub fn flatten(&mut self, o: &Operator) -> Fit<Value> {
        let x = self.unpadded(o)?;
        let axis = self.axis(o.int("axis").unwrap_or(1), x.rank() + 1)?;
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for (at, dim) in x.dims.iter().enumerate() {
            if at < axis { first.extend(dim) } else { second.extend(dim) }
        }
        Ok(Value::Active(View { dims: vec![first, second], ..x }))
    }

    /// Input 0, which must not wait for zeros around it.
    fn unpadded(&self, o: &Operator) -> Fit<View> {
        let x = self.view(o, 0)?;
        if x.pad == Padding::default() { Ok(x) } else { Err("padding before an operator that does not take it".into()) }
    }

    pub fn reshape(&mut self, o: &Operator) -> Fit<Value> {
        let target = match o.ints("shape") {
            Some(shape) => shape.iter().map(|&d| Dim::Known(d)).collect(),
            None => {
                let constant = self.constant(o, 1).ok_or("a shape that is computed from values")?;
                constant.as_dims().ok_or("a shape of floats")?.to_vec()
            }
        };
        let allow_zero = o.int("allowzero").unwrap_or(0) != 0;
        if let Value::Scores(scores) = self.value(o, 0)? {
            let view = self.reshaped(&scores.view, &target, allow_zero)?;
            return Ok(Value::Scores(super::attention::Scores { view, ..scores.clone() }));
        }
        let x = self.unpadded(o)?;
        Ok(Value::Active(self.reshaped(&x, &target, allow_zero)?))
    }

    fn reshaped(&self, x: &View, target: &[Dim], allow_zero: bool) -> Fit<View> {
        if target.len() > MAX_RANK {
            return Err(format!("{} dimensions", target.len()));
        }
        let impossible = || format!("{} as {target:?}", x.describe());
        let mut dims = Vec::with_capacity(target.len());
        for (at, &dim) in target.iter().enumerate() {
            dims.push(match dim {
                Dim::Known(0) if !allow_zero && at < x.rank() => x.dim(at),
                dim => dim,
            });
        }
        let volume = x.sequence().iter().try_fold(1i64, |n, &a| n.checked_mul(x.atoms[a].size as i64)).ok_or_else(impossible)?;
        if let Some(free) = dims.iter().position(|&d| d == Dim::Known(-1)) {
            let others = dims.iter().enumerate().filter(|&(at, _)| at != free);
            let product = others.map(|(_, &d)| d).try_fold(Dim::Known(1), Dim::mul).ok_or_else(impossible)?;
            dims[free] = match (product, self.batch) {
                (Dim::Batch(p), _) => Dim::Known(volume).div(Dim::Known(p)),
                (Dim::Known(p), None) => Dim::Batch(volume).div(Dim::Known(p)).filter(|d| d.mul(Dim::Known(p)) == Some(Dim::Batch(volume))),
                (Dim::Known(p), Some(batch)) => volume.checked_mul(batch as i64).and_then(|v| Dim::Known(v).div(Dim::Known(p))),
            }
            .ok_or_else(impossible)?;
        }
        x.reshape(&dims, self.batch).ok_or_else(impossible)
    }

    pub fn transpose(&mut self, o: &Operator) -> Fit<Value> {
        let x = match self.value(o, 0)? {
            Value::Scores(scores) => scores.view.clone(),
            // Padding is kept by axes of the node, wherever these stand.
            _ => self.view(o, 0)?,
        };
        let perm = match o.ints("perm") {
            Some(perm) => perm.iter().map(|&p| self.axis(p, x.rank())).collect::<Fit<Vec<usize>>>()?,
            None => (0..x.rank()).rev().collect(),
        };
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..x.rank()) {
            return Err(format!("{perm:?} is no order of {}", x.describe()));
        }
        let view = x.transpose(&perm);
        Ok(match self.value(o, 0)? {
            Value::Scores(scores) => Value::Scores(super::attention::Scores { view, ..scores.clone() }),
            _ => Value::Active(view),
        })
    }

    pub fn squeeze(&mut self, o: &Operator) -> Fit<Value> {
        let mut x = self.unpadded(o)?;
        let axes = match self.ints(o, "axes", 1)? {
            Some(axes) => axes.iter().map(|&a| self.axis(a, x.rank())).collect::<Fit<Vec<usize>>>()?,
            None => (0..x.rank()).filter(|&d| x.dims[d].is_empty()).collect(),
        };
        let mut axes = axes;
        axes.sort_unstable();
        axes.dedup();
        for axis in axes.into_iter().rev() {
            x = x.squeeze(axis).ok_or_else(|| format!("dimension {axis} of {} is not 1", x.describe()))?;
        }
        Ok(Value::Active(x))
    }

    pub fn unsqueeze(&mut self, o: &Operator) -> Fit<Value> {
        let mut x = self.unpadded(o)?;
        let axes = self.ints(o, "axes", 1)?.ok_or("it names no dimensions")?;
        let rank = x.rank() + axes.len();
        if rank > MAX_RANK {
            return Err(format!("{rank} dimensions"));
        }
        let mut axes = axes.iter().map(|&a| self.axis(a, rank)).collect::<Fit<Vec<usize>>>()?;
        axes.sort_unstable();
        for axis in axes {
            x = x.unsqueeze(axis);
        }
        Ok(Value::Active(x))
    }

    /// A constant repeated for each image; anything else that is made larger is not covered.
    pub fn expand(&mut self, o: &Operator) -> Fit<Value> {
        let target = self.constant(o, 1).ok_or("a shape that is computed from values")?;
        let target = target.as_dims().ok_or("a shape of floats")?.to_vec();
        match self.value(o, 0)? {
            Value::Constant(constant) => {
                let Some((first, rest)) = target.split_first() else { return Err("a shape without dimensions".into()) };
                let inner: Option<Vec<usize>> = rest.iter().map(|d| d.known().and_then(|d| usize::try_from(d.abs()).ok())).collect();
                let inner = inner.ok_or("the batch size among the inner dimensions")?;
                if !self.is_batch(*first) && first.known().is_none_or(|d| d != 1 && d != -1) {
                    return Err(format!("a first dimension {first:?}; expected the batch"));
                }
                let dims = fold::broadcast(&constant.dims, &[&[1], inner.as_slice()].concat())?;
                if dims.first() != Some(&1) {
                    return Err(format!("a constant {:?} that differs from image to image", constant.dims));
                }
                Ok(Value::PerImage(fold::expand(constant, &dims)?))
            }
            Value::Active(view) => {
                let view = self.read(o, 0, view);
                let same = target.len() == view.rank()
                    && (0..view.rank()).all(|d| target[d] == view.dim(d) || matches!(target[d], Dim::Known(1 | -1)));
                if same { Ok(Value::Active(view)) } else { Err(format!("{} repeated to {target:?}", view.describe())) }
            }
            _ => Err("an expansion of attention scores".into()),
        }
    }

    pub fn concat(&mut self, o: &Operator) -> Fit<Value> {
        let axis = o.int("axis").unwrap_or(1);
        let mut tokens: Vec<(usize, Constant)> = Vec::new();
        let mut views = Vec::new();
        for index in 0..o.inputs.len() {
            match self.value(o, index)?.clone() {
                Value::Constant(c) | Value::PerImage(c) if views.is_empty() => tokens.push((index, c)),
                Value::Constant(_) | Value::PerImage(_) => return Err("a constant behind computed values; expected it in front".into()),
                Value::Active(view) => views.push(self.read(o, index, &view)),
                Value::Scores(_) | Value::Places(_) | Value::NotANumber => return Err("scores of an attention joined".into()),
            }
        }
        let Some(first) = views.first() else { return Err("constants joined that depend on the batch size".into()) };
        let axis = self.axis(axis, first.rank())?;
        let mut joined = match views.as_slice() {
            [only] => self.drafts.settle(only)?,
            _ => self.concat_views(o, views, axis)?,
        };
        for (input, token) in tokens.into_iter().rev() {
            joined = self.prepend(o, input, &joined, &token, axis)?;
        }
        Ok(Value::Active(joined))
    }

    fn concat_views(&mut self, o: &Operator, views: Vec<View>, axis: usize) -> Fit<View> {
        let mut parts = Vec::with_capacity(views.len());
        // Tokens of which some are still a map.
        let tokens = views.iter().all(|v| v.rank() == 3) && views.iter().any(|v| self.drafts.shape(v.node).len() == 2);
        let rank = views.iter().map(|v| self.drafts.shape(v.node).len()).max().unwrap_or(1);
        let rank = if tokens { 2 } else { rank };
        for view in &views {
            let mut view = self.drafts.settle(view)?;
            if tokens && self.drafts.shape(view.node).len() == 3 {
                view = self.drafts.as_rows(&view)?;
            }
            let shape = self.drafts.shape(view.node).to_vec();
            if rank == 3 && shape.len() == 2 {
                view = self.drafts.as_map(&view)?.unwrap_or(view);
            } else if rank == 2 && view.is_axis(axis, 1) {
                // Features of tokens side by side are channels of a map of one column.
                view = self.drafts.tokens_to_map(&view, [shape[0], 1])?;
            } else if shape.len() < rank {
                return Err(format!("{} joined with values of other dimensions", view.describe()));
            }
            parts.push(view);
        }
        let total: usize = parts.iter().map(|v| v.size(axis)).sum();
        for part in &parts {
            let (mut a, mut b) = (part.signature(), parts[0].signature());
            (a[axis], b[axis]) = (Vec::new(), Vec::new());
            let whole = part.is_axis(axis, 0) || self.drafts.shape(part.node)[0] == 1 && part.dims[axis].is_empty();
            if a != b || !whole {
                return Err(format!("{} joined along dimension {axis}; expected channels, tokens or features", part.describe()));
            }
        }
        let name = self.plain_name(o);
        let node = self.drafts.add(name, Op::Concat, parts.iter().map(|v| v.node).collect(), Vec::new())?;
        Ok(parts[0].with_axis(node, 0, axis, total))
    }

    /// Learned tokens in front of the others, the last of them first.
    fn prepend(&mut self, o: &Operator, input: usize, x: &View, token: &Constant, axis: usize) -> Fit<View> {
        let mut x = self.drafts.as_rows(x)?;
        let shape = self.drafts.shape(x.node).to_vec();
        let rows = self.constant_rows(token).filter(|(_, width)| shape.len() == 2 && *width == shape[1]);
        let (Some((data, width)), true) = (rows, x.is_axis(axis, 0) && x.rank() == 3) else {
            return Err(format!("a constant {:?} in front of {}; expected a token in front of tokens", token.dims, x.describe()));
        };
        for row in data.chunks_exact(width).rev() {
            let name = self.parameter_name(o, input);
            let weight = Tensor { shape: vec![1, 1, width], data: row.to_vec() };
            let node = self.drafts.add(name, Op::PrependToken, vec![x.node], vec![weight])?;
            let tokens = self.drafts.shape(node)[0];
            x = x.with_axis(node, 0, axis, tokens);
        }
        Ok(x)
    }

    /// A constant `[1, T, D]` as rows, also where a stated batch repeats it.
    fn constant_rows(&self, c: &Constant) -> Option<(Vec<f32>, usize)> {
        let data = c.as_floats()?;
        let &[images, tokens, width] = c.dims.as_slice() else { return None };
        let one = tokens * width;
        let same = images >= 1 && one > 0 && data.chunks_exact(one).all(|image| image == &data[..one]);
        same.then(|| (data[..one].to_vec(), width))
    }

    pub fn split(&mut self, o: &Operator) -> Fit<Vec<Value>> {
        let x = self.unpadded(o)?;
        let axis = self.axis(o.int("axis").unwrap_or(0), x.rank())?;
        let size = x.size(axis);
        let parts = o.outputs.len().max(1);
        let lengths = match self.ints(o, "split", 1)? {
            Some(list) => list.iter().map(|&l| usize::try_from(l).map_err(|_| format!("a part of {l}"))).collect::<Fit<Vec<usize>>>()?,
            None => {
                let each = size.div_ceil(parts);
                (0..parts).map(|i| each.min(size.saturating_sub(i * each))).collect()
            }
        };
        let mut start = 0;
        let mut values = Vec::with_capacity(lengths.len());
        for (index, len) in lengths.into_iter().enumerate() {
            values.push(Value::Active(self.range(o, &x, axis, start, len, index)?));
            start = start.saturating_add(len);
        }
        Ok(values)
    }

    pub fn slice(&mut self, o: &Operator) -> Fit<Value> {
        let mut x = self.unpadded(o)?;
        let starts = self.ints(o, "starts", 1)?.ok_or("it names no starts")?;
        let ends = self.ints(o, "ends", 2)?.ok_or("it names no ends")?;
        let axes = self.ints(o, "axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.ints(o, "steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
        for (i, &axis) in axes.iter().enumerate() {
            let axis = self.axis(axis, x.rank())?;
            let (Some(&start), Some(&end)) = (starts.get(i), ends.get(i)) else {
                return Err("starts, ends and axes of different numbers".into());
            };
            if x.dims[axis].contains(&Factor::Batch) {
                if start == 0 && end >= i64::from(i32::MAX) {
                    continue;
                }
                return Err("a slice of the batch".into());
            }
            if steps.get(i) != Some(&1) {
                return Err(format!("a step of {:?}", steps.get(i)));
            }
            let (from, count) = slice_range(start, end, 1, x.size(axis))?;
            x = self.range(o, &x, axis, from, count, i)?;
        }
        Ok(Value::Active(x))
    }

    /// `start..start + len` of a dimension.
    fn range(&mut self, o: &Operator, x: &View, axis: usize, start: usize, len: usize, index: usize) -> Fit<View> {
        let size = x.size(axis);
        if len > size || start > size - len {
            return Err(format!("{len} from {start} of dimension {axis} of {}", x.describe()));
        }
        if start == 0 && len == size {
            return Ok(x.clone());
        }
        let first = (x.is_axis(axis, 0) && x.sequence().len() == x.atoms.len()).then_some(self.drafts.shape(x.node).len());
        // Channels of maps, features of vectors, tokens: a node of its own, one token apart.
        if let Some(rank) = first
            && !(rank == 2 && len == 1)
        {
            let x = self.drafts.settle(x)?;
            let (name, rank) = self.plain_name(o);
            let name = if index == 0 { name } else { format!("{name}.{index}") };
            let node = self.drafts.add((name, rank), Op::Slice { start, len }, vec![x.node], Vec::new())?;
            return Ok(x.with_axis(node, 0, axis, len));
        }
        if let Some(part) = x.part(axis, start, len) {
            return Ok(part);
        }
        // Tokens that are still a map.
        match self.drafts.as_rows(x) {
            Ok(rows) if rows.node != x.node => self.range(o, &rows, axis, start, len, index),
            _ => Err(format!("{start}..{} of dimension {axis} of {}", start + len, x.describe())),
        }
    }

    pub fn gather(&mut self, o: &Operator) -> Fit<Value> {
        let x = self.unpadded(o)?;
        let axis = self.axis(o.int("axis").unwrap_or(0), x.rank())?;
        let indices = self.constant(o, 1).ok_or("indices that are computed")?;
        // Tokens that are still a map.
        let tokens = x.rank() == 3 && self.drafts.shape(x.node).len() == 3;
        let rows = if tokens { self.drafts.as_rows(&x).ok().filter(|rows| rows.is_axis(axis, 0)) } else { None };
        let x = rows.unwrap_or(x);
        let size = x.size(axis) as i64;
        let Some(&[index]) = indices.as_ints().as_deref() else { return Err("more than one index".into()) };
        let index =
            usize::try_from(if index < 0 { index.saturating_add(size) } else { index }).map_err(|_| format!("index {index} of {size}"))?;
        let wrong = || format!("index {index} of dimension {axis} of {}", x.describe());
        let one = x.part(axis, index, 1).ok_or_else(wrong)?;
        match indices.dims.len() {
            0 => Ok(Value::Active(one.squeeze(axis).ok_or_else(wrong)?)),
            1 => Ok(Value::Active(one)),
            _ => Err(format!("indices {:?}", indices.dims)),
        }
    }

    /// Zeros around height and width, for the convolution or pooling that follows.
    pub fn pad(&mut self, o: &Operator) -> Fit<Value> {
        let x = self.view(o, 0)?;
        let mode = o.string("mode").unwrap_or("constant");
        let value = match o.input(2) {
            Some(_) => self.constant(o, 2).and_then(|c| c.scalar()),
            None => Some(o.float("value").unwrap_or(0.0)),
        };
        let pads = self.ints(o, "pads", 1)?.ok_or("it names no pads")?;
        let mut each = vec![[0i64; 2]; x.rank()];
        let axes: Vec<usize> = match self.constant(o, 3) {
            Some(axes) => axes.as_ints().unwrap_or_default().iter().map(|&a| self.axis(a, x.rank())).collect::<Fit<_>>()?,
            None => (0..x.rank()).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(format!("{} pads for {} dimensions", pads.len(), axes.len()));
        }
        for (i, &axis) in axes.iter().enumerate() {
            each[axis] = [pads[i], pads[axes.len() + i]];
        }
        if each.iter().all(|p| *p == [0, 0]) {
            return Ok(Value::Active(x));
        }
        if mode != "constant" || value != Some(0.0) {
            return Err(format!("padding in mode {mode:?} with {value:?}; expected zeros"));
        }
        let map = self.drafts.settle(&View { pad: Padding::default(), ..x.clone() })?;
        let side = |axis: usize, end: usize| -> Fit<usize> {
            let dim = (0..map.rank()).find(|&d| map.is_axis(d, axis) && !map.dims[d].is_empty());
            match dim {
                Some(d) => {
                    usize::try_from(each[d][end]).ok().filter(|&p| p <= 1 << 24).ok_or_else(|| format!("padding of {}", each[d][end]))
                }
                None => Err("padding of other dimensions than height and width".into()),
            }
        };
        if self.drafts.shape(map.node).len() != 3 {
            return Err(format!("padding of {}; expected a map", map.describe()));
        }
        let pad = Padding { top: side(1, 0)?, bottom: side(1, 1)?, left: side(2, 0)?, right: side(2, 1)? };
        let spatial = each.iter().flatten().fold(0i64, |sum, &p| sum.saturating_add(p));
        if spatial != (pad.top + pad.bottom + pad.left + pad.right) as i64 {
            return Err("padding of other dimensions than height and width".into());
        }
        Ok(Value::Active(View { pad: super::layers::joined(x.pad, pad), ..map }))
    }
}
