"""Plays about nodes without a vote: they follow, feed each other, and take part once admitted."""

from __future__ import annotations

import pytest

from aegis_edge.pbft import journal
from aegis_edge.pbft.events import BeginTransfer, HangUp, LinkDown, LinkUp, Received
from aegis_edge.pbft.following import LIED
from aegis_edge.wire.messages import (
    HOPS_MAX,
    Batch,
    Bundle,
    Commit,
    Committed,
    FetchState,
    Follow,
    Reached,
)
from tests.pbft.stage import PARAMETERS, Stage


def apart(stage: Stage, *sides: str) -> None:
    """Only those in one of the `sides` are linked."""
    pairs = {(stage[a].key, stage[b].key) for side in sides for a in side for b in side}
    stage.lost = lambda sender, to, raw: (sender, to) not in pairs
    for a in stage.actors:
        for b in stage.actors:
            if a is not b and (a.key, b.key) not in pairs:
                a.step(LinkDown(b.key))


def source(stage: Stage, name: str) -> tuple[str, int, int]:
    found = stage[name].replica.source
    assert found is not None
    key, depth, behind = found
    return stage.by_key[key].name if key else "", depth, behind


def test_an_observer_follows_all_that_is_agreed_on_and_says_nothing_of_it() -> None:
    stage = Stage(4, outsiders=1)
    for i in range(2 * PARAMETERS.window):
        stage.submit("ABCD"[i % 4], b"put %d" % i)
    stage.wait(5_000)
    assert len(stage.agree()) == 2 * PARAMETERS.window
    observer = stage["E"].replica
    assert (observer.executed, observer.stable) == (16, 16), "checkpoints come along"
    assert source(stage, "E")[1:] == (1, 0)
    assert stage["A"].replica.source is None
    kinds = {kind for kind, _, _ in stage["E"].records}
    assert kinds == {journal.STABLE}, "it signs nothing, so that is all that it has to write"
    assert observer.wake_at is not None and observer.wake_at > stage.now


def test_who_votes_feeds_one_and_that_one_the_next() -> None:
    stage = Stage(4, outsiders=3)
    apart(stage, "ABCD", "AE", "EF", "FG")
    stage.wait(60_000, 1_000)
    for name, depth, feeder in (("E", 1, "A"), ("F", 2, "E"), ("G", 3, "F")):
        assert source(stage, name) == (feeder, depth, 0)
    stage.submit("C", b"first")
    stage.submit("D", b"second")
    stage.wait(1_000)
    assert stage.agree() == [b"first", b"second"]
    assert [len(stage[name].replica.followers) for name in "ABCDEFG"] == [1, 0, 0, 0, 1, 1, 0]
    apart(stage, "ABCD", "EF", "FG", "EG")
    stage.wait(60_000, 1_000)
    assert {source(stage, name)[1] for name in "EFG"} == {HOPS_MAX}, "no ring holds together"


def test_an_observer_that_is_admitted_votes_from_then_on() -> None:
    """It is there already: nothing waits for it."""
    stage = Stage(1, outsiders=1)
    for i in range(5):
        stage.submit("A", b"put %d" % i)
    assert stage["B"].replica.executed == 5
    stage.change_members("A", "+B")
    assert stage["B"].replica.source is None
    stage.submit("B", b"of two")
    assert stage.agree()[-1] == b"of two"
    assert stage.now == 0, "and no time has passed"


def test_who_is_removed_goes_on_as_an_observer() -> None:
    stage = Stage(5)
    stage.change_members("A", "-B")
    stage.submit("C", b"without")
    assert stage.agree()[-1] == b"without"
    assert source(stage, "B")[1:] == (1, 0)


def test_an_observer_that_starts_again_goes_on_where_it_was() -> None:
    stage = Stage(4, outsiders=1)
    for i in range(PARAMETERS.window):
        stage.submit("A", b"put %d" % i)
    stage.crash("E")
    stage.submit("A", b"meanwhile")
    stage.restart("E")
    assert len(stage.agree()) == PARAMETERS.window + 1
    assert stage["E"].replica.stable == PARAMETERS.window


