//! The state transfer: which flag goes from the old page to the new one, and how (2.6.17 `migrate_page_copy`; 6.x
//! `folio_migrate_flags`). A table, and a pure function over it.

use crate::{PageFlags, Rules};

/// What happens to one flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carry {
    /// Set on the new page where it is set on the old, which keeps it.
    Copied,
    /// Set on the new page where it is set on the old, which loses it.
    Moved,
    /// As [`Carry::Moved`], with the cache's own accounting around it.
    MovedWithAccounting,
    /// Cleared on the old page; the cache's switch or the mover has given it to the new one.
    ClearedOnOld,
    /// Ended on the new page where somebody set it while the page was locked.
    EndedOnNew,
    /// Neither page is touched.
    Left,
}

/// One row of the table, in the order of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The flag.
    pub flag: PageFlags,
    /// What 2.6.17-rc3-mm1 does.
    pub linux_2_6_17: Carry,
    /// What today's kernel does.
    pub modern: Carry,
}

const fn row(flag: PageFlags, linux_2_6_17: Carry, modern: Carry) -> Row {
    Row {
        flag,
        linux_2_6_17,
        modern,
    }
}

/// The table. Flags that are not in it are never transferred and never cleared by a migration.
pub const TABLE: &[Row] = &[
    row(PageFlags::ERROR, Carry::Copied, Carry::Left),
    row(PageFlags::REFERENCED, Carry::Copied, Carry::Copied),
    row(PageFlags::UPTODATE, Carry::Copied, Carry::Copied),
    row(PageFlags::ACTIVE, Carry::Moved, Carry::Moved),
    row(PageFlags::UNEVICTABLE, Carry::Left, Carry::Moved),
    row(PageFlags::WORKINGSET, Carry::Left, Carry::Copied),
    row(PageFlags::CHECKED, Carry::Copied, Carry::Copied),
    row(PageFlags::MAPPEDTODISK, Carry::Copied, Carry::Copied),
    row(PageFlags::DIRTY, Carry::MovedWithAccounting, Carry::Moved),
    row(PageFlags::YOUNG, Carry::Left, Carry::Copied),
    row(PageFlags::IDLE, Carry::Left, Carry::Copied),
    row(PageFlags::SWAPBACKED, Carry::Left, Carry::Copied),
    row(PageFlags::SWAPCACHE, Carry::ClearedOnOld, Carry::ClearedOnOld),
    row(PageFlags::PRIVATE, Carry::ClearedOnOld, Carry::ClearedOnOld),
    row(PageFlags::WRITEBACK, Carry::EndedOnNew, Carry::EndedOnNew),
    // The same bit is readahead today: copied after writeback has ended.
    row(PageFlags::RECLAIM, Carry::Left, Carry::Copied),
];

/// What a transfer does to both pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Flags to set on the new page.
    pub set_on_new: PageFlags,
    /// Flags to clear on the old page.
    pub clear_on_old: PageFlags,
    /// Flags to end on the new page, waking who sleeps on them.
    pub end_on_new: PageFlags,
}

/// The table of one system, by what is done: each set is worked out when the crate is built.
struct Sets {
    set_on_new: PageFlags,
    clear_on_old: PageFlags,
    end_on_new: PageFlags,
}

const fn sets(rules: Rules) -> Sets {
    let mut sets = Sets {
        set_on_new: PageFlags::empty(),
        clear_on_old: PageFlags::empty(),
        end_on_new: PageFlags::empty(),
    };
    let mut rest = TABLE;
    while let [row, tail @ ..] = rest {
        let carry = match rules {
            Rules::Linux2617 => row.linux_2_6_17,
            Rules::Modern => row.modern,
        };
        match carry {
            Carry::Copied => sets.set_on_new = sets.set_on_new.union(row.flag),
            Carry::Moved | Carry::MovedWithAccounting => {
                sets.set_on_new = sets.set_on_new.union(row.flag);
                sets.clear_on_old = sets.clear_on_old.union(row.flag);
            }
            Carry::ClearedOnOld => sets.clear_on_old = sets.clear_on_old.union(row.flag),
            Carry::EndedOnNew => sets.end_on_new = sets.end_on_new.union(row.flag),
            Carry::Left => {}
        }
        rest = tail;
    }
    sets
}

/// Computes the transfer for an old page with flags `old`.
///
/// The copy of the contents comes before it: `UPTODATE` on the new page says that they are there.
#[must_use]
#[inline]
pub const fn transfer(rules: Rules, old: PageFlags) -> Transfer {
    const LINUX_2_6_17: Sets = sets(Rules::Linux2617);
    const MODERN: Sets = sets(Rules::Modern);
    let sets = match rules {
        Rules::Linux2617 => &LINUX_2_6_17,
        Rules::Modern => &MODERN,
    };
    let mut set = sets.set_on_new.intersection(old);
    // Active and unevictable exclude each other (`folio_migrate_flags`: active is tested first).
    if set.contains(PageFlags::ACTIVE) {
        set = set.difference(PageFlags::UNEVICTABLE);
    }
    Transfer {
        set_on_new: set,
        clear_on_old: sets.clear_on_old,
        end_on_new: sets.end_on_new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Page;

    #[test]
    fn what_makes_the_old_page_freeable_is_exactly_what_is_cleared_on_it() {
        let movable = PageFlags::PRIVATE | PageFlags::ACTIVE | PageFlags::SWAPCACHE;
        for rules in Rules::ALL {
            let done = transfer(*rules, PageFlags::all());
            let left = Page::NOT_FREEABLE & movable & !done.clear_on_old;
            assert_eq!(left, PageFlags::empty(), "{rules}");
        }
    }

    #[test]
    fn the_2006_table_is_the_2006_list() {
        let done = transfer(Rules::Linux2617, PageFlags::all());
        let expected = PageFlags::ERROR
            | PageFlags::REFERENCED
            | PageFlags::UPTODATE
            | PageFlags::ACTIVE
            | PageFlags::CHECKED
            | PageFlags::MAPPEDTODISK
            | PageFlags::DIRTY;
        assert_eq!(done.set_on_new, expected);
        assert_eq!(
            done.clear_on_old,
            PageFlags::DIRTY | PageFlags::ACTIVE | PageFlags::SWAPCACHE | PageFlags::PRIVATE
        );
    }

    #[test]
    fn nothing_is_invented() {
        for rules in Rules::ALL {
            assert_eq!(transfer(*rules, PageFlags::empty()).set_on_new, PageFlags::empty());
        }
        let both = PageFlags::ACTIVE | PageFlags::UNEVICTABLE;
        assert_eq!(transfer(Rules::Modern, both).set_on_new, PageFlags::ACTIVE);
    }
}
