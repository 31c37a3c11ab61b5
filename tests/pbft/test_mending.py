"""Rule 17, in small: rows that the disk spoilt come from one peer after the other."""

from __future__ import annotations

from typing import Any

import pytest

from aegis_edge.pbft.configuration import Configuration
from aegis_edge.pbft.events import (
    Alarm,
    Effect,
    JudgePart,
    MendRows,
    Received,
    Restored,
    RowsMended,
    RowsRotten,
    Send,
    Tick,
)
from aegis_edge.pbft.mending import REST_FACTOR, Mending
from aegis_edge.pbft.replica import Replica
from aegis_edge.pbft.transfer import ANSWER_BYTES
from aegis_edge.wire.messages import FETCH_STATE_ITEMS_MAX, FetchState, StatePart, Status, Verified
from tests.pbft.parts import KEYS, OPEN, PARAMETERS, SIGNERS, Parts, stable
from tests.pbft.stage import PACE

KIND = 3
A, B, C = KEYS[0], KEYS[2], KEYS[3]
PATIENCE = PACE.fetch_ticks + PACE.travel_ticks(ANSWER_BYTES)


class Play:
    """Member 1 of four, where all have executed what the checkpoint at 8 says."""

    def __init__(self, low: int = 8) -> None:
        self.parts = Parts(executed=8)
        self.mending = Mending(self.parts.at, self.parts.voice, self.parts.log, self.parts.catchup)
        for peer in (A, B, C):
            self.parts.catchup.note(peer, Status(0, 0, False, 8, 8, 5))
        if low:
            self.parts.log.advance(low, stable(low))

    def asks(self) -> list[tuple[bytes, FetchState]]:
        """Who is asked for what, if it is time to ask."""
        return questions(self.parts.said(self.mending.go_on))

    def wants(self, *items: bytes) -> list[tuple[bytes, FetchState]]:
        self.mending.want(KIND, items)
        return self.asks()

    def passes(self, ticks: int) -> list[tuple[bytes, FetchState]]:
        self.parts.at.now_ticks += ticks
        return self.asks()

    def part(self, peer: bytes, data: bytes = b"data", **changes: int) -> list[Effect]:
        said = {"sequence": 8, "kind": KIND} | changes
        part = StatePart(said["sequence"], said["kind"], data)
        effects = self.parts.voice.begin()
        self.is_taken = self.mending.on_part(part, peer)
        return effects

    def mended(self, peer: bytes, *left: bytes, fault: str | None = None) -> list[Effect]:
        return self.parts.said(self.mending.mended, RowsMended(peer, fault, left))


def questions(effects: list[Effect]) -> list[tuple[bytes, FetchState]]:
    found = []
    for effect in effects:
        if isinstance(effect, Send):
            message = OPEN(effect.raw)
            assert isinstance(message, Verified)
            if isinstance(message.message, FetchState):
                found += [(peer, message.message) for peer in effect.peers]
    return found


def question(*items: bytes) -> FetchState:
    return FetchState(0, 8, KIND, items)


@pytest.fixture
def play() -> Play:
    return Play()


def test_what_is_rotten_is_asked_for_and_given_to_the_database(play: Play) -> None:
    assert play.mending.wake_at() is None
    assert play.asks() == []
    assert play.wants(b"one", b"two") == [(A, question(b"one", b"two"))]
    assert play.mending.wake_at() == play.parts.at.now_ticks + PATIENCE
    assert play.wants(b"three") == [], "one question at a time"
    assert play.part(A) == [MendRows(A, (b"one", b"two"), b"data")]
    assert play.is_taken
    assert play.mending.wake_at() is None
    assert play.part(A) == [], "it is being mended"
    assert not play.is_taken
    assert play.passes(PATIENCE) == [], "however long that takes"
    assert play.mended(A) == []
    assert list(play.mending.wanted) == [b"three"]
    assert play.asks() == [(A, question(b"three"))]
    play.part(A)
    play.mended(A)
    assert not play.mending.wanted
    assert play.asks() == []


def test_a_question_is_bounded(play: Play) -> None:
    items = [b"%03d" % number for number in range(FETCH_STATE_ITEMS_MAX + 1)]
    ((_, said),) = play.wants(*items)
    assert said.items == tuple(items[:-1])


