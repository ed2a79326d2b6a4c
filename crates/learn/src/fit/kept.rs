//! What frozen first stages made of each picture, kept from epoch to epoch where no augmentation changes it.

use std::collections::BTreeMap;

use graph::Tensor;

/// Bytes that are kept, at most.
const BUDGET: usize = 1 << 30;

/// Values of the activation that enters the trained part, by sample.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Without the batch.
    shape: Vec<usize>,
    values: BTreeMap<usize, Vec<f32>>,
    bytes: usize,
}

impl Kept {
    /// Keeps what `features` `[N, ...]` holds of the samples `indices`, as far as there is room.
    pub fn put(&mut self, indices: &[usize], features: &Tensor) {
        self.shape = features.shape[1..].to_vec();
        let size: usize = self.shape.iter().product();
        for (&index, values) in indices.iter().zip(features.data.chunks_exact(size.max(1))) {
            if self.bytes + size * 4 <= BUDGET && self.values.insert(index, values.to_vec()).is_none() {
                self.bytes += size * 4;
            }
        }
    }

    /// Whether every one of `indices` is here, apart from those that cannot be read.
    pub fn has_all(&self, indices: &[usize], failed: &[(usize, String)]) -> bool {
        indices.iter().all(|index| self.values.contains_key(index) || failed.iter().any(|(f, _)| f == index))
    }

    /// The samples of `indices` that are here and their values `[N, ...]`, in order.
    pub fn batch(&self, indices: &[usize]) -> (Vec<usize>, Tensor) {
        let found: Vec<usize> = indices.iter().copied().filter(|index| self.values.contains_key(index)).collect();
        let data = found.iter().flat_map(|index| &self.values[index]).copied().collect();
        let shape = [&[found.len()], self.shape.as_slice()].concat();
        (found, Tensor { shape, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_in_the_order_asked_for_without_what_cannot_be_read() {
        let mut kept = Kept::default();
        kept.put(&[4, 7], &Tensor { shape: vec![2, 1, 2], data: vec![1.0, 2.0, 3.0, 4.0] });
        let failed = [(9, "damaged".to_string())];
        assert!(kept.has_all(&[7, 4, 9, 7], &failed) && !kept.has_all(&[5], &failed));
        let (indices, batch) = kept.batch(&[7, 9, 4, 7]);
        assert_eq!((indices, batch.shape), (vec![7, 4, 7], vec![3, 1, 2]));
        assert_eq!(batch.data, [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
    }
}
