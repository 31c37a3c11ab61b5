"""Plays of mistakes that were found in other people's PBFT: rules `s6` of the checklist."""

from __future__ import annotations

import pytest

from aegis_edge.knowledge.operations import Barrier
from aegis_edge.pbft import journal
from aegis_edge.pbft.events import Asked, Deliver, Effect, Persist, Received, Send, Submitted, Tick
from aegis_edge.wire import messages
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import (
    Bundle,
    Checkpoint,
    Commit,
    Committed,
    FetchBatches,
    Prepare,
    PrePrepare,
    Proposal,
    Status,
    ViewChange,
)
from tests.pbft.stage import CLOCK_MS, CLUSTER, Actor, Stage, kind_of


def in_view(stage: Stage, view: int, names: str = "ABCD") -> bool:
    replicas = [stage[n].replica for n in names]
    return all((r.view, r.changing) == (view, False) for r in replicas)


def written_by(actor: Actor) -> list[Effect]:
    """From now on: what this member writes down."""
    written: list[Effect] = []
    perform = actor.perform

    def watch(effect: Effect) -> None:
        if isinstance(effect, (Persist, Deliver)):
            written.append(effect)
        perform(effect)

    actor.perform = watch  # type: ignore[method-assign]
    return written


def reborn_from(stage: Stage, name: str, written: list[Effect]) -> None:
    """This member starts again with exactly that on its disk."""
    actor = stage[name]
    actor.alive = False
    actor.records, actor.delivered = {}, []
    for effect in written:
        Actor.perform(actor, effect)
    actor.start()


def test_s6_04_a_torn_tail_of_the_journal_is_a_good_start() -> None:
    """Whatever first part of its writing survives, a replica starts from it and catches up."""
    stage = Stage(4)
    written = written_by(stage["D"])
    for i in range(5):
        stage.submit("B", b"%d" % i)
    stage.crash("A")
    stage.submit("B", b"in another view")
    stage.wait(500)
    assert in_view(stage, 1, "BCD")
    stage.restart("A")
    stage.wait(1000)
    whole = stage.agree()
    assert {e.record.kind for e in written if isinstance(e, Persist)} > {1, 2, 3, 4, 5, 7}
    for count in range(len(written) + 1):
        reborn_from(stage, "D", written[:count])
        assert stage["D"].replica.view <= 1
        if count % 8 == 0 or count > len(written) - 4:
            stage.restart("D")
            stage.wait(1500)
            assert stage.agree() == whole, f"after {count} of {len(written)}"
            assert in_view(stage, 1), "it is not stuck in a view of its own"


def test_s6_07_what_lies_above_the_high_watermark_is_kept() -> None:
    """A replica that hears of a checkpoint late has not thrown away what came meanwhile."""
    stage = Stage(4)
    d, held = stage["D"], []

    def hold_checkpoints(sender: bytes, to: bytes, raw: bytes) -> bool:
        if to == d.key and kind_of(stage, raw) is Checkpoint:
            held.append((sender, to, raw))
            return True
        return False

    stage.lost = hold_checkpoints
    for i in range(10):
        stage.submit("A", b"%d" % i)
    assert (d.replica.log.low, d.replica.log.high, d.replica.executed) == (0, 8, 8)
    fetched: list[bytes] = []
    stage.lost = lambda sender, to, raw: bool(
        kind_of(stage, raw) is FetchBatches and fetched.append(sender) is None
    )
    stage.wire.extend(held)
    stage.run()
    assert len(stage.agree()) == 10, "votes and batches 9 and 10 were there already"
    assert fetched == []
    assert in_view(stage, 0)


def test_s6_09_votes_from_before_a_catch_up_are_gone_after_it() -> None:
    """What was counted for a slot before its batch was fetched counts for nothing later."""
    stage = Stage(4)
    d = stage["D"]
    stage.cut("ABC", "D")
    for sequence in (1, 2, 5):
        for name in "AB":
            stale = stage[name].signer.sign(Commit(0, 0, sequence, b"stale".ljust(32), 5))
            d.step(Received(stage[name].key, stale))
    for i in range(6):
        stage.submit("A", b"%d" % i)
    stage.heal()
    stage.wait(2000)
    assert stage.agree() == [b"%d" % i for i in range(6)]
    assert d.replica.stable == 4
    assert min(d.replica.log.slots) == 5
    c = stage["C"]
    d.step(Received(c.key, c.signer.sign(Commit(0, 0, 5, b"stale".ljust(32), 5))))
    stage.wait(500)
    assert stage.agree() == [b"%d" % i for i in range(6)], "two stale votes and one more"


