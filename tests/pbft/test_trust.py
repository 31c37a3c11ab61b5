"""Plays of whom a cluster gives up, and when: a faulty member must not choose, nor a slow network.

Each was a flaw once.
"""

from __future__ import annotations

import pytest

from aegis_edge.pbft.configuration import Parameters
from aegis_edge.pbft.events import Received
from aegis_edge.pbft.execution import START_AGAIN
from aegis_edge.wire import messages
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import Batch, Bundle, PrePrepare, Proposal
from tests.pbft.stage import CLUSTER, PARAMETERS, Stage
from tests.pbft.test_amnesia import forget, said_by
from tests.pbft.test_rules import kind_of

TIMEOUT = PARAMETERS.timeout_ticks


def views(stage: Stage, names: str = "ABCD") -> list[int]:
    return [stage[name].replica.view for name in names]


def hold_proposals(stage: Stage, held: list[tuple[bytes, bytes, bytes]], sender: str = "") -> None:
    """Keep proposals (of one, or of all) on the way."""

    def late(by: bytes, to: bytes, raw: bytes) -> bool:
        if sender and by != stage[sender].key:
            return False
        if kind_of(stage, raw) is not Proposal:
            return False
        held.append((by, to, raw))
        return True

    stage.lost = late


def release(stage: Stage, held: list[tuple[bytes, bytes, bytes]]) -> None:
    stage.lost = lambda *_: False
    stage.wire.extend(held)
    held.clear()
    stage.run()


# --- origins ---


def test_s8_10_an_origin_with_a_gap_deposes_nobody() -> None:
    """It leaves out one bundle, and gives it to everybody when the next one is old."""
    stage = Stage(4)
    d = stage["D"]
    d.alive = False  # it is faulty, and says only this

    def inject(number: int) -> None:
        for name in "ABC":
            bundle = d.signer.sign(Bundle(1, number, (b"%d" % number,)))
            stage[name].step(Received(d.key, bundle))

    inject(1)
    stage.run()
    for number in (2, 4, 6):
        inject(number + 1)
        stage.wait(TIMEOUT + 200)
        inject(number)
        stage.tick(1, run=False)  # before the round is over
        stage.run()
    assert views(stage, "ABC") == [0, 0, 0]
    assert len(stage.agree("A", "B", "C")) == 7


# --- slow ones ---


