//! The bug museum: bugs that page migration in Linux once had, each a mutant that can be switched on.
//!
//! A build with `--cfg museum` has them all, and `MUSEUM=B22` in the environment switches one on; without the cfg
//! [`has`] is `false` when the crate is compiled, and nothing is left of the places that ask. No release build can have
//! them: the cfg does not compile without debug assertions. `ci/museum` shows that each is found, by searches that know
//! nothing of it.

#[cfg(all(museum, not(debug_assertions)))]
compile_error!("the museum's bugs are for tests: no build without debug assertions may have them");

use crate::Invariant;

macro_rules! museum {
    ($(
        $bug:ident = $id:literal, $fix:literal, $breaks:ident $(or $other:ident: $why:literal)*, $found_by:expr, $scenario:literal;
    )*) => {
        /// A bug that this system could have, were it written as Linux once was.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $(#[doc = $scenario] $bug,)*
        }

        /// Every bug, in the order of the numbers; those without one are last.
        pub const BUGS: &[Exhibit] = &[$(Exhibit {
            bug: Bug::$bug,
            id: $id,
            fix: $fix,
            breaks: Invariant::$breaks,
            or: &[$((Invariant::$other, $why)),*],
            found_by: $found_by,
            scenario: $scenario,
        },)*];
    };
}

/// What is known of a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhibit {
    /// The switch.
    pub bug: Bug,
    /// Its number, and the value of `MUSEUM` that switches it on.
    pub id: &'static str,
    /// What fixed it in Linux.
    pub fix: &'static str,
    /// The invariant that it breaks.
    pub breaks: Invariant,
    /// Others that a search may see broken first, each with the reason.
    pub or: &'static [(Invariant, &'static str)],
    /// The searches that find it, each by itself.
    pub found_by: &'static [Search],
    /// What happens.
    pub scenario: &'static str,
}

impl Exhibit {
    /// True where the bug is one that breaks `invariant`: a search that saw another one broken saw something else.
    #[must_use]
    pub fn breaks(&self, invariant: Invariant) -> bool {
        self.breaks == invariant || self.or.iter().any(|(other, _)| *other == invariant)
    }
}

/// A test that searches, and knows of no bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Search {
    /// Calls in any order on the model, and others in the middle of a run, against a plain reference.
    AnyOrder,
    /// One of its tests, for what is too rare to be met in time by all four at once.
    AnyOrderIn(&'static str),
    /// Every step of the protocol on the model, failing in each of its ways.
    Failures,
    /// Threads in any schedule on the model, in the scenario of this name.
    Interleavings(&'static str),
    /// A live process, its pages moving under threads that compare what they read.
    Live,
}

impl Search {
    /// Returns the name of the test that it is.
    #[must_use]
    pub const fn test(self) -> &'static str {
        match self {
            Self::AnyOrder | Self::AnyOrderIn(_) => "any_order",
            Self::Failures => "every_failure",
            Self::Interleavings(_) => "interleavings",
            Self::Live => "spaces",
        }
    }

    /// True where it can tell the step at which an invariant broke: a live process has no order of steps.
    #[must_use]
    pub const fn knows_steps(self) -> bool {
        !matches!(self, Self::Live)
    }

    /// Returns the variable that its seed is asked from, where it draws.
    #[must_use]
    pub const fn seed(self) -> Option<&'static str> {
        match self {
            Self::AnyOrder | Self::AnyOrderIn(_) => Some("ANY_ORDER_SEED"),
            Self::Interleavings(_) => Some("INTERLEAVINGS_SEED"),
            Self::Failures | Self::Live => None,
        }
    }

    /// Returns which of the search's tests it is, as far as one is meant: a scenario, or what several spaces see of each other.
    #[must_use]
    pub const fn filter(self) -> Option<&'static str> {
        match self {
            Self::AnyOrder => None,
            Self::Failures => Some("everything_is_as_it_was"),
            Self::AnyOrderIn(test) => Some(test),
            Self::Interleavings(scenario) => Some(scenario),
            Self::Live => Some("never_disagree"),
        }
    }
}

impl core::fmt::Display for Search {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.test())?;
        match self.filter() {
            Some(tests) => write!(f, " {tests}"),
            None => Ok(()),
        }
    }
}

/// A bug that this system cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Its number.
    pub id: &'static str,
    /// What fixed it in Linux.
    pub fix: &'static str,
    /// What happened.
    pub scenario: &'static str,
    /// Why it cannot happen here.
    pub reason: &'static str,
}

use Search::{AnyOrder, AnyOrderIn, Failures, Interleavings, Live};

