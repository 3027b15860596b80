//! Each rule bites: a right trace passes, and the smallest wrong one fails by that rule.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::{format, string::String};

use super::Rule::{self, StepOrder};
use super::{CheckError, Checked, Checker, Room, Violation};
use crate::Invariant::*;
use crate::trace::{Event, HEADER, Line, Lines, Slot};

const OLD: &str = "trace v1
isolate p0 f0
mm_migrate_pages_start profile=linux-2.6.17 mode=sync reason=syscall_or_cpuset
pass number=0
lock p0 f0
wait_writeback p0 f0
set_migration_pte p0 f0 site=m0+0x3 was=rw+young+dirty now=write
set_migration_pte p0 f0 site=m1+0x3 was=ro now=read
flush entries=2
new_page p0 f0 new=f1
set_mapping p0 f0 new=f1
freeze p0 f0 expected=1
switch p0 f0 new=f1 slots=0
copy p0 f0 new=f1
transfer p0 f0 new=f1 flags=uptodate
remove_migration_pte p0 f0 new=f1 site=m0+0x3 was=write now=rw
remove_migration_pte p0 f0 new=f1 site=m1+0x3 was=read now=ro
flush entries=2
unlock p0 f1
unlock p0 f0
putback p0 f1
moved p0 f0 new=f1
mm_migrate_pages succeeded=1 failed=0 left=0
putback f0
";

const MODERN: &str = "trace v1
map_pte p0 f0 site=m0+0x3 now=rw+young
isolate p0 f0
isolate p1 f1
mm_migrate_pages_start profile=modern mode=sync reason=compaction
pass number=0
lock p0 f0
new_page p0 f0 new=f2
set_migration_pte p0 f0 site=m0+0x3 was=rw+young now=write+young
fault t1 site=m0+0x3 access=write
migration_entry_wait t1 p0 f0 site=m0+0x3
lock p1 f1
new_page p1 f1 new=f3
flush entries=1
copy p0 f0 new=f2
freeze p0 f0 expected=1
switch p0 f0 new=f2 slots=0
transfer p0 f0 new=f2 flags=uptodate+active
retry p1 f1 reason=extra_reference expected=1 found=2
remove_migration_pte p0 f0 new=f2 site=m0+0x3 was=write+young now=rw+young
flush entries=1
unlock p0 f2
unlock p0 f0
wake t1 site=m0+0x3
putback p0 f2
moved p0 f0 new=f2
unlock f3
give_back f3
unlock p1 f1
refuse p1 f1 reason=extra_reference expected=1 found=2
mm_migrate_pages succeeded=1 failed=0 left=1
putback p1 f1
";

fn check(text: &str) -> Result<Checked, CheckError> {
    let (mut frames, mut sites) = ([Slot::FREE; 16], [Slot::FREE; 16]);
    let (mut spaces, mut actors) = ([Slot::FREE; 8], [Slot::FREE; 8]);
    let mut checker = Checker::new(Room {
        frames: &mut frames,
        sites: &mut sites,
        spaces: &mut spaces,
        actors: &mut actors,
    });
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(HEADER));
    for line in lines {
        checker.event(read(line))?;
    }
    checker.finish()
}

/// Reads a line, each but once: the traces here differ in few of theirs, and reading is what takes the time in Miri.
fn read(line: &str) -> Event {
    static READ: Mutex<BTreeMap<String, Event>> = Mutex::new(BTreeMap::new());
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(event) = read.get(line) {
        return *event;
    }
    let event = line
        .parse::<Line>()
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .event;
    read.insert(line.into(), event);
    event
}

#[track_caller]
fn broken(text: &str) -> Violation {
    match check(text) {
        Err(CheckError::Violation(violation)) => violation,
        other => panic!("{other:?} for\n{text}"),
    }
}

/// Says which rule is broken, and that `line` is where.
#[track_caller]
fn broken_by(text: &str, line: &str) -> Rule {
    let violation = broken(text);
    assert_eq!(violation.event, Some(read(line)), "{violation}");
    violation.rule
}

