//! Who holds a page: the reference ledger, as pure functions.
//!
//! Two questions have one answer each. What does the edit of an entry do to the counts? [`ledger`], applied once, under
//! the entry's lock, by whoever stores the entry. How many references must a page have for its migration to go on?
//! [`expected_count`].

use crate::museum::{self, Bug};
use crate::{Pfn, Pte, SwapEntry};

/// What one edit of an entry does to counts.
///
/// Increments are applied before the store and decrements after it, both under the entry's lock, so a page's count is
/// never lower than the number of entries that map it. The reference of `put` may go later: when no CPU can reach the page
/// through its old translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ledger {
    /// The page that gains one mapping and one reference.
    pub get: Option<Pfn>,
    /// The page that loses one mapping and one reference.
    pub put: Option<Pfn>,
    /// The swap slot that gains one user.
    pub swap_dup: Option<SwapEntry>,
    /// The swap slot that loses one user.
    pub swap_free: Option<SwapEntry>,
    /// Change of the space's resident pages. A migration entry counts as resident (3.3; the leak of fork and zap in 2006
    /// is not rebuilt).
    pub rss: i8,
    /// Change of the space's swapped-out pages.
    pub swapents: i8,
}

/// Computes what replacing `before` by `after` does to counts.
///
/// Migration entries hold no reference and no mapping (I4), so installing one gives both up and restoring takes both again.
#[must_use]
#[inline]
pub fn ledger(before: Pte, after: Pte) -> Ledger {
    match (before, after) {
        // A page in flight stays resident: only its mapping goes, and comes back. The two edits of every migration.
        (Pte::Present { pfn, .. }, Pte::Migration(_)) => Ledger {
            put: Some(pfn),
            ..NO_CHANGE
        },
        (Pte::Migration(_), Pte::Present { pfn, .. }) => Ledger {
            get: Some(pfn),
            ..NO_CHANGE
        },
        _ => any_edit(before, after),
    }
}

const NO_CHANGE: Ledger = Ledger {
    get: None,
    put: None,
    swap_dup: None,
    swap_free: None,
    rss: 0,
    swapents: 0,
};

fn any_edit(before: Pte, after: Pte) -> Ledger {
    let mapped = |pte: Pte| if pte.is_present() { pte.pfn() } else { None };
    let slot = |pte: Pte| {
        if let Pte::Swap { entry, .. } = pte {
            Some(entry)
        } else {
            None
        }
    };
    let resident = |pte: Pte| i8::from(pte.is_present() || (pte.is_migration() && !museum::has(Bug::Rss)));
    let swapped = |pte: Pte| i8::from(slot(pte).is_some());
    let (from, to) = (mapped(before), mapped(after));
    let (swap_from, swap_to) = (slot(before), slot(after));
    Ledger {
        get: if from == to { None } else { to },
        put: if from == to { None } else { from },
        swap_dup: if swap_from == swap_to { None } else { swap_to },
        swap_free: if swap_from == swap_to { None } else { swap_from },
        rss: resident(after).saturating_sub(resident(before)),
        swapents: swapped(after).saturating_sub(swapped(before)),
    }
}

/// References a page has when nobody but the migration and its cache holds it: one for the isolation, one for each cache
/// slot, one for private data (2.6.17 `migrate_page_move_mapping`: 1, 2, 3; 6.x `folio_expected_refs`).
#[must_use]
#[inline]
pub const fn expected_count(slots: u32, private: bool) -> u32 {
    1u32.saturating_add(slots).saturating_add(private as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MigrationEntry, PteFlags};

    const PAGE: Pfn = Pfn::new(5);
    const NEW: Pfn = Pfn::new(9);

    fn present(pfn: Pfn) -> Pte {
        Pte::Present {
            pfn,
            flags: PteFlags::WRITE,
        }
    }

    #[test]
    fn an_entry_holds_no_reference_but_stays_resident() {
        let entry = Pte::Migration(MigrationEntry::make(PAGE, true));
        assert_eq!(
            ledger(present(PAGE), entry),
            Ledger {
                put: Some(PAGE),
                ..Ledger::default()
            }
        );
        assert_eq!(
            ledger(entry, present(NEW)),
            Ledger {
                get: Some(NEW),
                ..Ledger::default()
            }
        );
        assert_eq!(
            ledger(entry, Pte::None),
            Ledger {
                rss: -1,
                ..Ledger::default()
            }
        );
        assert_eq!(
            ledger(Pte::None, entry),
            Ledger {
                rss: 1,
                ..Ledger::default()
            }
        );
    }

    #[test]
    fn the_two_edits_of_a_migration_are_no_exception_to_the_rule() {
        let entry = Pte::Migration(MigrationEntry::make(PAGE, true));
        for (before, after) in [(present(PAGE), entry), (entry, present(NEW)), (entry, present(PAGE))] {
            assert_eq!(ledger(before, after), any_edit(before, after));
        }
    }

    #[test]
    fn a_change_of_permission_changes_no_count() {
        let read_only = Pte::Present {
            pfn: PAGE,
            flags: PteFlags::empty(),
        };
        assert_eq!(ledger(present(PAGE), read_only), Ledger::default());
    }

    #[test]
    fn mapping_and_unmapping_balance() {
        let map = ledger(Pte::None, present(PAGE));
        let unmap = ledger(present(PAGE), Pte::None);
        assert_eq!((map.get, map.rss), (Some(PAGE), 1));
        assert_eq!((unmap.put, unmap.rss), (Some(PAGE), -1));
    }

    #[test]
    fn expected_references_are_those_of_2006() {
        assert_eq!(expected_count(0, false), 1);
        assert_eq!(expected_count(1, false), 2);
        assert_eq!(expected_count(1, true), 3);
    }
}
