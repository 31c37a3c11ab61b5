"""Plays in the normal case: ordering, batching, repair, checkpoints, and what faulty peers try."""

import pytest

from aegis_edge.pbft.events import (
    Bundled,
    Deliver,
    Persist,
    Received,
    RootTaken,
    Send,
    SendCommitted,
    Submitted,
    Tick,
)
from aegis_edge.wire import messages
from aegis_edge.wire.envelope import Claim
from aegis_edge.wire.messages import (
    NULL_BATCH,
    Batch,
    Body,
    Bundle,
    Checkpoint,
    Commit,
    Committed,
    FetchBatches,
    FetchBody,
    NodeRecord,
    Pass,
    Prepare,
    PrePrepare,
    Proposal,
    StableCheckpoint,
    Status,
)
from tests.pbft.stage import CLOCK_MS, Actor, Stage


def sent(stage: Stage, kind: type, by: str | None = None) -> list[tuple[str, object]]:
    """What waits on the wire of one kind, as (receiver, message)."""
    found = []
    for sender, to, raw in stage.wire:
        actor = stage.by_key[to]
        message = messages.read(raw, actor.opener.open)
        inner = getattr(message, "message", message)
        if isinstance(inner, kind) and (by is None or stage.by_key[sender].name == by):
            found.append((actor.name, inner))
    return found


def proposal(stage: Stage, by: Actor, sequence: int, *bundles: object, view: int = 0) -> Proposal:
    batch = Batch((), bundles)  # type: ignore[arg-type]
    return Proposal(by.signer.sign(PrePrepare(0, view, sequence, batch.digest)), batch)


def bundle(by: Actor, number: int, op: bytes = b"op", incarnation: int = 1) -> object:
    return by.signer.sign(Bundle(incarnation, number, (op,)))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7])
def test_everything_submitted_executes_once_and_in_one_order(n: int) -> None:
    stage = Stage(n)
    for i in range(20):
        stage.submit(stage.actors[i % n].name, b"%d" % i)
    assert sorted(stage.agree(), key=int) == [b"%d" % i for i in range(20)]
    assert all(a.replica.stable == 20 for a in stage.actors)
    assert not any(a.alarms for a in stage.actors)


def test_s8_13_every_vote_is_persisted_before_it_is_sent() -> None:
    stage = Stage(4)
    stage.submit("B", b"op", run=False)
    order: list[str] = []
    for actor in stage.actors:
        perform = actor.perform

        def watch(effect: object, actor: Actor = actor, perform: object = perform) -> None:
            if isinstance(effect, Persist):
                order.append(f"{actor.name} writes {effect.record.kind}")
            elif isinstance(effect, Send):
                message = messages.read(effect.raw, actor.opener.open)
                order.append(
                    f"{actor.name} says {type(getattr(message, 'message', message)).__name__}"
                )
            perform(effect)  # type: ignore[operator]

        actor.perform = watch  # type: ignore[method-assign]
    stage.run()
    for name in "ABCD":
        own = [line[2:] for line in order if line.startswith(name)]
        assert own.index("writes 4") < own.index("says Proposal" if name == "A" else "says Prepare")
        assert own.index("writes 5") < own.index("says Commit")


def test_s8_04_the_primary_sends_no_prepare() -> None:
    stage = Stage(4)
    stage.submit("A", b"op", run=False)
    assert {to for to, _ in sent(stage, Proposal)} == {"B", "C", "D"}
    assert sent(stage, Prepare) == []


def test_batches_grow_while_the_pipeline_is_full() -> None:
    stage = Stage(4)
    for i in range(4):
        for name in "BCD":
            stage.submit(name, b"%s%d" % (name.encode(), i), run=False)
    stage.run()
    assert len(stage.agree()) == 12
    assert stage["A"].replica.executed < 12, "several bundles share a batch"