/// Replaces `from`, which must be there once, and says which rule that breaks.
#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> Rule {
    assert_eq!(text.matches(from).count(), 1, "{from:?}");
    broken(&text.replace(from, to)).rule
}

/// Leaves a line out.
#[track_caller]
fn without(text: &str, line: &str) -> Rule {
    replaced(text, &format!("{line}\n"), "")
}

/// Moves a line before another.
#[track_caller]
fn sooner(text: &str, line: &str, before: &str) -> Rule {
    broken(&moved(text, line, before)).rule
}

#[track_caller]
fn moved(text: &str, line: &str, before: &str) -> String {
    let (line, before) = (format!("\n{line}\n"), format!("\n{before}\n"));
    assert_eq!(text.matches(&line).count(), 1, "{line:?}");
    let text = text.replacen(&line, "\n", 1);
    assert_eq!(text.matches(&before).count(), 1, "{before:?}");
    text.replacen(&before, &format!("{line}{}", &before[1..]), 1)
}

/// Puts lines before one that is there.
fn with(text: &str, lines: &str, before: &str) -> String {
    let before = format!("\n{before}\n");
    assert_eq!(text.matches(&before).count(), 1, "{before:?}");
    text.replacen(&before, &format!("\n{lines}{before}"), 1)
}

#[test]
fn right_traces_pass() {
    assert_eq!(
        check(OLD),
        Ok(Checked {
            events: 23,
            runs: 1,
            succeeded: 1
        })
    );
    assert_eq!(check(MODERN).map(|checked| checked.succeeded), Ok(1));
}

#[test]
fn a_violation_says_line_rule_and_event() {
    let violation = broken(&OLD.replace("flush entries=2\nnew_page", "new_page"));
    assert_eq!(
        format!("{violation}"),
        "line 13: I33 (no stale translation is left when contents are copied or a lock opens): \
         no barrier between unmapping and copying: copy f0 new=f1"
    );
}

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
fn i6_no_entry_survives_and_none_vanishes() {
    assert_eq!(
        without(OLD, "remove_migration_pte p0 f0 new=f1 site=m1+0x3 was=read now=ro"),
        NoEntryLeft
    );
    assert_eq!(
        without(OLD, "set_migration_pte p0 f0 site=m1+0x3 was=ro now=read"),
        NoEntryLeft
    );
    assert_eq!(
        broken(&with(OLD, "map_pte f9 site=m1+0x3 now=ro", "freeze p0 f0 expected=1")).rule,
        NoEntryLeft
    );
    // A zapped entry need not come back; one that was copied or moved must.
    let zap = "zap_pte p0 f0 site=m1+0x3 was=read";
    let gone = OLD.replace(
        "remove_migration_pte p0 f0 new=f1 site=m1+0x3 was=read now=ro\nflush entries=2",
        "flush entries=1",
    );
    assert_eq!(check(&with(&gone, zap, "freeze p0 f0 expected=1")).map(|_| ()), Ok(()));
    let copy = "copy_pte p0 f0 from=m1+0x3 to=m2+0x3 parent=read child=read";
    assert_eq!(broken(&with(OLD, copy, "freeze p0 f0 expected=1")).rule, NoEntryLeft);
    let relocate = "move_pte p0 f0 from=m1+0x3 to=m1+0x9 entry=read";
    assert_eq!(
        broken(&with(OLD, relocate, "freeze p0 f0 expected=1")).rule,
        NoEntryLeft
    );
}

