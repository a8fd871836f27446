"""Breaks the library on purpose, one guarantee at a time, and sees whether the tests notice.

    python tests/mutants.py [NAME ...]     # all of them, or those whose name begins so
    python tests/mutants.py --list

Each mutant is a copy of the tree in which a few lines are wrong. The tests chosen for it pass on
an unbroken copy and have to fail on this one. Exits with 1 if one survives, or cannot be judged:
its text is not in the code any more, or its tests fail without it, or do not start with it.

The server is an embedded one, or the one that DATABASE_URL names.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from attrs import field, frozen

ROOT = Path(__file__).resolve().parent.parent
PARTS = ["registry", "sql", "lua", "migrations", "examples", "tests", "pyproject.toml"]
TIMEOUT = 180.0

LOG = "integration/test_log.py::"
SESSIONS = "integration/test_sessions.py::"
UPKEEP = "integration/test_upkeep.py::"
EPOCHS = "integration/test_epochs.py::"
CAUGHT = "integration/test_mutants_caught.py::"
PAYLOADS = "unit/test_payloads.py"
LIMITS = "integration/test_limits.py::"
PRIVILEGE = "integration/test_least_privilege.py::"
HOSTILE = "property/test_hostile_arguments.py::"
COMBINING = "unit/test_combining.py::"
APPENDS = "integration/test_combined_appends.py::"
GATHERING = "integration/test_gathering.py::"
SETTLING = "integration/test_settling.py::"
FORKS = "integration/test_fork_and_exit.py::"
BATCHES = "property/test_batches.py"
ARRAYS = "property/test_arrays.py::"
COMPRESSION = "integration/test_compression.py::"
STANDBY = "integration/test_standby.py::"
ROUND_TRIPS = "integration/test_round_trips.py::"
ZSTD = "unit/test_zstd.py::"
REPLAY = "unit/test_replay.py::"
PATHS = "unit/test_json_paths.py"
RUNS = "unit/test_runs.py::"
CACHE = "integration/test_cache.py::"
FAILURES = "integration/test_cache_failures.py::"
WAITED = LOG + "test_processes_that_waited_for_a_game_each_go_on_from_its_head"

Edit = tuple[str, str, str]
"""A file, the text in it, which is there exactly once, and what stands there instead."""


@frozen
class Mutant:
    """One break."""

    name: str
    breaks: str
    """The invariant (1 to 7) or the rule of the contract that no longer holds."""
    edits: Sequence[Edit]
    tests: Sequence[str] = field()
    """Tests of which at least one has to fail; all pass on the unbroken code."""


def mutant(name: str, breaks: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, breaks, [(file, old, new)], tests)


MUTANTS = [
    # 1: sequences are exactly 1..head, in commit order
    mutant(
        "append-reads-the-head-from-its-snapshot",
        "1",
        "sql/record_event.sql",
        "SET head = g.head + 1,",
        "SET head = (SELECT head FROM game WHERE game_id = %(game_id)s) + 1,",
        WAITED,
    ),
    mutant(
        "checked-append-reads-the-head-from-its-snapshot",
        "1",
        "sql/record_event_checked.sql",
        "SET head = g.head + 1,",
        "SET head = (SELECT head FROM game WHERE game_id = %(game_id)s) + 1,",
        WAITED,
    ),
    Mutant(
        "sequences-come-from-a-sequence",
        "1",
        [
            (
                "migrations/0001_registry_tables.sql",
                "CREATE TABLE game_event (",
                "CREATE SEQUENCE numbers; CREATE TABLE game_event (",
            ),
            (
                "sql/record_event.sql",
                "SET head = g.head + 1,",
                "SET head = nextval('numbers') + 1,",
            ),
            (
                "sql/record_event_checked.sql",
                "SET head = g.head + 1,",
                "SET head = nextval('numbers') + 1,",
            ),
        ],
        [LOG + "test_a_rollback_of_the_callers_transaction_leaves_nothing"],
    ),
    mutant(
        "append-skips-a-sequence",
        "1",
        "sql/record_event.sql",
        "SET head = g.head + 1,",
        "SET head = g.head + 2,",
        LOG + "test_sequences_begin_at_one_and_have_no_gap",
    ),
    mutant(
        "checked-append-skips-a-sequence",
        "1",
        "sql/record_event_checked.sql",
        "SET head = g.head + 1,",
        "SET head = g.head + 2,",
        LOG + "test_the_same_event_id_again_returns_the_first_ones_sequence",
    ),
    mutant(
        "block-takes-its-range-without-the-lock",
        "1",
        "sql/record_events.sql",
        "SET head = g.head + excluded.head,",
        "SET head = (SELECT head FROM game WHERE game_id = %(game_id)s) + excluded.head,",
        WAITED,
    ),
    mutant(
        "block-in-another-order",
        "1",
        "sql/record_events.sql",
        "generate_series(log.head - cardinality(%(payloads)s::bytea[]) + 1, log.head)",
        "generate_series(log.head, log.head - cardinality(%(payloads)s::bytea[]) + 1, -1)",
        LOG + "test_many_events_get_consecutive_sequences_in_their_order",
    ),
    mutant(
        "head-moves-though-nothing-is-recorded",
        "1",
        "sql/record_event_checked.sql",
        "WHERE coalesce(%(expected)s::bigint, g.head + 1) = g.head + 1",
        "WHERE true",
        LOG + "test_an_event_is_appended_only_at_the_expected_sequence",
    ),
    # 2: a returned event survives
    mutant(
        "durability-is-the-servers-default",
        "2",
        "sql/configure.sql",
        "WHEN 'off' THEN 'on'",
        "WHEN 'off' THEN 'off'",
        CAUGHT + "test_a_commit_is_durable_whatever_the_database_defaults_to",
    ),
    mutant(
        "events-are-not-in-the-wal",
        "2",
        "migrations/0001_registry_tables.sql",
        "CREATE TABLE game_event (",
        "CREATE UNLOGGED TABLE game_event (",
        CAUGHT + "test_what_was_returned_is_there_after_a_crash_of_the_server",
    ),
    # 3: acknowledgements and floors
    Mutant(
        "acknowledgement-falls",
        "3",
        [
            (
                "sql/acknowledge.sql",
                "SET last_acknowledged = greatest(s.last_acknowledged, %(sequence)s)",
                "SET last_acknowledged = %(sequence)s",
            ),
            ("sql/acknowledge.sql", "%(sequence)s > me.last_acknowledged AND", ""),
            (
                "sql/acknowledge.sql",
                "SELECT id, last_acknowledged FROM me WHERE %(sequence)s <= last_acknowledged",
                "SELECT id, last_acknowledged FROM me WHERE false",
            ),
        ],
        [LOG + "test_an_acknowledgement_moves_forward_only"],
    ),
    mutant(
        "acknowledgement-falls-in-a-race",
        "3",
        "sql/acknowledge.sql",
        "SET last_acknowledged = greatest(s.last_acknowledged, %(sequence)s)",
        "SET last_acknowledged = %(sequence)s",
        CAUGHT + "test_of_two_acknowledgements_that_wait_the_higher_one_stays",
    ),
    mutant(
        "floor-passes-a-live-player",
        "3",
        "sql/acknowledge.sql",
        "min(coalesce(mine.last_acknowledged, s.last_acknowledged))",
        "max(coalesce(mine.last_acknowledged, s.last_acknowledged))",
        LOG + "test_only_what_every_live_session_has_is_pruned",
    ),
    mutant(
        "prune-misses-a-session-begun-meanwhile",
        "3",
        "sql/acknowledge.sql",
        "WHERE locked.issued = log.issued AND",
        "WHERE",
        LOG + "test_a_session_begun_while_a_prune_waits_sees_all_that_is_left",
    ),
    mutant(
        "prune-gives-up-a-session-that-is-beating",
        "3",
        "sql/acknowledge.sql",
        "AND NOT EXISTS (SELECT FROM lapsed WHERE lapsed.id = s.id)",
        "AND s.expires_at > now()",
        LOG + "test_an_expired_session_whose_beat_is_under_way_still_holds_the_floor",
    ),
    mutant(
        "session-given-up-by-a-prune-comes-back",
        "3",
        "sql/acknowledge.sql",
        "SET closed = 'expired'",
        "SET closed = s.closed",
        LOG + "test_a_session_that_a_prune_stopped_waiting_for_cannot_come_back",
    ),
    mutant(
        "floor-rises-and-events-stay",
        "3",
        "sql/acknowledge.sql",
        "AND sequence <= (SELECT through FROM target)",
        "AND sequence < (SELECT through FROM target)",
        LOG + "test_only_what_every_live_session_has_is_pruned",
    ),
    mutant(
        "events-go-and-the-floor-stays",
        "3",
        "sql/acknowledge.sql",
        "SET floor = target.through",
        "SET floor = game.floor",
        LOG + "test_only_what_every_live_session_has_is_pruned",
    ),
    mutant(
        "acknowledged-beyond-the-head",
        "3",
        "sql/acknowledge.sql",
        "AND %(sequence)s <= (SELECT head FROM log)",
        "",
        LOG + "test_beyond_the_head_nothing_can_be_acknowledged",
    ),
    mutant(
        "operator-hides-an-event-that-is-there",
        "3",
        "sql/prune_events.sql",
        "SET floor = locked.through",
        "SET floor = locked.through + 1",
        LOG + "test_the_operator_prunes_whatever_anybody_acknowledged",
    ),
    mutant(
        "operator-lowers-the-floor",
        "3",
        "sql/prune_events.sql",
        "AND locked.through > locked.floor",
        "",
        LOG + "test_the_operator_prunes_whatever_anybody_acknowledged",
    ),
    mutant(
        "new-session-begins-at-zero",
        "3",
        "sql/issue_resume_token.sql",
        "%(token_hash)s, log.floor,",
        "%(token_hash)s, 0,",
        SESSIONS + "test_a_new_session_starts_acknowledged_at_the_floor",
    ),
    mutant(
        "takeover-forgets-the-acknowledgement",
        "3",
        "sql/issue_resume_token.sql",
        "s.generation + 1, s.last_acknowledged,",
        "s.generation + 1, excluded.last_acknowledged,",
        SESSIONS + "test_issuing_over_a_live_session_takes_it_over_and_keeps_the_acknowledgement",
    ),
    mutant(
        "retention-takes-young-events",
        "3",
        "sql/raise_floors.sql",
        "max(sequence) FILTER (WHERE past)",
        "max(sequence)",
        UPKEEP + "test_events_past_the_retention_go_acknowledged_or_not",
    ),
    mutant(
        "log-nobody-acknowledges-grows-for-ever",
        "3",
        "registry/log.py",
        "if head - floor <= cap + cap // 16:",
        "if head >= 0:",
        LOG + "test_a_log_nobody_acknowledges_stays_bounded",
    ),
    # 4: replays
    mutant(
        "replay-in-another-order",
        "4",
        "sql/fetch_events_since.sql",
        "ORDER BY sequence",
        "ORDER BY md5(sequence::text)",
        LOG + "test_a_page_is_what_follows_and_says_whether_more_does",
    ),
    mutant(
        "page-is-one-too-long",
        "4",
        "registry/reading.py",
        "return found and found.part(*position)",
        "return found",
        LOG + "test_a_page_is_what_follows_and_says_whether_more_does",
    ),
    mutant(
        "replay-repeats-an-event",
        "4",
        "sql/fetch_events_since.sql",
        "sequence > %(after)s AND",
        "sequence >= %(after)s AND",
        LOG + "test_a_page_is_what_follows_and_says_whether_more_does",
    ),
    mutant(
        "resume-replays-in-another-order",
        "4",
        "sql/resume.sql",
        "ORDER BY sequence",
        "ORDER BY md5(sequence::text)",
        LOG + "test_a_resume_goes_on_page_by_page",
    ),
    mutant(
        "resume-skips-the-first-event-left",
        "4",
        "sql/resume.sql",
        "ELSE log.floor END",
        "ELSE log.floor + 1 END",
        LOG + "test_continuity_says_how_the_clients_position_fits",
    ),
    mutant(
        "iterator-goes-on-in-another-epoch",
        "4",
        "registry/log.py",
        "game_id, event.sequence, epoch=page.epoch, limit=page_size",
        "game_id, event.sequence, limit=page_size",
        LOG + "test_a_game_begun_again_under_the_iterator_is_said",
    ),
    mutant(
        "iterator-passes-the-head-of-its-start",
        "4",
        "registry/log.py",
        "if event.sequence > end:",
        "if event.sequence > end + 1:",
        LOG + "test_the_iterator_ends_at_the_head_it_began_with",
    ),
    mutant(
        "pruned-history-is-skipped",
        "replay honesty",
        "registry/log.py",
        "if sequence < found.floor:",
        "if sequence < 0:",
        LOG + "test_history_that_is_gone_or_never_was_is_said_and_never_skipped",
    ),
    mutant(
        "position-ahead-is-taken-for-the-head",
        "replay honesty",
        "registry/log.py",
        "if sequence > found.head:\n            raise AheadOfLog(found.head)\n"
        "        if sequence < found.floor:",
        "if sequence < found.floor:",
        LOG + "test_history_that_is_gone_or_never_was_is_said_and_never_skipped",
    ),
    mutant(
        "epoch-is-not-compared",
        "replay honesty",
        "registry/log.py",
        "        if epoch is not None and epoch != found.epoch:",
        "        if epoch is None and found is None:",
        LOG + "test_the_wrong_epoch_is_said_before_the_position_in_it",
    ),
    mutant(
        "hole-is-not-looked-for",
        "replay honesty",
        "registry/runs.py",
        "if sequence != right:",
        "if sequence < right:",
        LOG + "test_a_hole_made_by_hand_is_said_and_never_skipped",
    ),
    mutant(
        "document-forgets-that-more-follows",
        "replay honesty",
        "registry/replay.py",
        "document.Standing(self.epoch, self.head, self.floor, self.more)",
        "document.Standing(self.epoch, self.head, self.floor, False)",
        LOG + "test_a_page_as_json_says_the_same_and_where_to_go_on",
    ),
    mutant(
        "document-says-to-go-on-from-the-head",
        "replay honesty",
        "registry/replay.py",
        "last = page.sequences[-1] if page.sequences else self.head",
        "last = self.head",
        LOG + "test_a_page_as_json_says_the_same_and_where_to_go_on",
    ),
    mutant(
        "times-all-those-of-the-first-event",
        "payload",
        "registry/replay.py",
        "if time != before:",
        "if not before:",
        REPLAY + "test_a_page_equals_one_that_is_put_together_by_hand",
    ),
    mutant(
        "page-is-decoded-anew-at-each-look",
        "payload",
        "registry/replay.py",
        'self.__dict__.setdefault("events", page.events())',
        "page.events()",
        REPLAY + "test_payloads_are_decoded_at_the_first_look_and_once",
    ),
    mutant(
        "damaged-payload-shows-in-the-error",
        "secrecy",
        "registry/replay.py",
        "_UNREADABLE: Final = ValueError, KeyError, RecursionError",
        "_UNREADABLE: Final = (ArithmeticError,)",
        REPLAY + "test_a_payload_that_was_damaged_is_said_and_not_shown",
    ),
    mutant(
        "acknowledged-in-another-epoch",
        "epoch",
        "sql/acknowledge.sql",
        "AND coalesce(%(epoch)s::uuid = (SELECT epoch FROM log), true)",
        "",
        EPOCHS + "test_the_epoch_is_told_at_the_beginning_and_taken_everywhere",
    ),
    mutant(
        "restored-dump-keeps-its-epochs",
        "epoch",
        "migrations/0001_registry_tables.sql",
        "uuid_send(id) || convert_to(xmin::text, 'UTF8')",
        "uuid_send(id)",
        EPOCHS + "test_a_dump_restored_over_its_own_database_has_other_epochs",
    ),
    mutant(
        "overlapping-retry-is-a-conflict",
        "event ids",
        "registry/writer.py",
        "attempt < ATTEMPTS and (append.event_id is not None or sequence == append.expected)",
        "attempt < ATTEMPTS and sequence == append.expected",
        LOG + "test_a_retry_that_waits_for_its_first_attempt_is_no_conflict",
    ),
    mutant(
        "gap-is-called-continuous",
        "replay honesty",
        "registry/resuming.py",
        "if self.after < floor:",
        "if self.after < 0:",
        LOG + "test_continuity_says_how_the_clients_position_fits",
    ),
    mutant(
        "log-begun-again-keeps-its-epoch",
        "epoch",
        "migrations/0001_registry_tables.sql",
        "epoch      uuid        NOT NULL DEFAULT gen_random_uuid(),",
        "epoch      uuid        NOT NULL DEFAULT '3b241101-e2bb-4255-8caf-4136c566a962',",
        LOG + "test_a_game_that_sessions_begin_again_is_another_log",
    ),
    mutant(
        "copied-database-keeps-its-epochs",
        "epoch",
        "sql/settle_lineage.sql",
        "IS DISTINCT FROM (here.system_identifier, here.database)",
        "IS DISTINCT FROM (lineage.system_identifier, lineage.database)",
        EPOCHS + "test_a_copy_of_the_database_has_other_epochs",
    ),
    # 5: generations and tokens
    mutant(
        "ghost-beats",
        "5",
        "sql/heartbeat.sql",
        "AND generation = coalesce(%(generation)s::bigint, generation)",
        "AND (generation = coalesce(%(generation)s::bigint, generation) OR true)",
        SESSIONS + "test_a_ghost_can_neither_beat_nor_acknowledge",
    ),
    mutant(
        "ghosts-beat",
        "5",
        "sql/heartbeat_many.sql",
        "AND s.generation = coalesce(beat.generation, s.generation)",
        "",
        SESSIONS + "test_a_ghost_can_neither_beat_nor_acknowledge",
    ),
    Mutant(
        "ghost-acknowledges",
        "5",
        [
            (
                "sql/acknowledge.sql",
                "AND generation = coalesce(%(generation)s::bigint, generation)",
                "AND (generation = coalesce(%(generation)s::bigint, generation) OR true)",
            ),
            (
                "sql/acknowledge.sql",
                "AND s.generation = coalesce(%(generation)s::bigint, s.generation)",
                "",
            ),
        ],
        [SESSIONS + "test_a_ghost_can_neither_beat_nor_acknowledge"],
    ),
    mutant(
        "ghost-acknowledges-after-waiting",
        "5",
        "sql/acknowledge.sql",
        "AND s.generation = coalesce(%(generation)s::bigint, s.generation)",
        "",
        SESSIONS + "test_a_ghosts_acknowledgement_that_waited_for_the_takeover_is_refused",
    ),
    mutant(
        "resume-leaves-the-generation",
        "5",
        "sql/resume.sql",
        "SET generation = s.generation + 1,",
        "SET generation = s.generation,",
        SESSIONS + "test_resuming_takes_over_beats_rotates_and_replays",
    ),
    mutant(
        "issue-leaves-the-generation",
        "5",
        "sql/issue_resume_token.sql",
        "SELECT s.id, s.generation + 1,",
        "SELECT s.id, s.generation,",
        SESSIONS + "test_issuing_again_makes_a_ghost_of_the_connection_before",
    ),
    mutant(
        "resume-after-the-expiry",
        "5",
        "sql/resume.sql",
        "AND s.closed IS NULL AND s.expires_at > now()",
        "AND s.closed IS NULL",
        SESSIONS + "test_a_session_lives_until_its_expiry_and_not_a_moment_longer",
    ),
    mutant(
        "resume-of-a-revoked-session",
        "5",
        "sql/resume.sql",
        "AND s.closed IS NULL AND s.expires_at > now()",
        "AND s.expires_at > now()",
        SESSIONS + "test_a_revoked_session_can_do_nothing_any_more",
    ),
    mutant(
        "beat-after-the-expiry",
        "5",
        "sql/heartbeat.sql",
        "AND closed IS NULL AND expires_at > now()",
        "AND closed IS NULL",
        SESSIONS + "test_a_session_lives_until_its_expiry_and_not_a_moment_longer",
    ),
    mutant(
        "beat-shortens-the-session",
        "5",
        "sql/heartbeat.sql",
        "greatest(expires_at, now() + ttl)",
        "now() + ttl",
        SESSIONS + "test_a_heartbeat_never_moves_the_expiry_back",
    ),
    mutant(
        "previous-token-never-retires",
        "5",
        "sql/resume.sql",
        "SELECT %(next_hash)s::bytea, s.token_hash,",
        "SELECT %(next_hash)s::bytea, coalesce(s.previous_token_hash, s.token_hash),",
        SESSIONS + "test_the_previous_token_retires_when_the_newest_is_first_used",
    ),
    Mutant(
        "lost-reply-loses-the-session",
        "token rotation",
        [
            (
                "sql/resume.sql",
                "OR sha256(s.previous_token_hash || %(nonce)s::bytea) = %(blinded)s::bytea)",
                ")",
            ),
            (
                "sql/validate_resume_token.sql",
                "OR sha256(s.previous_token_hash || %(nonce)s::bytea) = %(blinded)s::bytea",
                "",
            ),
        ],
        [SESSIONS + "test_a_lost_reply_costs_nothing_the_same_new_token_comes_again"],
    ),
    mutant(
        "twin-rotates-again",
        "token rotation",
        "sql/resume.sql",
        "SELECT s.token_hash, s.previous_token_hash, s.token_salt, s.retired_token_hashes",
        "SELECT %(next_hash)s::bytea, s.previous_token_hash, %(salt)s::bytea,"
        " s.retired_token_hashes",
        SESSIONS + "test_a_lost_reply_costs_nothing_the_same_new_token_comes_again",
    ),
    mutant(
        "retired-tokens-are-not-remembered",
        "token rotation",
        "sql/resume.sql",
        "ELSE (s.previous_token_hash || s.retired_token_hashes)[:8] END",
        "ELSE s.retired_token_hashes END",
        SESSIONS + "test_a_token_used_after_its_successor_was_is_reuse_and_revokes",
    ),
    mutant(
        "forged-token-counts-as-reuse",
        "token rotation",
        "sql/validate_resume_token.sql",
        "THEN 'displaced'",
        "THEN 'displaced' ELSE 'retired'",
        SESSIONS + "test_a_forged_token_can_revoke_nobody",
    ),
    mutant(
        "reuse-always-revokes",
        "token rotation",
        "registry/sessions.py",
        'if standing == "retired" and self.config.on_token_reuse == "revoke":',
        'if standing == "retired":',
        SESSIONS + "test_by_configuration_reuse_is_refused_and_changes_nothing",
    ),
    mutant(
        "token-displaced-by-a-login-counts-as-stolen",
        "token rotation",
        "registry/sessions.py",
        'if standing == "retired" and self.config',
        'if standing in ("retired", "displaced") and self.config',
        SESSIONS + "test_a_login_elsewhere_after_a_lost_reply_does_not_make_a_thief_of_the_player",
    ),
    mutant(
        "tokens-are-stored",
        "token rotation",
        "registry/tokens.py",
        "return sha256(self.secret).digest()",
        "return self.secret",
        SESSIONS + "test_only_the_hash_of_a_token_is_stored",
    ),
    # 6: no deadlocks, nobody waits for the upkeep
    mutant(
        "beats-lock-in-the-order-of-the-ids",
        "6",
        "sql/heartbeat_many.sql",
        "ORDER BY s.game_id, s.user_id",
        "ORDER BY s.game_id, s.id",
        CAUGHT + "test_beats_of_many_lock_in_the_order_of_the_players",
    ),
    mutant(
        "end-locks-sessions-in-any-order",
        "6",
        "sql/end_game.sql",
        "ORDER BY s.user_id",
        "ORDER BY s.user_id DESC",
        CAUGHT + "test_the_end_of_a_game_locks_its_sessions_in_the_order_of_the_players",
    ),
    mutant(
        "acknowledgement-locks-its-session-before-the-game",
        "6",
        "sql/acknowledge.sql",
        "AND (SELECT count(*) FROM locked) >= 0",
        "",
        CAUGHT + "test_an_acknowledgement_that_prunes_locks_the_game_before_the_session",
    ),
    Mutant(
        "end-does-not-wait-for-appends",
        "6",
        [
            ("sql/lock_game.sql", "FOR UPDATE", ""),
            ("sql/end_game.sql", "AND g.head = log.head AND g.issued = log.issued", ""),
        ],
        [CAUGHT + "test_an_append_under_way_when_all_else_is_deleted_leaves_no_orphan"],
    ),
    mutant(
        "end-takes-the-next-game-for-the-one-it-locked",
        "6",
        "sql/end_game.sql",
        "AND g.head = log.head AND g.issued = log.issued",
        "",
        CAUGHT + "test_an_end_that_found_no_game_to_lock_does_not_half_end_the_next_one",
    ),
    mutant(
        "cleanup-waits-for-sessions",
        "6",
        "sql/cleanup_expired_sessions.sql",
        "FOR UPDATE SKIP LOCKED",
        "FOR UPDATE",
        UPKEEP + "test_a_session_that_another_transaction_holds_is_passed_over",
    ),
    mutant(
        "cleanup-waits-for-games",
        "6",
        "sql/claim_aged_games.sql",
        "FOR UPDATE SKIP LOCKED",
        "FOR UPDATE",
        UPKEEP + "test_a_game_that_another_transaction_holds_is_passed_over",
    ),
    mutant(
        "cleanup-waits-for-event-ids",
        "6",
        "sql/cleanup_event_ids.sql",
        "FOR UPDATE SKIP LOCKED",
        "FOR UPDATE",
        UPKEEP + "test_an_event_id_that_another_transaction_holds_is_passed_over",
    ),
    mutant(
        "prune-waits-for-expired-sessions",
        "6",
        "sql/acknowledge.sql",
        "FOR NO KEY UPDATE OF s SKIP LOCKED",
        "FOR NO KEY UPDATE OF s",
        LOG + "test_an_expired_session_whose_beat_is_under_way_still_holds_the_floor",
    ),
    # Appends and beats of many threads done together
    mutant(
        "batch-numbers-are-off-by-one",
        "1",
        "registry/writer.py",
        "followers += range(size - 1, -1, -1)",
        "followers += range(size, 0, -1)",
        APPENDS
        + "test_appends_of_a_batch_are_one_transaction_and_each_gets_its_own_events_sequence",
    ),
    mutant(
        "batch-in-another-order",
        "1",
        "registry/writer.py",
        "followers += range(size - 1, -1, -1)",
        "followers += range(size)",
        APPENDS
        + "test_appends_of_a_batch_are_one_transaction_and_each_gets_its_own_events_sequence",
    ),
    mutant(
        "answers-of-a-batch-go-to-the-wrong-calls",
        "1",
        "registry/writer.py",
        "for call in reversed(calls):",
        "for call in calls:",
        APPENDS
        + "test_appends_of_a_batch_are_one_transaction_and_each_gets_its_own_events_sequence",
    ),
    mutant(
        "batch-moves-the-head-too-far",
        "1",
        "sql/record_batch_checked.sql",
        "SET head = g.head + added.events,",
        "SET head = g.head + added.events + 1,",
        BATCHES,
    ),
    mutant(
        "batch-waits-for-a-locked-game",
        "6",
        "sql/record_batch.sql",
        "FOR NO KEY UPDATE OF g SKIP LOCKED",
        "FOR NO KEY UPDATE OF g",
        APPENDS + "test_a_locked_game_delays_nothing_of_its_batch",
    ),
    mutant(
        "checked-batch-waits-for-a-locked-game",
        "6",
        "sql/record_batch_checked.sql",
        "FOR NO KEY UPDATE OF g SKIP LOCKED",
        "FOR NO KEY UPDATE OF g",
        APPENDS + "test_a_locked_game_delays_nothing_of_its_batch",
    ),
    mutant(
        "batch-forgets-its-event-ids",
        "event ids",
        "sql/record_batch_checked.sql",
        "WHERE taken AND event_id IS NOT NULL",
        "WHERE taken AND event_id IS NOT NULL AND false",
        APPENDS + "test_appends_of_every_kind_share_a_batch",
        BATCHES,
    ),
    mutant(
        "batch-knows-event-ids-of-other-games",
        "event ids",
        "sql/record_batch_checked.sql",
        "WHERE k.game_id = sent.game_id AND k.event_id = sent.event_id",
        "WHERE k.event_id = sent.event_id",
        APPENDS + "test_appends_of_every_kind_share_a_batch",
    ),
    mutant(
        "known-event-of-a-batch-is-answered-with-the-next-sequence",
        "event ids",
        "sql/record_batch_checked.sql",
        "SELECT number, 'known', known, floor FROM event",
        "SELECT number, 'known', head + 1, floor FROM event",
        BATCHES,
    ),
    mutant(
        "twins-are-judged-in-one-statement",
        "event ids",
        "registry/writer.py",
        "(first if seen.isdisjoint(names) else twins).append(call)",
        "first.append(call)",
        APPENDS + "test_appends_of_every_kind_share_a_batch",
    ),
    mutant(
        "twin-is-told-the-sequence-it-expected",
        "record_event",
        "registry/writer.py",
        "following[call.key, expected] = sequence + 1",
        "following[call.key, expected] = sequence",
        APPENDS + "test_appends_of_every_kind_share_a_batch",
        BATCHES,
    ),
    mutant(
        "hole-before-an-expected-sequence-is-ignored",
        "record_event",
        "sql/record_batch_checked.sql",
        "expected > head AND expected = head + count(*)\n"
        "               FILTER (WHERE expected > head) OVER (PARTITION BY place ORDER BY number)"
        " AS taken",
        "expected > head AS taken",
        APPENDS + "test_appends_of_every_kind_share_a_batch",
        BATCHES,
    ),
    mutant(
        "expecting-appends-of-a-batch-come-last",
        "record_event",
        "registry/writer.py",
        "first.sort(key=lambda call: (call.job.expected is None, call.job.expected or 0))",
        "first.sort(key=lambda call: (call.job.expected is not None, call.job.expected or 0))",
        APPENDS + "test_appends_of_every_kind_share_a_batch",
    ),
    mutant(
        "event-that-is-refused-fails-its-batch",
        "record_event",
        "registry/writer.py",
        "except (Refused, InvalidArgument):",
        "except InvalidArgument:",
        APPENDS + "test_an_event_that_the_server_refuses_fails_alone",
    ),
    mutant(
        "broken-batch-gives-up-what-has-an-id",
        "event ids",
        "registry/writer.py",
        "if call.job.event_id is None:\n                    call.error = own(error)",
        "if True:\n                    call.error = own(error)",
        SETTLING + "test_a_batch_that_cannot_be_settled_says_so_to_each_call_without_an_id",
    ),
    # exactly once, though the connection breaks
    mutant(
        "broken-append-is-repeated-without-asking",
        "exactly once",
        "registry/database.py",
        "answer = self._ask(query, receipt, until, if_unknown)",
        "answer = None",
        SETTLING + "test_an_append_alone_is_done_once_whatever_was_lost",
        SETTLING + "test_a_batch_is_done_once_whatever_was_lost",
    ),
    mutant(
        "settling-lets-the-straggler-pass",
        "exactly once",
        "sql/settle_statement.sql",
        "SET statement = greatest(r.statement, excluded.statement),",
        "SET statement = r.statement,",
        SETTLING
        + "test_an_append_that_still_waits_for_a_lock_elsewhere_is_refused_when_it_gets_it",
    ),
    mutant(
        "straggler-does-not-look-whether-it-was-settled",
        "exactly once",
        "sql/record_event.sql",
        "CASE WHEN r.statement < excluded.statement THEN excluded.statement END",
        "excluded.statement",
        SETTLING + "test_an_append_alone_is_done_once_whatever_was_lost",
    ),
    mutant(
        "straggler-looks-in-its-old-snapshot",
        "exactly once",
        "sql/record_events.sql",
        "CASE WHEN r.statement < excluded.statement THEN excluded.statement END",
        "CASE WHEN (SELECT statement FROM statement_receipt WHERE id = excluded.id)"
        " < excluded.statement THEN excluded.statement END",
        SETTLING
        + "test_an_append_that_still_waits_for_a_lock_elsewhere_is_refused_when_it_gets_it",
    ),
    mutant(
        "batch-straggler-does-not-look-whether-it-was-settled",
        "exactly once",
        "sql/record_batch.sql",
        "CASE WHEN r.statement < excluded.statement THEN excluded.statement END",
        "excluded.statement",
        SETTLING + "test_a_batch_is_done_once_whatever_was_lost",
    ),
    mutant(
        "receipt-is-not-written-in-the-appends-own-transaction",
        "exactly once",
        "sql/record_event.sql",
        "WHERE %(receipt)s::uuid IS NOT NULL",
        "WHERE %(receipt)s::uuid IS NULL AND false",
        SETTLING + "test_an_append_alone_is_done_once_whatever_was_lost",
    ),
    mutant(
        "answer-is-that-of-another-statement",
        "exactly once",
        "sql/settle_statement.sql",
        "CASE WHEN r.statement = excluded.statement THEN r.answer END",
        "r.answer",
        SETTLING + "test_an_append_alone_is_done_once_whatever_was_lost",
    ),
    mutant(
        "ended-game-is-not-noted",
        "exactly once",
        "sql/end_game.sql",
        "    FROM ended\n    ON CONFLICT",
        "    FROM ended WHERE false\n    ON CONFLICT",
        SETTLING + "test_a_game_is_ended_once_and_the_next_of_its_name_is_left_alone",
    ),
    mutant(
        "cleanup-forgets-receipts-in-use",
        "exactly once",
        "sql/cleanup_receipts.sql",
        "WHERE r.used_at < %(as_of)s - greatest(make_interval(secs => %(retention)s), '1 day')",
        "WHERE %(as_of)s - greatest(make_interval(secs => %(retention)s), '1 day') < now()",
        SETTLING + "test_the_cleanup_forgets_receipts_that_nobody_uses_and_no_others",
    ),
    mutant(
        "two-statements-use-one-receipt-at-once",
        "exactly once",
        "registry/receipts.py",
        "return self._unused.pop()",
        "return self._unused[-1]",
        SETTLING + "test_there_are_as_many_receipts_as_statements_at_once_and_no_more",
    ),
    mutant(
        "epoch-is-the-same-for-all-games-of-a-receipt",
        "epochs",
        "sql/record_event.sql",
        "md5(%(receipt)s::uuid::text || %(statement)s::bigint)::uuid",
        "md5(%(receipt)s::uuid::text || (%(statement)s::bigint * 0))::uuid",
        SETTLING + "test_games_begun_with_a_receipt_have_epochs_of_their_own",
    ),
    mutant(
        "dead-connections-are-tried-one-by-one",
        "retries",
        "registry/preparation.py",
        "self._distrusted.update(self._settled)",
        "pass",
        SETTLING + "test_dead_connections_of_the_pool_do_not_use_up_a_calls_tries",
    ),
    mutant(
        "calls-that-were-passed-over-are-dropped",
        "record_event",
        "registry/combining.py",
        "self._waiting[key] = batch[key] + self._waiting.get(key, [])",
        "self._waiting[key] = self._waiting.get(key, [])",
        COMBINING
        + "test_a_key_passed_over_delays_no_other_and_comes_again_at_last_alone_and_patient",
    ),
    mutant(
        "calls-that-were-passed-over-come-after-later-ones",
        "record_event",
        "registry/combining.py",
        "self._waiting[key] = batch[key] + self._waiting.get(key, [])",
        "self._waiting[key] = self._waiting.get(key, []) + batch[key]",
        COMBINING
        + "test_a_key_passed_over_delays_no_other_and_comes_again_at_last_alone_and_patient",
    ),
    mutant(
        "who-goes-on-from-an-interrupted-thread-takes-a-call-up-twice",
        "record_event",
        "registry/combining.py",
        "elif calls[-1] is not call:",
        "else:",
        COMBINING + "test_wherever_a_thread_is_interrupted_it_loses_nobody_elses_call",
    ),
    mutant(
        "all-writers-wait-for-locks",
        "6",
        "registry/combining.py",
        "may_wait = self._behind_locks < MOST_WRITERS - 1",
        "may_wait = self._behind_locks < MOST_WRITERS",
        COMBINING + "test_writers_behind_locks_are_never_all_of_them",
    ),
    mutant(
        "two-writers-take-one-key",
        "record_event",
        "registry/combining.py",
        "free = [key for key in self._waiting if key not in self._writing]",
        "free = list(self._waiting)",
        COMBINING + "test_a_key_is_never_in_two_batches_at_once",
    ),
    mutant(
        "batch-without-a-bound",
        "record_event",
        "registry/combining.py",
        "if room > 0:",
        "if room is not None:",
        COMBINING + "test_a_batch_is_no_heavier_than_the_bound_and_one_call_more",
    ),
    mutant(
        "flood-of-one-key-goes-first",
        "record_event",
        "registry/combining.py",
        "rest = self._waiting.pop(key)[len(calls) :]",
        "rest = self._waiting[key][len(calls) :]",
        COMBINING + "test_keys_that_had_no_turn_come_first_in_the_next_batch",
    ),
    mutant(
        "withdrawn-call-is-done-all-the-same",
        "RegistryUnavailable",
        "registry/combining.py",
        "del self._waiting[call.key]",
        "pass",
        COMBINING + "test_a_call_withdrawn_at_its_deadline_is_never_done",
    ),
    mutant(
        "room-is-not-bounded",
        "RegistryUnavailable",
        "registry/combining.py",
        "while self._held >= self._most_waiting and not self._closed:",
        "while False:",
        COMBINING + "test_who_finds_no_room_is_refused_at_its_deadline_and_never_done",
    ),
    mutant(
        "waiter-that-left-holds-up-those-behind-it",
        "RegistryUnavailable",
        "registry/combining.py",
        "pause = min(2 * pause, 0.2)",
        "pause = 1000.0",
        COMBINING + "test_an_interrupted_waiter_delays_those_behind_it_by_no_more_than_a_moment",
    ),
    mutant(
        "interrupted-call-is-done-all-the-same",
        "RegistryUnavailable",
        "registry/combining.py",
        "except BaseException:  # interrupted: if it was not begun, it never is\n"
        "            self._withdraw(call)",
        "except BaseException:",
        COMBINING + "test_a_waiter_interrupted_before_it_was_begun_never_is",
    ),
    mutant(
        "child-uses-its-parents-connections",
        "fork",
        "registry/api.py",
        "registry._database.pool.refuse(why)",
        "pass",
        FORKS + "test_a_forked_child_is_told_to_open_a_registry_of_its_own_and_its_parent_goes_on",
    ),
    mutant(
        "array-begins-at-zero",
        "arrays",
        "registry/arrays.py",
        "self._item_oid, self._length, 1)",
        "self._item_oid, self._length, 0)",
        ARRAYS + "test_an_array_is_the_one_that_psycopg_sends",
    ),
    mutant(
        "text-of-an-array-is-always-utf-8",
        "arrays",
        "registry/arrays.py",
        "item.encode(to)",
        "item.encode()",
        ARRAYS + "test_an_encoding_changed_later_holds_from_then_on",
    ),
    mutant(
        "ghost-beats-in-company",
        "5",
        "sql/heartbeat_batch.sql",
        "AND s.generation = coalesce(beat.generation, s.generation)",
        "",
        GATHERING + "test_who_may_not_beat_is_told_why_and_the_others_of_its_batch_beat",
    ),
    mutant(
        "calls-of-one-session-share-an-answer",
        "5",
        "registry/gathering.py",
        "            for call in calls:\n                call.left_alone = call.answer is None",
        "            for call in calls:\n                call.answer = calls[0].answer\n"
        "                call.left_alone = call.answer is None",
        GATHERING + "test_who_may_not_beat_is_told_why_and_the_others_of_its_batch_beat",
        GATHERING + "test_who_may_not_resume_is_told_why_and_changes_nothing_for_the_others",
    ),
    mutant(
        "answers-of-a-gathering-go-to-the-wrong-calls",
        "5",
        "registry/gathering.py",
        "sent[place - 1].answer = tuple(row)",
        "sent[-place].answer = tuple(row)",
        GATHERING + "test_each_beat_of_a_batch_is_answered_with_its_own_session",
    ),
    mutant(
        "beats-wait-for-a-locked-session",
        "6",
        "sql/heartbeat_batch.sql",
        "FOR NO KEY UPDATE OF s SKIP LOCKED",
        "FOR NO KEY UPDATE OF s",
        GATHERING + "test_a_locked_session_delays_no_other_of_its_batch",
    ),
    mutant(
        "forged-token-resumes-in-company",
        "token rotation",
        "sql/resume_batch.sql",
        "WHERE (sha256(s.token_hash || asked.nonce) = asked.blinded\n"
        "           OR sha256(s.previous_token_hash || asked.nonce) = asked.blinded)\n"
        "      AND s.closed",
        "WHERE s.closed",
        GATHERING + "test_who_may_not_resume_is_told_why_and_changes_nothing_for_the_others",
    ),
    mutant(
        "resume-in-company-begins-at-the-floor",
        "4",
        "sql/resume_batch.sql",
        "THEN wanted.after ELSE log.floor END",
        "THEN log.floor ELSE log.floor END",
        GATHERING + "test_each_resume_of_a_batch_has_its_own_session_token_and_page",
    ),
    mutant(
        "acknowledgement-in-company-falls",
        "3",
        "sql/acknowledge_batch.sql",
        "AND asked.sequence > s.last_acknowledged",
        "",
        GATHERING + "test_what_a_batch_may_not_acknowledge_is_refused_and_what_can_be_pruned_is",
    ),
    mutant(
        "ghost-acknowledges-in-company",
        "5",
        "sql/acknowledge_batch.sql",
        "AND s.generation = coalesce(asked.generation, s.generation)",
        "",
        GATHERING + "test_what_a_batch_may_not_acknowledge_is_refused_and_what_can_be_pruned_is",
    ),
    mutant(
        "acknowledgement-in-company-never-prunes",
        "acknowledge",
        "sql/acknowledge_batch.sql",
        "AND other.last_acknowledged <= log.floor)",
        ")",
        GATHERING + "test_what_a_batch_may_not_acknowledge_is_refused_and_what_can_be_pruned_is",
    ),
    # The rules of the methods
    mutant(
        "expected-sequence-is-ignored",
        "record_event",
        "registry/writer.py",
        'params["expected"] = optional_int8(append.expected)',
        'params["expected"] = None',
        LOG + "test_an_event_is_appended_only_at_the_expected_sequence",
    ),
    mutant(
        "event-id-is-ignored",
        "record_event",
        "registry/writer.py",
        'params["event_id"] = append.event_id',
        'params["event_id"] = None',
        LOG + "test_the_same_event_id_again_returns_the_first_ones_sequence",
    ),
    mutant(
        "event-id-counts-in-other-games",
        "record_event",
        "sql/record_event_checked.sql",
        "WHERE game_id = %(game_id)s AND event_id = %(event_id)s::uuid",
        "WHERE event_id = %(event_id)s::uuid",
        LOG + "test_an_event_id_belongs_to_its_game",
    ),
    mutant(
        "event-id-is-pruned-with-its-event",
        "record_event",
        "sql/prune_events.sql",
        "raised AS (",
        "forgotten AS (DELETE FROM game_event_id AS i USING locked\n"
        "              WHERE i.game_id = %(game_id)s AND i.sequence <= locked.through),\n"
        "raised AS (",
        LOG + "test_an_event_id_is_remembered_after_its_event_was_pruned",
    ),
    mutant(
        "event-id-outlives-its-game",
        "record_event",
        "sql/end_game.sql",
        "DELETE FROM game_event_id WHERE game_id = %(game_id)s",
        "DELETE FROM game_event_id WHERE game_id = %(game_id)s AND false",
        LOG + "test_an_event_id_of_an_ended_game_is_forgotten_with_it",
    ),
    mutant(
        "race-for-an-event-id-is-an-error",
        "record_event",
        "registry/database.py",
        "    errors.UniqueViolation: ATTEMPTS,\n",
        "",
        LOG + "test_two_first_uses_of_an_event_id_that_overlap_are_one_event",
    ),
    mutant(
        "largest-payload-is-refused",
        "payload",
        "registry/payloads.py",
        "if len(data) > limit:",
        "if len(data) >= limit:",
        LOG + "test_the_largest_payload_is_taken_and_one_byte_more_is_not",
    ),
    Mutant(
        "nan-is-taken",
        "payload",
        [
            ("registry/payloads.py", "if not isfinite(value):", "if value is None:"),
            ("registry/jsontext.py", "allow_nan=False", "allow_nan=True"),
        ],
        [PAYLOADS],
    ),
    mutant(
        "bytes-come-back-as-json",
        "payload",
        "registry/payloads.py",
        "return data if codec == RAW else",
        "return",
        PAYLOADS,
    ),
    mutant(
        "nan-becomes-null",
        "payload",
        "registry/payloads.py",
        "(kind is float and isfinite(item))",
        "kind is float",
        PATHS,
    ),
    mutant(
        "parts-there-many-times-are-written-out",
        "payload",
        "registry/payloads.py",
        "left[0] -= 1 + len(items)",
        "left[0] -= 0",
        PAYLOADS + "::test_a_part_that_is_there_many_times_counts_each_time",
    ),
    mutant(
        "subclass-speaks-for-itself",
        "payload",
        "registry/payloads.py",
        "_check(list(dict.values(value)), depth, limit, left)",
        "_check(list(value.values()), depth, limit, left)",
        PAYLOADS + "::test_a_subclass_is_taken_for_what_it_holds",
    ),
    mutant(
        "sessions-are-counted-without-the-lock",
        "limits",
        "registry/sessions.py",
        "lock = None if unlimited else queries.lock_issue",
        "lock = None",
        LIMITS + "test_however_many_games_a_player_enters_at_once_it_gets_into_as_many_as_it_may",
    ),
    mutant(
        "sessions-are-counted-in-an-old-snapshot",
        "limits",
        "sql/issue_resume_token.sql",
        "OR (g.epoch, g.issued) = (SELECT epoch, issued FROM seen)",
        "OR true",
        LIMITS + "test_a_game_begun_under_the_call_is_counted_again",
    ),
    mutant(
        "a-full-game-shuts-its-own-players-out",
        "limits",
        "sql/issue_resume_token.sql",
        "SELECT closed IS NULL AND expires_at > now()",
        "SELECT false AND expires_at > now()",
        LIMITS + "test_taking_over_ones_own_live_session_is_never_refused",
    ),
    mutant(
        "grant-gives-events-away",
        "least privilege",
        "sql/grant.sql",
        "(4, 'SELECT, INSERT, DELETE',",
        "(4, 'SELECT, INSERT, UPDATE, DELETE',",
        PRIVILEGE + "test_what_a_registry_never_does_the_role_may_not",
    ),
    mutant(
        "text-is-checked-by-its-own-word",
        "arguments",
        "registry/arguments.py",
        "return str.__str__(value) if issubclass(type(value), str) else None",
        "return value if isinstance(value, str) else None",
        HOSTILE + "test_each_odd_value_in_each_place_is_refused_or_taken",
    ),
    mutant(
        "accelerator-has-its-own-way-with-subclasses",
        "payload",
        "registry/payloads.py",
        "if not _check(payload, DEEPEST, limit, [limit]):",
        "if _check(payload, DEEPEST, limit, [limit]) is None:",
        PATHS,
    ),
    mutant(
        "accelerator-turns-keys-into-text",
        "payload",
        "registry/payloads.py",
        "if not _KEYS.issuperset(map(type, items)):",
        "if not items:",
        PATHS,
    ),
    mutant(
        "accelerators-no-is-the-last-word",
        "payload",
        "registry/jsontext.py",
        "            return _loads(data)",
        "            raise ValueError from None",
        PATHS,
    ),
    mutant(
        "compressed-though-it-grows",
        "compression",
        "registry/storage.py",
        "if len(smaller) < len(data) else",
        "if smaller else",
        COMPRESSION + "test_what_gets_smaller_is_compressed_and_what_does_not_is_not",
    ),
    mutant(
        "limit-counts-compressed-bytes",
        "compression",
        "registry/storage.py",
        "encode(payload, self._config.max_payload_bytes)",
        "encode(payload, 2**31)",
        COMPRESSION + "test_the_limit_is_on_the_payload_before_it_is_compressed",
    ),
    mutant(
        "bytes-and-json-are-confused-when-expanded",
        "compression",
        "registry/zstd.py",
        "return (codec & 1,",
        "return (1,",
        COMPRESSION + "test_what_gets_smaller_is_compressed_and_what_does_not_is_not",
    ),
    mutant(
        "dictionary-of-another-number",
        "compression",
        "registry/storage.py",
        "{1 + number: Zstd.by(content) for number, content in rows}",
        "{2 + number: Zstd.by(content) for number, content in rows}",
        COMPRESSION + "test_who_was_open_before_the_dictionary_reads_by_it",
    ),
    mutant(
        "unseen-dictionary-is-not-looked-for",
        "compression",
        "registry/storage.py",
        "if numbers := [scheme - 1 for scheme in wanted - {1}]:",
        "if numbers := []:",
        COMPRESSION + "test_who_was_open_before_the_dictionary_reads_by_it",
    ),
    mutant(
        "dictionary-is-fetched-for-every-page",
        "compression",
        "registry/storage.py",
        "if unseen := {scheme for scheme in wanted if scheme not in self._schemes}:",
        "if unseen := wanted:",
        ROUND_TRIPS
        + "test_compression_asks_once_for_the_newest_dictionary_and_once_for_each_unseen",
    ),
    mutant(
        "newest-dictionary-on-another-connection",
        "compression",
        "registry/storage.py",
        "if connection is None:",
        "if True:",
        COMPRESSION + "test_the_first_to_compress_needs_no_second_connection",
    ),
    mutant(
        "training-changes-a-dictionary",
        "compression",
        "sql/add_dictionary.sql",
        "coalesce(max(id), 0) + 1, %(content)s\nFROM payload_dictionary",
        "1, %(content)s\nFROM (SELECT) AS one\n"
        "ON CONFLICT (id) DO UPDATE SET content = excluded.content",
        COMPRESSION + "test_dictionaries_stay_and_the_newest_is_written_by",
    ),
    mutant(
        "row-is-believed-whatever-it-claims",
        "compression",
        "registry/zstd.py",
        "if claimed <= LARGEST_MESSAGE:",
        "if claimed >= 0:",
        ZSTD + "test_what_a_row_claims_beyond_any_payload_is_not_believed",
    ),
    mutant(
        "threads-share-a-compressor",
        "compression",
        "registry/zstd.py",
        "class Zstd(threading.local):",
        "class Zstd:",
        ZSTD + "test_each_thread_has_a_compressor_of_its_own",
    ),
    mutant(
        "dictionaries-go-under-compressed-rows",
        "compression",
        "migrations/0003_registry_payload_dictionary.rollback.sql",
        "WHERE codec > 1",
        "WHERE codec > 100",
        COMPRESSION + "test_the_schema_is_not_taken_back_under_compressed_events",
    ),
    mutant(
        "rollback-leaves-the-copy-of-the-events",
        "partition",
        "migrations/0001_registry_tables.rollback.sql",
        "EXECUTE format('DROP TABLE IF EXISTS %s.game_event_next', home);",
        "",
        "integration/test_partitioning.py::"
        "test_the_events_take_their_conversion_with_them_when_they_are_rolled_back",
    ),
    mutant(
        "pipeline-ends-with-a-flush",
        "poolers",
        "registry/statements.py",
        "        pipeline.__class__ = _Pipeline\n",
        "",
        "integration/test_pooler.py::test_nothing_is_sent_behind_the_end_of_a_transaction",
    ),
    mutant(
        "look-at-the-layout-holds-partitions",
        "partitioning",
        "sql/partitioning/table.sql",
        "SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid",
        "SELECT relid FROM pg_partition_tree(c.oid)",
        "integration/test_partitioning.py::test_who_only_looks_holds_no_partition",
    ),
    mutant(
        "revoked-session-holds-the-floor",
        "revoke_session",
        "sql/acknowledge.sql",
        "        WHERE s.game_id = %(game_id)s AND s.closed IS NULL\n          AND NOT EXISTS",
        "        WHERE s.game_id = %(game_id)s\n          AND NOT EXISTS",
        LOG + "test_a_revoked_session_does_not_hold_the_floor",
    ),
    mutant(
        "cleanup-takes-young-sessions",
        "cleanup_expired_sessions",
        "sql/cleanup_expired_sessions.sql",
        "WHERE expires_minute <= %(as_of)s AND expires_at <= %(as_of)s",
        "WHERE expires_minute <= %(as_of)s + interval '1 hour'",
        UPKEEP + "test_expired_sessions_go_and_live_and_young_ones_stay",
    ),
    mutant(
        "retention-deletes-out-of-order",
        "cleanup_expired_sessions",
        "sql/raise_floors.sql",
        "OVER (ORDER BY sequence) AS past",
        "OVER (PARTITION BY sequence) AS past",
        UPKEEP + "test_only_a_prefix_goes_though_the_clock_went_back",
    ),
    mutant(
        "cleanup-without-a-bound",
        "cleanup_expired_sessions",
        "sql/cleanup_event_ids.sql",
        "LIMIT %(batch_size)s",
        "LIMIT %(batch_size)s + 1000000",
        UPKEEP + "test_no_statement_of_a_cleanup_deletes_more_than_a_batch",
    ),
    mutant(
        "event-ids-are-kept-for-ever",
        "cleanup_expired_sessions",
        "registry/cleaning.py",
        "self._counted(queries.cleanup_event_ids)",
        "()",
        UPKEEP + "test_an_event_id_is_forgotten_with_the_retention_and_not_before",
    ),
    mutant(
        "empty-games-stay",
        "cleanup_expired_sessions",
        "sql/raise_floors.sql",
        "WHERE through = head AND head_at",
        "WHERE through > head AND head_at",
        UPKEEP + "test_a_game_with_nothing_left_goes_when_idle_for_the_retention",
    ),
    mutant(
        "sweep-goes-beyond-the-floor",
        "3",
        "sql/sweep_events.sql",
        "AND sequence <= held.floor",
        "",
        UPKEEP + "test_events_past_the_retention_go_acknowledged_or_not",
    ),
    mutant(
        "sweep-keeps-appends-waiting",
        "cleanup_expired_sessions",
        "sql/sweep_events.sql",
        "FOR KEY SHARE OF g",
        "FOR UPDATE OF g",
        UPKEEP + "test_an_append_to_a_game_that_is_being_swept_does_not_wait",
    ),
    mutant(
        "sweep-of-the-next-log",
        "3",
        "sql/sweep_events.sql",
        "WHERE coalesce(g.epoch = wanted.epoch, true)",
        "",
        UPKEEP + "test_a_sweep_for_an_ended_log_leaves_the_next_one_alone",
    ),
    mutant(
        "rows-below-the-floor-are-forgotten",
        "cleanup_expired_sessions",
        "sql/raise_floors.sql",
        "WHEN judged.unswept",
        "WHEN false",
        UPKEEP + "test_a_cleanup_that_died_in_a_sweep_leaves_no_hole_and_the_next_goes_on",
    ),
    mutant(
        "games-end-over-rows-that-are-left",
        "3",
        "sql/raise_floors.sql",
        "AND NOT unswept",
        "",
        UPKEEP + "test_a_game_does_not_end_before_its_rows_are_gone",
    ),
    mutant(
        "rows-below-the-floor-are-looked-for-once-only",
        "cleanup_expired_sessions",
        "sql/raise_floors.sql",
        "ELSE EXISTS (",
        "ELSE false AND EXISTS (",
        UPKEEP + "test_what_another_raised_the_floor_over_meanwhile_is_swept_too",
    ),
    # 7: the replay cache
    mutant(
        "known-events-of-another-epoch-are-used",
        "7",
        "registry/reading.py",
        "bool(known.epoch == standing[0] and known.end <= standing[1])",
        "bool(known.end <= standing[1])",
        CACHE + "test_a_game_ended_elsewhere_is_dropped_when_it_is_next_read",
    ),
    mutant(
        "known-events-past-the-head-are-used",
        "7",
        "registry/reading.py",
        "bool(known.epoch == standing[0] and known.end <= standing[1])",
        "bool(known.epoch == standing[0])",
        CACHE + "test_a_run_that_does_not_belong_there_is_never_answered",
    ),
    mutant(
        "part-of-a-run-is-one-too-long",
        "7",
        "registry/runs.py",
        "stop = skip + most",
        "stop = skip + most + 1",
        RUNS + "test_a_part_is_the_events_after_a_sequence_and_no_more",
    ),
    mutant(
        "part-of-a-shared-page-begins-one-too-late",
        "7",
        "registry/runs.py",
        "evolve(self, run=run.part(after, most))",
        "evolve(self, run=run.part(after + 1, most))",
        RUNS + "test_a_part_of_what_was_found_is_right_wherever_it_begins",
    ),
    mutant(
        "page-of-a-gap-is-cut-short",
        "7",
        "registry/resuming.py",
        "return page if whole else None",
        "return page",
        CACHE + "test_a_gap_is_answered_by_a_whole_page",
    ),
    mutant(
        "damaged-runs-are-read",
        "7",
        "registry/runs.py",
        "if zlib.crc32(body) != checksum:",
        "if checksum < 0:",
        CACHE + "test_garbage_is_answered_rightly_and_dropped",
    ),
    mutant(
        "fill-leaves-a-hole",
        "7",
        "lua/fill.lua",
        "first > top + 1)",
        "first > top + 2)",
        CACHE + "test_a_run_behind_a_hole_takes_the_place_of_what_was_there",
    ),
    mutant(
        "trim-goes-one-too-far",
        "replay cache",
        "lua/trim.lua",
        "> floor then",
        "> floor + 1 then",
        CACHE + "test_a_trim_takes_whole_runs_and_none_that_is_needed",
    ),
    mutant(
        "redis-is-never-tried-again",
        "replay cache",
        "registry/breaker.py",
        "            self._try_again_at = now + REST\n            return True",
        "            return False",
        FAILURES + "test_a_redis_that_is_back_is_asked_by_every_call_again",
    ),
    mutant(
        "closed-cache-keeps-the-connection-in-use",
        "replay cache",
        "registry/cache.py",
        "            if self._closed:  # meanwhile: nobody else would close this one\n"
        "                self._drop_idle()\n",
        "",
        FAILURES + "test_a_connection_in_use_when_the_cache_is_closed_is_closed_behind_its_call",
    ),
    mutant(
        "standby-of-another-epoch-is-believed",
        "4",
        "sql/fetch_events_standby.sql",
        "(SELECT mark FROM lineage_mark)) = asked.epoch",
        "(SELECT mark FROM lineage_mark)) IS NOT NULL",
        STANDBY + "test_a_game_begun_again_is_never_mixed_with_the_old_one",
    ),
    mutant(
        "promoted-standby-is-believed",
        "4",
        "sql/fetch_events_standby.sql",
        "SELECT pg_is_in_recovery(), asked.place",
        "SELECT true, asked.place",
        STANDBY + "test_the_primary_itself_is_no_standby",
    ),
    mutant(
        "paused-standby-has-the-last-word",
        "4",
        "registry/reading.py",
        "        if lacking:\n",
        "        if False:\n",
        STANDBY + "test_what_a_paused_standby_lacks_the_primary_sends",
    ),
    mutant(
        "kept-epoch-has-no-witness",
        "4",
        "registry/reading.py",
        "if run and self._witnessed:",
        "if False:",
        STANDBY + "test_with_epochs_kept_through_failovers_the_last_event_is_compared",
    ),
    mutant(
        "statements-are-planned-anew",
        "partitioning",
        "sql/configure.sql",
        "       set_config('plan_cache_mode', 'force_generic_plan', %(local)s),\n",
        "",
        "integration/test_layouts.py::test_a_connection_plans_each_statement_once",
    ),
    mutant(
        "frozen-standby-is-waited-for",
        "standby",
        "registry/standby.py",
        "return max(self._until - monotonic(), 0.0)",
        "return super()._patience()",
        STANDBY + "test_a_frozen_standby_is_left_alone_and_used_again_when_it_thaws",
    ),
    mutant(
        "callers-read-pool-is-left-changed",
        "standby",
        "registry/lease.py",
        "restore(connection, *self._before)",
        "pass",
        STANDBY + "test_a_callers_own_pool_is_given_back_as_it_was",
    ),
    mutant(
        "standby-shows-what-is-not-committed",
        "4",
        "registry/runs.py",
        "min(self.head, run.begin + most) - run.end",
        "run.begin + most - run.end",
        STANDBY + "test_what_only_the_standby_shows_has_not_happened_yet",
    ),
]


@frozen
class Verdict:
    """What became of one mutant."""

    mutant: Mutant
    caught: bool
    by: str
    """The test that failed, or why there is no verdict."""
    seconds: float


def copy_tree(to: Path) -> Path:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, to / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(source, to / part)
    return to


def run_tests(tree: Path, tests: Sequence[str], *options: str) -> tuple[int, str]:
    """pytest's exit code and its report, on the library in that tree."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
    command += ["-rfE", *options, *(f"tests/{test}" for test in tests)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end within {TIMEOUT:g} s"
    return done.returncode, done.stdout + done.stderr


def failed(report: str) -> list[str]:
    """The tests that failed, as they were selected."""
    return re.findall(r"^FAILED tests/(\S+)", report, re.MULTILINE)


def missing_text(mutants: Sequence[Mutant]) -> list[str]:
    """The mutants whose text is not in the code exactly once."""
    return [
        f"{mutant.name}: {file} has {found} times {old!r}"
        for mutant in mutants
        for file, old, _ in mutant.edits
        if (found := (ROOT / file).read_text(encoding="utf-8").count(old)) != 1
    ]


def judge(mutant: Mutant) -> Verdict:
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = copy_tree(Path(folder))
        for file, old, new in mutant.edits:
            path = tree / file
            path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        code, report = run_tests(tree, mutant.tests, "--exitfirst")
    seconds = time.monotonic() - begin
    if code == 0:
        return Verdict(mutant, False, "SURVIVES", seconds)
    # A statement that PostgreSQL does not even parse says nothing about the tests.
    unparsed = re.search(r"SQLSTATE 42\w{3}|SyntaxError|NameError|ImportError", report)
    if code != 1 or unparsed or not failed(report):
        last = report.strip().splitlines()[-1:]
        why = unparsed[0] if unparsed else " ".join(last)
        return Verdict(mutant, False, f"NOT JUDGED: {why}", seconds)
    return Verdict(mutant, True, failed(report)[0].split("::")[-1], seconds)


def check_unbroken(mutants: Sequence[Mutant]) -> list[str]:
    """The selected tests that fail on the code as it is."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        code, report = run_tests(copy_tree(Path(folder)), tests)
    if code == 0:
        return []
    return failed(report) or report.strip().splitlines()[-5:]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="how a name begins")
    parser.add_argument("--list", action="store_true", help="only name them")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (%(default)s)")
    options = parser.parse_args(arguments)
    names = options.names or [""]
    mutants = [m for m in MUTANTS if any(m.name.startswith(name) for name in names)]
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name:52} {mutant.breaks}")
        return 0
    if not mutants:
        parser.error("there is no such mutant")
    faults = missing_text(mutants)
    with ExitStack() as stack:
        if "DATABASE_URL" not in os.environ:
            sys.path.insert(0, str(ROOT))
            from registry import EmbeddedPostgres

            server = stack.enter_context(EmbeddedPostgres(settings={"max_connections": 300}))
            os.environ["DATABASE_URL"] = server.conninfo
        if not faults:
            faults = [f"fails without any mutant: {test}" for test in check_unbroken(mutants)]
        if faults:
            print(*faults, sep="\n")
            return 1
        print(f"{'mutant':52} {'breaks':25} {'s':>4}  caught by")
        survivors = 0
        with ThreadPoolExecutor(options.jobs) as pool:
            for verdict in pool.map(judge, mutants):
                mutant = verdict.mutant
                print(
                    f"{mutant.name:52} {mutant.breaks:25} {verdict.seconds:4.0f}  {verdict.by}",
                    flush=True,
                )
                survivors += not verdict.caught
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
