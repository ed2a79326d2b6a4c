//! Whether one picture is a copy of another: what is left of it when the other is taken away, beside what copying adds.
//!
//! Pictures of one kind (cells, digits, cloth) have near hashes and high correlations without being copies. What tells a copy is that nothing
//! is left: the two [`Thumbnail`]s are laid over one another, the tone of the first (gain and offset, by least squares) is fitted to the second,
//! and the rest is compared with what resizing, compression and rounding leave. Pixels that the change of tone takes beyond black or white, and
//! their neighbours, do not count: there a copy is clipped.
//!
//! How large the rest may be follows from the set itself: a quarter of what only one pair in a thousand of *unrelated* pictures falls below,
//! within bounds. Where all pictures are alike (cells of one make) copies must agree to the noise; where they differ much, clipped colours and
//! strong compression are forgiven. Nothing is published for this; the figures are in BENCHMARKS.md.

use kernels::{Loops, vectorized};

use crate::pixels::{Symmetry, Thumbnail};

const SIDE: usize = Thumbnail::SIDE;
const PIXELS: usize = SIDE * SIDE;

/// Deviation in grey levels that rounding and compression leave in a thumbnail: a JPEG of quality 40 of a flat area.
const NOISE: f32 = 0.7;
/// Share of a picture's finest detail that resampling leaves.
const RESAMPLED: f32 = 0.05;
/// A pixel outside these may be clipped.
const UNCLIPPED: [f32; 2] = [5.0 - MIDDLE, 235.0 - MIDDLE];
/// A tone that goes beyond these is clipped.
const TONES: [f32; 2] = [-2.0 - MIDDLE, 257.0 - MIDDLE];
/// Grey level that is counted from.
const MIDDLE: f32 = 128.0;
/// Least square of the correlation: below it two pictures differ at first sight.
const GLANCE: f32 = 0.75;
/// Pixels that must be left to compare.
const FEWEST: f32 = 64.0;
/// How large the deviation of a picture must be beside the rest: flat pictures prove nothing.
const CONTENT: f32 = 4.0;
/// Bounds of gain.
const GAIN: [f32; 2] = [0.25, 4.0];

/// Bounds of the largest rest, in units of the noise.
const BOUNDS: [f32; 2] = [1.0, 3.0];
/// The largest rest in a set too small to say what is usual.
const UNKNOWN: f32 = 1.5;
/// Pictures below which a set says nothing.
const SMALL: usize = 20;
/// Unrelated pairs that are looked at.
const DRAWN: usize = 20_000;

/// How large a rest makes two pictures of this set different.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likeness {
    limit: f32,
}

impl Likeness {
    /// The limit for a set of pictures; give one of each group of exact duplicates.
    pub fn of(thumbnails: &[&Thumbnail]) -> Likeness {
        let n = thumbnails.len();
        if n < SMALL {
            return Likeness { limit: UNKNOWN };
        }
        let prepared = |i: usize| Prepared::new(thumbnails[i].pixels());
        let mut rests: Vec<f32> = (0..DRAWN.min(n * (n - 1) / 2))
            .map(|draw| {
                // A fixed rule instead of chance: far apart in any order the pictures may have.
                let first = draw % n;
                let second = (first + 1 + (mixed(draw as u64) % (n as u64 - 1)) as usize) % n;
                rest(&prepared(first), &prepared(second)).unwrap_or(f32::INFINITY)
            })
            .collect();
        rests.sort_unstable_by(f32::total_cmp);
        // Each picture may have a few copies: pairs as frequent as those are passed over.
        let share = f32::max(1e-3, 4.0 / n as f32);
        let low = rests[((share * rests.len() as f32) as usize).min(rests.len() - 1)];
        Likeness { limit: (low / 4.0).clamp(BOUNDS[0], BOUNDS[1]) }
    }

    /// The largest rest that a copy leaves, in units of the noise.
    pub fn limit(&self) -> f32 {
        self.limit
    }

    /// How alike two pictures are that leave this rest: 1 for none, 1/2 at the limit, 0 from twice the limit.
    pub fn at(&self, rest: f32) -> f32 {
        (1.0 - 0.5 * rest / self.limit).clamp(0.0, 1.0)
    }
}

/// What the fit leaves of `second` when `first`, changed by `symmetry`, is taken away: root mean square over the deviation that copying leaves.
/// `None` where too little can be compared.
pub fn rest_between(first: &Thumbnail, symmetry: Symmetry, second: &Thumbnail) -> Option<f32> {
    rest(&Prepared::new(&first.changed(symmetry)), &Prepared::new(second.pixels()))
}

