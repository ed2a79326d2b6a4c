//! Dividing samples: stratified, grouped, both, and into folds. Exact counts, seeded.
//!
//! Strata are numbers: samples of one number are spread evenly. [`crate::Dataset::strata`] makes them from the class and any
//! columns. Groups are names: samples of one name are never divided.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::sampler::generator;

/// Why samples cannot be divided as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// A number of folds that is too small or too large.
    #[error("{folds} folds cannot be made of {available} {unit}: the number of folds must be at least 2 and at most the number of {unit}")]
    Folds {
        /// Folds asked for.
        folds: usize,
        /// What there is.
        available: usize,
        /// samples or groups.
        unit: &'static str,
    },
    /// One stratum and one group are needed for each sample.
    #[error("{strata} strata and {groups} groups were given: expected one of each for every sample")]
    Lengths {
        /// Number of strata.
        strata: usize,
        /// Number of groups.
        groups: usize,
    },
}

/// Positions `0..strata.len()` divided into `fractions.len()` parts, each sorted, every position in exactly one.
///
/// The fractions are scaled to sum 1 (not finite or negative ones count as 0; if all are 0, the first part gets everything).
/// Without groups each stratum's count in each part is within 1 of its exact share, the remainders being carried from stratum
/// to stratum, so that the parts' totals come out right too. With groups no group is divided, and the groups are placed
/// greedily, largest first, where they disturb the shares of the strata least. `groups` shorter than `strata` leave the rest
/// as groups of their own.
pub fn stratified(strata: &[usize], groups: Option<&[String]>, fractions: &[f64], seed: u64) -> Vec<Vec<usize>> {
    let fractions = scaled(fractions);
    let part_of = match groups {
        None => spread(strata, &fractions, seed),
        Some(groups) => place_groups(strata, groups, &fractions, seed),
    };
    let mut parts = vec![Vec::new(); fractions.len()];
    for (i, part) in part_of.into_iter().enumerate() {
        if let Some(slot) = parts.get_mut(part) {
            slot.push(i);
        }
    }
    parts
}

/// The fold, `0..k`, of each sample. Without groups the folds' sizes differ by at most 1, over all and in each stratum. With
/// groups no group is divided, and every fold gets at least one.
///
/// # Errors
/// Fewer than 2 folds, more folds than samples (or groups), lists of different lengths.
pub fn k_folds(strata: &[usize], groups: Option<&[String]>, k: usize, seed: u64) -> Result<Vec<usize>, SplitError> {
    let (available, unit) = match groups {
        None => (strata.len(), "samples"),
        Some(groups) if groups.len() != strata.len() => return Err(SplitError::Lengths { strata: strata.len(), groups: groups.len() }),
        Some(groups) => (groups.iter().collect::<std::collections::BTreeSet<_>>().len(), "groups"),
    };
    if k < 2 || k > available {
        return Err(SplitError::Folds { folds: k, available, unit });
    }
    Ok(match groups {
        None => deal(strata, k, seed),
        Some(groups) => place_groups(strata, groups, &vec![1.0 / k as f64; k], seed),
    })
}

fn scaled(fractions: &[f64]) -> Vec<f64> {
    let usable: Vec<f64> = fractions.iter().map(|&f| if f.is_finite() && f > 0.0 { f } else { 0.0 }).collect();
    let sum: f64 = usable.iter().sum();
    if sum > 0.0 {
        return usable.iter().map(|f| f / sum).collect();
    }
    (0..fractions.len()).map(|i| if i == 0 { 1.0 } else { 0.0 }).collect()
}

/// The members of each stratum, shuffled, in the order of the strata's numbers.
fn shuffled_strata(strata: &[usize], rng: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, &stratum) in strata.iter().enumerate() {
        members.entry(stratum).or_default().push(i);
    }
    members
        .into_values()
        .map(|mut list| {
            list.shuffle(rng);
            list
        })
        .collect()
}

/// Deals shuffled strata like cards, going on with the next fold from stratum to stratum.
fn deal(strata: &[usize], k: usize, seed: u64) -> Vec<usize> {
    let mut rng = generator(seed, 0);
    let mut folds = vec![0; strata.len()];
    for (position, sample) in shuffled_strata(strata, &mut rng).into_iter().flatten().enumerate() {
        folds[sample] = position % k;
    }
    folds
}

/// Largest remainder in each stratum, the remainders owed being carried over.
fn spread(strata: &[usize], fractions: &[f64], seed: u64) -> Vec<usize> {
    let mut rng = generator(seed, 0);
    let mut part_of = vec![0; strata.len()];
    let mut owed = vec![0.0; fractions.len()];
    for members in shuffled_strata(strata, &mut rng) {
        let counts = share(members.len(), fractions, &mut owed);
        let parts = counts.iter().enumerate().flat_map(|(part, &count)| std::iter::repeat_n(part, count));
        members.into_iter().zip(parts).for_each(|(sample, part)| part_of[sample] = part);
    }
    part_of
}

