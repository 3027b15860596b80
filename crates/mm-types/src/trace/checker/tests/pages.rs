//! Isolation, locks and the protocol of one page.

use std::format;

use super::super::Rule::StepOrder;
use super::{MODERN, OLD, broken, broken_by, check, moved, replaced, sooner, with, without};
use crate::Invariant::*;

#[test]
fn i1_i2_a_page_is_isolated_once_and_put_back_once() {
    assert_eq!(broken(&with(OLD, "isolate p0 f0", "pass number=0")).rule, OneList);
    assert_eq!(
        broken(&with(OLD, "isolate p0 f1", "freeze p0 f0 expected=1")).rule,
        OneList
    );
    assert_eq!(broken(&with(MODERN, "putback p1 f1", "unlock p1 f1")).rule, Isolation);
    assert_eq!(broken(&format!("{OLD}putback f0\n")).rule, Isolation);
    assert_eq!(broken(&format!("{OLD}putback p0 f1\n")).rule, Isolation);
    assert_eq!(broken("trace v1\nputback p0 f0\n").rule, Isolation);
    assert_eq!(
        check(&format!("{OLD}isolate p0 f1\nputback p0 f1\n")).map(|_| ()),
        Ok(())
    );
}

#[test]
fn i3_an_entry_names_a_locked_page() {
    assert_eq!(without(OLD, "lock p0 f0\nwait_writeback p0 f0"), EntryNamesLocked);
    assert_eq!(without(OLD, "unlock p0 f1"), StepOrder);
    assert_eq!(
        broken(&with(OLD, "lock p0 f0", "wait_writeback p0 f0")).rule,
        EntryNamesLocked
    );
    assert_eq!(
        broken(&with(OLD, "unlock p0 f0", "putback p0 f1")).rule,
        EntryNamesLocked
    );
}

#[test]
fn i10_nobody_sees_the_new_page_before_its_contents() {
    let line = "remove_migration_pte p0 f0 new=f1 site=m1+0x3 was=read now=ro";
    assert_eq!(sooner(OLD, line, "copy p0 f0 new=f1"), CopyBeforeUse);
    assert_eq!(
        sooner(OLD, "transfer p0 f0 new=f1 flags=uptodate", "copy p0 f0 new=f1"),
        CopyBeforeUse
    );
    assert_eq!(
        broken(&with(
            MODERN,
            "map_pte f2 site=m7+0x1 now=ro",
            "flush entries=1\ncopy p0 f0 new=f2"
        ))
        .rule,
        CopyBeforeUse
    );
}

#[test]
fn i19_the_switch_is_made_on_a_frozen_page_in_the_profiles_order() {
    assert_eq!(without(OLD, "freeze p0 f0 expected=1"), SwitchFrozen);
    assert_eq!(
        sooner(OLD, "copy p0 f0 new=f1", "freeze p0 f0 expected=1"),
        SwitchFrozen
    );
    assert_eq!(
        sooner(MODERN, "freeze p0 f0 expected=1", "copy p0 f0 new=f2"),
        SwitchFrozen
    );
    assert_eq!(without(MODERN, "copy p0 f0 new=f2"), SwitchFrozen);
    assert_eq!(without(OLD, "switch p0 f0 new=f1 slots=0"), SwitchFrozen);
}

#[test]
fn i20_i21_after_the_switch_only_forward_and_before_it_all_the_way_back() {
    let refuse = "retry p0 f0 reason=lock_busy";
    assert_eq!(broken(&with(OLD, refuse, "copy p0 f0 new=f1")).rule, OnlyForward);
    assert_eq!(replaced(MODERN, "unlock p0 f2", "give_back f2"), OnlyForward);
    // A copy error after the switch goes forward, and the page does not count as moved.
    let late = OLD
        .replace("copy p0 f0 new=f1\n", "")
        .replace("flags=uptodate", "flags=error")
        .replace("moved p0 f0 new=f1", "refuse p0 f0 reason=copied_too_late")
        .replace("succeeded=1 failed=0", "succeeded=0 failed=1");
    assert_eq!(check(&late).map(|_| ()), Ok(()));
    assert_eq!(
        replaced(&late, "refuse p0 f0 reason=copied_too_late", "moved p0 f0 new=f1"),
        CopyErrorReported
    );
}

#[test]
fn i22_the_modern_destination_is_untouched_before_the_switch() {
    let set = "set_mapping p0 f0 new=f2";
    assert_eq!(
        broken(&with(MODERN, set, "copy p0 f0 new=f2")).rule,
        DestinationUntouched
    );
    assert_eq!(
        check(&with(MODERN, set, "switch p0 f0 new=f2 slots=0")).map(|_| ()),
        Ok(())
    );
    assert_eq!(
        sooner(
            MODERN,
            "transfer p0 f0 new=f2 flags=uptodate+active",
            "freeze p0 f0 expected=1"
        ),
        DestinationUntouched
    );
}