@pytest.mark.parametrize("excuses", [False, True])
def test_s8_10_a_primary_just_under_the_timer_is_replaced(excuses: bool) -> None:
    """Whether it orders its own bundles quickly meanwhile, or not."""
    stage = Stage(4)
    held: list[tuple[bytes, bytes, bytes]] = []
    for number in range(3):
        if max(views(stage)):
            break
        hold_proposals(stage, held, "A")
        stage.submit("B", b"%d" % number)
        stage.wait(TIMEOUT * 9 // 10)
        release(stage, held)
        if excuses:
            stage.submit("A", b"own %d" % number, run=False)
            for bundle, _ in stage["A"].replica.pool.waiting(stage["A"].key):
                for name in "BCD":
                    stage[name].step(Received(stage["A"].key, bundle))
            stage.run()
    assert views(stage) == [1] * 4


def test_s8_10_a_cluster_that_is_slow_as_a_whole_settles() -> None:
    """Every batch is on its way for more than half the time-out, whoever leads."""
    stage = Stage(4)
    on_the_way: list[tuple[int, tuple[bytes, bytes, bytes]]] = []

    def late(by: bytes, to: bytes, raw: bytes) -> bool:
        if kind_of(stage, raw) is not Proposal:
            return False
        on_the_way.append((stage.now + TIMEOUT * 6 // 10, (by, to, raw)))
        return True

    stage.lost = late
    reached = []
    for number in range(20):
        name, operation = "BCDA"[number % 4], b"%d" % number
        stage.submit(name, operation)
        while operation not in stage[name].operations:
            stage.tick(100)
            due = [message for at, message in on_the_way if at <= stage.now]
            on_the_way[:] = [each for each in on_the_way if each[0] > stage.now]
            for by, to, raw in due:
                actor = stage.by_key[to]
                actor.step(Received(by, messages.read(raw, actor.opener.open)))
            stage.run()
        reached.append(views(stage))
    assert reached[5:] == [[2] * 4] * 15, "one of f + 1 primaries is correct"


# --- those who went ahead ---


def test_who_waits_alone_for_the_next_view_executes_with_the_others() -> None:
    """Its own callers too: the bodies come to it as to everybody, and it votes for none."""
    stage = Stage(4)
    d = stage["D"].replica
    d._start_view_change(1)
    stage.run()
    said = said_by(stage, "D")
    for number in range(3):
        stage.submit("D", b"%d" % number)
        assert stage["D"].operations[number:] == [b"%d" % number], "at once"
    assert (d.view, d.changing) == (1, True)
    assert set(said) == {Bundle}
    stage["A"].alive = False
    stage.submit("D", b"4")
    stage.wait(6000)
    assert stage.agree("B", "C", "D")[3:] == [b"4"]
    assert views(stage, "BCD") == [1, 1, 1]


def test_what_is_kept_of_a_view_that_was_left_is_bounded() -> None:
    stage = Stage(4)
    stage.submit("B", b"executed")
    a, d = stage["A"], stage["D"]
    d.replica._start_view_change(1)

    def proposal(view: int, sequence: int, op: bytes, origin: Signer = a.signer) -> Proposal:
        batch = Batch((), (origin.sign(Bundle(1, 1, (op,))),))
        return Proposal(a.signer.sign(PrePrepare(0, view, sequence, batch.digest)), batch)

    def is_kept(offered: Proposal) -> bool:
        assert d.step(Received(a.key, offered)) == []
        return d.replica.log.body(offered.batch.digest) is not None

    assert not is_kept(proposal(4, 1, b"of a later view"))
    assert not is_kept(proposal(0, 9, b"out of the window"))
    d.replica.log.slot(1).pre_prepare = None  # as if it had come with its certificate
    assert not is_kept(proposal(0, 1, b"executed otherwise"))
    assert not is_kept(proposal(0, 2, b"a stranger's", Signer(b"s" * 32, CLUSTER)))
    assert is_kept(proposal(0, 2, b"one"))
    assert not is_kept(proposal(0, 2, b"one more")), "one in a slot"
    d.replica.log.has_room = lambda *_: False  # type: ignore[method-assign]
    assert not is_kept(proposal(0, 3, b"no room"))


# --- those who lost their disk ---


def test_a_primary_that_comes_back_empty_is_replaced_soon() -> None:
    stage = Stage(4, Parameters(checkpoint_interval=4, window=8))
    for number in range(6):
        stage.submit("A", b"%d" % number)
    forget(stage, "A")
    begun = stage.now
    stage.submit("B", b"op")
    while b"op" not in stage["B"].operations:
        stage.tick(100)
    assert views(stage, "BCD") == [1, 1, 1]
    assert stage.now - begun < stage.parameters.timeout_ticks // 2


def test_a_primary_that_was_away_and_remembers_is_trusted_again_when_it_proposes() -> None:
    stage = Stage(4)
    for name in "BCD":
        stage[name].replica.suspicion.is_empty(stage["A"].key, stage.now)
    stage.submit("B", b"op")
    for name in "BCD":
        due = stage[name].replica.suspicion.suspect_at(stage["A"].key, stage.now)
        assert due == stage.now + TIMEOUT


def test_s8_14_a_clock_that_was_behind_is_no_second_owner_of_the_key() -> None:
    """A rebuilt board counts its lives from the time of day, which it may not know."""
    stage = Stage(4)
    d = stage["D"]
    d.incarnation = 1_750_000_000
    for life in range(3):
        stage.crash("D")
        stage.restart("D")
        stage.submit("D", b"life %d" % life)
    stage.crash("D")
    d.lose_disk()
    d.incarnation = 1_700_000_000
    stage.restart("D")
    stage.wait(3000)
    assert d.replica.halted == START_AGAIN
    assert [alarm.reason for alarm in d.alarms] == [START_AGAIN]
    assert d.operations == stage["A"].operations, "once: when all of its past is known"
    d.incarnation = d.replica.pool.last_executed(d.key)[0]
    d.alive = False
    stage.restart("D")
    stage.submit("D", b"new")
    stage.wait(3000)
    assert d.replica.halted is None
    assert stage.agree()[-1] == b"new"
