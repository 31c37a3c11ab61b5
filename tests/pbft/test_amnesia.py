"""A member that lost its memory of votes: when it may vote again, and what it does until then."""

from __future__ import annotations

import pytest

from aegis_edge.pbft import journal, quorum
from aegis_edge.pbft.amnesia import Amnesia
from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.events import LinkUp, Received, Tick
from aegis_edge.wire import messages
from aegis_edge.wire.messages import (
    Batch,
    Bundle,
    Checkpoint,
    Commit,
    NewView,
    Prepare,
    PrePrepare,
    Proposal,
    Status,
    ViewChange,
)
from tests.pbft.stage import Stage, kind_of

VOTES = (PrePrepare, Prepare, Commit, Checkpoint, ViewChange, NewView)
PARAMETERS = Parameters(checkpoint_interval=4, window=8)


def amnesia(n: int, *heard: tuple[int, int]) -> Amnesia:
    """Of a member of `n`; each of the others it `heard` is in a view, and executed a sequence."""
    members = tuple(bytes([i]) * 32 for i in range(n))
    made = Amnesia(Configuration(0, members, quorum.faults(n)), PARAMETERS)
    for peer, (view, executed) in zip(members[1:], heard, strict=False):
        made.note(peer, Status(0, view, False, 0, executed, 5))
    return made


# --- the rule -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(2, 65))
def test_those_it_hears_meet_every_quorum_in_a_correct_member(n: int) -> None:
    """However f of the others lie; and no more are asked for than are correct beside f faulty."""
    f = quorum.faults(n)
    needed, others_in_a_quorum = amnesia(n).needed, quorum.quorum(n, f) - 1
    assert needed + others_in_a_quorum - (n - 1) > f
    assert needed <= n - 1 - max(0, f - 1)


def test_it_waits_until_it_has_heard_enough() -> None:
    assert amnesia(4).next_view(99, 10**6) is None
    assert amnesia(4, (0, 0), (0, 0)).next_view(99, 10**6) is None
    assert amnesia(4, (0, 0), (0, 0), (0, 0)).next_view(99, 10**6) == 100
    assert amnesia(4, (0, 0), (0, 0)).target() is None
    assert amnesia(4, (0, 0), (0, 7), (0, 5)).target() == 12


def test_s8_14_its_checkpoint_must_lie_above_every_vote_that_it_may_have_sent() -> None:
    """Whoever executed 7 knows no stable checkpoint above 4, and voted for nothing above 4 + 8."""
    learner = amnesia(4, (0, 0), (0, 7), (0, 3))
    assert learner.next_view(0, 11) is None
    assert learner.next_view(0, 12) == 1


def test_it_must_have_reached_every_view() -> None:
    learner = amnesia(4, (3, 0), (5, 0), (4, 0))
    assert learner.next_view(4, 100) is None
    assert learner.next_view(5, 100) == 6, "in which it cannot have said anything"


def test_what_a_peer_says_later_does_not_count() -> None:
    learner = amnesia(4, (0, 0), (0, 0), (0, 0))
    learner.note(bytes([1]) * 32, Status(0, 9, False, 0, 999, 5))
    assert learner.next_view(0, 8) == 1


def test_a_liar_that_claims_the_impossible_is_not_needed() -> None:
    """Of seven two may be faulty: the one who forgot, and one who lies."""
    learner = amnesia(7, (10**9, 10**15), (0, 3), (0, 3), (0, 3), (0, 3), (0, 3))
    assert learner.target() == 8
    assert learner.next_view(0, 8) == 1


def test_of_two_the_other_one_remembers_everything() -> None:
    assert amnesia(2).next_view(0, 0) is None
    assert amnesia(2, (4, 1000)).next_view(0, 0) == 5
    assert amnesia(2, (4, 1000)).next_view(7, 0) == 8


# --- plays ----------------------------------------------------------------------------------------


