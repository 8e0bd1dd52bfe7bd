//! In: objects. Out: handles, which C holds as pointers that point nowhere.
//!
//! A handle is a kind, a place and a generation packed into a pointer's bits, and is looked up before
//! every use. So a stale handle, or one of another kind, is an error and never undefined behaviour; and
//! a release while another thread uses the object is safe, for that thread has an `Arc` of its own.

use parking_lot::RwLock;
use std::ffi::c_void;
use std::sync::Arc;

/// What a handle is of. Never 0, so that no handle is NULL.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Kind {
    Error = 0xE1,
    Cancel = 0xC2,
    Model = 0xA3,
    Session = 0x94,
    Lpips = 0x85,
}

/// Bits of a generation. A place whose generations are used up is not used again.
const GENERATIONS: u32 = 1 << 24;

struct Slot<T> {
    generation: u32,
    /// The object and the number of references that C holds.
    held: Option<(Arc<T>, usize)>,
}

struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

/// All objects of one kind.
pub(super) struct Registry<T> {
    kind: Kind,
    slots: RwLock<Slots<T>>,
}

impl<T> Registry<T> {
    pub(super) const fn new(kind: Kind) -> Self {
        Registry { kind, slots: RwLock::new(Slots { slots: Vec::new(), free: Vec::new() }) }
    }

    fn pack(&self, index: u32, generation: u32) -> *mut c_void {
        let bits =
            u64::from(self.kind as u8) << 56 | u64::from(generation) << 32 | u64::from(index);
        std::ptr::without_provenance_mut(bits as usize)
    }

    /// The place and generation of a handle of this kind.
    fn unpack(&self, handle: *const c_void) -> Option<(usize, u32)> {
        let bits = handle.addr() as u64;
        let (kind, generation) = ((bits >> 56) as u8, (bits >> 32) as u32 & (GENERATIONS - 1));
        (kind == self.kind as u8).then_some((bits as u32 as usize, generation))
    }

    /// A handle of a new object, with one reference.
    pub(super) fn insert(&self, value: T) -> *mut c_void {
        let mut slots = self.slots.write();
        let held = Some((Arc::new(value), 1));
        if let Some(index) = slots.free.pop() {
            let slot = &mut slots.slots[index as usize];
            slot.held = held;
            return self.pack(index, slot.generation);
        }
        let index = slots.slots.len() as u32;
        slots.slots.push(Slot { generation: 0, held });
        self.pack(index, 0)
    }

    /// The object, for as long as the caller needs it.
    pub(super) fn get(&self, handle: *const c_void) -> Option<Arc<T>> {
        let (index, generation) = self.unpack(handle)?;
        let slots = self.slots.read();
        let slot = slots.slots.get(index).filter(|slot| slot.generation == generation)?;
        slot.held.as_ref().map(|(value, _)| Arc::clone(value))
    }

    /// Another reference; whether there is such an object.
    pub(super) fn retain(&self, handle: *const c_void) -> bool {
        let Some((index, generation)) = self.unpack(handle) else { return false };
        let mut slots = self.slots.write();
        let slot = slots.slots.get_mut(index).filter(|slot| slot.generation == generation);
        match slot.and_then(|slot| slot.held.as_mut()) {
            Some((_, references)) => {
                *references += 1;
                true
            }
            None => false,
        }
    }

    /// One reference less; the last one lets the object go.
    pub(super) fn release(&self, handle: *const c_void) {
        let Some((index, generation)) = self.unpack(handle) else { return };
        let mut guard = self.slots.write();
        let slots = &mut *guard;
        let slot = slots.slots.get_mut(index).filter(|slot| slot.generation == generation);
        let Some(slot) = slot else { return };
        let Some((_, references)) = &mut slot.held else { return };
        *references -= 1;
        if *references > 0 {
            return;
        }
        let last = slot.held.take();
        slot.generation += 1;
        if slot.generation < GENERATIONS {
            slots.free.push(index as u32);
        }
        // What the object does when it goes must not happen under the lock.
        drop(guard);
        drop(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_or_one_of_another_kind_is_none() {
        let (models, sessions) = (Registry::new(Kind::Model), Registry::new(Kind::Session));
        let first = models.insert("first");
        assert!(models.retain(first));
        models.release(first);
        assert_eq!(models.get(first).as_deref(), Some(&"first"));
        models.release(first);
        assert_eq!(models.get(first), None);
        assert!(!models.retain(first));
        models.release(first);
        let second = models.insert("second");
        assert_ne!(first, second, "a place is used again under another generation");
        assert_eq!(models.get(first), None);
        assert_eq!(sessions.get(second), None::<Arc<&str>>);
        assert_eq!(models.get(std::ptr::null()), None);
        assert_eq!(models.get(std::ptr::dangling()), None);
    }

    #[test]
    fn an_object_in_use_outlives_its_release() {
        let registry = Registry::new(Kind::Session);
        let handle = registry.insert(String::from("in use"));
        let used = registry.get(handle).unwrap();
        registry.release(handle);
        assert_eq!(used.as_str(), "in use");
    }
}
