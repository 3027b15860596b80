//! Where each invariant is checked, and which tests break it on purpose.
//!
//! A test reads the files that are named here: a check or a test that is renamed, removed or no longer about its invariant fails it.

use mm_types::Invariant;

/// Something in a source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, from the root of the repository.
    pub file: &'static str,
    /// A function or a type in it.
    pub name: &'static str,
}

/// One invariant's row.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    /// The invariant.
    pub invariant: Invariant,
    /// What checks it.
    pub checked: &'static [Place],
    /// Tests that break it, and see the check name it.
    pub broken: &'static [Place],
}

const fn state(name: &'static str) -> Place {
    let file = "crates/migrate-core/src/invariants/state.rs";
    Place { file, name }
}

const fn change(name: &'static str) -> Place {
    let file = "crates/migrate-core/src/invariants/change.rs";
    Place { file, name }
}

const fn same(name: &'static str) -> Place {
    let file = "crates/migrate-core/src/invariants/same.rs";
    Place { file, name }
}

const fn said(name: &'static str) -> Place {
    let file = "crates/migrate-core/src/invariants/outcomes.rs";
    Place { file, name }
}

const fn model(file: &'static str, name: &'static str) -> Place {
    Place { file, name }
}

const fn bite_state(name: &'static str) -> Place {
    let file = "crates/migrate-core/tests/invariants_bite/state.rs";
    Place { file, name }
}

const fn bite_change(name: &'static str) -> Place {
    let file = "crates/migrate-core/tests/invariants_bite/change.rs";
    Place { file, name }
}

const fn bite_said(name: &'static str) -> Place {
    let file = "crates/migrate-core/tests/invariants_bite/said.rs";
    Place { file, name }
}

const fn bite_steps(name: &'static str) -> Place {
    let file = "crates/migrate-core/tests/invariants_bite/steps.rs";
    Place { file, name }
}

const fn replayed_page(name: &'static str) -> Place {
    let file = "crates/mm-types/src/trace/checker/tests/pages.rs";
    Place { file, name }
}

const fn replayed_entry(name: &'static str) -> Place {
    let file = "crates/mm-types/src/trace/checker/tests/entries.rs";
    Place { file, name }
}

const fn replayed_run(name: &'static str) -> Place {
    let file = "crates/mm-types/src/trace/checker/tests/run.rs";
    Place { file, name }
}

const WATCH: Place = Place {
    file: "crates/migrate-core/src/invariants/watch.rs",
    name: "Watch",
};

const PACKING: Place = Place {
    file: "crates/migrate-core/src/invariants/packing.rs",
    name: "check_packing",
};

/// The checker of traces: its rules are in three files, by what they are about.
const PAGES: Place = Place {
    file: "crates/mm-types/src/trace/checker/pages.rs",
    name: "Checker",
};
const ENTRIES: Place = Place {
    file: "crates/mm-types/src/trace/checker/entries.rs",
    name: "Checker",
};
const RUNS: Place = Place {
    file: "crates/mm-types/src/trace/checker/run.rs",
    name: "Checker",
};

const ALWAYS: Place = state("check_always");
const BETWEEN: Place = state("check_between_calls");
const AT_REST: Place = state("check_at_rest");
const MEMORY: &str = "crates/migrate-core/src/model/memory.rs";
const MODEL: &str = "crates/migrate-core/src/model/mod.rs";
const MODEL_COUNTS: &str = "crates/migrate-core/src/model/check.rs";
const WRITEBACK: &str = "crates/migrate-core/src/model/writeback.rs";

macro_rules! checks {
    ($($invariant:ident: [$($checked:expr),*], [$($broken:expr),*];)*) => {
        /// Every invariant, in the order of their numbers.
        pub const CHECKS: &[Checks] = &[$(Checks {
            invariant: Invariant::$invariant,
            checked: &[$($checked),*],
            broken: &[$($broken),*],
        }),*];
    };
}

