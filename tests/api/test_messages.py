"""Query strings, percent-encoding, JSON, and the words of refusals."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.api import messages
from aegis_edge.api.messages import Refusal
from aegis_edge.client.protocol import quoted
from aegis_edge.knowledge.operations import MEDIA_BYTES, MEDIA_JSON, Delete, Put


@given(st.text())
def test_what_the_client_encodes_is_decoded(text: str) -> None:
    assert messages.unquoted(quoted(text)) == text


@given(st.text(alphabet="%0aAfFgé/", min_size=1))
def test_any_path_is_text_or_a_refusal(text: str) -> None:
    with suppress(Refusal):
        assert messages.unquoted(text).encode()


@pytest.mark.parametrize("text", ["%", "%2", "%zz", "%ff", "a%2", "%c3%28"])
def test_bad_escapes_are_refused(text: str) -> None:
    with pytest.raises(Refusal):
        messages.unquoted(text)


def test_a_query_is_read_item_by_item() -> None:
    assert messages.parse_query("a=1&b=x%20y&c") == {"a": "1", "b": "x y", "c": ""}
    assert messages.parse_query("") == {}
    assert messages.parse_query("a=1+2") == {"a": "1+2"}
    with pytest.raises(Refusal, match="twice"):
        messages.parse_query("a=1&a=2")
    with pytest.raises(Refusal, match="unknown query item 'b'"):
        messages.allow({"b": ""}, "a")
    messages.allow({"a": ""}, "a")


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "9" * 20, str(2**63), "\u0663"])
def test_bad_numbers_are_refused(text: str) -> None:
    with pytest.raises(Refusal):
        messages.number({"n": text}, "n")


def test_numbers_seconds_and_flags() -> None:
    assert messages.number({"n": "7"}, "n") == 7
    assert messages.number({}, "n", 3) == 3
    assert messages.seconds({"t": "1.5"}, "t", 30, 60) == 1.5
    assert messages.seconds({}, "t", 30, 60) == 30
    for text in ("0", "61", "-1", "nan", "1e3", ""):
        with pytest.raises(Refusal):
            messages.seconds({"t": text}, "t", 30, 60)
    assert messages.flag({"f": "1"}, "f")
    assert messages.flag({"f": ""}, "f")
    assert not messages.flag({"f": "false"}, "f")
    assert not messages.flag({}, "f")
    with pytest.raises(Refusal):
        messages.flag({"f": "yes"}, "f")


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b"\xff", b"[" * 100_000, b"-Infinity"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal, match="not JSON"):
        messages.check_json(body)


@given(
    st.binary(max_size=40) | st.just(b"{}"),
    st.sampled_from([MEDIA_BYTES, MEDIA_JSON]),
    st.none() | st.integers(0, 2**63 - 1),
)
def test_an_encoded_put_is_judged_as_the_put_itself(
    value: bytes, media: int, expected: int | None
) -> None:
    put = Put("a", value, media, expected)

    def refuses(check: Callable[..., None], what: object) -> bool:
        try:
            check(what)
        except Refusal:
            return True
        return False

    assert refuses(messages.check_encoded, put.encode()) == refuses(messages.check_value, put)


@given(st.binary(max_size=40))
def test_what_is_no_operation_is_for_others_to_refuse(data: bytes) -> None:
    with suppress(Refusal):
        messages.check_encoded(data)
    messages.check_encoded(data + b"\x01\xf6")
    messages.check_encoded(Delete("a", 1).encode())
    messages.check_value(Delete("a", 1))


def test_failures_of_the_node_keep_their_words() -> None:
    class Late(Exception):
        code = "timeout"
        advice = "wait"

    refusal = messages.refusal_of(Late("late"))
    assert refusal.status == 504
    assert refusal.body == {"error": "timeout", "message": "late", "advice": "wait"}
    late = Late("late")
    for taken, words in ((True, "may still happen"), (False, "nothing was written")):
        late.taken = taken  # type: ignore[attr-defined]
        refusal = messages.refusal_of(late)
        assert refusal.body["taken"] is taken
        assert words in str(refusal.body["advice"])
    with pytest.raises(KeyError):
        messages.refusal_of(KeyError("ours"))
