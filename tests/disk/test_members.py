"""Who the members are, on the disk: it moves with the batch that changes it, or not at all."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from aegis_edge.disk.database import Database
from aegis_edge.disk.errors import DatabaseDamaged
from aegis_edge.knowledge.operations import Dismiss, Leave, Operation, Propose, Put, Status
from aegis_edge.knowledge.rebuild import FIRST
from aegis_edge.pbft.events import (
    BeginTransfer,
    Deliver,
    InstallState,
    JudgePart,
    PartJudged,
    Persist,
    Prune,
    Record,
    Settle,
    TakeRoot,
)
from aegis_edge.wire.messages import Bundle
from tests.disk.stage import open_database
from tests.disk.test_database import copied
from tests.knowledge.founders import FOUNDERS
from tests.knowledge.histories import origin, signer

BIG = b"the same batch" * 300


def said(sequence: int, index: int, *operations: Operation, certificate: bytes = b"c") -> Deliver:
    """The batch at `sequence`: what the member `index` says about members."""
    raw = tuple(operation.encode() for operation in operations)
    bundle = signer(index).sign(Bundle(1, sequence, raw, of_members=True))
    return Deliver(sequence, 1000 * sequence, (bundle,), certificate)


def kinds(database: Database) -> list[tuple[int, int]]:
    return [(r.kind, r.sequence) for r in database.restored(1).records]


def test_a_change_of_members_takes_the_records_with_it_at_once_or_not_at_all(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with closing(open_database(home)) as database:
        assert database.roll() == FOUNDERS
        proposal, own = Record(4, 0, 1, b"head" + BIG), Record(5, 0, 1, b"prepared")
        waiting = Record(4, 0, 2, b"of the old ones")
        database.perform([Persist(record) for record in (proposal, own, waiting)])
        leaves = said(1, 0, Leave(), certificate=b"proof" + BIG)
        # It may wait for the next write: until then all is as it was, after it all is new.
        assert database.perform([leaves]) == [[((Status.DONE, 0, 1000),)]]
        with copied(home, tmp_path / "before") as lost:
            assert lost.roll() == FOUNDERS
            assert kinds(lost) == [(4, 1), (5, 1), (4, 2)]
            assert lost.perform([leaves, TakeRoot(1)])[1] == database.root()[2]
            assert kinds(lost) == []
        entered = Record(11, 0, 0, b"entered")
        (settled, _) = database.perform([Settle(1), Persist(entered)])
        roll = database.roll()
        assert (roll.number, roll.start, len(roll.members)) == (1, 1, 2)
        assert origin(0) not in roll.members
        assert settled == (database.root()[2], 0, roll)
        with copied(home, tmp_path / "after") as kept:
            assert (kept.roll(), kept.root()) == (roll, database.root())
            assert kinds(kept) == [(11, 0)]
            assert kept.certificates(1, 1, 1 << 20) == [b"proof" + BIG], "its tail outlives them"
        fresh = Record(4, 0, 2, b"of the new ones")
        database.perform([Persist(fresh)])
        assert [r for r in database.restored(1).records if r.kind == 4] == [fresh]
    with closing(open_database(home)) as database:
        assert [r.data for r in database.restored(1).records] == [b"entered", b"of the new ones"]
        assert database.certificates(1, 1, 1 << 20) == [b"proof" + BIG]


def test_what_is_only_proposed_changes_no_configuration(tmp_path: Path) -> None:
    with closing(open_database(tmp_path)) as database:
        database.perform([Persist(Record(5, 0, 1, b"prepared"))])
        proposes = said(1, 0, Propose(Dismiss(origin(2))))
        _, (root, _, roll) = database.perform([proposes, Settle(1, is_signed=True)])
        assert (roll.number, len(roll.proposals)) == (0, 1)
        assert root == database.root()[2]
        assert kinds(database) == [(5, 1)]
        assert database.show("never", 1, 0) is not None, "it is a checkpoint's too"
    with closing(open_database(tmp_path)) as database:
        assert database.roll() == roll
        database.perform([said(2, 1, Propose(Dismiss(origin(2)))), Settle(2)])
        assert database.roll().members == tuple(sorted((origin(0), origin(1))))
        assert database.show("never", 2, 0) is None


def test_who_the_members_are_is_given_with_a_checkpoint_that_was_settled(tmp_path: Path) -> None:
    for name in ("source", "into"):
        (tmp_path / name).mkdir()
    source, into = open_database(tmp_path / "source"), open_database(tmp_path / "into")
    source.perform([said(1, 0, Propose(Dismiss(origin(2)))), Settle(1, is_signed=True)])
    (_, root), roll = source.root()[1:], source.roll()
    source.close()
    source = open_database(tmp_path / "source")
    source.perform([said(2, 1, Leave()), Settle(2)])
    into.perform([BeginTransfer(1, root)])
    while (head := source.part(b"peer", 1, *FIRST[:1], FIRST[1:])) is None:
        continue
    (judged,) = into.perform([JudgePart(b"peer", 1, FIRST[0], FIRST[1:], head)])
    assert isinstance(judged, PartJudged)
    assert (judged.fault, judged.wants) == (None, ())
    into.perform([InstallState(1)])
    for _ in range(2):
        assert (into.roll(), into.root()[2]) == (roll, root)
        into.close()
        into = open_database(tmp_path / "into")
    into.perform([said(2, 1, Leave()), Settle(2)])
    assert (into.roll(), into.root()) == (source.roll(), source.root())
    source.close()
    into.close()


def test_batches_of_the_next_configuration_are_written_over_freed_rows(tmp_path: Path) -> None:
    with closing(open_database(tmp_path)) as database:
        database.perform([Persist(Record(4, 0, 1, b"1")), Persist(Record(4, 0, 2, b"2"))])
        writes = Deliver(1, 1000, (signer(1).sign(Bundle(1, 1, (Put("a", b"1").encode(),))),), b"c")
        database.perform([writes, TakeRoot(1), Prune(1)])
        database.perform([said(2, 0, Leave()), Settle(2)])
        database.perform([Persist(Record(4, 0, 3, b"3"))])
        assert kinds(database) == [(4, 3)]
    with closing(open_database(tmp_path)) as database:
        assert kinds(database) == [(4, 3)]


def test_a_roll_that_cannot_be_read_is_a_damaged_database(tmp_path: Path) -> None:
    with closing(open_database(tmp_path)) as database:
        database.perform([said(1, 0, Leave()), Settle(1)])
        database._connection.execute("UPDATE roll SET roll = x'00'")
    with pytest.raises(DatabaseDamaged, match="roll of members"):
        open_database(tmp_path)
