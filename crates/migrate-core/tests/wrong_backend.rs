//! Backends that break one promise each: the kit fails, and its message names the contract that was broken.

#[path = "wrong_backend/backend.rs"]
mod backend;
#[path = "wrong_backend/entry.rs"]
mod entry;
#[path = "wrong_backend/fixture.rs"]
mod fixture;
#[path = "wrong_backend/wrong.rs"]
mod wrong;

use core::panic::AssertUnwindSafe;
use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::sync::{Arc, Mutex};

use fixture::{Seen, WrongFixture};
use wrong::Wrong;

use migrate_core::conformance::{self as kit, CaseName, Verdict, names, run_one};

// The same wrapper without a defect passes everything.
migrate_core::conformance!(|| WrongFixture::new(Wrong::Nothing));

/// Runs the cases of the groups whose names begin with `groups` until one fails with a message that begins with `contract`; returns
/// it with the case.
fn accused(wrong: Wrong, contract: &str, groups: &str) -> Result<(CaseName, String), String> {
    let mut others = String::new();
    for case in names::<WrongFixture>()
        .into_iter()
        .filter(|case| case.group.starts_with(groups))
    {
        // Behind a broken backend the model may stop the test itself.
        let done = catch_unwind(AssertUnwindSafe(|| run_one(|| WrongFixture::new(wrong), case)));
        match done {
            Ok(Verdict::Failed(failure))
                if failure
                    .to_string()
                    .starts_with(&format!("broken contract: {contract}: ")) =>
            {
                return Ok((case, failure.to_string()));
            }
            Ok(Verdict::Failed(failure)) => others += &format!("{case}: {failure}\n"),
            Ok(_) => {}
            Err(_) => others += &format!("{case}: panicked\n"),
        }
    }
    Err(others)
}

macro_rules! wrong_backends {
    ($($name:ident: $wrong:ident, $contract:literal $(in $groups:literal)?;)*) => {
        mod each_is_found {
            use super::{Wrong, accused};

            $(
                #[test]
                fn $name() {
                    let groups = ["", $($groups)?].concat();
                    match accused(Wrong::$wrong, $contract, &groups) {
                        Ok((case, message)) => println!("{case}\n{message}"),
                        Err(others) => panic!("no case says that {} is broken, but\n{others}", $contract),
                    }
                }
            )*
        }

        #[test]
        fn every_defect_is_in_the_table_once() {
            let defects = [$(Wrong::$wrong),*];
            for (n, defect) in defects.iter().enumerate() {
                assert!(!defects[..n].contains(defect), "{defect:?} twice");
            }
            assert!(defects.len() >= 50, "{}", defects.len());
        }
    };
}

