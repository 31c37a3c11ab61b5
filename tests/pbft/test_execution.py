"""What is agreed executes once and in order; what contradicts it stops everything."""

from dataclasses import replace
from typing import Any

from aegis_edge.pbft import execution
from aegis_edge.pbft.events import Alarm, Deliver, Effect, TakeRoot
from aegis_edge.wire.messages import NULL_BATCH, Batch, Bundle, Committed, Status
from tests.pbft.parts import (
    INCARNATION,
    KEYS,
    PARAMETERS,
    SIGNERS,
    Parts,
    batch,
    bundle,
    commits,
    committed,
)


def delivered(effects: list[Effect]) -> list[int]:
    return [e.sequence for e in effects if isinstance(e, Deliver)]


def test_batches_execute_in_order_as_far_as_they_are_committed() -> None:
    made = Parts()
    for sequence in (1, 2, 4):
        made.accepted(sequence, batch(2, sequence), votes=3)
    effects = made.said(made.execution.run)
    assert delivered(effects) == [1, 2]
    first = effects[0]
    assert isinstance(first, Deliver)
    assert first.bundles == batch(2, 1).bundles
    assert first.certificate == committed(1, batch(2, 1)).pack()
    made.accepted(3, batch(2, 3), votes=2)
    assert made.said(made.execution.run) == [], "two commits are no quorum"
    made.accepted(3, batch(2, 3), votes=3)
    effects = made.said(made.execution.run)
    assert delivered(effects) == [3, 4]
    assert effects[-1] == TakeRoot(4), "a checkpoint is due"
    assert made.at.executed == 4


def test_what_was_executed_is_not_executed_again() -> None:
    made = Parts()
    made.pool.add(bundle(2), 0)
    made.accepted(1, batch(2, 1), votes=3)
    made.accepted(2, batch(2, 1), votes=3)
    again = made.said(made.execution.run)[1]
    assert isinstance(again, Deliver)
    assert again.bundles == ()
    assert made.pool.oldest_ticks() is None


def test_the_agreed_time_follows_the_readings() -> None:
    made = Parts()
    evidence = tuple(SIGNERS[i].sign(Status(0, 0, False, 0, 0, 100 * i)) for i in range(3))
    made.accepted(1, Batch(evidence, (bundle(2),)), votes=3)
    made.execution.run()
    assert made.at.time_ms == 100


def test_only_bundles_in_a_view_that_has_begun_are_progress() -> None:
    made = Parts(now=10_000)
    made.at.now_ticks = 10_100
    made.accepted(1, NULL_BATCH, votes=3)
    made.execution.run()
    assert made.suspicion.progress_ticks == 10_000
    made.at.changing = True
    made.accepted(2, batch(2, 1), votes=3)
    made.execution.run()
    assert made.suspicion.progress_ticks == 10_000
    made.at.changing = False
    made.accepted(3, batch(2, 2), votes=3)
    made.execution.run()
    assert made.suspicion.progress_ticks == 10_100


def test_a_bundle_that_waited_long_makes_its_primary_slow() -> None:
    made = Parts(now=10_000)
    before = made.suspicion.suspect_at(KEYS[0], 12_000)
    made.pool.add(bundle(2), 10_000)
    made.at.now_ticks = 12_000
    made.accepted(1, batch(2, 1), votes=3)
    made.execution.run()
    after = made.suspicion.suspect_at(KEYS[0], 12_000)
    assert before is not None
    assert after is not None
    assert after < before


def test_a_proven_batch_executes_if_it_is_the_next() -> None:
    made = Parts()
    assert not made.execution.take(committed(2, batch(2, 2)))
    assert made.at.executed == 0
    effects = made.said(take, made, committed(1, batch(2, 1)), True)
    assert delivered(effects) == [1]
    assert made.said(take, made, committed(1, batch(2, 1)), False) == []


def take(made: Parts, proof: Committed, expected: bool) -> Any:
    assert made.execution.take(proof) is expected


def test_what_is_not_proven_counts_for_nothing() -> None:
    made = Parts()
    few = Committed(commits(1, batch().digest)[:2], batch())
    assert made.said(take, made, few, False) == []
    assert made.at.executed == 0


