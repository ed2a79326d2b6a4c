//! Exact and near duplicates, what they disagree on, and what they leak.
//!
//! Exact duplicates have equal pixels and shape. Near duplicates are found in stages, each of which looks closer at what the one before left:
//! perceptual hashes within a Hamming distance ([`HammingIndex`], mirrored and turned pictures included), cosine similarity of features where
//! there are any, and what one picture leaves of the other ([`Likeness`]). Groups are formed without chains ([`star_groups`]); leaks are looked
//! for on the pairs themselves, so that the forming of groups hides none.

mod findings;
mod groups;
mod hamming;
mod likeness;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use findings::duplicate_findings;
pub use groups::star_groups;
pub use hamming::HammingIndex;
pub(crate) use likeness::dot;
pub use likeness::{Likeness, rest_between};
use likeness::{Prepared, rest};

use crate::InputError;
use crate::pixels::{Measured, PixelTable, Symmetry, Thumbnail};

/// How near duplicates are told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DuplicateOptions {
    /// Largest Hamming distance of the 64-bit hashes. imagededup 0.3.3: 10.
    pub radius: u32,
    /// Least cosine similarity of features, where there are any; −1, the default, asks for none: of copies of ELPV that were compressed, half are
    /// below imagededup's 0.9, and of flipped ones more.
    pub cosine: f32,
    /// Least likeness, see [`Likeness::at`]: 0.5 is the limit that follows from the set.
    pub likeness: f32,
    /// Whether mirrored and turned copies are looked for.
    pub symmetries: bool,
}

impl Default for DuplicateOptions {
    fn default() -> DuplicateOptions {
        DuplicateOptions { radius: 10, cosine: -1.0, likeness: 0.5, symmetries: true }
    }
}

/// Features of some samples, a row each.
#[derive(Debug, Clone, Copy)]
pub struct FeatureRows<'a> {
    /// Sample of each row, ascending.
    pub samples: &'a [usize],
    /// `[samples.len(), columns]`, row-major.
    pub data: &'a [f32],
    /// Length of a row.
    pub columns: usize,
}

impl<'a> FeatureRows<'a> {
    /// The row of a sample.
    pub fn get(&self, sample: usize) -> Option<&'a [f32]> {
        let row = self.samples.binary_search(&sample).ok()?;
        self.data.get(row * self.columns..(row + 1) * self.columns)
    }

    fn check(&self) -> Result<(), InputError> {
        let (expected, found) = (self.samples.len() * self.columns, self.data.len());
        match expected == found && self.samples.is_sorted() {
            true => Ok(()),
            false => Err(InputError::Length { what: "features", expected, found }),
        }
    }
}

/// Two samples that show the same picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The smaller index.
    pub first: usize,
    /// The larger index.
    pub second: usize,
    /// How `first` must be changed to look like `second`.
    pub symmetry: Symmetry,
    /// Hamming distance of the hashes after that.
    pub distance: u32,
    /// What the first leaves of the second, over the noise of copying; see [`rest_between`].
    pub rest: f32,
    /// [`Likeness::at`] that rest, in `0.5..=1` by default.
    pub likeness: f32,
    /// Cosine similarity of the features, where both have some.
    pub cosine: Option<f32>,
}

/// The duplicates of a data set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Duplicates {
    /// Groups of samples with equal pixels and shape; members ascend.
    pub exact: Vec<Vec<usize>>,
    /// Pairs of near duplicates, by their samples. Of exact duplicates only the first takes part.
    pub pairs: Vec<Pair>,
    /// Exact and near duplicates together; the centre comes first, see [`star_groups`].
    pub groups: Vec<Vec<usize>>,
    /// Pairs that were near by their hashes.
    pub candidates: usize,
    /// The largest rest of a copy in this set, over the noise of copying; see [`Likeness`].
    pub limit: f32,
}

/// Finds the duplicates among the samples that could be read. Pictures without content (see [`crate::pixels::Look::flat`]) have exact
/// duplicates only. Memory grows with the number of pictures and of pairs found; candidates are judged as they come.
///
/// # Errors
/// Features whose sizes disagree or whose samples do not ascend.
pub fn find_duplicates(table: &PixelTable, features: Option<FeatureRows>, options: &DuplicateOptions) -> Result<Duplicates, InputError> {
    find_duplicates_until(table, features, options, &AtomicBool::new(false)).map(Option::unwrap_or_default)
}

