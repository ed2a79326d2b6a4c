//! Operators on constants, computed when the file is read: the shape arithmetic that exporters leave in, and weights that are reordered.

use super::constant::{Constant, Data, Dim, MAX_COMPUTED, volume};
use super::draft::Fit;
use super::source::Operator;

/// The outputs of an operator whose inputs are all known; `None` where it is none of these, and is looked at with the others.
pub(super) fn fold(o: &Operator, inputs: &[Option<&Constant>]) -> Fit<Option<Vec<Constant>>> {
    let x = || inputs.first().copied().flatten().ok_or("input 0 is missing".to_string());
    let second = || inputs.get(1).copied().flatten().ok_or("input 1 is missing".to_string());
    let ints = |attribute: &str, input: usize| -> Fit<Option<Vec<i64>>> {
        match (o.ints(attribute), inputs.get(input).copied().flatten()) {
            (Some(values), _) => Ok(Some(values.to_vec())),
            (None, Some(c)) => c.as_ints().map(Some).ok_or_else(|| format!("its {attribute} depend on the batch size")),
            (None, None) => Ok(None),
        }
    };
    if inputs.is_empty() {
        return Ok(None);
    }
    let one = match o.op.as_str() {
        "Identity" | "Dropout" => x()?.clone(),
        "Cast" => cast(x()?, o.int("to").unwrap_or(1))?,
        "CastLike" => match second()?.data {
            Data::Float(_) => cast(x()?, 1)?,
            Data::Int(_) => cast(x()?, 7)?,
        },
        "Shape" => {
            let dims: Vec<i64> = x()?.dims.iter().map(|&d| d as i64).collect();
            let rank = dims.len() as i64;
            let [start, end] = [o.int("start").unwrap_or(0), o.int("end").unwrap_or(rank)]
                .map(|v| if v < 0 { v.saturating_add(rank) } else { v }.clamp(0, rank));
            Constant::vector(dims.get(start as usize..end as usize).unwrap_or_default().iter().copied())
        }
        "Size" => Constant::ints(Vec::new(), vec![Dim::Known(x()?.len() as i64)]),
        "Reshape" => reshape(x()?, second()?, o.int("allowzero") == Some(1))?,
        "Flatten" => {
            let axis = axis(o.int("axis").unwrap_or(1), x()?.dims.len() + 1)?;
            let (a, b) = x()?.dims.split_at(axis);
            Constant { dims: vec![a.iter().product(), b.iter().product()], data: x()?.data.clone() }
        }
        "Transpose" => transpose(x()?, o.ints("perm"))?,
        "Unsqueeze" => unsqueeze(x()?, &ints("axes", 1)?.ok_or("it names no axes")?)?,
        "Squeeze" => squeeze(x()?, ints("axes", 1)?)?,
        "Concat" => concat(inputs, o.int("axis").ok_or("it names no axis")?)?,
        "Gather" => gather(x()?, second()?, o.int("axis").unwrap_or(0))?,
        "Slice" => {
            let rank = x()?.dims.len() as i64;
            let starts = ints("starts", 1)?.ok_or("it names no starts")?;
            let ends = ints("ends", 2)?.ok_or("it names no ends")?;
            let axes = ints("axes", 3)?.unwrap_or_else(|| (0..rank).take(starts.len()).collect());
            let steps = ints("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
            slice(x()?, &starts, &ends, &axes, &steps)?
        }
        "Expand" => {
            let target = second()?.as_ints();
            let Some(target) = target else { return Ok(None) };
            let target = target.iter().map(|&d| usize::try_from(d).map_err(|_| format!("a size of {d}"))).collect::<Fit<Vec<usize>>>()?;
            let dims = broadcast(&x()?.dims, &target)?;
            expand(x()?, &dims)?
        }
        "ConstantOfShape" => {
            let target = x()?.as_ints().ok_or("its shape depends on the batch size")?;
            let dims = target.iter().map(|&d| usize::try_from(d).map_err(|_| format!("a size of {d}"))).collect::<Fit<Vec<usize>>>()?;
            let value = o.attributes.get("value").and_then(|a| a.t.as_deref().cloned());
            let value = match value {
                Some(tensor) => super::constant::read(tensor).map_err(|e| e.to_string())?,
                None => Constant::floats(vec![1], vec![0.0]),
            };
            if value.len() != 1 {
                return Err("its value is no single number".into());
            }
            expand(&Constant { dims: vec![1], ..value }, &dims)?
        }
        "Range" => {
            if inputs.iter().flatten().any(|c| c.as_ints().is_none()) {
                return Ok(None);
            }
            let all: Option<Vec<i64>> = inputs.iter().map(|c| c.and_then(|c| c.as_ints()).and_then(|v| v.first().copied())).collect();
            let Some(&[start, limit, delta]) = all.as_deref() else { return Err("a range of other than whole numbers".into()) };
            range(start, limit, delta)?
        }
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" | "Equal" | "Less" | "Greater" | "And" | "Or" | "Mod" => {
            binary(&o.op, x()?, second()?)?
        }
        "Where" => {
            let third = inputs.get(2).copied().flatten().ok_or("input 2 is missing")?;
            select(x()?, second()?, third)?
        }
        "Relu" => binary("Max", x()?, &Constant::floats(Vec::new(), vec![0.0]))?,
        "Clip" => clip(o, x()?, inputs)?,
        "Sqrt" | "Neg" | "Reciprocal" | "Floor" | "Ceil" | "Round" | "Abs" | "Exp" | "Log" | "Not" => unary(&o.op, x()?)?,
        "ReduceProd" => {
            let all = x()?.as_dims().ok_or("a product of other than whole numbers")?;
            let product = all.iter().try_fold(Dim::Known(1), |a, &b| a.mul(b)).ok_or("a product that is too large")?;
            let dims = if o.int("keepdims").unwrap_or(1) == 1 { vec![1; x()?.dims.len()] } else { Vec::new() };
            Constant::ints(dims, vec![product])
        }
        _ => return Ok(None),
    };
    Ok(Some(vec![one]))
}