def test_another_past_is_the_end() -> None:
    made = Parts()
    made.execution.take(committed(1, batch(2, 1)))
    fork = committed(1, batch(3, 1))
    effects = made.said(take, made, fork, False)
    assert effects == [Alarm(execution.FORKED, made.key, tuple(c.raw for c in fork.commits))]
    assert made.voice.halted == execution.FORKED
    made.accepted(2, batch(2, 2), votes=3)
    assert made.said(made.execution.run) == [], "nothing is executed after it"


def test_ones_own_key_in_a_later_life_is_the_end() -> None:
    made = Parts(own=1)
    made.requests.submit((b"op",))
    for sequence, incarnation in ((1, INCARNATION), (2, INCARNATION + 1)):
        own = Batch((), (bundle(1, 1, incarnation),))
        made.accepted(sequence, own, votes=3)
    made.accepted(3, batch(), votes=3)
    effects = made.said(made.execution.run)
    assert delivered(effects) == [1, 2], "what is agreed is agreed"
    assert effects[-1] == Alarm(execution.IN_USE_ELSEWHERE, made.key)
    assert made.voice.halted == execution.IN_USE_ELSEWHERE


def test_ones_own_key_in_a_copy_of_this_life_is_the_end() -> None:
    made = Parts(own=1)
    made.requests.submit((b"op",))
    for number in (1, 2):
        made.accepted(number, Batch((), (bundle(1, number, INCARNATION),)), votes=3)
    effects = made.said(made.execution.run)
    assert delivered(effects) == [1, 2]
    assert effects[-1] == Alarm(execution.IN_USE_ELSEWHERE, made.key)


def test_who_forgot_goes_on_past_its_later_lives_until_it_has_caught_up() -> None:
    made = Parts(own=1)
    made.execution.restore(forgetful=True)
    for sequence, incarnation in ((1, INCARNATION + 1), (2, INCARNATION + 2)):
        made.accepted(sequence, Batch((), (bundle(1, 1, incarnation),)), votes=3)
    assert delivered(made.said(made.execution.run)) == [1, 2]
    assert made.execution.is_outdated
    effects = made.said(made.execution.caught_up)
    assert effects == [Alarm(execution.START_AGAIN, made.key)]


def test_a_life_that_remembers_is_told_who_uses_its_key_and_nothing_else() -> None:
    made = Parts(own=1)
    made.accepted(1, Batch((), (bundle(1, 1, INCARNATION + 1),)), votes=3)
    made.execution.run()
    assert made.said(made.execution.caught_up) == []
    assert made.voice.halted == execution.IN_USE_ELSEWHERE


def test_the_primarys_own_bundles_say_nothing_of_how_it_serves_others() -> None:
    made = Parts(now=10_000)
    made.suspicion.entered(10_000)
    made.pool.add(bundle(0), 10_000)
    made.at.now_ticks = 10_000 + PARAMETERS.timeout_ticks - 1
    made.accepted(1, Batch((), (bundle(0),)), votes=3)
    made.execution.run()
    now, timeout = made.at.now_ticks, PARAMETERS.timeout_ticks
    assert made.suspicion.suspect_at(KEYS[0], now) == now + timeout


def waits(made: Parts) -> list[int]:
    """What the pace was told of the batches that were executed."""
    return [ticks for ticks in made.at.pace._waits if ticks]


def test_the_pace_follows_what_waited_longest_for_a_batch() -> None:
    made = Parts(now=10_000)
    made.pool.add(bundle(2), 10_000)
    made.at.now_ticks = 10_050
    made.accepted(1, batch(), votes=3)
    made.accepted(2, batch(3), votes=3)
    made.at.now_ticks = 10_180
    made.execution.run()
    assert waits(made) == [180, 130], "a bundle, perhaps, before its batch was proposed"


def test_the_pace_follows_no_batch_that_was_missed_here_and_none_without_content() -> None:
    made = Parts(now=10_000)
    made.at.now_ticks = 10_150
    made.execution.take(committed(1, batch()))
    made.accepted(2, NULL_BATCH, votes=3).since_ticks = 10_000
    made.execution.run()
    assert (made.at.executed, waits(made)) == (2, [])