/// [`find_duplicates`]; `None` once `stop` was raised.
///
/// # Errors
/// As [`find_duplicates`].
pub fn find_duplicates_until(
    table: &PixelTable,
    features: Option<FeatureRows>,
    options: &DuplicateOptions,
    stop: &AtomicBool,
) -> Result<Option<Duplicates>, InputError> {
    if let Some(features) = &features {
        features.check()?;
    }
    let (firsts, exact) = exact_groups(table);
    let seen: Vec<(usize, &Measured)> = firsts.into_iter().filter_map(|i| Some((i, table.get(i)?))).filter(|(_, m)| !m.look.flat).collect();
    let hashes: Vec<u64> = seen.iter().map(|(_, m)| m.look.phash()).collect();
    let index = HammingIndex::new(&hashes);
    let thumbnails: Vec<&Thumbnail> = seen.iter().map(|(_, m)| &m.look.thumbnail).collect();
    let likeness = Likeness::of(&thumbnails);
    let search = Search { seen: &seen, likeness, index, features, options };
    let one = |i| (!stop.load(Ordering::Relaxed)).then(|| search.of(i));
    let found: Option<Vec<(Vec<Pair>, usize)>> = (0..seen.len()).into_par_iter().map(one).collect();
    let Some(found) = found else { return Ok(None) };
    let candidates = found.iter().map(|(_, n)| n).sum();
    let mut pairs: Vec<Pair> = found.into_iter().flat_map(|(pairs, _)| pairs).collect();
    pairs.sort_by_key(|p| (p.first, p.second));
    let groups = joint_groups(table.rows.len(), &exact, &pairs);
    Ok(Some(Duplicates { exact, pairs, groups, candidates, limit: likeness.limit() }))
}

/// The first sample of each content, and the samples of each content that occurs more than once.
fn exact_groups(table: &PixelTable) -> (Vec<usize>, Vec<Vec<usize>>) {
    let mut by_content: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for i in 0..table.rows.len() {
        if let Some(measured) = table.get(i) {
            by_content.entry(&measured.content).or_default().push(i);
        }
    }
    let mut groups: Vec<Vec<usize>> = by_content.into_values().collect();
    groups.sort();
    let firsts = groups.iter().map(|group| group[0]).collect();
    groups.retain(|group| group.len() > 1);
    (firsts, groups)
}

/// Near duplicates by star clustering; the copies of each member join it.
fn joint_groups(count: usize, exact: &[Vec<usize>], pairs: &[Pair]) -> Vec<Vec<usize>> {
    let edges: Vec<(usize, usize)> = pairs.iter().map(|p| (p.first, p.second)).collect();
    let mut copies: BTreeMap<usize, &[usize]> = exact.iter().map(|group| (group[0], &group[1..])).collect();
    let mut groups = star_groups(count, &edges);
    for group in &mut groups {
        let more: Vec<usize> = group.iter().filter_map(|i| copies.remove(i)).flatten().copied().collect();
        group.extend(more);
        group[1..].sort_unstable();
    }
    groups.extend(copies.into_iter().map(|(first, rest)| [&[first], rest].concat()));
    groups.sort_by_key(|group| group.iter().copied().min());
    groups
}

struct Search<'a> {
    seen: &'a [(usize, &'a Measured)],
    index: HammingIndex,
    likeness: Likeness,
    features: Option<FeatureRows<'a>>,
    options: &'a DuplicateOptions,
}