def test_room_for_bundles_is_bounded() -> None:
    stage = Stage(4)
    stage.lost = lambda *_: True
    for i in range(4):
        assert stage["B"].replica.bundle_room == 4 - i
        effects = stage["B"].step(Submitted((b"op",)))
        assert Bundled(1, i + 1) in effects
    assert stage["B"].replica.bundle_room == 0
    with pytest.raises(AssertionError):
        stage["B"].step(Submitted((b"op",)))


def test_pipelining_stays_within_the_watermarks() -> None:
    stage = Stage(4)
    primary = stage["A"].replica
    stage.lost = lambda *_: True
    for _ in range(4):
        stage["A"].step(Submitted((b"op",)))
    assert primary.log.last_accepted() == 4
    assert primary.executed == 0


# --- faulty primaries -----------------------------------------------------------------------------


def test_s8_03_two_batches_under_one_number_end_the_primary() -> None:
    stage = Stage(4)
    a, b = stage["A"], stage["B"]
    b.step(Received(a.key, proposal(stage, a, 1, bundle(a, 1, b"one"))))
    assert not b.replica.changing
    b.step(Received(a.key, proposal(stage, a, 1, bundle(a, 1, b"two"))))
    assert b.replica.changing
    assert b.alarms[0].reason == "the primary gave one number to two batches"
    assert b.alarms[0].about == a.key
    assert len(b.alarms[0].evidence) == 2


def test_the_same_proposal_again_changes_nothing() -> None:
    stage = Stage(4)
    a, b = stage["A"], stage["B"]
    first = proposal(stage, a, 1, bundle(a, 1))
    assert b.step(Received(a.key, first))
    assert b.step(Received(a.key, first)) == []


def test_s8_03_only_the_primary_of_the_view_proposes() -> None:
    stage = Stage(4)
    b, c = stage["B"], stage["C"]
    assert b.step(Received(c.key, proposal(stage, c, 1, bundle(c, 1)))) == []
    own = proposal(stage, b, 1, bundle(c, 1), view=1)
    assert b.step(Received(c.key, own)) == [], "nobody else speaks with our key"
    foreign = Batch((), (bundle(c, 1),))  # type: ignore[arg-type]
    other = stage["A"].signer.sign(PrePrepare(1, 0, 1, foreign.digest))
    assert b.step(Received(c.key, Proposal(other, foreign))) == [], "another configuration"


def test_a_batch_with_a_strangers_bundle_is_not_valid() -> None:
    stage = Stage(4)
    stranger = Stage(5)["E"]
    a, b = stage["A"], stage["B"]
    keys = {x.key for x in stage.actors}
    strangers = [x for x in Stage(7).actors if x.key not in keys]
    assert stranger is not None
    b.step(Received(a.key, proposal(stage, a, 1, bundle(strangers[0], 1))))
    assert b.replica.changing
    assert b.alarms[0].reason == "the primary proposed a batch that is not valid"


def test_a_batch_that_could_not_be_fetched_is_not_valid() -> None:
    stage = Stage(4)
    a, b = stage["A"], stage["B"]
    big = tuple(bytes([i]) * 300_000 for i in range(1))
    bundles = [a.signer.sign(Bundle(1, i, big)) for i in range(1, 5)]
    b.step(Received(a.key, proposal(stage, a, 1, *bundles)))
    assert b.replica.changing
    assert b.alarms[0].reason == "the primary proposed a batch that is not valid"


def test_a_null_batch_that_is_sent_again_is_taken() -> None:
    stage = Stage(4)
    a, b = stage["A"], stage["B"]
    b.step(Received(a.key, proposal(stage, a, 1)))
    assert not b.replica.changing
    assert b.replica.log.slots[1].journalled
    assert b.replica.log.body(NULL_BATCH.digest) is not None


def test_time_evidence_from_too_few_is_not_valid() -> None:
    stage = Stage(4)
    a, b = stage["A"], stage["B"]
    batch = Batch((a.signer.sign(Status(0, 0, False, 0, 0, 5)),), (bundle(a, 1),))  # type: ignore[arg-type]
    b.step(Received(a.key, Proposal(a.signer.sign(PrePrepare(0, 0, 1, batch.digest)), batch)))
    assert b.replica.changing


