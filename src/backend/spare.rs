//! In: arrays that were read and are no longer wanted. Out: their memory, for the next ones.
//!
//! A model is read through hundreds of arrays of some megabytes. Were each memory of its own, the system would be asked
//! for every page of every one of them, and an allocator would keep some in the end (90 MB at full size, by glibc's).

use parking_lot::Mutex;

/// Numbers of arrays that are worth it: those below are cheap; those above the allocator gives back to the system anyway.
const SIZES: std::ops::RangeInclusive<usize> = (16 << 10)..=(8 << 20);
/// How many are kept: as many as a layer has weights beside each other.
const COUNT: usize = 3;

/// Memory of arrays.
#[derive(Debug, Default)]
pub(crate) struct Spare(Mutex<Vec<Vec<f32>>>);

impl Spare {
    /// An array of any length and values: the smallest that has room for `count`, else the largest, else a new one.
    pub(crate) fn take(&self, count: usize) -> Vec<f32> {
        if !SIZES.contains(&count) {
            return Vec::new();
        }
        let mut kept = self.0.lock();
        // Small ones first.
        let fitting = kept.iter().position(|array| array.capacity() >= count);
        let index = fitting.unwrap_or(kept.len().saturating_sub(1));
        if index < kept.len() { kept.remove(index) } else { Vec::new() }
    }

    /// Whether the memory of `array` is worth it.
    pub(super) fn wants(array: &Vec<f32>) -> bool {
        SIZES.contains(&array.capacity())
    }

    /// Lets go of all that is kept.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Keeps the memory of `array`, if it is worth it.
    pub(super) fn give(&self, array: Vec<f32>) {
        if !Spare::wants(&array) {
            return;
        }
        let mut kept = self.0.lock();
        let place = kept.partition_point(|other| other.capacity() < array.capacity());
        kept.insert(place, array);
        if kept.len() > COUNT {
            kept.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::HostTensor;
    use std::sync::Arc;

    #[test]
    fn memory_serves_again_the_smallest_that_fits_first() {
        let spare = Spare::default();
        let [small, large] = [1 << 15, 1 << 16].map(Vec::<f32>::with_capacity);
        let (at_small, at_large) = (small.as_ptr(), large.as_ptr());
        spare.give(large);
        spare.give(small);
        let [first, second, third] = [(); 3].map(|()| spare.take(1 << 15));
        assert_eq!((first.as_ptr(), second.as_ptr()), (at_small, at_large));
        assert_eq!(third.capacity(), 0);
    }

    #[test]
    fn an_array_gives_its_memory_back_and_hands_out_no_more_than_its_values() {
        let spare = Arc::default();
        let values = Vec::with_capacity(1 << 18);
        let at = values.as_ptr();
        let filled = |mut values: Vec<f32>| {
            values.resize(1 << 15, 1.5);
            HostTensor::new([1 << 15], values).unwrap().lent(&spare)
        };
        drop(filled(values));
        let again = spare.take(1 << 15);
        assert_eq!(again.as_ptr(), at);
        let copy = filled(again).into_data();
        assert_eq!((copy.len(), copy.capacity(), copy[0]), (1 << 15, 1 << 15, 1.5));
        assert_eq!(spare.take(1 << 15).capacity(), 1 << 18);
        spare.give(Vec::with_capacity(1 << 18));
        spare.clear();
        assert_eq!(spare.take(1 << 15).capacity(), 0);
        // What isn't kept is handed out as it is.
        let (large, spare) = (vec![0.5; SIZES.end() + 1], Arc::default());
        let at = large.as_ptr();
        let large = HostTensor::new([large.len()], large).unwrap().lent(&spare);
        let values = large.into_data();
        assert_eq!(values.as_ptr(), at);
    }

    #[test]
    fn what_is_small_or_large_or_too_many_is_not_kept() {
        let spare = Spare::default();
        spare.give(Vec::with_capacity(100));
        spare.give(Vec::with_capacity(9 << 20));
        assert_eq!(spare.take(1 << 15).capacity(), 0);
        for count in [15, 16, 17, 18] {
            spare.give(Vec::with_capacity(1 << count));
        }
        assert_eq!(spare.0.lock().len(), COUNT);
        // One that has no room for it grows: the largest.
        assert_eq!(spare.take(1 << 20).capacity(), 1 << 18);
        // A small array has no memory of a large one.
        assert_eq!(spare.take(100).capacity(), 0);
    }
}
