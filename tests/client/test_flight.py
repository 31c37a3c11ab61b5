"""The pipeline's bookkeeping: numbers, bounds, answers in any order."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.client import flight
from aegis_edge.client.flight import Flight
from aegis_edge.client.protocol import ClientError, Conflict, Garbled, Inbox, Invalid, Written
from aegis_edge.wire import codec


def answered(sent: Flight, *items: Any) -> None:
    inbox = Inbox()
    inbox.feed(flight.framed(codec.encode(items)))
    with pytest.raises(StopIteration):
        next(sent.answers(inbox))


def frames(data: bytes) -> list[Any]:
    found = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        found.append(codec.decode(data[4:end]))
        data = data[end:]
    return found


def test_answers_are_given_in_the_order_of_the_operations() -> None:
    sent = Flight()
    assert [sent.put("a", 1), sent.delete("b"), sent.put("c", b"")] == [0, 1, 2]
    (items,) = frames(sent.frame())
    assert [number for number, _ in items] == [0, 1, 2]
    assert sent.frame() == b""
    answered(sent, (2, "ok", 9, 50), (0, "ok", 8, 50))
    assert sent.open == 1
    answered(sent, (1, "conflict", 3, "words"))
    first, second, third = sent.landed()
    assert (first, third) == (Written(8, 50), Written(9, 50))
    assert isinstance(second, Conflict)
    assert second.revision == 3
    with pytest.raises(Conflict):
        Flight.all_written([first, second, third])
    assert sent.landed() == []


def test_a_claimed_answer_is_for_its_claimant() -> None:
    sent = Flight()
    sent.claim(sent.put("a", 1))
    sent.put("b", 1)
    assert not sent.answered(0)
    answered(sent, (0, "ok", 1, 0), (1, "ok", 2, 0))
    assert sent.answered(0)
    assert sent.landed() == [Written(2, 0)]
    assert sent.result(0) == Written(1, 0)


def test_frames_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "FRAME_OPERATIONS", 2)
    sent = Flight()
    for number in range(5):
        sent.put(f"k{number}", b"")
    assert sent.frame_due
    assert [len(items) for items in frames(sent.frame())] == [2, 2, 1]
    monkeypatch.setattr(flight, "FRAME_OPERATIONS", 100)
    for _ in range(9):
        sent.put("k", b"x" * 250_000)
    data = sent.frame()
    assert max(len(codec.encode(items)) for items in frames(data)) <= flight.FRAME_BYTES_MAX
    assert sent.full


def test_bad_keys_and_values_are_refused_before_they_are_sent() -> None:
    sent = Flight()
    for key, value in (("", b""), ("a//b", b""), ("a", b"x" * 300_000), ("\udc80", b"")):
        with pytest.raises(Invalid):
            sent.put(key, value)
    with pytest.raises(Invalid):
        sent.delete("")
    assert sent.frame() == b""


@given(st.binary(max_size=60))
def test_any_frame_is_answers_or_a_client_error(data: bytes) -> None:
    sent = Flight()
    sent.put("a", 1)
    inbox = Inbox()
    inbox.feed(flight.framed(data))
    with suppress(StopIteration, ClientError):
        next(sent.answers(inbox))


@pytest.mark.parametrize("item", [1, (9, "ok", 1, 1), (0, "ok", 1), ([], "ok", 1, 1)])
def test_answers_to_nothing_are_garbled(item: Any) -> None:
    sent = Flight()
    sent.put("a", 1)
    inbox = Inbox()
    inbox.feed(flight.framed(codec.encode((item,))))
    with pytest.raises(Garbled):
        next(sent.answers(inbox))


def test_what_the_node_says_of_the_connection_is_raised() -> None:
    sent = Flight()
    inbox = Inbox()
    inbox.feed(flight.framed(codec.encode(((None, "invalid", 0, "a broken rule"),))))
    with pytest.raises(Invalid, match="broken rule"):
        next(sent.answers(inbox))
