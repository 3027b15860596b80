//! The one list of cases: tests are made of it, and the table that a kernel runs at boot.
//!
//! To add a case, write its function in the module of its group and name it here. To add a scenario, put its text and an empty
//! snapshot into `tests/scenarios` and `tests/snapshots`, name it here, run the tests of the model, and review what they recorded.

/// Hands the list to the macro named in braces, after whatever is in the parentheses.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ({ $($then:tt)* } $with:tt) => {
        $($then)* {
            $with
            // By the rules of either profile. Groups that stand together have the same cases, each in a way of its own.
            both {
                [contents] {
                    a_moved_page_holds_what_was_written,
                    a_page_nobody_wrote_to_moves_as_zeroes,
                    every_site_sees_the_same_page,
                    a_store_after_the_move_is_seen_through_every_site,
                    a_store_between_two_moves_is_kept,
                    contents_survive_many_moves,
                    a_shared_page_survives_many_moves,
                    a_round_trip_leaves_everything_but_the_frame,
                    a_round_trip_of_a_shared_page_leaves_everything_but_the_frame,
                    the_old_frame_is_free_afterwards,
                    pages_that_move_together_keep_their_own_contents,
                    every_word_of_a_page_moves,
                    a_page_of_a_file_moves_with_its_contents,
                    a_page_of_a_file_moves_with_what_was_stored,
                    a_refused_page_holds_what_was_written,
                    a_neighbour_mapped_in_flight_is_not_disturbed,
                }
                [permissions] {
                    a_writable_page_stays_writable,
                    a_read_only_page_stays_read_only,
                    a_read_only_page_stays_read_only_over_many_moves,
                    each_site_keeps_its_own_permission,
                    a_refused_page_keeps_its_permission,
                    permission_taken_before_the_move_is_not_given_back,
                    permission_taken_in_flight_is_not_given_back,
                    permission_taken_and_given_in_flight_comes_with_a_fault,
                    permission_given_in_flight_comes_with_a_fault,
                    parent_and_child_stay_apart_when_their_page_moves,
                    a_fork_before_the_copy_leaves_parent_and_child_apart,
                    a_fork_before_the_flush_leaves_parent_and_child_apart,
                    a_fork_before_the_locks_open_leaves_parent_and_child_apart,
                    neither_side_of_a_fork_in_flight_is_writable,
                    a_page_of_two_spaces_is_exclusive_to_neither,
                    exclusiveness_is_kept_where_entries_remember_it,
                    a_private_mapping_of_a_file_stays_copy_on_write,
                }
                [references] {
                    an_anonymous_page_has_the_references_of_every_row,
                    a_page_of_three_sites_has_the_references_of_every_row,
                    a_page_of_a_file_has_the_references_of_every_row,
                    a_page_with_buffers_has_the_references_of_every_row,
                    a_page_in_the_swap_cache_has_the_references_of_every_row,
                    an_anonymous_page_gives_its_entries_references_to_the_new_page,
                    a_page_of_three_sites_gives_its_entries_references_to_the_new_page,
                    a_page_of_a_file_gives_its_caches_reference_to_the_new_page,
                    a_page_with_buffers_gives_their_reference_to_the_new_page,
                    a_page_in_the_swap_cache_gives_its_caches_reference_to_the_new_page,
                    a_new_page_has_one_reference_until_the_switch,
                    a_refused_page_has_its_references_again,
                    the_expected_count_of_a_page_of_a_file_has_its_caches_reference,
                    an_old_page_that_nobody_wants_is_freed,
                }
                [seam] {
                    a_reference_is_counted_until_it_is_put,
                    a_page_without_references_cannot_be_got,
                    a_frame_that_does_not_exist_cannot_be_got,
                    a_frozen_page_cannot_be_got,
                    a_page_is_frozen_at_its_exact_count_only,
                    an_unfrozen_page_has_the_count_it_was_given,
                    a_locked_page_cannot_be_locked_again,
                    an_unlocked_page_can_be_locked,
                    a_lock_neither_takes_nor_drops_a_reference,
                    flags_are_set_cleared_and_told,
                    a_page_says_what_it_belongs_to,
                    an_adopted_page_belongs_to_what_the_old_one_does,
                    a_page_is_isolated_once,
                    a_page_that_is_on_no_list_is_not_isolated,
                    a_page_put_back_can_be_isolated_again,
                    a_page_put_back_directly_is_on_its_list_at_once,
                    a_page_put_back_after_everybody_let_go_is_freed,
                    a_walk_visits_the_one_entry_of_a_page,
                    a_walk_visits_every_entry_of_a_shared_page_once,
                    a_walk_visits_the_entries_of_a_fork,
                    a_walk_finds_an_entry_that_was_moved,
                    a_walk_ends_when_it_is_told,
                    a_mapped_page_is_told_as_mapped,
                    an_update_applies_the_ledger_exactly_once,
                    updates_of_every_entry_apply_the_ledger_exactly_once,
                    a_page_whose_entries_are_out_is_not_mapped,
                    a_walk_finds_the_entries_that_are_out,
                    entries_that_went_out_come_back_as_they_were,
                    an_update_returns_the_dirty_bit_that_was_there,
                    an_update_that_declines_changes_nothing,
                    a_page_lock_that_is_open_is_taken_at_once,
                    a_page_lock_that_another_has_is_slept_for,
                    a_page_that_is_not_written_is_not_waited_for,
                    a_page_under_writeback_is_waited_for,
                    a_thread_that_looks_at_an_entry_in_flight_holds_no_reference,
                    a_thread_that_finds_nothing_in_flight_goes_on,
                }
                [lists] {
                    an_empty_list_is_done_at_once,
                    pages_that_moved_are_on_moved_in_their_order,
                    refused_pages_keep_their_order_among_those_that_moved,
                    pages_never_reached_stay_on_from_and_are_in_no_count,
                    the_pages_before_the_new_pages_run_out_move,
                    the_new_page_comes_from_the_tail,
                    a_refused_page_leaves_its_new_page_as_it_was,
                    a_page_to_retry_is_tried_in_every_pass,
                    a_page_freed_meanwhile_is_on_moved_and_uses_no_new_page,
                    a_freed_page_needs_no_new_page_at_all,
                    old_pages_that_nobody_wants_back_are_freed_by_the_run,
                    pages_that_stay_are_handed_back_where_those_that_move_are_not,
                    a_page_of_a_file_that_nobody_wants_back_is_freed_by_the_run,
                    a_page_freed_meanwhile_that_nobody_wants_back_is_gone,
                    a_page_that_stayed_moves_in_a_later_run,
                    every_page_is_told_one_last_outcome,
                    the_one_page_call_hands_the_old_page_back,
                    the_one_page_call_hands_both_pages_back_where_it_stayed,
                }
                [modes] {
                    a_page_lock_is_slept_for,
                    a_page_lock_that_opens_in_time_is_not_slept_for,
                    writeback_is_waited_for,
                }
                [batches] {
                    eight_pages_move_in_one_batch,
                    eight_pages_move_one_by_one,
                    batches_need_not_divide_the_pages,
                    a_batch_may_have_more_room_than_pages,
                    the_first_of_a_batch_stays_alone,
                    one_in_the_middle_of_a_batch_stays_alone,
                    the_last_of_a_batch_stays_alone,
                    shared_and_single_pages_move_together,
                    a_barrier_comes_between_the_entries_and_the_copy,
                    a_barrier_comes_between_the_entries_and_the_locks,
                    a_batch_has_two_barriers,
                    the_new_pages_lock_opens_before_the_old_ones,
                }
                [faults] {
                    a_reader_sleeps_and_wakes_on_the_new_page,
                    a_writer_sleeps_and_stores_to_the_new_page,
                    many_readers_all_wake,
                    readers_at_every_site_all_wake,
                    a_reader_of_a_file_sleeps_and_wakes_on_the_new_page,
                    waiters_of_a_page_that_stays_wake_on_the_old_page,
                    a_page_that_is_not_in_flight_is_not_waited_for,
                    a_thread_that_comes_before_the_locks_open_wakes,
                    waiters_wake_after_each_of_two_moves,
                }
                [readers_at_rest readers_before_the_flush readers_before_the_copy readers_before_the_freeze
                readers_before_the_restore readers_before_the_locks_open] {
                    munmap_of_one_of_several_sites_leaves_the_others,
                    the_exit_of_one_of_several_spaces_leaves_the_others,
                    mremap_takes_the_page_along,
                    mprotect_takes_write_permission_away,
                    fork_gives_the_child_the_page,
                    truncate_leaves_nothing_beyond_the_end,
                    munmap_leaves_nothing,
                }
                [flushes] {
                    a_store_once_the_copy_begins_is_not_lost,
                    a_load_after_the_move_sees_the_new_page,
                    a_store_after_the_move_goes_to_the_new_page,
                    a_store_before_the_barrier_is_copied,
                    a_flush_of_what_is_pending_reaches_every_cpu,
                    mprotect_of_a_page_in_flight_reaches_every_cpu,
                    munmap_of_a_page_in_flight_reaches_every_cpu,
                    fork_with_a_page_in_flight_reaches_every_cpu,
                    mremap_of_a_page_in_flight_reaches_every_cpu,
                }
                [stays] {
                    a_pinned_page_stays,
                    a_pinned_page_says_how_many_pins_it_has,
                    a_pinned_pages_entries_are_never_taken,
                    an_unpinned_page_moves_again,
                    a_page_somebody_holds_stays,
                    a_page_moves_once_its_holder_lets_go,
                    a_reference_taken_before_the_freeze_keeps_the_page,
                    a_page_on_a_bad_frame_stays_and_is_not_read,
                    an_mlocked_page_stays_in_2006_and_moves_today,
                    an_mlocked_site_among_several_keeps_all_of_them_as_they_were,
                    a_page_whose_file_forbids_it_stays,
                }
                [files] {
                    the_cache_holds_the_new_page_afterwards,
                    the_cache_holds_one_of_the_two_at_every_step,
                    a_refused_page_stays_in_the_cache,
                    a_page_of_a_file_that_nobody_maps_moves,
                    a_page_of_a_file_moves_at_every_site,
                    a_dirty_entry_stays_dirty,
                    a_dirty_page_stays_dirty,
                    a_clean_page_stays_clean,
                    a_dirty_page_that_is_refused_stays_dirty,
                    storage_is_not_touched_by_a_move,
                    buffers_move_along,
                    buffers_can_be_used_after_the_move,
                    a_busy_buffer_is_waited_for,
                    a_clean_page_without_a_mover_moves,
                    a_dirty_page_without_a_mover_is_written_in_2006_and_stays_today,
                    a_dirty_page_that_cannot_be_written_stays_dirty,
                }
                [swap] {
                    a_page_in_the_swap_cache_moves_with_its_contents,
                    a_page_in_the_swap_cache_keeps_its_slot,
                    a_page_in_the_swap_cache_has_one_slot_in_it,
                    entries_of_the_swap_cache_are_what_the_profile_says,
                    a_shared_page_in_the_swap_cache_moves_for_both_sides_of_a_fork,
                    a_store_after_the_move_goes_to_the_page,
                    a_refused_page_in_the_swap_cache_is_still_there,
                }
                [marks] {
                    flags_of_the_table_move,
                    flags_that_are_not_set_do_not_appear,
                    each_flag_moves_by_itself,
                    an_active_page_is_active_isolated_put_back_and_moved,
                    a_moved_page_is_up_to_date,
                    a_new_page_is_not_up_to_date_before_the_copy,
                    what_was_stored_is_remembered_as_dirty,
                    a_page_that_is_refused_stays_dirty,
                }
                [misuse] {
                    a_run_without_slots_touches_nothing,
                    a_run_that_would_sleep_and_may_not_touches_nothing,
                    a_light_run_that_would_sleep_and_may_not_touches_nothing,
                    a_new_page_that_somebody_has_locked_is_not_moved_to,
                    a_page_that_only_its_caller_holds_is_told_as_freed,
                    a_page_isolated_by_somebody_else_cannot_be_isolated,
                    a_run_over_no_pages_with_no_new_pages_is_nothing,
                }
                [failures_of_one_page failures_of_a_shared_page failures_of_a_batch failures_of_a_file failures_of_buffers] {
                    a_busy_page_lock_is_tried_again,
                    a_page_lock_that_is_always_busy_keeps_the_page_as_it_was,
                    one_failed_allocation_loses_nothing,
                    allocations_that_fail_from_the_first_lose_nothing,
                    a_mapping_limit_met_once_is_tried_again,
                    a_mapping_limit_keeps_the_page_as_it_was,
                    a_page_found_mapped_once_is_tried_again,
                    a_page_that_stays_mapped_is_as_it_was,
                    one_copy_error_is_final_and_leaves_nothing_behind,
                    copies_that_all_fail_leave_nothing_behind,
                    a_reference_gained_once_is_tried_again,
                    a_reference_gained_every_time_keeps_the_page_as_it_was,
                    a_slot_changed_once_is_tried_again,
                    a_slot_that_always_changes_keeps_the_page_as_it_was,
                }
                [failures] {
                    a_failure_at_any_step_loses_nothing,
                }
                [failures_in_mode_sync] {
                    an_anonymous_page_survives_every_failure,
                    a_shared_page_survives_every_failure,
                    a_page_in_the_swap_cache_survives_every_failure,
                    a_page_of_a_file_survives_every_failure,
                    a_page_with_buffers_survives_every_failure,
                    a_page_without_a_mover_survives_every_failure,
                    a_page_that_is_written_out_survives_every_failure,
                    a_page_that_somebody_has_locked_survives_every_failure,
                    a_page_with_a_busy_buffer_survives_every_failure,
                    a_page_cut_off_its_file_survives_every_failure,
                }
            }
            linux_2_6_17 {
                lists_of_2006 {
                    retries_vanish_when_the_new_pages_run_out_before_the_next_pass,
                    a_new_page_that_was_not_used_stays_linked_for_the_next,
                }
                modes_of_2006 {
                    the_first_pass_does_not_wait_for_writeback,
                }
                files_of_2006 {
                    a_page_that_could_not_be_written_is_dirty_again,
                }
                faults_of_2006 {
                    waiters_of_2006_hold_a_reference_each_until_they_wake,
                }
            }
            modern {
                failures_in_mode_async {
                    an_anonymous_page_survives_every_failure,
                    a_shared_page_survives_every_failure,
                    a_page_in_the_swap_cache_survives_every_failure,
                    a_page_of_a_file_survives_every_failure,
                    a_page_with_buffers_survives_every_failure,
                    a_page_without_a_mover_survives_every_failure,
                    a_page_that_is_written_out_survives_every_failure,
                    a_page_that_somebody_has_locked_survives_every_failure,
                    a_page_with_a_busy_buffer_survives_every_failure,
                    a_page_cut_off_its_file_survives_every_failure,
                }
                failures_in_mode_sync_light {
                    an_anonymous_page_survives_every_failure,
                    a_shared_page_survives_every_failure,
                    a_page_in_the_swap_cache_survives_every_failure,
                    a_page_of_a_file_survives_every_failure,
                    a_page_with_buffers_survives_every_failure,
                    a_page_without_a_mover_survives_every_failure,
                    a_page_that_is_written_out_survives_every_failure,
                    a_page_that_somebody_has_locked_survives_every_failure,
                    a_page_with_a_busy_buffer_survives_every_failure,
                    a_page_cut_off_its_file_survives_every_failure,
                }
                modes_of_today {
                    pages_move_in_mode_async,
                    pages_move_in_mode_sync_light,
                    pages_move_in_mode_sync,
                    pages_move_in_the_call_that_never_sleeps,
                    async_does_not_sleep_for_a_page_lock,
                    light_sleeps_for_a_page_lock,
                    async_does_not_wait_for_writeback,
                    light_does_not_wait_for_writeback,
                    no_lock_is_slept_for_while_another_is_held,
                }
                faults_of_today {
                    waiters_hold_no_reference,
                }
                files_of_today {
                    async_refuses_a_page_with_a_busy_buffer,
                }
                buffers_of_today {
                    a_buffer_busy_once_is_tried_again,
                }
            }
            // Scenarios that exist in both profiles, and in one.
            scenarios {
                batch_of_eight,
                buffers,
                buffers_busy,
                extra_reference,
                extra_reference_dropped,
                fault_in_the_middle,
                file_clean,
                file_dirty_with_a_mover,
                file_never_moves,
                fork_in_the_middle,
                freed_meanwhile,
                locked_by_another,
                new_pages_run_out,
                one_anonymous_page,
                pinned,
                protect_in_the_middle,
                remap_in_the_middle,
                swap_cache,
                three_spaces,
                three_spaces_of_a_file,
                truncated,
                truncated_in_the_middle,
                under_writeback,
                unmap_in_the_middle,
            }
            linux_scenarios {
                copy_fails,
                file_dirty_without_writepage,
                file_dirty_written_out,
                mlocked,
                nonlinear,
                nonlinear_young,
                truncated_with_buffers,
            }
            modern_scenarios {
                allocation_fails_at_page_2,
                buffers_busy_async,
                copy_fails,
                file_dirty_without_a_mover,
                file_dirty_without_writepage,
                locked_by_another_async,
                mlocked,
                truncated_with_buffers,
                under_writeback_sync_light,
            }
        }
    };
}
