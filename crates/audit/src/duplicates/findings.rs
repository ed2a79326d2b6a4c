//! What duplicates mean for labels and splits.

use std::collections::BTreeMap;

use data::{Dataset, Sample, Target};

use super::{Duplicates, Pair};
use crate::{Check, Finding};

/// Findings of the duplicates: each copy, label conflicts inside groups, and leaks between splits and between groups.
///
/// `group` of a finding is the position in [`Duplicates::groups`]. The score of an exact duplicate is 1, of a near one its likeness.
pub fn duplicate_findings(dataset: &Dataset, duplicates: &Duplicates) -> Vec<Finding> {
    let seen = Seen::new(dataset, duplicates);
    [seen.copies(), seen.conflicts(), seen.leaks()].concat()
}

struct Seen<'a> {
    dataset: &'a Dataset,
    duplicates: &'a Duplicates,
    /// Group of each sample that has one.
    group: BTreeMap<usize, usize>,
    /// The first of the exact duplicates of each sample that has some.
    first: BTreeMap<usize, usize>,
    pairs: BTreeMap<(usize, usize), &'a Pair>,
}

impl<'a> Seen<'a> {
    fn new(dataset: &'a Dataset, duplicates: &'a Duplicates) -> Seen<'a> {
        let group = duplicates.groups.iter().enumerate().flat_map(|(n, members)| members.iter().map(move |&i| (i, n))).collect();
        let first = duplicates.exact.iter().flat_map(|members| members.iter().map(|&i| (i, members[0]))).collect();
        let pairs = duplicates.pairs.iter().map(|p| ((p.first, p.second), p)).collect();
        Seen { dataset, duplicates, group, first, pairs }
    }

    fn sample(&self, i: usize) -> Option<&Sample> {
        self.dataset.samples.get(i)
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.sample(i)?.target.as_ref().and_then(Target::argmax)
    }

    fn id(&self, i: usize) -> &str {
        self.sample(i).map_or("?", |s| &s.id)
    }

    /// The sample that stands for this one among near duplicates.
    fn first_of(&self, i: usize) -> usize {
        self.first.get(&i).copied().unwrap_or(i)
    }

    /// How the two are duplicates: the score and words. `None` when they are not.
    fn relation(&self, a: usize, b: usize) -> Option<(f64, String)> {
        let (first, second) = (self.first_of(a), self.first_of(b));
        if first == second {
            return Some((1.0, "the same pixels".to_string()));
        }
        let pair = self.pairs.get(&(first.min(second), first.max(second)))?;
        let cosine = pair.cosine.map_or(String::new(), |c| format!(", features {c:.2}"));
        let how = format!(
            "the same picture {} (what differs is {:.1} of the noise of copying, {:.1} would be too much; hashes {} bits apart{cosine})",
            pair.symmetry.name(),
            pair.rest,
            self.duplicates.limit,
            pair.distance
        );
        Some((f64::from(pair.likeness), how))
    }

    fn finding(&self, i: usize, check: Check, score: f64, detail: String) -> Finding {
        let group = self.group.get(&i).copied();
        Finding { sample: Some(i), check, score, given: self.label(i), suggested: None, group, detail }
    }

    /// Every member but the one that would be kept: the first of exact duplicates, the centre of near ones.
    fn copies(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for group in &self.duplicates.groups {
            for &i in &group[1..] {
                let first = self.first_of(i);
                let (kept, check) = if first == i { (group[0], Check::NearDuplicate) } else { (first, Check::ExactDuplicate) };
                if let Some((score, how)) = self.relation(i, kept) {
                    findings.push(self.finding(i, check, score, format!("{how} as {}", self.id(kept))));
                }
            }
        }
        findings
    }

    /// Groups whose members have different labels: every labelled member, with the label of most where there is one.
    fn conflicts(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for group in &self.duplicates.groups {
            let mut votes: BTreeMap<usize, usize> = BTreeMap::new();
            group.iter().filter_map(|&i| self.label(i)).for_each(|label| *votes.entry(label).or_default() += 1);
            if votes.len() < 2 {
                continue;
            }
            let name = |label: usize| self.dataset.classes.names().get(label).map_or("?", String::as_str);
            let counts: Vec<String> = votes.iter().map(|(&label, n)| format!("{n} × {}", name(label))).collect();
            let most = votes.values().max().copied().unwrap_or(0);
            let winner: Vec<usize> = votes.iter().filter(|(_, n)| **n == most).map(|(&label, _)| label).collect();
            for &i in group.iter().filter(|&&i| self.label(i).is_some()) {
                let partner = group.iter().copied().find(|&j| self.label(j) != self.label(i) && self.relation(i, j).is_some());
                let score = partner.and_then(|j| self.relation(i, j)).map_or(0.5, |(score, _)| score);
                let suggested = (winner.len() == 1 && self.label(i) != Some(winner[0])).then(|| winner[0]);
                let detail = format!("duplicates with different labels: {}", counts.join(", "));
                findings.push(Finding { suggested, ..self.finding(i, Check::LabelConflict, score, detail) });
            }
        }
        findings
    }

    /// Duplicates on two sides of a border, reported once for each sample: in a split, the one that is not for training.
    fn leaks(&self) -> Vec<Finding> {
        let mut worst: BTreeMap<usize, Finding> = BTreeMap::new();
        for (a, b) in self.all_pairs() {
            let (Some(one), Some(other)) = (self.sample(a), self.sample(b)) else { continue };
            let differ = |x: &Option<String>, y: &Option<String>| Some((x.clone()?, y.clone()?)).filter(|(x, y)| x != y);
            let (kind, border) = match (differ(&one.split, &other.split), differ(&one.group, &other.group)) {
                (Some(split), _) => ("splits", split),
                (None, Some(group)) => ("groups", group),
                (None, None) => continue,
            };
            let Some((score, how)) = self.relation(a, b) else { continue };
            let (leaked, source, border) = if border.0 == "train" { (b, a, (border.1, border.0)) } else { (a, b, border) };
            let detail = format!("in {kind} {} and {}: {how} as {}", border.0, border.1, self.id(source));
            let finding = self.finding(leaked, Check::Leak, score, detail);
            if worst.get(&leaked).is_none_or(|known| known.score < score) {
                worst.insert(leaked, finding);
            }
        }
        worst.into_values().collect()
    }

    /// Near pairs with their exact copies, and pairs inside exact groups: every sample with some sample beyond each border it could leak
    /// over, but not every pair of a thousand copies.
    fn all_pairs(&self) -> Vec<(usize, usize)> {
        let copies: BTreeMap<usize, &[usize]> = self.duplicates.exact.iter().map(|g| (g[0], g.as_slice())).collect();
        let members = |i: &usize| copies.get(i).map_or(vec![*i], |g| g.to_vec());
        let mut all = Vec::new();
        let mut meet = |a: &[usize], b: &[usize]| {
            let (some_a, some_b) = (self.one_of_each_side(a), self.one_of_each_side(b));
            all.extend(a.iter().flat_map(|&x| some_b.iter().map(move |&y| (x, y))));
            all.extend(some_a.iter().flat_map(|&x| b.iter().map(move |&y| (x, y))));
        };
        self.duplicates.pairs.iter().for_each(|pair| meet(&members(&pair.first), &members(&pair.second)));
        self.duplicates.exact.iter().for_each(|group| meet(group, group));
        all
    }

    /// The first sample of each split, and of two groups.
    fn one_of_each_side(&self, samples: &[usize]) -> Vec<usize> {
        let (mut splits, mut groups, mut chosen) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for &i in samples {
            let Some(sample) = self.sample(i) else { continue };
            let new_split = splits.insert(&sample.split, ()).is_none();
            let new_group = groups.len() < 2 && groups.insert(&sample.group, ()).is_none();
            if new_split || new_group {
                chosen.push(i);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pixels::Symmetry;
    use data::{Classes, Source};
    use std::path::PathBuf;

    fn dataset(rows: &[(&str, usize, Option<&str>, Option<&str>)]) -> Dataset {
        let sample = |&(id, label, split, group): &(&str, usize, Option<&str>, Option<&str>)| Sample {
            target: Some(Target::Label(label)),
            split: split.map(String::from),
            group: group.map(String::from),
            ..Sample::new(id, Source::File(PathBuf::from(id)))
        };
        let classes = Classes::in_order(vec!["cat".into(), "dog".into()]).unwrap();
        Dataset { name: "t".into(), root: PathBuf::new(), classes, samples: rows.iter().map(sample).collect(), warnings: Vec::new() }
    }

    #[test]
    fn copies_conflicts_and_leaks() {
        let (train, test) = (Some("train"), Some("test"));
        let set = dataset(&[
            ("a", 0, train, None),
            ("b", 0, train, None),
            ("c", 1, test, None),
            ("d", 1, test, Some("g1")),
            ("e", 1, test, Some("g2")),
        ]);
        let pair =
            |first, second| Pair { first, second, symmetry: Symmetry::SAME, distance: 2, rest: 0.2, likeness: 0.9, cosine: Some(0.95) };
        let duplicates = Duplicates {
            exact: vec![vec![0, 1]],
            pairs: vec![pair(0, 2), pair(3, 4)],
            groups: vec![vec![0, 1, 2], vec![3, 4]],
            candidates: 2,
            limit: 1.0,
        };
        let findings = duplicate_findings(&set, &duplicates);
        let of = |check: Check| {
            findings.iter().filter(|f| f.check == check).map(|f| (f.sample.unwrap(), f.suggested, f.group.unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(of(Check::ExactDuplicate), [(1, None, 0)]);
        assert_eq!(of(Check::NearDuplicate), [(2, None, 0), (4, None, 1)]);
        assert_eq!(of(Check::LabelConflict), [(0, None, 0), (1, None, 0), (2, Some(0), 0)]);
        assert_eq!(of(Check::Leak), [(2, None, 0), (3, None, 1)]);
        let leak = findings.iter().find(|f| f.check == Check::Leak).unwrap();
        assert!(
            (leak.score - 0.9).abs() < 1e-6 && leak.detail.starts_with("in splits test and train: the same picture"),
            "{}",
            leak.detail
        );
    }
}
