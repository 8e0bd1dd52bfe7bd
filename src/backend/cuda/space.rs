//! In: lengths. Out: places in a range of addresses that do not overlap. Only numbers: the range may be memory,
//! or what memory would be needed.

use std::collections::BTreeMap;

/// Places start at multiples of this; what a device's own functions give is as aligned.
pub(super) const ALIGNMENT: u64 = 256;

/// A range of which parts are taken and given back.
#[derive(Debug)]
pub(super) struct Space {
    /// Start and length of what is free, never side by side.
    free: BTreeMap<u64, u64>,
    length: u64,
    taken: u64,
    /// The end of the highest place that was ever taken.
    peak: u64,
}

impl Space {
    /// All of `length` free.
    pub(super) fn new(length: u64) -> Self {
        let free = if length > 0 { BTreeMap::from([(0, length)]) } else { BTreeMap::new() };
        Space { free, length, taken: 0, peak: 0 }
    }

    /// What a length takes.
    pub(super) fn rounded(length: u64) -> u64 {
        length.max(1).div_ceil(ALIGNMENT) * ALIGNMENT
    }

    /// The lowest of the smallest free parts that hold `length`.
    pub(super) fn take(&mut self, length: u64) -> Option<u64> {
        let length = Space::rounded(length);
        let fit = self.free.iter().filter(|&(_, &free)| free >= length);
        let (&start, &free) = fit.min_by_key(|&(_, &free)| free)?;
        self.free.remove(&start);
        if free > length {
            self.free.insert(start + length, free - length);
        }
        self.taken += length;
        self.peak = self.peak.max(start + length);
        Some(start)
    }

    /// Gives back what [`take`](Self::take) gave for `length`.
    pub(super) fn give(&mut self, start: u64, length: u64) {
        let mut length = Space::rounded(length);
        let mut start = start;
        self.taken -= length;
        if let Some(next) = self.free.remove(&(start + length)) {
            length += next;
        }
        if let Some((&before, &free)) = self.free.range(..start).next_back()
            && before + free == start
        {
            self.free.remove(&before);
            start = before;
            length += free;
        }
        self.free.insert(start, length);
    }

    /// Whether nothing is taken.
    pub(super) fn is_free(&self) -> bool {
        self.taken == 0
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// What is not taken.
    pub(super) fn idle(&self) -> u64 {
        self.length - self.taken
    }

    pub(super) fn peak(&self) -> u64 {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a recorded step relies on: the same takes and gives have the same places again, below the first time's
    /// peak, where there is as much room as then. In just that much room they needn't fit.
    #[test]
    fn a_sequence_has_its_places_again_in_boundless_room_alone() {
        let mut outgrown = 0;
        for seed in 0..200 {
            let run = |space: &mut Space| {
                let (mut random, mut held, mut places): (u64, Vec<(u64, u64)>, Vec<_>) =
                    (seed, Vec::new(), Vec::new());
                for _ in 0..300 {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                    let length = (random >> 50) + 1;
                    if (random >> 32) % 5 < 3 || held.is_empty() {
                        let start = space.take(length)?;
                        held.push((start, length));
                        places.push(start);
                    } else {
                        let (start, length) =
                            held.swap_remove((random >> 40) as usize % held.len());
                        space.give(start, length);
                    }
                }
                Some(places)
            };
            let (mut first, mut again) = (Space::new(1 << 46), Space::new(1 << 46));
            let places = run(&mut first);
            assert!(places.is_some() && run(&mut again) == places);
            assert_eq!(again.peak(), first.peak());
            let mut tight = Space::new(first.peak());
            outgrown += usize::from(run(&mut tight) != places);
        }
        assert!(outgrown > 0, "room as large as the peak would do");
    }

    #[test]
    fn places_never_overlap_and_all_room_comes_back() {
        let mut space = Space::new(1 << 20);
        let (mut random, mut held): (u64, Vec<(u64, u64)>) = (7, Vec::new());
        for _ in 0..10_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
            let length = random >> 48;
            if random >> 32 & 1 == 0 {
                if let Some(start) = space.take(length) {
                    let end = start + Space::rounded(length);
                    assert!(start % ALIGNMENT == 0 && end <= 1 << 20 && end <= space.peak());
                    let apart = |&(s, l): &(u64, u64)| s + Space::rounded(l) <= start || end <= s;
                    assert!(held.iter().all(apart));
                    held.push((start, length));
                }
            } else if !held.is_empty() {
                let (start, length) = held.swap_remove((random >> 40) as usize % held.len());
                space.give(start, length);
            }
        }
        for (start, length) in held {
            space.give(start, length);
        }
        assert!(space.is_free());
        assert_eq!(space.take(1 << 20), Some(0));
        assert_eq!(space.take(1), None);
    }
}