/// `n` divided by `fractions`: the floor of each share, and one more for the parts with the largest remainder plus what they
/// are owed.
fn share(n: usize, fractions: &[f64], owed: &mut [f64]) -> Vec<usize> {
    // 0.3 * 10 may be 2.9999999999999996: a share this close to a whole number is one.
    let exact: Vec<f64> =
        fractions.iter().map(|f| f * n as f64).map(|x| if (x - x.round()).abs() < 1e-9 { x.round() } else { x }).collect();
    let mut counts: Vec<usize> = exact.iter().map(|x| x.floor() as usize).collect();
    let mut candidates: Vec<usize> = (0..fractions.len()).filter(|&p| exact[p] > exact[p].floor()).collect();
    let claim = |p: usize| exact[p] - exact[p].floor() + owed[p];
    candidates.sort_by(|&a, &b| claim(b).total_cmp(&claim(a)).then(a.cmp(&b)));
    let left = n.saturating_sub(counts.iter().sum());
    candidates.into_iter().take(left).for_each(|p| counts[p] += 1);
    owed.iter_mut().zip(exact.iter().zip(&counts)).for_each(|(owed, (x, &c))| *owed += x - c as f64);
    counts
}

/// One group: its samples and how many of each stratum.
struct Group {
    samples: Vec<usize>,
    strata: BTreeMap<usize, usize>,
}

/// Largest groups first (equals in random order), each to the part where the squared distance of the strata's counts from
/// their shares grows least, each stratum weighing alike, and the total as much as a stratum.
fn place_groups(strata: &[usize], names: &[String], fractions: &[f64], seed: u64) -> Vec<usize> {
    let mut rng = generator(seed, 0);
    let mut groups = gather(strata, names);
    groups.shuffle(&mut rng);
    groups.sort_by_key(|g| std::cmp::Reverse(g.samples.len()));
    let mut totals: BTreeMap<usize, usize> = BTreeMap::new();
    strata.iter().for_each(|&s| *totals.entry(s).or_default() += 1);
    let mut counts: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); fractions.len()];
    let mut sizes = vec![0usize; fractions.len()];
    let mut part_of = vec![0; strata.len()];
    let growth = |have: usize, more: usize, total: usize, fraction: f64| {
        let (have, more, total) = (have as f64 / total as f64, more as f64 / total as f64, fraction);
        (have + more - total).powi(2) - (have - total).powi(2)
    };
    let mut empty = fractions.iter().filter(|&&f| f > 0.0).count();
    for (placed, group) in groups.iter().enumerate() {
        let cost = |part: usize| {
            let of_strata: f64 = group
                .strata
                .iter()
                .map(|(s, &more)| growth(counts[part].get(s).copied().unwrap_or(0), more, totals[s], fractions[part]))
                .sum();
            of_strata + growth(sizes[part], group.samples.len(), strata.len(), fractions[part])
        };
        // The last groups go to parts that have none yet.
        let must_fill = groups.len() - placed <= empty;
        let open = |&part: &usize| fractions[part] > 0.0 && !(must_fill && sizes[part] > 0);
        let best = (0..fractions.len()).filter(open).min_by(|&a, &b| cost(a).total_cmp(&cost(b))).unwrap_or(0);
        empty -= usize::from(sizes.get(best) == Some(&0));
        if let (Some(count), Some(size)) = (counts.get_mut(best), sizes.get_mut(best)) {
            group.strata.iter().for_each(|(&s, &more)| *count.entry(s).or_default() += more);
            *size += group.samples.len();
        }
        group.samples.iter().for_each(|&sample| part_of[sample] = best);
    }
    part_of
}

