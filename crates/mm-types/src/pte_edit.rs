//! The edits of a page-table entry that migration and its bystanders make.
//!
//! All are pure: the caller runs them inside a compare-exchange loop, so they may run twice, and a
//! bit the hardware set meanwhile is seen by the second run instead of being overwritten. `None`
//! means "not mine, leave it": the slot changed since the caller looked, or another page is there.
//!
//! One rule stands above the rest: no edit ever adds write permission or exclusiveness that the
//! entry did not have. What a fork or an mprotect took away while the page was in flight stays away.

use crate::museum::{self, Bug};
use crate::{EntryStyle, MigrationEntry, MigrationFlags, MigrationKind, Pfn, Pte, PteFlags, SwapEntry, SwapPteFlags};

/// What a migration entry is replaced with when its page has arrived, or has stayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restore {
    /// The frame the entry must name.
    pub old: Pfn,
    /// The frame to map: `old` again on every failure exit.
    pub new: Pfn,
    /// The mapping allows stores now; it may have stopped to while the page was in flight.
    pub vma_may_write: bool,
    /// The page is anonymous: a writable mapping of it is an exclusive one.
    pub anon: bool,
    /// The page is still dirty: a page cleaned meanwhile must not be called dirty by a stale bit.
    pub page_dirty: bool,
    /// How much of the entry comes back.
    pub style: EntryStyle,
}

impl Pte {
    /// Replaces a mapping of `pfn` by a migration entry (Linux: `try_to_unmap_one()`, `try_to_migrate_one()`).
    ///
    /// The page must be locked. A dirty bit in the replaced entry belongs on the page, in either
    /// style: the caller takes it from the entry that the exchange returned. `None` unless `pfn` is
    /// mapped here.
    #[must_use]
    #[inline]
    pub fn install_migration(self, pfn: Pfn, style: EntryStyle) -> Option<Self> {
        if !self.maps(pfn) {
            return None;
        }
        let flags = self.flags();
        let entry = match style {
            EntryStyle::Lossy => MigrationEntry::make(pfn, self.writable()),
            EntryStyle::Lossless if self.writable() => MigrationEntry::writable(pfn),
            EntryStyle::Lossless if flags.contains(PteFlags::EXCLUSIVE) => MigrationEntry::readable_exclusive(pfn),
            EntryStyle::Lossless => MigrationEntry::readable(pfn),
        };
        let kept = match style {
            EntryStyle::Lossy => MigrationFlags::empty(),
            EntryStyle::Lossless => carried(flags),
        };
        Some(Self::Migration(entry.with_flags(kept)))
    }

    /// Replaces a mapping of `pfn` by its slot in swap: what 2.6.17 does to a swap-cache page instead
    /// of a migration entry. `None` unless `pfn` is mapped here.
    #[must_use]
    #[inline]
    pub fn install_swap(self, pfn: Pfn, entry: SwapEntry) -> Option<Self> {
        if !self.maps(pfn) {
            return None;
        }
        let mut kept = SwapPteFlags::empty();
        kept.set(SwapPteFlags::EXCLUSIVE, self.flags().contains(PteFlags::EXCLUSIVE));
        kept.set(SwapPteFlags::SOFT_DIRTY, self.flags().contains(PteFlags::SOFT_DIRTY));
        kept.set(SwapPteFlags::UFFD_WP, self.flags().contains(PteFlags::UFFD_WP));
        Some(Self::Swap { entry, flags: kept })
    }

    /// Replaces a nonlinear mapping of `pfn` by the file offset it is found again by, in pages
    /// (Linux 2.6.17: `try_to_unmap_cluster()`). `None` unless `pfn` is mapped here.
    #[must_use]
    #[inline]
    pub fn clear_to_file(self, pfn: Pfn, offset: u64) -> Option<Self> {
        self.maps(pfn).then_some(Self::File { offset })
    }

