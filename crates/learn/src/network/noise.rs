//! Random masks as a pure function of seed, epoch, step and node, so that a resumed run draws what an uninterrupted one would.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Names one training step's randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoiseKey {
    /// Of the run.
    pub seed: u64,
    /// From 0.
    pub epoch: u64,
    /// Batch in the epoch, from 0.
    pub step: u64,
}

impl NoiseKey {
    /// As [`Self::fill`], of so many values.
    pub(super) fn mask(self, node: usize, p: f32, values: usize) -> Vec<f32> {
        let mut mask = vec![0.0; values];
        self.fill(node, p, &mut mask);
        mask
    }

    /// Fills the mask of a node (by its position in the graph): each value 0 with probability `p` and `1 / (1 - p)` otherwise. Networks draw
    /// one value for each of a dropped activation, maps in the order `[N, H, W, C]`, and one for each image in stochastic depth.
    pub fn fill(self, node: usize, p: f32, mask: &mut [f32]) {
        let mut seed = [0; 32];
        for (bytes, part) in seed.chunks_exact_mut(8).zip([self.seed, self.epoch, self.step, node as u64]) {
            bytes.copy_from_slice(&part.to_le_bytes());
        }
        let mut rng = ChaCha8Rng::from_seed(seed);
        let scale = 1.0 / (1.0 - p);
        let threshold = (f64::from(p) * 4_294_967_296.0) as u64;
        mask.iter_mut().for_each(|m| *m = if u64::from(rng.next_u32()) < threshold { 0.0 } else { scale });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_repeat_by_key_keep_the_mean_and_differ_between_nodes() {
        let key = NoiseKey { seed: 1, epoch: 2, step: 3 };
        let mask = key.mask(4, 0.25, 40_000);
        assert_eq!(mask, key.mask(4, 0.25, 40_000));
        assert_ne!(mask, key.mask(5, 0.25, 40_000));
        assert_ne!(mask, NoiseKey { step: 4, ..key }.mask(4, 0.25, 40_000));
        let mean = mask.iter().sum::<f32>() / mask.len() as f32;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }
}
