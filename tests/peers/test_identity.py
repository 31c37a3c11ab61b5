from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.peers import armour, identity
from aegis_edge.peers.identity import IdentityError
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener, Signer
from aegis_edge.wire.messages import Status

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
KEY = bytes(range(32))


@given(st.binary(min_size=32, max_size=32))
def test_a_node_id_is_56_characters_and_comes_back_as_the_key(key: bytes) -> None:
    text = identity.node_id(key)
    assert len(text) == 56
    assert set(text) <= set(ALPHABET)
    assert identity.parse_node_id(text) == key
    assert identity.parse_node_id(f"  {text.upper()}\n") == key
    assert text.startswith(identity.short(key))
    assert len(identity.short(key)) == 8


def test_the_form_of_node_ids_does_not_change_between_releases() -> None:
    assert identity.node_id(KEY) == "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypthfkx"


@given(st.integers(0, 55), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_always_seen(place: int, character: str) -> None:
    text = identity.node_id(KEY)
    wrong = text[:place] + character + text[place + 1 :]
    if wrong != text:
        with pytest.raises(IdentityError, match="checksum"):
            identity.parse_node_id(wrong)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has 56 characters, this has 0"),
        (identity.node_id(KEY)[:-1], "this has 55"),
        (identity.node_id(KEY) + "a", "this has 57"),
        (identity.node_id(KEY).replace("a", "1"), "'1' does not occur"),
        (identity.node_id(KEY)[:20] + " " + identity.node_id(KEY)[21:], "' ' does not occur"),
        ("tcp:host:80", "':' does not occur"),
    ],
)
def test_a_text_that_is_no_node_id_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(IdentityError, match=says):
        identity.parse_node_id(text)


@given(st.text())
def test_any_text_gives_a_key_or_the_one_error(text: str) -> None:
    try:
        assert len(identity.parse_node_id(text)) == 32
    except IdentityError as error:
        assert str(error)  # noqa: PT017


def test_records_travel_as_text_and_files_can_be_put_together(make_record: Any) -> None:
    records = (make_record(1), make_record(2, name="bärn"))
    text = "these are ours\n" + "".join(identity.record_to_text(r) for r in records)
    assert identity.records_from_text(text) == records
    assert identity.records_from_text(text)[1].message.name == "bärn"


def test_records_are_checked_by_the_opener_that_is_given(make_record: Any) -> None:
    blind = Opener(b"", verify=lambda public, message, signature: False)
    with pytest.raises(IdentityError, match="signature"):
        identity.records_from_text(identity.record_to_text(make_record(1)), blind.open)


def test_a_forged_record_and_a_foreign_file_are_refused(make_record: Any) -> None:
    raw = bytearray(make_record(1).raw)
    raw[-1] ^= 1
    with pytest.raises(IdentityError, match="not a good node record: a signature"):
        identity.records_from_text(armour.wrap(identity.RECORD_LABEL, bytes(raw)))
    with pytest.raises(IdentityError, match="is it the right file"):
        identity.records_from_text("hello")


def test_a_record_with_a_bad_address_is_refused_with_the_reason(make_record: Any) -> None:
    text = identity.record_to_text(make_record(1, addresses=("tcp:127.1:80",)))
    with pytest.raises(IdentityError, match="neither a name nor an IP address"):
        identity.records_from_text(text)


def test_a_signed_message_of_another_kind_is_no_record() -> None:
    status = Signer(bytes(32), b"").sign(Status(0, 0, False, 0, 0, 0))
    with pytest.raises(WireError, match="not a node record"):
        identity.open_record(status.raw, Opener(b"").open)
