"""Plays of view changes and restarts: who leads when the primary is gone, and what survives."""

from typing import Any

import pytest

from aegis_edge.pbft import journal, view_change
from aegis_edge.pbft.configuration import Parameters
from aegis_edge.pbft.events import HangUp, LinkDown, LinkUp, Received, Send, TakeRoot, Tick
from aegis_edge.wire import messages
from aegis_edge.wire.messages import (
    Batch,
    Body,
    Bundle,
    Checkpoint,
    Commit,
    Committed,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    Status,
    Verified,
    ViewChange,
)
from tests.pbft.stage import CLOCK_MS, Stage, kind_of


def views(stage: Stage, names: str = "ABCD") -> list[tuple[int, bool]]:
    return [(stage[n].replica.view, stage[n].replica.changing) for n in names]


def test_a_dead_primary_is_replaced_and_taken_back() -> None:
    stage = Stage(4)
    stage.submit("B", b"1")
    stage.crash("A")
    stage.submit("B", b"2")
    stage.wait(400)
    assert stage.agree("B", "C", "D") == [b"1", b"2"]
    assert views(stage, "BCD") == [(1, False)] * 3
    stage.restart("A")
    stage.wait(1000)
    assert stage.agree() == [b"1", b"2"]
    assert views(stage) == [(1, False)] * 4


def test_a_silent_primary_is_replaced_after_the_full_time_out() -> None:
    stage = Stage(4)
    stage.crash("A", notice=False)
    stage.submit("B", b"1")
    stage.wait(2800)
    assert stage.agree("B", "C", "D") == []
    stage.wait(1500)
    assert stage.agree("B", "C", "D") == [b"1"]


def test_two_dead_primaries_in_a_row_of_seven() -> None:
    stage = Stage(7)
    stage.submit("C", b"1")
    stage.crash("A")
    stage.crash("B")
    stage.submit("C", b"2")
    stage.wait(3000)
    assert stage.agree(*"CDEFG") == [b"1", b"2"]
    assert views(stage, "CDEFG") == [(2, False)] * 5


def test_s8_06_one_view_change_moves_nobody_and_f_plus_1_move_all() -> None:
    stage = Stage(4)
    a, b, c, d = stage.actors
    five, seven = (x.signer.sign(ViewChange(0, v, 0, (), ())) for x, v in ((d, 5), (c, 7)))
    a.step(Received(d.key, five))
    assert views(stage, "A") == [(0, False)]
    a.step(Received(d.key, five))
    a.step(Received(d.key, d.signer.sign(ViewChange(0, 4, 0, (), ()))))
    assert views(stage, "A") == [(0, False)], "again, and an older one: still one member"
    a.step(Received(c.key, seven))
    assert views(stage, "A") == [(5, True)], "the smallest of the views that f+1 ask for"
    assert b.replica.view == 0


def test_s8_08_a_bad_view_change_is_refused_whole_and_noted() -> None:
    stage = Stage(4)
    a, d = stage["A"], stage["D"]
    a.step(Received(d.key, d.signer.sign(ViewChange(0, 1, 4, (), ()))))
    assert a.alarms[0].reason == "a view change was refused: its checkpoint is not proven"
    assert a.alarms[0].about == d.key
    a.step(Received(d.key, d.signer.sign(ViewChange(0, 1, 4, (), ()))))
    assert len(a.alarms) == 1, "once is enough"


def test_s8_23_who_sends_a_bad_view_change_of_its_own_is_hung_up_on_each_time() -> None:
    """The check cost hundreds of signatures.  It is the signer's fault, whoever passes it on."""
    stage = Stage(4)
    a, c, d = stage["A"], stage["C"], stage["D"]
    bad = d.signer.sign(ViewChange(0, 1, 4, (), ()))
    new = a.replica.configuration.primary(1)
    maker = next(x for x in stage.actors if x.key == new)
    worse = maker.signer.sign(NewView(0, 1, (bad,), ()))

    def hung_up(message: Any, peer: bytes) -> list[bytes]:
        return [e.peer for e in a.step(Received(peer, message)) if isinstance(e, HangUp)]

    assert hung_up(bad, c.key) == [d.key]
    for _ in range(2):
        assert hung_up(bad, d.key) == [d.key]
        assert hung_up(worse, maker.key) == [maker.key]


