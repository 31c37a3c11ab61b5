"""A primary proposes what waits, one after the other, as far as the pipeline and window reach."""

from dataclasses import replace

import pytest

from aegis_edge.pbft import proposals
from aegis_edge.pbft.clocks import STEP_MS
from aegis_edge.pbft.events import Send
from aegis_edge.wire import messages
from aegis_edge.wire.messages import (
    NULL_BATCH,
    Batch,
    Bundle,
    Commit,
    Proposal,
    Status,
    Verified,
)
from aegis_edge.wire.records import HEADER_BYTES
from aegis_edge.wire.session import CELL_CAPACITY_BYTES
from tests.pbft.parts import KEYS, OPEN, PARAMETERS, SIGNERS, Parts, batch, bundle, stable


def take(made: Parts) -> list[Proposal]:
    """All that is proposed now; each is taken in as a replica would."""
    taken = []
    for proposal in made.proposals.due():
        taken.append(proposal)
        made.log.add_body(proposal.pre_prepare.message.sequence, proposal.batch)
    return taken


def sequences(taken: list[Proposal]) -> list[int]:
    return [p.pre_prepare.message.sequence for p in taken]


def test_what_waits_becomes_one_signed_batch() -> None:
    made = Parts(own=0)
    for origin in (2, 3):
        made.pool.add(bundle(origin), 0)
    (proposal,) = take(made)
    named = proposal.pre_prepare
    assert (named.signer, named.message.view, named.message.sequence) == (KEYS[0], 0, 1)
    assert named.message.digest == proposal.batch.digest
    assert {b.signer for b in proposal.batch.bundles} == {KEYS[2], KEYS[3]}
    assert take(made) == [], "nothing is proposed twice"


def fill(made: Parts) -> list[Proposal]:
    """As many batches of one bundle each as are taken at once."""
    taken = []
    for number in range(1, 9):
        made.pool.add(bundle(2, number), 0)
        taken += take(made)
    return taken


def test_the_pipeline_bounds_what_is_not_executed() -> None:
    made = Parts(own=0)
    assert sequences(fill(made)) == [1, 2, 3, 4]
    made.at.executed = 1
    (more,) = take(made)
    assert more.pre_prepare.message.sequence == 5
    assert len(more.batch.bundles) == 4, "what had to wait goes together"


def test_the_window_bounds_it_too() -> None:
    made = Parts(own=0, executed=PARAMETERS.window - 1)
    made.proposals.follow(0)
    assert sequences(fill(made)) == [PARAMETERS.window]
    made.log.advance(4, stable(4))
    assert sequences(take(made)) == [PARAMETERS.window + 1]


def test_it_follows_what_is_ordered_and_what_is_executed() -> None:
    made = Parts(own=0)
    made.proposals.follow(2)
    made.pool.add(bundle(2), 0)
    assert sequences(take(made)) == [3]
    made.at.executed = 6  # by certificates of others
    made.pool.add(bundle(3), 0)
    assert sequences(take(made)) == [7]
    made.proposals.follow(2)
    made.pool.add(bundle(3, 2), 0)
    assert sequences(take(made)) == [7]


def test_what_is_executed_meanwhile_makes_room() -> None:
    """Someone alone executes each batch before the next is asked for."""
    made = Parts(own=0, n=1)
    made.pool.add(bundle(0, 1), 0)
    taken = []
    for proposal in made.proposals.due():
        taken.append(proposal)
        made.at.executed = proposal.pre_prepare.message.sequence
        made.pool.execute(proposal.batch.bundles, 0)
        if len(taken) < PARAMETERS.window:
            made.pool.add(bundle(0, len(taken) + 1), 0)
    assert sequences(taken) == list(range(1, PARAMETERS.window + 1))


def test_readings_go_along_when_they_move_the_time() -> None:
    made = Parts(own=0)
    made.at.clock_ms = STEP_MS
    for member in (2, 3):
        made.readings.note(SIGNERS[member].sign(Status(0, 0, False, 0, 0, STEP_MS)))
    made.pool.add(bundle(2), 0)
    (proposal,) = take(made)
    assert {r.signer for r in proposal.batch.evidence} == {KEYS[0], KEYS[2], KEYS[3]}
    assert made.readings.clock_ms(KEYS[0]) == STEP_MS, "its own reading is as fresh"
    made.at.time_ms = STEP_MS
    made.at.clock_ms += STEP_MS - 1
    made.pool.add(bundle(3), 0)
    (proposal,) = take(made)
    assert proposal.batch.evidence == ()
    assert made.readings.clock_ms(KEYS[0]) == STEP_MS, "nor is one signed for nothing"


