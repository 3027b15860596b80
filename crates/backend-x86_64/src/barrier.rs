//! The places where this crate has translations invalidated, by name.
//!
//! A test kernel built with `--cfg flush_mutants` can leave one of them out, to see that it is needed; no feature does that.

/// Why translations are invalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Barrier {
    /// Migration entries stand where a page, or a batch of them, was mapped.
    Migrate,
    /// A fork took write permission away.
    Fork,
    /// `mprotect` took permissions away.
    Protect,
    /// `munmap`, or exit, removed entries and tables.
    Unmap,
    /// `mremap` took entries away from their old place.
    Move,
    /// A fault mapped a copy where the page was that it was copied from.
    Fault,
    /// A page was mapped where none was, or is not exclusive any more: nothing is ever stale by that.
    Map,
    /// A fault copies a page that somebody made read-only and did not flush yet.
    BeforeCopy,
    /// An operation of a space ends while a migration in it was not flushed yet.
    AtEnd,
}

impl Barrier {
    /// All of them, and their words.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Migrate, "migrate"),
        (Self::Fork, "fork"),
        (Self::Protect, "protect"),
        (Self::Unmap, "unmap"),
        (Self::Move, "move"),
        (Self::Fault, "fault"),
        (Self::Map, "map"),
        (Self::BeforeCopy, "before_copy"),
        (Self::AtEnd, "at_end"),
    ];

    #[cfg(not(flush_mutants))]
    #[expect(clippy::unused_self, reason = "mutants ask which one")]
    pub(crate) const fn is_missing(self) -> bool {
        false
    }

    #[cfg(flush_mutants)]
    pub(crate) fn is_missing(self) -> bool {
        MISSING.load(core::sync::atomic::Ordering::Relaxed) == self as u32
    }

    /// Leaves this one out from now on.
    #[cfg(flush_mutants)]
    pub fn leave_out(self) {
        MISSING.store(self as u32, core::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(flush_mutants)]
static MISSING: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(u32::MAX);