def said_by(stage: Stage, name: str) -> list[type]:
    """From now on: the kinds of what this member signs and sends."""
    kinds: list[type] = []
    key = stage[name].key
    before = stage.lost

    def listen(sender: bytes, to: bytes, raw: bytes) -> bool:
        message = messages.read(raw, stage["A"].opener.open)
        if isinstance(message, Proposal):
            message = message.pre_prepare
        if sender == key and isinstance(message, messages.Verified) and message.signer == key:
            kinds.append(type(message.message))
        return before(sender, to, raw)

    stage.lost = listen
    return kinds


def forget(stage: Stage, name: str) -> list[type]:
    """This member loses its disk and comes back; what it says from then on."""
    stage.crash(name)
    stage[name].lose_disk()
    said = said_by(stage, name)
    stage.restart(name)
    return said


def test_s8_14_it_follows_and_serves_and_says_nothing_that_counts() -> None:
    stage = Stage(4)
    for i in range(6):
        stage.submit("A", b"%d" % i)
    said = forget(stage, "D")
    assert stage["D"].replica.learning == 12
    stage.wait(1500)
    assert len(stage.agree()) == 6, "it has what it lost"
    for i in range(6, 10):
        stage.submit("D", b"%d" % i)
        stage.tick(100)
    assert len(stage.agree()) == 10, "its own callers are served"
    assert {a.replica.stable for a in stage.actors} == {8}, "with its checkpoints, or without"
    assert not set(said) & set(VOTES)
    assert Status in said
    assert journal.PROPOSAL not in {kind for kind, _, _ in stage["D"].records}
    assert stage["D"].replica.view == 0
    assert not any(a.alarms for a in stage.actors)


def test_s8_14_it_votes_again_above_all_that_it_can_have_said() -> None:
    stage = Stage(4)
    for i in range(6):
        stage.submit("A", b"%d" % i)
    said = forget(stage, "D")
    stage.wait(1500)
    d = stage["D"].replica
    for i in range(6, 12):
        assert d.learning == 12
        stage.submit("B", b"%d" % i)
    assert (d.learning, d.view, d.changing) == (None, 1, True), "the view after that of all others"
    assert d.stable == 12
    assert set(said) & set(VOTES) == {ViewChange}
    stage.submit("D", b"12")
    stage.tick(100)
    assert len(stage.agree()) == 13, "the others go on without it"
    stage.crash("C")
    stage.submit("A", b"13")
    stage.wait(6000)
    assert stage.agree("A", "B", "D")[-1] == b"13", "and now they need it"
    assert {Prepare, Commit} <= set(said)


def test_s8_14_that_it_may_vote_again_is_known_after_a_restart_and_not_before() -> None:
    stage = Stage(4)
    for i in range(4):
        stage.submit("A", b"%d" % i)
    forget(stage, "D")
    stage.wait(1500)
    stage.crash("D")
    stage.restart("D")
    assert stage["D"].replica.learning == 12
    for i in range(4, 12):
        stage.submit("A", b"%d" % i)
    assert stage["D"].replica.learning is None
    own = [key for key in stage["D"].records if key[0] == journal.VIEW_CHANGE]
    assert own, "the record of its view change is what says so"
    stage.crash("D")
    stage.restart("D")
    assert stage["D"].replica.learning is None


def test_a_primary_that_forgot_proposes_nothing_and_is_replaced() -> None:
    stage = Stage(4)
    stage.submit("A", b"1")
    said = forget(stage, "A")
    assert stage["A"].replica.primary == stage["A"].key
    stage.submit("A", b"mine")
    stage.submit("B", b"2")
    assert stage["A"].replica.log.last_accepted() <= 1
    stage.wait(6000)
    assert sorted(stage.agree()) == [b"1", b"2", b"mine"]
    assert {a.replica.view for a in stage.actors} == {1}
    assert not set(said) & set(VOTES)


