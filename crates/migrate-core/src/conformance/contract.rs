//! What a backend promises, method by method; a case that fails names the promise that was broken.

use alloc::string::String;
use core::fmt;

/// One promise of the seam, or of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Whose promise: a trait's method, or a function of the core.
    pub method: &'static str,
    /// The invariant that depends on it.
    pub invariant: &'static str,
    /// The promise, in words.
    pub says: &'static str,
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.method, self.invariant, self.says)
    }
}

/// A case failed: the contract that was broken, and what was found instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The promise that was not kept.
    pub contract: Contract,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken contract: {}\n  found: {}", self.contract, self.found)
    }
}

impl core::error::Error for Failure {}

macro_rules! contracts {
    ($($name:ident = $method:literal, $invariant:literal, $says:literal;)*) => {
        $(pub(super) const $name: Contract = Contract { method: $method, invariant: $invariant, says: $says };)*
    };
}

contracts! {
    GET = "Frames::get", "I25", "takes a reference, and gives none to a page that is free or frozen";
    PUT = "Frames::put", "I20", "drops one reference; the last one frees the page";
    COUNT = "Frames::count", "I5", "returns the references there are at this moment";
    TRY_LOCK = "Frames::try_lock", "I3", "takes the page lock if it is free, and only then";
    UNLOCK = "Frames::unlock", "I23", "opens the page lock and wakes everybody who sleeps on it";
    FLAGS = "Frames::edit_flags", "I21", "sets, then clears, and returns the flags before";
    MAPPING = "Frames::mapping", "I18", "returns what the page belongs to";
    ADOPT = "Frames::adopt", "I7", "gives the new page the mapping and the index of the old";
    DISOWN = "Frames::disown", "I20", "clears mapping and private word";
    FREEZE = "Frames::freeze", "I19", "turns a count of exactly `expected` into 0 in one step, and changes no other";
    UNFREEZE = "Frames::unfreeze", "I5", "gives a frozen page the count it is told";
    COPY = "Frames::copy", "I9", "copies all of the contents";
    PINS = "Frames::pins", "I35", "returns how many times the page is pinned for direct access";
    MAP_ANON = "Fixture::map_anon", "I14",
        "maps a page with the permission asked for, exclusive where the profile's entries remember it, and one reference";
    STORE = "Fixture::write", "I11", "stores as a program would: the entry is dirty afterwards, or the page";
    NEW_PAGE = "Fixture::new_page", "I20", "gives a page with one reference, no mapping and no flags";
    EDIT = "Entry::update", "I14", "stores what the edit made of the entry, and no more permission than that";
    EDIT_FRAME = "Entry::update", "I7", "maps the frame that the edit named, and no other";
    BEFORE = "Entry::update", "I11", "returns the entry before, with every bit that the hardware had set";
    LEDGER = "Entry::update", "I5", "applies the ledger exactly once";
    DECLINED = "Entry::update", "I4", "changes nothing where the edit declines";
    WALK = "Rmap::walk", "I6", "visits every entry that may map the page or name it in a migration entry";
    WALK_ENDS = "Rmap::walk", "I4", "ends when the visit breaks, and visits no entry twice";
    FLUSH = "Rmap::flush", "I33", "when it returns, no CPU can use a translation that was gathered";
    FLUSH_PENDING = "Rmap::flush_pending", "I33",
        "leaves no stale translation of a batch in progress in the space (B22)";
    RESERVE = "Rmap::reserve", "I21", "reserves what restoring can need before the first entry is replaced";
    IS_MAPPED = "Rmap::is_mapped", "I4", "is true where a present entry maps the page, and only there";
    WAIT_ON = "Faults::wait_on", "I24", "waits without a reference";
    ASLEEP = "Faults::wait_on", "I23", "sleeps where the entry names a page in flight, and cannot miss the wake-up";
    SLOTS = "Cache::slots", "I5", "returns how many cache slots hold the page";
    SWITCH = "Cache::switch", "I18", "replaces old by new in every slot, with one reference for each";
    MOVER = "Cache::mover", "I35", "says which way the mapping wants its pages moved";
    DIRTY = "Cache::set_dirty", "I12", "marks the page dirty through its mapping";
    LOCK_BUFFERS = "Cache::try_lock_buffers", "I13", "locks every buffer of the page, or none";
    BUFFERS = "Cache::move_buffers", "I13", "moves the buffers, the private flag and the reference they hold";
    WRITEOUT = "Cache::writeout", "I11", "writes the page, or makes it dirty again";
    SWAP_ENTRY = "Cache::swap_entry", "I28", "returns the page's slot in swap, which the page keeps";
    ISOLATE = "Lru::isolate", "I2", "takes the page off the LRU, all or nothing, active or not as it was, and returns a reference for that";
    PUTBACK = "Lru::putback", "I1", "puts the page on the LRU, active or not as it was, and drops the reference given";
    LOCK = "Wait::lock", "I23", "sleeps until the page lock is free, and takes it";
    WAIT_WRITEBACK = "Wait::wait_writeback", "I32", "sleeps until the page is not under writeback";
    FORK = "Readers::copy", "I15", "leaves neither side of a fork with a writable entry of a shared page";
    PROTECT = "Readers::protect", "I14", "takes permission away from an entry in flight too";
    ZAP = "Readers::zap", "I6", "clears entries in flight like any other";
    RELOCATE = "Readers::relocate", "I6", "moves entries in flight, where the restorer finds them";
    MAPPED = "migrate_pages", "I8", "what was mapped before is mapped after, to the same contents";
    LISTS = "migrate_pages", "I29", "every page ends on one list, with one outcome";
    PASSES = "migrate_pages", "I30", "makes no more passes and takes no more new pages than its profile says";
    SLEEPS = "migrate_pages", "I31", "sleeps only where its mode allows";
    ROLLBACK = "migrate_pages", "I21", "a page that stayed is as it was";
    BARRIERS = "migrate_pages", "I33", "flushes before the first copy, and before the first lock opens";
    DIRTINESS = "migrate_pages", "I11", "dirtiness is neither lost nor made up";
    CARRIED = "migrate_pages", "I17", "the new page has the flags that the transfer table names";
    ROUND_TRIP = "migrate_pages", "I39", "there and back leaves everything equal but the frame";
    STAYS = "migrate_pages", "I35", "a page that must not move is refused by its rule and left intact";
    TYPED = "migrate_pages", "I29", "a call that cannot run says why, and touches nothing";
    TRACE = "trace", "I3", "every event is one that the rules allow at that moment";
    SAME_TRACE = "trace", "I29", "the same scenario leaves the same trace on every backend";
    DONE = "Fixture", "I8", "does what was asked of it";
    SOUND = "Fixture::check", "I5", "the backend's own invariants hold when no migration is in progress";
}