def test_where_the_log_is_gone_an_observer_takes_the_state() -> None:
    stage = Stage(4, outsiders=1)
    stage.lost = lambda sender, to, raw: to == stage["E"].key
    for i in range(3 * PARAMETERS.window):
        stage.submit("A", b"put %d" % i)
    for name in "ABCD":
        stage[name].keeps = False
    stage.lost = lambda sender, to, raw: False
    observer = stage["E"]
    begun: list[BeginTransfer] = []
    perform = observer.perform

    def listening(effect: object) -> None:
        if isinstance(effect, BeginTransfer):
            begun.append(effect)
        perform(effect)  # type: ignore[arg-type]

    observer.perform = listening  # type: ignore[method-assign]
    stage.wait(30_000, 500)
    assert [effect.sequence for effect in begun[:1]] == [24]
    assert {to for to, _ in stage.asked}, "somebody was asked for it"


def test_where_the_log_is_gone_over_a_change_of_members_an_observer_asks_who_they_are() -> None:
    stage = Stage(5, outsiders=1)
    stage.lost = lambda sender, to, raw: to == stage["F"].key
    stage.change_members("A", "-E")
    for i in range(3 * PARAMETERS.window):
        stage.submit("A", b"put %d" % i)
    for name in "ABCDE":
        stage[name].keeps = False
    stage.lost = lambda sender, to, raw: False
    stage.wait(30_000, 500)
    assert stage["F"].replica.configuration.number == 0
    assert {part.sequence for _, part in stage.asked} == {24}, "a checkpoint of configuration 1"


def test_where_an_observer_has_no_log_either_its_state_is_taken() -> None:
    stage = Stage(4, outsiders=2)
    apart(stage, "ABCD", "AE", "E", "F")
    stage.wait(60_000, 1_000)
    for i in range(3 * PARAMETERS.window):
        stage.submit("A", b"put %d" % i)
    stage["E"].keeps = False
    apart(stage, "ABCD", "AE", "EF")
    stage["F"].step(LinkUp(stage["E"].key))
    stage.wait(60_000, 1_000)
    assert {asked for asked, _ in stage.asked} == {stage["E"].key}


def test_a_source_that_hands_on_what_nobody_agreed_on_is_left() -> None:
    stage = Stage(4, outsiders=1)
    observer, liar = stage["E"], stage[source(stage, "E")[0]]
    batch = Batch((), (liar.signer.sign(Bundle(1, 1, (b"forged",))),))
    forged = Committed((liar.signer.sign(Commit(0, 0, 1, batch.digest, 0)),), batch)
    said = observer.step(Received(liar.key, forged))
    assert HangUp(liar.key, LIED) in said
    stage.run()
    assert source(stage, "E")[0] not in ("", liar.name)
    stage.submit("A", b"real")
    assert stage.agree() == [b"real"]


@pytest.mark.parametrize("kind", [Follow, Reached, FetchState])
def test_what_an_observer_says_leaves_the_members_as_they_are(kind: type) -> None:
    stage = Stage(4, outsiders=1)
    member, key = stage["A"].replica, stage["E"].key
    said = {
        Follow: Follow(1 << 60, 1 << 60),
        Reached: Reached(1 << 60, 0, True, (key,)),
        FetchState: stage["E"].signer.sign(FetchState(0, 4, 1, (b"",))),
    }[kind]
    stage["A"].step(Received(key, said))  # type: ignore[arg-type]
    assert (member.executed, member.following.behind, member.following.source) == (0, 0, b"")


def test_where_to_link_is_what_its_following_wants_and_a_members_business_nowhere() -> None:
    stage = Stage(4, outsiders=1)
    stage.wait(5_000)
    observer = stage["E"].replica
    assert observer.source is not None and observer.wants is not None
    assert observer.source[0] in observer.wants
    fed = stage.by_key[observer.source[0]].replica
    assert (fed.wants, fed.reached) == (None, {stage["E"].key: observer.executed})
