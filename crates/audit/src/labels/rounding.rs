//! Sums and roundings in the order in which NumPy makes them: half a count that falls the other way would move an item.

/// The sum of values by pairs, in blocks of at most 128 with eight running sums (`numpy.sum` over contiguous values).
pub(super) fn pairwise_sum(values: &[f64]) -> f64 {
    let n = values.len();
    if n < 8 {
        return values.iter().sum();
    }
    if n > 128 {
        let half = n / 2 - (n / 2) % 8;
        return pairwise_sum(&values[..half]) + pairwise_sum(&values[half..]);
    }
    let mut r = [0.0; 8];
    let blocks = values.chunks_exact(8);
    let rest = blocks.remainder();
    for (i, block) in blocks.enumerate() {
        for (sum, value) in r.iter_mut().zip(block) {
            *sum = if i == 0 { *value } else { *sum + value };
        }
    }
    let sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    rest.iter().fold(sum, |sum, value| sum + value)
}

/// Rounds to whole numbers whose sum is the rounded sum: what rounding gained or lost is taken from, or given to, the values that were
/// rounded furthest; of equals, the first lose first and the last gain first.
pub(super) fn round_preserving_sum(values: &[f64]) -> Vec<i64> {
    let mut whole: Vec<f64> = values.iter().map(|v| v.round_ties_even()).collect();
    let target = pairwise_sum(values).round_ties_even();
    loop {
        let missing = target - pairwise_sum(&whole);
        if missing == 0.0 || values.is_empty() {
            return whole.into_iter().map(|v| v as i64).collect();
        }
        let differences: Vec<f64> = values.iter().zip(&whole).map(|(value, whole)| value - whole).collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| differences[a].total_cmp(&differences[b]));
        if missing > 0.0 {
            order.reverse();
        }
        for &i in order.iter().take(missing.abs() as usize) {
            whole[i] += missing.signum();
        }
    }
}