/// SplitMix64's finisher (G. Steele et al., "Fast Splittable Pseudorandom Number Generators", 2014).
fn mixed(value: u64) -> u64 {
    let z = value.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Values or weights of a thumbnail's pixels.
type Plane = [f32; PIXELS];

/// A thumbnail ready to be compared.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    /// Grey levels around [`MIDDLE`].
    values: Plane,
    /// 1 where the pixel cannot be clipped, otherwise 0.
    inside: Plane,
}

impl Prepared {
    pub(super) fn new(pixels: &[u8]) -> Prepared {
        let mut prepared = Prepared { values: [0.0; PIXELS], inside: [0.0; PIXELS] };
        vectorized(Prepare { pixels, prepared: &mut prepared });
        prepared
    }
}

struct Prepare<'a> {
    pixels: &'a [u8],
    prepared: &'a mut Prepared,
}

impl Loops for Prepare<'_> {
    #[inline(always)]
    fn run(self) {
        let Prepared { values, inside } = self.prepared;
        for ((value, inside), &pixel) in values.iter_mut().zip(inside).zip(self.pixels) {
            *value = f32::from(pixel) - MIDDLE;
            *inside = if (UNCLIPPED[0]..=UNCLIPPED[1]).contains(value) { 1.0 } else { 0.0 };
        }
    }
}

/// [`rest_between`] of prepared thumbnails; infinite where they differ at first sight.
pub(super) fn rest(first: &Prepared, second: &Prepared) -> Option<f32> {
    let mut alike = false;
    vectorized(Glance { first, second, alike: &mut alike });
    if !alike {
        return Some(f32::INFINITY);
    }
    let mut out = None;
    vectorized(Rest { first, second, out: &mut out });
    out
}

/// One pass: are the two correlated at all?
struct Glance<'a> {
    first: &'a Prepared,
    second: &'a Prepared,
    alike: &'a mut bool,
}

impl Loops for Glance<'_> {
    #[inline(always)]
    fn run(self) {
        let (a, b) = (&self.first.values, &self.second.values);
        let (c, d) = (&self.first.inside, &self.second.inside);
        let [count, x, y, xx, xy, yy] = sums(|i| {
            let w = c[i] * d[i];
            let (x, y) = (w * a[i], w * b[i]);
            [w, x, y, x * a[i], x * b[i], y * b[i]]
        });
        let related = |count: f32, x: f32, y: f32, xx: f32, xy: f32, yy: f32| {
            let (xx, xy, yy) = (xx - x * x / count, xy - x * y / count, yy - y * y / count);
            xy > 0.0 && xy * xy >= GLANCE * xx * yy
        };
        *self.alike = if count >= FEWEST {
            related(count, x, y, xx, xy, yy)
        } else {
            let [x, y, xx, xy, yy] = sums(|i| [a[i], b[i], a[i] * a[i], a[i] * b[i], b[i] * b[i]]);
            related(PIXELS as f32, x, y, xx, xy, yy)
        };
    }
}

/// How the tones of one picture become those of another.
#[derive(Clone, Copy)]
struct Tone {
    gain: f32,
    offset: f32,
}

impl Tone {
    /// Least squares over the weighted pixels; `None` where either is even.
    #[inline(always)]
    fn fit(a: &Plane, b: &Plane, weights: &Plane) -> Option<Tone> {
        let [count, x, y] = sums(|i| [weights[i], weights[i] * a[i], weights[i] * b[i]]);
        if count < 1.0 {
            return None;
        }
        let (mean_a, mean_b) = (x / count, y / count);
        let [aa, ab] = sums(|i| {
            let x = weights[i] * (a[i] - mean_a);
            [x * (a[i] - mean_a), x * (b[i] - mean_b)]
        });
        let gain = (ab / aa).clamp(GAIN[0], GAIN[1]);
        gain.is_finite().then_some(Tone { gain, offset: mean_b - gain * mean_a })
    }

    #[inline(always)]
    fn of(self, value: f32) -> f32 {
        self.gain * value + self.offset
    }
}

struct Rest<'a> {
    first: &'a Prepared,
    second: &'a Prepared,
    out: &'a mut Option<f32>,
}