def test_where_links_carry_little_readings_go_along_as_rarely_as_statuses() -> None:
    made = Parts(own=0, parameters=replace(PARAMETERS, bytes_a_second=424, turn_ticks=4_600))
    step_ms = made.at.pace.status_ticks
    assert step_ms > 10 * STEP_MS
    for member in (1, 2, 3):
        made.readings.note(SIGNERS[member].sign(Status(0, 0, False, 0, 0, step_ms)))
    made.at.time_ms, made.at.clock_ms = 1, step_ms - 1
    made.pool.add(SIGNERS[2].sign(Bundle(1, 1, (bytes(128),))), 0)
    (proposal,) = take(made)
    assert proposal.batch.evidence == ()
    assert made.readings.clock_ms(KEYS[0]) == 0
    assert len(proposal.pack()) + HEADER_BYTES <= CELL_CAPACITY_BYTES, "a put of 100 bytes"
    made.at.time_ms, made.at.clock_ms = 0, step_ms
    made.pool.add(bundle(3), 0)
    (proposal,) = take(made)
    assert len(proposal.batch.evidence) == 3
    assert made.readings.clock_ms(KEYS[0]) == step_ms


def test_what_links_are_slow_to_carry_is_announced_and_takes_fresh_readings_along() -> None:
    made = Parts(own=0, parameters=replace(PARAMETERS, bytes_a_second=424, turn_ticks=4_600))
    large = SIGNERS[2].sign(Bundle(1, 1, (bytes(2_000),)))
    for member in (1, 2, 3):
        made.readings.note(SIGNERS[member].sign(Status(0, 0, False, 0, 0, STEP_MS)))
    made.at.clock_ms = STEP_MS
    made.pool.add(large, 0)
    (effect,) = made.said(take, made)
    assert isinstance(effect, Send)
    said = messages.read(effect.raw, OPEN)
    assert isinstance(said, Verified)
    assert said.message == Status(0, 0, False, 0, 0, STEP_MS, len(large.raw))
    made.at.time_ms, made.at.clock_ms = 1, 2 * STEP_MS
    made.pool.add(SIGNERS[2].sign(Bundle(1, 2, (bytes(2_000),))), 0)
    made.pool.add(bundle(3), 0)
    for member in (1, 2, 3):
        made.readings.note(SIGNERS[member].sign(Status(0, 0, False, 0, 0, 2 * STEP_MS)))
    (proposal,) = take(made)
    assert len(proposal.batch.evidence) == 3
    made.at.clock_ms = 4 * STEP_MS
    made.pool.add(bundle(1), 0)
    assert made.said(take, made) == [], "what is small comes at once anyway"


def test_votes_fit_a_cell_two_at_a_time() -> None:
    vote = Commit(0, 2**16, 2**32 - 1, bytes(32), 2**41)
    assert 2 * (len(SIGNERS[0].sign(vote).raw) + HEADER_BYTES) <= CELL_CAPACITY_BYTES


def reading(member: int) -> object:
    return SIGNERS[member].sign(Status(0, 0, False, 0, 0, 5))


def test_batches_that_a_backup_accepts() -> None:
    four = Parts().configuration
    evidence = tuple(reading(i) for i in range(3))
    assert proposals.is_acceptable(NULL_BATCH, four), "a null batch that is sent again"
    assert proposals.is_acceptable(batch(), four)
    assert proposals.is_acceptable(Batch(evidence, (bundle(2),)), four)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [
        Batch((reading(0), reading(1), reading(2)), ()),  # type: ignore[arg-type]
        Batch((reading(0), reading(1)), (bundle(2),)),  # type: ignore[arg-type]
        Batch((), (bundle(2), bundle(4))),
    ],
    ids=["readings for nothing", "too few readings", "a stranger's bundle"],
)
def test_batches_that_it_refuses(bad: Batch) -> None:
    assert not proposals.is_acceptable(bad, Parts().configuration)


def test_a_batch_has_a_bound_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(batch().raw)
    monkeypatch.setattr(proposals, "WHOLE_BATCH_BYTES_MAX", size)
    assert proposals.is_acceptable(batch(), Parts().configuration)
    monkeypatch.setattr(proposals, "WHOLE_BATCH_BYTES_MAX", size - 1)
    assert not proposals.is_acceptable(batch(), Parts().configuration)