def test_it_joins_no_view_change_and_accuses_with_words_only() -> None:
    stage = Stage(4)
    forget(stage, "D")
    a, d = stage["A"], stage["D"]
    for name in "BC":
        change = stage[name].signer.sign(ViewChange(0, 1, 0, (), ()))
        assert d.step(Received(change.signer, change)) == []
    assert (d.replica.view, d.replica.changing) == (0, False)
    for op in (b"one", b"two"):
        batch = Batch((), (a.signer.sign(Bundle(1, 1, (op,))),))
        named = a.signer.sign(PrePrepare(0, 0, 1, batch.digest))
        d.step(Received(a.key, Proposal(named, batch)))
    assert [x.reason for x in d.alarms] == ["the primary gave one number to two batches"]
    assert not d.replica.changing
    now = stage.now + 10**6
    d.step(Tick(now, 5))
    assert not d.replica.changing, "it suspects nobody, since it may not say so"
    assert d.replica.wake_at is not None
    assert d.replica.wake_at > now, "and sleeps over it"
    b = stage["B"]
    effects = d.step(Received(b.key, b.signer.sign(Status(0, 0, False, 0, 0, 5))))
    assert effects == [], "it has no vote to repeat, and lacks no body"


def test_it_takes_part_in_no_new_view_and_follows_it() -> None:
    """The bodies that a new view begins with may come before or after it, or with certificates."""
    stage = Stage(4)
    d = stage["D"].key

    def kind(raw: bytes) -> type:
        message = messages.read(raw, stage["A"].opener.open)
        return type(getattr(message, "message", message))

    stage.lost = lambda sender, to, raw: kind(raw) is Commit
    stage.submit("B", b"1")
    stage.submit("C", b"2")
    stage.lost = lambda sender, to, raw: (
        kind(raw) is Commit
        or (to == d and isinstance(messages.read(raw, stage["A"].opener.open), Proposal))
    )
    said = forget(stage, "D")
    stage.submit("B", b"3")
    for name in "ABC":
        stage[name].replica._start_view_change(1)
    stage.wait(1000)
    assert stage["D"].replica.view == 1
    stage.lost = lambda *_: False
    stage.wait(3000)
    assert stage.agree() == [b"1", b"2", b"3"]
    assert not set(said) & set(VOTES)


def test_n_1_votes_again_when_its_owner_says_that_there_never_were_others() -> None:
    stage = Stage(1)
    stage.submit("A", b"lost")
    stage.crash("A")
    stage["A"].lose_disk()
    stage.restart("A")
    assert stage["A"].replica.learning == 0
    stage.crash("A")
    stage["A"].rebuilt = False
    stage.restart("A")
    stage.submit("A", b"new")
    assert stage["A"].operations == [b"new"]


def test_n_2_goes_on_when_it_has_heard_the_other() -> None:
    stage = Stage(2)
    for i in range(6):
        stage.submit("AB"[i % 2], b"%d" % i)
    forget(stage, "A")
    assert stage["A"].replica.learning is None
    stage.wait(1500)
    stage.submit("A", b"after")
    stage.wait(1500)
    assert len(stage.agree()) == 7
    assert {a.replica.view for a in stage.actors} == {1}


def split_between_two_and_three() -> Stage:
    """Of two, A executed that C comes in, and went on with it; B has not heard A's vote for that.

    Then A loses its disk, and C is cut off.
    """
    stage = Stage(2, outsiders=1)
    a, b, c = stage.actors
    stage.lost = lambda sender, to, raw: (
        sender == a.key and to == b.key and kind_of(stage, raw) is Commit
    )
    stage.change_members("A", "+C")
    stage.cut("AC", "B")
    stage.wait(6000)
    stage.submit("A", b"theirs")
    stage.wait(1500)
    assert (b.replica.executed, c.operations[1:]) == (0, [b"theirs"])
    stage.crash("A")
    a.lose_disk()
    stage.cut("C", "AB")
    a.start()
    a.step(LinkUp(b.key))
    b.step(LinkUp(a.key))
    stage.run()
    return stage