def test_s8_06_a_new_view_needs_a_quorum_and_the_right_primary() -> None:
    stage = Stage(4)
    _, b, c, d = stage.actors
    changes = tuple(x.signer.sign(ViewChange(0, 1, 0, (), ())) for x in (b, c, d))
    for forged in (
        b.signer.sign(NewView(0, 1, changes[:2], ())),
        c.signer.sign(NewView(0, 1, changes, ())),
    ):
        stage["A"].step(Received(forged.signer, forged))
        assert views(stage, "A") == [(0, False)]
    assert len(stage["A"].alarms) == 2
    good = b.signer.sign(NewView(0, 1, changes, ()))
    stage["A"].step(Received(b.key, good))
    assert views(stage, "A") == [(1, False)]
    assert stage["A"].step(Received(b.key, good)) == [], "once is enough"
    older = stage["A"].step(Received(b.key, b.signer.sign(NewView(0, 0 + 1, changes, ()))))
    assert older == []


def lose_commits(stage: Stage) -> None:
    stage.lost = lambda sender, to, raw: kind_of(stage, raw) is Commit


def test_s8_07_what_was_prepared_survives_the_view_change() -> None:
    stage = Stage(4)
    lose_commits(stage)
    stage.submit("B", b"prepared")
    assert all(a.replica.log.slots[1].prepared is not None for a in stage.actors)
    stage.crash("A")
    stage.lost = lambda *_: False
    stage.wait(600)
    assert stage.agree("B", "C", "D") == [b"prepared"]
    assert stage["B"].delivered[0].sequence == 1
    stage.restart("A")
    stage.wait(1500)
    assert stage.agree() == [b"prepared"]


def test_s8_07_holes_become_null_batches() -> None:
    stage = Stage(4)
    a = stage["A"].key

    def only_second(sender: bytes, to: bytes, raw: bytes) -> bool:
        message = messages.read(raw, stage["A"].opener.open)
        if kind_of(stage, raw) is Commit:
            return True
        return (
            sender == a
            and isinstance(message, Proposal)
            and message.pre_prepare.message.sequence == 1
        )

    stage.lost = only_second
    stage.submit("A", b"one", run=False)
    stage.submit("A", b"two")
    stage.crash("A")
    stage.lost = lambda *_: False
    stage.submit("B", b"three")
    stage.wait(1000)
    assert stage.agree("B", "C", "D") == [b"three"], "two cannot execute before one"
    assert [len(d.bundles) for d in stage["B"].delivered][:2] == [0, 0]
    stage.restart("A")
    stage.wait(1500)
    stage.agree()


def test_s8_09_a_body_that_the_new_primary_lacks_is_fetched() -> None:
    stage = Stage(4)
    a, b = stage["A"].key, stage["B"].key

    def keep_from_b(sender: bytes, to: bytes, raw: bytes) -> bool:
        return kind_of(stage, raw) is Commit or (to == b and kind_of(stage, raw) is Proposal)

    stage.lost = keep_from_b
    stage.submit("C", b"hidden")
    assert stage["C"].replica.log.slots[1].prepared is not None
    assert (
        stage["B"].replica.log.body(
            stage["C"].replica.log.slots[1].prepared.pre_prepare.message.digest
        )
        is None
    )  # type: ignore[union-attr]
    stage.crash("A")
    stage.lost = lambda sender, to, raw: to == b and kind_of(stage, raw) is Body
    stage.wait(500)
    assert stage["B"].replica.view == 1
    assert stage.agree("B", "C", "D") == [], "missing bodies are not invented"
    stage.lost = lambda *_: False
    stage.wait(1000)
    assert stage.agree("B", "C", "D") == [b"hidden"], "and do not stop the view"
    assert a is not None


