//! The inverse cosine transform at part of the size: the low frequencies of a block as a smaller block (as libjpeg's scaled decoding).

/// Position in zigzag order of the coefficient in row `v` and column `u` (ITU-T T.81, figure A.6).
pub(super) const ZIGZAG: [[usize; 8]; 8] = [
    [0, 1, 5, 6, 14, 15, 27, 28],
    [2, 4, 7, 13, 16, 26, 29, 42],
    [3, 8, 12, 17, 25, 30, 41, 43],
    [9, 11, 18, 24, 31, 40, 44, 53],
    [10, 19, 23, 32, 39, 45, 52, 54],
    [20, 22, 33, 38, 46, 51, 55, 60],
    [21, 34, 37, 47, 50, 56, 59, 61],
    [35, 36, 48, 49, 57, 58, 62, 63],
];

/// Writes a block of pixels, rows `stride` apart, from dequantised coefficients in zigzag order.
pub(super) type Inverse = fn(coefficients: &[f32; 64], basis: &Basis, out: &mut [u8], stride: usize);

/// `basis[n][u * 8 + x]`: the cosine of frequency `u` at pixel `x` of `2^n` pixels, times `c(u) / 2`.
pub(super) struct Basis([[f32; 64]; 4]);

impl Basis {
    pub fn new() -> Self {
        let value = |pixels: usize, at: usize| {
            let (u, x) = ((at / 8) as f64, (at % 8) as f64);
            let c = if u == 0.0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
            (0.5 * c * ((2.0 * x + 1.0) * u * std::f64::consts::PI / (2.0 * pixels as f64)).cos()) as f32
        };
        Basis(std::array::from_fn(|n| std::array::from_fn(|at| value(1 << n, at))))
    }
}

/// The transform to blocks of `rows` by `columns` pixels, each 1, 2, 4 or 8, and the last coefficient that it reads.
pub(super) fn inverse(rows: usize, columns: usize) -> Option<(Inverse, usize)> {
    let transform: Inverse = match (rows, columns) {
        (1, 1) => mean,
        (1, 2) => scaled::<1, 2>,
        (2, 1) => scaled::<2, 1>,
        (2, 2) => scaled::<2, 2>,
        (2, 4) => scaled::<2, 4>,
        (4, 2) => scaled::<4, 2>,
        (4, 4) => scaled::<4, 4>,
        (4, 8) => scaled::<4, 8>,
        (8, 4) => scaled::<8, 4>,
        (8, 8) => scaled::<8, 8>,
        (1, 4) => scaled::<1, 4>,
        (4, 1) => scaled::<4, 1>,
        (2, 8) => scaled::<2, 8>,
        (8, 2) => scaled::<8, 2>,
        _ => return None,
    };
    let last = ZIGZAG[..rows].iter().flat_map(|row| &row[..columns]).max()?;
    Some((transform, *last))
}

fn byte(value: f32) -> u8 {
    // By way of i32, for which there is a vector instruction.
    (value + 128.5).clamp(0.0, 255.0) as i32 as u8
}

/// One pixel: the mean of the block.
fn mean(coefficients: &[f32; 64], _: &Basis, out: &mut [u8], _: usize) {
    out[0] = byte(coefficients[0] / 8.0);
}

fn scaled<const ROWS: usize, const COLUMNS: usize>(coefficients: &[f32; 64], basis: &Basis, out: &mut [u8], stride: usize) {
    let down = &basis.0[ROWS.trailing_zeros() as usize];
    let across = &basis.0[COLUMNS.trailing_zeros() as usize];
    // `half[v]`: row of frequency `v`, its pixels across.
    let mut half = [[0f32; COLUMNS]; ROWS];
    for (v, half) in half.iter_mut().enumerate() {
        for u in 0..COLUMNS {
            let coefficient = coefficients[ZIGZAG[v][u]];
            // Large blocks are those of chroma, which has few coefficients.
            if COLUMNS == 8 && coefficient == 0.0 {
                continue;
            }
            for (x, value) in half.iter_mut().enumerate() {
                *value += coefficient * across[u * 8 + x];
            }
        }
    }
    for (y, line) in out.chunks_mut(stride).take(ROWS).enumerate() {
        let mut sums = [0f32; COLUMNS];
        for (v, half) in half.iter().enumerate() {
            let weight = down[v * 8 + y];
            for (sum, value) in sums.iter_mut().zip(half) {
                *sum += weight * value;
            }
        }
        for (pixel, sum) in line.iter_mut().zip(sums) {
            *pixel = byte(sum);
        }
    }
}
