"""Records come back as they went; damaged ones are refused."""

import pytest

from aegis_edge.pbft import journal
from aegis_edge.pbft.events import Record
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener, Signer
from aegis_edge.wire.messages import (
    Batch,
    Bundle,
    Checkpoint,
    Commit,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    ViewChange,
)

ONE = Signer(b"1" * 32, b"c" * 32)
OPEN = Opener(b"c" * 32).open
BATCH = Batch((), (ONE.sign(Bundle(1, 1, (b"op",))),))
NAMED = ONE.sign(PrePrepare(0, 3, 9, BATCH.digest))


def test_round_trips() -> None:
    assert journal.read_view(journal.view(7, True)) == (7, True)
    proposal = journal.proposal(NAMED, BATCH)
    assert (proposal.view, proposal.sequence) == (3, 9)
    assert journal.read_proposal(proposal, OPEN) == (NAMED, BATCH)
    certificate = PreparedCertificate(NAMED, (ONE.sign(Prepare(0, 3, 9, BATCH.digest)),))
    commit = ONE.sign(Commit(0, 3, 9, BATCH.digest, 5))
    prepared = journal.prepared(certificate, commit)
    assert (prepared.view, prepared.sequence) == (3, 9)
    assert journal.read_prepared(prepared, OPEN) == (certificate, commit)
    checkpoint = ONE.sign(Checkpoint(0, 64, b"r" * 32))
    assert journal.checkpoint(checkpoint) == Record(journal.CHECKPOINT, 0, 64, checkpoint.raw)
    assert journal.read_stable(journal.stable((checkpoint,)), OPEN) == (checkpoint,)


def test_views_have_one_record_each() -> None:
    change = ONE.sign(ViewChange(0, 3, 0, (), ()))
    new = ONE.sign(NewView(0, 3, (change,), ()))
    for record in (journal.view(1, False), journal.view_change(change), journal.new_view(new)):
        assert (record.view, record.sequence) == (0, 0)


@pytest.mark.parametrize("value", [1, (1,), (1, 2, 3)])
def test_a_record_of_another_shape_is_damage(value: object) -> None:
    with pytest.raises(WireError, match="damaged"):
        journal.read_view(Record(journal.VIEW, 0, 0, codec.encode(value)))
