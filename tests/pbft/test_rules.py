"""Plays of what must hold whatever the others do: rules `s8` of the checklist."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aegis_edge.knowledge.operations import Put
from aegis_edge.pbft import journal, log, view_change
from aegis_edge.pbft.configuration import Parameters
from aegis_edge.pbft.events import (
    Alarm,
    Effect,
    Persist,
    Received,
    RootTaken,
    Send,
    Submitted,
    TakeRoot,
    Tick,
)
from aegis_edge.wire import messages
from aegis_edge.wire.envelope import claimed
from aegis_edge.wire.messages import (
    BATCH_BYTES_MAX,
    Batch,
    Bundle,
    Checkpoint,
    Commit,
    Committed,
    FetchBatches,
    FetchBody,
    NewView,
    Prepare,
    PrePrepare,
    Proposal,
    StableCheckpoint,
    Status,
    Verified,
    ViewChange,
)
from tests.knowledge.founders import machine_of
from tests.knowledge.memory_state import MemoryState
from tests.pbft.stage import CLOCK_MS, PACE, Actor, Stage, kind_of


def kinds_sent(stage: Stage, effects: list[Effect]) -> list[type]:
    return [kind_of(stage, e.raw) for e in effects if isinstance(e, Send)]


def views(stage: Stage, names: str = "ABCD") -> list[tuple[int, bool]]:
    return [(stage[n].replica.view, stage[n].replica.changing) for n in names]


def bundle(by: Actor, number: int, op: bytes = b"op") -> Verified[Bundle]:
    return by.signer.sign(Bundle(1, number, (op,)))


def proposal(by: Actor, sequence: int, *bundles: Verified[Bundle]) -> Proposal:
    batch = Batch((), bundles)
    return Proposal(by.signer.sign(PrePrepare(0, 0, sequence, batch.digest)), batch)


def commits(stage: Stage, sequence: int, digest: bytes, names: str) -> tuple[Verified[Commit], ...]:
    return tuple(stage[n].signer.sign(Commit(0, 0, sequence, digest, 5)) for n in names)


def stable(
    stage: Stage, sequence: int, root: bytes, names: str
) -> tuple[Verified[Checkpoint], ...]:
    return tuple(stage[n].signer.sign(Checkpoint(0, sequence, root)) for n in names)


# --- what comes early -----------------------------------------------------------------------------


def test_s8_05_a_flood_of_early_messages_costs_nobody_else_his() -> None:
    """What comes before its time waits in a bounded queue of its sender's own."""
    stage = Stage(4)
    a, b, c, d = stage.actors
    batch = Batch((), (bundle(c, 1),))
    named = b.signer.sign(PrePrepare(0, 1, 1, batch.digest))
    early = c.signer.sign(Prepare(0, 1, 1, batch.digest))
    d_self = stage["D"]
    d_self.step(Received(b.key, Proposal(named, batch)))
    d_self.step(Received(c.key, early))
    for i in range(1, 500):
        d_self.step(Received(a.key, a.signer.sign(Prepare(0, 1, i, b"x" * 32))))
        d_self.step(Received(a.key, early))
    changes = tuple(x.signer.sign(ViewChange(0, 1, 0, (), ())) for x in (a, b, c))
    effects = d_self.step(Received(b.key, b.signer.sign(NewView(0, 1, changes, ()))))
    assert d.replica.log.slots[1].prepared is not None, "B's batch and C's vote were kept"
    assert Commit in kinds_sent(stage, effects)


# --- primaries ------------------------------------------------------------------------------------


