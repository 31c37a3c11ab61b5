"""Who is given pieces of a state: one answer at a time, and no more than so much in a while."""

from __future__ import annotations

import pytest

from aegis_edge.pbft import serving
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.pbft.events import Effect, LinkDown, LinkUp, PartSent, Received, SendPart
from aegis_edge.pbft.serving import WHOLE_BYTES_MIN, WHOLE_TICKS, WHOLES_AT_ONCE
from aegis_edge.wire.messages import FetchState
from tests.pbft.parts import KEYS, PARAMETERS, SIGNERS
from tests.pbft.test_transfer import A, B, Play

ANSWER = 64 * 1024
#: As often an answer of this size goes into the whole.
TIMES = 500
WHOLE = TIMES * ANSWER


class Library(Play):
    """A member whose state others want."""

    def __init__(self) -> None:
        super().__init__(claims=())

    def asks(self, member: int, item: int = 1) -> list[Effect]:
        """A member, or who is none, wants a piece; the answers that are begun now."""
        self.hears(member, FetchState(0, 36, 2, (item.to_bytes(2, "big"),)))
        return self.of(SendPart)

    def sent(self, member: int, size_bytes: int = ANSWER) -> list[Effect]:
        self.step(PartSent(KEYS[member], size_bytes, WHOLE))
        return self.of(SendPart)

    def given(self, member: int, times: int, size_bytes: int = ANSWER) -> int:
        """How often it is answered that asks so often, as fast as it can."""
        count = 0
        for _ in range(times):
            if self.asks(member):
                count += 1
                self.sent(member, size_bytes)
        return count


def piece(member: int, item: int = 1) -> SendPart:
    return SendPart(KEYS[member], 36, 2, (item.to_bytes(2, "big"),))


def test_a_flood_of_questions_has_one_answer_at_a_time_and_the_last_one_counts() -> None:
    library = Library()
    assert library.asks(0, 1) == [piece(0, 1)]
    for item in range(2, 500):
        assert library.asks(0, item) == []
    assert library.asks(1) == [piece(1)], "and nobody else waits for it"
    assert library.sent(0) == [piece(0, 499)]
    assert library.sent(0) == []


def test_who_asks_for_all_of_it_again_and_again_is_given_it_once_in_a_while() -> None:
    library = Library()
    assert library.given(0, 5 * TIMES) == WHOLES_AT_ONCE * TIMES + 1
    library.asks(0, 7)
    assert library.replica.wake_at is not None
    library.passes(WHOLE_TICKS // TIMES - 1)
    assert library.of(SendPart) == []
    library.passes(1)
    assert library.of(SendPart) == [piece(0, 7)], "what it asked for last, once it has paid"
    library.sent(0)
    library.passes((WHOLES_AT_ONCE + 1) * WHOLE_TICKS)
    assert library.given(0, 5 * TIMES) == WHOLES_AT_ONCE * TIMES + 1, "and never more at once"


def test_in_any_time_it_is_given_no_more_than_that() -> None:
    library, count = Library(), 0
    for _ in range(50):
        library.passes(WHOLE_TICKS // 10)
        if library.of(SendPart):  # what it asked for last, in vain until now
            count += 1
            library.sent(0)
        count += library.given(0, 3 * TIMES)
    assert count <= (WHOLES_AT_ONCE + 5) * TIMES + 2


def test_another_peer_is_served_at_once_while_one_floods() -> None:
    library = Library()
    library.given(0, 5 * TIMES)
    for item in range(TIMES):
        assert library.asks(0) == []
        assert library.asks(4, item) == [piece(4, item)]
        library.sent(4)


def test_who_hangs_up_and_comes_again_owes_as_much_as_before() -> None:
    library = Library()
    library.given(0, 5 * TIMES)
    library.asks(0, 7)
    library.step(LinkDown(A))
    library.step(LinkUp(A))
    library.passes(WHOLE_TICKS // TIMES)
    assert library.of(SendPart) == [], "what it wanted before is forgotten"
    assert library.asks(0, 8) == [piece(0, 8)]
    library.sent(0)
    assert library.asks(0, 9) == []


def test_an_answer_under_way_is_waited_for_though_the_link_is_another_one() -> None:
    library = Library()
    library.asks(0, 1)
    library.step(LinkDown(A))
    library.step(LinkUp(A))
    assert library.asks(0, 2) == []
    assert library.sent(0) == [piece(0, 2)]


def test_to_look_for_nothing_costs_something_and_a_small_state_is_cheap() -> None:
    library = Library()
    least = WHOLES_AT_ONCE * WHOLE // serving.ANSWER_BYTES_MIN
    assert library.given(0, 2 * least, size_bytes=0) == least + 1
    small = Library()
    for _ in range(WHOLES_AT_ONCE * WHOLE_BYTES_MIN // ANSWER):
        assert small.asks(0)
        small.step(PartSent(A, ANSWER, 4096))
    assert not small.asks(0)


def test_a_question_is_of_who_signed_it_and_for_something() -> None:
    library = Library()
    passed_on = SIGNERS[1].sign(FetchState(0, 36, 2, (b"\x00\x01",)))
    assert not [e for e in library.step(Received(A, passed_on)) if isinstance(e, SendPart)]
    library.hears(1, FetchState(0, 36, 2, ()))
    assert library.of(SendPart) == []


def test_what_each_was_given_is_remembered_for_as_long_as_it_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "PEERS_MAX", 2)
    library = Library()
    library.given(0, 5 * TIMES)
    library.given(1, 1)
    library.given(2, TIMES)
    owed = library.replica.serving._paid_at
    assert set(owed) == {KEYS[0], KEYS[2]}, "who had the least is forgotten first"
    library.passes((WHOLES_AT_ONCE + 1) * WHOLE_TICKS)
    library.given(1, 1)
    assert set(library.replica.serving._paid_at) == {B}


def test_another_configuration_forgives_nothing() -> None:
    library = Library()
    library.given(0, 5 * TIMES)
    replica = library.replica
    following = Configuration(0, KEYS[:4], 1).followed_by(0, KEYS[:5])
    replica._succeed(following, PARAMETERS)
    assert library.asks(0) == []
    assert library.asks(1) == [piece(1)]
