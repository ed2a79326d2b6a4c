//! Poolings and means.

use super::draft::Fit;
use super::layers::{joined, window};
use super::source::Operator;
use super::translate::{Translator, Value};
use super::view::View;
use crate::op::{Op, Padding, Pool2d};

impl Translator<'_> {
    pub fn max_pool(&mut self, o: &Operator) -> Fit<Value> {
        let x = self.view(o, 0)?;
        if x.pad != Padding::default() && !self.drafts.is_never_negative(x.node) {
            return Err("a maximum over padded zeros of values that may be negative".into());
        }
        self.pool(o, x, Op::MaxPool2d)
    }

    pub fn average_pool(&mut self, o: &Operator) -> Fit<Value> {
        let x = self.view(o, 0)?;
        self.pool(o, x, Op::AvgPool2d)
    }

    fn pool(&mut self, o: &Operator, x: View, op: fn(Pool2d) -> Op) -> Fit<Value> {
        let outer = x.pad;
        let map = self.drafts.as_map(&View { pad: Padding::default(), ..x })?.ok_or("a pooling of one pixel")?;
        let size = [map.size(2) + outer.top + outer.bottom, map.size(3) + outer.left + outer.right];
        let w = window(o, None, size)?;
        if w.dilation != [1; 2] {
            return Err(format!("dilations {:?}", w.dilation));
        }
        let mut count = o.int("count_include_pad").unwrap_or(0) != 0;
        let average = matches!(op(Pool2d::new(1, 1, 0)), Op::AvgPool2d(_));
        if outer != Padding::default() {
            // Zeros that a Pad put there count as values.
            if average && !count && w.padding != Padding::default() {
                return Err("padding by a Pad, which counts, and its own, which does not".into());
            }
            count = true;
        }
        let mut padding = joined(outer, w.padding);
        if o.int("ceil_mode").unwrap_or(0) != 0 {
            let own = w.padding;
            let more = [
                beyond(size[0] + own.top + own.bottom, size[0] + own.top, w.kernel[0], w.stride[0]),
                beyond(size[1] + own.left + own.right, size[1] + own.left, w.kernel[1], w.stride[1]),
            ];
            if average && count && more != [0, 0] {
                if padding != Padding::default() {
                    return Err("ceil_mode with padding that counts".into());
                }
                count = false;
            }
            padding.bottom += more[0];
            padding.right += more[1];
        }
        let pool = Pool2d { kernel: w.kernel, stride: w.stride, padding, count_include_pad: count };
        let name = self.plain_name(o);
        Ok(Value::Active(self.add_node(name, op(pool), vec![map.node], Vec::new())?))
    }

    pub fn global_pool(&mut self, o: &Operator, mean: bool) -> Fit<Value> {
        let x = self.view(o, 0)?;
        if x.rank() != 4 {
            return Err(format!("expected [N, C, H, W], got {}", x.describe()));
        }
        self.reduced(o, &x, &[2, 3], true, mean)
    }

    pub fn reduce(&mut self, o: &Operator, mean: bool) -> Fit<Value> {
        let x = self.view(o, 0)?;
        let axes = self.ints(o, "axes", 1)?.filter(|axes| !axes.is_empty()).ok_or("it names no dimensions")?;
        let mut axes = axes.iter().map(|&a| self.axis(a, x.rank())).collect::<Fit<Vec<usize>>>()?;
        axes.sort_unstable();
        self.reduced(o, &x, &axes, o.int("keepdims").unwrap_or(1) != 0, mean)
    }

    fn reduced(&mut self, o: &Operator, x: &View, axes: &[usize], keep: bool, mean: bool) -> Fit<Value> {
        let x = self.drafts.settle(x)?;
        let name = self.plain_name(o);
        if axes.iter().all(|&a| x.dims[a].is_empty()) {
            return Ok(Value::Active(without(&x, axes, keep)));
        }
        // As a map whose height and width are reduced.
        let map = match self.drafts.shape(x.node).len() {
            2 if axes.iter().flat_map(|&a| x.atoms_of(a).unwrap_or_default()).eq(x.axis(0)) => {
                self.drafts.tokens_to_map(&x, [self.drafts.shape(x.node)[0], 1])?
            }
            2 if x.rank() == 4 => match self.drafts.as_map(&x) {
                Ok(Some(map)) => map,
                _ => x,
            },
            _ => x,
        };
        let shape = self.drafts.shape(map.node).to_vec();
        let reduced: Vec<usize> = axes.iter().flat_map(|&a| map.atoms_of(a).unwrap_or_default()).collect();
        let [rows, columns] = [1, 2].map(|axis| map.axis(axis).iter().all(|a| reduced.contains(a)));
        let covers = |axis: usize, all: bool| if all { map.axis(axis) } else { Vec::new() };
        if shape.len() != 3
            || reduced.iter().any(|&a| map.atoms[a].axis == 0)
            || reduced.len() != covers(1, rows).len() + covers(2, columns).len()
        {
            return Err(format!("a reduction of {} over dimensions {axes:?}; expected height and width, or the tokens", map.describe()));
        }
        if rows && columns && mean {
            let node = self.drafts.add(name, Op::GlobalAvgPool, vec![map.node], Vec::new())?;
            let order: Vec<(usize, usize)> = map.axis(0).into_iter().map(|a| (a, 0)).collect();
            return Ok(Value::Active(without(&View { exclusive: true, ..map.on(node, &order) }, axes, keep)));
        }
        let kernel = [if rows { shape[1] } else { 1 }, if columns { shape[2] } else { 1 }];
        let pool = Pool2d { kernel, stride: [1; 2], padding: Padding::default(), count_include_pad: true };
        let node = self.drafts.add(name, if mean { Op::AvgPool2d(pool) } else { Op::MaxPool2d(pool) }, vec![map.node], Vec::new())?;
        let kept: Vec<(usize, usize)> = (0..map.atoms.len()).filter(|a| !reduced.contains(a)).map(|a| (a, map.atoms[a].axis)).collect();
        Ok(Value::Active(without(&View { exclusive: true, ..map.on(node, &kept) }, axes, keep)))
    }
}

/// The view without dimensions that are empty, unless they are kept.
fn without(x: &View, axes: &[usize], keep: bool) -> View {
    let dims = x.dims.iter().enumerate().filter(|(d, _)| keep || !axes.contains(d)).map(|(_, dim)| dim.clone()).collect();
    View { dims, ..x.clone() }
}

/// What `ceil_mode` adds behind: up to the end of the last window, which must begin before the padding behind does.
fn beyond(padded: usize, before_end: usize, kernel: usize, stride: usize) -> usize {
    let Some(room) = padded.checked_sub(kernel) else { return 0 };
    let mut last = room.div_ceil(stride);
    if last * stride >= before_end {
        last -= 1;
    }
    (last * stride + kernel).saturating_sub(padded)
}