museum! {
    B1 = "B1", "2.6.18, with 0697212a41", NoEntryLeft, &[Interleavings("fork_against_restore")],
        "The restorer passed the child's area before fork had copied the parent's migration entry into it, and the child kept an entry that nobody came back for.";
    B2 = "B2", "2.6.35, a8bef8ff6ea1", NoEntryLeft, &[Interleavings("mremap_against_restore")],
        "Exec moved the bounds of its temporary stack before the entries, and the restorer looked for them where they were not yet.";
    B5 = "B5", "3.14, 7e09e738afd2", NoEntryLeft, &[AnyOrderIn("done_under_the_rules_of_2006")],
        "An area turned nonlinear while its pages were in flight: they were unmapped through the tree of linear areas, where the restorer found it no more.";
    B10 = "B10", "2.6.17-mm", ForkIsReadOnly, &[AnyOrder],
        "Fork made the child's entry with a type number where a boolean was wanted, which is always write, and the child wrote the parent's page.";
    B11 = "B11", "2.6.17-mm", EntryReadsBack
        or Resident: "the space counts a page in swap, and its entry is read as one in flight"
        or NotFreedInUse: "the number of a slot is read as that of a frame, which does not exist",
        &[AnyOrder],
        "The number of swap files was no power of two any more, and the check of the type field's width let a swap file have a migration entry's type.";
    B12 = "B12", "3.13, c3d16e16522f", MarksKept, &[AnyOrder],
        "The soft-dirty mark was not carried through a migration, and a checkpoint missed what had been written.";
    B15 = "B15", "6.1, 2e3468778dbe", YoungAsProfile, &[AnyOrder],
        "Young and dirty bits were not carried through a migration, and pages in use looked cold.";
    B16 = "B16", "2.6.17-mm", WriteNotWidened, &[AnyOrder, Interleavings("mprotect_against_entry")],
        "mprotect passed entries in flight by, and the restorer gave back the permission that had been taken away meanwhile.";
    B17 = "B17", "2.6.17-rc4, 4c28f81193", DirtyConserved, &[AnyOrder],
        "A page without a mover was looked at before it was unmapped: only its entries knew that it was dirty, and it moved away from its file system.";
    B18 = "B18", "2.6.26, 3a902c5f68", PartsStayClean, &[AnyOrder],
        "The dirty flag was set on the new page as for a store to all of it, and every clean buffer became a dirty one.";
    B19 = "B19", "4.4, 42cb14b110a5", DirtyCounted, &[AnyOrder],
        "Clearing the dirty flag on the old page and setting it on the new one were not accounted alike, and each move left one dirty page too many in the counts.";
    B20 = "B20", "6.0, fd35ca3d12cc", DirtyConserved
        or FailureRestores: "a page that stays is clean, and was dirty",
        &[AnyOrder, Failures],
        "The dirty bit of an entry that was replaced was not handed to the page, which was discarded as clean later.";
    B21 = "B21", "3.13, 20841405940e", NoStaleTranslation, &[AnyOrder],
        "An entry that allowed nothing, or not enough, was replaced without a flush, as if no processor could hold more than it says.";
    B22 = "B22", "6.0, 60bae7370896", NoStaleTranslation
        or Contents: "what is stored through the stale translation is seen where it should not be",
        &[AnyOrder],
        "The entry lock was dropped before the flush: another processor cleared or changed the range, found nothing that was left to flush, and returned while stale translations still worked.";
    B26 = "B26", "5.0, cc4f11e69fd0", OnlyForward, &[AnyOrder],
        "Buffers were locked after the switch, when there was no way back from one that was under I/O.";
    B28 = "B28", "6.11, 060913999d7a", CopyErrorReported, &[AnyOrder, Failures],
        "The contents could not be read, and the mapping pointed to the new page all the same.";
    B30 = "B30", "2.6.27, e286781d5f", SwitchFrozen
        or References: "the reference that was gained is forgotten when the count is set anew",
        &[AnyOrder, Failures, Interleavings("lookup_against_switch"), Interleavings("buffers_against_switch")],
        "A lookup without a lock gained a reference between the check of the count and the store into the slot.";
    B31 = "B31", "5.0, 9a1ea439b16b; 5.17", WaitingIsFree, &[AnyOrderIn("done_under_todays_rules")],
        "Each thread that waited on an entry held a reference meanwhile, and every attempt to move the page failed for that.";
    B32 = "B32", "4.12, 3c226c637b69", NotFreedInUse, &[Interleavings("fault_against_migrate")],
        "A waiter without a reference dropped the entry lock before it slept, so that the page could be freed and then be marked as waited for.";
    B35 = "B35", "2.6.23, 3dd9fe8c39", References, &[Interleavings("isolation_against_free")],
        "A page whose last reference was gone was isolated, because its LRU flag was still set.";
    B37 = "B37", "2.6.23, dc386d4d1e", References, &[AnyOrder],
        "A page that had been cut off its file was moved like any other, and lost its private data.";
    B39 = "B39", "2.6.23, by a second pass under the page lock; 5.18, 5abfd71d936a, skips no entries", Contents, &[AnyOrder],
        "Truncation skipped a migration entry, and restoring it mapped a page beyond the end of the file.";
    B41 = "B41", "5.3, 4643d67e8cb0", MappedAsBefore,
        &[
            AnyOrder,
            Interleavings("zap_against_entry"),
            Interleavings("two_migrators_on_one_page"),
            Interleavings("migrate_against_reclaim"),
            Interleavings("swap_in_against_swap_cache_migration"),
            Interleavings("write_out_starts"),
        ],
        "A fault that met a migration entry took it for a page that cannot be used, and the program got SIGBUS.";
    B43 = "B43", "3.13, 2b4847e73004, 3f926ab945b6", SwitchFrozen
        or References: "the reference that was gained is forgotten when the count is set anew",
        &[AnyOrder, Failures, Interleavings("pin_against_freeze")],
        "A page in no cache was only checked, as if nobody could find it, and a reference was gained after the check.";
    B45 = "B45", "6.8, d1adb25df711", DestinationUntouched
        or OnlyForward: "the new page that was not used goes back to the allocator with the notes in it",
        &[AnyOrder, Failures],
        "The run kept notes in the new page's mapping, where others decode it, and left them there when the page stayed.";
    B50 = "B50", "2.6.18, 04e62a29bf", NoEntriesAtCallback
        or NoEntryLeft: "the run has given away the lock under which it would have restored the entries",
        &[AnyOrder, Interleavings("write_out_unlocks")],
        "Write-out unlocked the page while migration entries named it, and a fault that met one trapped, as an entry's page has to be locked.";
    B51 = "B51", "after 2.6.18, before 6.1", EntryNamesLocked, &[AnyOrder, Interleavings("write_out_fails_unlocked")],
        "When write-out failed after it had unlocked the page, the caller unlocked the page again.";
    B53 = "B53", "6.3, fb3592c41a44", NoWaitWithLocks, &[AnyOrder, Failures],
        "A batch that held the lock of one page waited for the writeback of another, which needed the first.";
    B56 = "B56", "6.6, 4bb6dc79d987", AsyncNeverWaits, &[AnyOrder],
        "The light mode slept for pages that were being read in.";
    B59 = "B59", "2.6.21, 0e8c7d0fd5", DirtyCounted, &[AnyOrder],
        "The count of a zone's page-cache pages did not move along with the page.";
    B69 = "B69", "6.7, a259945efe6a", OneOutcome, &[AnyOrder],
        "A page that was refused in one pass was counted again in the next, and the sum was more than the pages given.";
    B75 = "B75", "2026", NoEntryLeft, &[Interleavings("fork_against_restore")],
        "The reverse map's lock was dropped in the middle of restoring, and an area came to be behind the restorer's back.";
    Rss = "RSS", "never in 2006", Resident, &[AnyOrder],
        "Fork did not count a page in flight as resident in the child, though its restoring or unmapping did.";
    ProtRead = "PROT_READ", "measured here, in user space", Contents, &[Live],
        "A page mapped at several places stayed readable at all of them while it was copied: one place was remapped and written while another still read the old frame.";
}