def test_s8_09_a_body_that_was_voted_for_outlives_checkpoints_below_it() -> None:
    """A faulty primary alone holds the certificate; the others must still have what it names."""
    stage = Stage(4)
    log = stage["D"].replica.log
    batch = Batch((), (stage["A"].signer.sign(Bundle(1, 1, (b"op",))),))
    named = stage["A"].signer.sign(PrePrepare(0, 0, 5, batch.digest))
    stage["D"].step(Received(stage["A"].key, Proposal(named, batch)))
    stage["D"].step(Received(stage["B"].key, new_view_from(stage, 4)))  # type: ignore[arg-type]
    assert log.low == 4
    assert log.slots[5].pre_prepare is None
    assert log.body(batch.digest) == batch


def test_a_body_may_also_come_with_the_proposal() -> None:
    stage = Stage(4)
    c, d = stage["C"].key, stage["D"].key

    def keep_from_d(sender: bytes, to: bytes, raw: bytes) -> bool:
        return kind_of(stage, raw) is Commit or (
            to == d and kind_of(stage, raw) in (Proposal, Body)
        )

    stage.lost = keep_from_d
    stage.submit("C", b"hidden")
    stage.crash("A")
    stage.lost = lambda sender, to, raw: to == d and kind_of(stage, raw) is Body
    stage.wait(1500)
    assert stage.agree("B", "C", "D") == [b"hidden"]
    assert c is not None


def test_s8_10_timers_double_and_join_by_quorum() -> None:
    stage = Stage(4)
    stage.lost = lambda sender, to, raw: kind_of(stage, raw) is NewView
    stage.submit("B", b"op")
    stage.lost = lambda sender, to, raw: kind_of(stage, raw) in (NewView, Proposal)
    stage.submit("B", b"op2")
    stage.wait(3500)
    assert {v for v, _ in views(stage)} == {1}
    stage.wait(6500)
    assert {v for v, _ in views(stage)} == {2}
    stage.lost = lambda *_: False
    stage.wait(4000)
    assert stage.agree() == [b"op", b"op2"]


def test_s6_06_a_healed_partition_resends_view_changes() -> None:
    stage = Stage(4)
    stage.submit("A", b"1")
    stage.cut("AB", "CD")
    stage.submit("B", b"2")
    stage.submit("C", b"3")
    stage.wait(10_000)
    assert views(stage) == [(0, False)] * 4, "no view change without a quorum in reach"
    stage.heal()
    stage.wait(1500)
    assert sorted(stage.agree()) == [b"1", b"2", b"3"]


def test_s6_06_late_commits_count_while_the_view_changes() -> None:
    stage = Stage(4)
    held: list[tuple[bytes, bytes, bytes]] = []

    def hold_commits(sender: bytes, to: bytes, raw: bytes) -> bool:
        if kind_of(stage, raw) is Commit:
            held.append((sender, to, raw))
            return True
        return kind_of(stage, raw) is ViewChange

    stage.lost = hold_commits
    stage.submit("B", b"op")
    stage.wait(3500)
    assert stage["B"].replica.changing
    stage.lost = lambda *_: True
    for sender, to, raw in held:
        actor = stage.by_key[to]
        actor.step(Received(sender, messages.read(raw, actor.opener.open)))
    assert stage.agree() == [b"op"]


def test_s8_11_a_new_view_is_given_to_who_missed_it() -> None:
    stage = Stage(4)
    d = stage["D"].key
    stage.crash("A")
    stage.lost = lambda sender, to, raw: to == d and kind_of(stage, raw) is NewView
    stage.submit("B", b"op")
    stage.wait(300)
    assert views(stage, "D") == [(1, True)]
    stage.lost = lambda *_: False
    stage.wait(1500)
    assert views(stage, "BCD") == [(1, False)] * 3
    assert stage.agree("B", "C", "D") == [b"op"]