#[test]
fn i31_only_sync_waits_for_writeback() {
    let wait = "wait_writeback p0 f0";
    let early = with(MODERN, wait, "new_page p0 f0 new=f2");
    assert!(check(&early).is_ok());
    assert_eq!(replaced(&early, "mode=sync", "mode=async"), AsyncNeverWaits);
    assert_eq!(replaced(&early, "mode=sync", "mode=sync-light"), AsyncNeverWaits);
}

#[test]
fn i32_nobody_waits_for_writeback_with_another_page_locked() {
    assert_eq!(
        broken(&with(MODERN, "wait_writeback p1 f1", "new_page p1 f1 new=f3")).rule,
        NoWaitWithLocks
    );
}

#[test]
fn i34_no_entry_exists_when_the_file_system_is_called() {
    assert_eq!(
        broken(&with(OLD, "writeout p0 f0 accepted=yes", "new_page p0 f0 new=f1")).rule,
        NoEntriesAtCallback
    );
    // It may come back locked or not.
    let out = |lines: &str| {
        let run = "trace v1\nmm_migrate_pages_start profile=linux-2.6.17 mode=sync reason=damon\nlock p0 f0\n\
            writeout p0 f0 accepted=no\n";
        format!("{run}{lines}refuse p0 f0 reason=write_failed\nmm_migrate_pages succeeded=0 failed=1 left=0\n")
    };
    assert_eq!(check(&out("")).map(|_| ()), Ok(()));
    assert_eq!(check(&out("unlock p0 f0\n")).map(|_| ()), Ok(()));
    assert_eq!(broken(&out("unlock p0 f0\nunlock p0 f0\n")).rule, EntryNamesLocked);
}

#[test]
fn i1_a_page_that_is_isolated_again_keeps_its_lock_and_its_entries() {
    let begin = "trace v1\nmm_migrate_pages_start profile=modern mode=sync reason=damon\nlock p0 f0\n";
    let again = "freed p0 f0\nisolate p0 f0\n";
    let end = "mm_migrate_pages succeeded=1 failed=0 left=0\n";
    assert_eq!(check(&format!("{begin}{again}unlock p0 f0\n{end}")).map(|_| ()), Ok(()));
    assert_eq!(broken(&format!("{begin}{again}{end}")).rule, WaitersWake);
    let entry = "set_migration_pte p0 f0 site=m0+0x3 was=ro now=read\nflush entries=1\n";
    assert_eq!(
        broken_by(&format!("{begin}{entry}{again}unlock p0 f0\n{end}"), "unlock f0"),
        NoEntryLeft
    );
}

#[test]
fn i1_a_destination_is_not_freed_as_a_page_whose_users_went_away() {
    for (new, before) in [("f3", "unlock f3"), ("f2", "putback p0 f2")] {
        let freed = format!("freed {new}");
        assert_eq!(broken_by(&with(MODERN, &freed, before), &freed), OneList);
    }
}

#[test]
fn i34_only_a_page_handed_over_with_its_error_goes_on_without_contents() {
    let error = |flags| OLD.replace("flags=uptodate", flags);
    let restore = "remove_migration_pte p0 f0 new=f1 site=m0+0x3 was=write now=rw";
    let no_copy = error("flags=active").replace("copy p0 f0 new=f1\n", "");
    assert_eq!(broken_by(&no_copy, restore), CopyBeforeUse);
    // A page that had an error before and was copied has moved like any other.
    assert_eq!(check(&error("flags=error")).map(|_| ()), Ok(()));
    // Copied after it was given up, it still does not count as moved.
    let late = moved(
        &error("flags=error"),
        "transfer p0 f0 new=f1 flags=error",
        "copy p0 f0 new=f1",
    );
    assert_eq!(broken_by(&late, "moved f0 new=f1"), CopyErrorReported);
    let bare = "trace v1\nmm_migrate_pages_start profile=linux-2.6.17 mode=sync reason=damon\nlock p0 f0\n\
        new_page p0 f0 new=f1\nfreeze p0 f0 expected=1\nswitch p0 f0 new=f1 slots=0\n\
        transfer p0 f0 new=f1 flags=active\nunlock p0 f1\nunlock p0 f0\nmoved p0 f0 new=f1\n";
    assert_eq!(broken_by(bare, "moved f0 new=f1"), CopyErrorReported);
}

#[test]
fn the_new_page_is_unlocked_before_the_old_one() {
    assert_eq!(sooner(OLD, "unlock p0 f0", "unlock p0 f1"), StepOrder);
    assert_eq!(without(OLD, "mm_migrate_pages succeeded=1 failed=0 left=0"), StepOrder);
    assert_eq!(
        broken(&with(
            OLD,
            "pass number=0",
            "mm_migrate_pages_start profile=linux-2.6.17 mode=sync reason=syscall_or_cpuset"
        ))
        .rule,
        StepOrder
    );
}