def test_s6_09_a_restart_in_the_middle_of_catching_up() -> None:
    """It goes on from what it has, asks again, and needs nothing from before."""
    stage = Stage(4)
    d = stage["D"]
    stage.cut("ABC", "D")
    for i in range(30):
        stage.submit("A", b"%d" % i)
    seen: list[int] = []

    def drip(sender: bytes, to: bytes, raw: bytes) -> bool:
        if to != d.key or kind_of(stage, raw) is not Committed:
            return False
        seen.append(1)
        return len(seen) > 7

    stage.lost = drip
    stage.link_all()
    stage.run()
    assert d.replica.executed == 7
    assert d.replica.catchup.request is not None
    stage.crash("D")
    stage.lost = lambda *_: False
    stage.restart("D")
    stage.wait(2000)
    assert len(stage.agree()) == 30


def test_s6_09_certificates_may_come_in_any_order() -> None:
    """Those that come too early are dropped, not executed, and do no harm to what follows."""
    stage = Stage(4)
    stage.cut("ABC", "D")
    for i in range(6):
        stage.submit("A", b"%d" % i)
    a, d = stage["A"], stage["D"]
    proofs = [messages.read(x.certificate, d.opener.open) for x in a.delivered]
    for turn in range(len(proofs)):
        assert len(d.delivered) == turn
        for proof in reversed(proofs):
            d.step(Received(a.key, proof))
    assert d.operations == a.operations


def test_s6_10_old_requests_are_no_reason_to_suspect_a_primary() -> None:
    """What was executed long ago is not waiting, however often it is said again, and by whom."""
    stage = Stage(4)
    stage.submit("B", b"once")
    stage.submit("B", b"twice")
    bundles = [d.bundles[0] for d in stage["A"].delivered]
    for name in "ACD":
        for peer in (stage["B"].key, stage["D" if name != "D" else "C"].key):
            for bundle in bundles:
                assert stage[name].step(Received(peer, bundle)) == []
        assert stage[name].replica.pacing.oldest_ticks() is None
    stage.crash("A", notice=False)
    stage.wait(10 * stage.parameters.timeout_ticks, 500)
    assert in_view(stage, 0, "BCD")
    assert stage["B"].operations == [b"once", b"twice"]


def test_s6_11_a_faulty_origin_moves_no_view() -> None:
    """Different bundles under one number, a part of what it has, to some of the members only."""
    stage = Stage(4)
    d = stage["D"]
    stage.lost = lambda sender, to, raw: sender == d.key
    for name, number, op in (("B", 1, b"x"), ("C", 1, b"y"), ("C", 3, b"gap"), ("A", 2, b"z")):
        bundle = d.signer.sign(Bundle(1, number, (op,)))
        stage[name].step(Received(d.key, bundle))
    stage.submit("B", b"honest")
    stage.wait(4 * stage.parameters.timeout_ticks, 500)
    assert in_view(stage, 0, "ABC")
    done = stage.agree("A", "B", "C")
    assert b"honest" in done
    assert len({b"x", b"y"} & set(done)) == 1, "one of the two, and everywhere the same"
    assert len(done) == 2, "what does not follow on it waits, and ages nobody's primary"
    accused = {x.about for n in "ABC" for x in stage[n].alarms}
    assert accused <= {d.key}


def test_s6_12_reads_block_no_writes() -> None:
    """What a reader waits for is nothing to a writer, who is answered by the commits alone."""
    stage = Stage(4)
    barrier, reads = Barrier().encode(), (messages.AskReadIndex, messages.ReadIndex)
    stage.lost = lambda sender, to, raw: (
        stage["D"].key in (sender, to) or kind_of(stage, raw) in reads
    )
    for name in "ABC":
        stage[name].step(Asked(1))
    while stage["B"].replica.bundle_room:
        stage["B"].step(Submitted((barrier,) * 3))
    stage.submit("C", b"write")
    assert stage.agree("A", "B", "C").count(barrier) == 12
    assert b"write" in stage["A"].operations


def test_s6_13_the_next_primary_gets_the_whole_time_out() -> None:
    """What waited under the last one is not held against it."""
    stage = Stage(4)
    stage.crash("A", notice=False)
    stage.lost = lambda sender, to, raw: kind_of(stage, raw) is Proposal
    stage.submit("C", b"op")
    while not in_view(stage, 1, "BCD"):
        stage.tick(50)
    for replica in (stage[n].replica for n in "BCD"):
        assert replica.pool.oldest_ticks() == stage.now
        due = replica.pacing.change_due()
        assert due is not None
        assert due >= stage.now + stage.parameters.timeout_ticks
    stage.wait(stage.parameters.timeout_ticks - 200)
    assert in_view(stage, 1, "BCD")
    stage.lost = lambda *_: False
    stage.wait(1000)
    assert stage.agree("B", "C", "D") == [b"op"]
    assert in_view(stage, 1, "BCD"), "nobody is kept out for having been slow once"


