"""Who the members are, on the disk: it moves with the batch that changes it, or not at all."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from aegis_edge.disk.database import Database
from aegis_edge.disk.errors import DatabaseDamaged, DatabaseLost, DatabaseNewer
from aegis_edge.knowledge.agreed import INTERVAL, Agreed, pack
from aegis_edge.knowledge.operations import (
    Adjust,
    Dismiss,
    Leave,
    Operation,
    Propose,
    Put,
    Status,
)
from aegis_edge.knowledge.rebuild import FIRST
from aegis_edge.pbft import journal
from aegis_edge.pbft.configuration import digest_of
from aegis_edge.pbft.events import (
    BeginTransfer,
    Deliver,
    Foresee,
    Foreseen,
    InstallState,
    JudgePart,
    KeepHandovers,
    PartJudged,
    Persist,
    Prune,
    Record,
    Settle,
    TakeRoot,
)
from aegis_edge.wire import codec
from aegis_edge.wire.envelope import Opener
from aegis_edge.wire.messages import (
    HANDOVERS,
    HANDOVERS_ITEM_BYTES,
    Bundle,
    Checkpoint,
    Commit,
    Committed,
    Handover,
    Verified,
    read_lineage,
)
from tests.disk.stage import open_database
from tests.disk.test_database import copied
from tests.knowledge.founders import FOUNDERS
from tests.knowledge.histories import origin, signer

BIG = b"the same batch" * 300


def certificate(
    sequence: int, *stay: int, number: int = 1, tail: bytes = b"batch", terms: bytes = b""
) -> bytes:
    """Of the batch after which these are the members, for all who signed it."""
    successor = digest_of(number, sequence, tuple(sorted(map(origin, stay))), terms)
    said = Commit(number - 1, 0, sequence, bytes(32), 5, successor)
    return codec.encode((Committed.TAG, tuple(signer(i).sign(said).raw for i in (0, 1)), tail))


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
        remembers = Record(journal.REMEMBERS, 0, 0, b"remembers")
        database.perform([Persist(record) for record in (proposal, own, waiting, remembers)])
        proof = certificate(1, 1, 2, tail=b"proof" + BIG)
        leaves = said(1, 0, Leave(), certificate=proof)
        # It may wait for the next write: until then all is as it was, after it all is new.
        assert database.perform([leaves]) == [[((Status.DONE, 0, 1000),)]]
        with copied(home, tmp_path / "before") as lost:
            assert lost.roll() == FOUNDERS
            assert kinds(lost) == [(11, 0), (4, 1), (5, 1), (4, 2)]
            assert lost.perform([leaves, TakeRoot(1)])[1] == database.root()[2]
            assert kinds(lost) == [(11, 0)], "who remembered does so after a power cut right here"
        (settled,) = database.perform([Settle(1)])
        roll = database.roll()
        assert (roll.number, roll.start, len(roll.members)) == (1, 1, 2)
        assert origin(0) not in roll.members
        assert settled == (database.root()[2], 0, roll)
        with copied(home, tmp_path / "after") as kept:
            assert (kept.roll(), kept.root()) == (roll, database.root())
            assert kinds(kept) == [(11, 0)]
            assert kept.certificates(1, 1, 1 << 20) == [proof], "its tail outlives them"
        fresh = Record(4, 0, 2, b"of the new ones")
        database.perform([Persist(fresh)])
        assert [r for r in database.restored(1).records if r.kind == 4] == [fresh]
    with closing(open_database(home)) as database:
        assert [r.data for r in database.restored(1).records] == [b"remembers", b"of the new ones"]
        assert database.certificates(1, 1, 1 << 20) == [proof]


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
        proof = certificate(2, 0, 1)
        decides = said(2, 1, Propose(Dismiss(origin(2))), certificate=proof)
        database.perform([decides, Settle(2)])
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
    leaves = said(2, 1, Leave(), certificate=certificate(2, 0, 2))
    source.perform([leaves, Settle(2)])
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
    into.perform([leaves, Settle(2)])
    assert (into.roll(), into.root()) == (source.roll(), source.root())
    source.close()
    into.close()


def test_batches_of_the_next_configuration_are_written_over_freed_rows(tmp_path: Path) -> None:
    with closing(open_database(tmp_path)) as database:
        database.perform([Persist(Record(4, 0, 1, b"1")), Persist(Record(4, 0, 2, b"2"))])
        writes = Deliver(1, 1000, (signer(1).sign(Bundle(1, 1, (Put("a", b"1").encode(),))),), b"c")
        database.perform([writes, TakeRoot(1), Prune(1)])
        leaves = said(2, 0, Leave(), certificate=certificate(2, 1, 2))
        database.perform([leaves, Settle(2)])
        database.perform([Persist(Record(4, 0, 3, b"3"))])
        assert kinds(database) == [(4, 3)]
    with closing(open_database(tmp_path)) as database:
        assert kinds(database) == [(4, 3)]


def test_a_roll_that_cannot_be_read_is_a_damaged_database(tmp_path: Path) -> None:
    with closing(open_database(tmp_path)) as database:
        leaves = said(1, 0, Leave(), certificate=certificate(1, 1, 2))
        database.perform([leaves, Settle(1)])
        database._connection.execute("UPDATE roll SET roll = x'00'")
    with pytest.raises(DatabaseDamaged, match="roll of members"):
        open_database(tmp_path)


def test_what_the_members_agree_on_moves_with_the_batch_and_is_shown(tmp_path: Path) -> None:
    wanted = (Agreed(INTERVAL, 8, 1),)
    vote = Propose(Adjust(INTERVAL, 8))
    with closing(open_database(tmp_path)) as database:
        database.perform([Persist(Record(5, 0, 1, b"prepared"))])
        database.perform([said(1, 0, vote), Settle(1)])
        assert (database.roll().agreed, kinds(database)) == ((), [(5, 1)])
        decides = said(2, 1, vote, certificate=certificate(2, 0, 1, 2, terms=pack(wanted)))
        (foreseen,) = database.perform([Foresee(2, 2000, decides.bundles, b"digest")])
        assert foreseen == Foreseen(2, b"digest", digest_of(1, 2, FOUNDERS.members, pack(wanted)))
        (_, (root, _, roll)) = database.perform([decides, Settle(2)])
        assert (roll.number, roll.start, roll.agreed) == (1, 2, wanted)
        assert roll.members == FOUNDERS.members and kinds(database) == []
    with closing(open_database(tmp_path)) as database:
        assert (database.roll(), database.root()[2]) == (roll, root)
        (raw,) = database.handovers(1)
        assert Handover.open(raw, OPEN).terms == pack(wanted)


def test_terms_that_no_quorum_foresaw_are_of_another_state(tmp_path: Path) -> None:
    wrong = certificate(2, 0, 1, 2, terms=pack((Agreed(INTERVAL, 9, 1),)))
    database = open_database(tmp_path)
    vote = Propose(Adjust(INTERVAL, 8))
    database.perform([said(1, 0, vote), Settle(1)])
    with pytest.raises(DatabaseDamaged, match="differs from what the members agreed"):
        database.perform([said(2, 1, vote, certificate=wrong)])
    with pytest.raises(DatabaseLost):
        database.close()


def test_what_a_later_release_agreed_on_is_not_taken_for_damage(tmp_path: Path) -> None:
    with closing(open_database(tmp_path)) as database:
        leaves = said(1, 0, Leave(), certificate=certificate(1, 1, 2))
        database.perform([leaves, Settle(1)])
        later = codec.encode((*codec.decode(database.roll().encoded()), (("later", 1, 1),)))
        database._connection.execute("UPDATE roll SET roll = ?", (later,))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(DatabaseNewer, match="'later', which this release does not know"):
        open_database(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# --- how they came about -------------------------------------------------------------------------

OPEN = Opener(b"a cluster", verify=lambda *_: True).open


def lineage(database: Database, number: int) -> tuple[int | None, list[tuple[bytes, ...]]]:
    """What is given to who knows configuration `number`: the checkpoint's place, the members."""
    item = number.to_bytes(HANDOVERS_ITEM_BYTES + 1, "big")
    data = database.part(b"peer", 1, HANDOVERS, (item,))
    assert data is not None
    proven, raws = read_lineage(data, OPEN)
    members = [Handover.open(raw, OPEN).members for raw in raws]
    return (proven[0].message.sequence if proven else None), members