@pytest.mark.parametrize("how", ["silent", "empty", "stale", "lying"])
def test_who_does_not_help_is_followed_by_the_next_and_all_are_asked_again(
    play: Play, how: str
) -> None:
    assert play.wants(b"one") == [(A, question(b"one"))]
    alarms: list[Effect] = []
    for peer, following in ((A, [B]), (B, [C]), (C, [])):
        if how == "silent":
            assert play.passes(PATIENCE - 1) == []
            asked = play.passes(1)
        else:
            effects = play.part(peer, b"" if how == "empty" else b"data")
            assert play.is_taken
            assert bool(effects) == (how != "empty")
            if how != "empty":
                alarms += play.mended(peer, b"one", fault="odd" if how == "lying" else None)
            asked = play.asks()
        assert asked == [(each, question(b"one")) for each in following]
    assert [type(alarm) for alarm in alarms] == ([Alarm] * 3 if how == "lying" else [])
    due = play.mending.wake_at()
    assert due is not None
    now = play.parts.at.now_ticks
    assert now < due <= now + REST_FACTOR * PATIENCE
    assert play.passes(due - now - 1) == []
    assert play.passes(1) == [(A, question(b"one"))]


def test_the_next_checkpoint_is_asked_for_at_once(play: Play) -> None:
    play.wants(b"one")
    for peer in (A, B, C):
        play.part(peer, b"")
        play.asks()
    play.parts.log.advance(16, stable(16))
    assert play.asks() == [], "who has not executed it has not got it"
    play.parts.catchup.note(C, Status(0, 0, False, 16, 16, 5))
    assert play.asks() == [(C, FetchState(0, 16, KIND, (b"one",)))]


def test_what_answers_no_question_is_not_taken(play: Play) -> None:
    play.part(A)
    assert not play.is_taken
    play.wants(b"one")
    for peer, changes in ((B, {}), (A, {"sequence": 16}), (A, {"kind": 2})):
        assert play.part(peer, **changes) == []
        assert not play.is_taken


def test_nothing_is_asked_before_there_is_a_checkpoint_or_while_another_state_comes() -> None:
    play = Play(low=0)
    assert play.wants(b"one") == []
    play.parts.log.advance(8, stable(8))
    play.parts.at.fetching = True
    assert play.asks() == []
    assert play.mending.wake_at() is None
    play.parts.at.fetching = False
    assert play.asks() == [(A, question(b"one"))]


def test_what_is_wanted_when_other_members_come_is_wanted_of_them() -> None:
    play = Play()
    play.wants(b"one")
    now = Parts(executed=8)
    now.voice, now.at.now_ticks = play.parts.voice, play.parts.at.now_ticks
    play.mending.follow(now.at, now.log, now.catchup)
    play.parts = now
    play.part(A)
    assert play.is_taken, "what was asked before may be answered"
    play.mended(A, b"one")
    assert play.asks() == [], "nobody said where it stands"
    now.catchup.note(C, Status(0, 0, False, 8, 8, 5))
    assert play.asks() == [(C, question(b"one"))], "they hold the last checkpoint of those before"
    play.mended(C, b"one")
    now.log.advance(16, stable(16))
    now.catchup.note(B, Status(0, 0, False, 16, 16, 5))
    assert play.asks() == [(B, FetchState(0, 16, KIND, (b"one",)))], "until there is one of theirs"


def test_a_replica_mends_as_well_as_it_fetches() -> None:
    replica = Replica(SIGNERS[1], Configuration(0, KEYS[:4], 1), PARAMETERS, Restored(1, 8), OPEN)

    def step(event: Any) -> list[Effect]:
        return replica.step(event)

    step(Tick(10_000, 1))
    replica.catchup.note(A, Status(0, 0, False, 8, 8, 5))
    replica.log.advance(8, stable(8))
    assert replica.rotten == 0
    effects = step(RowsRotten(KIND, (b"one",)))
    assert questions(effects) == [(A, question(b"one"))]
    assert replica.rotten == 1
    assert step(Received(A, StatePart(8, KIND, b"data"))) == [MendRows(A, (b"one",), b"data")]
    unasked = step(Received(A, StatePart(8, KIND, b"data")))
    assert not any(isinstance(effect, (MendRows, JudgePart)) for effect in unasked)
    step(RowsMended(A, None, ()))
    assert replica.rotten == 0
