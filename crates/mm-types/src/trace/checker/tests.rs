//! Each rule bites: a right trace passes, and the smallest wrong one fails by that rule. The files here are those of the checker.

mod entries;
mod pages;
mod run;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::{format, string::String};

use super::{CheckError, Checked, Checker, Room, Rule, Violation};
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