fn cast(x: &Constant, to: i64) -> Fit<Constant> {
    use crate::onnx::proto::data_type::{BFLOAT16, DOUBLE, FLOAT, FLOAT16};
    let float = [FLOAT, FLOAT16, DOUBLE, BFLOAT16].map(i64::from).contains(&to);
    Ok(match (&x.data, float) {
        (Data::Float(_), true) | (Data::Int(_), false) => x.clone(),
        (Data::Int(_), true) => Constant::floats(x.dims.clone(), x.to_floats().ok_or("the batch size as a float")?),
        (Data::Float(data), false) => Constant::ints(x.dims.clone(), data.iter().map(|&v| Dim::Known(v as i64)).collect()),
    })
}

fn axis(axis: i64, rank: usize) -> Fit<usize> {
    let at = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(at).ok().filter(|&a| a < rank).ok_or_else(|| format!("axis {axis} of {rank} dimensions"))
}

fn reshape(x: &Constant, target: &Constant, allow_zero: bool) -> Fit<Constant> {
    let target = target.as_ints().ok_or("a constant whose shape depends on the batch size")?;
    let mut dims = Vec::with_capacity(target.len());
    let mut free = None;
    for (at, &d) in target.iter().enumerate() {
        match d {
            -1 => {
                free = Some(at);
                dims.push(1);
            }
            0 if !allow_zero => dims.push(*x.dims.get(at).ok_or("a 0 beyond the dimensions")?),
            d => dims.push(usize::try_from(d).map_err(|_| format!("a size of {d}"))?),
        }
    }
    let rest = volume(&dims).ok_or("a shape that is too large")?;
    if let Some(at) = free.filter(|_| rest > 0) {
        dims[at] = x.len() / rest;
    }
    match volume(&dims) == Some(x.len()) {
        true => Ok(Constant { dims, data: x.data.clone() }),
        false => Err(format!("{:?} as {target:?}", x.dims)),
    }
}