wrong_backends! {
    one_that_forgets_a_mapping_in_its_walk: WalkForgetsAMapping, "Rmap::walk (I6)";
    one_that_visits_an_entry_twice: WalkVisitsTwice, "Rmap::walk (I4)";
    one_whose_walk_goes_on_after_its_end: WalkGoesOn, "Rmap::walk (I4)";
    one_that_forgets_a_flush: FlushForgotten, "Rmap::flush (I33)";
    one_whose_flush_pending_is_empty: FlushPendingEmpty, "Rmap::flush_pending (I33)";
    one_that_never_sees_a_mapping: NeverMapped, "Rmap::is_mapped (I4)";
    one_that_loses_the_dirty_bit: DirtyBitLost, "Entry::update (I11)";
    one_that_widens_write_permission: WriteWidened, "Entry::update (I14)";
    one_that_widens_write_permission_where_a_page_stays: WriteWidenedInRollback, "migrate_pages (I21)" in "failures_in";
    one_that_restores_to_the_wrong_frame: OldFrameRestored, "Entry::update (I7)";
    one_that_applies_the_ledger_twice: LedgerTwice, "Entry::update (I5)";
    one_that_tells_of_edits_that_declined: EditDeclinedIsTold, "Entry::update (I4)";
    one_that_loses_a_wake_up: WakeUpLost, "Frames::unlock (I23)";
    one_whose_waiters_hold_a_reference: ReferenceWhileWaiting, "Faults::wait_on (I24)" in "faults";
    one_that_takes_a_reference_while_waiting: ReferenceWhileLooking, "Faults::wait_on (I24)" in "seam";
    one_whose_threads_never_sleep: NeverSleeps, "Faults::wait_on (I23)" in "faults";
    one_that_forgets_to_put: PutForgotten, "Frames::put (I20)" in "seam";
    one_that_locks_a_page_twice: LocksTwice, "Frames::try_lock (I3)" in "seam";
    one_that_forgets_what_a_page_belongs_to: MappingForgotten, "Frames::mapping (I18)" in "seam";
    one_that_moves_what_its_file_forbids: AnyMover, "Cache::mover (I35)" in "stays";
    one_that_locks_busy_buffers: BuffersLockedTwice, "Cache::try_lock_buffers (I13)" in "files";
    one_that_writes_nothing_out: WritesNothing, "Cache::writeout (I11)" in "files";
    one_that_can_reserve_nothing: ReservesNothing, "Rmap::reserve (I21)";
    one_whose_sleep_for_a_lock_does_not_take_it: LockNotTaken, "Wait::lock (I23)" in "seam";
    one_whose_fork_copies_entries_as_they_are: ForkCopiesRaw, "Readers::copy (I15)" in "readers";
    one_whose_fork_copies_entries_in_flight_as_they_are: ForkCopiesRawInFlight, "Readers::copy (I15)" in "readers";
    one_whose_mprotect_passes_entries_in_flight_by: ProtectPassesByInFlight, "Readers::protect (I14)" in "readers";
    one_whose_munmap_passes_entries_in_flight_by: UnmapPassesByInFlight, "Readers::zap (I6)" in "readers";
    one_whose_mremap_loses_entries_in_flight: RemapLosesInFlight, "Readers::relocate (I6)" in "readers";
    one_whose_truncate_passes_entries_in_flight_by: TruncatePassesByInFlight, "Readers::zap (I6)" in "readers";
    one_whose_trace_is_another: LockBusyOnce, "trace (I29)" in "traces";
    one_whose_trace_is_none: TellsOfALock, "trace (I3)" in "traces";
    one_whose_freeze_checks_and_does_not_freeze: FreezeOnlyChecks, "Frames::freeze (I19)";
    one_whose_freeze_takes_any_count: FreezeTakesAnyCount, "Frames::freeze (I19)";
    one_that_unfreezes_with_one_too_many: UnfreezeOneTooMany, "Frames::unfreeze (I5)";
    one_that_copies_nothing: CopiesNothing, "Frames::copy (I9)";
    one_that_copies_half: CopiesHalf, "Frames::copy (I9)";
    one_that_gives_a_free_page: GetOfAFreePage, "Frames::get (I25)";
    one_that_tells_the_flags_after: FlagsToldAfter, "Frames::edit_flags (I21)";
    one_that_clears_flags_only_where_it_sets_some: ClearsOnlyWhereItSets, "Frames::edit_flags (I21)";
    one_that_does_not_adopt: AdoptForgotten, "Frames::adopt (I7)";
    one_that_adopts_no_private_word: PrivateWordForgotten, "Cache::swap_entry (I28)";
    one_that_does_not_disown: DisownForgotten, "Frames::disown (I20)";
    one_that_forgets_pins: PinsForgotten, "Frames::pins (I35)";
    one_that_isolates_a_page_twice: IsolatesTwice, "Lru::isolate (I2)";
    one_that_forgets_on_isolation_that_a_page_is_active: IsolatedIsInactive, "Lru::isolate (I2)";
    one_that_forgets_on_putback_that_a_page_is_active: PutBackIsInactive, "Lru::putback (I1)";
    one_whose_putback_loses_the_page: PutbackLosesThePage, "Lru::putback (I1)";
    one_that_does_not_switch_the_slot: SlotNotSwitched, "Cache::switch (I18)";
    one_that_forgets_cache_slots: SlotsForgotten, "Cache::slots (I5)";
    one_that_leaves_the_buffers_behind: BuffersNotMoved, "Cache::move_buffers (I13)";
    one_that_forgets_to_set_dirty: SetDirtyForgotten, "Cache::set_dirty (I12)";
    one_that_does_not_sleep_for_a_lock: LockNotSleptFor, "Wait::lock (I23)" in "seam";
    one_that_does_not_wait_for_writeback: WritebackNotWaitedFor, "Wait::wait_writeback (I32)" in "seam";
    one_that_maps_with_more_permission_than_was_asked_for: MapsWritable, "Fixture::map_anon (I14)";
    one_whose_stores_leave_everything_clean: StoresClean, "Fixture::write (I11)" in "marks";
    one_whose_new_pages_are_not_new: NewPageDirty, "Fixture::new_page (I20)";
}

