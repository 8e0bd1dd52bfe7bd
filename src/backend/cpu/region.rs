//! In: sizes. Out: [`Place`]s within a few large runs of lines, which lie side by side and are given out again as soon
//! as they come back, the lowest first.
//!
//! What a network asks for differs in size from layer to layer. Were each buffer memory of its own, one that is idle
//! would serve no other size, and the system would be asked again and again, a fault for each page.
#![allow(unsafe_code, reason = "parts of memory that are owned one by one")]

use super::lines::{LAZY, Line, Lines};
use std::collections::BTreeMap;
use std::ptr::NonNull;

/// Lines of a page, of which memory goes back to the system as a whole: 64 KiB, which is a page of any machine, or some.
const PAGE: usize = 1024;

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

/// One run of lines.
struct Region {
    lines: Lines,
    /// By their first line, how many are free; no two touch.
    free: BTreeMap<usize, usize>,
    /// Whether each page is memory; else it is addresses only.
    pages: Vec<bool>,
    /// How many are.
    memory: usize,
}

impl Region {
    /// Room for `count` lines, or for `reserve` where addresses alone cost nothing.
    fn new(count: usize, reserve: usize) -> Self {
        // Addresses are seldom refused; if they are, as few as will do.
        let more = if LAZY { Lines::try_zeros(count.max(reserve)) } else { None };
        let lines = more.unwrap_or_else(|| Lines::zeros(count));
        let pages = vec![!LAZY; lines.len().div_ceil(PAGE)];
        let memory = if LAZY { 0 } else { pages.len() };
        Region { free: BTreeMap::from([(0, lines.len())]), lines, pages, memory }
    }

    /// The first of the lowest `count` free lines.
    fn take(&mut self, count: usize) -> Option<usize> {
        let (&first, &free) = self.free.iter().find(|&(_, &free)| free >= count)?;
        self.free.remove(&first);
        if free > count {
            self.free.insert(first + count, free - count);
        }
        for page in &mut self.pages[first / PAGE..(first + count).div_ceil(PAGE)] {
            self.memory += usize::from(!*page);
            *page = true;
        }
        Some(first)
    }

    fn give_back(&mut self, mut first: usize, mut count: usize) {
        count += self.free.remove(&(first + count)).unwrap_or_default();
        if let Some((&before, &free)) = self.free.range(..first).next_back()
            && before + free == first
        {
            (first, count) = (before, free + count);
        }
        self.free.insert(first, count);
    }

    fn is_free(&self) -> bool {
        self.free.get(&0) == Some(&self.lines.len())
    }

    fn held_bytes(&self) -> usize {
        self.memory * PAGE * size_of::<Line>()
    }

    /// Gives memory of free lines back to the system, the highest first, until it was `bytes`, and says how much it was.
    fn forget(&mut self, bytes: usize) -> usize {
        let mut gone = 0;
        for (&first, &count) in self.free.iter().rev() {
            // Whole pages; the last of the region may be a part of one, behind which nothing is.
            let end = first + count;
            let pages = first.div_ceil(PAGE)..if end == self.lines.len() {
                end.div_ceil(PAGE)
            } else {
                end / PAGE
            };
            if gone >= bytes {
                break;
            }
            if pages.is_empty() || !self.pages[pages.clone()].contains(&true) {
                continue;
            }
            // SAFETY: free lines are nobody's.
            if unsafe {
                self.lines
                    .forget(pages.start * PAGE, (pages.len() * PAGE).min(end - pages.start * PAGE))
            } {
                let before = self.held_bytes();
                for page in &mut self.pages[pages] {
                    self.memory -= usize::from(*page);
                    *page = false;
                }
                gone += before - self.held_bytes();
            }
        }
        gone
    }
}

/// All regions of a pool.
pub(super) struct Regions {
    all: Vec<Region>,
    /// Lines of a new one.
    reserve: usize,
}

impl Regions {
    /// None yet; of so many bytes each where addresses alone cost nothing.
    pub(super) fn new(reserve: usize) -> Self {
        Regions { all: Vec::new(), reserve: reserve / size_of::<Line>() }
    }

    /// `count` lines, whatever is in them.
    pub(super) fn take(&mut self, count: usize) -> Place {
        if count == 0 {
            return Place { at: NonNull::dangling(), count };
        }
        let found = self.all.iter_mut().find_map(|region| {
            let first = region.take(count)?;
            Some(region.lines.at(first))
        });
        let at = found.unwrap_or_else(|| {
            let mut region = Region::new(count, self.reserve);
            let first = region.take(count).unwrap_or_default();
            let at = region.lines.at(first);
            self.all.push(region);
            at
        });
        Place { at, count }
    }