/// Row-major strides.
fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    strides
}

/// The values at all indices of `dims`, each index weighted by `strides` from `start`.
fn strided(x: &Constant, dims: Vec<usize>, steps: &[isize], start: usize) -> Fit<Constant> {
    let count = volume(&dims).filter(|&n| n <= MAX_COMPUTED.max(x.len())).ok_or("a result that is too large")?;
    let at = |mut i: usize| {
        let mut offset = start as isize;
        for (&size, &step) in dims.iter().zip(steps).rev() {
            offset += (i % size) as isize * step;
            i /= size;
        }
        offset as usize
    };
    if count > 0 && x.len() == 0 {
        return Err("values of an empty constant".into());
    }
    Ok(x.pick(dims.clone(), (0..count).map(at)))
}

pub(super) fn transpose(x: &Constant, perm: Option<&[i64]>) -> Fit<Constant> {
    let rank = x.dims.len();
    let perm: Vec<usize> = match perm {
        Some(perm) => perm.iter().map(|&p| axis(p, rank)).collect::<Fit<_>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut seen = perm.clone();
    seen.sort_unstable();
    if !seen.iter().copied().eq(0..rank) {
        return Err(format!("{perm:?} is no order of {rank} dimensions"));
    }
    let all = strides(&x.dims);
    let steps: Vec<isize> = perm.iter().map(|&p| all[p] as isize).collect();
    strided(x, perm.iter().map(|&p| x.dims[p]).collect(), &steps, 0)
}

fn unsqueeze(x: &Constant, axes: &[i64]) -> Fit<Constant> {
    let rank = x.dims.len() + axes.len();
    let mut at = axes.iter().map(|&a| axis(a, rank)).collect::<Fit<Vec<usize>>>()?;
    at.sort_unstable();
    let mut dims = x.dims.clone();
    for a in at {
        if a > dims.len() {
            return Err(format!("axes {axes:?} for {} dimensions", x.dims.len()));
        }
        dims.insert(a, 1);
    }
    Ok(Constant { dims, data: x.data.clone() })
}

fn squeeze(x: &Constant, axes: Option<Vec<i64>>) -> Fit<Constant> {
    let rank = x.dims.len();
    let gone: Vec<usize> = match axes {
        Some(axes) => axes.iter().map(|&a| axis(a, rank)).collect::<Fit<_>>()?,
        None => (0..rank).filter(|&d| x.dims[d] == 1).collect(),
    };
    if let Some(d) = gone.iter().find(|&&d| x.dims[d] != 1) {
        return Err(format!("dimension {d} of {:?} is not 1", x.dims));
    }
    let dims = (0..rank).filter(|d| !gone.contains(d)).map(|d| x.dims[d]).collect();
    Ok(Constant { dims, data: x.data.clone() })
}

fn concat(inputs: &[Option<&Constant>], at: i64) -> Fit<Constant> {
    let parts: Vec<&Constant> = inputs.iter().flatten().copied().collect();
    let first = parts.first().ok_or("no inputs")?;
    let at = axis(at, first.dims.len())?;
    let same = |c: &&Constant| c.dims.len() == first.dims.len() && (0..c.dims.len()).all(|d| d == at || c.dims[d] == first.dims[d]);
    if !parts.iter().all(same) {
        return Err("constants of different shapes".into());
    }
    let mut dims = first.dims.clone();
    dims[at] = parts.iter().map(|c| c.dims[at]).sum();
    let largest = parts.iter().map(|c| c.len()).max().unwrap_or(0);
    let count = volume(&dims).filter(|&n| n <= MAX_COMPUTED.max(4 * largest)).ok_or("a result that is too large")?;
    let outer: usize = dims[..at].iter().product();
    let blocks = parts.iter().map(|c| c.dims[at..].iter().product::<usize>());
    let blocks: Vec<usize> = blocks.collect();
    if parts.iter().all(|c| matches!(c.data, Data::Float(_))) {
        let mut data = Vec::with_capacity(count);
        for o in 0..outer {
            for (c, &block) in parts.iter().zip(&blocks) {
                data.extend_from_slice(&c.as_floats().map(|v| v.as_slice()).unwrap_or_default()[o * block..][..block]);
            }
        }
        return Ok(Constant::floats(dims, data));
    }
    let mut data = Vec::with_capacity(count);
    for o in 0..outer {
        for (c, &block) in parts.iter().zip(&blocks) {
            data.extend_from_slice(&c.as_dims().ok_or("floats and integers together")?[o * block..][..block]);
        }
    }
    Ok(Constant::ints(dims, data))
}

fn gather(x: &Constant, indices: &Constant, at: i64) -> Fit<Constant> {
    let at = axis(at, x.dims.len())?;
    let size = x.dims[at] as i64;
    let indices_dims = &indices.dims;
    let indices = indices.as_ints().ok_or("indices that are no whole numbers")?;
    let indices = indices
        .iter()
        .map(|&i| if i < 0 { i + size } else { i })
        .map(|i| if (0..size).contains(&i) { Ok(i as usize) } else { Err(format!("index {i} of {size}")) });
    let indices = indices.collect::<Fit<Vec<usize>>>()?;
    let inner: usize = x.dims[at + 1..].iter().product();
    let outer: usize = x.dims[..at].iter().product();
    let dims = [&x.dims[..at], indices_dims, &x.dims[at + 1..]].concat();
    volume(&dims).filter(|&n| n <= MAX_COMPUTED.max(x.len())).ok_or("a result that is too large")?;
    let all = (0..outer).flat_map(|o| indices.iter().flat_map(move |&i| (0..inner).map(move |k| (o * size as usize + i) * inner + k)));
    Ok(x.pick(dims, all.collect::<Vec<_>>().into_iter()))
}

/// `[first, count, step]` of a slice of `size` values.
pub(super) fn slice_range(start: i64, end: i64, step: i64, size: usize) -> Fit<(usize, usize)> {
    let size = size as i64;
    let wrap = |v: i64| if v < 0 { v.saturating_add(size) } else { v };
    match step {
        1.. => {
            let (from, to) = (wrap(start).clamp(0, size), wrap(end).clamp(0, size));
            let count = (to - from).max(0).div_euclid(step) + i64::from((to - from).max(0) % step != 0);
            Ok((from as usize, count as usize))
        }
        0 => Err("a slice of step 0".into()),
        // The one step backwards that exporters write: a whole dimension turned round.
        -1 => {
            let (from, to) = (wrap(start).clamp(-1, size - 1), wrap(end).clamp(-1, size - 1));
            Ok((from.max(0) as usize, (from - to).max(0) as usize))
        }
        _ => Err(format!("a slice of step {step}")),
    }
}

fn slice(x: &Constant, starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]) -> Fit<Constant> {
    let rank = x.dims.len();
    let mut dims = x.dims.clone();
    let all = strides(&x.dims);
    let mut walk: Vec<isize> = all.iter().map(|&s| s as isize).collect();
    let mut first = 0;
    for (i, &a) in axes.iter().enumerate() {
        let a = axis(a, rank)?;
        let (Some(&start), Some(&end), step) = (starts.get(i), ends.get(i), steps.get(i).copied().unwrap_or(1)) else {
            return Err("starts, ends and axes of different numbers".into());
        };
        // torch writes "to the beginning" as the lowest number.
        let end = if step < 0 && end < -(x.dims[a] as i64) { -(x.dims[a] as i64) - 1 } else { end };
        let (from, count) = slice_range(start, end, step, x.dims[a])?;
        dims[a] = count;
        first += from * all[a];
        walk[a] = walk[a].saturating_mul(step as isize);
    }
    strided(x, dims, &walk, first)
}