impl Search<'_> {
    /// Pairs with pictures behind this one, and the number of candidates.
    fn of(&self, i: usize) -> (Vec<Pair>, usize) {
        let (sample, measured) = self.seen[i];
        let mut best: BTreeMap<usize, Pair> = BTreeMap::new();
        let mut candidates = 0;
        let symmetries = if self.options.symmetries { 8 } else { 1 };
        for symmetry in Symmetry::all().take(symmetries) {
            let mut changed = None;
            self.index.within(measured.look.hashes[symmetry.index()], self.options.radius, |j, distance| {
                if j <= i {
                    return;
                }
                candidates += 1;
                let (other, there) = self.seen[j];
                let Some(cosine) = self.features_agree(sample, other) else { return };
                let changed = changed.get_or_insert_with(|| Prepared::new(&measured.look.thumbnail.changed(symmetry)));
                let Some(rest) = rest(changed, &Prepared::new(there.look.thumbnail.pixels())) else { return };
                let likeness = self.likeness.at(rest);
                if likeness >= self.options.likeness && best.get(&j).is_none_or(|known| known.rest > rest) {
                    best.insert(j, Pair { first: sample, second: other, symmetry, distance, rest, likeness, cosine });
                }
            });
        }
        (best.into_values().collect(), candidates)
    }

    /// `None` when the features say that the pictures differ; `Some(None)` when there are none to say so.
    fn features_agree(&self, a: usize, b: usize) -> Option<Option<f32>> {
        let rows = self.features.and_then(|features| features.get(a).zip(features.get(b)));
        let Some((a, b)) = rows else { return Some(None) };
        let norm = (dot(a, a) * dot(b, b)).sqrt();
        let cosine = if norm > 0.0 { dot(a, b) / norm } else { 0.0 };
        (cosine >= self.options.cosine).then_some(Some(cosine))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pixels::measure_image;
    use images::{DecodeOptions, Image, Interpolation, decode, encode_jpeg};
    use rand::{Rng, SeedableRng};

    /// A picture of blobs, different for each seed.
    fn photo(seed: u64) -> Image {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let blobs: Vec<[f64; 4]> = (0..25)
            .map(|_| {
                [rng.random_range(0.0..120.0), rng.random_range(0.0..90.0), rng.random_range(4.0..20.0), rng.random_range(-90.0..90.0)]
            })
            .collect();
        let value = |i: usize| {
            let (x, y) = ((i % 120) as f64, (i / 120) as f64);
            let sum: f64 = blobs.iter().map(|b| b[3] * (-((x - b[0]).powi(2) + (y - b[1]).powi(2)) / (2.0 * b[2] * b[2])).exp()).sum();
            (120.0 + sum).clamp(0.0, 255.0) as u8
        };
        Image::from_gray8(120, 90, (0..120 * 90).map(value).collect()).unwrap()
    }

    fn mirrored(image: &Image) -> Image {
        let bytes = crate::pixels::pillow::bytes(image);
        Image::from_gray8(120, 90, bytes.chunks(120).flat_map(|row| row.iter().rev().copied()).collect()).unwrap()
    }

    fn table(images: &[Image]) -> PixelTable {
        PixelTable { rows: images.iter().map(|i| Ok(measure_image(i, None))).collect(), decoded: images.len() }
    }

    #[test]
    fn copies_of_each_kind_are_found_and_others_are_not() {
        let mut images: Vec<Image> = (0..40).map(photo).collect();
        images.push(images[3].clone());
        images.push(images[5].resize([60, 80], Interpolation::Bilinear));
        images.push(decode(&encode_jpeg(&images[7], 40), &DecodeOptions::default()).unwrap());
        images.push(mirrored(&images[9]));
        let brighter = crate::pixels::pillow::bytes(&images[11]).iter().map(|v| v.saturating_add(30)).collect();
        images.push(Image::from_gray8(120, 90, brighter).unwrap());
        let found = find_duplicates(&table(&images), None, &DuplicateOptions::default()).unwrap();
        assert_eq!(found.exact, [[3, 40]]);
        let pairs: Vec<_> = found.pairs.iter().map(|p| (p.first, p.second, p.symmetry.name())).collect();
        assert_eq!(pairs, [(5, 41, "as it is"), (7, 42, "as it is"), (9, 43, "mirrored left to right"), (11, 44, "as it is")]);
        assert_eq!(found.groups, [[3, 40], [5, 41], [7, 42], [9, 43], [11, 44]]);
        let without = DuplicateOptions { symmetries: false, ..DuplicateOptions::default() };
        assert_eq!(find_duplicates(&table(&images), None, &without).unwrap().pairs.len(), 3);
        assert_eq!(find_duplicates_until(&table(&images), None, &without, &AtomicBool::new(true)).unwrap(), None);
    }

    #[test]
    fn features_that_differ_outvote_the_hash() {
        let mut images: Vec<Image> = (0..20).map(photo).collect();
        images.push(images[1].resize([60, 80], Interpolation::Bilinear));
        let table = table(&images);
        let samples: Vec<usize> = (0..21).collect();
        let mut data = vec![0.0; 21 * 21];
        (0..21).for_each(|i| data[i * 22] = 1.0);
        let rows = |data: &[f32]| {
            let options = DuplicateOptions { cosine: 0.9, ..DuplicateOptions::default() };
            find_duplicates(&table, Some(FeatureRows { samples: &samples, data, columns: 21 }), &options)
        };
        assert!(rows(&data).unwrap().pairs.is_empty());
        data[20 * 21 + 1] = 3.0;
        let found = rows(&data).unwrap();
        assert_eq!((found.pairs.len(), found.pairs[0].cosine.map(|c| (c * 1000.0) as i32)), (1, Some(948)));
        assert!(rows(&data[1..]).is_err());
    }

    #[test]
    fn two_pictures_alone_are_judged_too() {
        let same = [photo(1), photo(1).resize([45, 60], Interpolation::Bilinear)];
        assert_eq!(find_duplicates(&table(&same), None, &DuplicateOptions::default()).unwrap().groups.len(), 1);
        let different = [photo(1), photo(2)];
        assert!(find_duplicates(&table(&different), None, &DuplicateOptions::default()).unwrap().groups.is_empty());
        let even = Image::from_gray8(30, 30, vec![9; 900]).unwrap();
        let evens = [even.clone(), even, Image::from_gray8(30, 30, vec![200; 900]).unwrap()];
        assert_eq!(find_duplicates(&table(&evens), None, &DuplicateOptions::default()).unwrap().groups, [[0, 1]]);
    }
}