def test_s6_15_f_plus_1_are_evidence_enough_without_a_timer() -> None:
    """A replica that waits for nothing itself goes along, in the very step in which it hears."""
    stage = Stage(7)
    b = stage["B"]
    assert b.replica.wake_at is not None
    for name, view in (("C", 4), ("D", 2), ("E", 3)):
        assert b.replica.view == 0
        change = stage[name].signer.sign(ViewChange(0, view, 0, (), ()))
        effects = b.step(Received(change.signer, change))
    assert (b.replica.view, b.replica.changing) == (2, True)
    own = [e for e in effects if isinstance(e, Send) and kind_of(stage, e.raw) is ViewChange]
    assert len(own) == 1


def test_s6_16_far_future_floods_take_a_bounded_place() -> None:
    """Votes for views and sequences out of all bounds cost a member its own buffer, no more."""
    stage = Stage(4)
    b, d = stage["B"], stage["D"]
    for i in range(1, 2000):
        for vote in (Prepare(0, i, 10**12, b"d" * 32), Commit(0, 0, 10**9 + i, b"d" * 32, 5)):
            b.step(Received(d.key, d.signer.sign(vote)))
        checkpoint = d.signer.sign(Checkpoint(0, 4 * i, b"r" * 32))
        b.step(Received(d.key, checkpoint))
    assert b.replica.log.slots == {}
    assert len(b.replica.log._checkpoints) <= 3
    assert len(b.replica._early.drain()) <= 64


@pytest.mark.parametrize("kind", [PrePrepare, Prepare, Commit, Checkpoint, ViewChange, Bundle])
def test_s6_17_the_same_vote_signed_again_is_no_equivocation(kind: type) -> None:
    """Another signature under the same words accuses nobody (a scheme may draw a nonce)."""
    stage = Stage(4)
    a, b, c = stage["A"], stage["B"], stage["C"]
    bundle = a.signer.sign(Bundle(1, 1, (b"op",)))
    batch = messages.Batch((), (bundle,))
    fields = (0, 0, 1, batch.digest)
    b.step(Received(a.key, Proposal(a.signer.sign(PrePrepare(*fields)), batch)))
    said = {
        PrePrepare: (a, PrePrepare(*fields)),
        Prepare: (c, Prepare(*fields)),
        Commit: (c, Commit(*fields, 7)),
        Checkpoint: (c, Checkpoint(0, 4, b"r" * 32)),
        ViewChange: (c, ViewChange(0, 1, 0, (), ())),
        Bundle: (c, Bundle(1, 1, (b"mine",))),
    }
    who, message = said[kind]
    seed = next(
        bytes([i]) * 32 for i in range(1, 5) if Signer(bytes([i]) * 32, CLUSTER).public == who.key
    )
    for nonce in (1, 2, 3):
        again = Signer(seed, CLUSTER, sign=lambda *_, n=nonce: bytes([n]) * 64).sign(message)
        event = Proposal(again, batch) if kind is PrePrepare else again
        b.step(Received(who.key, event))
    if kind is Commit:  # and a clock that moved on is no other vote
        b.step(Received(c.key, c.signer.sign(Commit(*fields, 8))))
    assert b.alarms == []
    assert not b.replica.changing


def test_s6_02_a_restart_says_nothing_else_wherever_it_was_cut() -> None:
    """After any first part of what it wrote, it votes for nothing but what it may have voted."""
    stage = Stage(4)
    a, b = stage["A"], stage["B"]
    written = written_by(b)
    for i in range(3):
        stage.submit("A", b"%d" % i)
    voted: dict[int, bytes] = {}
    for count, effect in enumerate(written):
        if isinstance(effect, Persist) and effect.record.kind == journal.PROPOSAL:
            pre_prepare, _ = journal.read_proposal(effect.record, b.opener.open)
            voted[pre_prepare.message.sequence] = pre_prepare.message.digest
        reborn_from(stage, "B", written[: count + 1])
        for sequence in (1, 2, 3):
            other = messages.Batch((), (a.signer.sign(Bundle(9, 1, (b"other",))),))
            named = a.signer.sign(PrePrepare(0, 0, sequence, other.digest))
            effects = b.step(Received(a.key, Proposal(named, other)))
            read = [messages.read(e.raw, b.opener.open) for e in effects if isinstance(e, Send)]
            prepares = [m.message for m in read if isinstance(getattr(m, "message", m), Prepare)]
            if sequence in voted:
                assert prepares == [], f"{sequence} after {count + 1} records"


def test_s6_06_the_view_of_others_is_learnt_by_asking() -> None:
    """A member that heard nothing of a view change says where it stands, and is told."""
    stage = Stage(4)
    stage.crash("A")
    stage.submit("B", b"op")
    stage.wait(500)
    a = stage["A"]
    a.start()
    status = a.signer.sign(Status(0, 0, False, 0, 0, 5))
    stage.tick(500, run=False)
    effects = stage["B"].step(Received(a.key, status))
    answer = [e.raw for e in effects if isinstance(e, Send) and e.peers == (a.key,)]
    a.step(Received(stage["B"].key, messages.read(answer[0], a.opener.open)))
    assert (a.replica.view, a.replica.changing) == (1, False)
    a.step(Tick(stage.now, CLOCK_MS))