/// What a case is about it says itself, before a case of something else stumbles over it.
#[test]
fn a_case_about_a_method_names_what_is_broken_of_it() {
    for (name, wrong, contract) in [
        (
            "a_walk_visits_every_entry_of_a_shared_page_once",
            Wrong::WalkForgetsAMapping,
            "Rmap::walk (I6)",
        ),
        (
            "a_walk_visits_every_entry_of_a_shared_page_once",
            Wrong::WalkVisitsTwice,
            "Rmap::walk (I4)",
        ),
        (
            "flags_are_set_cleared_and_told",
            Wrong::ClearsOnlyWhereItSets,
            "Frames::edit_flags (I21)",
        ),
        (
            "flags_are_set_cleared_and_told",
            Wrong::FlagsToldAfter,
            "Frames::edit_flags (I21)",
        ),
    ] {
        let cases = names::<WrongFixture>();
        let case = cases.into_iter().find(|case| case.name == name).expect("a case");
        let Verdict::Failed(failure) = run_one(|| WrongFixture::new(wrong), case) else {
            panic!("{case} does not see {wrong:?}")
        };
        let accused = failure.to_string();
        assert!(
            accused.starts_with(&format!("broken contract: {contract}: ")),
            "{accused}"
        );
    }
}

/// What is left of a failure is looked at where it happened, in every mode: permissions and marks too, and not only where the page is.
#[test]
fn what_a_failure_leaves_behind_is_seen_in_every_mode() {
    for (wrong, contract, groups) in [
        (
            Wrong::WriteWidenedInRollback,
            "migrate_pages (I21)",
            "failures_in_mode_async",
        ),
        (
            Wrong::WriteWidenedInRollback,
            "migrate_pages (I21)",
            "failures_in_mode_sync_light",
        ),
        // A page that is clean by mistake is not written out: the steps that were to fail do not come.
        (Wrong::SetDirtyForgotten, "migrate_pages (I29)", "failures_in_mode_sync"),
    ] {
        accused(wrong, contract, groups).unwrap_or_else(|others| panic!("{wrong:?}, {groups}: {others}"));
    }
}

/// The kit asks for no bigger fixture than it says.
fn is_small_enough(case: CaseName, seen: &Seen) {
    let (spaces, pages, frames) = (seen.spaces, seen.pages, seen.frames);
    assert!(spaces <= kit::SPACES, "{case}: {spaces} spaces");
    assert!(pages <= kit::PAGES, "{case}: {pages} pages");
    assert!(frames <= kit::FRAMES, "{case}: {frames} frames");
}

#[test]
fn no_scenario_needs_a_bigger_fixture_than_the_kit_says() {
    let place: Arc<Mutex<Seen>> = Arc::default();
    for case in names::<WrongFixture>()
        .into_iter()
        .filter(|case| case.group == "traces")
    {
        let verdict = run_one(|| WrongFixture::recorded(&place), case);
        assert_eq!(verdict, Verdict::Passed, "{case}");
        is_small_enough(case, &place.lock().unwrap());
    }
}

