"""Records are read back as what they meant, also where the power failed between two of them."""

from typing import Any

import pytest

from aegis_edge.pbft import journal
from aegis_edge.pbft.events import Record
from aegis_edge.pbft.log import Log
from aegis_edge.pbft.restart import Memory, refill, remember
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import Checkpoint, Commit, NewView, Prepare, PrePrepare, Verified
from tests.pbft.parts import (
    KEYS,
    OPEN,
    PARAMETERS,
    ROOT,
    SIGNERS,
    Parts,
    batch,
    change,
    pre_prepare,
    prepared,
    stable,
)

OWN = SIGNERS[3]


def read(*records: Record) -> Memory:
    return remember(records, 0, PARAMETERS, OPEN)


def new_view(view: int, *digests: bytes) -> Verified[NewView]:
    opening = tuple(pre_prepare(s, digest, view) for s, digest in enumerate(digests, 1))
    changes = tuple(change(i, view) for i in range(3))
    return SIGNERS[view % 4].sign(NewView(0, view, changes, opening))


def proposal(sequence: int, view: int = 0) -> Record:
    return journal.proposal(pre_prepare(sequence, batch().digest, view), batch())


def commit(sequence: int, view: int = 0) -> Verified[Commit]:
    return OWN.sign(Commit(0, view, sequence, batch().digest, 5))


def certificate(sequence: int, view: int = 0) -> Record:
    return journal.prepared(prepared(sequence, batch().digest, view), commit(sequence, view))


def test_a_new_node_remembers_nothing() -> None:
    assert read() == Memory()
    assert Memory().opening is None
    assert Memory().votes == []


def test_everything_comes_back_in_any_order() -> None:
    checkpoint = OWN.sign(Checkpoint(0, 8, ROOT))
    own, new = change(3, 2), new_view(1)
    records = (
        certificate(6),
        proposal(6),
        proposal(5),
        journal.checkpoint(checkpoint),
        journal.new_view(new),
        journal.view_change(own),
        journal.view(2, True),
        journal.stable(stable(4)),
    )
    memory = read(*records)
    assert memory == read(*reversed(records))
    assert memory == Memory(
        stable=stable(4),
        view=2,
        changing=True,
        asked=own,
        begun=new,
        checkpoints=(checkpoint,),
        proposals=tuple((pre_prepare(s, batch().digest), batch()) for s in (5, 6)),
        prepared=((prepared(6, batch().digest), commit(6)),),
    )


def test_what_lies_outside_the_window_is_not_even_opened() -> None:
    inside = [proposal(5), proposal(12), certificate(5), certificate(12)]
    outside = [proposal(4), proposal(13), certificate(4), certificate(13)]
    memory = read(journal.stable(stable(4)), *inside, *outside)
    assert [p.message.sequence for p, _ in memory.proposals] == [5, 12]
    assert [c.message.sequence for _, c in memory.prepared] == [5, 12]
    damaged = [Record(r.kind, r.view, r.sequence, b"\x00") for r in outside]
    assert read(journal.stable(stable(4)), *inside, *damaged) == memory


@pytest.mark.parametrize(
    "kind",
    [
        journal.VIEW,
        journal.VIEW_CHANGE,
        journal.NEW_VIEW,
        journal.PROPOSAL,
        journal.PREPARED,
        journal.CHECKPOINT,
        journal.STABLE,
    ],
)
def test_damage_is_an_error(kind: int) -> None:
    with pytest.raises(WireError):
        read(Record(kind, 0, 1, b"\x00"))


def test_who_differed_knows() -> None:
    assert read(journal.diverged(stable(4))) == Memory(diverged=True)


