"""Requests and answers without a socket: any bytes of a node give a value or a `ClientError`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.api.messages import STATUS
from aegis_edge.client import protocol
from aegis_edge.client.protocol import (
    ClientError,
    Garbled,
    Inbox,
    Invalid,
    JsonText,
    Parser,
    Refused,
)


def fed(inbox: Inbox, parser: Parser[object], *pieces: bytes) -> object:
    """The result of a parser that is given one piece whenever it wants more."""
    waiting = list(pieces)
    while True:
        try:
            next(parser)
        except StopIteration as done:
            return done.value
        if not waiting:
            raise EOFError
        inbox.feed(waiting.pop(0))


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nhi",
    b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("data", ANSWERS)
def test_an_answer_may_come_in_any_pieces(data: bytes) -> None:
    for pieces in ([data], [bytes([byte]) for byte in data]):
        inbox = Inbox()
        answer = fed(inbox, protocol.response(inbox), *pieces)
        assert isinstance(answer, protocol.Response)
        assert (answer.status, answer.headers["x-a"], answer.body) == (200, "b", b"hi")


@given(st.binary(max_size=200) | st.builds(lambda b: b"HTTP/1.1 200 \r\n" + b, st.binary()))
def test_any_bytes_are_an_answer_or_a_client_error(data: bytes) -> None:
    inbox = Inbox()
    try:
        answer = fed(inbox, protocol.response(inbox), data)
        assert isinstance(answer, protocol.Response)
        protocol.document(answer)
    except (ClientError, EOFError):
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
        b"x" * 100_000,
    ],
)
def test_what_is_no_answer_is_garbled(data: bytes) -> None:
    inbox = Inbox()
    with pytest.raises(Garbled):
        fed(inbox, protocol.response(inbox), data, data)


def test_each_code_of_the_api_has_its_error() -> None:
    for code in STATUS:
        error = protocol.error_of(code, "words", "advice")
        assert error.code == code
        assert (error.message, error.advice) == ("words", "advice")
        assert type(error) is protocol.ERRORS.get(code, Refused)
    assert set(protocol.ERRORS) <= set(STATUS)


def test_an_error_answer_is_raised_with_its_words() -> None:
    body = {"error": "conflict", "message": "m", "advice": "a", "revision": 4}
    with pytest.raises(protocol.Conflict, match="m") as caught:
        protocol.checked(protocol.Response(409, {}, json.dumps(body).encode()))
    assert (caught.value.advice, caught.value.revision) == ("a", 4)
    with pytest.raises(Garbled):
        protocol.checked(protocol.Response(500, {}, b"<html>"))


def test_values_are_bytes_or_json() -> None:
    assert protocol.packed(b"\xff") == (b"\xff", False)
    assert protocol.packed(bytearray(b"a")) == (b"a", False)
    assert protocol.packed({"ä": [1, None]}) == ('{"ä":[1,null]}'.encode(), True)
    assert protocol.packed("text") == (b'"text"', True)
    assert protocol.packed(JsonText(b"[ 1 ]")) == (b"[ 1 ]", True)
    for value in (object(), float("nan"), {1, 2}):
        with pytest.raises(Invalid):
            protocol.packed(value)


@pytest.mark.parametrize("raw", [b"", b"{", b"NaN", b"\xff", b"[" * 100_000, b"-Infinity"])
def test_text_that_is_no_json_is_seen_before_it_is_sent(raw: bytes) -> None:
    with pytest.raises(Invalid, match="not JSON"):
        JsonText.of(raw)
    assert JsonText.of(b"[ 1 ]") == JsonText(b"[ 1 ]")


def test_keys_that_are_no_unicode_are_refused() -> None:
    with pytest.raises(Invalid):
        protocol.quoted("\udc80")


def test_no_header_can_be_smuggled_in() -> None:
    data = protocol.request("GET", "/v1/kb/" + protocol.quoted("a\r\nX: y"))
    assert data.count(b"\r\n") == 3


def test_json_of_others_that_is_none_is_garbled() -> None:
    entry = protocol.Entry("a", 1, "x", 0, True, b"{")
    with pytest.raises(Garbled):
        entry.value  # noqa: B018
    assert entry.raw == b"{"


@pytest.mark.parametrize("line", [b"{", b"[]", b"{}", b'{"key": 1}', b"[" * 100_000])
def test_bad_lines_of_a_watch_are_garbled(line: bytes) -> None:
    inbox = Inbox()
    inbox.feed(line + b"\n")
    with pytest.raises(Garbled):
        list(protocol.changes(inbox))


def test_a_watch_skips_empty_lines_and_waits_for_whole_ones() -> None:
    inbox = Inbox()
    inbox.feed(
        b'\n{"key":"a","revision":1,"author":"x","time_ms":0,"media":"json","deleted":false,'
    )
    assert list(protocol.changes(inbox)) == []
    inbox.feed(b'"size_bytes":1,"value":7}\n')
    (change,) = protocol.changes(inbox)
    assert (change.version.key, change.value) == ("a", 7)
