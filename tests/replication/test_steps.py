"""When each step of a batch was: what the effects of the replica say, and nothing else."""

from __future__ import annotations

from itertools import count

from aegis_edge.pbft import journal
from aegis_edge.pbft.events import Bundled, Deliver, Persist, Record, Send
from aegis_edge.replication.steps import Steps
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import Bundle

MINE, THEIRS = Signer(b"m" * 32, b""), Signer(b"t" * 32, b"")


def steps() -> Steps:
    """Each look at the clock is a second after the last, from 1."""
    seconds = count(1)
    return Steps(MINE.public, lambda: float(next(seconds)))


def deliver(sequence: int, *bundles: tuple[Signer, int]) -> Deliver:
    made = tuple(signer.sign(Bundle(5, number, (b"op",))) for signer, number in bundles)
    return Deliver(sequence, 0, made, b"")


def persist(kind: int, sequence: int) -> Persist:
    return Persist(Record(kind, 0, sequence, b""))


def test_a_batch_with_bundles_of_this_node() -> None:
    made = steps()
    made.note([Bundled(5, 1), Send((b"p",), b"raw")])
    made.note([Bundled(5, 2)])
    made.note([persist(journal.PROPOSAL, 7)])
    made.note([persist(journal.PREPARED, 7), persist(journal.CHECKPOINT, 7)])
    batch = deliver(7, (THEIRS, 9), (MINE, 2), (MINE, 1))
    made.note([batch])
    assert made.executed(batch) == (
        "steps of batch 7: bundled=1.0000 accepted=3.0000 prepared=4.0000 committed=5.0000"
        " executed=6.0000"
    )


def test_batches_of_others_and_of_an_earlier_life() -> None:
    made = steps()
    batch = deliver(7, (THEIRS, 1), (MINE, 1))
    made.note([batch])
    assert made.executed(batch) == "steps of batch 7: committed=1.0000 executed=2.0000"


def test_nothing_is_kept_of_what_is_done() -> None:
    made = steps()
    made.note([Bundled(5, 1), *(persist(journal.PREPARED, n) for n in (1, 2, 3))])
    made.note([deliver(2, (MINE, 1))])
    made.executed(deliver(2, (MINE, 1)))
    assert (made._bundled, list(made._batches)) == ({}, [3])