/// What the cases of a group make the model do. A case that quietly does less, or something else, is another line here.
fn done_by(group: &str) -> String {
    let place: Arc<Mutex<Seen>> = Arc::default();
    let mut lines = String::new();
    for case in names::<WrongFixture>().into_iter().filter(|case| case.group == group) {
        match run_one(|| WrongFixture::recorded(&place), case) {
            Verdict::Passed => {}
            Verdict::NotApplicable { .. } => continue,
            Verdict::Failed(failure) => panic!("{case}: {failure}"),
        }
        let seen = place.lock().unwrap().clone();
        let recording = seen.recording.as_ref().expect("a case begins");
        let events: Vec<_> = recording.events().collect();
        let of = |word| events.iter().filter(|event| event.word() == word).count();
        let (all, runs, moved, refused) = (events.len(), of("mm_migrate_pages"), of("moved"), of("refuse"));
        is_small_enough(case, &seen);
        let Seen {
            loads, stores, last, ..
        } = seen;
        lines += &format!(
            "{case}: {all} events, {runs} runs, {moved} moved, {refused} refused, {loads} loads, {stores} stores, {last:#x} last\n"
        );
    }
    assert!(!lines.is_empty(), "no case is in {group}");
    lines
}

macro_rules! groups {
    ($($test:ident: $group:literal;)*) => {
        $(
            #[test]
            fn $test() {
                let mut settings = insta::Settings::clone_current();
                settings.set_snapshot_path("wrong_backend/done");
                settings.set_prepend_module_to_snapshot(false);
                settings.set_omit_expression(true);
                settings.bind(|| insta::assert_snapshot!($group, done_by($group)));
            }
        )*

        #[test]
        fn what_each_group_does_is_looked_at() {
            let all: BTreeSet<_> = names::<WrongFixture>().iter().map(|case| case.group).collect();
            // The traces are compared with the model's as they are.
            let looked_at = BTreeSet::from(["traces", $($group),*]);
            assert_eq!(all, looked_at);
        }
    };
}

groups! {
    what_batches_does: "batches";
    what_contents_does: "contents";
    what_failures_does: "failures";
    what_failures_in_mode_async_does: "failures_in_mode_async";
    what_failures_in_mode_sync_does: "failures_in_mode_sync";
    what_failures_in_mode_sync_light_does: "failures_in_mode_sync_light";
    what_failures_of_a_batch_does: "failures_of_a_batch";
    what_failures_of_a_file_does: "failures_of_a_file";
    what_failures_of_a_shared_page_does: "failures_of_a_shared_page";
    what_failures_of_buffers_does: "failures_of_buffers";
    what_failures_of_one_page_does: "failures_of_one_page";
    what_faults_does: "faults";
    what_faults_of_2006_does: "faults_of_2006";
    what_files_does: "files";
    what_files_of_2006_does: "files_of_2006";
    what_flushes_does: "flushes";
    what_lists_does: "lists";
    what_lists_of_2006_does: "lists_of_2006";
    what_marks_does: "marks";
    what_misuse_does: "misuse";
    what_modes_does: "modes";
    what_modes_of_2006_does: "modes_of_2006";
    what_permissions_does: "permissions";
    what_readers_at_rest_does: "readers_at_rest";
    what_readers_before_the_copy_does: "readers_before_the_copy";
    what_readers_before_the_flush_does: "readers_before_the_flush";
    what_readers_before_the_freeze_does: "readers_before_the_freeze";
    what_readers_before_the_locks_open_does: "readers_before_the_locks_open";
    what_readers_before_the_restore_does: "readers_before_the_restore";
    what_references_does: "references";
    what_seam_does: "seam";
    what_stays_does: "stays";
    what_swap_does: "swap";
    what_buffers_of_today_does: "buffers_of_today";
    what_faults_of_today_does: "faults_of_today";
    what_files_of_today_does: "files_of_today";
    what_modes_of_today_does: "modes_of_today";
}
