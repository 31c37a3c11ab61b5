"""Beacons: the record for who knows the cluster, noise of one size for all others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.crypto import sodium
from aegis_edge.peers import beacon
from aegis_edge.peers.beacon import BEACON_BYTES, ENTROPY_BYTES, RECORD_BYTES_MAX
from aegis_edge.wire.codec import WireError
from tests.peers.conftest import MakeRecord

CLUSTER, OTHER = b"c" * 32, b"o" * 32
SALT = b"s" * ENTROPY_BYTES


def forged(content: bytes, cluster_id: bytes = CLUSTER) -> bytes:
    """A beacon by somebody who knows the cluster id, and how one is sealed."""
    key = sodium.hkdf("blake2b", SALT, cluster_id, b"aegis-edge lan beacon", sodium.KEY_BYTES)
    return SALT + sodium.aead_seal(key, bytes(12), content, b"")


@given(st.binary(max_size=RECORD_BYTES_MAX), st.binary(min_size=32, max_size=32))
def test_what_was_sealed_is_read_and_all_have_one_size(raw: bytes, entropy: bytes) -> None:
    sealed = beacon.seal(CLUSTER, raw, entropy)
    assert len(sealed) == BEACON_BYTES
    assert beacon.read(CLUSTER, sealed) == raw


def test_a_record_of_a_board_with_a_few_addresses_fits(make_record: MakeRecord) -> None:
    addresses = ("tcp:192.168.1.20:8080", "tcp:[2001:db8::1]:8080", "tcp:attic.local:8080")
    record = make_record(1, addresses=addresses, name="n" * 32)
    assert beacon.read(CLUSTER, beacon.seal(CLUSTER, record.raw, SALT)) == record.raw


def test_a_record_that_is_too_large_is_refused_with_what_to_do() -> None:
    beacon.seal(CLUSTER, bytes(RECORD_BYTES_MAX), SALT)
    with pytest.raises(WireError, match="fewer addresses"):
        beacon.seal(CLUSTER, bytes(RECORD_BYTES_MAX + 1), SALT)


def test_two_beacons_of_one_board_have_nothing_in_common() -> None:
    """No four bytes in a row: in two of noise there are some once in ten thousand times."""
    one, two = (beacon.seal(CLUSTER, bytes(300), bytes([n]) * 32) for n in (1, 2))
    parts = {one[at : at + 4] for at in range(BEACON_BYTES - 3)}
    assert not parts & {two[at : at + 4] for at in range(BEACON_BYTES - 3)}


def test_another_cluster_reads_nothing() -> None:
    with pytest.raises(WireError, match="no beacon of this cluster"):
        beacon.read(OTHER, beacon.seal(CLUSTER, b"record", SALT))


@pytest.mark.parametrize("at", [0, ENTROPY_BYTES, BEACON_BYTES - 1])
def test_a_flipped_bit_is_noticed(at: int) -> None:
    sealed = bytearray(beacon.seal(CLUSTER, b"record", SALT))
    sealed[at] ^= 1
    with pytest.raises(WireError):
        beacon.read(CLUSTER, bytes(sealed))


ROOM = RECORD_BYTES_MAX


@pytest.mark.parametrize(
    "content",
    [
        (ROOM + 1).to_bytes(2, "big") + bytes(ROOM),
        b"\xff\xff" + bytes(ROOM),
        b"\0\1x" + bytes(ROOM - 2) + b"y",
    ],
)
def test_what_a_member_seals_that_is_no_record_in_zeros_is_refused(content: bytes) -> None:
    with pytest.raises(WireError, match="no node of ours makes"):
        beacon.read(CLUSTER, forged(content))


@given(
    st.binary(max_size=2 * BEACON_BYTES) | st.binary(min_size=BEACON_BYTES, max_size=BEACON_BYTES)
)
def test_whatever_comes_is_a_wire_error(data: bytes) -> None:
    with pytest.raises(WireError):
        beacon.read(CLUSTER, data)