    /// Clears a mapping of `pfn`, which comes back by an ordinary fault. `None` unless `pfn` is mapped here.
    #[must_use]
    #[inline]
    pub fn unmap(self, pfn: Pfn) -> Option<Self> {
        self.maps(pfn).then_some(Self::None)
    }

    /// Replaces a mapping of `pfn` by a poison entry. `None` unless `pfn` is mapped here.
    #[must_use]
    #[inline]
    pub fn install_poison(self, pfn: Pfn) -> Option<Self> {
        self.maps(pfn).then_some(Self::Poison(pfn))
    }

    /// Replaces the migration entry that names `to.old` by a mapping of `to.new`
    /// (Linux: `remove_migration_pte()`).
    ///
    /// Writable only if the entry is, the VMA still allows it, and userfaultfd does not watch for
    /// writes. Lossy: old and clean. Lossless: young as it was, dirty only while the page is dirty,
    /// soft-dirty exactly as it was. Both pages must be locked. `None` for anything but a migration
    /// entry of `to.old`.
    #[must_use]
    #[inline]
    pub fn restore(self, to: Restore) -> Option<Self> {
        let entry = self.migration().filter(|entry| entry.pfn() == to.old)?;
        let watched = entry.flags().contains(MigrationFlags::UFFD_WP);
        let mut flags = PteFlags::empty();
        if to.style == EntryStyle::Lossless {
            flags = brought_back(entry.flags());
            if !to.page_dirty {
                flags.remove(PteFlags::DIRTY);
            }
            if to.anon && entry.kind() != MigrationKind::Read {
                flags.insert(PteFlags::EXCLUSIVE);
            }
        }
        let may_write = to.vma_may_write || museum::has(Bug::B16);
        if entry.is_write() && may_write && !watched {
            flags.insert(PteFlags::WRITE);
        }
        Some(Self::present(to.new, flags))
    }

    /// Returns what fork leaves in the parent and puts into the child (Linux: `copy_one_pte()`).
    ///
    /// `cow` says that the mapping is private and may be written. Then neither side may write any
    /// more, present or in flight: a write entry left in either would, once restored, let one see the
    /// other's stores. The child's present copy is old, and clean where the mapping is shared, because
    /// the parent's entry already remembers both. A slot is no longer exclusive once two entries
    /// refer to it. userfaultfd marks are copied; a caller whose child is not registered clears them.
    #[must_use]
    #[inline]
    pub fn fork_copy(self, cow: bool) -> (Self, Self) {
        match self {
            Self::Present { pfn, flags } => {
                let taken = if cow {
                    PteFlags::WRITE.union(PteFlags::EXCLUSIVE)
                } else {
                    PteFlags::empty()
                };
                let parent = flags.difference(taken);
                let inherited = if cow {
                    PteFlags::YOUNG
                } else {
                    PteFlags::YOUNG.union(PteFlags::DIRTY)
                };
                (
                    Self::present(pfn, parent),
                    Self::present(pfn, parent.difference(inherited)),
                )
            }
            Self::Migration(entry) if cow => {
                let shared = if museum::has(Bug::B10) {
                    MigrationEntry::writable(entry.pfn()).with_flags(entry.flags())
                } else {
                    entry.make_read()
                };
                (Self::Migration(shared), Self::Migration(shared))
            }
            Self::Swap { entry, flags } => {
                let shared = Self::Swap {
                    entry,
                    flags: flags.difference(SwapPteFlags::EXCLUSIVE),
                };
                (shared, shared)
            }
            Self::None | Self::Migration(_) | Self::File { .. } | Self::Poison(_) => (self, self),
        }
    }

