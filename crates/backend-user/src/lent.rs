//! Tables of `mm-types` that own the storage they were lent.
//!
//! Those tables borrow their slots, so that a kernel without an allocator can use them. Here there is one, and a machine
//! that comes and goes: the slots live on the heap for as long as the table does.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

/// A table and the storage it borrows.
///
/// # Invariants
/// 1. `storage` came from `Box::into_raw`, and the only borrow of it is inside `table`.
pub(crate) struct Lent<T, S> {
    table: ManuallyDrop<T>,
    storage: *mut S,
}

// SAFETY: the storage is the table's alone (invariant 1): sending both sends a box.
unsafe impl<T: Send, S: Send> Send for Lent<T, S> {}
// SAFETY: as for Send; the storage is reached through the table only.
unsafe impl<T: Sync, S: Sync> Sync for Lent<T, S> {}

impl<T, S: 'static> Lent<T, S> {
    /// Lets `make` build a table over `storage`.
    pub(crate) fn new(storage: S, make: impl FnOnce(&'static mut S) -> T) -> Self {
        let storage = Box::into_raw(Box::new(storage));
        // INVARIANT 1: the borrow goes into the table; none of the tables gives it out again.
        // SAFETY: just made and nobody else's; it lives until the table has been dropped.
        let table = ManuallyDrop::new(make(unsafe { &mut *storage }));
        Self { table, storage }
    }
}

impl<T, S> Drop for Lent<T, S> {
    fn drop(&mut self) {
        // SAFETY: dropped once, here, and not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.table) };
        // SAFETY: from `Box::into_raw` (invariant 1), and the only borrow of it is gone with the table.
        drop(unsafe { Box::from_raw(self.storage) });
    }
}

impl<T, S> Deref for Lent<T, S> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.table
    }
}

impl<T, S> DerefMut for Lent<T, S> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.table
    }
}

impl<T: fmt::Debug, S> fmt::Debug for Lent<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use mm_types::{CacheSlot, MappingId, PageCache, Pfn};

    use super::*;

    #[test]
    fn a_table_uses_its_own_storage_and_gives_it_back() {
        let mut cache = Lent::new(vec![CacheSlot::default(); 2], |slots| PageCache::new(slots));
        cache.insert(MappingId::new(0), 7, Pfn::new(3)).unwrap();
        assert_eq!(cache.lookup(MappingId::new(0), 7), Some(Pfn::new(3)));
        cache.insert(MappingId::new(0), 8, Pfn::new(4)).unwrap();
        assert!(cache.insert(MappingId::new(0), 9, Pfn::new(5)).is_err());
    }
}
