//! A table of fixed room over lent storage: open addressing, linear probing, removal by shifting back.
//!
//! What names ids and checks traces has to remember frames and sites without allocating, in a kernel too. A full table
//! is an error to the caller, never a panic and never a forgotten entry.

/// Something a table can look up.
pub trait Key: Copy + Eq {
    /// Returns a number that differs between most keys, in its high bits too.
    fn hash(self) -> u64;
}

// Fibonacci hashing: consecutive frames and pages, the common case, land far from one another.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Key for u64 {
    fn hash(self) -> u64 {
        (self ^ (self >> 32)).wrapping_mul(SPREAD)
    }
}

impl Key for u32 {
    fn hash(self) -> u64 {
        u64::from(self).hash()
    }
}

impl Key for crate::Site {
    fn hash(self) -> u64 {
        (u64::from(self.space.raw()).wrapping_mul(SPREAD) ^ self.page.raw()).hash()
    }
}

/// Room for one entry of a [`Table`].
#[derive(Clone, Copy, Debug)]
pub struct Slot<K, V>(Option<(K, V)>);

impl<K, V> Slot<K, V> {
    /// A free slot, to fill an array with.
    pub const FREE: Self = Self(None);
}

impl<K, V> Default for Slot<K, V> {
    fn default() -> Self {
        Self::FREE
    }
}

/// There is no room for another entry; the caller lent too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for another {what}: {room} were lent")]
pub struct Full {
    /// What the table holds.
    pub what: &'static str,
    /// How many it has room for.
    pub room: usize,
}

/// Keys and values in lent storage.
#[derive(Debug)]
pub struct Table<'s, K, V> {
    slots: &'s mut [Slot<K, V>],
    used: usize,
    what: &'static str,
}

impl<'s, K: Key, V> Table<'s, K, V> {
    /// Makes an empty table of `what` (for the error's text) over `slots`, whose entries are dropped.
    #[must_use]
    pub fn new(what: &'static str, slots: &'s mut [Slot<K, V>]) -> Self {
        for slot in slots.iter_mut() {
            slot.0 = None;
        }
        Self { slots, used: 0, what }
    }

    /// Returns how many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.used
    }

    /// True where there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Returns the value of `key`.
    #[must_use]
    pub fn get(&self, key: K) -> Option<&V> {
        let at = self.find(key).ok()?;
        self.slots.get(at)?.0.as_ref().map(|(_, value)| value)
    }

    /// Returns the value of `key`, to change it.
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let at = self.find(key).ok()?;
        self.slots.get_mut(at)?.0.as_mut().map(|(_, value)| value)
    }

    /// Returns the value of `key`, made by `make` if there is none.
    ///
    /// # Errors
    ///
    /// [`Full`] where a new entry finds no slot; the table is as before.
    pub fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> Result<&mut V, Full> {
        let full = Full {
            what: self.what,
            room: self.slots.len(),
        };
        let at = match self.find(key) {
            Ok(at) => at,
            Err(None) => return Err(full),
            Err(Some(free)) => {
                let Some(slot) = self.slots.get_mut(free) else {
                    return Err(full);
                };
                slot.0 = Some((key, make()));
                self.used = self.used.saturating_add(1);
                free
            }
        };
        self.slots
            .get_mut(at)
            .and_then(|slot| slot.0.as_mut())
            .map(|(_, value)| value)
            .ok_or(full)
    }

    /// Gives `key` this value, whatever it had.
    ///
    /// # Errors
    ///
    /// As [`Table::entry`].
    pub fn set(&mut self, key: K, value: V) -> Result<(), Full> {
        if let Some(old) = self.get_mut(key) {
            *old = value;
            return Ok(());
        }
        self.entry(key, || value).map(|_| ())
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let mut hole = self.find(key).ok()?;
        let (_, value) = self.slots.get_mut(hole)?.0.take()?;
        self.used = self.used.saturating_sub(1);
        // Whatever probed past the hole must still be found: shift it back, until a free slot ends the run.
        let mut at = self.after(hole);
        while let Some(&Slot(Some((key, _)))) = self.slots.get(at).filter(|_| at != hole) {
            let home = self.home(key);
            // The longer of two ways to `at`: one that goes round the end is longer than any that does not, and wraps here.
            if at.wrapping_sub(home) >= at.wrapping_sub(hole) {
                self.slots.swap(hole, at);
                hole = at;
            }
            at = self.after(at);
        }
        Some(value)
    }

    /// Finds the slot of `key`, or the free one where it would go.
    fn find(&self, key: K) -> Result<usize, Option<usize>> {
        let mut at = self.home(key);
        for _ in 0..self.slots.len() {
            match self.slots.get(at) {
                Some(Slot(Some((found, _)))) if *found == key => return Ok(at),
                Some(Slot(Some(_))) => at = self.after(at),
                _ => return Err(Some(at)),
            }
        }
        Err(None)
    }

    fn home(&self, key: K) -> usize {
        let room = u64::try_from(self.slots.len()).unwrap_or(u64::MAX);
        let home = (key.hash() >> 32).checked_rem(room).unwrap_or(0);
        usize::try_from(home).unwrap_or(0)
    }

    fn after(&self, at: usize) -> usize {
        let next = at.wrapping_add(1);
        if next < self.slots.len() { next } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_full_table_says_so_and_keeps_what_it_has() {
        let mut slots = [Slot::FREE; 2];
        let mut table = Table::new("frame", &mut slots);
        assert_eq!(table.set(1u64, 'a'), Ok(()));
        assert_eq!(table.set(2, 'b'), Ok(()));
        assert_eq!(table.set(3, 'c'), Err(Full { what: "frame", room: 2 }));
        assert_eq!(
            (table.get(1), table.get(2), table.get(3)),
            (Some(&'a'), Some(&'b'), None)
        );
        assert_eq!(table.set(2, 'd'), Ok(()));
        assert_eq!(table.remove(1), Some('a'));
        assert_eq!(table.set(3, 'c'), Ok(()));
        assert_eq!(table.get(2), Some(&'d'));
    }

    #[test]
    fn no_room_at_all_is_an_error_too() {
        let mut table: Table<'_, u64, ()> = Table::new("frame", &mut []);
        assert!(table.set(1, ()).is_err());
        assert!(table.get(1).is_none() && table.remove(1).is_none() && table.is_empty());
    }

    const OPS: usize = if cfg!(miri) { 24 } else { 200 };

    proptest! {
        #[test]
        fn a_table_agrees_with_a_map(ops in proptest::collection::vec((0u64..24, any::<Option<u8>>()), 0..OPS)) {
            let mut slots = [Slot::FREE; 16];
            let mut table = Table::new("key", &mut slots);
            let mut map = BTreeMap::new();
            for (key, op) in ops {
                match op {
                    Some(value) if map.len() < 16 || map.contains_key(&key) => {
                        map.insert(key, value);
                        prop_assert_eq!(table.set(key, value), Ok(()));
                    }
                    Some(value) => prop_assert!(table.set(key, value).is_err()),
                    None => prop_assert_eq!(table.remove(key), map.remove(&key)),
                }
                prop_assert_eq!(table.len(), map.len());
                for key in 0..24 {
                    prop_assert_eq!(table.get(key), map.get(&key));
                }
            }
        }
    }
}