    /// Returns the entry after mprotect (Linux: `change_pte_range()`).
    ///
    /// A present entry loses write permission unless `allow_write`; it never gains it here, the next
    /// write fault does that. A write entry in flight always loses it, because whether the page may be
    /// written is not known before it is back: to read-exclusive for an anonymous page in the lossless
    /// style, to read otherwise.
    #[must_use]
    #[inline]
    pub fn protect(self, allow_write: bool, anon: bool, style: EntryStyle) -> Self {
        match self {
            Self::Present { pfn, flags } if !allow_write => Self::present(pfn, flags.difference(PteFlags::WRITE)),
            Self::Migration(entry) if entry.is_write() && !museum::has(Bug::B16) => Self::Migration(match style {
                EntryStyle::Lossless if anon => entry.make_read_exclusive(),
                EntryStyle::Lossless | EntryStyle::Lossy => entry.make_read(),
            }),
            _ => self,
        }
    }
}

fn carried(flags: PteFlags) -> MigrationFlags {
    let mut kept = MigrationFlags::empty();
    if !museum::has(Bug::B15) {
        kept.set(MigrationFlags::YOUNG, flags.contains(PteFlags::YOUNG));
        kept.set(MigrationFlags::DIRTY, flags.contains(PteFlags::DIRTY));
    }
    if !museum::has(Bug::B12) {
        kept.set(MigrationFlags::SOFT_DIRTY, flags.contains(PteFlags::SOFT_DIRTY));
    }
    kept.set(MigrationFlags::UFFD_WP, flags.contains(PteFlags::UFFD_WP));
    kept
}

/// The flags of a mapping that an entry carried.
fn brought_back(flags: MigrationFlags) -> PteFlags {
    PteFlags::from_bits_truncate(u16::from(flags.bits()) << CARRIED_SHIFT)
}

