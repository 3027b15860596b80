//! Entries, and who meets them.

use super::{MODERN, OLD, broken, broken_by, check, replaced, sooner, with, without};
use crate::Invariant::*;

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
