"""What commits say of who follows: known before the batch is executed, to all who execute it."""

from __future__ import annotations

from dataclasses import replace

from aegis_edge.pbft import certificates
from aegis_edge.pbft.events import Foresee, Foreseen, Received, Tick
from aegis_edge.pbft.succession import Succession
from aegis_edge.wire import messages
from aegis_edge.wire.messages import Batch, Bundle, Commit, Handover
from tests.pbft.parts import OPEN, SIGNERS, Parts, batch
from tests.pbft.stage import Stage
from tests.pbft.test_reconfiguration import follow


def of_members(number: int) -> Batch:
    return Batch((), (SIGNERS[2].sign(Bundle(1, number, (b"op",), of_members=True)),))


def test_only_the_next_batch_about_members_is_asked_about_and_once() -> None:
    parts = Parts(executed=7)
    asks = Succession(parts.at, parts.voice, parts.pool)
    first, second = of_members(1), of_members(2)
    foresee = Foresee(8, 0, first.bundles, first.digest)
    for plain in (batch(), None):
        assert asks.after(8, plain) == b""
    assert asks.after(7, first) == b"", "it was executed, and ended nothing"
    assert parts.said(asks.after, 9, second) == [] and asks.due() is None
    assert asks.after(9, second) is None
    assert parts.said(asks.after, 8, first) == [foresee]
    assert parts.said(asks.after, 8, first) == [] and asks.after(8, first) is None
    other = of_members(3)
    (again,) = parts.said(asks.after, 8, other)
    assert again == Foresee(8, 0, (), other.digest), "of those that execute"
    asks.foreseen(Foreseen(8, first.digest, b"heir"))
    assert (asks.after(8, first), asks.after(8, other)) == (b"heir", None)
    parts.at.executed = 8
    assert (asks.due(), asks.due()) == (9, None)
    parts.pool.execute(first.bundles, 0)
    assert parts.said(asks.after, 9, second) == [Foresee(9, 0, second.bundles, second.digest)]
    asks.foreseen(Foreseen(9, second.digest, b""))
    assert asks.after(9, second) == b""


def test_whoever_executes_the_last_batch_can_show_who_follows() -> None:
    stage = Stage(4, outsiders=2)
    first = stage["A"].replica.configuration
    stage.change_members("A", "+E")
    follow(stage, "E")
    stage.change_members("B", "+F", "-A")
    stage.wait(5_000)
    for actor in stage.actors:
        now = first
        for number in (1, 2):
            handover = Handover.open(actor.handovers[number], actor.opener.open)
            following = certificates.heir(handover, now)
            assert following is not None
            now = following
        assert now == actor.replica.configuration
    assert stage["A"].key not in now


def test_who_leaves_with_the_last_batch_is_not_waited_for() -> None:
    """Two decide everything together; one goes, and is switched off with its last commit."""
    stage = Stage(2)
    stage.change_members("B", "-B", run=False)
    while not stage["A"].handovers:
        stage.run_once()
    stage.crash("B")
    stage.run()
    stage.submit("A", b"alone")
    assert stage["A"].operations == [b"-B", b"alone"]
    handover = Handover.open(stage["A"].handovers[1], OPEN)
    assert {c.signer for c in handover.commits} == {stage["A"].key, stage["B"].key}


def test_a_commit_waits_for_the_batches_before() -> None:
    """What comes of a batch about members only the state before it tells."""
    stage = Stage(4, outsiders=1)
    stage.lost = lambda sender, to, raw: (
        to == stage["D"].key
        and isinstance(getattr(messages.read(raw, stage["D"].opener.open), "message", None), Commit)
    )
    stage.submit("A", b"before")
    slow = stage["D"]
    stage.change_members("A", "+E")
    assert slow.replica.executed == 0
    assert slow.replica.log.slots[1].own_commit is not None
    assert slow.replica.log.slots[2].prepared is None
    stage.lost = lambda sender, to, raw: False
    stage.heal()
    follow(stage, "D", "E")
    assert stage.agree() == [b"before", b"+E"]
    assert {a.replica.configuration.number for a in stage.actors} == {1}


def test_what_was_foreseen_counts_for_that_batch_in_any_view() -> None:
    stage = Stage(4, outsiders=1)
    primary = stage.by_key[stage["A"].replica.primary].name
    rest = [name for name in "ABCD" if name != primary]
    stage.lost = lambda sender, to, raw: isinstance(
        getattr(messages.read(raw, stage["A"].opener.open), "message", None), Commit
    )
    stage.change_members(rest[0], "+E")
    assert all(stage[name].replica.log.slots[1].prepared is not None for name in rest)
    stage.crash(primary)
    stage.lost = lambda sender, to, raw: False
    stage.wait(30_000)
    assert {stage[name].replica.configuration.number for name in rest} == {1}
    assert stage[rest[0]].replica.configuration.members == tuple(sorted(stage.by_key))


def test_two_commits_that_differ_in_who_follows_are_shown_to_people() -> None:
    stage = Stage(4)
    liar, node = stage["B"], stage["C"]
    for successor in (b"", bytes(32), b"", bytes(32)):
        said = liar.signer.sign(Commit(0, 0, 1, bytes(32), 7, successor))
        node.step(Received(liar.key, said))
    assert [a.reason for a in node.alarms] == ["two different commits for one slot"]
    same = stage["D"].signer
    for clock_ms in (7, 8):
        node.step(Received(same.public, same.sign(Commit(0, 0, 1, bytes(32), clock_ms))))
    assert len(node.alarms) == 1


def test_what_is_foreseen_too_late_makes_no_commit_in_a_view_that_was_left() -> None:
    stage = Stage(4, outsiders=1)
    node = stage["C"]
    stage.change_members("A", "+E", run=False)
    while not (stage.later and stage.later[-1][0] is node):
        stage.run_once()
    _, answer = stage.later.pop()
    assert isinstance(answer, Foreseen)
    node.step(Tick(stage.now + 100_000, node.clock_ms))
    assert node.replica.changing
    assert node.step(answer) == []
    assert node.replica.log.slots[1].own_commit is None
    assert node.step(replace(answer, sequence=9)) == []
    stage.wait(100_000)
    assert {actor.replica.configuration.number for actor in stage.actors} == {1}
