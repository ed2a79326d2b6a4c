//! All 64-bit hashes within a Hamming distance, without looking at most of them.
//!
//! Source: M. Norouzi, A. Punjani and D. Fleet, "Fast Exact Search in Hamming Space with Multi-Index Hashing", PAMI 2014. A hash is cut into
//! four parts of 16 bits. Two hashes within r = 4a + b differ by at most a in one of the first b + 1 parts, or by at most a − 1 in one of
//! the others; so it is enough to look up, in a table for each part, the values that near. The search is exact.

/// Parts of a hash.
const PARTS: usize = 4;
/// Bits of a part.
const BITS: u32 = 16;

/// An index of hashes; ids are positions in the slice it was made of.
#[derive(Debug, Clone)]
pub struct HammingIndex {
    hashes: Vec<u64>,
    tables: Vec<Table>,
    /// Every 16-bit pattern, fewest ones first.
    masks: Vec<u16>,
    /// Number of patterns with at most k ones.
    counts: [usize; BITS as usize + 1],
}

/// Hashes sorted by the value of one part.
#[derive(Debug, Clone)]
struct Table {
    /// Where each value starts; one more at the end.
    starts: Vec<u32>,
    entries: Vec<(u64, u32)>,
}

fn part(hash: u64, table: usize) -> u16 {
    (hash >> (BITS as usize * table)) as u16
}

impl Table {
    fn new(hashes: &[u64], table: usize) -> Table {
        let mut starts = vec![0u32; (1 << BITS) + 1];
        hashes.iter().for_each(|&h| starts[usize::from(part(h, table)) + 1] += 1);
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts.clone();
        let mut entries = vec![(0, 0); hashes.len()];
        for (id, &hash) in hashes.iter().enumerate() {
            let place = &mut next[usize::from(part(hash, table))];
            entries[*place as usize] = (hash, id as u32);
            *place += 1;
        }
        Table { starts, entries }
    }

    fn bucket(&self, value: u16) -> &[(u64, u32)] {
        let at = usize::from(value);
        &self.entries[self.starts[at] as usize..self.starts[at + 1] as usize]
    }
}

impl HammingIndex {
    /// Indexes the hashes; at most 2³² − 1 of them. Takes 56 bytes a hash.
    pub fn new(hashes: &[u64]) -> HammingIndex {
        let mut masks: Vec<u16> = (0..=u16::MAX).collect();
        masks.sort_by_key(|m| m.count_ones());
        let counts = std::array::from_fn(|k| masks.partition_point(|m| m.count_ones() as usize <= k));
        HammingIndex { hashes: hashes.to_vec(), tables: (0..PARTS).map(|t| Table::new(hashes, t)).collect(), masks, counts }
    }

    /// Number of hashes.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Hands out every id within `radius` of `hash`, once, with its distance; in no particular order, which depends on nothing but the hashes.
    pub fn within(&self, hash: u64, radius: u32, mut each: impl FnMut(usize, u32)) {
        let radii = radii(radius);
        let lookups: usize = radii.iter().map(|r| r.map_or(0, |r| self.counts[r as usize])).sum();
        // A lookup costs about as much as comparing ten hashes in order, and meets 1 in 65,536 of them.
        if lookups * (10 + self.len() / 32_768) > self.len() {
            for (id, &other) in self.hashes.iter().enumerate() {
                let distance = (hash ^ other).count_ones();
                if distance <= radius {
                    each(id, distance);
                }
            }
            return;
        }
        for (number, table) in self.tables.iter().enumerate() {
            let Some(near) = radii[number] else { continue };
            for &mask in &self.masks[..self.counts[near as usize]] {
                for &(other, id) in table.bucket(part(hash, number) ^ mask) {
                    let difference = hash ^ other;
                    let distance = difference.count_ones();
                    if distance <= radius && !found_before(difference, number, &radii) {
                        each(id as usize, distance);
                    }
                }
            }
        }
    }
}

/// How far each part is searched; `None` where it need not be.
fn radii(radius: u32) -> [Option<u32>; PARTS] {
    let radius = radius.min(u64::BITS);
    let (each, over) = (radius / PARTS as u32, radius as usize % PARTS);
    std::array::from_fn(|t| if t <= over { Some(each.min(BITS)) } else { each.checked_sub(1) })
}

/// Whether a table before `number` has led to the same hash.
fn found_before(difference: u64, number: usize, radii: &[Option<u32>; PARTS]) -> bool {
    (0..number).any(|t| radii[t].is_some_and(|r| part(difference, t).count_ones() <= r))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    /// Hashes in clouds, so that every distance occurs.
    fn clouds(seed: u64, count: usize) -> Vec<u64> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let centers: Vec<u64> = (0..count / 20 + 1).map(|_| rng.random()).collect();
        let mut one = || {
            let mut hash = centers[rng.random_range(0..centers.len())];
            (0..rng.random_range(0..20)).for_each(|_| hash ^= 1 << rng.random_range(0..64));
            hash
        };
        (0..count).map(|_| one()).collect()
    }

    fn sorted(index: &HammingIndex, hash: u64, radius: u32) -> Vec<(usize, u32)> {
        let mut found = Vec::new();
        index.within(hash, radius, |id, distance| found.push((id, distance)));
        found.sort_unstable();
        found
    }

    fn brute(hashes: &[u64], hash: u64, radius: u32) -> Vec<(usize, u32)> {
        let distance = |(id, h): (usize, &u64)| (id, (h ^ hash).count_ones());
        hashes.iter().enumerate().map(distance).filter(|(_, d)| *d <= radius).collect()
    }

    #[test]
    fn exactly_what_brute_force_finds() {
        let hashes = clouds(7, 60_000);
        let index = HammingIndex::new(&hashes);
        for radius in [0, 1, 2, 3, 4, 7, 8, 10, 11, 12] {
            for query in (0..60_000).step_by(5_003) {
                let hash = hashes[query] ^ 1 << (query % 64);
                assert_eq!(sorted(&index, hash, radius), brute(&hashes, hash, radius), "radius {radius}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn few_hashes_and_any_radius(seed in 0u64..1000, count in 0usize..400, radius in 0u32..70, query: u64) {
            let hashes = clouds(seed, count);
            let index = HammingIndex::new(&hashes);
            prop_assert_eq!(sorted(&index, query, radius), brute(&hashes, query, radius));
        }
    }

    #[test]
    fn the_parts_searched_cover_every_way_to_differ() {
        // The largest distance that stays unseen is one less than the sum of the least distances a part must have to be missed.
        for radius in 0..=40 {
            let unseen: u32 = radii(radius).iter().map(|r| r.map_or(0, |r| r + 1)).sum();
            assert_eq!(unseen, radius + 1);
        }
    }
}