def test_s8_18_the_window_holds_even_a_malicious_primary() -> None:
    stage = Stage(4)
    a, b = stage["A"], stage["B"]
    assert b.step(Received(a.key, proposal(stage, a, 9, bundle(a, 1)))) == []
    assert b.step(Received(a.key, proposal(stage, a, 10**12, bundle(a, 1)))) == []
    assert b.replica.log.slots == {}


def test_s8_10_a_primary_that_censors_one_origin_loses_the_primacy() -> None:
    stage = Stage(4)
    keys = stage["A"].key, stage["B"].key
    first = bundle(stage["B"], 1, b"censored")

    def censor(sender: bytes, to: bytes, raw: bytes) -> bool:
        return to == keys[0] and first.raw in raw  # type: ignore[attr-defined]

    stage.lost = censor
    stage.submit("B", b"censored")
    for i in range(40):
        stage.submit("C", b"c%d" % i)
        stage.tick(100)
    assert b"censored" in stage.agree("B", "C", "D")
    assert stage["B"].replica.view >= 1


def test_s6_13_an_origin_that_is_not_heard_complains_to_all() -> None:
    stage = Stage(4)
    a, b = stage["A"].key, stage["B"].key
    stage.lost = lambda sender, to, raw: (sender, to) == (b, a)
    stage.submit("B", b"op")
    assert stage.agree() == []
    stage.wait(1500)
    assert stage.agree() == [b"op"], "a backup passed it on"
    assert stage["B"].replica.view == 0


# --- faulty backups -------------------------------------------------------------------------------


def prepared_slot(stage: Stage) -> tuple[Actor, Actor, PrePrepare]:
    a, b = stage["A"], stage["B"]
    first = proposal(stage, a, 1, bundle(a, 1))
    b.step(Received(a.key, first))
    return a, b, first.pre_prepare.message


def test_s8_02_prepares_that_count_nothing() -> None:
    stage = Stage(4)
    a, b, named = prepared_slot(stage)
    c = stage["C"]
    for vote in (
        a.signer.sign(Prepare(*named.fields())),  # 4: the primary's
        c.signer.sign(Prepare(1, 0, 1, named.digest)),  # another configuration
        c.signer.sign(Prepare(0, 0, 1, b"x" * 32)),  # another digest
    ):
        b.step(Received(vote.signer, vote))
    assert b.replica.log.slots[1].prepared is None
    second = c.signer.sign(Prepare(*named.fields()))
    b.step(Received(c.key, second))
    assert b.replica.log.slots[1].prepared is None, "one vote a member, the first one"
    assert b.alarms[0].reason == "two different prepares for one slot"
    d = stage["D"]
    b.step(Received(d.key, d.signer.sign(Prepare(*named.fields()))))
    assert b.replica.log.slots[1].prepared is not None
    b.step(Received(d.key, d.signer.sign(Prepare(*named.fields()))))
    assert len(b.alarms) == 1, "17: the same vote again is no equivocation"


def test_a_prepare_that_comes_after_the_certificate_is_kept_quietly() -> None:
    stage = Stage(4)
    _, b, named = prepared_slot(stage)
    for name in "CD":
        voter = stage[name]
        b.step(Received(voter.key, voter.signer.sign(Prepare(*named.fields()))))
    assert len(b.replica.log.slots[1].prepares) == 3


def test_late_votes_need_no_check() -> None:
    stage = Stage(4)
    _, b, named = prepared_slot(stage)
    prepare, commit, key = Prepare.TAG, Commit.TAG, stage["C"].key

    def late(tag: int, fields: tuple[object, ...]) -> bool:
        return b.replica.is_redundant(Claim(tag, key, fields))

    assert not late(prepare, named.fields())
    assert not late(commit, named.fields())
    assert not late(prepare, (0, 0, 2, named.digest))
    for name in "CD":
        voter = stage[name]
        b.step(Received(voter.key, voter.signer.sign(Prepare(*named.fields()))))
    assert late(prepare, named.fields())
    assert not late(prepare, (0, 1, 1, named.digest)), "of another view"
    assert not late(commit, named.fields())
    for name in "CD":
        voter = stage[name]
        b.step(Received(voter.key, voter.signer.sign(Commit(*named.fields(), 5))))
    assert late(commit, named.fields())
    assert late(prepare, (0, 0, 0, named.digest)), "under the low watermark"


