//! An ONNX value as a view of a node of our graph.
//!
//! ONNX exports are full of `Reshape`, `Transpose`, `Squeeze` and `Slice` that move no data of their own: heads of an attention, channels
//! last and back, `[N, C, 1, 1]` and `[N, C]`. None of these becomes a node. Instead each value knows the node that holds its data, and how
//! its dimensions are made of *atoms*, the factors of that node's dimensions. Where an operator needs the data in a certain order, the order
//! of the atoms says whether the view is that, or which node makes it so.

use super::constant::Dim;
use crate::op::Padding;

/// A factor of one of the node's dimensions. Atoms stand in the node's row-major order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Atom {
    /// Dimension of the node.
    pub axis: usize,
    /// At least 2.
    pub size: usize,
    /// Where only one index along it is left.
    pub fixed: Option<usize>,
}

/// A factor of one of the value's dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Factor {
    /// The batch.
    Batch,
    /// Index into [`View::atoms`].
    Atom(usize),
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    /// The node (a draft's index).
    pub node: usize,
    pub atoms: Vec<Atom>,
    /// The value's dimensions, with the batch; an empty one has size 1.
    pub dims: Vec<Vec<Factor>>,
    /// What the node's values are still to be multiplied by.
    pub scale: f64,
    /// Zeros still to be put around height and width.
    pub pad: Padding,
    /// Whether nothing else reads the node.
    pub exclusive: bool,
}

/// Dimensions that a value is merged by axis: what two views must share to be added.
pub(super) type Signature = Vec<Vec<(Option<usize>, usize)>>;

impl View {
    /// A node's own dimensions behind the batch.
    pub fn of(node: usize, shape: &[usize]) -> Self {
        let mut view =
            Self { node, atoms: Vec::new(), dims: vec![vec![Factor::Batch]], scale: 1.0, pad: Padding::default(), exclusive: true };
        for (axis, &size) in shape.iter().enumerate() {
            let factors = view.push(axis, size);
            view.dims.push(factors);
        }
        view
    }

    /// Adds an atom behind the others; nothing for size 1.
    fn push(&mut self, axis: usize, size: usize) -> Vec<Factor> {
        if size == 1 {
            return Vec::new();
        }
        self.atoms.push(Atom { axis, size, fixed: None });
        vec![Factor::Atom(self.atoms.len() - 1)]
    }

    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    fn factor_size(&self, factor: Factor) -> usize {
        match factor {
            Factor::Batch => 1,
            Factor::Atom(atom) => self.atoms[atom].size,
        }
    }

    /// Size of a dimension, without the batch where that is in it.
    pub fn size(&self, dim: usize) -> usize {
        self.dims[dim].iter().map(|&f| self.factor_size(f)).product()
    }

    /// Size of a dimension as ONNX's `Shape` gives it.
    pub fn dim(&self, dim: usize) -> Dim {
        let size = self.size(dim) as i64;
        if self.dims[dim].contains(&Factor::Batch) { Dim::Batch(size) } else { Dim::Known(size) }
    }

    /// `[N, 3, 224, 224]` for messages.
    pub fn describe(&self) -> String {
        let one = |dim: usize| match self.dim(dim) {
            Dim::Known(size) => size.to_string(),
            Dim::Batch(1) => "N".into(),
            Dim::Batch(size) => format!("{size}·N"),
        };
        format!("[{}]", (0..self.rank()).map(one).collect::<Vec<_>>().join(", "))
    }

    /// A dimension's atoms; `None` where the batch is among them.
    pub fn atoms_of(&self, dim: usize) -> Option<Vec<usize>> {
        let atom = |f: &Factor| match f {
            Factor::Batch => None,
            Factor::Atom(atom) => Some(*atom),
        };
        self.dims[dim].iter().map(atom).collect()
    }

    /// The atoms along an axis of the node, in order, none of them fixed.
    pub fn axis(&self, axis: usize) -> Vec<usize> {
        (0..self.atoms.len()).filter(|&a| self.atoms[a].axis == axis).collect()
    }

    /// Whether the dimension is exactly this axis of the node.
    pub fn is_axis(&self, dim: usize, axis: usize) -> bool {
        self.atoms_of(dim).is_some_and(|atoms| atoms == self.axis(axis)) && self.axis(axis).iter().all(|&a| self.atoms[a].fixed.is_none())
    }