// The four flags that entries carry stand in one order in both words, so that a shift takes all of them across.
const CARRIED_SHIFT: u32 = 1;
const _: () = {
    let pairs = [
        (MigrationFlags::YOUNG, PteFlags::YOUNG),
        (MigrationFlags::DIRTY, PteFlags::DIRTY),
        (MigrationFlags::SOFT_DIRTY, PteFlags::SOFT_DIRTY),
        (MigrationFlags::UFFD_WP, PteFlags::UFFD_WP),
    ];
    let mut rest: &[(MigrationFlags, PteFlags)] = &pairs;
    while let [(carried, flag), after @ ..] = rest {
        assert!((carried.bits() as u16) << CARRIED_SHIFT == flag.bits());
        rest = after;
    }
    assert!(MigrationFlags::all().bits().count_ones() == 4);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SwapType;

    const OLD: Pfn = Pfn::new(0x10);
    const NEW: Pfn = Pfn::new(0x20);

    fn to_new(style: EntryStyle) -> Restore {
        Restore {
            old: OLD,
            new: NEW,
            vma_may_write: true,
            anon: true,
            page_dirty: true,
            style,
        }
    }

    #[test]
    fn a_mapping_of_another_frame_is_left_alone() {
        let other = Pte::present(NEW, PteFlags::WRITE);
        let swap = SwapEntry::new(SwapType::new(1).unwrap(), 9).unwrap();
        assert_eq!(other.install_migration(OLD, EntryStyle::Lossless), None);
        assert_eq!(other.install_swap(OLD, swap), None);
        assert_eq!(other.clear_to_file(OLD, 3), None);
        assert_eq!(other.unmap(OLD), None);
        assert_eq!(other.install_poison(OLD), None);
        assert_eq!(Pte::Migration(MigrationEntry::writable(OLD)).unmap(OLD), None);
        assert_eq!(
            Pte::Migration(MigrationEntry::writable(NEW)).restore(to_new(EntryStyle::Lossy)),
            None
        );
        assert_eq!(
            Pte::present(OLD, PteFlags::WRITE).restore(to_new(EntryStyle::Lossy)),
            None
        );
    }

    #[test]
    fn a_lossy_entry_comes_back_old_and_clean_with_its_permission() {
        let hot = Pte::present(OLD, PteFlags::WRITE | PteFlags::YOUNG | PteFlags::DIRTY);
        let entry = hot.install_migration(OLD, EntryStyle::Lossy).unwrap();
        assert_eq!(entry, Pte::Migration(MigrationEntry::writable(OLD)));
        assert_eq!(
            entry.restore(to_new(EntryStyle::Lossy)),
            Some(Pte::present(NEW, PteFlags::WRITE))
        );
    }

    #[test]
    fn a_page_cleaned_in_flight_is_not_called_dirty_by_its_entry() {
        let hot = Pte::present(OLD, PteFlags::DIRTY | PteFlags::YOUNG);
        let entry = hot.install_migration(OLD, EntryStyle::Lossless).unwrap();
        let clean = Restore {
            page_dirty: false,
            ..to_new(EntryStyle::Lossless)
        };
        assert_eq!(entry.restore(clean), Some(Pte::present(NEW, PteFlags::YOUNG)));
    }

    #[test]
    fn write_permission_the_vma_lost_in_flight_is_not_restored() {
        let entry = Pte::Migration(MigrationEntry::writable(OLD));
        let now_read_only = Restore {
            vma_may_write: false,
            ..to_new(EntryStyle::Lossless)
        };
        assert_eq!(
            entry.restore(now_read_only),
            Some(Pte::present(NEW, PteFlags::EXCLUSIVE))
        );
    }

    #[test]
    fn a_page_watched_for_writes_in_flight_comes_back_read_only() {
        let entry = Pte::Migration(MigrationEntry::writable(OLD).with_flags(MigrationFlags::UFFD_WP));
        let back = entry.restore(to_new(EntryStyle::Lossless));
        assert_eq!(back, Some(Pte::present(NEW, PteFlags::UFFD_WP | PteFlags::EXCLUSIVE)));
        assert_eq!(
            entry.restore(to_new(EntryStyle::Lossy)),
            Some(Pte::present(NEW, PteFlags::empty()))
        );
    }

    #[test]
    fn a_fork_in_flight_leaves_neither_side_a_write_entry() {
        let entry = Pte::Migration(MigrationEntry::writable(OLD).with_flags(MigrationFlags::YOUNG));
        let (parent, child) = entry.fork_copy(true);
        assert_eq!(parent, child);
        let back = parent.restore(to_new(EntryStyle::Lossless)).unwrap();
        assert_eq!(back, Pte::present(NEW, PteFlags::YOUNG));
        assert_eq!(entry.fork_copy(false), (entry, entry));
    }

    #[test]
    fn a_fork_shares_the_page_read_only_and_the_child_starts_cold() {
        let all = PteFlags::WRITE | PteFlags::EXCLUSIVE | PteFlags::YOUNG | PteFlags::DIRTY;
        let (parent, child) = Pte::present(OLD, all).fork_copy(true);
        assert_eq!(parent, Pte::present(OLD, PteFlags::YOUNG | PteFlags::DIRTY));
        assert_eq!(child, Pte::present(OLD, PteFlags::DIRTY));
        let file = PteFlags::WRITE | PteFlags::YOUNG | PteFlags::DIRTY;
        let (parent, child) = Pte::present(OLD, file).fork_copy(false);
        assert_eq!(parent, Pte::present(OLD, file));
        assert_eq!(child, Pte::present(OLD, PteFlags::WRITE));
    }

    #[test]
    fn a_forked_slot_is_exclusive_to_nobody() {
        let entry = SwapEntry::new(SwapType::new(3).unwrap(), 0x10).unwrap();
        let slot = Pte::Swap {
            entry,
            flags: SwapPteFlags::all(),
        };
        let shared = Pte::Swap {
            entry,
            flags: SwapPteFlags::SOFT_DIRTY | SwapPteFlags::UFFD_WP,
        };
        assert_eq!(slot.fork_copy(true), (shared, shared));
    }

    #[test]
    fn a_protection_taken_and_given_in_flight_does_not_give_write_back() {
        let entry = Pte::Migration(MigrationEntry::writable(OLD));
        let round = |anon, style| {
            entry
                .protect(false, anon, style)
                .protect(true, anon, style)
                .migration()
                .unwrap()
        };
        assert_eq!(round(true, EntryStyle::Lossy).kind(), MigrationKind::Read);
        assert_eq!(round(false, EntryStyle::Lossless).kind(), MigrationKind::Read);
        assert_eq!(round(true, EntryStyle::Lossless).kind(), MigrationKind::ReadExclusive);
        assert_eq!(
            entry.protect(true, true, EntryStyle::Lossy).migration().unwrap().kind(),
            MigrationKind::Read
        );
        let present = Pte::present(OLD, PteFlags::WRITE | PteFlags::DIRTY);
        assert_eq!(
            present.protect(false, true, EntryStyle::Lossy),
            Pte::present(OLD, PteFlags::DIRTY)
        );
        assert_eq!(present.protect(true, true, EntryStyle::Lossy), present);
    }

    #[test]
    fn a_protection_in_flight_changes_no_entry_that_may_not_write_already() {
        let slot = SwapEntry::new(SwapType::new(1).unwrap(), 9).unwrap();
        for entry in [
            Pte::Migration(MigrationEntry::readable(OLD)),
            Pte::Migration(MigrationEntry::readable_exclusive(OLD)),
            Pte::Swap {
                entry: slot,
                flags: SwapPteFlags::all(),
            },
            Pte::File { offset: 4 },
            Pte::Poison(OLD),
            Pte::None,
        ] {
            for style in [EntryStyle::Lossy, EntryStyle::Lossless] {
                for (allow_write, anon) in [(false, false), (false, true), (true, false), (true, true)] {
                    assert_eq!(entry.protect(allow_write, anon, style), entry);
                }
            }
        }
    }

    #[test]
    fn a_lossless_entry_carries_each_mark_by_itself_and_a_lossy_one_none() {
        for (marks, carried) in [
            (PteFlags::YOUNG, MigrationFlags::YOUNG),
            (PteFlags::DIRTY, MigrationFlags::DIRTY),
            (PteFlags::SOFT_DIRTY, MigrationFlags::SOFT_DIRTY),
            (PteFlags::UFFD_WP, MigrationFlags::UFFD_WP),
        ] {
            let entry = |style| Pte::present(OLD, marks).install_migration(OLD, style);
            let read = MigrationEntry::readable(OLD);
            assert_eq!(
                entry(EntryStyle::Lossless),
                Some(Pte::Migration(read.with_flags(carried)))
            );
            assert_eq!(entry(EntryStyle::Lossy), Some(Pte::Migration(read)));
        }
        assert_eq!(
            Pte::present(OLD, PteFlags::EXCLUSIVE).install_migration(OLD, EntryStyle::Lossless),
            Some(Pte::Migration(MigrationEntry::readable_exclusive(OLD)))
        );
    }

    #[test]
    fn a_swap_cache_mapping_keeps_its_marks_in_its_slot() {
        let entry = SwapEntry::new(SwapType::new(3).unwrap(), 0x10).unwrap();
        let pte = Pte::present(OLD, PteFlags::EXCLUSIVE | PteFlags::SOFT_DIRTY | PteFlags::YOUNG);
        let flags = SwapPteFlags::EXCLUSIVE | SwapPteFlags::SOFT_DIRTY;
        assert_eq!(pte.install_swap(OLD, entry), Some(Pte::Swap { entry, flags }));
        assert_eq!(pte.clear_to_file(OLD, 4), Some(Pte::File { offset: 4 }));
        assert_eq!(pte.unmap(OLD), Some(Pte::None));
        assert_eq!(pte.install_poison(OLD), Some(Pte::Poison(OLD)));
    }
}