def test_s8_11_a_view_change_for_an_installed_view_is_answered_with_it() -> None:
    stage = Stage(4)
    stage.crash("A")
    stage.submit("B", b"op")
    stage.wait(400)
    c, a = stage["C"], stage["A"]
    late = a.signer.sign(ViewChange(0, 1, 0, (), ()))
    effects = c.step(Received(a.key, late))
    assert [kind_of(stage, e.raw) for e in effects if isinstance(e, Send)] == [NewView]


def test_votes_of_the_next_view_wait_for_it() -> None:
    stage = Stage(4)
    d = stage["D"].key
    stage.crash("A")
    held: list[tuple[bytes, bytes, bytes]] = []

    def hold(sender: bytes, to: bytes, raw: bytes) -> bool:
        if to == d and kind_of(stage, raw) is NewView:
            held.append((sender, to, raw))
            return True
        return False

    stage.lost = hold
    stage.submit("B", b"op")
    stage.wait(300)
    stage.lost = lambda *_: True
    assert stage["D"].operations == []
    sender, _, raw = held[0]
    assert 1 not in stage["D"].replica.log.slots
    stage["D"].step(Received(sender, messages.read(raw, stage["D"].opener.open)))
    assert stage["D"].replica.log.slots[1].prepared is not None


def test_s8_12_a_view_change_during_a_view_change() -> None:
    stage = Stage(7)
    stage.crash("A")
    stage.lost = lambda sender, to, raw: kind_of(stage, raw) is NewView
    stage.submit("C", b"op")
    stage.wait(400)
    assert {v for v, _ in views(stage, "BCDEFG")} == {1}
    stage.crash("B")
    stage.lost = lambda *_: False
    stage.wait(4000)
    assert stage.agree(*"CDEFG") == [b"op"]


def test_a_new_view_starts_from_the_highest_checkpoint() -> None:
    stage = Stage(4)
    stage.cut("ABC", "D")
    for i in range(6):
        stage.submit("A", b"%d" % i)
    assert stage["D"].replica.stable == 0
    stage.crash("A")
    stage.lost = lambda *_: False
    for other in "BC":
        stage["D"].step(LinkUp(stage[other].key))
        stage[other].step(LinkUp(stage["D"].key))
    stage.submit("B", b"last")
    stage.wait(2500)
    assert stage.agree("B", "C", "D")[-1] == b"last"
    assert stage["D"].replica.stable >= 4


def test_a_new_view_beyond_our_window_is_followed_by_fetching() -> None:
    """The pre-prepares of a new view that a replica has no room for come as certificates."""
    stage = Stage(4)
    a, b, c, d = stage.actors
    batch = Batch((), (b.signer.sign(Bundle(1, 1, (b"op",))),))
    fields = (0, 0, 9, batch.digest)
    certificate = PreparedCertificate(
        a.signer.sign(PrePrepare(*fields)), tuple(x.signer.sign(Prepare(*fields)) for x in (b, c))
    )
    # B is ahead of everybody by one checkpoint that it cannot have: the order is still judged.
    change = b.signer.sign(ViewChange(0, 1, 0, (), (certificate,)))
    others = tuple(x.signer.sign(ViewChange(0, 1, 0, (), ())) for x in (c, d))
    new = b.signer.sign(NewView(0, 1, (change, *others), ()))
    d.step(Received(b.key, new))
    assert d.replica.view == 0
    assert "out of the window" in d.alarms[0].reason


def new_view_from(stage: Stage, start: int, *certificates: PreparedCertificate) -> object:
    """A valid NEW-VIEW 1 by B that starts from a checkpoint at `start`."""
    root = b"r" * 32
    stable = tuple(stage[n].signer.sign(Checkpoint(0, start, root)) for n in "ABC")
    changes = tuple(
        stage[n].signer.sign(ViewChange(0, 1, start, stable if start else (), certificates))
        for n in "ABC"
    )
    pre_prepares = tuple(
        stage["B"].signer.sign(PrePrepare(0, 1, s, d)) for s, d in view_change.order(changes)
    )
    return stage["B"].signer.sign(NewView(0, 1, changes, pre_prepares))