    pub fn has_fixed(&self) -> bool {
        self.atoms.iter().any(|a| a.fixed.is_some())
    }

    /// The order of the atoms over all dimensions but the batch.
    pub fn sequence(&self) -> Vec<usize> {
        let atom = |f: &Factor| match f {
            Factor::Batch => None,
            Factor::Atom(atom) => Some(*atom),
        };
        self.dims.iter().flatten().filter_map(atom).collect()
    }

    /// What must be equal for two views of nodes of one shape to be added value by value.
    pub fn signature(&self) -> Signature {
        let merge = |dim: &Vec<Factor>| {
            let mut list: Vec<(Option<usize>, usize)> = Vec::new();
            let mut last = None;
            for &factor in dim {
                let axis = match factor {
                    Factor::Batch => None,
                    Factor::Atom(atom) => Some(self.atoms[atom].axis),
                };
                let size = self.factor_size(factor);
                match (list.last_mut(), factor) {
                    (Some(entry), Factor::Atom(atom)) if last == Some(atom.wrapping_sub(1)) && entry.0 == axis => entry.1 *= size,
                    _ => list.push((axis, size)),
                }
                last = match factor {
                    Factor::Batch => None,
                    Factor::Atom(atom) => Some(atom),
                };
            }
            list
        };
        self.dims.iter().map(merge).collect()
    }

    pub fn transpose(&self, perm: &[usize]) -> Self {
        Self { dims: perm.iter().map(|&p| self.dims[p].clone()).collect(), ..self.clone() }
    }

    pub fn unsqueeze(&self, at: usize) -> Self {
        let mut view = self.clone();
        view.dims.insert(at.min(self.rank()), Vec::new());
        view
    }

    /// Without a dimension of size 1; `None` where it is larger.
    pub fn squeeze(&self, at: usize) -> Option<Self> {
        let mut view = self.clone();
        view.dims[at].is_empty().then(|| {
            view.dims.remove(at);
            view
        })
    }

    /// Divides an atom in two, the first of `first` indices.
    fn split(&mut self, atom: usize, first: usize) {
        let Atom { axis, size, fixed } = self.atoms[atom];
        let second = size / first;
        let [a, b] = match fixed {
            Some(index) => [Some(index / second), Some(index % second)],
            None => [None, None],
        };
        self.atoms[atom] = Atom { axis, size: first, fixed: a };
        self.atoms.insert(atom + 1, Atom { axis, size: second, fixed: b });
        for dim in &mut self.dims {
            *dim = dim
                .iter()
                .flat_map(|&factor| match factor {
                    Factor::Atom(a) if a == atom => vec![Factor::Atom(a), Factor::Atom(a + 1)],
                    Factor::Atom(a) if a > atom => vec![Factor::Atom(a + 1)],
                    other => vec![other],
                })
                .collect();
        }
    }

    /// The same values in the same order, in other dimensions. `batch` is the file's own batch size, where it has one.
    ///
    /// `target` has no -1 and no 0 left, and the right volume.
    pub fn reshape(&self, target: &[Dim], batch: Option<usize>) -> Option<Self> {
        let mut view = self.clone();
        let mut dims: Vec<Vec<Factor>> = Vec::with_capacity(target.len());
        let mut taken = 0;
        for &dim in target {
            let (mut rest, mut wants_batch) = match dim {
                Dim::Known(size) => (usize::try_from(size).ok()?, false),
                Dim::Batch(size) => (usize::try_from(size).ok()?, true),
            };
            let mut factors = Vec::new();
            while let Some(&factor) = view.dims.concat().get(taken) {
                match factor {
                    Factor::Batch => match batch {
                        _ if wants_batch => wants_batch = false,
                        Some(size) if rest.is_multiple_of(size) && (rest > 1 || factors.is_empty()) => rest /= size,
                        _ => break,
                    },
                    Factor::Atom(_) if rest <= 1 => break,
                    Factor::Atom(atom) => {
                        let size = view.atoms[atom].size;
                        if rest.is_multiple_of(size) {
                            rest /= size;
                        } else if size.is_multiple_of(rest) {
                            view.split(atom, rest);
                            rest = 1;
                            // Those behind it have other numbers now, also where they are done.
                            for factor in dims.iter_mut().flatten().chain(&mut factors) {
                                if let Factor::Atom(done) = factor
                                    && *done > atom
                                {
                                    *done += 1;
                                }
                            }
                        } else {
                            return None;
                        }
                    }
                }
                factors.push(factor);
                taken += 1;
            }
            if rest != 1 || wants_batch {
                return None;
            }
            dims.push(factors);
        }
        (taken == view.dims.concat().len()).then_some(Self { dims, ..view })
    }

