//! What calibration images show of a value, and the range of it that bytes should cover.

use crate::quantize::Method;

/// Bins of a histogram, as in Migacz (2017).
const BINS: usize = 2048;
/// Share of the values that [`Method::Percentile`] leaves outside.
const OUTSIDE: f64 = 1e-4;

/// One value over all calibration images.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    low: f32,
    high: f32,
    /// Largest magnitude by channel.
    magnitudes: Vec<f32>,
    /// What channels are divided by in the second pass.
    factors: Option<Vec<f32>>,
    /// Sums by channel, and how many values each has.
    sums: Vec<f64>,
    count: f64,
    innermost: bool,
    histogram: Vec<f64>,
}

impl Observed {
    /// For values `[channels, ..]`, or `[.., channels]` where they are `innermost`.
    pub fn new(channels: usize, innermost: bool) -> Self {
        let (sums, magnitudes) = (vec![0.0; channels], vec![0.0; channels]);
        let (low, high) = (f32::INFINITY, f32::NEG_INFINITY);
        Self { low, high, magnitudes, factors: None, sums, count: 0.0, innermost, histogram: Vec::new() }
    }

    /// The first pass: bounds and means.
    pub fn bound(&mut self, values: &[f32]) {
        let channels = self.sums.len().max(1);
        let each = (values.len() / channels).max(1);
        for (i, &v) in values.iter().enumerate() {
            self.low = self.low.min(v);
            self.high = self.high.max(v);
            let channel = if self.innermost { i % channels } else { i / each };
            self.sums[channel] += f64::from(v);
            self.magnitudes[channel] = self.magnitudes[channel].max(v.abs());
        }
        self.count += each as f64;
    }

    /// Largest magnitude of each channel.
    pub fn magnitudes(&self) -> &[f32] {
        &self.magnitudes
    }

    /// From now on channels are divided by factors; bounds widen to what that makes at most.
    pub fn divide(&mut self, factors: &[f32]) {
        let largest = self.magnitudes.iter().zip(factors).fold(0.0f32, |m, (v, f)| m.max(v / f));
        (self.low, self.high) = (if self.low < 0.0 { -largest } else { 0.0 }, largest);
        self.factors = Some(factors.to_vec());
    }

    /// The second pass: the histogram between the bounds.
    pub fn fill(&mut self, values: &[f32]) {
        self.histogram.resize(BINS, 0.0);
        let scale = BINS as f32 / (self.high - self.low).max(f32::MIN_POSITIVE);
        let each = (values.len() / self.sums.len().max(1)).max(1);
        for (i, &v) in values.iter().enumerate() {
            let v = self.factors.as_ref().map_or(v, |factors| v / factors[i / each]);
            let bin = ((v - self.low) * scale) as usize;
            self.histogram[bin.min(BINS - 1)] += 1.0;
        }
    }

    /// What channels are divided by, if anything.
    pub fn factors(&self) -> Option<&[f32]> {
        self.factors.as_deref()
    }

    /// Mean of each channel.
    pub fn means(&self) -> Vec<f64> {
        self.sums.iter().map(|s| s / self.count.max(1.0)).collect()
    }

    /// The range to cover.
    pub fn range(&self, method: Method) -> (f32, f32) {
        if !(self.low.is_finite() && self.high > self.low) || self.histogram.is_empty() {
            return (self.low.min(0.0), self.high.max(0.0));
        }
        match method {
            Method::MinMax => (self.low, self.high),
            Method::Percentile => self.percentile(),
            Method::Entropy => self.entropy(),
        }
    }

    fn percentile(&self) -> (f32, f32) {
        let total: f64 = self.histogram.iter().sum();
        // What an activation cut off at 0 stays there: only the other end has outliers.
        let ends = if self.low >= 0.0 { [0.0, OUTSIDE] } else { [OUTSIDE / 2.0; 2] };
        let reach = |bins: &mut dyn Iterator<Item = &f64>, share: f64| {
            let mut seen = 0.0;
            bins.take_while(|&&count| {
                seen += count;
                seen <= share * total
            })
            .count()
        };
        let width = (self.high - self.low) / BINS as f32;
        let first = reach(&mut self.histogram.iter(), ends[0]);
        let last = reach(&mut self.histogram.iter().rev(), ends[1]);
        (self.low + first as f32 * width, self.high - last as f32 * width)
    }

