//! Copies of training images among those that judge.
//!
//! A copy on both sides of a border makes the result too good. Where the data set declares the border, that is an error, unless it is overruled;
//! where the border is drawn here (a test, validation samples, folds), copies are kept on one side as the groups of a data set are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use audit::{DuplicateOptions, Duplicates};
use data::{Dataset, Sample};
use serde::Serialize;

use crate::audited;
use crate::plan::label;
use crate::progress::{Event, Progress};
use crate::{LearnError, TrainOptions};

/// What is done about copies across declared splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeakPolicy {
    /// Training does not start.
    #[default]
    Stop,
    /// They are counted and told, and training goes on.
    Allow,
    /// Nobody looks: saves the pass over the pixels. Copies are not kept together in drawn splits either.
    Unchecked,
}

/// What was found of copies, for the record of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Leaks {
    /// What was to be done.
    pub policy: LeakPolicy,
    /// Samples whose picture was compared.
    pub compared: usize,
    /// Samples that share a picture with another one and were kept on its side of every border drawn here.
    pub kept_together: usize,
    /// Copies across declared splits, by the sample that judges.
    pub across: Vec<LeakedSample>,
}

/// A sample outside the training split that is a copy of one nearer to training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeakedSample {
    /// Its id.
    pub id: String,
    /// Its split.
    pub split: &'static str,
    /// The id of what it is a copy of.
    pub of: String,
    /// The split of that.
    pub of_split: &'static str,
    /// `the same pixels`, or how it differs.
    pub how: String,
}

/// Samples up to which mirrored and turned copies are looked for too: that is eight searches instead of one.
const MOST_TURNED: usize = 20_000;
/// Pixels that the shorter side needs for near copies; smaller pictures hold too little to tell them, and are compared pixel by pixel only.
const SMALLEST: usize = 64;
/// Least likeness of a copy: a little above the audit's, as a wrong one would stop a training or move a split.
const LIKENESS: f32 = 0.6;
/// Pairs named in an error.
const NAMED: usize = 3;
const SPLITS: [&str; 3] = ["train", "val", "test"];