/// What cannot go wrong here, and why.
pub const ABSENT: &[Absent] = &[
    absent(
        "B8",
        "5.13, 99fa8a48203d, a9a7504d9bea",
        "An entry for a whole table of pages was split while the walk went over it.",
        HUGE,
    ),
    absent(
        "B27",
        "6.16",
        "A spinlock was held over a copy that had come to sleep.",
        "buffers are held by a mark of their own; nothing in the seam is a lock that could be held over a copy",
    ),
    absent(
        "B29",
        "2.6.24, 97ee052461",
        "The new entry was visible before the cache of a processor that tags it by address was flushed.",
        "neither the model nor a backend has such a cache",
    ),
    absent(
        "B34",
        "4.14, 2554db916586",
        "Waking thousands of waiters kept interrupts off too long.",
        "there are no interrupts to be off; the host's futex wakes",
    ),
    absent(
        "B42",
        "5.1, cb6acd01e2e4; 5.10, 336bf30eb765",
        "The accounting of a pool of huge pages moved to the wrong page.",
        HUGE,
    ),
    absent(
        "B49",
        "6.x, by an ordering",
        "A page of merged memory was taken out of the swap cache before its successor was known.",
        "no memory is merged",
    ),
    absent(
        "B55",
        "2.6.28, 0aedadf91a",
        "Draining the staging arrays waited for workers that waited for the caller's lock.",
        "a drain takes the list lock and waits for nobody",
    ),
    absent(
        "B58",
        "2026",
        "A device's fault said try again, and spun on the processor that the lock's owner needed.",
        DEVICE,
    ),
    absent(
        "B61",
        "2.6.19, 8ce08464d2",
        "A query left the marks of its status array as it found them.",
        CALLS,
    ),
    absent(
        "B63",
        "2.6.24, 3ad33b2436",
        "The policy of the first of several areas was asked for all.",
        POLICY,
    ),
    absent(
        "B64",
        "3b42d28b2a, 6f5a55f1a6c5",
        "Node numbers that no node has reached the allocator.",
        CALLS,
    ),
    absent(
        "B65",
        "5.3, a7f40cfe3b7a",
        "A strict policy said that misplaced pages were well placed.",
        POLICY,
    ),
    absent(
        "B66",
        "4.3, d899844e9c98; 6.12, 7dff875c9436",
        "A hole and the shared zero page had each other's status.",
        CALLS,
    ),
    absent(
        "B67",
        "5.5, e0153fc2c760; 5.6, 5984fabb6e82",
        "Pages in place already had no status, and those not tried were not counted.",
        CALLS,
    ),
    absent(
        "B68",
        "6.16",
        "A query of a program of 32 bits read the wrong pointers after the first sixteen.",
        CALLS,
    ),
    absent(
        "B71",
        "6.12, 35e41024c4c2",
        "Demotion took isolated pages out of their count twice.",
        "isolated pages are on the caller's list, and nothing else counts them",
    ),
    absent(
        "B72",
        "4.13, 197e7e521384",
        "The status told a caller of the same user where another's memory was.",
        CALLS,
    ),
    absent(
        "B74",
        "2.6.18",
        "A page that was isolated and not tried kept status 0, which is a node's number.",
        CALLS,
    ),
];

