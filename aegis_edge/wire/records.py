"""How messages lie in the plaintexts of frames: records one after another, then padding.

Knows where a message begins, goes on in the next frame, and ends.  Refuses to know keys and sizes:
which plaintexts may be made is an argument, in rising order.

A record is a header of 4 bytes big endian (bit 31: the message continues in the next frame; bits 0
to 30: length), then that many bytes; a length of zero begins the padding, which is all zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import MESSAGE_BYTES_MAX

HEADER_BYTES = 4
#: Of one message.  The largest one in the smallest frames that anybody sends has fewer.
PIECES_MAX = 16_384

_CONTINUES = 1 << 31


class RecordError(WireError):
    """A plaintext that no peer would have made of messages."""


class Pieces(NamedTuple):
    """The last piece of a message that is not whole yet, and the pieces before it."""

    size_bytes: int
    number: int
    last: bytes
    before: Pieces | None


def pad(content: bytes, capacities: Sequence[int]) -> bytes:
    """`content` with zeros behind it, so that it fills the first capacity that holds it."""
    size = len(content)
    for capacity in capacities:
        if size <= capacity:
            return content.ljust(capacity, b"\0")
    raise AssertionError("no frame holds so much")


def alone(message: bytes) -> bytes:
    """The record of one whole message."""
    return len(message).to_bytes(HEADER_BYTES, "big") + message


def pack(messages: Sequence[bytes], capacities: Sequence[int]) -> list[bytes]:
    """The plaintexts that carry `messages`, padded; at least one.

    All but the last have the greatest capacity.
    """
    plaintexts: list[bytes] = []
    parts: list[bytes] = []
    room = capacities[-1]
    for message in messages:
        left = len(message)
        assert 0 < left <= MESSAGE_BYTES_MAX, "a message of no bytes, or of too many"
        while left > room - HEADER_BYTES:
            piece = room - HEADER_BYTES
            if piece > 0:
                start = len(message) - left
                parts.append((piece | _CONTINUES).to_bytes(HEADER_BYTES, "big"))
                parts.append(message[start : start + piece])
                left -= piece
            plaintexts.append(b"".join(parts).ljust(capacities[-1], b"\0"))
            parts, room = [], capacities[-1]
        parts.append(left.to_bytes(HEADER_BYTES, "big"))
        parts.append(message[len(message) - left :])
        room -= HEADER_BYTES + left
    plaintexts.append(pad(b"".join(parts), capacities))
    return plaintexts


def unpack(plaintext: bytes, pieces: Pieces | None) -> tuple[list[bytes], Pieces | None]:
    """The messages that a plaintext completes, and the pieces of one that it does not.

    `pieces`: what the plaintext before this one gave.  Raises `RecordError`.
    """
    messages: list[bytes] = []
    at, end = 0, len(plaintext)
    while end - at >= HEADER_BYTES:
        header = int.from_bytes(plaintext[at : at + HEADER_BYTES], "big")
        if header == 0:
            break
        start = at + HEADER_BYTES
        at = start + (header & ~_CONTINUES)
        if at > end:
            raise RecordError("a record that is longer than its frame")
        if header & _CONTINUES:
            if at != end or at == start:
                raise RecordError("a message that continues in the next frame, but too early")
            pieces = _grown(pieces, plaintext[start:])
        elif pieces is not None:
            messages.append(_joined(_grown(pieces, plaintext[start:at])))
            pieces = None
        else:
            messages.append(plaintext[start:at])
    if not plaintext.endswith(bytes(end - at)):
        raise RecordError("padding that is not empty")
    return messages, pieces


def _grown(pieces: Pieces | None, piece: bytes) -> Pieces:
    size, number = (0, 0) if pieces is None else (pieces.size_bytes, pieces.number)
    if size + len(piece) > MESSAGE_BYTES_MAX:
        raise RecordError("a message above its size bound")
    if number == PIECES_MAX:
        raise RecordError("a message in more pieces than anybody makes of one")
    return Pieces(size + len(piece), number + 1, piece, pieces)


def _joined(pieces: Pieces | None) -> bytes:
    found = []
    while pieces is not None:
        found.append(pieces.last)
        pieces = pieces.before
    return b"".join(reversed(found))