def test_a_new_view_may_start_beyond_what_was_executed() -> None:
    stage = Stage(4)
    d = stage["D"]
    d.step(Received(stage["B"].key, new_view_from(stage, 4)))  # type: ignore[arg-type]
    assert views(stage, "D") == [(1, False)]
    assert (d.replica.stable, d.replica.executed) == (4, 0)
    stage.crash("D")
    stage.restart("D")
    assert (d.replica.stable, d.replica.executed) == (4, 0)


def test_an_early_proposal_that_contradicts_the_new_view_gets_no_vote() -> None:
    """The primary of the next view sends its batch early, then a valid NEW-VIEW with another."""
    stage = Stage(4)
    b, d = stage["B"], stage["D"]
    batches = [Batch((), (b.signer.sign(Bundle(1, 1, (op,))),)) for op in (b"early", b"right")]
    early = Proposal(b.signer.sign(PrePrepare(0, 1, 5, batches[0].digest)), batches[0])
    d.step(Received(b.key, early))
    fields = (0, 0, 5, batches[1].digest)
    certificate = PreparedCertificate(
        stage["A"].signer.sign(PrePrepare(*fields)),
        tuple(stage[n].signer.sign(Prepare(*fields)) for n in "BC"),
    )
    d.replica.log.add_body(5, batches[1])
    effects = d.step(Received(b.key, new_view_from(stage, 4, certificate)))  # type: ignore[arg-type]
    votes = [
        message.message.digest
        for message in (messages.read(e.raw, d.opener.open) for e in effects if isinstance(e, Send))
        if isinstance(message, Verified) and isinstance(message.message, Prepare)
    ]
    assert votes == [batches[1].digest], "one vote in the slot, for what had to be ordered there"
    assert d.replica.changing, "and the contradiction ends that primary"


def test_a_new_view_may_start_below_our_checkpoint() -> None:
    stage = Stage(4)
    for i in range(4):
        stage.submit("A", b"%d" % i)
    d = stage["D"]
    assert d.replica.stable == 4
    executed = messages.read(d.delivered[0].certificate, d.opener.open)
    assert isinstance(executed, Committed)
    fields = (0, 0, 1, executed.batch.digest)
    certificate = PreparedCertificate(
        stage["A"].signer.sign(PrePrepare(*fields)),
        tuple(stage[n].signer.sign(Prepare(*fields)) for n in "BC"),
    )
    d.step(Received(stage["B"].key, new_view_from(stage, 0, certificate)))  # type: ignore[arg-type]
    assert views(stage, "D") == [(1, False)]
    assert d.replica.log.slots == {}


def test_executed_slots_of_a_restarted_primary_are_repaired_without_their_bodies() -> None:
    """A disk may drop a proposal once the certificate, which has the batch too, is written."""
    stage = Stage(4)
    stage.submit("A", b"op")
    a, b = stage["A"], stage["B"]
    del a.records[journal.PROPOSAL, 0, 1]
    stage.crash("A")
    stage.restart("A")
    assert a.replica.log.slots[1].journalled
    stage.tick(100)
    effects = a.step(Received(b.key, b.signer.sign(Status(0, 0, False, 0, 0, 5))))
    kinds = [kind_of(stage, e.raw) for e in effects if isinstance(e, Send)]
    assert Commit in kinds
    assert Proposal not in kinds
    other = Batch((), (a.signer.sign(Bundle(1, 1, (b"other",))),))
    again = Proposal(a.signer.sign(PrePrepare(0, 0, 1, other.digest)), other)
    stage.crash("B")
    del b.records[journal.PROPOSAL, 0, 1]
    del b.records[journal.PREPARED, 0, 1]
    stage.restart("B")
    assert b.step(Received(a.key, again)) == [], "no vote at all in a slot that was executed"