impl Loops for Rest<'_> {
    #[inline(always)]
    fn run(self) {
        let (a, b) = (&self.first.values, &self.second.values);
        let Some(tone) = Tone::fit(a, b, &first_weights(self.first, self.second)) else { return };
        let beyond = |value: f32| !(TONES[0]..=TONES[1]).contains(&value);
        let mut clipped = [0.0; PIXELS];
        for i in 0..PIXELS {
            let clips = beyond(tone.of(a[i])) || beyond((b[i] - tone.offset) / tone.gain);
            clipped[i] = if clips { 1.0 } else { 0.0 };
        }
        let weights = unclipped(&clipped);
        let Some(tone) = Tone::fit(a, b, &weights) else { return };
        let [count, sum, left] = sums(|i| [weights[i], weights[i] * b[i], weights[i] * (b[i] - tone.of(a[i])).powi(2)]);
        if count < FEWEST {
            return;
        }
        let [deviation] = sums(|i| [weights[i] * (b[i] - sum / count).powi(2)]);
        let resampled = RESAMPLED * RESAMPLED * (detail(b, &weights) + tone.gain * tone.gain * detail(a, &weights)) / 2.0;
        let noise = NOISE * NOISE * (1.0 + tone.gain * tone.gain) / 2.0 + resampled / count;
        if left * CONTENT * CONTENT > deviation {
            *self.out = Some(f32::INFINITY);
        } else if deviation / count > noise * CONTENT * CONTENT {
            *self.out = Some((left / count / noise).sqrt());
        }
    }
}

/// The pixels that the tone is first fitted to: far from black and white where there are enough of those.
#[inline(always)]
fn first_weights(first: &Prepared, second: &Prepared) -> Plane {
    let mut outside = [0.0; PIXELS];
    for ((slot, x), y) in outside.iter_mut().zip(&first.inside).zip(&second.inside) {
        *slot = 1.0 - x * y;
    }
    let far = unclipped(&outside);
    let enough = |weights: &Plane| sums(|i| [weights[i]])[0] >= FEWEST;
    if enough(&far) {
        return far;
    }
    let near = outside.map(|clipped| 1.0 - clipped);
    if enough(&near) { near } else { [1.0; PIXELS] }
}

/// 1 where neither the pixel nor one of its eight neighbours is marked with 1.
#[inline(always)]
fn unclipped(marked: &Plane) -> Plane {
    let mut out = [0.0; PIXELS];
    for y in 0..SIDE {
        let line = |y: usize| &marked[y * SIDE..][..SIDE];
        let (above, here, below) = (line(y.saturating_sub(1)), line(y), line((y + 1).min(SIDE - 1)));
        let mut down = [0f32; SIDE];
        for x in 0..SIDE {
            down[x] = above[x].max(here[x]).max(below[x]);
        }
        for x in 0..SIDE {
            out[y * SIDE + x] = 1.0 - down[x.saturating_sub(1)].max(down[x]).max(down[(x + 1).min(SIDE - 1)]);
        }
    }
    out
}

/// Sum of squares of the weighted pixels less the mean of the 3×3 around, the border repeated.
#[inline(always)]
fn detail(values: &Plane, weights: &Plane) -> f32 {
    let mut sum = 0.0;
    for y in 0..SIDE {
        let line = |y: usize| &values[y * SIDE..][..SIDE];
        let (above, here, below) = (line(y.saturating_sub(1)), line(y), line((y + 1).min(SIDE - 1)));
        let mut down = [0f32; SIDE];
        for x in 0..SIDE {
            down[x] = above[x] + here[x] + below[x];
        }
        for x in 0..SIDE {
            let around = down[x.saturating_sub(1)] + down[x] + down[(x + 1).min(SIDE - 1)];
            sum += weights[y * SIDE + x] * (here[x] - around / 9.0).powi(2);
        }
    }
    sum
}

/// Sums over all pixels, in sixteen lanes so that the loops become vector instructions.
#[inline(always)]
fn sums<const N: usize>(terms: impl Fn(usize) -> [f32; N]) -> [f32; N] {
    let mut lanes = [[0f32; 16]; N];
    for start in (0..PIXELS).step_by(16) {
        for lane in 0..16 {
            let terms = terms(start + lane);
            for (sums, term) in lanes.iter_mut().zip(terms) {
                sums[lane] += term;
            }
        }
    }
    lanes.map(|lane| lane.iter().sum())
}