checks! {
    OneList: [ALWAYS, PAGES],
        [bite_state("i1_a_page_on_two_lists_or_on_one_that_its_flag_denies"), replayed_page("i1_i2_a_page_is_isolated_once_and_put_back_once")];
    Isolation: [AT_REST, PAGES],
        [bite_state("i2_an_isolated_page_that_is_on_a_list_or_whose_reference_is_missing"), replayed_page("i1_i2_a_page_is_isolated_once_and_put_back_once")];
    EntryNamesLocked: [ALWAYS, PAGES, ENTRIES],
        [bite_state("i3_an_entry_in_flight_for_a_page_that_is_not_locked"), replayed_page("i3_an_entry_names_a_locked_page")];
    MapCount: [ALWAYS],
        [bite_state("i4_a_mapping_that_nobody_has")];
    References: [ALWAYS, AT_REST],
        [bite_state("i5_a_reference_that_nobody_holds_and_a_holder_without_one")];
    NoEntryLeft: [ALWAYS, AT_REST, PAGES, ENTRIES, RUNS],
        [bite_state("i6_an_entry_that_is_left_and_one_that_the_core_did_not_count"), replayed_entry("i6_no_entry_survives_and_none_vanishes")];
    RestoresRightFrame: [change("check_entries"), PAGES, ENTRIES],
        [bite_change("i7_an_entry_that_comes_back_to_the_wrong_page"), replayed_entry("i7_the_right_frame_is_restored")];
    MappedAsBefore: [change("check_entries")],
        [bite_change("i8_a_mapping_that_does_not_come_back")];
    Contents: [state("check_contents"), change("check_pages"), change("check_others")],
        [bite_change("i9_contents_that_are_not_what_was_written_last")];
    CopyBeforeUse: [PAGES, ENTRIES],
        [bite_steps("i10_a_new_page_that_is_seen_before_its_contents"), replayed_page("i10_nobody_sees_the_new_page_before_its_contents")];
    DirtyConserved: [BETWEEN, change("check_pages")],
        [bite_state("i11_dirt_that_nobody_remembers"), bite_change("i11_a_part_that_was_dirty_and_is_clean")];
    DirtyCounted: [AT_REST, model(MODEL_COUNTS, "recount")],
        [bite_state("i12_a_dirty_page_that_its_slot_calls_clean")];
    PartsStayClean: [change("check_pages")],
        [bite_change("i13_a_part_that_was_clean_and_is_dirty")];
    WriteNotWidened: [BETWEEN, change("check_entries"), ENTRIES],
        [bite_state("i14_a_write_permission_that_is_wider_than_its_area_or_than_it_was"), replayed_entry("i14_i15_write_permission_is_never_widened")];
    ForkIsReadOnly: [ALWAYS, ENTRIES],
        [bite_state("i15_a_child_that_may_write_what_its_parent_sees"), replayed_entry("i14_i15_write_permission_is_never_widened")];
    MarksKept: [ALWAYS, change("check_entries")],
        [bite_state("i16_an_exclusive_page_of_two_and_a_mark_that_is_lost")];
    YoungAsProfile: [change("check_entries"), change("check_pages"), ENTRIES],
        [bite_change("i17_an_entry_or_a_page_that_is_older_or_younger_than_it_was"), replayed_entry("i17_young_is_lost_in_2006_and_kept_today")];
    OnePageInSlot: [ALWAYS, AT_REST, change("check_pages")],
        [bite_state("i18_a_slot_that_holds_a_page_which_is_elsewhere")];
    SwitchFrozen: [PAGES, RUNS],
        [bite_steps("i19_a_switch_while_the_count_was_not_frozen"), replayed_page("i19_the_switch_is_made_on_a_frozen_page_in_the_profiles_order")];
    OnlyForward: [AT_REST, change("check_pages"), model(MEMORY, "free"), PAGES, RUNS],
        [bite_change("i20_an_old_page_that_is_still_somebodys_and_a_free_one_that_is_not_bare"), replayed_page("i20_i21_after_the_switch_only_forward_and_before_it_all_the_way_back")];
    FailureRestores: [change("check_entries"), change("check_pages"), change("check_others"), change("check_unused")],
        [bite_change("i21_a_page_that_stayed_and_a_new_one_that_is_not_as_it_was")];
    DestinationUntouched: [WATCH, PAGES],
        [bite_steps("i22_a_new_page_that_is_touched_before_the_point_of_no_return"), replayed_page("i22_the_modern_destination_is_untouched_before_the_switch")];
    WaitersWake: [AT_REST, ENTRIES, RUNS],
        [bite_state("i23_a_page_that_nobody_will_unlock_and_a_thread_that_never_wakes"), replayed_entry("i23_who_waits_waits_on_a_locked_page_and_wakes")];
    WaitingIsFree: [said("check_waiters")],
        [bite_said("i24_a_page_that_stays_because_threads_wait_for_it")];
    NotFreedInUse: [ALWAYS, model(MEMORY, "free")],
        [bite_state("i25_a_page_that_is_free_and_mapped")];
    RootPinned: [ALWAYS, WATCH],
        [bite_state("i26_a_reverse_map_that_was_given_to_somebody_else"), bite_state("i26_a_reverse_map_that_is_freed_or_used_again_while_its_page_is_in_flight")];
    Resident: [ALWAYS],
        [bite_state("i27_a_space_that_miscounts_its_pages")];
    SwapSlots: [ALWAYS, change("check_pages")],
        [bite_state("i28_a_swap_slot_that_miscounts_its_users_or_loses_its_page")];
    OneOutcome: [said("check_outcomes"), PAGES, RUNS],
        [bite_said("i29_a_page_without_an_outcome_and_a_wrong_sum"), replayed_run("i29_each_page_has_one_outcome_and_the_counts_add_up")];
    Bounded: [said("check_targets"), PAGES, RUNS],
        [bite_said("i30_a_new_page_that_is_lost_and_one_pass_too_many"), replayed_run("i30_passes_and_new_pages_are_bounded")];
    AsyncNeverWaits: [WATCH, PAGES],
        [bite_steps("i31_a_run_that_sleeps_and_may_not"), replayed_page("i31_only_sync_waits_for_writeback")];
    NoWaitWithLocks: [WATCH, PAGES],
        [bite_steps("i32_a_run_that_sleeps_with_another_page_locked"), replayed_page("i32_nobody_waits_for_writeback_with_another_page_locked")];
    NoStaleTranslation: [ALWAYS, AT_REST, PAGES, ENTRIES, RUNS],
        [bite_state("i33_a_translation_that_is_stale_an_edit_that_is_not_flushed_and_a_free_page_that_is_written"), replayed_entry("i33_no_stale_translation_is_left")];
    NoEntriesAtCallback: [WATCH, model(WRITEBACK, "write_page"), model(MODEL, "notice_spinlock"), PAGES],
        [bite_steps("i34_code_of_others_that_is_called_under_a_spinlock"), bite_steps("i34_an_allocation_under_a_spinlock_is_noticed_where_nobody_watches"), bite_steps("i34_a_page_that_is_written_out_while_entries_name_it"), replayed_page("i34_no_entry_exists_when_the_file_system_is_called")];
    MustStay: [said("check_must_stay")],
        [bite_said("i35_a_pinned_page_that_moves_and_a_wrong_reason")];
    CopyErrorReported: [change("check_entries"), RUNS],
        [bite_change("i36_a_page_that_could_not_be_copied_and_looks_sound"), replayed_page("i20_i21_after_the_switch_only_forward_and_before_it_all_the_way_back")];
    StatusOnce: [said("check_outcomes")],
        [bite_said("i37_a_status_that_is_written_twice_and_one_of_a_page_that_was_not_tried")];
    Idempotent: [same("check_unmoved")],
        [bite_change("i38_a_page_that_moves_from_where_it_is_to_where_it_is")];
    RoundTrip: [same("check_round_trip")],
        [bite_change("i39_a_page_that_comes_back_otherwise_than_it_went")];
    EntryReadsBack: [PACKING, Place { file: "crates/mm-types/tests/entry_packing.rs", name: "every_migration_entry_round_trips_in_every_format" }],
        [bite_said("i40_an_entry_that_reads_back_as_another_or_looks_like_one_that_is_present")];
}