def stable(sequence: int, number: int = 0) -> Persist:
    said = signer(0).sign(Checkpoint(number, sequence, bytes(32)))
    return Persist(journal.stable((said,)))


def test_each_change_of_members_can_be_shown_for_good(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    both, last = tuple(sorted((origin(1), origin(2)))), (origin(2),)
    first = certificate(1, 1, 2)
    with closing(open_database(home)) as database:
        assert lineage(database, 0) == (None, [])
        database.perform([stable(64)])
        assert lineage(database, 0) == (64, [])
        database.perform([said(1, 0, Leave(), certificate=first), Settle(1)])
        with copied(home, tmp_path / "after") as kept:
            assert lineage(kept, 0) == (64, [both]), "what was proven before is, too"
        second = said(2, 1, Leave(), certificate=certificate(2, 2, number=2))
        database.perform([second, Settle(2)])
        assert lineage(database, 0) == (64, [both, last])
    with closing(open_database(home)) as database:
        assert lineage(database, 1) == (64, [last])
        assert lineage(database, 2) == (64, [])
        assert lineage(database, 1 << 64) == (64, [])
        raws = database.handovers(2)
        commits = Handover.open(raws[0], OPEN).commits
        assert raws[0] == Handover(both, commits).raw
        assert tuple(c.raw for c in commits) == codec.decode(first)[1]
        assert database.handovers(1) == raws[:1]
        database.perform([stable(128, 2), Persist(Record(4, 0, 3, b"3"))])
        assert lineage(database, 2) == (128, [])


@pytest.mark.parametrize("is_signed", [True, False])
def test_members_whom_no_quorum_foresaw_are_of_another_state(
    tmp_path: Path, is_signed: bool
) -> None:
    wrong = certificate(1, 0, 2) if is_signed else codec.encode((2, (b"none",), b""))
    database = open_database(tmp_path)
    with pytest.raises(DatabaseDamaged, match="differs from what the members agreed"):
        database.perform([said(1, 0, Leave(), certificate=wrong)])
    with pytest.raises(DatabaseLost):  # so the node begins anew, with what the others have
        database.close()


def test_what_a_batch_about_members_would_do_is_foreseen_and_not_done(tmp_path: Path) -> None:
    with closing(open_database(tmp_path)) as database:
        propose, vote = (said(1, i, Propose(Dismiss(origin(2)))).bundles for i in (0, 1))
        here = said(1, 1, Leave()).bundles
        plain = (signer(1).sign(Bundle(1, 1, (Leave().encode(),))),)
        odd = (signer(1).sign(Bundle(1, 1, (b"none", Put("a", b"").encode()), True)),)
        cases: tuple[tuple[tuple[Verified[Bundle], ...], tuple[int, ...]], ...] = (
            (propose, ()),
            (propose + vote, (0, 1)),
            (here, (0, 2)),
            (plain, ()),
            (odd, ()),
            ((), ()),
        )
        before = database.root()
        for bundles, stay in cases:
            wanted = digest_of(1, 1, tuple(sorted(map(origin, stay)))) if stay else b""
            (foreseen,) = database.perform([Foresee(1, 1000, bundles, b"digest")])
            assert foreseen == Foreseen(1, b"digest", wanted)
        assert database.root() == before
        database.perform([said(1, 1, Leave(), certificate=certificate(1, 0, 2))])
        assert database.roll().members == tuple(sorted((origin(0), origin(2))))


def test_a_state_of_other_members_is_installed_without_the_records_of_those_before(
    tmp_path: Path,
) -> None:
    for name in ("source", "into"):
        (tmp_path / name).mkdir()
    with (
        closing(open_database(tmp_path / "source")) as source,
        closing(open_database(tmp_path / "into")) as into,
    ):
        source.perform([said(1, 0, Leave(), certificate=certificate(1, 1, 2)), Settle(1)])
        puts = signer(1).sign(Bundle(1, 1, (Put("a", b"1").encode(),)))
        source.perform([Deliver(2, 2000, (puts,), b"c"), TakeRoot(2)])
        into.perform([Persist(Record(5, 0, 1, b"prepared")), stable(64)])
        root = source.root()[2]
        into.perform([BeginTransfer(2, root)])
        wants = [FIRST]
        while wants:
            kind, item = wants.pop()
            while (data := source.part(b"peer", 2, kind, (item,))) is None:
                continue
            (judged,) = into.perform([JudgePart(b"peer", 2, kind, (item,), data)])
            assert isinstance(judged, PartJudged)
            assert judged.fault is None
            wants += judged.wants
        into.perform([KeepHandovers(1, source.handovers(1))])
        (installed,) = into.perform([InstallState(2)])
        assert installed == (root, 1, source.roll(), {origin(0): (1, 1), origin(1): (1, 1)})
        assert kinds(into) == [(journal.INHERITED, 0)]
        assert lineage(into, 0) == (64, [source.roll().members])