def test_s8_02_votes_of_strangers_count_nothing() -> None:
    stage = Stage(4)
    _, b, named = prepared_slot(stage)
    keys = {x.key for x in stage.actors}
    stranger = next(x for x in Stage(7).actors if x.key not in keys)
    assert b.step(Received(stage["C"].key, stranger.signer.sign(Prepare(*named.fields())))) == []


def test_commits_count_once_per_member_and_conflicts_are_noticed() -> None:
    stage = Stage(4)
    _, b, named = prepared_slot(stage)
    c = stage["C"]
    votes = [
        c.signer.sign(Commit(1, 0, 1, named.digest, 5)),
        c.signer.sign(Commit(0, 0, 1, named.digest, 5)),
        c.signer.sign(Commit(0, 0, 1, named.digest, 6)),
        c.signer.sign(Commit(0, 0, 1, b"x" * 32, 5)),
        c.signer.sign(Commit(0, 0, 99, named.digest, 5)),
    ]
    for vote in votes:
        b.step(Received(c.key, vote))
    assert list(b.replica.log.slots[1].commits) == [c.key]
    assert [x.reason for x in b.alarms] == ["two different commits for one slot"]


def test_what_links_need_is_no_message_of_the_agreement() -> None:
    stage = Stage(4)
    b = stage["B"]
    for said in (NodeRecord(1, b"k" * 32, (), 1, "b"), Pass(b"o" * 32, 1)):
        assert stage["A"].step(Received(b.key, b.signer.sign(said))) == []


def test_one_origin_two_bundles_under_one_number() -> None:
    stage = Stage(4)
    b, c = stage["B"], stage["C"]
    b.step(Received(c.key, bundle(c, 1, b"one")))  # type: ignore[arg-type]
    b.step(Received(c.key, bundle(c, 1, b"two")))  # type: ignore[arg-type]
    assert [x.reason for x in b.alarms] == ["two bundles under one number"]


def test_a_relayed_bundle_is_not_relayed_on() -> None:
    stage = Stage(4)
    b, c, d = stage["B"], stage["C"], stage["D"]
    assert b.step(Received(d.key, bundle(c, 1))) == []  # type: ignore[arg-type]
    effects = b.step(Received(c.key, bundle(c, 1)))  # type: ignore[arg-type]
    assert [e.peers for e in effects if isinstance(e, Send)] == [(stage["A"].key,)]


def test_s6_10_a_bundle_in_two_batches_executes_once() -> None:
    stage = Stage(4)
    a, b = stage["A"], stage["B"]
    same = bundle(a, 1)
    for sequence in (1, 2):
        made = proposal(stage, a, sequence, same)
        commits = tuple(
            stage[n].signer.sign(Commit(*made.pre_prepare.message.fields(), 5)) for n in "ACD"
        )
        b.step(Received(a.key, Committed(commits, made.batch)))
    assert b.replica.executed == 2
    assert b.operations == [b"op"]
    assert len(b.delivered) == 2


# --- time -----------------------------------------------------------------------------------------


def test_one_bad_clock_does_not_move_the_agreed_time() -> None:
    stage = Stage(4)
    stage["D"].clock_ms = 4_000_000_000_000
    for i in range(5):
        stage.tick(1000)
        stage.submit("D", b"%d" % i)
    stage.agree()
    times = [d.time_ms for d in stage["A"].delivered]
    assert stage["A"].replica.time_ms == times[-1]
    assert times == sorted(times)
    assert all(CLOCK_MS <= t <= CLOCK_MS + 10_000 for t in times)
    assert times[-1] > times[0]