/// Groups in the order of their names; samples without a name are groups of their own.
fn gather(strata: &[usize], names: &[String]) -> Vec<Group> {
    let mut groups: BTreeMap<(&str, usize), Group> = BTreeMap::new();
    for (i, &stratum) in strata.iter().enumerate() {
        let key = names.get(i).map_or(("", i + 1), |name| (name.as_str(), 0));
        let group = groups.entry(key).or_insert_with(|| Group { samples: Vec::new(), strata: BTreeMap::new() });
        group.samples.push(i);
        *group.strata.entry(stratum).or_default() += 1;
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn count(indices: &[usize], strata: &[usize], stratum: usize) -> usize {
        indices.iter().filter(|&&i| strata[i] == stratum).count()
    }

    #[test]
    fn an_elpv_split_by_class_and_type_has_its_exact_sizes() {
        // the 2,624 cells: functional mono and poly, defective mono and poly
        let strata: Vec<usize> = [(0, 705), (1, 1098), (2, 369), (3, 452)].iter().flat_map(|&(s, n)| std::iter::repeat_n(s, n)).collect();
        let parts = stratified(&strata, None, &[0.75, 0.25], 5);
        assert_eq!((parts[0].len(), parts[1].len()), (1968, 656));
        assert_eq!(count(&parts[1], &strata, 0), 176);
        assert!((274..=275).contains(&count(&parts[1], &strata, 1)));
        assert_eq!(count(&parts[1], &strata, 3), 113);
    }

    #[test]
    fn small_strata_do_not_all_round_the_same_way() {
        // 40 strata of 2 samples: a quarter of each is half a sample, a quarter of all is 20
        let strata: Vec<usize> = (0..80).map(|i| i / 2).collect();
        let parts = stratified(&strata, None, &[0.75, 0.25], 0);
        assert_eq!(parts[1].len(), 20);
    }

    #[test]
    fn fractions_are_scaled_and_bad_ones_count_as_nothing() {
        let strata = vec![0; 10];
        assert_eq!(stratified(&strata, None, &[3.0, 1.0, 1.0], 0).iter().map(Vec::len).collect::<Vec<_>>(), [6, 2, 2]);
        assert_eq!(stratified(&strata, None, &[0.0, f64::NAN], 0)[0].len(), 10);
        assert!(stratified(&strata, None, &[], 0).is_empty());
        assert!(stratified(&strata, Some(&vec!["a".into(); 10]), &[], 0).is_empty());
    }

    #[test]
    fn folds_that_cannot_be_made_are_refused() {
        let error = k_folds(&[0, 0, 1], None, 4, 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "4 folds cannot be made of 3 samples: the number of folds must be at least 2 and at most the number of samples"
        );
        let groups = vec!["a".to_string(), "a".into(), "b".into()];
        assert!(k_folds(&[0, 0, 1], Some(&groups), 3, 0).is_err());
        assert!(k_folds(&[0, 0, 1], Some(&groups), 2, 0).is_ok());
        assert!(k_folds(&[0, 0], Some(&groups), 2, 0).is_err());
        assert!(k_folds(&[0, 0], None, 1, 0).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn parts_are_exact(strata in prop::collection::vec(0usize..5, 1..200), a in 0.05f64..0.9, b in 0.05f64..0.9, seed: u64) {
            let sum = a + b + 0.3;
            let fractions = [a / sum, b / sum, 0.3 / sum];
            let parts = stratified(&strata, None, &fractions, seed);
            let mut all: Vec<usize> = parts.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..strata.len()).collect::<Vec<_>>());
            for stratum in 0..5 {
                let n = strata.iter().filter(|&&s| s == stratum).count() as f64;
                for (part, fraction) in parts.iter().zip(&fractions) {
                    prop_assert!((count(part, &strata, stratum) as f64 - n * fraction).abs() < 1.0 + 1e-9);
                }
            }
            prop_assert_eq!(&parts, &stratified(&strata, None, &fractions, seed));
        }

        #[test]
        fn two_parts_have_exact_totals(strata in prop::collection::vec(0usize..40, 1..200), test in 0.05f64..0.6, seed: u64) {
            let parts = stratified(&strata, None, &[1.0 - test, test], seed);
            prop_assert!((parts[1].len() as f64 - test * strata.len() as f64).abs() <= 0.5 + 1e-6);
        }

        #[test]
        fn folds_are_even(strata in prop::collection::vec(0usize..4, 10..120), k in 2usize..6, seed: u64) {
            let folds = k_folds(&strata, None, k, seed).unwrap();
            for stratum in 0..5 {
                // stratum 4 stands for all
                let sizes: Vec<usize> = (0..k)
                    .map(|f| (0..strata.len()).filter(|&i| folds[i] == f && (stratum == 4 || strata[i] == stratum)).count())
                    .collect();
                prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
            }
        }

        #[test]
        fn groups_stay_whole_and_fill_every_fold(members in prop::collection::vec((0usize..3, 0usize..15), 20..120), k in 2usize..5, seed: u64) {
            let strata: Vec<usize> = members.iter().map(|m| m.0).collect();
            let groups: Vec<String> = members.iter().map(|m| format!("g{}", m.1)).collect();
            let distinct = groups.iter().collect::<std::collections::BTreeSet<_>>().len();
            prop_assume!(distinct >= k);
            let folds = k_folds(&strata, Some(&groups), k, seed).unwrap();
            let mut of_group = BTreeMap::new();
            for (group, fold) in groups.iter().zip(&folds) {
                prop_assert_eq!(*of_group.entry(group).or_insert(*fold), *fold);
            }
            for fold in 0..k {
                prop_assert!(folds.contains(&fold));
            }
        }

        #[test]
        fn grouped_shares_are_near(seed: u64) {
            // 60 groups of 4, half of each stratum
            let strata: Vec<usize> = (0..240).map(|i| (i / 4) % 2).collect();
            let groups: Vec<String> = (0..240).map(|i| format!("{}", i / 4)).collect();
            let parts = stratified(&strata, Some(&groups), &[0.8, 0.2], seed);
            prop_assert_eq!(parts[1].len(), 48);
            prop_assert_eq!(count(&parts[1], &strata, 0), 24);
        }
    }
}
