//! In: sizes. Out: [`Place`]s within a few large runs of lines, which lie side by side and are given out again as soon
//! as they come back, the lowest first.
//!
//! What a network asks for differs in size from layer to layer. Were each buffer memory of its own, one that is idle
//! would serve no other size, and the system would be asked again and again, a fault for each page.
#![allow(unsafe_code, reason = "parts of memory that are owned one by one")]

use super::lines::{Line, Lines};
use std::collections::BTreeMap;
use std::ptr::NonNull;

/// Lines of a region: 512 MiB of addresses, of which those are memory that were ever given out; less where the system
/// may count all of it at once.
const REGION: usize = if cfg!(target_os = "linux") { 512 << 14 } else { 16 << 14 };

/// Some lines of a region, owned alone. Whoever drops it instead of giving it back loses them.
pub(super) struct Place {
    at: NonNull<Line>,
    count: usize,
}

// SAFETY: it owns its lines alone, as a vector does; the region outlives it.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    /// How many lines there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The same as values.
    pub(super) fn values(&self) -> &[f32] {
        // SAFETY: a `Line` is 16 values without gaps, and all were zeros once.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast(), self.count * 16) }
    }

    /// The same as values.
    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above; `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr().cast(), self.count * 16) }
    }
}

/// Free lines side by side.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Free {
    count: usize,
    /// How many of them are memory, the lowest as far as is known; the others are addresses only.
    memory: usize,
}

/// One run of lines.
struct Region {
    lines: Lines,
    /// By their first line; no two touch.
    free: BTreeMap<usize, Free>,
}

impl Region {
    fn new(count: usize) -> Self {
        // Addresses alone are seldom refused; if they are, as few as will do.
        let lines = Lines::try_zeros(count.max(REGION)).unwrap_or_else(|| Lines::zeros(count));
        let free = BTreeMap::from([(0, Free { count: lines.len(), memory: 0 })]);
        Region { lines, free }
    }

    /// The first of the lowest `count` free lines.
    fn take(&mut self, count: usize) -> Option<usize> {
        let (&first, &free) = self.free.iter().find(|(_, free)| free.count >= count)?;
        self.free.remove(&first);
        if free.count > count {
            let memory = free.memory.saturating_sub(count);
            self.free.insert(first + count, Free { count: free.count - count, memory });
        }
        Some(first)
    }

    fn give_back(&mut self, mut first: usize, count: usize) {
        let mut all = Free { count, memory: count };
        let mut join = |other: Free| {
            all = Free { count: all.count + other.count, memory: all.memory + other.memory };
        };
        if let Some(behind) = self.free.remove(&(first + count)) {
            join(behind);
        }
        if let Some((&before, &free)) = self.free.range(..first).next_back()
            && before + free.count == first
        {
            first = before;
            join(free);
        }
        self.free.insert(first, all);
    }

    fn is_free(&self) -> bool {
        self.free.get(&0).is_some_and(|free| free.count == self.lines.len())
    }
}

/// All regions of a pool.
#[derive(Default)]
pub(super) struct Regions(Vec<Region>);

impl Regions {
    /// `count` lines, whatever is in them.
    pub(super) fn take(&mut self, count: usize) -> Place {
        if count == 0 {
            return Place { at: NonNull::dangling(), count };
        }
        let found = self.0.iter_mut().find_map(|region| {
            let first = region.take(count)?;
            Some(region.lines.at(first))
        });
        let at = found.unwrap_or_else(|| {
            let mut region = Region::new(count);
            let first = region.take(count).unwrap_or_default();
            let at = region.lines.at(first);
            self.0.push(region);
            at
        });
        Place { at, count }
    }

    /// The lines of `place` are free again.
    pub(super) fn give_back(&mut self, place: Place) {
        for region in &mut self.0 {
            if let Some(first) = region.lines.index(place.at)
                && place.count > 0
            {
                return region.give_back(first, place.count);
            }
        }
    }

    /// Gives the memory of all free lines back to the system, and says how many bytes that were.
    pub(super) fn empty(&mut self) -> usize {
        let before = self.free_bytes();
        self.0.retain(|region| !region.is_free());
        for Region { lines, free } in &mut self.0 {
            for (&first, free) in free {
                // SAFETY: free lines are nobody's.
                if unsafe { lines.forget(first, free.count) } {
                    free.memory = 0;
                }
            }
        }
        before - self.free_bytes()
    }

    /// The memory of free lines, in bytes.
    pub(super) fn free_bytes(&self) -> usize {
        let free = self.0.iter().flat_map(|region| region.free.values());
        free.map(|free| free.memory * size_of::<Line>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_given_out_again_alone_and_together() {
        let mut regions = Regions::default();
        let mut places: Vec<Place> = [5, 7, 9, 3].map(|count| regions.take(count)).into();
        for (index, place) in places.iter_mut().enumerate() {
            place.values_mut().fill(index as f32);
        }
        for (index, place) in places.iter().enumerate() {
            assert!(place.values().iter().all(|&v| v == index as f32), "{index}");
        }
        assert_eq!((places.iter().map(Place::len).sum::<usize>(), regions.free_bytes()), (24, 0));
        // The second and the third, in either order, are room for one of both their sizes.
        for order in [[1, 1], [2, 1]] {
            let first = places[1].values().as_ptr();
            for index in order {
                regions.give_back(places.remove(index));
            }
            assert_eq!(regions.free_bytes(), 16 * 64);
            let both = regions.take(16);
            assert_eq!((both.values().as_ptr(), regions.free_bytes()), (first, 0));
            regions.give_back(both);
            places.insert(1, regions.take(7));
            places.insert(2, regions.take(9));
        }
        // Nothing is memory beyond what was in use at once.
        for place in places {
            regions.give_back(place);
        }
        assert_eq!(regions.free_bytes(), 24 * 64);
        assert_eq!((regions.empty(), regions.empty(), regions.0.len()), (24 * 64, 0, 0));
    }

    #[test]
    fn what_is_in_use_stays_when_the_rest_goes() {
        let mut regions = Regions::default();
        let (before, mut kept) = (regions.take(5000), regions.take(10));
        kept.values_mut().fill(2.5);
        let (behind, none, large) = (regions.take(7000), regions.take(0), regions.take(REGION));
        assert_eq!(
            (none.len(), regions.0.len()),
            (0, 2),
            "what no region has room for has one of its own"
        );
        for place in [before, behind, none, large] {
            regions.give_back(place);
        }
        if cfg!(target_os = "linux") {
            assert_eq!(regions.empty(), (5000 + 7000 + REGION) * 64);
            assert_eq!(regions.empty(), 0);
        }
        assert!(kept.values().iter().all(|&v| v == 2.5));
        let mut again = regions.take(5000);
        again.values_mut().fill(1.0);
        assert!(again.values().as_ptr() < kept.values().as_ptr());
        assert!(kept.values().iter().all(|&v| v == 2.5));
    }
}