    /// `start..start + len` of a dimension where that is one of its equal parts; the dimension stays, with size `len`.
    pub fn part(&self, dim: usize, start: usize, len: usize) -> Option<Self> {
        let size = self.size(dim);
        if len == 0
            || !size.is_multiple_of(len)
            || !start.is_multiple_of(len)
            || start + len > size
            || self.dims[dim].contains(&Factor::Batch)
        {
            return None;
        }
        // Split the dimension's atoms so that some leading ones make up the parts.
        let mut view = self.clone();
        let (mut parts, mut at) = (size / len, 0);
        while parts > 1 {
            let Factor::Atom(atom) = view.dims[dim][at] else { return None };
            let size = view.atoms[atom].size;
            if parts.is_multiple_of(size) {
                parts /= size;
            } else if size.is_multiple_of(parts) {
                view.split(atom, parts);
                parts = 1;
            } else {
                return None;
            }
            at += 1;
        }
        let leading: Vec<Factor> = view.dims[dim].drain(..at).collect();
        let mut index = start / len;
        for factor in leading.into_iter().rev() {
            if let Factor::Atom(atom) = factor {
                let size = view.atoms[atom].size;
                view.atoms[atom].fixed = Some(index % size);
                index /= size;
            }
        }
        Some(view)
    }

    /// The same value over another node, whose atoms are `order` of these (index, new axis), all that are not fixed.
    pub fn on(&self, node: usize, order: &[(usize, usize)]) -> Self {
        let position = |atom: usize| order.iter().position(|&(old, _)| old == atom);
        let renumber = |factor: &Factor| match factor {
            Factor::Batch => Some(Factor::Batch),
            Factor::Atom(atom) => position(*atom).map(Factor::Atom),
        };
        Self {
            node,
            atoms: order.iter().map(|&(old, axis)| Atom { axis, ..self.atoms[old] }).collect(),
            dims: self.dims.iter().map(|dim| dim.iter().filter_map(renumber).collect()).collect(),
            ..self.clone()
        }
    }

    /// The same value over another node of the same shape.
    pub fn over(&self, node: usize) -> Self {
        Self { node, exclusive: true, ..self.clone() }
    }

    /// Over another node, of whose axes one, the dimension `dim` here, has another size.
    pub fn with_axis(&self, node: usize, axis: usize, dim: usize, size: usize) -> Self {
        let kept: Vec<usize> = (0..self.atoms.len()).filter(|&a| self.atoms[a].axis != axis).collect();
        let before = kept.iter().filter(|&&a| self.atoms[a].axis < axis).count();
        let mut atoms: Vec<Atom> = kept.iter().map(|&a| self.atoms[a]).collect();
        let mut new = Vec::new();
        if size > 1 {
            atoms.insert(before, Atom { axis, size, fixed: None });
            new.push(Factor::Atom(before));
        }
        let renumber = |atom: usize| kept.iter().position(|&a| a == atom).map(|p| p + usize::from(size > 1 && p >= before));
        let dims = self.dims.iter().map(|dim| {
            let mut replaced = Vec::new();
            for &factor in dim {
                match factor {
                    Factor::Batch => replaced.push(Factor::Batch),
                    Factor::Atom(atom) if self.atoms[atom].axis == axis => {}
                    Factor::Atom(atom) => replaced.extend(renumber(atom).map(Factor::Atom)),
                }
            }
            replaced
        });
        let mut dims: Vec<Vec<Factor>> = dims.collect();
        dims[dim].extend(new);
        Self { node, atoms, dims, exclusive: true, ..self.clone() }
    }

