"""The code of an invitation: it comes back as it was made, and no typing error passes for one."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.crypto import sodium
from aegis_edge.peers.invitation import (
    CHECKSUM_BYTES,
    GROUP_CHARACTERS,
    MARK_BYTES,
    SECRET_BYTES,
    TEXT_CHARACTERS_MAX,
    Invitation,
    InvitationError,
)
from aegis_edge.wire import codec
from aegis_edge.wire.messages import ADDRESSES_MAX, COUNTER_MAX
from tests.peers.test_address import ONION

GOOD = Invitation(
    bytes(range(32)),
    bytes(range(32, 64)),
    ("tcp:192.168.1.20:8080", "tcp:[2001:db8::1]:8080"),
    bytes(range(16)),
    1_800_000_000,
    7,
    bytes(range(16, 32)),
)
CODE = GOOD.to_text()


def coded(*fields: object) -> str:
    """The code of any fields, with a good checksum."""
    data = codec.encode(fields)
    checksum = sodium.digest(b"aegis invitation", data)[:CHECKSUM_BYTES]
    return base64.b32encode(data + checksum).decode().rstrip("=")


FIELDS = (
    *(1, GOOD.cluster_id, GOOD.host, GOOD.addresses, GOOD.secret),
    *(GOOD.until_s, GOOD.number, GOOD.mark),
)


def test_it_comes_back_from_its_code_however_that_was_typed() -> None:
    assert Invitation.from_text(CODE) == GOOD
    assert {len(group) for group in CODE.split("-")[:-1]} == {GROUP_CHARACTERS}
    assert Invitation.from_text(GOOD.bare()) == GOOD
    for typed in (
        CODE.lower(),
        CODE.replace("-", " "),
        CODE.replace("-", "\n", 3) + "\n",
        f"\t{CODE} ".replace("-", "\N{EN DASH}"),
        CODE.replace("O", "0").replace("B", "8"),
    ):
        assert Invitation.from_text(typed) == GOOD
    assert coded(*FIELDS) == GOOD.bare()


THROUGH_TOR = replace(GOOD, addresses=(f"onion:{ONION}:8080",), level="PARANOID")


def test_through_tor_it_says_the_level_and_gives_the_key_of_a_client() -> None:
    text = THROUGH_TOR.to_text()
    assert Invitation.from_text(text) == THROUGH_TOR
    assert Invitation.from_text(coded(2, *FIELDS[1:3], THROUGH_TOR.addresses, *FIELDS[4:], "HIGH"))
    assert sodium.x25519_public(THROUGH_TOR.credential) == sodium.x25519_public_of(
        THROUGH_TOR.public
    )
    other = replace(THROUGH_TOR, secret=bytes(16))
    assert other.credential != THROUGH_TOR.credential


@pytest.mark.parametrize("level", ["", "high", "HI GH", "H" * 17, b"HIGH", 1, None])
def test_a_level_that_is_none_is_refused(level: object) -> None:
    with pytest.raises(InvitationError, match="security level"):
        Invitation.from_text(coded(2, *FIELDS[1:3], THROUGH_TOR.addresses, *FIELDS[4:], level))


def test_an_address_outside_tor_has_no_level() -> None:
    mixed = (*THROUGH_TOR.addresses, GOOD.addresses[0])
    for addresses in (GOOD.addresses, mixed):
        with pytest.raises(InvitationError, match="not reached through Tor"):
            Invitation.from_text(replace(THROUGH_TOR, addresses=addresses).to_text())


@pytest.mark.parametrize(
    "fields", [(1, *FIELDS[1:], "HIGH"), (2, *FIELDS[1:]), (3, *FIELDS[1:]), (True, *FIELDS[1:])]
)
def test_each_format_has_its_own_fields(fields: tuple[object, ...]) -> None:
    with pytest.raises(InvitationError, match="another format"):
        Invitation.from_text(coded(*fields))


def test_every_invitation_fits_and_the_usual_one_is_short_enough_to_be_typed() -> None:
    largest = replace(
        GOOD,
        addresses=tuple(f"tcp:{'a' * 60}.{'b' * 40}.x{n}:65535" for n in range(ADDRESSES_MAX)),
        until_s=COUNTER_MAX,
        number=COUNTER_MAX,
    )
    assert Invitation.from_text(largest.to_text()) == largest
    assert len(largest.to_text()) < TEXT_CHARACTERS_MAX
    assert len(replace(GOOD, addresses=GOOD.addresses[:1]).bare()) <= 222


def test_no_typing_error_passes() -> None:
    bare = GOOD.bare()
    for at in range(len(bare)):
        other = "A" if bare[at] != "A" else "Q"
        with pytest.raises(InvitationError):
            Invitation.from_text(bare[:at] + other + bare[at + 1 :])
        with pytest.raises(InvitationError):
            Invitation.from_text(bare[:at] + bare[at + 1 :])
    for at in range(len(bare) - 1):
        if bare[at] != bare[at + 1]:
            with pytest.raises(InvitationError):
                Invitation.from_text(bare[:at] + bare[at + 1] + bare[at] + bare[at + 2 :])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no whole code"),
        ("-- -", "no whole code"),
        ("AAA", "no whole code"),
        ("B", "no whole code"),
        ("AB", "no whole code"),
        ("AA", "checksum"),
        (CODE[:-1], "code"),
        (CODE + "A", "code"),
        (CODE[:-4], "code"),
        ("1" + CODE, "'1' does not occur"),
        ("ä" + CODE, "does not occur"),
        ("A" * (TEXT_CHARACTERS_MAX + 1), "longer"),
    ],
)
def test_what_is_no_code_is_told_apart(text: str, words: str) -> None:
    with pytest.raises(InvitationError, match=words):
        Invitation.from_text(text)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (2, *FIELDS[1:]),
        FIELDS[:-1],
        (*FIELDS, 0),
        (1, b"short", *FIELDS[2:]),
        (1, "x" * 32, *FIELDS[2:]),
        (*FIELDS[:2], bytes(31), *FIELDS[3:]),
        (*FIELDS[:3], (), *FIELDS[4:]),
        (*FIELDS[:3], "tcp:a:1", *FIELDS[4:]),
        (*FIELDS[:3], (b"tcp:a:1",), *FIELDS[4:]),
        (*FIELDS[:3], ("nowhere",), *FIELDS[4:]),
        (*FIELDS[:3], ("tcp:a:1", "tcp:a:1"), *FIELDS[4:]),
        (*FIELDS[:3], tuple(f"tcp:a{n}:1" for n in range(ADDRESSES_MAX + 1)), *FIELDS[4:]),
        (*FIELDS[:4], bytes(SECRET_BYTES + 1), *FIELDS[5:]),
        (*FIELDS[:5], -1, *FIELDS[6:]),
        (*FIELDS[:5], COUNTER_MAX + 1, *FIELDS[6:]),
        (*FIELDS[:6], -1, FIELDS[7]),
        (*FIELDS[:6], "7", FIELDS[7]),
        (*FIELDS[:7], bytes(MARK_BYTES - 1)),
        FIELDS[:6],
        (*FIELDS[:5], "soon", *FIELDS[6:]),
    ],
)
def test_fields_that_mean_nothing_are_refused_behind_a_good_checksum(
    fields: tuple[object, ...],
) -> None:
    with pytest.raises(InvitationError, match="no invitation of a kind that is known"):
        Invitation.from_text(coded(*fields))
    with pytest.raises(InvitationError):
        Invitation.from_text(coded(1))


def test_what_is_no_array_is_refused() -> None:
    data = codec.encode(7)
    checksum = sodium.digest(b"aegis invitation", data)[:CHECKSUM_BYTES]
    with pytest.raises(InvitationError, match="format"):
        Invitation.from_text(base64.b32encode(data + checksum).decode().rstrip("="))


@given(st.text())
def test_any_text_is_a_code_or_an_error(text: str) -> None:
    with pytest.raises(InvitationError):
        Invitation.from_text(text)


def test_only_who_knows_the_secret_signs_for_it_and_each_invitation_has_a_key_of_its_own() -> None:
    signature = GOOD.sign(b"said")
    assert sodium.ed25519_verify(GOOD.public, b"said", signature)
    others = (
        replace(GOOD, secret=bytes(16)),
        replace(GOOD, host=bytes(32)),
        replace(GOOD, cluster_id=bytes(32)),
    )
    assert len({GOOD.public, *(other.public for other in others)}) == 4
    for other in others:
        assert not sodium.ed25519_verify(GOOD.public, b"said", other.sign(b"said"))


def test_the_secret_is_not_printed() -> None:
    assert repr(GOOD.secret) not in repr(GOOD)
    assert GOOD.secret not in GOOD.public
