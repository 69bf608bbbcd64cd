//! What the store promises, asked of both databases.
//!
//! PostgreSQL is the server in `PULSE_TEST_POSTGRES_URL`, whose user may create databases: each test makes one
//! and drops it. Without the variable those tests say so and pass.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod accounts;
mod claims;
mod copy;
mod deliveries;
mod faults;
mod image;
mod journal;
mod kit;
mod mails;
mod reads;
mod retention;
mod samples;
mod schema;

macro_rules! promises {
    ($($module:ident: $($name:ident)*;)*) => {
        mod sqlite {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    $crate::kit::on_sqlite($crate::$module::$name).await;
                })*
            })*
        }

        mod postgres {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    $crate::kit::on_postgres($crate::$module::$name).await;
                })*
            })*
        }
    };
}

promises! {
    journal:
        numbers_have_no_gap_under_concurrent_homes
        a_home_hears_of_its_submissions_in_order
        what_is_confirmed_is_seen_by_others
        of_several_writes_of_a_row_the_last_counts
        a_row_deleted_and_written_again_is_there
        removing_an_agent_takes_what_hangs_on_it
        removing_a_device_a_channel_and_a_rule
        a_restarted_journal_goes_on_at_the_head
        closing_commits_what_waits_and_refuses_the_rest
        a_full_queue_hands_back_and_takes_those_who_wait
        a_commit_is_counted;
    faults:
        a_refused_row_leaves_nothing_of_its_batch
        a_conflict_fails_its_home_alone
        a_failed_home_takes_nothing_more
        two_lives_of_an_org_cannot_both_write
        numbers_that_do_not_follow_are_refused
        an_unknown_org_is_refused
        a_lost_connection_is_unavailable_and_comes_back;
    image:
        a_loaded_org_is_what_was_written
        unknown_orgs_have_no_image
        an_image_has_the_latest_scans_and_open_commands_only
        secrets_are_sealed_in_the_tables
        a_channel_of_an_unknown_kind_is_left_out
        a_load_waits_for_a_commit_in_doubt;
    reads:
        events_are_paged_by_number
        events_are_read_by_time_and_name
        orgs_with_unfinished_business_are_woken
        commands_are_paged_newest_first
        a_database_answers_a_ping;
    deliveries:
        deliveries_are_listed_newest_first_by_filter
        attempts_are_in_order
        due_deliveries_come_with_their_event
        an_ended_delivery_is_due_no_more
        what_is_due_comes_with_what_waits_of_its_resource
        deliveries_are_found_by_everything_they_are_listed_with;
    mails:
        of_one_key_each_address_gets_one_mail
        a_mail_for_members_is_written_with_its_cause_one_row_for_each
        an_org_is_welcomed_in_the_transaction_that_makes_it
        what_a_mail_says_is_sealed_and_what_it_is_can_be_listed
        two_who_claim_at_once_share_no_mail
        a_mail_is_taken_over_when_its_claim_has_ended_and_the_late_one_changes_nothing
        a_refused_address_is_suppressed_for_its_org_alone
        a_replayed_mail_is_due_again_and_one_that_changed_is_left
        a_strict_mail_is_held_until_it_ends_or_its_sender_fell;
    retention:
        ended_mails_go_and_unfinished_ones_stay
        old_events_go_and_the_newest_stays
        an_unfinished_delivery_keeps_its_event_and_what_follows
        an_alert_that_is_still_to_be_told_keeps_its_event
        pruning_in_batches_of_one_ends
        ended_logins_go;
    accounts:
        an_agent_comes_in_by_its_key_and_for_a_while_by_the_one_before
        a_session_lasts_until_its_end
        a_token_is_good_until_its_end
        bootstrap_is_idempotent
        rotation_replaces_password_and_token
        orgs_of_one_name_get_slugs_of_their_own
        two_bootstraps_at_once_make_one_org
        a_status_set_from_outside_is_noticed_and_a_homes_write_is_not;
    claims:
        each_claim_begins_the_next_epoch_of_its_shards_alone
        all_shards_are_claimed_at_once
        two_nodes_claiming_everything_do_not_block_each_other
        a_claim_whose_caller_hung_up_ends_in_order
        the_current_epoch_may_write_and_an_earlier_one_may_not
        a_shard_that_nobody_claimed_takes_nothing
        a_fenced_home_fails_alone
        a_claim_waits_for_a_transaction_in_flight;
    copy:
        a_copy_has_everything_and_goes_on
        no_table_is_left_behind
        a_target_with_rows_is_refused_and_left_alone
        a_target_without_tables_is_refused;
    schema:
        migrations_go_up_down_and_up
        two_may_migrate_at_once;
}