/// The shape that two shapes are broadcast to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Fit<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => Err(format!("{a:?} and {b:?} do not fit each other")),
        })
        .collect()
}

pub(super) fn expand(x: &Constant, dims: &[usize]) -> Fit<Constant> {
    let all = strides(&x.dims);
    let missing = dims.len() - x.dims.len().min(dims.len());
    let step = |i: usize| match i.checked_sub(missing) {
        Some(i) if x.dims[i] != 1 => all[i] as isize,
        _ => 0,
    };
    strided(x, dims.to_vec(), &(0..dims.len()).map(step).collect::<Vec<_>>(), 0)
}

fn range(start: i64, limit: i64, delta: i64) -> Fit<Constant> {
    if delta == 0 {
        return Err("a range of step 0".into());
    }
    let count = limit.checked_sub(start).map(|d| if (d < 0) == (delta < 0) { d.unsigned_abs().div_ceil(delta.unsigned_abs()) } else { 0 });
    let count = count.filter(|&c| c <= 1 << 20).ok_or("a range that is too long")?;
    Ok(Constant::vector((0..count as i64).map(|i| start.wrapping_add(i.wrapping_mul(delta)))))
}

fn binary(op: &str, a: &Constant, b: &Constant) -> Fit<Constant> {
    let dims = broadcast(&a.dims, &b.dims)?;
    let (a, b) = (expand(a, &dims)?, expand(b, &dims)?);
    if let (Some(x), Some(y)) = (a.as_dims(), b.as_dims()) {
        let each = |(x, y): (&Dim, &Dim)| int_binary(op, *x, *y).ok_or_else(|| format!("{x:?} {op} {y:?}"));
        return Ok(Constant::ints(dims, x.iter().zip(y).map(each).collect::<Fit<_>>()?));
    }
    let (Some(x), Some(y)) = (a.to_floats(), b.to_floats()) else { return Err("the batch size with floats".into()) };
    let pairs = x.iter().zip(&y);
    let float = |f: fn(f32, f32) -> f32| pairs.clone().map(|(&x, &y)| f(x, y)).collect();
    let truth = |f: fn(f32, f32) -> bool| pairs.clone().map(|(&x, &y)| Dim::Known(i64::from(f(x, y)))).collect();
    Ok(match op {
        "Add" => Constant::floats(dims, float(|x, y| x + y)),
        "Sub" => Constant::floats(dims, float(|x, y| x - y)),
        "Mul" => Constant::floats(dims, float(|x, y| x * y)),
        "Div" => Constant::floats(dims, float(|x, y| x / y)),
        "Pow" => Constant::floats(dims, float(f32::powf)),
        "Min" => Constant::floats(dims, float(f32::min)),
        "Max" => Constant::floats(dims, float(f32::max)),
        "Equal" => Constant::ints(dims, truth(|x, y| x == y)),
        "Less" => Constant::ints(dims, truth(|x, y| x < y)),
        "Greater" => Constant::ints(dims, truth(|x, y| x > y)),
        _ => return Err(format!("{op} of float constants")),
    })
}