    /// The threshold on magnitudes whose bytes lose least information; the side of 0 that reaches less far is kept as it is.
    fn entropy(&self) -> (f32, f32) {
        let signed = self.low < 0.0;
        let reach = self.high.max(-self.low);
        let mut magnitudes = vec![0.0; BINS];
        let width = (self.high - self.low) / BINS as f32;
        for (bin, count) in self.histogram.iter().enumerate() {
            let middle = self.low + (bin as f32 + 0.5) * width;
            magnitudes[((middle.abs() / reach * BINS as f32) as usize).min(BINS - 1)] += count;
        }
        // Zeros that an activation cut off are exact in any range: they say nothing about it, as in TensorRT.
        magnitudes[0] = magnitudes[1];
        // Half of the bytes for each sign.
        let levels = if signed { 128 } else { 256 };
        let least =
            (levels..=BINS).step_by(8).min_by(|&a, &b| divergence(&magnitudes, a, levels).total_cmp(&divergence(&magnitudes, b, levels)));
        let threshold = reach * least.unwrap_or(BINS) as f32 / BINS as f32;
        (self.low.max(-threshold), self.high.min(threshold))
    }
}

/// Kullback–Leibler divergence of the first `bins` bins, with what lies beyond added to the last, from themselves in `levels` steps.
fn divergence(histogram: &[f64], bins: usize, levels: usize) -> f64 {
    let (inside, beyond) = histogram.split_at(bins);
    let outside: f64 = beyond.iter().sum();
    let total: f64 = inside.iter().sum::<f64>() + outside;
    let quantised_total: f64 = inside.iter().sum();
    if quantised_total <= 0.0 {
        return f64::INFINITY;
    }
    let mut sum = 0.0;
    for level in 0..levels {
        let (start, end) = (level * bins / levels, (level + 1) * bins / levels);
        let part = &inside[start..end];
        let filled = part.iter().filter(|&&c| c > 0.0).count().max(1) as f64;
        let q = part.iter().sum::<f64>() / filled / quantised_total;
        for (i, &count) in part.iter().enumerate() {
            let p = if start + i + 1 == bins { count + outside } else { count } / total;
            if p > 0.0 {
                // A bin that only outliers fill has no quantised mass: a small one keeps the sum finite.
                sum += p * (p / q.max(1e-9)).ln();
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn observed(values: &[f32]) -> Observed {
        let mut observed = Observed::new(1, false);
        observed.bound(values);
        observed.fill(values);
        observed
    }

    #[test]
    fn ranges_are_what_the_methods_say() {
        // Uniform in 0..1, and one outlier.
        let mut values: Vec<f32> = (0..100_000).map(|i| i as f32 / 100_000.0).collect();
        values.push(100.0);
        let seen = observed(&values);
        assert_eq!(seen.range(Method::MinMax), (0.0, 100.0));
        let (low, high) = seen.range(Method::Percentile);
        assert!(low == 0.0 && (0.9..1.2).contains(&high), "{low} {high}");
        assert!((seen.means()[0] - 0.5).abs() < 0.01);
        // Bytes over 0..100 would put all of the mass into three steps.
        let (low, high) = seen.range(Method::Entropy);
        assert!(low == 0.0 && (0.9..20.0).contains(&high), "{low} {high}");
    }

    #[test]
    fn both_ends_are_cut_of_signed_values() {
        let mut values: Vec<f32> = (0..200_000).map(|i| i as f32 / 100_000.0 - 1.0).collect();
        values.extend([-50.0, 50.0]);
        let (low, high) = observed(&values).range(Method::Percentile);
        assert!((-1.1..-0.9).contains(&low) && (0.9..1.1).contains(&high), "{low} {high}");
        let constant = observed(&[2.0; 10]);
        assert_eq!(constant.range(Method::Entropy), (0.0, 2.0));
    }
}
