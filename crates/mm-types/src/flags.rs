//! Page flags and their atomic form; the page lock is one of them.

use core::fmt;

use crate::sync::{AtomicU32, Ordering};

bitflags::bitflags! {
    /// The flags of a page (Linux: `PG_*`), of 2006 and of today.
    ///
    /// Names are Linux's without the prefix. Which of them a migration hands over is
    /// [`transfer`](crate::transfer)'s table.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct PageFlags: u32 {
        /// The page lock. Taken by try-lock; see [`AtomicPageFlags::try_lock`].
        const LOCKED = 1 << 0;
        /// I/O on the page failed.
        const ERROR = 1 << 1;
        /// The page was used; aging looks at it.
        const REFERENCED = 1 << 2;
        /// The contents are valid.
        const UPTODATE = 1 << 3;
        /// The contents are newer than the backing store's.
        const DIRTY = 1 << 4;
        /// On an LRU list; cleared while isolated.
        const LRU = 1 << 5;
        /// On the active list, or to go there when put back.
        const ACTIVE = 1 << 6;
        /// Owned by the slab allocator; never moves.
        const SLAB = 1 << 7;
        /// The file system's own flag (2006: PG_checked; today: owner_priv_1).
        const CHECKED = 1 << 8;
        /// Architecture's own flag.
        const ARCH_1 = 1 << 9;
        /// Not for use by anybody; never moves.
        const RESERVED = 1 << 10;
        /// `private` is in use: buffers, or a file system's data; holds one reference.
        const PRIVATE = 1 << 11;
        /// Being written to the backing store.
        const WRITEBACK = 1 << 12;
        /// Not to be saved by suspend.
        const NOSAVE = 1 << 13;
        /// Part of a compound page.
        const COMPOUND = 1 << 14;
        /// In the swap cache; `private` is the slot.
        const SWAPCACHE = 1 << 15;
        /// Has blocks on disk for all of it.
        const MAPPEDTODISK = 1 << 16;
        /// To be reclaimed when writeback ends (today the same bit is readahead).
        const RECLAIM = 1 << 17;
        /// Free, in the buddy allocator.
        const BUDDY = 1 << 18;
        /// Mapped uncached.
        const UNCACHED = 1 << 19;
        /// Free, kept by suspend.
        const NOSAVE_FREE = 1 << 20;
        /// Comes back to the active list if refaulted soon (4.20).
        const WORKINGSET = 1 << 21;
        /// Not used since idle tracking looked (4.3).
        const IDLE = 1 << 22;
        /// Used, as idle tracking remembers it (4.3).
        const YOUNG = 1 << 23;
        /// Backed by swap when reclaimed (2.6.28).
        const SWAPBACKED = 1 << 24;
        /// On the unevictable list (2.6.28).
        const UNEVICTABLE = 1 << 25;
        /// In a locked VMA (2.6.28); rebuilt by restoring, never copied.
        const MLOCKED = 1 << 26;
        /// The frame is known to be bad.
        const HWPOISON = 1 << 27;
        /// Somebody sleeps on the page lock or on writeback; whoever clears those bits wakes them.
        const WAITERS = 1 << 31;
    }
}

impl fmt::Display for PageFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (n, (name, _)) in self.iter_names().enumerate() {
            if n > 0 {
                f.write_str("+")?;
            }
            for letter in name.chars() {
                write!(f, "{}", letter.to_ascii_lowercase())?;
            }
        }
        Ok(())
    }
}

impl core::str::FromStr for PageFlags {
    type Err = crate::UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self::empty());
        }
        let mut flags = Self::empty();
        for word in text.split('+') {
            let known = Self::all()
                .iter_names()
                .find(|(name, _)| name.eq_ignore_ascii_case(word));
            let Some((_, flag)) = known else {
                return Err(crate::UnknownWord {
                    what: "page flag",
                    known: "the names of PageFlags in lower case, joined by +",
                });
            };
            flags |= flag;
        }
        Ok(flags)
    }
}

/// Page flags that many threads change at once.
///
/// The lock, waiter and writeback bits live in the same word as the others, so a sleeper can compare the word it saw
/// with the word that is there (a futex's contract).
#[derive(Debug)]
pub struct AtomicPageFlags(AtomicU32);

impl AtomicPageFlags {
    /// Makes flags that start as `flags`.
    #[must_use]
    #[inline]
    pub fn new(flags: PageFlags) -> Self {
        Self(AtomicU32::new(flags.bits()))
    }

    /// Reads all flags; what the lock guards is ordered after the lock's release.
    #[must_use]
    #[inline]
    pub fn load(&self) -> PageFlags {
        PageFlags::from_bits_retain(self.0.load(Ordering::Acquire))
    }