fn clip(o: &Operator, x: &Constant, inputs: &[Option<&Constant>]) -> Fit<Constant> {
    let mut clipped = x.clone();
    for (op, name, input) in [("Max", "min", 1), ("Min", "max", 2)] {
        let bound = match (o.float(name), inputs.get(input).copied().flatten()) {
            (Some(v), _) => Some(Constant::floats(Vec::new(), vec![v])),
            (None, bound) => bound.cloned(),
        };
        if let Some(bound) = bound {
            clipped = binary(op, &clipped, &bound)?;
        }
    }
    Ok(clipped)
}

fn int_binary(op: &str, x: Dim, y: Dim) -> Option<Dim> {
    let truth = |v: bool| Some(Dim::Known(i64::from(v)));
    let known = || Some((x.known()?, y.known()?));
    match op {
        "Add" => x.add(y),
        "Sub" => y.mul(Dim::Known(-1)).and_then(|y| x.add(y)),
        "Mul" => x.mul(y),
        "Div" => x.div(y),
        // A size of at least 1 is never -1, 0 or any stated negative number.
        "Equal" => match (x, y) {
            (Dim::Batch(_), Dim::Known(v)) | (Dim::Known(v), Dim::Batch(_)) => {
                if v <= 0 {
                    truth(false)
                } else {
                    None
                }
            }
            _ => truth(x == y),
        },
        "Min" => known().map(|(x, y)| Dim::Known(x.min(y))),
        "Max" => known().map(|(x, y)| Dim::Known(x.max(y))),
        "Mod" => known().and_then(|(x, y)| x.checked_rem_euclid(y)).map(Dim::Known),
        "Pow" => known().and_then(|(x, y)| x.checked_pow(u32::try_from(y).ok()?)).map(Dim::Known),
        "Less" => known().and_then(|(x, y)| truth(x < y)),
        "Greater" => known().and_then(|(x, y)| truth(x > y)),
        "And" => known().and_then(|(x, y)| truth(x != 0 && y != 0)),
        "Or" => known().and_then(|(x, y)| truth(x != 0 || y != 0)),
        _ => None,
    }
}

