"""Slots, votes, bodies and checkpoints within the watermarks."""

import pytest

from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.log import Log
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import (
    NULL_BATCH,
    Batch,
    Bundle,
    Checkpoint,
    Commit,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Verified,
)

SIGNERS = sorted((Signer(bytes([i]) * 32, b"c" * 32) for i in range(1, 5)), key=lambda s: s.public)
FOUR = Configuration(0, tuple(s.public for s in SIGNERS), 1)
PARAMETERS = Parameters(checkpoint_interval=4, window=8)
BATCH = Batch((), (SIGNERS[0].sign(Bundle(1, 1, (b"op",))),))


def log() -> Log:
    return Log(FOUR, PARAMETERS)


def commit(i: int, view: int = 0, digest: bytes = BATCH.digest) -> Verified[Commit]:
    return SIGNERS[i].sign(Commit(0, view, 1, digest, 5))


def checkpoint(i: int, sequence: int, root: bytes = b"r" * 32, c: int = 0) -> Verified[Checkpoint]:
    return SIGNERS[i].sign(Checkpoint(c, sequence, root))


def stable(sequence: int) -> tuple[Verified[Checkpoint], ...]:
    return tuple(checkpoint(i, sequence) for i in range(3))


def test_the_window() -> None:
    made = log()
    assert not made.in_window(0)
    assert made.in_window(1)
    assert made.in_window(8)
    assert not made.in_window(9)
    with pytest.raises(AssertionError):
        made.slot(9)


def test_a_slot_is_prepared_by_matching_prepares_only() -> None:
    slot = log().slot(1)
    assert slot.preparing(FOUR) is None
    slot.pre_prepare = SIGNERS[0].sign(PrePrepare(0, 0, 1, BATCH.digest))
    slot.prepares[SIGNERS[1].public] = SIGNERS[1].sign(Prepare(0, 0, 1, BATCH.digest))
    slot.prepares[SIGNERS[2].public] = SIGNERS[2].sign(Prepare(0, 0, 1, b"x" * 32))
    assert slot.preparing(FOUR) is None
    slot.prepares[SIGNERS[3].public] = SIGNERS[3].sign(Prepare(0, 0, 1, BATCH.digest))
    certificate = slot.preparing(FOUR)
    assert certificate is not None
    assert len(certificate.prepares) == 2
    assert not slot.prepared_in(0)
    slot.prepared = certificate
    assert slot.prepared_in(0)
    assert not slot.prepared_in(1)


def test_commits_of_two_views_do_not_add_up() -> None:
    slot = log().slot(1)
    for i, view in enumerate((0, 0, 1)):
        slot.commits[SIGNERS[i].public] = commit(i, view)
    assert slot.committing(FOUR) is None
    slot.commits[SIGNERS[3].public] = commit(3, 0)
    assert slot.committing(FOUR) is not None


def test_a_certificate_needs_the_body() -> None:
    made = log()
    assert made.certificate(1) is None
    for i in range(3):
        made.slot(1).commits[SIGNERS[i].public] = commit(i)
    assert made.certificate(1) is None
    made.add_body(1, BATCH)
    certificate = made.certificate(1)
    assert certificate is not None
    assert certificate.batch is BATCH
    assert made.body(NULL_BATCH.digest) is NULL_BATCH
    assert made.body(b"?" * 32) is None


def test_checkpoints_are_bounded_and_one_per_member() -> None:
    made = log()
    assert made.add_checkpoint(checkpoint(0, 4), 0)
    assert not made.add_checkpoint(checkpoint(0, 4), 0), "the same again"
    assert not made.add_checkpoint(checkpoint(0, 4, b"s" * 32), 0), "17: a second opinion"
    assert not made.add_checkpoint(checkpoint(0, 5), 0), "not a checkpoint sequence"
    assert not made.add_checkpoint(checkpoint(0, 16), 0), "16: far ahead"
    assert not made.add_checkpoint(checkpoint(1, 4, c=1), 0), "another configuration"
    assert made.checkpoint_of(SIGNERS[0].public, 4) is not None
    assert made.checkpoint_of(SIGNERS[1].public, 4) is None
    assert made.own_checkpoints(SIGNERS[0].public) == [checkpoint(0, 4)]
    assert made.own_checkpoints(SIGNERS[1].public) == []