    /// Sets `set` and clears `clear` in one step; returns the flags before. A flag in both is cleared.
    ///
    /// Nothing is written where nothing changes: most edits of a migration clear flags that are clear already.
    #[inline]
    pub fn edit(&self, set: PageFlags, clear: PageFlags) -> PageFlags {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            let wanted = (seen | set.bits()) & !clear.bits();
            if wanted == seen {
                return PageFlags::from_bits_retain(seen);
            }
            match self
                .0
                .compare_exchange_weak(seen, wanted, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return PageFlags::from_bits_retain(seen),
                Err(now) => seen = now,
            }
        }
    }

    /// Sets `flag` and returns whether any of it was set before (Linux: `test_and_set_bit`).
    #[inline]
    pub fn test_and_set(&self, flag: PageFlags) -> bool {
        self.0.fetch_or(flag.bits(), Ordering::AcqRel) & flag.bits() != 0
    }

    /// Clears `flag` and returns whether any of it was set before (Linux: `test_and_clear_bit`).
    #[inline]
    pub fn test_and_clear(&self, flag: PageFlags) -> bool {
        self.0.fetch_and(!flag.bits(), Ordering::AcqRel) & flag.bits() != 0
    }

    /// Takes the page lock if it is free (Linux: `TestSetPageLocked`, `trylock_page`). Never sleeps.
    #[must_use]
    #[inline]
    pub fn try_lock(&self) -> bool {
        self.0.fetch_or(PageFlags::LOCKED.bits(), Ordering::Acquire) & PageFlags::LOCKED.bits() == 0
    }

    /// Gives up the page lock; returns true where somebody may sleep on it and the caller owes them a wake-up.
    #[must_use = "sleepers on the lock must be woken"]
    #[inline]
    pub fn unlock(&self) -> bool {
        let before = self.clear_with_waiters(PageFlags::LOCKED);
        debug_assert!(
            before.contains(PageFlags::LOCKED),
            "I3: a page lock was opened that nobody held"
        );
        before.contains(PageFlags::WAITERS)
    }

    /// Ends writeback; returns true where somebody may sleep on it and the caller owes them a wake-up.
    #[must_use = "sleepers on writeback must be woken"]
    #[inline]
    pub fn end_writeback(&self) -> bool {
        self.clear_with_waiters(PageFlags::WRITEBACK)
            .contains(PageFlags::WAITERS)
    }

    // The waiters bit goes with the bit that was waited for, in one step: a sleeper that arrives after it sees either
    // the bit it waits for gone, or sets the waiters bit again.
    fn clear_with_waiters(&self, flag: PageFlags) -> PageFlags {
        let gone = flag | PageFlags::WAITERS;
        PageFlags::from_bits_retain(self.0.fetch_and(!gone.bits(), Ordering::Release))
    }

    /// Announces a sleeper on `flag`; returns the word to sleep on, or `None` where the flag is clear already.
    ///
    /// The sleeper then waits while the word equals what was returned ([`Sleep::wait`](crate::Sleep::wait)), and looks again.
    #[must_use]
    #[inline]
    pub fn announce_wait(&self, flag: PageFlags) -> Option<u32> {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            if seen & flag.bits() == 0 {
                return None;
            }
            let wanted = seen | PageFlags::WAITERS.bits();
            if wanted == seen {
                return Some(seen);
            }
            match self
                .0
                .compare_exchange(seen, wanted, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(wanted),
                Err(now) => seen = now,
            }
        }
    }

    /// Returns the word itself, for a backend that sleeps on it (a futex).
    #[must_use]
    #[inline]
    pub fn word(&self) -> &AtomicU32 {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_lock_is_refused_and_opens_again() {
        let flags = AtomicPageFlags::new(PageFlags::UPTODATE);
        assert!(flags.try_lock());
        assert!(!flags.try_lock());
        assert!(!flags.unlock(), "nobody waits");
        assert!(flags.try_lock());
        assert_eq!(flags.load(), PageFlags::UPTODATE | PageFlags::LOCKED);
    }

    #[test]
    fn whoever_unlocks_owes_the_announced_sleeper_a_wake_up() {
        let flags = AtomicPageFlags::new(PageFlags::empty());
        assert_eq!(flags.announce_wait(PageFlags::LOCKED), None);
        assert!(flags.try_lock());
        let word = flags.announce_wait(PageFlags::LOCKED);
        assert_eq!(word, Some((PageFlags::LOCKED | PageFlags::WAITERS).bits()));
        assert!(flags.unlock());
        assert_eq!(flags.load(), PageFlags::empty());
    }

    #[test]
    fn flag_words_read_back() {
        let flags = PageFlags::UPTODATE | PageFlags::DIRTY | PageFlags::MAPPEDTODISK;
        let text = std::format!("{flags}");
        assert_eq!(text, "uptodate+dirty+mappedtodisk");
        assert_eq!(text.parse(), Ok(flags));
        assert!("shiny".parse::<PageFlags>().is_err());
    }

    #[test]
    fn setting_and_clearing_tell_what_was_there_and_touch_nothing_else() {
        let flags = AtomicPageFlags::new(PageFlags::UPTODATE);
        for flag in [PageFlags::DIRTY, PageFlags::LRU] {
            assert!(!flags.test_and_set(flag));
            assert!(flags.test_and_set(flag));
            assert_eq!(flags.load(), PageFlags::UPTODATE | flag);
            assert!(flags.test_and_clear(flag));
            assert!(!flags.test_and_clear(flag));
            assert_eq!(flags.load(), PageFlags::UPTODATE);
        }
    }
}