def test_s8_14_of_two_one_forgot_too_what_it_said_among_three() -> None:
    stage = split_between_two_and_three()
    a, b, _ = stage.actors
    stage.wait(20_000)
    assert [x.replica.configuration.number for x in (a, b)] == [1, 1], "they went on among two"
    assert a.replica.learning == 0, "and it cannot know what it said after that"
    stage.submit("B", b"ours")
    stage.wait(20_000)
    assert stage.agree("A", "B") == [b"+C"]
    stage.heal()
    for i in range(30):
        stage.submit("B", b"%d" % i)
        stage.wait(1000)
    assert stage.agree()[:3] == [b"+C", b"theirs", b"ours"], "C and B are enough"
    assert a.replica.learning is None, "and with what they agree on it comes back"
    assert not any(x.alarms for x in stage.actors)


def test_s8_14_of_two_one_knows_what_the_other_knew_before_it_says_that_it_remembers() -> None:
    stage = Stage(2, outsiders=1)
    stage.submit("A", b"1")
    a, b = stage["A"], stage["B"]
    stage.crash("A")
    a.lose_disk()
    a.start()
    stage.lost = lambda sender, to, raw: kind_of(stage, raw) is ViewChange
    a.step(LinkUp(b.key))
    b.step(LinkUp(a.key))
    stage.run()
    assert a.replica.learning is None and a.replica.views.is_forgetful
    stage.crash("A")
    stage.restart("A")
    assert a.replica.learning is None and a.replica.views.is_forgetful, "nor after a restart"
    assert (journal.REMEMBERS, 0, 0) not in a.records
    stage.lost = lambda *_: False
    stage.wait(6000)
    assert not a.replica.views.is_forgetful
    assert (journal.REMEMBERS, 0, 0) in a.records
    stage.change_members("B", "+C")
    stage.wait(1000)
    assert a.replica.configuration.number == 1 and a.replica.learning is None
    stage.crash("C")
    stage.submit("A", b"2")
    stage.wait(6000)
    assert stage.agree("A", "B") == [b"1", b"+C", b"2"]


def test_s8_14_of_two_one_that_forgot_among_three_still_knows_so_after_a_restart() -> None:
    stage = split_between_two_and_three()
    a = stage["A"]
    stage.wait(20_000)
    assert a.replica.views.is_forgetful
    assert not any(kind == journal.REMEMBERS for kind, _, _ in a.records)
    stage.crash("A")
    stage.restart("A")
    assert a.replica.configuration.number == 1 and a.replica.learning is not None


def test_who_forgot_once_and_came_back_remembers_over_a_power_cut_at_a_change_of_members() -> None:
    """Two that lost their disks long ago: forgetting again, both at once, would be too many."""
    stage = Stage(4, outsiders=1)
    for i in range(6):
        stage.submit("A", b"%d" % i)
    for name in "DC":
        forget(stage, name)
        stage.wait(2000)
        for i in range(30):
            by = "AB"[i % 2]
            while not stage[by].replica.bundle_room:
                stage.wait(1000)
            stage.submit(by, b"%s %d" % (name.encode(), i))
            stage.wait(300)
        assert stage[name].replica.learning is None
    stage.change_members("A", "+E", run=False)
    cut = ""
    while stage.run_once():
        for name in "CD":
            if name not in cut and stage[name].configuration.number == 1:
                assert stage[name].replica.configuration.number == 0, (
                    "what follows is not known yet"
                )
                stage.crash(name)
                cut += name
    assert sorted(cut) == ["C", "D"]
    for name in cut:
        stage.restart(name)
        assert stage[name].replica.learning is None
    stage.submit("A", b"after")
    stage.wait(20_000)
    assert stage.agree()[-1] == b"after"