def test_a_slot_that_was_executed_is_voted_for_again_in_a_new_view() -> None:
    stage = Stage(4)
    stage.submit("A", b"op")
    for name in "BCD":
        del stage[name].records[journal.PROPOSAL, 0, 1]
        stage.crash(name)
        stage.restart(name)
    stage.crash("A")
    stage.submit("B", b"next")
    stage.wait(1500)
    assert stage.agree("B", "C", "D") == [b"op", b"next"]
    assert stage["C"].replica.log.slots[1].prepared_in(1)


# --- restarts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["A", "B"])
def test_s6_02_a_restarted_replica_says_the_same_again(name: str) -> None:
    stage = Stage(4)
    lose_commits(stage)
    stage.submit("C", b"op")
    before = stage[name].replica.log.slots[1]
    stage.crash(name)
    stage.restart(name)
    after = stage[name].replica.log.slots[1]
    assert after.pre_prepare == before.pre_prepare
    assert after.prepared == before.prepared
    assert after.own_commit == before.own_commit
    assert after.journalled
    key = stage[name].key
    assert after.prepares.get(key) == before.prepares.get(key)
    stage.lost = lambda *_: False
    stage.wait(1500)
    assert stage.agree() == [b"op"]
    assert not any(a.alarms for a in stage.actors)


def test_s6_02_a_restarted_backup_refuses_another_batch_for_its_slot() -> None:
    stage = Stage(4)
    stage.lost = lambda sender, to, raw: kind_of(stage, raw) is Prepare
    stage.submit("A", b"first")
    stage.crash("B")
    stage.restart("B")
    a, b = stage["A"], stage["B"]
    other = Batch((), (a.signer.sign(Bundle(1, 1, (b"second",))),))
    b.step(Received(a.key, Proposal(a.signer.sign(PrePrepare(0, 0, 1, other.digest)), other)))
    assert b.replica.changing
    assert "two batches" in b.alarms[0].reason


def test_s6_14_a_restarted_primary_goes_on_with_its_numbers() -> None:
    stage = Stage(4)
    stage.lost = lambda *_: True
    stage.submit("A", b"one")
    stage.crash("A")
    stage.lost = lambda *_: False
    stage.restart("A")
    stage.wait(300)
    stage.submit("A", b"two")
    stage.wait(1500)
    assert stage.agree() == [b"one", b"two"]
    assert stage["A"].replica.view == 0


def test_s6_18_the_whole_cluster_loses_power() -> None:
    stage = Stage(4)
    for i in range(6):
        stage.submit("ABCD"[i % 4], b"%d" % i)
    lose_commits(stage)
    stage.submit("D", b"prepared only")
    for name in "ABCD":
        stage.crash(name)
    stage.lost = lambda *_: False
    for name in "ABCD":
        stage.restart(name)
    stage.wait(2000)
    assert len(stage.agree()) == 7
    stage.submit("D", b"after")
    stage.wait(500)
    assert len(stage.agree()) == 8


def test_s6_03_a_restart_in_the_middle_of_a_view_change() -> None:
    stage = Stage(4)
    stage.lost = lambda sender, to, raw: kind_of(stage, raw) is NewView
    stage.crash("A")
    stage.submit("C", b"op")
    stage.wait(300)
    assert views(stage, "D") == [(1, True)]
    stage.crash("D")
    stage.restart("D")
    assert views(stage, "D") == [(1, True)], "it does not fall back to a view that it left"
    stage.lost = lambda *_: False
    stage.wait(2000)
    assert stage.agree("B", "C", "D") == [b"op"]


def test_a_restart_after_a_view_change_keeps_the_view() -> None:
    stage = Stage(4)
    stage.crash("A")
    stage.submit("B", b"op")
    stage.wait(400)
    stage.crash("B")
    stage.restart("B")
    assert views(stage, "B") == [(1, False)]
    stage.restart("A")
    stage.wait(1500)
    assert views(stage) == [(1, False)] * 4
    assert stage.agree() == [b"op"]


def test_s8_15_execution_is_not_repeated_after_a_restart() -> None:
    stage = Stage(4)
    for i in range(3):
        stage.submit("B", b"%d" % i)
    stage.crash("C")
    stage.restart("C")
    stage.submit("B", b"3")
    stage.wait(1000)
    assert stage.agree() == [b"0", b"1", b"2", b"3"]