@pytest.mark.parametrize(
    ("records", "view", "changing"),
    [
        ((journal.view(3, True),), 3, True),
        ((journal.view(3, False), journal.view_change(change(3, 4))), 4, True),
        ((journal.view(4, False), journal.view_change(change(3, 4))), 4, False),
        ((journal.view(4, True), journal.new_view(new_view(4))), 4, False),
        ((journal.view(3, False), journal.new_view(new_view(4))), 4, False),
        ((journal.view(5, True), journal.new_view(new_view(4))), 5, True),
        ((journal.view_change(change(3, 5)), journal.new_view(new_view(4))), 5, True),
        ((journal.view_change(change(3, 4)), journal.new_view(new_view(4))), 4, False),
    ],
)
def test_the_later_view_counts(records: tuple[Record, ...], view: int, changing: bool) -> None:
    memory = read(*records)
    assert (memory.view, memory.changing) == (view, changing)


def test_a_view_opens_with_what_its_new_view_says() -> None:
    new = new_view(4, b"a" * 32)
    assert Memory(view=4, begun=new).opening is new
    assert Memory(view=5, changing=True, begun=new).opening is None


def test_votes_are_of_the_present_view_alone() -> None:
    memory = read(journal.view(4, False), proposal(1, 0), proposal(2, 4), certificate(3, 4))
    assert [p.message.sequence for p in memory.votes] == [2, 3]
    assert read(journal.view(4, True), proposal(2, 4)).votes == []


# --- the log again ---


def filled(memory: Memory, own: int = 3) -> Log:
    log = Log(Parts().configuration, PARAMETERS)
    refill(log, memory, KEYS[own], SIGNERS[own].sign)
    return log


def slots(log: Log) -> dict[int, tuple[Any, ...]]:
    return {
        sequence: (slot.pre_prepare, slot.journalled, slot.prepared, slot.own_commit)
        for sequence, slot in log.slots.items()
    }


def test_the_watermark_is_where_it_was() -> None:
    log = filled(read(journal.stable(stable(4))))
    assert (log.low, log.stable, log.slots) == (4, stable(4), {})


def test_accepted_batches_and_certificates_are_in_their_slots() -> None:
    named = prepared(2, batch().digest)
    log = filled(read(proposal(1), proposal(2), certificate(2)))
    assert slots(log) == {
        1: (pre_prepare(1, batch().digest), True, None, None),
        2: (pre_prepare(2, batch().digest), True, named, commit(2)),
    }
    assert log.slots[1].prepares == {KEYS[3]: OWN.sign(Prepare(0, 0, 1, batch().digest))}
    assert log.slots[2].commits == {KEYS[3]: commit(2)}
    assert log.body(batch().digest) == batch()


def test_a_primary_has_no_prepare_of_its_own() -> None:
    log = filled(read(proposal(1)), own=0)
    assert log.slots[1].journalled
    assert log.slots[1].prepares == {}


def test_an_earlier_view_leaves_bodies_and_certificates_but_no_vote() -> None:
    log = filled(read(journal.view(1, False), proposal(1, 0), certificate(2, 0)))
    assert slots(log) == {2: (None, False, prepared(2, batch().digest), commit(2))}
    assert log.body(batch().digest) == batch()


def test_a_new_view_s_pre_prepares_wait_for_their_record() -> None:
    other = b"other".ljust(32)
    new = new_view(1, batch().digest, other)
    log = filled(read(journal.view(1, False), journal.new_view(new), proposal(1, 1)))
    first, second = new.message.pre_prepares
    assert slots(log) == {1: (first, True, None, None), 2: (second, False, None, None)}


def test_a_new_view_s_pre_prepares_under_the_watermark_are_over() -> None:
    digest = batch().digest
    opening = tuple(SIGNERS[1].sign(PrePrepare(0, 1, s, digest)) for s in (4, 5))
    new = SIGNERS[1].sign(NewView(0, 1, tuple(change(i, 1) for i in range(3)), opening))
    log = filled(read(journal.stable(stable(4)), journal.view(1, False), journal.new_view(new)))
    assert list(log.slots) == [5]