fn select(condition: &Constant, yes: &Constant, no: &Constant) -> Fit<Constant> {
    let dims = broadcast(&broadcast(&condition.dims, &yes.dims)?, &no.dims)?;
    let (condition, yes, no) = (expand(condition, &dims)?, expand(yes, &dims)?, expand(no, &dims)?);
    let picks = condition.as_ints().ok_or("a condition on the batch size")?;
    if let (Some(yes), Some(no)) = (yes.as_dims(), no.as_dims()) {
        return Ok(Constant::ints(dims, picks.iter().zip(yes.iter().zip(no)).map(|(&c, (&y, &n))| if c != 0 { y } else { n }).collect()));
    }
    let (Some(yes), Some(no)) = (yes.to_floats(), no.to_floats()) else { return Err("the batch size with floats".into()) };
    Ok(Constant::floats(dims, picks.iter().zip(yes.iter().zip(&no)).map(|(&c, (&y, &n))| if c != 0 { y } else { n }).collect()))
}

fn unary(op: &str, x: &Constant) -> Fit<Constant> {
    if let Some(values) = x.as_dims() {
        let each = |d: &Dim| match op {
            "Neg" => d.mul(Dim::Known(-1)),
            "Abs" => d.known().and_then(i64::checked_abs).map(Dim::Known),
            "Not" => d.known().map(|v| Dim::Known(i64::from(v == 0))),
            "Floor" | "Ceil" | "Round" => Some(*d),
            _ => None,
        };
        let all: Option<Vec<Dim>> = values.iter().map(each).collect();
        return Ok(Constant::ints(x.dims.clone(), all.ok_or_else(|| format!("{op} of whole numbers"))?));
    }
    let f: fn(f32) -> f32 = match op {
        "Sqrt" => f32::sqrt,
        "Neg" => |v| -v,
        "Reciprocal" => |v| 1.0 / v,
        "Floor" => f32::floor,
        "Ceil" => f32::ceil,
        "Round" => f32::round_ties_even,
        "Abs" => f32::abs,
        "Exp" => f32::exp,
        "Log" => f32::ln,
        _ => return Err(format!("{op} of floats")),
    };
    let data = x.to_floats().unwrap_or_default().into_iter().map(f).collect();
    Ok(Constant::floats(x.dims.clone(), data))
}