def test_s6_08_roots_must_match() -> None:
    made = log()
    for i, root in enumerate((b"r", b"s", b"r")):
        made.add_checkpoint(checkpoint(i, 4, root * 32), 0)
    assert made.agreed_root(4) is None
    made.add_checkpoint(checkpoint(3, 4), 0)
    agreed = made.agreed_root(4)
    assert agreed is not None
    assert {c.message.root for c in agreed} == {b"r" * 32}


def test_a_replica_that_catches_up_keeps_recent_checkpoints_only() -> None:
    made = log()
    assert made.add_checkpoint(checkpoint(0, 4), 4)
    assert made.add_checkpoint(checkpoint(0, 100), 100), "past the watermarks, but executed"
    assert made.checkpoint_of(SIGNERS[0].public, 4) is None
    assert not made.add_checkpoint(checkpoint(1, 92), 100)
    assert made.add_checkpoint(checkpoint(1, 96), 100)


def test_only_bodies_that_wait_for_their_turn_take_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was executed is kept up to the next checkpoint, and hinders nothing."""
    made = log()
    monkeypatch.setattr("aegis_edge.pbft.log.UNEXECUTED_BYTES_MAX", 2 * len(BATCH.raw) - 1)
    made.add_body(3, BATCH)
    assert not made.has_room(5, BATCH, 2)
    assert made.has_room(5, BATCH, 3)
    assert made.has_room(3, BATCH, 2), "the next one always has"


def test_advancing_forgets_what_is_stable_and_keeps_what_is_not() -> None:
    made = log()
    other = Batch((), (SIGNERS[1].sign(Bundle(1, 1, (b"b",))),))
    third = Batch((), (SIGNERS[2].sign(Bundle(1, 1, (b"c",))),))
    made.add_body(4, BATCH)
    for sequence in (5, 4):
        made.add_body(sequence, other)
    made.add_body(6, third)
    made.slot(4).pre_prepare = SIGNERS[0].sign(PrePrepare(0, 0, 4, BATCH.digest))
    five = SIGNERS[0].sign(PrePrepare(0, 0, 5, other.digest))
    made.slot(5).pre_prepare = five
    made.slot(6).commits[SIGNERS[0].public] = commit(0, digest=third.digest)
    made.slot(7).prepared = PreparedCertificate(five, ())
    made.add_checkpoint(checkpoint(0, 4), 0)
    made.add_checkpoint(checkpoint(0, 8), 0)
    assert made.last_accepted() == 5
    made.advance(4, stable(4))
    assert sorted(made.slots) == [5, 6, 7]
    assert made.body(BATCH.digest) is None
    assert made.body(other.digest) is other
    assert made.body(third.digest) is third
    assert made.checkpoint_of(SIGNERS[0].public, 4) is None
    assert made.checkpoint_of(SIGNERS[0].public, 8) is not None
    assert [c.pre_prepare for c in made.prepared()] == [five]
    with pytest.raises(AssertionError):
        made.advance(4, stable(4))
    with pytest.raises(AssertionError):
        made.advance(8, stable(4))


def test_an_empty_log_ends_at_its_low_watermark() -> None:
    made = log()
    made.advance(4, stable(4))
    assert made.last_accepted() == 4


def test_a_new_view_forgets_what_was_accepted_and_nothing_that_was_voted() -> None:
    made = log()
    slot = made.slot(1)
    slot.pre_prepare = SIGNERS[0].sign(PrePrepare(0, 0, 1, BATCH.digest))
    slot.journalled = True
    slot.prepares[SIGNERS[1].public] = SIGNERS[1].sign(Prepare(0, 0, 1, BATCH.digest))
    slot.own_commit = slot.commits[SIGNERS[2].public] = commit(2)
    made.add_body(1, BATCH)
    made.forget_accepted()
    assert (slot.pre_prepare, slot.journalled) == (None, False)
    assert (len(slot.prepares), len(slot.commits), slot.own_commit) == (1, 1, commit(2))
    assert made.body(BATCH.digest) == BATCH