# --- repair ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Proposal, Prepare, Commit])
def test_s6_06_what_is_lost_once_is_sent_again(kind: type) -> None:
    stage = Stage(4)
    seen: set[tuple[bytes, bytes]] = set()

    def lose_first(sender: bytes, to: bytes, raw: bytes) -> bool:
        message = messages.read(raw, stage.by_key[to].opener.open)
        if isinstance(getattr(message, "message", message), kind) and (sender, to) not in seen:
            seen.add((sender, to))
            return True
        return False

    stage.lost = lose_first
    stage.submit("B", b"op")
    assert seen
    stage.wait(1500)
    assert stage.agree() == [b"op"]
    assert all(a.replica.view == 0 for a in stage.actors)


def test_a_member_that_was_cut_off_catches_up_with_certificates() -> None:
    stage = Stage(4)
    stage.cut("ABC", "D")
    for i in range(30):
        stage.submit("A", b"%d" % i)
    assert stage["D"].operations == []
    stage.heal()
    stage.wait(2000)
    assert len(stage.agree()) == 30
    assert stage["D"].replica.stable == stage["A"].replica.stable == 28


def test_s8_17_a_fetch_goes_on_with_another_source_when_one_lies() -> None:
    stage = Stage(4)
    stage.cut("ABC", "D")
    for i in range(30):
        stage.submit("A", b"%d" % i)
    first = min(stage[n].key for n in "ABC")
    liar = stage.by_key[first]
    perform = liar.perform
    liar.perform = lambda e: None if isinstance(e, SendCommitted) else perform(e)  # type: ignore[method-assign]
    stage.heal()
    stage.wait(3000)
    assert len(stage.agree()) == 30


def test_certificates_that_prove_nothing_or_come_out_of_order_are_ignored() -> None:
    stage = Stage(4)
    a, b = stage["A"], stage["B"]
    made = proposal(stage, a, 1, bundle(a, 1))
    later = proposal(stage, a, 2, bundle(a, 2))
    commits = tuple(
        stage[n].signer.sign(Commit(*made.pre_prepare.message.fields(), 5)) for n in "AC"
    )
    b.step(Received(a.key, Committed(commits, made.batch)))
    b.step(Received(a.key, Committed((), made.batch)))
    full = tuple(
        stage[n].signer.sign(Commit(*later.pre_prepare.message.fields(), 5)) for n in "ACD"
    )
    b.step(Received(a.key, Committed(full, later.batch)))
    assert b.delivered == []


def test_a_fetch_is_answered_from_the_disk_and_with_a_status() -> None:
    stage = Stage(4)
    stage.submit("A", b"op")
    a, b = stage["A"], stage["B"]
    effects = a.step(Received(b.key, b.signer.sign(FetchBatches(0, 1, 5))))
    assert effects[0] == SendCommitted(b.key, 1, 1)
    assert isinstance(effects[1], Send)
    effects = a.step(Received(b.key, b.signer.sign(FetchBatches(0, 2, 5))))
    assert not any(isinstance(e, SendCommitted) for e in effects)


def test_bodies_are_given_to_who_asks() -> None:
    stage = Stage(4)
    stage.submit("A", b"op")
    a, b = stage["A"], stage["B"]
    known = b.replica.log.slots[1].pre_prepare
    assert known is not None
    (answer,) = a.step(Received(b.key, b.signer.sign(FetchBody(0, known.message.digest))))
    assert isinstance(answer, Send)
    assert isinstance(messages.read(answer.raw, b.opener.open), Body)
    assert a.step(Received(b.key, b.signer.sign(FetchBody(0, b"?" * 32)))) == []


def test_a_body_that_nobody_asked_for_is_ignored() -> None:
    stage = Stage(4)
    stage.submit("A", b"op")
    extra = Batch((), (bundle(stage["B"], 7),))  # type: ignore[arg-type]
    assert stage["A"].step(Received(stage["B"].key, Body(extra))) == []


