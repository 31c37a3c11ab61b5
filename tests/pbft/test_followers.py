"""A node feeds a few that follow it, whatever they ask, and points the others to those."""

from __future__ import annotations

import pytest

from aegis_edge.pbft.events import Effect, Introduce, Send, SendCommitted
from aegis_edge.pbft.followers import FOLLOWERS_MAX, Followers
from aegis_edge.wire.messages import (
    FETCH_BATCHES_MAX,
    HOPS_MAX,
    OTHERS_MAX,
    Follow,
    Reached,
    StableCheckpoint,
)
from tests.pbft.parts import Parts, stable

#: Who follows; whether their keys are any is not looked at.
NEWCOMERS = [bytes([i]) * 32 for i in range(100, 140)]
A, B = NEWCOMERS[:2]
MUCH = 1 << 20


class Source(Parts):
    def __init__(self, executed: int = 10) -> None:
        super().__init__(executed=executed)
        self.followers = Followers(self.voice)
        self.followers.begin(self.at, self.log)

    def asks(self, peer: bytes, after: int, bytes_max: int = MUCH) -> list[Effect]:
        """What is done at once about a question."""
        effects = self.said(self.followers.on_follow, Follow(after, bytes_max), peer)
        self.followers.go_on()
        return effects

    def goes_on(self, ticks: int = 0) -> list[Effect]:
        self.at.now_ticks += ticks
        return self.said(self.followers.go_on)

    def says(self, peer: bytes, depth: int = 0, takes: bool = True, *others: bytes) -> Send:
        return Send((peer,), Reached(self.at.executed, depth, takes, others).pack())


@pytest.fixture
def source() -> Source:
    return Source()


def test_who_asks_gets_what_comes_next_and_hears_where_that_ends(source: Source) -> None:
    assert source.asks(A, 7) == [SendCommitted(A, 8, 10, MUCH), source.says(A)]
    assert (A in source.followers, len(source.followers)) == (True, 1)
    assert source.asks(A, 10) == [], "there is nothing more"
    source.at.executed = 11
    assert source.goes_on() == [SendCommitted(A, 11, 11, MUCH), source.says(A)]
    assert source.goes_on() == [], "one answer to each question"


def test_an_answer_has_bounds_of_its_own(source: Source) -> None:
    source.at.executed = 1_000
    assert source.asks(A, 7, 1 << 40)[0] == SendCommitted(A, 8, 7 + FETCH_BATCHES_MAX, MUCH)
    assert source.asks(B, 7, 100)[0] == SendCommitted(B, 8, 7 + FETCH_BATCHES_MAX, 100)


def test_who_waits_is_told_that_there_is_nothing_once_in_a_while(source: Source) -> None:
    assert source.asks(A, 10) == [source.says(A)], "whom it follows, it hears at once"
    assert source.asks(A, 10) == []
    due = source.at.now_ticks + source.at.pace.status_ticks
    assert source.followers.wake_at() == due
    assert source.goes_on(source.at.pace.status_ticks - 1) == []
    assert source.goes_on(1) == [source.says(A)]


def test_who_asks_for_the_same_again_has_to_wait(source: Source) -> None:
    source.asks(A, 7)
    assert source.asks(A, 7) == []
    pause = source.at.pace.resend_ticks
    assert source.followers.wake_at() == source.at.now_ticks + pause
    assert source.goes_on(pause - 1) == []
    assert source.goes_on(1) == [SendCommitted(A, 8, 10, MUCH), source.says(A)]
    assert source.asks(A, 8)[0] == SendCommitted(A, 9, 10, MUCH)


def test_who_asks_no_more_makes_room(source: Source) -> None:
    source.asks(A, 7)
    pause = source.at.pace.status_ticks + source.at.pace.fetch_ticks
    assert source.followers.wake_at() == source.at.now_ticks + pause
    source.goes_on(pause - 1)
    assert A in source.followers
    assert source.goes_on(1) == []
    assert A not in source.followers
    assert source.followers.wake_at() is None


def test_a_link_that_ends_makes_room(source: Source) -> None:
    source.asks(A, 10)
    source.followers.gone(A)
    source.followers.gone(B)
    assert len(source.followers) == 0