def test_s8_10_a_primary_that_stays_just_under_the_timer_loses_the_primacy() -> None:
    """It answers everybody, each time a moment before it would be suspected."""
    stage = Stage(4)
    timeout = stage.parameters.timeout_ticks
    held: list[tuple[bytes, bytes, bytes]] = []

    def late(sender: bytes, to: bytes, raw: bytes) -> bool:
        if sender == stage["A"].key and kind_of(stage, raw) is Proposal:
            held.append((sender, to, raw))
            return True
        return False

    slow = 0
    while stage["B"].replica.view == 0:
        stage.lost = late
        stage.submit("B", b"%d" % slow)
        stage.wait(timeout * 9 // 10)
        stage.lost = lambda *_: False
        stage.wire.extend(held)
        held.clear()
        stage.run()
        slow += 1
        assert slow < 5, "it is never replaced"
    stage.wait(2 * timeout)
    assert len(stage.agree("B", "C", "D")) == slow


def test_s8_10_the_age_of_the_oldest_request_decides() -> None:
    """Progress with the requests of others does not make one request younger."""
    stage = Stage(4)
    timeout = stage.parameters.timeout_ticks
    hidden = bundle(stage["B"], 1, b"hidden").raw
    stage.lost = lambda sender, to, raw: to == stage["A"].key and hidden in raw
    stage.submit("B", b"hidden")
    began = stage.now
    while stage["C"].replica.view == 0:
        stage.submit("C", b"%d" % stage.now)
        stage.tick(50)
    stage.wait(500)
    assert stage.now - began < 2 * timeout
    assert b"hidden" in stage.agree("B", "C", "D")


# --- views ----------------------------------------------------------------------------------------


def test_s8_11_a_replica_that_comes_back_learns_the_view_by_proof() -> None:
    """It says where it stands and is given the NEW-VIEW; what others merely claim moves nobody."""
    stage = Stage(4)
    stage.crash("A")
    stage.submit("B", b"op")
    stage.wait(400)
    stage["A"].start()
    for name in "BCD":
        said = stage[name].signer.sign(Status(0, 7, False, 0, 1, 5))
        stage["A"].step(Received(stage[name].key, said))
    assert views(stage, "A") == [(0, False)]
    stage.restart("A")
    stage.wait(500)
    assert views(stage) == [(1, False)] * 4
    assert stage.agree() == [b"op"]


def test_s8_12_a_view_change_during_state_transfer() -> None:
    """A replica that is fetching follows the change, and goes on fetching."""
    stage = Stage(4)
    stage.cut("ABC", "D")
    for i in range(30):
        stage.submit("A", b"%d" % i)
    d = stage["D"].key
    stage.lost = lambda sender, to, raw: to == d and kind_of(stage, raw) is Committed
    stage.link_all()
    stage.run()
    assert stage["D"].replica.catchup.request is not None
    assert stage["D"].replica.executed == 0
    stage.crash("A")
    stage.submit("B", b"new view")
    stage.wait(1000)
    assert views(stage, "BCD") == [(1, False)] * 3
    assert stage["D"].replica.executed == 0
    stage.lost = lambda *_: False
    stage.wait(3000)
    assert len(stage.agree("B", "C", "D")) == 31


# --- durability -----------------------------------------------------------------------------------


def record_of(message: messages.Message, key: bytes) -> tuple[int, bytes] | None:
    """The kind of the record that must be durable before `key` says this, and what it holds."""
    if isinstance(message, Proposal):
        return journal.PROPOSAL, message.pre_prepare.raw
    if not isinstance(message, Verified) or message.signer != key:
        return None
    said = message.message
    if isinstance(said, Prepare):
        return journal.PROPOSAL, said.digest
    for kind, number in (
        (Commit, journal.PREPARED),
        (ViewChange, journal.VIEW_CHANGE),
        (NewView, journal.NEW_VIEW),
        (Checkpoint, journal.CHECKPOINT),
    ):
        if isinstance(said, kind):
            return number, message.raw
    return None


def test_s8_13_whatever_is_said_was_written_down_before() -> None:
    """Proposals, votes, checkpoints, view changes and new views alike; of one's own and in full."""
    stage = Stage(4)
    checked: set[type] = set()
    for actor in stage.actors:
        written: list[tuple[int, bytes]] = []

        def watch(
            effect: Effect,
            actor: Actor = actor,
            written: list[tuple[int, bytes]] = written,
            perform: Callable[[Effect], None] = actor.perform,
        ) -> None:
            if isinstance(effect, Persist):
                written.append((effect.record.kind, effect.record.data))
            elif isinstance(effect, Send):
                message = messages.read(effect.raw, actor.opener.open)
                needed = record_of(message, actor.key)
                if needed is not None:
                    found = [d for k, d in written if k == needed[0] and needed[1] in d]
                    assert found, f"{actor.name} says {message} and has not written it"
                    checked.add(type(getattr(message, "message", message)))
            perform(effect)

        actor.perform = watch  # type: ignore[method-assign]
    for i in range(5):
        stage.submit("B", b"%d" % i)
    stage.crash("A")
    stage.submit("B", b"next view")
    stage.wait(1000)
    assert stage.agree("B", "C", "D")[-1] == b"next view"
    assert checked == {Proposal, Prepare, Commit, Checkpoint, ViewChange, NewView}


def test_s8_15_the_table_against_repetition_comes_with_the_state() -> None:
    """A replica that fetched everything refuses a bundle that it has never seen before."""
    stage = Stage(4)
    stage.cut("ABC", "D")
    for i in range(6):
        stage.submit("B", b"%d" % i)
    stage.heal()
    stage.wait(2000)
    d = stage["D"].replica
    assert d.pool.last_executed(stage["B"].key) == (1, 6)
    assert d.pool.add(bundle(stage["B"], 3, b"again"), 0) == "stale"


# --- checkpoints and state transfer ---------------------------------------------------------------


def halted(stage: Stage, name: str) -> Alarm:
    actor = stage[name]
    assert actor.replica.halted is not None
    assert actor.alarms[-1].evidence
    return actor.alarms[-1]


def five_executed() -> Stage:
    """Four members executed five batches; D has a root of its own after the fourth, and heard
    of no checkpoint."""
    stage = Stage(4)
    d = stage["D"]
    stage.lost = lambda sender, to, raw: (
        to == d.key and kind_of(stage, raw) in (Checkpoint, StableCheckpoint)
    )
    for i in range(5):
        stage.submit("A", b"%d" % i)
    assert (d.replica.executed, d.replica.stable) == (5, 0)
    return stage


@pytest.mark.parametrize("how", ["checkpoint", "view change", "new view", "later"])
def test_s8_16_a_certified_root_is_compared_wherever_it_becomes_known(how: str) -> None:
    """A replica with another state stops and says so, and none of its word counts any more."""
    stage = five_executed()
    b, d = stage["B"], stage["D"]
    proof = stable(stage, 4, b"other".ljust(32), "ABC")
    changes = tuple(
        stage[n].signer.sign(ViewChange(0, 1, 4, proof if n == "C" else (), ()))
        if n == "C"
        else stage[n].signer.sign(ViewChange(0, 1, 0, (), ()))
        for n in "ABC"
    )
    event: object = StableCheckpoint(proof)
    if how == "view change":
        event = changes[2]
    elif how == "new view":
        order = view_change.order(changes)
        opens = tuple(b.signer.sign(PrePrepare(0, 1, s, digest)) for s, digest in order)
        event = b.signer.sign(NewView(0, 1, changes, opens))
    elif how == "later":  # the root is taken after the quorum's word for it was believed
        d.replica.past._roots.clear()
        d.replica.checkpoints._rootless = 5
        d.step(Received(b.key, StableCheckpoint(proof)))
        assert (d.replica.halted, d.replica.stable) == (None, 4)
        event = None
    d.step(RootTaken(4, d.root()) if event is None else Received(b.key, event))
    assert "state differs from what a quorum agreed on: start it again" in halted(stage, "D").reason
    assert d.step(Submitted((b"op",))) == []
    assert not any(kind == journal.NEW_VIEW for kind, _, _ in d.records)
    stage.crash("D")
    d.start()
    assert d.replica.halted is not None, "a restart does not make it better"
    assert d.replica.wake_at is None


def test_s8_16_a_checkpoint_at_or_under_the_watermark_is_compared_too() -> None:
    """Two certified roots for one sequence: more lie than may, and who notices stops."""
    stage = Stage(4)
    for i in range(6):
        stage.submit("A", b"%d" % i)
    d = stage["D"]
    assert d.replica.stable == 4
    few = stable(stage, 4, b"other".ljust(32), "AB")
    d.step(Received(stage["A"].key, StableCheckpoint(few)))
    d.step(Received(stage["A"].key, StableCheckpoint(())))
    same = stable(stage, 4, d.replica.log.stable[0].message.root, "ABC")
    d.step(Received(stage["A"].key, StableCheckpoint(same)))
    assert d.replica.halted is None
    d.step(Received(stage["A"].key, StableCheckpoint(stable(stage, 4, b"o" * 32, "ABC"))))
    halted(stage, "D")


def test_s8_16_another_batch_than_was_executed_here_is_an_alarm() -> None:
    """A certificate for a sequence that is done is compared with what was done."""
    stage = Stage(4)
    stage.submit("A", b"op")
    a, d = stage["A"], stage["D"]
    other = Batch((), (bundle(a, 9, b"other"),))
    d.step(Received(a.key, messages.read(d.delivered[0].certificate, d.opener.open)))
    d.step(Received(a.key, Committed(commits(stage, 1, other.digest, "AB"), other)))
    assert d.replica.halted is None, "the same again, and a certificate that proves nothing"
    d.step(Received(a.key, Committed(commits(stage, 1, other.digest, "ABC"), other)))
    alarm = halted(stage, "D")
    assert alarm.reason.startswith("a quorum agreed on another batch than was executed here")
    assert len(alarm.evidence) == 3
    assert d.operations == [b"op"]


def test_s8_17_old_and_foreign_certificates_bring_nothing() -> None:
    """Only the proof of the very next batch counts, and of the one membership that there is."""
    stage = Stage(4)
    stage.cut("ABC", "D")
    for i in range(3):
        stage.submit("A", b"%d" % i)
    a, d = stage["A"], stage["D"]
    batch = Batch((), (bundle(a, 1),))
    foreign = tuple(stage[n].signer.sign(Commit(1, 0, 1, batch.digest, 5)) for n in "ABC")
    d.step(Received(a.key, Committed(foreign, batch)))
    for certificate in (a.delivered[2].certificate, a.delivered[1].certificate):
        d.step(Received(a.key, messages.read(certificate, d.opener.open)))
    assert d.delivered == []
    first = messages.read(a.delivered[0].certificate, d.opener.open)
    d.step(Received(a.key, first))
    d.step(Received(a.key, first))
    assert d.operations == [b"0"]
    assert d.replica.log._bodies == {}, "and a source leaves nothing behind"


def test_s8_18_a_primary_far_ahead_finds_bounded_room() -> None:
    """What it proposes beyond a few megabytes waits with the primary, and comes again in time."""
    stage = Stage(4, Parameters(checkpoint_interval=8, window=16))
    a, b = stage["A"], stage["B"]
    assert (stage.parameters.window - 4) * 900_000 > log.UNEXECUTED_BYTES_MAX
    halves = [bytes([i]) * 300_000 for i in range(1, 4)]
    made = [
        proposal(a, s, *(bundle(a, 3 * s + i, half) for i, half in enumerate(halves)))
        for s in range(1, stage.parameters.window + 1)
    ]
    for each in reversed(made):
        b.step(Received(a.key, each))
    kept = sum(len(body.raw) for _, body in b.replica.log._bodies.values())
    assert kept <= log.UNEXECUTED_BYTES_MAX + BATCH_BYTES_MAX
    assert b.replica.log.slots[1].journalled, "the one to execute next is always taken"


def test_s8_18_what_found_no_room_is_ordered_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup with less room than the primary thinks votes later, and nobody is suspected."""
    monkeypatch.setattr(log, "UNEXECUTED_BYTES_MAX", 3000)
    stage = Stage(4)
    stage.lost = lambda sender, to, raw: kind_of(stage, raw) in (Prepare, Commit)
    for i in range(4):
        stage.submit("A", b"%d" % i + bytes(2000))
    for name in "BCD":
        slots = stage[name].replica.log.slots
        assert [slots[s].journalled for s in (1, 2, 3, 4)] == [True, False, False, False]
    stage.lost = lambda *_: False
    stage.wait(2 * stage.parameters.status_ticks)
    assert len(stage.agree()) == 4
    assert views(stage) == [(0, False)] * 4


# --- execution ------------------------------------------------------------------------------------


def test_s8_19_what_fails_fails_everywhere_alike_and_stops_nothing() -> None:
    """Nonsense has an outcome like everything else; the same one, and the same root after it."""
    stage = Stage(4)
    operations = (b"\xff nonsense", Put("key", b"value", expected=7).encode(), b"", b"\xa0")
    stage.submit("B", *operations, Put("key", b"value").encode())
    stage.submit("C", Put("key", b"more").encode())
    outcomes, roots = [], set()
    for actor in stage.actors:
        machine = machine_of(MemoryState(), 4)
        outcomes.append([machine.apply(d.sequence, d.time_ms, d.bundles) for d in actor.delivered])
        roots.add(machine.root())
    assert outcomes[0] == outcomes[1] == outcomes[2] == outcomes[3]
    assert len(roots) == 1
    first = outcomes[0][0][0]
    assert [o.revision for o in first] == [0, 0, 0, 0, 1]
    assert len({o.status for o in first}) == 3
    assert outcomes[0][1][0][0].revision == 2


def test_s8_20_a_request_executes_once_whatever_is_repeated() -> None:
    """Retries, relays, a view change, a restart and state transfer, one after the other."""
    stage = Stage(4)
    stage.cut("ABC", "D")
    stage.lost = lambda sender, to, raw: (
        stage["D"].key in (sender, to) or kind_of(stage, raw) is Commit
    )
    stage.submit("B", b"once")
    again = [b for b, _ in stage["B"].replica.pool.waiting(stage["B"].key)]
    for name in "AC":
        for peer in "BC":
            if peer != name:
                stage[name].step(Received(stage[peer].key, again[0]))
    stage.wait(stage.parameters.timeout_ticks // 2)  # B complains to all
    stage.crash("A")
    stage.heal()
    stage.wait(3 * stage.parameters.timeout_ticks)
    assert stage.agree("B", "C", "D") == [b"once"]
    stage.crash("C")
    stage.restart("C")
    stage.restart("A")
    for actor in stage.actors:
        for peer in stage.actors:
            if peer is not actor:
                actor.step(Received(peer.key, again[0]))
    stage.submit("C", b"other")
    stage.wait(2000)
    assert stage.agree() == [b"once", b"other"]


def test_s8_21_an_origin_cannot_make_the_members_differ_on_what_it_said() -> None:
    """One signature, one strict check: bytes are a request for all members or for none."""
    stage = Stage(4)
    sound = bundle(stage["D"], 1)
    for at in range(1, 65):
        broken = (
            sound.raw[:-at] + bytes([sound.raw[-at] ^ 1]) + sound.raw[len(sound.raw) - at + 1 :]
        )
        for actor in stage.actors:
            with pytest.raises(messages.WireError):
                messages.read(broken, actor.opener.open)
    for actor in stage.actors:
        assert messages.read(sound.raw, actor.opener.open) == sound


# --- load -----------------------------------------------------------------------------------------


def test_s8_23_saying_the_same_again_makes_nobody_else_say_it() -> None:
    """An origin that complains without end is passed on to the primary now and then only."""
    stage = Stage(4)
    b, c = stage["B"], stage["C"]
    flood = [bundle(c, n) for n in (1, 2, 3)] * 50
    relayed = [e for x in flood for e in b.step(Received(c.key, x)) if isinstance(e, Send)]
    assert len(relayed) == 3
    later = stage.now + PACE.resend_ticks
    b.step(Tick(later, CLOCK_MS))
    again = [e for x in flood for e in b.step(Received(c.key, x)) if isinstance(e, Send)]
    assert len(again) == 3, "but it is passed on: the primary may not have heard"


def test_s8_23_view_changes_that_are_known_or_over_are_not_opened() -> None:
    """They hold hundreds of signatures; what they claim tells whether to look at them."""
    stage = Stage(4)
    a, b, c, _ = stage.actors
    change, later = (c.signer.sign(ViewChange(0, v, 0, (), ())) for v in (3, 4))
    new = b.signer.sign(NewView(0, 1, (change,), ()))

    def spared(message: Verified[messages.Signed]) -> bool:
        claim = claimed(message.raw)
        assert claim is not None
        return a.replica.is_redundant(claim)

    assert not spared(change)
    a.step(Received(c.key, change))
    assert spared(change)
    assert spared(c.signer.sign(ViewChange(0, 2, 0, (), ())))
    assert not spared(later)
    assert not spared(b.signer.sign(ViewChange(0, 3, 0, (), ()))), "known of C, not of B"
    assert not spared(new)
    a.replica._start_view_change(1)
    assert not spared(new), "it waits for that one"
    a.replica._at.changing = False
    assert spared(new)
    a.replica._start_view_change(4)
    assert spared(new)
    assert spared(b.signer.sign(ViewChange(0, 3, 0, (), ()))), "everybody is beyond that"


def test_s8_23_a_new_view_of_anybody_but_its_primary_is_not_opened() -> None:
    """Else each member could make all others check hundreds of signatures, of any view it likes."""
    stage = Stage(4)
    a, b, c, _ = stage.actors
    change = c.signer.sign(ViewChange(0, 1_000_001, 0, (), ()))
    for view in (1, 1_000_001):
        claims = [claimed(x.signer.sign(NewView(0, view, (change,), ())).raw) for x in (b, c)]
        assert [a.replica.is_redundant(claim) for claim in claims if claim] == [False, True]


def test_s8_23_a_body_is_given_to_each_peer_once_in_a_while() -> None:
    """Whoever asks for the same megabyte again and again has to wait."""
    stage = Stage(4)
    stage.submit("A", b"x")
    a, b, c, _ = stage.actors
    slot = a.replica.log.slots[1]
    assert slot.pre_prepare is not None
    fetch = FetchBody(0, slot.pre_prepare.message.digest)

    def answers(asking: Actor) -> int:
        return len(a.step(Received(asking.key, asking.signer.sign(fetch))))

    assert [answers(b) for _ in range(20)] == [1, *[0] * 19]
    assert [answers(c), answers(c)] == [1, 0], "others do not wait for it"
    stage.now += PACE.resend_ticks
    a.step(Tick(stage.now, CLOCK_MS))
    assert [answers(b), answers(b)] == [1, 0]


def test_s8_23_a_fetch_costs_its_sender_a_pause() -> None:
    """Whoever asks for the same megabyte again and again is served now and then."""
    stage = Stage(4)
    for i in range(3):
        stage.submit("A", b"%d" % i)
    a, b = stage["A"], stage["B"]
    fetch = b.signer.sign(FetchBatches(0, 1, 3))
    answers = [len(a.step(Received(b.key, fetch))) for _ in range(20)]
    assert answers == [2, *[0] * 19]
    assert not any(isinstance(e, TakeRoot) for e in a.step(Tick(stage.now + 1, CLOCK_MS)))