const HUGE: &str = "pages have one size";
const DEVICE: &str = "no device has memory";
const CALLS: &str = "there are no such system calls; each page's outcome is told by its name";
const POLICY: &str = "there is no policy: the caller says where each page goes";

const fn absent(id: &'static str, fix: &'static str, scenario: &'static str, reason: &'static str) -> Absent {
    Absent {
        id,
        fix,
        scenario,
        reason,
    }
}

/// True where the system has `bug` now: never, but in a build for the museum in which it was switched on.
#[cfg(not(museum))]
#[must_use]
#[inline]
pub const fn has(bug: Bug) -> bool {
    let _ = bug;
    false
}

/// True where the system has `bug` now: it is the one that `MUSEUM` in the environment names.
///
/// # Panics
/// Where `MUSEUM` names no bug: a search that found nothing would have shown nothing.
#[cfg(museum)]
#[must_use]
pub fn has(bug: Bug) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let id = std::env::var("MUSEUM").ok()?;
        let exhibit = BUGS.iter().find(|exhibit| exhibit.id == id);
        Some(exhibit.unwrap_or_else(|| panic!("MUSEUM={id}: no such bug")).bug)
    });
    *chosen == Some(bug)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    #[test]
    fn each_number_is_given_once_and_each_bug_has_a_search() {
        let ids: Vec<_> = BUGS
            .iter()
            .map(|bug| bug.id)
            .chain(ABSENT.iter().map(|bug| bug.id))
            .collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        assert!(BUGS.iter().all(|bug| !bug.found_by.is_empty()));
    }

    #[cfg(not(museum))]
    #[test]
    fn a_build_that_is_not_for_the_museum_has_no_bug() {
        assert!(BUGS.iter().all(|exhibit| !has(exhibit.bug)));
    }

    #[test]
    fn a_bug_breaks_the_invariants_that_it_declares_and_no_other() {
        for exhibit in BUGS {
            let others = exhibit.or.iter().map(|(other, _)| *other);
            let declared: BTreeSet<_> = others.chain([exhibit.breaks]).collect();
            let broken: BTreeSet<_> = Invariant::ALL.iter().copied().filter(|i| exhibit.breaks(*i)).collect();
            assert_eq!(broken, declared, "{}", exhibit.id);
        }
        assert!(BUGS.iter().any(|bug| !bug.or.is_empty()));
    }

    #[test]
    fn a_search_that_draws_has_a_seed_and_one_with_an_order_of_steps_knows_them() {
        let knows = [AnyOrder, AnyOrderIn("one"), Failures, Interleavings("one_waiter"), Live]
            .map(|search| (search.seed(), search.knows_steps()));
        assert_eq!(
            knows,
            [
                (Some("ANY_ORDER_SEED"), true),
                (Some("ANY_ORDER_SEED"), true),
                (None, true),
                (Some("INTERLEAVINGS_SEED"), true),
                (None, false),
            ]
        );
    }

    #[test]
    fn a_search_prints_as_what_cargo_test_is_asked_for() {
        let searches = [AnyOrder, Interleavings("one_waiter"), Live];
        assert_eq!(
            searches.map(|search| std::format!("{search}")),
            ["any_order", "interleavings one_waiter", "spaces never_disagree"]
        );
    }
}
