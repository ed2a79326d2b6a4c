//! The order in which an epoch visits the samples. Each order depends on its arguments, the seed and the epoch alone.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator of one epoch: the seed chooses the key, the epoch the stream.
pub(crate) fn generator(seed: u64, epoch: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch);
    rng
}

/// Every index once, in random order.
pub fn shuffled(indices: &[usize], seed: u64, epoch: u64) -> Vec<usize> {
    let mut order = indices.to_vec();
    order.shuffle(&mut generator(seed, epoch));
    order
}

/// Every class as often as the most frequent one, in random order: each sample of a class appears `⌊most/count⌋` times and a
/// random choice of them once more. `labels[j]` is the class of `indices[j]`; the shorter of the two decides.
pub fn oversampled(indices: &[usize], labels: &[usize], seed: u64, epoch: u64) -> Vec<usize> {
    let mut rng = generator(seed, epoch);
    let mut classes: std::collections::BTreeMap<usize, Vec<usize>> = std::collections::BTreeMap::new();
    for (&i, &label) in indices.iter().zip(labels) {
        classes.entry(label).or_default().push(i);
    }
    let most = classes.values().map(Vec::len).max().unwrap_or(0);
    let mut order = Vec::with_capacity(most * classes.len());
    for members in classes.values_mut() {
        let (times, rest) = (most / members.len(), most % members.len());
        for _ in 0..times {
            order.extend_from_slice(members);
        }
        let (extra, _) = members.partial_shuffle(&mut rng, rest);
        order.extend_from_slice(extra);
    }
    order.shuffle(&mut rng);
    order
}

/// `n` draws with replacement, each index with probability in proportion to its weight. Weights that are not finite or below 0
/// count as 0; when no weight is above 0, all count alike.
pub fn weighted(indices: &[usize], weights: &[f64], n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut rng = generator(seed, epoch);
    let len = indices.len().min(weights.len());
    if len == 0 {
        return Vec::new();
    }
    let usable = |w: f64| if w.is_finite() && w > 0.0 { w } else { 0.0 };
    let none = weights[..len].iter().all(|&w| usable(w) == 0.0);
    let mut sum = 0.0;
    let cumulative: Vec<f64> = weights[..len]
        .iter()
        .map(|&w| {
            sum += if none { 1.0 } else { usable(w) };
            sum
        })
        .collect();
    let draw = |rng: &mut ChaCha8Rng| {
        let x = rng.random::<f64>() * sum;
        indices[cumulative.partition_point(|&c| c <= x).min(len - 1)]
    };
    (0..n).map(|_| draw(&mut rng)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffles_are_permutations_that_follow_seed_and_epoch() {
        let indices: Vec<usize> = (10..110).collect();
        let a = shuffled(&indices, 1, 0);
        assert_eq!(a, shuffled(&indices, 1, 0));
        assert_ne!(a, shuffled(&indices, 1, 1));
        assert_ne!(a, shuffled(&indices, 2, 0));
        let mut sorted = a;
        sorted.sort_unstable();
        assert_eq!(sorted, indices);
    }

    #[test]
    fn oversampling_evens_out_the_classes() {
        let indices: Vec<usize> = (0..17).collect();
        let labels: Vec<usize> = indices.iter().map(|&i| if i < 12 { 0 } else { 1 }).collect();
        let order = oversampled(&indices, &labels, 3, 0);
        assert_eq!(order.len(), 24);
        let times: Vec<usize> = indices.iter().map(|i| order.iter().filter(|o| *o == i).count()).collect();
        assert!(times[..12].iter().all(|&t| t == 1));
        assert!(times[12..].iter().all(|&t| t == 2 || t == 3), "{times:?}");
        assert_eq!(times[12..].iter().sum::<usize>(), 12);
        assert_ne!(order, oversampled(&indices, &labels, 3, 1));
        assert!(oversampled(&[], &[], 0, 0).is_empty());
    }

    #[test]
    fn weighted_draws_follow_the_weights() {
        let order = weighted(&[5, 6, 7], &[1.0, 0.0, 3.0], 4000, 9, 0);
        let sevens = order.iter().filter(|&&i| i == 7).count();
        assert!(!order.contains(&6));
        assert!((2850..3150).contains(&sevens), "{sevens}");
        assert_eq!(weighted(&[5], &[f64::NAN], 2, 0, 0), [5, 5]);
    }
}
