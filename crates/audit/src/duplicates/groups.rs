//! Groups of duplicates without chains.
//!
//! Source: J. A. Aslam, E. Pelekhov and D. Rus, "The Star Clustering Algorithm for Static and Dynamic Information Organization", JGAA 2004
//! (the offline algorithm). Pictures in order of the number of their duplicates (most first, ties by position): one that belongs to no group
//! yet becomes the centre of a new one and takes its duplicates that belong to none. So every member is a duplicate of its centre; that
//! of two members each resembles a third, which is what makes single linkage join unlike pictures, is never enough.

/// Groups of two and more out of `count` items and the pairs that are duplicates; the centre comes first, the others ascend. Groups are ordered
/// by their smallest member.
pub fn star_groups(count: usize, pairs: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut neighbours = vec![Vec::new(); count];
    for &(a, b) in pairs {
        neighbours[a].push(b);
        neighbours[b].push(a);
    }
    for list in &mut neighbours {
        list.sort_unstable();
        list.dedup();
    }
    let mut order: Vec<usize> = (0..count).filter(|&i| !neighbours[i].is_empty()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(neighbours[i].len()), i));
    let mut taken = vec![false; count];
    let mut groups = Vec::new();
    for center in order {
        if taken[center] {
            continue;
        }
        taken[center] = true;
        let mut group = vec![center];
        for &other in &neighbours[center] {
            if !std::mem::replace(&mut taken[other], true) {
                group.push(other);
            }
        }
        if group.len() > 1 {
            groups.push(group);
        }
    }
    groups.sort_by_key(|group| group.iter().copied().min());
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_chain_is_cut() {
        // 0-1-2-3-4: no group joins pictures that are no duplicates of its centre.
        let groups = star_groups(6, &[(0, 1), (1, 2), (2, 3), (3, 4)]);
        assert_eq!(groups, [vec![1, 0, 2], vec![3, 4]]);
        assert!(star_groups(3, &[]).is_empty());
    }

    proptest! {
        #[test]
        fn members_are_duplicates_of_their_centre_and_in_one_group(edges in prop::collection::vec((0usize..30, 0usize..30), 0..80)) {
            let pairs: Vec<(usize, usize)> = edges.into_iter().filter(|(a, b)| a != b).collect();
            let groups = star_groups(30, &pairs);
            let mut seen = [false; 30];
            for group in &groups {
                prop_assert!(group.len() > 1);
                for &member in group {
                    prop_assert!(!std::mem::replace(&mut seen[member], true));
                }
                for &member in &group[1..] {
                    prop_assert!(pairs.contains(&(group[0], member)) || pairs.contains(&(member, group[0])));
                }
            }
            // Whoever is left alone has duplicates that are all in groups.
            for &(a, b) in &pairs {
                prop_assert!(seen[a] || seen[b]);
            }
        }
    }
}
