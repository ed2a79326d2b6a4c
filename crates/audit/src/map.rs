//! A map of the features in the plane, for the eye.

use bhtsne::{Neighbor, tSNE};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Neighbours;

/// Neighbours that a map wants: three times its perplexity of 10.
pub const MAP_NEIGHBOURS: usize = 30;

/// Fewer samples than this are laid out in a row: a map of them says nothing.
const LEAST: usize = 8;

/// A place in `0..=1` × `0..=1` for each sample, near ones near: t-SNE (van der Maaten and Hinton 2008) on the given neighbours by the
/// interpolation of Linderman et al. 2019. Distances between far groups mean nothing.
pub fn map(neighbours: &Neighbours, seed: u64) -> Vec<[f32; 2]> {
    let n = neighbours.len();
    if n < LEAST || neighbours.k < 3 {
        return (0..n).map(|i| [(i as f32 + 0.5) / n as f32, 0.5]).collect();
    }
    let row = |i: usize| {
        let near = neighbours.of(i).iter().zip(neighbours.distances_of(i));
        near.map(|(&index, &distance)| Neighbor { index: index as usize, distance: distance.max(0.0).sqrt() }).collect()
    };
    let table: Vec<Vec<Neighbor<f32>>> = (0..n).map(row).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let start: Vec<f32> = (0..2 * n).map(|_| rng.random_range(-1e-2..1e-2)).collect();
    let samples: Vec<usize> = (0..n).collect();
    let fit = || {
        let mut fit: tSNE<f32, usize> = tSNE::new(&samples);
        fit.perplexity((neighbours.k / 3) as f32).initial_embedding(start).fit_sne_with_neighbors(&table).embedding()
    };
    // The library sums in the order in which threads end: one thread makes the same map each time.
    match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        Ok(one) => unit_square(&one.install(fit)),
        Err(_) => unit_square(&fit()),
    }
}

/// Scales both axes alike, so that all points lie in the square.
fn unit_square(places: &[f32]) -> Vec<[f32; 2]> {
    let range = |axis: usize| {
        let values = || places.iter().skip(axis).step_by(2).copied().filter(|v| v.is_finite());
        (values().fold(f32::INFINITY, f32::min), values().fold(f32::NEG_INFINITY, f32::max))
    };
    let ([x0, x1], [y0, y1]) = (<[f32; 2]>::from(range(0)), <[f32; 2]>::from(range(1)));
    let side = (x1 - x0).max(y1 - y0).max(f32::MIN_POSITIVE);
    let inside = |v: f32, low: f32, high: f32| if v.is_finite() { (0.5 + (v - (low + high) / 2.0) / side).clamp(0.0, 1.0) } else { 0.5 };
    places.chunks_exact(2).map(|p| [inside(p[0], x0, x1), inside(p[1], y0, y1)]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn groups_lie_apart_and_the_seed_decides() {
        // Two directions, forty samples around each.
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let features: Vec<f32> =
            (0..80).flat_map(|i| (0..6).map(move |j| (i % 2 == j % 2) as u8 as f32)).map(|v| v + rng.random_range(0.0..0.2)).collect();
        let neighbours = Neighbours::exact(&features, 6, 20).unwrap();
        let places = map(&neighbours, 3);
        assert_eq!(places, map(&neighbours, 3));
        assert!(places.iter().flatten().all(|v| (0.0..=1.0).contains(v)));
        let centre = |odd: usize| {
            let own: Vec<_> = places.iter().skip(odd).step_by(2).collect();
            [0, 1].map(|axis| own.iter().map(|p| p[axis]).sum::<f32>() / own.len() as f32)
        };
        let distance = |a: [f32; 2], b: [f32; 2]| ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sqrt();
        let (even, odd) = (centre(0), centre(1));
        let nearer_own = places.iter().enumerate().filter(|(i, p)| (distance(**p, even) < distance(**p, odd)) == (i % 2 == 0)).count();
        assert!(nearer_own >= 78, "{nearer_own} of 80");
    }

    #[test]
    fn a_handful_lies_in_a_row() {
        let neighbours = Neighbours::exact(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], 2, 2).unwrap();
        assert_eq!(map(&neighbours, 0).len(), 3);
    }
}
