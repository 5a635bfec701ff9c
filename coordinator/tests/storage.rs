//! The storage contract: the same cases on both back ends, a fresh database each.

mod storage {
    pub mod access;
    pub mod advances;
    pub mod archive;
    pub mod claims;
    pub mod comparisons;
    pub mod durability;
    pub mod families;
    pub mod foreign;
    pub mod harness;
    pub mod lost;
    pub mod model;
    pub mod opening;
    pub mod regions;
    pub mod schedules;
    pub mod starts;
    pub mod studies;
    pub mod transfer;
    pub mod trials;
    pub mod workers;
}

use storage::harness::Db;

/// Emits one test per case and back end, so that a failure names both.
macro_rules! conformance {
    ($($module:ident: $($case:ident)*;)*) => {
        mod sqlite {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::storage::$module::$case(crate::Db::sqlite().await).await;
                })*
            })*
        }
        mod postgres {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::storage::$module::$case(crate::Db::postgres().await).await;
                })*
            })*
        }
    };
}

conformance! {
    access:
        a_token_is_created_once_and_revoked_once
        names_are_unique_among_tokens_in_force
        the_use_of_a_token_never_goes_back
        a_deed_is_stored_with_its_change
        old_deeds_are_forgotten_by_age_and_number;
    studies:
        the_same_request_creates_one_study
        the_same_request_at_two_coordinators_creates_one_study
        another_study_cannot_take_the_name
        a_preparing_study_has_an_open_describe_job
        states_change_only_as_allowed
        a_repeated_change_of_state_succeeds
        a_new_budget_is_a_new_configuration
        cancelling_ends_waiting_and_running_trials
        preparing_ends_in_one_transaction
        a_preparation_can_be_repeated
        a_preparation_keeps_a_budget_that_was_changed_meanwhile
        a_failed_preparation_fails_the_study
        a_lost_preparation_is_refused
        deleting_a_study_deletes_everything_in_it
        ids_are_never_used_again
        attributes_are_kept_byte_for_byte
        studies_are_listed_in_pages;
    archive:
        an_archived_study_refuses_every_write_and_comes_back_as_what_it_was
        an_archive_forgets_requests_and_attempts_without_a_result_alone;
    advances:
        starts_and_ends_of_one_step_are_stored_as_told
        a_step_from_a_revision_that_is_gone_changes_nothing
        a_request_that_started_trials_starts_no_more_in_a_step
        a_step_starts_queue_entries_and_leases_beside_fresh_trials;
    regions:
        a_configuration_that_lost_two_workers_is_in_quarantine
        two_lost_workers_make_a_region_that_other_studies_heed
        a_machine_that_went_down_makes_a_region
        a_machine_that_went_down_takes_back_what_another_runs_now
        crashes_that_are_alike_make_a_region
        what_was_measured_beyond_it_refutes_an_incident
        a_late_result_ends_the_quarantine
        a_person_ends_the_quarantine
        a_region_that_is_deleted_leaves_nothing;
    schedules:
        a_schedule_is_kept_and_changes_at_any_time
        workers_lease_no_more_trials_at_once_than_they_may
        concurrent_starts_stay_within_the_limit
        an_ended_lease_waits_for_room_too
        it_is_noted_when_a_worker_was_served;
    starts:
        numbers_and_turns_are_dense
        the_same_request_starts_the_same_trials
        a_repeated_start_gives_its_lease_while_it_holds
        the_same_request_enqueues_the_same_trials
        a_taken_turn_is_refused
        a_taken_number_is_refused
        a_waiting_trial_is_popped
        a_waiting_trial_is_popped_once
        a_queue_entry_is_not_started_as_a_fresh_trial
        only_active_studies_start_trials
        ended_studies_take_no_queue_entries
        parameters_survive_bit_for_bit
        equal_distributions_are_stored_once_and_shared
        concurrent_starts_take_each_turn_once;
    trials:
        a_trial_ends_exactly_once
        an_identical_end_can_be_repeated
        values_survive_bit_for_bit
        complete_without_values_is_allowed
        a_waiting_trial_cannot_end
        a_leased_trial_needs_its_token
        a_forged_token_is_refused
        the_first_report_of_a_step_counts
        a_repeated_report_after_the_end_gets_its_verdict
        steps_may_be_any_float
        a_cancelled_trial_is_ended_for_everybody
        every_change_of_a_trial_takes_a_revision
        an_oversized_detail_is_refused_and_stderr_is_cut
        a_hopeless_queue_entry_ends_before_its_start
        trials_are_filtered_by_state_and_number;
    claims:
        a_lease_that_runs_is_not_handed_out
        an_expired_lease_is_handed_out_again
        a_new_attempt_begins_without_steps
        an_expired_holder_may_finish_until_the_next_claim
        a_stale_attempt_is_refused_and_its_data_kept
        a_late_result_that_equals_the_stored_one_is_kept_too
        a_repeated_claim_gives_the_same_lease
        what_a_claim_gave_is_told_while_the_lease_holds
        nothing_is_handed_out_within_a_gap_in_service
        a_trial_lost_by_two_workers_ends_as_worker_lost
        a_trial_lost_too_often_ends_as_worker_lost
        a_released_lease_is_claimable_at_once_and_does_not_count
        releasing_can_be_repeated
        heartbeats_renew_and_take_no_revision
        heartbeats_tell_of_lost_and_ended_leases
        reports_renew_the_lease
        paused_studies_hand_out_running_trials
        cancelled_studies_hand_out_nothing
        the_reaper_ends_trials_at_their_limit
        a_describe_job_is_handed_out_again
        the_oldest_trial_is_handed_out_first;
    transfer:
        a_copy_of_either_kind_is_the_same_and_goes_on
        a_backup_is_made_under_load_and_restored;
    workers:
        a_worker_that_returns_keeps_its_first_registration
        leases_that_are_not_named_end_at_once
        a_rebooted_host_ends_its_trials_as_host_crash
        a_rebooted_host_keeps_the_results_it_names
        a_rebooted_host_ends_lost_trials_too
        a_released_trial_survives_a_reboot
        without_boot_ids_nobody_crashed
        draining_is_told_by_heartbeat
        what_a_worker_holds_is_told_until_it_is_lost_or_over
        an_unknown_worker_is_told_so
        a_worker_keeps_its_token_while_that_is_in_force;
    comparisons:
        a_comparison_confirms_the_study
        creating_a_comparison_can_be_repeated
        rounds_are_stored_once_and_in_order
        the_stderr_of_each_cell_is_cut
        the_next_attempt_goes_on_after_the_last_round
        the_end_of_a_comparison_finishes_the_study
        a_comparison_may_end_with_the_search_going_on
        leaving_confirming_closes_the_comparison
        a_lost_comparison_is_refused;
    foreign:
        a_client_writes_its_trial_fact_by_fact
        a_trial_is_brought_whole
        many_trials_are_brought_at_once_or_not_at_all
        a_study_gets_a_name_that_is_free
        marks_are_those_above_an_id_and_those_named
        a_queue_entry_goes_to_one_client
        clients_of_several_processes_write_to_one_study
        a_trial_with_many_steps_is_written_on
        a_study_that_is_gone_takes_no_facts
        a_held_trial_may_go_back_into_the_queue
        an_incompatible_parameter_leaves_nothing
        ended_and_leased_trials_refuse_clients
        a_silent_trial_is_failed_unless_it_was_written_to;
    families:
        a_child_is_made_once_for_each_class
        a_child_takes_no_name_of_another_study
        only_an_active_parent_gets_children
        a_parent_has_no_trials
        a_parent_is_deleted_with_its_children;
    durability:
        a_restart_finds_everything
        another_store_catches_up_by_revision
        a_caller_that_goes_away_does_not_stop_its_write
        what_was_acknowledged_survives_a_kill
        many_writers_share_transactions
        ids_become_visible_in_increasing_order
        the_clock_never_runs_backwards;
    opening:
        a_newer_schema_is_refused
        opening_twice_at_once_works
        the_first_schema_is_brought_up_to_date;
}