def test_statuses_of_strangers_and_those_passed_on_are_ignored() -> None:
    stage = Stage(4, outsiders=1)
    a, b, e = stage["A"], stage["B"], stage["E"]
    assert a.step(Received(e.key, e.signer.sign(Status(0, 0, False, 0, 99, 5)))) == []
    assert a.step(Received(b.key, a.signer.sign(Status(1, 0, False, 0, 99, 5)))) == []
    assert a.step(Received(b.key, a.signer.sign(Status(0, 0, False, 0, 99, 5)))) == []
    assert a.replica.catchup.request is None


def test_what_another_member_passes_on_asks_for_nothing() -> None:
    stage = Stage(4)
    stage.submit("A", b"op")
    a, b, c = stage["A"], stage["B"], stage["C"]
    known = b.replica.log.slots[1].pre_prepare
    assert known is not None
    for replayed in (
        b.signer.sign(Status(0, 0, False, 0, 0, 5)),
        b.signer.sign(FetchBatches(0, 1, 1)),
        b.signer.sign(FetchBody(0, known.message.digest)),
    ):
        assert a.step(Received(c.key, replayed)) == []
    assert a.replica.catchup.statuses[b.key].executed_sequence == 0
    before = a.replica.readings.clock_ms(b.key)
    a.step(Received(c.key, b.signer.sign(Commit(0, 0, 2, b"d" * 32, 7))))
    assert a.replica.readings.clock_ms(b.key) == before, "an old clock is no news"


def test_help_and_fetches_are_rationed() -> None:
    """A message of a hundred bytes, again and again, must not cost a megabyte each time."""
    stage = Stage(4)
    stage.submit("A", b"op")
    stage.tick(5000)
    a, b = stage["A"], stage["B"]
    behind = Received(b.key, b.signer.sign(Status(0, 0, False, 0, 0, 5)))
    stage.tick(1000, run=False)
    stage.wire.clear()
    assert any(isinstance(e, Send) for e in a.step(behind))
    assert sent(stage, Proposal, "A")
    stage.wire.clear()
    a.step(behind)
    assert sent(stage, Proposal, "A") == []
    fetch = Received(b.key, b.signer.sign(FetchBatches(0, 1, 1)))
    assert any(isinstance(e, SendCommitted) for e in a.step(fetch))
    assert a.step(fetch) == []
    stage.now += 1000
    a.step(Tick(stage.now, CLOCK_MS))
    assert any(isinstance(e, SendCommitted) for e in a.step(fetch))


def test_answers_to_statuses_are_rationed() -> None:
    stage = Stage(4)
    a, b = stage["A"], stage["B"]
    ahead = b.signer.sign(Status(0, 0, False, 0, 1, 5))
    stage.now += 1000
    a.step(Tick(stage.now, CLOCK_MS))
    stage.wire.clear()
    a.step(Received(b.key, ahead))
    a.step(Received(b.key, ahead))
    assert len(sent(stage, Status, "A")) == 1


def test_an_idle_cluster_says_little() -> None:
    stage = Stage(4)
    stage.submit("A", b"op")
    stage.wait(1000)
    count = 0
    for _ in range(100):
        stage.tick(100, run=False)
        count += len(stage.wire)
        stage.run()
    assert count == 4 * 3 * 10, "a status of each to each, once a second, and nothing else"
    wakes = [a.replica.wake_at for a in stage.actors]
    assert all(w is not None and w > stage.now for w in wakes)


# --- checkpoints ----------------------------------------------------------------------------------


def test_s6_07_checkpoints_are_of_what_was_executed() -> None:
    stage = Stage(4)
    for i in range(4):
        stage.submit("A", b"%d" % i)
    for actor in stage.actors:
        assert actor.replica.stable == 4
        assert all(s > 4 for s in actor.replica.log.slots)
        assert sorted(k for k, _, _ in actor.records) == [8] or all(
            k in (7, 8) for k, _, _ in actor.records
        )


