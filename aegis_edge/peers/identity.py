"""What a node is called: its public key as text with a checksum, and its record as a text file.

Knows the text form of an Ed25519 key and of a signed node record.
Refuses to know private keys and who is a member.
The form is that of Tor's v3 addresses (rend-spec-v3 section 6): base32 of the key and a checksum.
"""

from __future__ import annotations

import base64
from typing import cast

from aegis_edge.crypto import sodium
from aegis_edge.peers import armour, places
from aegis_edge.peers.address import AddressError
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener
from aegis_edge.wire.messages import NodeRecord, Open, Verified

KEY_BYTES = sodium.KEY_BYTES
CHECKSUM_BYTES = 3
NODE_ID_CHARACTERS = 56
SHORT_CHARACTERS = 8
RECORD_LABEL = "AEGIS-EDGE NODE RECORD"

_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")


class IdentityError(ValueError):
    """A text that is no node id or no node record; the message says what is wrong with it."""


def node_id(key: bytes) -> str:
    """The id of the node with this 32-byte public key: 56 characters of lower-case base32."""
    assert len(key) == KEY_BYTES
    return base64.b32encode(key + _checksum(key)).decode("ascii").lower()


def short(key: bytes) -> str:
    """The first 8 characters of the id, for people to tell nodes apart; proves nothing."""
    return node_id(key)[:SHORT_CHARACTERS]


def parse_node_id(text: str) -> bytes:
    """The 32-byte public key that `text` names, in either case and with blanks around it.

    Raises `IdentityError`.
    """
    name = text.strip().lower()
    strange = next((c for c in name if c not in _ALPHABET), None)
    if strange is not None:
        raise IdentityError(
            f"{strange!r} does not occur in node ids (a-z and 2-7 do); look for a typing error"
        )
    if len(name) != NODE_ID_CHARACTERS:
        raise IdentityError(
            f"a node id has {NODE_ID_CHARACTERS} characters, this has {len(name)}; copy all of it"
        )
    data = base64.b32decode(name.upper())
    key, checksum = data[:KEY_BYTES], data[KEY_BYTES:]
    if checksum != _checksum(key):
        raise IdentityError("the checksum of this node id is wrong; look for a typing error")
    return key


def record_to_text(record: Verified[NodeRecord]) -> str:
    """The node record as a text file that its owner hands to the others."""
    return armour.wrap(RECORD_LABEL, record.raw)


def records_from_text(text: str, open_: Open | None = None) -> tuple[Verified[NodeRecord], ...]:
    """The node records in `text`, in order, at least one, each with a good signature.

    `open_` checks envelopes; by default it is an `Opener` without a cluster.  Text around the
    records is ignored, so that files can simply be put together.  Raises `IdentityError`.
    """
    open_ = open_ or Opener(b"").open
    try:
        return tuple(open_record(raw, open_) for raw in armour.unwrap(RECORD_LABEL, text))
    except (armour.ArmourError, WireError) as error:
        raise IdentityError(f"not a good node record: {error}") from None


def open_record(raw: bytes, open_: Open) -> Verified[NodeRecord]:
    """The node record in an envelope, with good addresses that are its own; else `WireError`."""
    opened = open_(raw)
    if not isinstance(opened.message, NodeRecord):
        raise WireError("a signed message that is not a node record")
    try:
        places.of(opened)
    except AddressError as error:
        raise WireError(f"a node record with a bad address: {error}") from None
    return cast("Verified[NodeRecord]", opened)


def _checksum(key: bytes) -> bytes:
    return sodium.digest(b"aegis node id", key)[:CHECKSUM_BYTES]