    /// The lines of `place` are free again.
    pub(super) fn give_back(&mut self, place: Place) {
        for region in &mut self.all {
            if let Some(first) = region.lines.index(place.at)
                && place.count > 0
            {
                return region.give_back(first, place.count);
            }
        }
    }

    /// Gives memory of free lines back to the system until it was `bytes`, or all there is, and says how much it was.
    pub(super) fn forget(&mut self, bytes: usize) -> usize {
        let mut gone = 0;
        for index in (0..self.all.len()).rev() {
            if gone >= bytes {
                break;
            }
            let region = &mut self.all[index];
            if region.is_free() && (!LAZY || bytes == usize::MAX) {
                gone += self.all.swap_remove(index).held_bytes();
            } else {
                gone += region.forget(bytes - gone);
            }
        }
        gone
    }

    /// What is memory, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.all.iter().map(Region::held_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVE: usize = 64 << 20;

    #[test]
    fn lines_are_given_out_again_alone_and_together() {
        let mut regions = Regions::new(RESERVE);
        let mut places: Vec<Place> = [5, 7, 9, 3].map(|count| regions.take(count)).into();
        for (index, place) in places.iter_mut().enumerate() {
            place.values_mut().fill(index as f32);
        }
        for (index, place) in places.iter().enumerate() {
            assert!(place.values().iter().all(|&v| v == index as f32), "{index}");
        }
        assert_eq!(places.iter().map(Place::len).sum::<usize>(), 24);
        if LAZY {
            // The second and the third, in either order, are room for one of both their sizes.
            for order in [[1, 1], [2, 1]] {
                let first = places[1].values().as_ptr();
                for index in order {
                    regions.give_back(places.remove(index));
                }
                let both = regions.take(16);
                assert_eq!(both.values().as_ptr(), first);
                regions.give_back(both);
                places.insert(1, regions.take(7));
                places.insert(2, regions.take(9));
            }
            assert_eq!(regions.held_bytes(), 64 << 10);
        }
        for place in places {
            regions.give_back(place);
        }
        let held = regions.held_bytes();
        assert_eq!(
            (regions.forget(usize::MAX), regions.held_bytes(), regions.all.len()),
            (held, 0, 0)
        );
    }

    #[test]
    fn what_is_in_use_stays_when_the_rest_goes() {
        let mut regions = Regions::new(RESERVE);
        let (before, mut kept) = (regions.take(5000), regions.take(10));
        kept.values_mut().fill(2.5);
        let large = RESERVE / 64;
        let (behind, none, large) = (regions.take(7000), regions.take(0), regions.take(large));
        if LAZY {
            assert_eq!(regions.all.len(), 2, "what no region has room for has one of its own");
        }
        for place in [before, behind, none, large] {
            regions.give_back(place);
        }
        regions.forget(usize::MAX);
        if LAZY {
            // The page that lines in use share with others.
            assert_eq!(regions.held_bytes(), 64 << 10);
        }
        assert_eq!(regions.forget(usize::MAX), 0);
        assert!(kept.values().iter().all(|&v| v == 2.5));
        let mut again = regions.take(5000);
        again.values_mut().fill(1.0);
        assert!(kept.values().iter().all(|&v| v == 2.5));
    }

    /// Memory that was let go is not thought to be there, nor the other way round, wherever in a hole it lies.
    #[test]
    fn what_is_memory_is_known_page_by_page() {
        let mut regions = Regions::new(RESERVE);
        let [a, b, kept] = [8, 7, 1].map(|pages| regions.take(pages * PAGE));
        let page = PAGE * size_of::<Line>();
        regions.give_back(a);
        assert_eq!(regions.held_bytes(), 16 * page);
        regions.forget(usize::MAX);
        assert_eq!(regions.held_bytes(), 8 * page);
        regions.give_back(b);
        let low = regions.take(4 * PAGE);
        if LAZY {
            // Four at the low end, seven at the high one, and what is kept.
            assert_eq!(regions.held_bytes(), 12 * page);
            assert_eq!((regions.forget(1), regions.held_bytes()), (7 * page, 5 * page));
        }
        regions.give_back(low);
        regions.give_back(kept);
    }
}