def test_a_full_node_names_others_each_time(source: Source) -> None:
    fed = NEWCOMERS[:FOLLOWERS_MAX]
    for peer in fed:
        source.asks(peer, 10)
    assert len(source.followers) == FOLLOWERS_MAX
    named: list[bytes] = []
    for late in NEWCOMERS[FOLLOWERS_MAX : FOLLOWERS_MAX + 2]:
        introduced, said = source.asks(late, 3)
        assert isinstance(said, Send) and said.peers == (late,)
        found = [key for key in fed if key in said.raw]
        assert introduced == Introduce(late, tuple(found))
        assert len(found) == OTHERS_MAX
        named += found
    assert sorted(named) == sorted(fed), "everybody in turn"
    assert len(source.followers) == FOLLOWERS_MAX
    assert source.asks(fed[0], 10) == [], "who is fed goes on being fed"


def test_who_only_asks_where_it_stands_takes_no_room(source: Source) -> None:
    assert source.asks(A, 3, 0) == [source.says(A)]
    assert len(source.followers) == 0
    source.asks(B, 10)
    source.at.now_ticks += source.at.pace.resend_ticks
    assert source.asks(A, 3, 0) == [Introduce(A, (B,)), source.says(A, 0, True, B)]
    assert source.asks(B, 3, 0) == [source.says(B)], "of those that follow too"


def test_a_checkpoint_goes_along_when_there_is_a_new_one(source: Source) -> None:
    source.log.advance(8, stable(8))
    proof = Send((A,), StableCheckpoint(stable(8)).pack())
    assert source.asks(A, 9) == [SendCommitted(A, 10, 10, MUCH), proof, source.says(A)]
    source.asks(A, 10)
    source.at.executed = 11
    assert source.goes_on() == [SendCommitted(A, 11, 11, MUCH), source.says(A)]


def test_who_has_lost_its_own_source_gives_what_it_has_and_takes_nobody_who_has_that(
    source: Source,
) -> None:
    source.at.depth = HOPS_MAX
    assert source.asks(A, 10) == [source.says(A, HOPS_MAX, False)]
    assert source.asks(A, 9) == [SendCommitted(A, 10, 10, MUCH), source.says(A, HOPS_MAX)]


def test_a_new_distance_is_told_at_once(source: Source) -> None:
    source.asks(A, 10)
    source.asks(A, 10)
    source.at.depth = 3
    assert source.goes_on() == [source.says(A, 3)]
    assert source.goes_on() == []


def test_who_asks_again_and_again_where_it_stands_is_not_heard_for_a_while(source: Source) -> None:
    assert source.asks(A, 10, 0) == [source.says(A)]
    assert source.asks(A, 10, 0) == []
    assert source.asks(B, 10, 0) == [source.says(B)]
    source.at.now_ticks += source.at.pace.resend_ticks - 1
    assert source.asks(A, 10, 0) == []
    source.at.now_ticks += 1
    assert source.asks(A, 10, 0) == [source.says(A)]
    source.followers.gone(A)
    assert source.asks(A, 10, 0) == [source.says(A)], "over another link"


def test_who_finds_no_room_hears_so_once_in_a_while_and_is_led_to_others(source: Source) -> None:
    for each in NEWCOMERS[:FOLLOWERS_MAX]:
        source.asks(each, 7)
    late = NEWCOMERS[FOLLOWERS_MAX]
    introduced, said = source.asks(late, 7)
    assert introduced == Introduce(late, tuple(NEWCOMERS[:OTHERS_MAX]))
    assert said == source.says(late, 0, False, *NEWCOMERS[:OTHERS_MAX])
    assert source.asks(late, 7) == []
    assert source.asks(late, 7, 0) != [], "where it stands is another question"
    source.followers.gone(late)
    assert len(source.asks(late, 7)) == 2


def test_it_tells_how_far_its_followers_are(source: Source) -> None:
    assert source.followers.reached == {}
    source.asks(A, 7)
    source.asks(B, 9)
    assert source.followers.reached == {A: 7, B: 9}


def test_a_member_takes_no_seat_of_those_who_are_none(source: Source) -> None:
    for member in source.configuration.others(source.key):
        source.asks(member, 10)
    for peer in NEWCOMERS[:FOLLOWERS_MAX]:
        source.asks(peer, 10)
    assert all(peer in source.followers for peer in NEWCOMERS[:FOLLOWERS_MAX])
    source.asks(NEWCOMERS[-1], 10)
    assert NEWCOMERS[-1] not in source.followers
    late = NEWCOMERS[FOLLOWERS_MAX]
    configuration = source.configuration
    source.at.configuration = configuration.followed_by(
        10, tuple(sorted((*configuration.members, late)))
    )
    source.asks(late, 3)
    assert late in source.followers, "who was let in has to learn of it"