/// Sixteen sums side by side, so that the loop becomes vector instructions.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (blocks_a, blocks_b) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = blocks_a.remainder().iter().zip(blocks_b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in blocks_a.zip(blocks_b) {
        for i in 0..16 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::{Rng, SeedableRng};

    fn blobs(seed: u64) -> Vec<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let blobs: Vec<[f32; 4]> = (0..20)
            .map(|_| [rng.random_range(0.0..32.0), rng.random_range(0.0..32.0), rng.random_range(1.0..5.0), rng.random_range(-50.0..50.0)])
            .collect();
        let value = |i: usize| {
            let (x, y) = ((i % SIDE) as f32, (i / SIDE) as f32);
            110.0 + blobs.iter().map(|b| b[3] * (-((x - b[0]).powi(2) + (y - b[1]).powi(2)) / (2.0 * b[2] * b[2])).exp()).sum::<f32>()
        };
        (0..PIXELS).map(value).collect()
    }

    fn bytes(values: &[f32], gain: f32, offset: f32) -> Vec<u8> {
        values.iter().map(|v| (v * gain + offset).round().clamp(0.0, 255.0) as u8).collect()
    }

    fn between(a: &[u8], b: &[u8]) -> Option<f32> {
        rest(&Prepared::new(a), &Prepared::new(b))
    }

    #[test]
    fn tone_and_clipping_are_forgiven_and_other_content_is_not() {
        let picture = blobs(1);
        let plain = bytes(&picture, 1.0, 0.0);
        assert!(between(&plain, &plain).unwrap() < 0.01);
        for (gain, offset) in [(0.7, -20.0), (1.3, 0.0), (1.6, 10.0), (1.0, 60.0)] {
            let other = bytes(&picture, gain, offset);
            assert!(between(&plain, &other).unwrap() < 1.0, "{gain} {offset}");
            assert!(between(&other, &plain).unwrap() < 1.0, "{gain} {offset}");
        }
        assert!(between(&plain, &bytes(&blobs(2), 1.0, 0.0)).unwrap() > 10.0);
        // One small spot more.
        let mut spot = plain.clone();
        (0..9).for_each(|i| spot[(10 + i / 3) * SIDE + 10 + i % 3] = spot[(10 + i / 3) * SIDE + 10 + i % 3].wrapping_add(40) / 2);
        assert!(between(&plain, &spot).unwrap() > 1.5);
    }

    #[test]
    fn what_shows_nothing_is_not_compared() {
        let different = |a: &[u8], b: &[u8]| between(a, b).is_none_or(f32::is_infinite);
        assert!(different(&[100; PIXELS], &[100; PIXELS]));
        assert!(different(&[255; PIXELS], &bytes(&blobs(1), 1.0, 0.0)));
        let grain: Vec<u8> = (0..PIXELS).map(|i| 100 + (mixed(i as u64) % 2) as u8).collect();
        assert!(different(&grain, &grain));
    }

    #[test]
    fn a_black_ground_counts_where_the_tone_keeps_it() {
        // Strokes of white on black, where hardly a pixel is grey.
        let stroke = |shift: usize| -> Vec<u8> {
            let value = |i: usize| if (i % SIDE + shift).abs_diff(i / SIDE) < 3 || i / SIDE == 20 { 255 } else { 0 };
            (0..PIXELS).map(value).collect()
        };
        assert!(between(&stroke(0), &stroke(0)).unwrap() < 0.01);
        assert!(between(&stroke(0), &stroke(4)).is_none_or(|rest| rest > 5.0));
    }

    #[test]
    fn the_limit_follows_the_set() {
        let thumbnails = |pictures: Vec<Vec<u8>>| -> Vec<Thumbnail> {
            pictures.into_iter().map(|p| crate::pixels::Look::measure(&p, [SIDE, SIDE, 1]).thumbnail).collect()
        };
        let limit = |all: &[Thumbnail]| Likeness::of(&all.iter().collect::<Vec<_>>()).limit();
        let unlike = thumbnails((0..50).map(|seed| bytes(&blobs(seed), 1.0, 0.0)).collect());
        assert_eq!(limit(&unlike), BOUNDS[1]);
        assert_eq!(limit(&unlike[..19]), UNKNOWN);
        // The same picture with a little of others: all alike.
        let base = blobs(0);
        let mixed = |seed: u64| -> Vec<f32> { base.iter().zip(blobs(seed)).map(|(a, b)| a + 0.03 * b).collect() };
        let alike = thumbnails((1..50).map(|seed| bytes(&mixed(seed), 1.0, 0.0)).collect());
        assert_eq!(limit(&alike), BOUNDS[0]);
    }
}
