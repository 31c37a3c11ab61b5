"""A beacon: a node's signed record for the other members on one network, and noise for all others.

Knows its bytes.  Refuses to know sockets, who is a member, and which record is news.

    32 random bytes | AEAD under a key made of them and the cluster id: length, record, padding

All beacons of all clusters have one size, and whoever does not know the cluster id can tell none of
them from random bytes: neither whose it is, nor of which cluster, nor whether two are of the same.
Whoever knows it (members, former ones, who was invited or holds the genesis) reads the record and
can make such an envelope: so it proves nothing, and the record inside must.
Follows: RFC 5869 for the key, which seals one beacon only, so that its nonce may be all zero.
"""

from __future__ import annotations

from aegis_edge.crypto import sodium
from aegis_edge.crypto.sodium import CryptoError
from aegis_edge.wire.codec import WireError

#: The largest record that is announced; nobody needs the eight addresses that one may have.
RECORD_BYTES_MAX = 512
ENTROPY_BYTES = 32
_LENGTH_BYTES = 2
_NONCE = bytes(sodium.NONCE_BYTES)
#: Of each beacon: it fits one packet on any line.
BEACON_BYTES = ENTROPY_BYTES + _LENGTH_BYTES + RECORD_BYTES_MAX + sodium.TAG_BYTES


def seal(cluster_id: bytes, record_raw: bytes, entropy: bytes) -> bytes:
    """The beacon of the node with this record; `entropy`: 32 bytes, fresh and for it alone.

    Raises `WireError` if the record is too large for one.
    """
    assert len(entropy) == ENTROPY_BYTES, "a beacon takes 32 bytes of entropy"
    size = len(record_raw)
    if size > RECORD_BYTES_MAX:
        raise WireError(
            f"this node's record has {size} bytes, and a beacon holds {RECORD_BYTES_MAX}; have"
            " `advertise` list fewer addresses"
        )
    content = (size.to_bytes(_LENGTH_BYTES, "big") + record_raw).ljust(
        _LENGTH_BYTES + RECORD_BYTES_MAX, b"\0"
    )
    return entropy + sodium.aead_seal(_key(cluster_id, entropy), _NONCE, content, b"")


def read(cluster_id: bytes, data: bytes) -> bytes:
    """The record in a beacon of this cluster, not looked at yet; raises `WireError`."""
    if len(data) != BEACON_BYTES:
        raise WireError(f"{len(data)} bytes are no beacon")
    entropy, sealed = data[:ENTROPY_BYTES], data[ENTROPY_BYTES:]
    try:
        content = sodium.aead_open(_key(cluster_id, entropy), _NONCE, sealed, b"")
    except CryptoError:
        raise WireError("no beacon of this cluster") from None
    size = int.from_bytes(content[:_LENGTH_BYTES], "big")
    record_raw, padding = content[_LENGTH_BYTES:][:size], content[_LENGTH_BYTES + size :]
    if len(record_raw) != size or any(padding):
        raise WireError("a beacon that no node of ours makes")
    return record_raw


def _key(cluster_id: bytes, entropy: bytes) -> bytes:
    return sodium.hkdf("blake2b", entropy, cluster_id, b"aegis-edge lan beacon", sodium.KEY_BYTES)