/// Returns the promise of a method of the fixture that is asked to do something.
pub(super) const fn of_fixture(method: &'static str) -> Contract {
    Contract { method, ..DONE }
}

/// Returns whose promise it is that a backend's own check says is broken: its text begins with the invariant.
pub(super) fn of_check(text: &str) -> Contract {
    match text.split(':').next().unwrap_or_default() {
        "I1" => PUTBACK,
        "I3" | "I23" => UNLOCK,
        "I4" | "I5" | "I27" => LEDGER,
        "I6" => WALK,
        "I12" => DIRTY,
        "I18" => SWITCH,
        "I20" | "I25" => PUT,
        "I28" => SWAP_ENTRY,
        "I33" => FLUSH,
        _ => SOUND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn a_check_that_names_an_invariant_accuses_the_promise_that_keeps_it() {
        for kept in ["I1", "I5", "I6", "I12", "I18", "I20", "I23", "I28", "I33"] {
            let accused = of_check(&format!("{kept}: frame 7 is not as it should be"));
            assert_eq!(accused.invariant, kept, "{accused}");
            assert_ne!(accused, SOUND);
        }
        for (same, as_kept) in [("I3", "I23"), ("I4", "I5"), ("I27", "I5"), ("I25", "I20")] {
            assert_eq!(of_check(same), of_check(as_kept), "{same}");
        }
        for other in ["I40: words", "not in the form I1: of a check", ""] {
            assert_eq!(of_check(other), SOUND);
        }
    }
}