def test_a_batch_that_the_new_view_has_not_proposed_again_says_nothing_of_the_pace() -> None:
    made = Parts(now=10_000)
    made.accepted(1, batch(), votes=3).pre_prepare = None
    made.at.now_ticks = 10_150
    made.execution.run()
    assert (made.at.executed, waits(made)) == (1, [])


def test_a_primary_is_not_blamed_for_what_links_are_slow_to_carry() -> None:
    for bytes_a_second, blamed in ((0, True), (200, False)):
        made = Parts(now=10_000, parameters=replace(PARAMETERS, bytes_a_second=bytes_a_second))
        made.suspicion.entered(10_000)
        made.accepted(1, batch(), votes=3)
        made.pool.add(bundle(2), 10_000)
        made.at.now_ticks = 10_000 + PARAMETERS.timeout_ticks // 2 + 1
        made.execution.run()
        now, timeout = made.at.now_ticks, PARAMETERS.timeout_ticks
        due = now + (timeout // 2 if blamed else timeout)
        assert made.suspicion.suspect_at(KEYS[0], now) == due


def test_s8_10_a_primary_that_pads_its_batches_is_blamed_all_the_same() -> None:
    for padded in (True, False):
        made = Parts(now=10_000, parameters=replace(PARAMETERS, bytes_a_second=1_000))
        made.suspicion.entered(10_000)
        padding = tuple(SIGNERS[origin].sign(Bundle(1, 2, (bytes(50_000),))) for origin in (0, 3))
        whole = Batch((), (bundle(2), *padding[: 2 * padded]))  # which cannot execute
        made.accepted(1, whole, votes=3)
        made.pool.add(bundle(2), 10_000)
        travels = 2 * len(bundle(2).raw)
        made.at.now_ticks = 10_000 + PARAMETERS.timeout_ticks // 2 + travels + 1
        made.execution.run()
        now = made.at.now_ticks
        assert made.suspicion.suspect_at(KEYS[0], now) == now + PARAMETERS.timeout_ticks // 2


def test_a_primary_is_not_blamed_for_what_travels_in_front_of_the_votes_and_waits_still() -> None:
    for waits_too, blamed in ((False, True), (True, False)):
        made = Parts(now=10_000, parameters=replace(PARAMETERS, bytes_a_second=1_000))
        made.suspicion.entered(10_000)
        made.accepted(1, batch(), votes=3)
        made.pool.add(bundle(2), 10_000)
        if waits_too:
            made.pool.add(SIGNERS[3].sign(Bundle(1, 1, (bytes(300),))), 10_000)
        travels = 2 * len(bundle(2).raw)
        made.at.now_ticks = 10_000 + PARAMETERS.timeout_ticks // 2 + travels + 1
        made.execution.run()
        now, timeout = made.at.now_ticks, PARAMETERS.timeout_ticks
        due = now + (timeout // 2 if blamed else timeout)
        assert made.suspicion.suspect_at(KEYS[0], now) == due


def test_a_primary_is_not_blamed_for_what_something_else_in_front_was_slow_to_travel() -> None:
    made = Parts(now=10_000, parameters=replace(PARAMETERS, bytes_a_second=1_000))
    made.suspicion.entered(10_000)
    large = SIGNERS[3].sign(Bundle(1, 1, (bytes(300),)))
    for waiting in (large, bundle(2)):
        made.pool.add(waiting, 10_000)
    made.at.now_ticks = 10_001
    made.accepted(1, Batch((), (large,)), votes=3)
    made.execution.run()
    made.accepted(2, batch(), votes=3)
    travels = 2 * (len(large.raw) + len(bundle(2).raw))
    made.at.now_ticks = 10_000 + PARAMETERS.timeout_ticks // 2 + travels
    made.execution.run()
    now = made.at.now_ticks
    assert made.at.executed == 2
    assert made.suspicion.suspect_at(KEYS[0], now) == now + PARAMETERS.timeout_ticks