def test_a_restart_on_the_way_to_a_view_above_the_installed_one() -> None:
    stage = Stage(4)
    batch = Batch((), (stage["A"].signer.sign(Bundle(1, 1, (b"op",))),))
    fields = (0, 0, 1, batch.digest)
    certificate = PreparedCertificate(
        stage["A"].signer.sign(PrePrepare(*fields)),
        tuple(stage[n].signer.sign(Prepare(*fields)) for n in "BC"),
    )
    d = stage["D"]
    d.step(Received(stage["B"].key, new_view_from(stage, 0, certificate)))  # type: ignore[arg-type]
    root = b"r" * 32
    stable = tuple(stage[n].signer.sign(Checkpoint(0, 4, root)) for n in "ABC")
    record = journal.stable(stable)
    d.records[record.kind, 0, 0] = record  # its slots are below the window now
    stage.crash("D")
    stage.restart("D")
    assert views(stage, "D") == [(1, False)]
    assert d.replica.log.slots == {}
    for name in "AC":
        change = stage[name].signer.sign(ViewChange(0, 2, 0, (), ()))
        d.step(Received(change.signer, change))
    stage.crash("D")
    stage.restart("D")
    assert views(stage, "D") == [(2, True)]


def test_a_root_that_a_crash_lost_is_taken_again() -> None:
    stage = Stage(4)
    d = stage["D"]
    perform = d.perform
    d.perform = lambda e: None if isinstance(e, TakeRoot) else perform(e)  # type: ignore[method-assign]
    for i in range(4):
        stage.submit("A", b"%d" % i)
    assert d.replica.stable == 0
    d.perform = perform  # type: ignore[method-assign]
    stage.crash("D")
    stage.restart("D")
    stage.wait(1000)
    assert d.replica.stable == 4


def test_records_of_another_view_are_kept_for_what_they_prove() -> None:
    stage = Stage(4)
    lose_commits(stage)
    stage.submit("B", b"op")
    stage.crash("A")
    stage.lost = lambda sender, to, raw: kind_of(stage, raw) in (NewView, Commit)
    stage.wait(300)
    stage.crash("C")
    stage.restart("C")
    slot = stage["C"].replica.log.slots[1]
    assert slot.prepared is not None
    assert slot.pre_prepare is None, "no vote in a view that it left"
    assert (journal.PROPOSAL, 0, 1) in stage["C"].records


def test_a_restart_behind_the_stable_checkpoint_drops_old_records() -> None:
    stage = Stage(4)
    lose_commits(stage)
    stage.submit("B", b"op")
    d = stage["D"]
    old = dict(d.records)
    stage.lost = lambda *_: False
    stage.wait(1500)
    for i in range(5):
        stage.submit("A", b"%d" % i)
    d.records.update(old)  # as if the deletion had been lost, which it cannot be
    stage.crash("D")
    stage.restart("D")
    assert all(s > 4 for s in d.replica.log.slots)


# --- links ----------------------------------------------------------------------------------------


def test_links_of_strangers_mean_nothing() -> None:
    stage = Stage(4)
    assert stage["A"].step(LinkUp(b"?" * 32)) == []
    assert stage["A"].step(LinkUp(stage["A"].key)) == []


def test_who_is_served_in_small_portions_catches_up_without_a_pause() -> None:
    slow = Parameters(checkpoint_interval=4, window=8, bytes_a_second=1_000, turn_ticks=10)
    stage = Stage(4, slow)
    stage.crash("D", notice=False)
    for i in range(20):
        stage.submit("A", b"%d" % i)
    answers: list[int] = []

    def note(sender: bytes, to: bytes, raw: bytes) -> bool:
        if to == stage["D"].key:
            answers.append(kind_of(stage, raw) is Committed)
        return False

    stage.lost = note
    stage.restart("D")
    assert stage["D"].operations == stage["A"].operations, "in no time"
    assert sum(answers) >= 18, "of a batch each"
    assert [True, True] not in [answers[i : i + 2] for i in range(len(answers))]