/// Looks for copies among the labelled samples. The data set that comes back has its groups widened by them, so that no split that is drawn
/// from it divides copies; without copies it is the same.
pub(crate) fn guard(
    dataset: &Arc<Dataset>,
    options: &TrainOptions,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<(Arc<Dataset>, Leaks), LearnError> {
    let mut leaks = Leaks { policy: options.leaks, ..Leaks::default() };
    if options.leaks == LeakPolicy::Unchecked {
        return Ok((dataset.clone(), leaks));
    }
    progress.event(&Event::Stage("looking for copies".into()));
    let used: Vec<usize> = (0..dataset.len()).filter(|&i| label(dataset, i).is_some() && side(&dataset.samples[i]).is_some()).collect();
    let part = Dataset { samples: used.iter().map(|&i| dataset.samples[i].clone()).collect(), ..Dataset::clone(dataset) };
    let mut table = match audited::measured(&part, options.cache.as_deref(), progress, stop) {
        // A cache that cannot be used costs time, not the training.
        Err(LearnError::Audit(_)) => audited::measured(&part, None, progress, stop)?,
        other => other?,
    };
    for measured in table.rows.iter_mut().flatten() {
        measured.look.flat |= measured.quality.width.min(measured.quality.height) < SMALLEST;
    }
    leaks.compared = (0..table.rows.len()).filter(|&i| table.get(i).is_some()).count();
    let settings = DuplicateOptions { symmetries: part.len() <= MOST_TURNED, likeness: LIKENESS, ..DuplicateOptions::default() };
    let found = audit::find_duplicates_until(&table, None, &settings, stop)?.ok_or(LearnError::Interrupted)?;
    leaks.across = across(&part, &found);
    if !leaks.across.is_empty() {
        if leaks.policy == LeakPolicy::Stop {
            return Err(LearnError::Leak(told(&part, &leaks.across)));
        }
        progress.event(&Event::Note(format!("allowed: {}", told(&part, &leaks.across))));
    }
    let groups = joined(&part, &found);
    leaks.kept_together = groups.len();
    if groups.is_empty() {
        return Ok((dataset.clone(), leaks));
    }
    let mut widened = Dataset::clone(dataset);
    for (i, group) in groups {
        widened.samples[used[i]].group = Some(group);
    }
    Ok((Arc::new(widened), leaks))
}

/// Position in [`SPLITS`] of where a sample is used; splits of other names are not.
fn side(sample: &Sample) -> Option<usize> {
    match sample.split.as_deref() {
        // What is drawn from is nearest to training.
        None => Some(0),
        Some(name) => SPLITS.iter().position(|split| *split == name),
    }
}

/// Samples on the far side of a declared border, each with one copy on the near side.
fn across(dataset: &Dataset, found: &Duplicates) -> Vec<LeakedSample> {
    let side = |i: usize| side(&dataset.samples[i]).unwrap_or(0);
    let copies: BTreeMap<usize, &[usize]> = found.exact.iter().map(|group| (group[0], group.as_slice())).collect();
    let members = |i: usize| copies.get(&i).map_or_else(|| vec![i], |group| group.to_vec());
    let mut leaked: BTreeMap<usize, LeakedSample> = BTreeMap::new();
    let mut meet = |a: &[usize], b: &[usize], how: &str| {
        for (near, far) in [(a, b), (b, a)] {
            let Some(&source) = near.iter().min_by_key(|&&i| (side(i), i)) else { continue };
            for &i in far.iter().filter(|&&i| side(i) > side(source)) {
                let id = |i: usize| dataset.samples[i].id.clone();
                let sample = LeakedSample {
                    id: id(i),
                    split: SPLITS[side(i)],
                    of: id(source),
                    of_split: SPLITS[side(source)],
                    how: how.to_string(),
                };
                leaked.entry(i).or_insert(sample);
            }
        }
    };
    found.exact.iter().for_each(|group| meet(group, group, "the same pixels"));
    for pair in &found.pairs {
        meet(&members(pair.first), &members(pair.second), &format!("the same picture {}", pair.symmetry.name()));
    }
    leaked.into_values().collect()
}

/// How many, which, and what to do.
fn told(dataset: &Dataset, across: &[LeakedSample]) -> String {
    let count = |split: &str| across.iter().filter(|s| s.split == split).count();
    let all = |split: &str| dataset.samples.iter().filter(|s| s.split.as_deref() == Some(split)).count();
    let parts: Vec<String> = ["val", "test"]
        .into_iter()
        .filter(|split| count(split) > 0)
        .map(|split| format!("{} of the {} images of the split {split}", count(split), all(split)))
        .collect();
    let named: Vec<String> = across.iter().take(NAMED).map(|s| format!("{} ({} as {} in {})", s.id, s.how, s.of, s.of_split)).collect();
    let more = if across.len() > NAMED { format!(" and {} more", across.len() - NAMED) } else { String::new() };
    format!("{} are copies of images that training sees: {}{more}", parts.join(" and "), named.join(", "))
}

/// The group of every sample that has copies, and of every sample whose group those join: one name for all that must stay together.
fn joined(dataset: &Dataset, found: &Duplicates) -> BTreeMap<usize, String> {
    let n = dataset.len();
    let mut root: Vec<usize> = (0..n).collect();
    let find = |root: &mut Vec<usize>, mut i: usize| {
        while root[i] != i {
            root[i] = root[root[i]];
            i = root[i];
        }
        i
    };
    let exact = found.exact.iter().flat_map(|group| group[1..].iter().map(|&i| (group[0], i)));
    let copies: Vec<(usize, usize)> = exact.chain(found.pairs.iter().map(|p| (p.first, p.second))).collect();
    let mut first_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut links = copies.clone();
    for (i, sample) in dataset.samples.iter().enumerate() {
        if let Some(group) = &sample.group {
            links.push((*first_of.entry(group).or_insert(i), i));
        }
    }
    for (a, b) in links {
        let (a, b) = (find(&mut root, a), find(&mut root, b));
        root[a.max(b)] = a.min(b);
    }
    let touched: std::collections::BTreeSet<usize> = copies.iter().map(|&(a, _)| find(&mut root, a)).collect();
    let mut groups = BTreeMap::new();
    for i in 0..n {
        let smallest = find(&mut root, i);
        if touched.contains(&smallest) {
            groups.insert(i, format!("copies of {}", dataset.samples[smallest].id));
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Recipe;
    use crate::plan::Plan;
    use crate::progress::Silent;
    use data::{Classes, Source, Target};
    use images::Image;

    const SIDE: usize = 80;

    /// Waves of its own for each number.
    fn picture(number: usize) -> Image {
        let value = |i: usize| {
            let (x, y) = ((i % SIDE) as f64, (i / SIDE) as f64);
            let wave = |k: usize| ((x * ((number * 7 + k * 3) % 11 + 1) as f64 + y * ((number * 5 + k) % 13 + 1) as f64) / 34.0).sin();
            (120.0 + 30.0 * (wave(1) + wave(2) + wave(3))) as u8
        };
        Image::from_gray8(SIDE, SIDE, (0..SIDE * SIDE).map(value).collect()).unwrap()
    }

    fn brighter(image: &Image) -> Image {
        let images::Pixels::U8(values) = image.pixels() else { unreachable!("drawn with 8 bits") };
        Image::from_gray8(SIDE, SIDE, values.iter().map(|v| v.saturating_add(10)).collect()).unwrap()
    }

    /// `(picture, split, group)` of each sample; labels alternate.
    fn dataset(rows: &[(Image, Option<&str>, Option<&str>)]) -> Arc<Dataset> {
        let sample = |(i, (image, split, group)): (usize, &(Image, Option<&str>, Option<&str>))| Sample {
            target: Some(Target::Label(i % 2)),
            split: split.map(String::from),
            group: group.map(String::from),
            ..Sample::new(format!("{i}"), Source::Memory(Arc::new(image.clone())))
        };
        let classes = Classes::in_order(vec!["a".into(), "b".into()]).unwrap();
        let samples = rows.iter().enumerate().map(sample).collect();
        Arc::new(Dataset { name: "t".into(), root: std::path::PathBuf::new(), classes, samples, warnings: Vec::new() })
    }

    fn guarded(dataset: &Arc<Dataset>, leaks: LeakPolicy) -> Result<(Arc<Dataset>, Leaks), LearnError> {
        guard(dataset, &TrainOptions { leaks, ..TrainOptions::default() }, &Silent, &AtomicBool::new(false))
    }

    #[test]
    fn a_copy_across_declared_splits_stops_unless_overruled() {
        let mut rows: Vec<_> = (0..12).map(|n| (picture(n), Some(if n < 8 { "train" } else { "test" }), None)).collect();
        assert_eq!(guarded(&dataset(&rows), LeakPolicy::Stop).unwrap().1.across, []);
        rows.push((brighter(&picture(3)), Some("test"), None));
        rows.push((picture(9), Some("val"), None));
        let leaking = dataset(&rows);
        let error = guarded(&leaking, LeakPolicy::Stop).unwrap_err().to_string();
        assert_eq!(
            error,
            "2 of the 5 images of the split test are copies of images that training sees: 9 (the same pixels as 13 in val), 12 (the same \
             picture as it is as 3 in train); `fieldmark audit` shows them and writes a plan to drop them, and `--leaks allow` trains all the \
             same"
        );
        let (_, allowed) = guarded(&leaking, LeakPolicy::Allow).unwrap();
        assert_eq!((allowed.across.len(), allowed.compared, allowed.policy), (2, 14, LeakPolicy::Allow));
        let (same, unchecked) = guarded(&leaking, LeakPolicy::Unchecked).unwrap();
        assert!(Arc::ptr_eq(&same, &leaking));
        assert_eq!((unchecked.across.len(), unchecked.compared), (0, 0));
    }

    #[test]
    fn drawn_splits_and_folds_keep_copies_together() {
        let mut rows: Vec<_> = (0..20).map(|n| (picture(n), None, (n == 5 || n == 6).then_some("pair"))).collect();
        for n in 0..6 {
            rows.push((brighter(&picture(n)), None, None));
        }
        let plain = dataset(&rows);
        let (widened, leaks) = guarded(&plain, LeakPolicy::Stop).unwrap();
        // Six pictures with a copy each, and the one that shares a group with one of them.
        assert_eq!((leaks.kept_together, leaks.across.len()), (13, 0));
        assert_eq!(widened.samples[6].group, widened.samples[25].group);
        assert_eq!(widened.fingerprint(), plain.fingerprint());
        let usable: Vec<usize> = (0..rows.len()).collect();
        for (seed, folds) in [(0, None), (1, None), (2, Some(3)), (3, Some(4))] {
            let mut recipe = Recipe { seed, ..Recipe::default() };
            recipe.data.folds = folds;
            let purposes: BTreeMap<usize, String> = Plan::draw(&widened, &usable, &recipe).unwrap().purposes().into_iter().collect();
            (0..6).for_each(|n| assert_eq!(purposes[&n], purposes[&(20 + n)], "seed {seed}, picture {n}"));
        }
    }
}