#[test]
fn i7_the_right_frame_is_restored() {
    let line = "remove_migration_pte p0 f0 new=f1 site=m1+0x3 was=read now=ro";
    assert_eq!(
        replaced(
            OLD,
            line,
            "remove_migration_pte p0 f0 new=f0 site=m1+0x3 was=read now=ro"
        ),
        RestoresRightFrame
    );
    assert_eq!(
        replaced(
            OLD,
            line,
            "remove_migration_pte p0 f0 new=f1 site=m1+0x3 was=read now=ro@f0"
        ),
        RestoresRightFrame
    );
    assert_eq!(sooner(OLD, line, "freeze p0 f0 expected=1"), RestoresRightFrame);
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
fn i14_i15_write_permission_is_never_widened() {
    assert_eq!(replaced(OLD, "was=read now=ro", "was=read now=rw"), WriteNotWidened);
    assert_eq!(replaced(OLD, "was=ro now=read", "was=ro now=write"), WriteNotWidened);
    let change = "change_pte p0 f0 site=m0+0x3 was=write now=read";
    assert_eq!(
        broken(&with(OLD, change, "freeze p0 f0 expected=1")).rule,
        WriteNotWidened
    );
    let back = "change_pte p0 f0 site=m1+0x3 was=read now=write";
    assert_eq!(
        broken(&with(OLD, back, "freeze p0 f0 expected=1")).rule,
        WriteNotWidened
    );
    let fork = "copy_pte p0 f0 from=m0+0x3 to=m2+0x3 parent=read child=write";
    assert_eq!(broken(&with(OLD, fork, "freeze p0 f0 expected=1")).rule, ForkIsReadOnly);
    let right = with(OLD, change, "freeze p0 f0 expected=1").replace("was=write now=rw", "was=read now=ro");
    assert_eq!(check(&right).map(|_| ()), Ok(()));
}

#[test]
fn i17_young_is_lost_in_2006_and_kept_today() {
    assert_eq!(
        replaced(OLD, "was=write now=rw", "was=write now=rw+young"),
        YoungAsProfile
    );
    assert_eq!(
        replaced(
            OLD,
            "was=rw+young+dirty now=write",
            "was=rw+young+dirty now=write+young"
        ),
        YoungAsProfile
    );
    assert_eq!(
        replaced(MODERN, "was=write+young now=rw+young", "was=write+young now=rw"),
        YoungAsProfile
    );
    assert_eq!(
        replaced(
            MODERN,
            "was=write+young now=rw+young",
            "was=write+young now=rw+young+dirty"
        ),
        YoungAsProfile
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
fn i23_who_waits_waits_on_a_locked_page_and_wakes() {
    assert_eq!(without(MODERN, "wake t1 site=m0+0x3"), WaitersWake);
    assert_eq!(
        without(MODERN, "migration_entry_wait t1 p0 f0 site=m0+0x3"),
        WaitersWake
    );
    assert_eq!(
        replaced(MODERN, "migration_entry_wait t1 p0 f0", "migration_entry_wait t1 p1 f1"),
        WaitersWake
    );
    assert_eq!(without(OLD, "unlock p0 f0"), WaitersWake);
}

#[test]
fn i29_each_page_has_one_outcome_and_the_counts_add_up() {
    assert_eq!(replaced(OLD, "succeeded=1", "succeeded=2"), OneOutcome);
    assert_eq!(replaced(MODERN, "left=1", "left=0"), OneOutcome);
    assert_eq!(without(OLD, "moved p0 f0 new=f1"), OneOutcome);
    assert_eq!(
        replaced(OLD, "moved p0 f0 new=f1\n", "moved p0 f0 new=f1\nfreed p0 f0\n"),
        OnlyForward
    );
    let twice = "refuse p1 f1 reason=lock_busy";
    assert_eq!(
        broken(&with(MODERN, twice, "mm_migrate_pages succeeded=1 failed=0 left=1")).rule,
        OneOutcome
    );
}

#[test]
fn i30_passes_and_new_pages_are_bounded() {
    let passes = |rules: &str, last: u32| {
        let mut text = format!("trace v1\nmm_migrate_pages_start profile={rules} mode=sync reason=damon\n");
        for number in 0..=last {
            text += &format!("pass number={number}\n");
        }
        text + "mm_migrate_pages succeeded=0 failed=0 left=0\n"
    };
    assert!(check(&passes("linux-2.6.17", 10)).is_ok());
    assert_eq!(broken(&passes("linux-2.6.17", 11)).rule, Bounded);
    assert!(check(&passes("modern", 9)).is_ok());
    assert_eq!(broken(&passes("modern", 10)).rule, Bounded);
    assert_eq!(replaced(OLD, "pass number=0", "pass number=1"), Bounded);
    assert_eq!(without(MODERN, "unlock f3\ngive_back f3"), WaitersWake);
    assert_eq!(without(MODERN, "give_back f3"), Bounded);
    assert_eq!(
        replaced(MODERN, "new_page p1 f1 new=f3", "new_page p1 f1 new=f2"),
        Bounded
    );
    // One that was given back leaves room for another.
    let another = "new_page p1 f1 new=f4\nunlock f4\ngive_back f4";
    assert_eq!(
        check(&with(MODERN, another, "unlock p1 f1")).map(|checked| checked.succeeded),
        Ok(1)
    );
    let retries = std::vec!["retry p1 f1 reason=lock_busy"; 20].join("\n");
    assert_eq!(broken(&with(MODERN, &retries, "unlock f3")).rule, Bounded);
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
fn i33_no_stale_translation_is_left() {
    assert_eq!(
        replaced(OLD, "flush entries=2\nnew_page", "new_page"),
        NoStaleTranslation
    );
    assert_eq!(replaced(OLD, "flush entries=2\nunlock", "unlock"), NoStaleTranslation);
    assert_eq!(
        replaced(MODERN, "flush entries=1\ncopy", "flush entries=0\ncopy"),
        NoStaleTranslation
    );
    // The walk missed an entry.
    let mapped = "map_pte p0 f0 site=m5+0x3 now=ro";
    assert_eq!(broken(&with(OLD, mapped, "isolate p0 f0")).rule, NoStaleTranslation);
    // Fork reads an entry in flight before the barrier (B22).
    let fork = "copy_pte p0 f0 from=m0+0x3 to=m2+0x3 parent=write+young child=write+young";
    let text = with(MODERN, fork, "fault t1 site=m0+0x3 access=write");
    assert_eq!(broken(&text).rule, NoStaleTranslation);
    let flushed = text
        .replace("child=write+young\n", "child=write+young\nflush_pending m0\n")
        .replace(
            "flush entries=1\nunlock",
            "remove_migration_pte p0 f0 new=f2 site=m2+0x3 was=write+young now=rw+young\nflush entries=2\nunlock",
        );
    assert_eq!(check(&flushed).map(|_| ()), Ok(()));
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
fn i33_no_entry_is_taken_once_the_copy_the_freeze_or_the_switch_was_made() {
    let late = "set_migration_pte p0 f0 site=m5+0x3 was=ro now=read";
    for (text, before) in [
        (OLD, "switch p0 f0 new=f1 slots=0"),
        (OLD, "copy p0 f0 new=f1"),
        (OLD, "transfer p0 f0 new=f1 flags=uptodate"),
        (MODERN, "freeze p0 f0 expected=1"),
        (MODERN, "transfer p0 f0 new=f2 flags=uptodate+active"),
    ] {
        assert_eq!(
            broken_by(&with(text, late, before), late),
            NoStaleTranslation,
            "{before}"
        );
    }
}

#[test]
fn i14_the_step_that_widened_an_entry_is_the_one_that_is_blamed() {
    let back = "change_pte p0 f0 site=m1+0x3 was=read now=write";
    assert_eq!(
        broken_by(&with(OLD, back, "freeze p0 f0 expected=1"), back),
        WriteNotWidened
    );
    let same = "change_pte p0 f0 site=m0+0x3 was=write now=write";
    assert_eq!(check(&with(OLD, same, "freeze p0 f0 expected=1")).map(|_| ()), Ok(()));
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
fn i29_a_page_refused_in_one_run_is_tried_anew_in_the_next() {
    let run = |retries: usize| {
        let retries = "retry p0 f0 reason=lock_busy\n".repeat(retries);
        format!(
            "mm_migrate_pages_start profile=modern mode=sync reason=damon\nlock p0 f0\nunlock p0 f0\n\
             {retries}refuse p0 f0 reason=lock_busy\nmm_migrate_pages succeeded=0 failed=0 left=1\n"
        )
    };
    let checked = check(&format!("trace v1\nisolate p0 f0\n{}{}", run(20), run(20)));
    assert_eq!(checked.map(|checked| checked.runs), Ok(2));
    let within = run(0).replace("mm_migrate_pages succ", "lock p0 f0\nmm_migrate_pages succ");
    assert_eq!(broken_by(&format!("trace v1\n{within}"), "lock f0"), OneOutcome);
}

#[test]
fn i30_attempts_are_as_many_as_the_profile_makes() {
    for (rules, most) in [("linux-2.6.17", 11), ("modern", 20)] {
        let text = |retries: usize| {
            let retries = "retry p0 f0 reason=lock_busy\n".repeat(retries);
            format!(
                "trace v1\nmm_migrate_pages_start profile={rules} mode=sync reason=damon\n{retries}\
                 refuse p0 f0 reason=lock_busy\nmm_migrate_pages succeeded=0 failed=0 left=1\n"
            )
        };
        assert_eq!(check(&text(most)).map(|_| ()), Ok(()), "{rules}");
        assert_eq!(broken(&text(most + 1)).rule, Bounded, "{rules}");
    }
}

#[test]
fn i30_todays_passes_begin_anew_and_again_where_pages_go_one_by_one() {
    let run = |rules: &str, passes: &[u32]| {
        let passes: String = passes.iter().map(|number| format!("pass number={number}\n")).collect();
        check(&format!(
            "trace v1\nmm_migrate_pages_start profile={rules} mode=sync reason=damon\n{passes}\
             mm_migrate_pages succeeded=0 failed=0 left=0\n"
        ))
        .is_ok()
    };
    for (passes, modern, of_2006) in [
        (&[0, 1, 2, 3, 4][..], true, true),
        (&[0, 1, 0, 1, 2], true, false),
        (&[0, 3, 4, 5], true, false),
        (&[0, 1, 3, 0, 3], true, false),
        (&[0, 0], true, false),
        (&[0, 2], false, false),
        (&[0, 4], false, false),
        (&[0, 1, 1], false, false),
        (&[1], false, false),
    ] {
        assert_eq!(run("modern", passes), modern, "{passes:?}");
        assert_eq!(run("linux-2.6.17", passes), of_2006, "{passes:?}");
    }
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

#[test]
fn too_little_room_is_an_error() {
    let mut frames = [Slot::FREE; 1];
    let mut checker = Checker::new(Room {
        frames: &mut frames,
        sites: &mut [],
        spaces: &mut [],
        actors: &mut [],
    });
    let mut lines = Lines::new(MODERN).unwrap();
    let error = lines.find_map(|line| checker.event(line.unwrap().event).err());
    assert!(matches!(error, Some(CheckError::Full(_))), "{error:?}");
}

#[test]
fn every_rule_has_its_own_number() {
    let ids: std::collections::BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.id()).collect();
    assert_eq!(ids.len(), Rule::ALL.len());
    for rule in Rule::ALL {
        let equal = Rule::ALL
            .iter()
            .filter_map(|of| of.invariant())
            .filter(|of| *rule == *of);
        assert!(equal.eq(rule.invariant()), "{rule} is its own invariant and no other");
    }
}

#[cfg(feature = "alloc")]
#[test]
fn a_text_is_checked_as_its_events_are() {
    use crate::trace::check_text;

    assert_eq!(check_text(OLD), check(OLD));
    assert!(matches!(check_text("trace v2\n"), Err(CheckError::Parse(_))));
    assert!(check_text(&OLD.replace("flush entries=2\nnew_page", "new_page")).is_err());
}