@pytest.mark.parametrize("how", ["arrives", "another view"])
def test_what_the_primary_announced_is_waited_for_until_it_is_here(how: str) -> None:
    slow = Parameters(checkpoint_interval=4, window=8, bytes_a_second=1_000)
    stage = Stage(4, slow)
    b = stage["B"]
    stage.lost = lambda *_: True
    stage.submit("B", b"op")
    own_ticks = b.replica.pacing.travel_ticks()
    stage.lost = lambda _, to, raw: kind_of(stage, raw) is not Status
    stage.submit("A", bytes(300))
    assert b.replica.pacing.travel_ticks() > own_ticks + 2 * 300
    if how == "another view":
        stage.lost = lambda sender, to, raw: stage["A"].key in (sender, to)
        stage.wait(3 * slow.timeout_ticks, slow.timeout_ticks // 4)
        assert stage["C"].operations == [b"op"], "in another view"
    else:
        stage.lost = lambda *_: False
        stage.tick(slow.timeout_ticks // 3)
        assert len(stage["C"].operations) == 2
    stage.lost = lambda *_: True
    stage.submit("B", b"op")
    assert b.replica.pacing.travel_ticks() == own_ticks


def test_what_was_asked_over_a_link_that_broke_does_not_wait_out_its_pause() -> None:
    """All within one tick: the request for the batches, and its answer, were lost with a link."""
    stage = Stage(4)
    stage.crash("D", notice=False)
    for i in range(3):
        stage.submit("A", b"%d" % i)
    stage.lost = lambda _, to, raw: to == stage["D"].key and kind_of(stage, raw) is not Status
    stage.restart("D")
    assert stage["D"].operations == []
    stage.lost = lambda *_: False
    for other in "ABC":
        for one, two in ((other, "D"), ("D", other)):
            stage[one].step(LinkDown(stage[two].key))
            stage[one].step(LinkUp(stage[two].key))
    stage.run()
    assert stage["D"].operations == [b"0", b"1", b"2"]


def test_a_primary_that_comes_back_in_time_gets_what_waits() -> None:
    stage = Stage(4, Parameters(checkpoint_interval=4, window=8, timeout_ticks=60_000))
    stage.crash("A")
    stage.submit("B", b"op")
    stage.restart("A")
    stage.wait(200)
    assert stage.agree() == [b"op"]
    assert views(stage) == [(0, False)] * 4


def test_bundles_submitted_while_the_view_changes_reach_the_new_primary() -> None:
    stage = Stage(4)
    stage.crash("A")
    stage.lost = lambda sender, to, raw: kind_of(stage, raw) is NewView
    stage.submit("C", b"1")
    stage.wait(300)
    assert stage["C"].replica.changing
    stage.submit("C", b"2")
    stage["C"].step(Tick(stage.now + 1, CLOCK_MS))
    stage.lost = lambda *_: False
    stage.wait(2000)
    assert stage.agree("B", "C", "D") == [b"1", b"2"]


def test_a_changing_replica_tells_its_view_change_to_who_asks() -> None:
    stage = Stage(4)
    stage.lost = lambda sender, to, raw: kind_of(stage, raw) in (NewView, ViewChange)
    stage.crash("A")
    stage.submit("B", b"1")
    stage.wait(300)
    c, d = stage["C"], stage["D"]
    assert c.replica.changing
    stage.tick(100, run=False)
    effects = c.step(Received(d.key, d.signer.sign(Status(0, 0, False, 0, 0, 5))))
    assert ViewChange in [kind_of(stage, e.raw) for e in effects if isinstance(e, Send)]
    stage.tick(100, run=False)
    effects = c.step(Received(d.key, d.signer.sign(Status(0, 9, True, 0, 0, 5))))
    assert ViewChange not in [kind_of(stage, e.raw) for e in effects if isinstance(e, Send)]
