//! Principal components by orthogonal iteration (G. H. Golub and C. F. Van Loan, "Matrix Computations", 8.2.4).

use kernels::{Matrix, gemm};
use rand::{Rng, SeedableRng};

use super::FeatureIndex;

/// Rows that the second moments are taken over.
const SAMPLE: usize = 8192;
const ROUNDS: usize = 8;

/// Evenly spread rows, at most `most` of them.
pub(super) fn sample(index: &FeatureIndex, most: usize) -> Vec<usize> {
    let (count, taken) = (index.len(), index.len().min(most));
    (0..taken).map(|i| (i as u128 * count as u128 / taken as u128) as usize).collect()
}

/// The leading directions of the uncentred second moments of a sample, `[dims, columns]` with orthonormal rows.
pub(super) fn principal(index: &FeatureIndex) -> Vec<f32> {
    let (columns, dims) = (index.columns, index.dims);
    let chosen = sample(index, SAMPLE);
    let rows: Vec<f32> = chosen.iter().flat_map(|&i| index.row(i)).collect();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(index.options.seed);
    let mut basis: Vec<f32> = (0..dims * columns).map(|_| rng.random_range(-1.0..1.0)).collect();
    orthonormalise(&mut basis, columns);
    let mut moments = vec![0f32; columns * columns];
    let matrix = Matrix::new(&rows, chosen.len(), columns);
    gemm(&mut moments, matrix.t(), matrix, false);
    let mut next = vec![0f32; dims * columns];
    for _ in 0..ROUNDS {
        gemm(&mut next, Matrix::new(&basis, dims, columns), Matrix::new(&moments, columns, columns), false);
        std::mem::swap(&mut basis, &mut next);
        orthonormalise(&mut basis, columns);
    }
    basis
}

/// Gram–Schmidt, each row against those before it, twice for accuracy. A row that depends on them becomes zero.
fn orthonormalise(basis: &mut [f32], columns: usize) {
    for at in 0..basis.len() / columns {
        let (before, rest) = basis.split_at_mut(at * columns);
        let row = &mut rest[..columns];
        super::normalise(row);
        for _ in 0..2 {
            for other in before.chunks_exact(columns) {
                let product = crate::duplicates::dot(row, other);
                row.iter_mut().zip(other).for_each(|(v, o)| *v -= product * o);
            }
        }
        if crate::duplicates::dot(row, row) < 1e-8 {
            row.fill(0.0);
        }
        super::normalise(row);
    }
}