def test_s8_16_a_replica_whose_root_differs_stops_and_says_so() -> None:
    stage = Stage(4)
    stage["D"].spoil_root = True
    for i in range(4):
        stage.submit("A", b"%d" % i)
    d = stage["D"]
    assert d.replica.halted is not None
    assert "state differs from what a quorum agreed on" in d.replica.halted
    assert d.alarms[-1].evidence
    assert d.replica.bundle_room == 0
    assert d.replica.wake_at is None
    assert d.step(Received(stage["A"].key, bundle(stage["A"], 9))) == []  # type: ignore[arg-type]
    stage.submit("A", b"more")
    assert stage.agree("A", "B", "C")[-1] == b"more"
    assert d.operations[-1] == b"3"
    stage.tick(5000)
    stage.crash("A")
    assert d.step(Tick(stage.now + 1, CLOCK_MS)) == []


def test_s8_16_a_wrong_root_of_one_member_changes_nothing() -> None:
    stage = Stage(4)
    a, b = stage["A"], stage["B"]
    for sequence in (4, 8, 4, 12):
        a.step(Received(b.key, b.signer.sign(Checkpoint(0, sequence, b"w" * 32))))
    assert (a.replica.stable, a.replica.stable_checkpoint) == (0, ())
    stage.lost = lambda sender, to, raw: sender == b.key
    for i in range(5):
        stage.submit("A", b"%d" % i)
    assert a.replica.stable == 4
    signed = a.replica.stable_checkpoint
    assert {c.signer for c in signed} == {actor.key for actor in stage.actors} - {b.key}
    assert {c.message.sequence for c in signed} == {4}


def test_a_stable_checkpoint_is_given_to_who_missed_the_votes() -> None:
    stage = Stage(4)
    d = stage["D"]

    def lose_checkpoints(sender: bytes, to: bytes, raw: bytes) -> bool:
        message = messages.read(raw, d.opener.open)
        return to == d.key and isinstance(getattr(message, "message", None), Checkpoint)

    stage.lost = lose_checkpoints
    for i in range(4):
        stage.submit("A", b"%d" % i)
    assert d.replica.stable == 0
    stage.wait(2000)
    assert d.replica.stable == 4


def test_a_stable_checkpoint_of_strangers_is_ignored() -> None:
    stage = Stage(4)
    keys = {x.key for x in stage.actors}
    strangers = [x for x in Stage(7).actors if x.key not in keys]
    forged = StableCheckpoint(tuple(x.signer.sign(Checkpoint(0, 4, b"r" * 32)) for x in strangers))
    assert stage["A"].step(Received(stage["B"].key, forged)) == []


def test_s8_14_a_node_whose_key_speaks_elsewhere_stops() -> None:
    stage = Stage(4)
    d = stage["D"]
    clone = bundle(d, 1, b"from the clone", incarnation=9)
    a = stage["A"]
    a.step(Received(d.key, clone))  # type: ignore[arg-type]
    stage.run()
    assert d.replica.halted is not None
    assert "in use elsewhere" in d.replica.halted
    assert stage.agree("A", "B", "C") == [b"from the clone"]


def test_a_root_below_the_stable_checkpoint_comes_too_late() -> None:
    stage = Stage(4)
    for i in range(4):
        stage.submit("A", b"%d" % i)
    assert stage["A"].step(RootTaken(4, stage["A"].root())) == []


def test_a_replica_wakes_for_a_source_that_does_not_answer() -> None:
    stage = Stage(4)
    a, b = stage["A"], stage["B"]
    a.step(Received(b.key, b.signer.sign(Status(0, 0, False, 0, 1000, 5))))
    assert a.replica.catchup.request is not None
    deadline = a.replica.catchup.request.deadline_ticks
    assert a.replica.wake_at == deadline
    stage.wire.clear()
    a.step(Tick(stage.now + deadline, CLOCK_MS))
    assert sent(stage, FetchBatches, "A")


def test_delivered_certificates_prove_the_batch_to_anybody() -> None:
    stage = Stage(4)
    stage.submit("A", b"op")
    deliver = stage["A"].delivered[0]
    assert isinstance(deliver, Deliver)
    certificate = messages.read(deliver.certificate, stage["B"].opener.open)
    assert isinstance(certificate, Committed)
    assert certificate.batch.bundles == deliver.bundles
