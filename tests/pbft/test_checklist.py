"""The checklist: what every PBFT has to get right, and the tests that show that this one does.

`s6` are mistakes that were found in other people's implementations, `s8` what must hold whatever
anybody does.  A test named `test_s8_06_...`, in any room, belongs to rule s8_06; where a test has a
name of its own, its rule names it here.  This file sees to it that no rule goes without.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent

#: Each rule in a few words, and the tests of it that stand elsewhere under another name.
RULES: dict[str, tuple[str, ...]] = {
    # --- mistakes of others ---
    "s6_01": (
        "2f+1 is no quorum where n is not 3f+1",
        "pbft/test_quorum.py::test_known_values",
    ),
    "s6_02": ("a restart repeats what it may have said, and never chooses anew",),
    "s6_03": ("a restart in the middle of a view change is still on its way there",),
    "s6_04": (
        "a torn tail of the log repairs itself",
        "disk/test_database.py::test_a_torn_tail_of_the_wal_is_cut_to_whole_transactions",
        "pbft/test_found_by_simulation.py::"
        "test_a_crash_between_the_records_of_a_view_change_is_no_trap",
    ),
    "s6_05": (
        "what a new view starts with has one definition, for who makes it and who checks it",
        "pbft/test_view_change.py::test_a_new_view",
        "pbft/test_view_change.py::test_s8_07_every_replica_recomputes_what_must_follow",
    ),
    "s6_06": (
        "too few view changes after a partition are sent again; commits count while waiting",
        "pbft/test_found_by_simulation.py::test_members_that_ask_for_different_views_meet_again",
    ),
    "s6_07": ("checkpoints are of what was executed; what is above the watermark is kept",),
    "s6_08": ("f+1 or a quorum of checkpoints must be equal, not merely many",),
    "s6_09": (
        "catching up: no stale votes, restarts, any order, peers that fall back",
        "pbft/test_catchup.py::test_a_source_that_falls_back_is_left",
    ),
    "s6_10": ("nothing executes twice, nobody is censored by it, old requests accuse nobody",),
    "s6_11": ("a faulty origin's conflicting or partial requests change no view",),
    "s6_12": (
        "reads block no ordered requests",
        "api/test_routes.py::test_a_linearizable_read_orders_a_barrier_first",
    ),
    "s6_13": ("who is not heard complains to all; the next primary starts with a whole timer",),
    "s6_14": ("a primary that restarts goes on with what it had begun",),
    "s6_15": ("f+1 that moved on are evidence enough: no timer of one's own is needed",),
    "s6_16": (
        "floods of far future sequences and views have a bounded place",
        "pbft/test_early.py::test_a_flooding_sender_only_loses_its_own",
    ),
    "s6_17": (
        "the same vote signed again is no equivocation",
        "pbft/test_pool.py::test_a_bundle_signed_again_is_the_same_bundle",
    ),
    "s6_18": ("the whole cluster loses power, and comes back",),
    # --- quorums and votes ---
    "s8_01": (
        "f and quorum for every n: two quorums meet in a correct member",
        "pbft/test_quorum.py::test_known_values",
    ),
    "s8_02": (
        "one vote a member, for exactly one configuration, view, sequence and digest",
        "pbft/test_certificates.py::test_votes_that_prove_nothing",
        "pbft/test_certificates.py::test_commits_that_prove_nothing",
        "pbft/test_log.py::test_commits_of_two_views_do_not_add_up",
        "pbft/test_replica.py::test_commits_count_once_per_member_and_conflicts_are_noticed",
    ),
    "s8_03": (
        "digests are computed; the primary alone proposes, and once for a sequence",
        "wire/test_messages.py::test_a_batch_is_its_content",
        "wire/test_messages.py::test_a_proposal_holds_the_batch_that_it_names",
    ),
    "s8_04": (
        "prepared is the pre-prepare and quorum - 1 prepares of others",
        "pbft/test_certificates.py::test_a_prepared_certificate",
    ),
    "s8_05": (
        "what comes early is kept within a bound per sender",
        "pbft/test_early.py::test_bytes_are_bounded_too",
    ),
    # --- view changes ---
    "s8_06": ("one view change moves nobody, f+1 move all, a new view needs a quorum",),
    "s8_07": ("what a new view starts with is recomputed by everybody, holes and all",),
    "s8_08": ("a view change with a flaw is refused whole, and its sender noted",),
    "s8_09": ("a body that is lacking is fetched, never invented, and stops no view",),
    "s8_10": (
        "timers double; the oldest request's age decides, also just under the timer; no faulty"
        " member chooses whom it is held against, and a slow cluster settles",
        "pbft/test_suspicion.py::test_patience_doubles_and_is_bounded",
        "pbft/test_suspicion.py::test_the_oldest_request_decides",
    ),
    "s8_11": ("a new view is given to who missed it, and to who comes back",),
    "s8_12": ("a view change during a view change, and during state transfer",),
    # --- durability ---
    "s8_13": (
        "written before it is said, for everything that counts",
        "disk/test_database.py::test_what_was_acknowledged_survives_kill_9",
        "replication/test_performer.py::test_sends_before_a_persist_go_at_once_and_those_after_it_wait",
    ),
    "s8_14": (
        "who forgot votes for nothing that it may have voted on; a second self, or an old one, is"
        " known by its links and by its later bundles, and not before those are seen",
        "test_node.py::test_a_damaged_database_is_set_aside_and_rebuilt_from_the_others",
        "net/test_links.py::test_the_own_key_at_the_other_end_is_an_alarm",
    ),
    "s8_15": (
        "applied and remembered as applied are one transaction, and part of the state",
        "disk/test_database.py::test_a_transaction_that_fails_leaves_nothing_and_is_the_last",
        "knowledge/test_machine.py::"
        "test_the_root_binds_time_revision_origins_and_every_kept_version",
    ),
    # --- checkpoints and state transfer ---
    "s8_16": (
        "a quorum of equal roots is stable; who differs stops, says so, and starts anew",
        "disk/test_database.py::test_a_state_that_differs_from_the_agreed_one_is_set_aside",
    ),
    "s8_17": (
        "what is fetched is proven, sources rotate, a liar costs little, hashes have domains",
        "pbft/test_catchup.py::test_a_source_that_drips_is_left_when_its_time_is_up",
        "knowledge/test_merkle.py::test_nothing_hashed_as_one_thing_passes_for_another",
    ),
    "s8_18": (
        "the window holds everybody, and who is behind it fetches",
        "pbft/test_replica.py::test_a_member_that_was_cut_off_catches_up_with_certificates",
    ),
    # --- reconfiguration ---
    "s8_25": (
        "a change takes effect at one place, votes name their configuration, the chain of which"
        " leads from the genesis to today",
        "pbft/test_reconfiguration.py::test_who_is_removed_votes_no_more_and_takes_nothing_in",
        "pbft/test_reconfiguration.py::"
        "test_what_waited_when_the_configuration_ended_is_ordered_in_the_next_one",
        "pbft/test_succession.py::test_whoever_executes_the_last_batch_can_show_who_follows",
        "pbft/test_lineage.py::test_a_liar_is_not_believed_and_not_asked_again",
        "test_proof.py::test_none_is_left_out_repeated_or_put_elsewhere",
    ),
    # --- execution ---
    "s8_19": (
        "the same everywhere: no clock, no chance, no order of sets, equal failures",
        "test_tidy.py::test_rule_is_kept",
        "knowledge/test_machine.py::test_the_root_of_a_known_history_is_pinned",
        "sim/test_simulation.py::test_a_run_does_not_depend_on_the_order_of_sets_and_dicts",
        "wire/test_codec.py::test_cbor2_writes_the_same_bytes_and_reads_the_same_value",
    ),
    "s8_20": (
        "a request executes once, whatever is repeated",
        "pbft/test_pool.py::test_a_bundle_is_taken_once_and_refused_after_execution",
    ),
    "s8_21": (
        "requests are signed, and every member's check is the same strict one",
        "crypto/test_sodium.py::test_a_lax_signature_is_refused",
        "wire/test_envelope.py::test_any_damage_is_refused",
    ),
    # --- load ---
    "s8_22": (
        "room is bounded per origin and fair; a refusal is an answer; sizes come first",
        "pbft/test_pool.py::test_a_batch_takes_origins_in_turn",
        "wire/test_codec.py::test_hostile_bytes_are_refused_and_cost_nothing",
        "api/test_pipeline.py::test_failures_are_answers_and_a_busy_node_is_waited_for",
    ),
    "s8_23": (
        "a flood starves nobody: queues per peer, in turn, limits before proofs",
        "replication/test_performer.py::test_a_flood_of_one_peer_does_not_starve_the_others",
        "replication/test_performer.py::test_who_keeps_the_node_busy_for_nothing_gets_half_an_even_share_of_it",
        "net/test_links.py::test_a_peer_that_floods_delays_the_others_by_one_frame",
        "net/test_strangers.py::test_a_member_on_a_slow_path_links_in_spite_of_a_flood_of_strangers",
    ),
}

#: Rules of things that do not exist yet, and the reason.
LATER = {
    "s8_24": "there is no fast path for reads: a linearizable read is ordered (s6_12)",
    "s8_26": "nobody looks whether a newcomer runs: whoever lets it in sees to that (README)",
}

NAMED = re.compile(r"test_(s[68]_\d\d)_\w+")


@cache
def known() -> dict[str, str | None]:
    """All test functions, as `folder/file.py::name`, with their docstrings."""
    found: dict[str, str | None] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            if is_function and node.name.startswith("test_"):
                found[f"{path.relative_to(TESTS)}::{node.name}"] = ast.get_docstring(node)
    return found


def rule_of(test: str) -> str | None:
    matched = NAMED.fullmatch(test.partition("::")[2])
    return matched[1] if matched else None


def test_the_checklist_is_whole() -> None:
    wanted = {f"s6_{n:02}" for n in range(1, 19)} | {f"s8_{n:02}" for n in range(1, 27)}
    assert wanted == RULES.keys() | LATER.keys()
    assert not RULES.keys() & LATER.keys()
    assert all(text and ":" in text for text in LATER.values())


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_has_a_test(rule: str) -> None:
    words, *elsewhere = RULES[rule]
    assert "::" not in words
    assert [name for name in elsewhere if name not in known()] == []
    own = [name for name in known() if rule_of(name) == rule]
    assert own + elsewhere, f"nothing shows that {words}"


def test_a_test_that_is_named_after_a_rule_has_one() -> None:
    assert {rule_of(name) for name in known()} - {None} <= RULES.keys()


def test_the_code_cites_rules_that_there_are() -> None:
    """As `s8_13 (tests/pbft/test_checklist.py)`: by its name here, and where it is found."""
    cited = {}
    package = TESTS.parent / "aegis_edge"
    for path in sorted(package.rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        name = path.relative_to(package).as_posix()
        cited[name] = re.findall(r"\bs[68]_\d+", text)
        if cited[name]:
            assert "(tests/pbft/test_checklist.py)" in text, path
        assert not re.search(r"checklist rule|rules? \d|DESIGN", text), (
            f"{path} cites what is not here"
        )
    assert cited["pbft/journal.py"] == ["s8_13"], "the search finds what is cited"
    assert {rule for rules in cited.values() for rule in rules} <= RULES.keys() | LATER.keys()


def test_the_plays_say_which_rule_they_show() -> None:
    plays = ("pbft/test_bugs_of_others.py", "pbft/test_rules.py")
    assert [name for name, text in known().items() if name.startswith(plays) and not text] == []