    /// Divides the atoms of an axis so that the first of them make up `first` indices; `None` where its factors do not allow it.
    pub fn split_axis(&self, axis: usize, first: usize) -> Option<(Self, usize)> {
        let mut view = self.clone();
        let (mut rest, mut count) = (first, 0);
        while rest > 1 {
            let atom = *view.axis(axis).get(count)?;
            let size = view.atoms[atom].size;
            if rest.is_multiple_of(size) {
                rest /= size;
            } else if size.is_multiple_of(rest) {
                view.split(atom, rest);
                rest = 1;
            } else {
                return None;
            }
            count += 1;
        }
        Some((view, count))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn known(sizes: &[i64]) -> Vec<Dim> {
        std::iter::once(Dim::Batch(1)).chain(sizes.iter().map(|&s| Dim::Known(s))).collect()
    }

    #[test]
    fn heads_split_permute_select_and_join_again() {
        let joined = View::of(3, &[5, 24]);
        let split = joined.reshape(&known(&[5, 3, 2, 4]), None).unwrap();
        let heads = split.transpose(&[2, 0, 3, 1, 4]);
        assert_eq!(heads.describe(), "[3, N, 2, 5, 4]");
        let key = heads.part(0, 1, 1).unwrap().squeeze(0).unwrap();
        assert_eq!(key.describe(), "[N, 2, 5, 4]");
        assert_eq!(
            key.atoms.iter().map(|a| (a.axis, a.size, a.fixed)).collect::<Vec<_>>(),
            [(0, 5, None), (1, 3, Some(1)), (1, 2, None), (1, 4, None)]
        );
        let flat = key.reshape(&[Dim::Batch(2), Dim::Known(5), Dim::Known(4)], None).unwrap();
        assert_eq!(flat.describe(), "[2·N, 5, 4]");
        assert_eq!(flat.reshape(&known(&[2, 5, 4]), None).unwrap().dims, key.dims);
        assert!(joined.reshape(&known(&[7, 24]), None).is_none());
        assert!(joined.reshape(&[Dim::Known(5), Dim::Batch(24)], None).is_none());
    }

    #[test]
    fn dimensions_that_are_done_keep_their_atoms_when_another_is_split() {
        // Tokens as channels first, then as a map.
        let map = View::of(0, &[6, 8]).transpose(&[0, 2, 1]).reshape(&known(&[8, 2, 3]), None).unwrap();
        assert_eq!(map.describe(), "[N, 8, 2, 3]");
        assert_eq!(map.sequence(), [2, 0, 1]);
        assert_eq!(map.reshape(&known(&[8, 6]), None).unwrap().describe(), "[N, 8, 6]");
    }

    #[test]
    fn a_stated_batch_size_is_found_among_the_numbers() {
        let map = View::of(0, &[6, 1, 1]);
        assert_eq!(map.reshape(&[Dim::Known(1), Dim::Known(6)], Some(1)).unwrap().describe(), "[N, 6]");
        assert_eq!(map.reshape(&[Dim::Known(4), Dim::Known(6)], Some(4)).unwrap().describe(), "[N, 6]");
        assert_eq!(map.reshape(&[Dim::Known(24)], Some(4)).unwrap().describe(), "[6·N]");
        assert!(map.reshape(&[Dim::Known(4), Dim::Known(6)], None).is_none());
    }

    #[test]
    fn equal_parts_are_taken_and_others_are_not() {
        let tokens = View::of(0, &[5, 24]);
        let part = tokens.part(2, 8, 8).unwrap();
        assert_eq!(part.describe(), "[N, 5, 8]");
        assert_eq!(part.atoms[1].fixed, Some(1));
        assert!(tokens.part(2, 4, 8).is_none());
        assert!(tokens.part(1, 1, 4).is_none());
        assert!(tokens.part(0, 0, 1).is_none());
    }

    #[test]
    fn signatures_see_the_order_and_not_how_an_axis_is_cut() {
        let map = View::of(0, &[3, 4, 5]);
        let cut = View::of(1, &[3, 20]).reshape(&known(&[3, 4, 5]), None).unwrap();
        assert_eq!(cut.signature()[2], [(Some(1), 4)]);
        let whole = cut.reshape(&known(&[3, 20]), None).unwrap();
        assert_eq!(whole.signature(), View::of(1, &[3, 20]).signature());
        assert_ne!(map.transpose(&[0, 2, 3, 1]).signature(), map.signature());
    }
}
