"""WebSocket frames after the opening handshake: exactly the part that a link uses.

Knows whole binary frames, close frames, and masking.  A text, a fragment, a ping or an extension
bit never comes from one of our nodes, so each is refused: nothing to flood with, nothing to buffer.
Refuses to know sockets.  Follows: RFC 6455 sections 5.2, 5.3 and 5.5.1.
"""

from __future__ import annotations

from aegis_edge.net.channel import FRAME_BYTES_MAX_UNPROVEN, Goodbye, LinkError
from aegis_edge.peers.conduct import What

MASK_BYTES = 4

_FIN = 0x80
_MASKED = 0x80
_BINARY = 2
_CLOSE = 8
_CONTROL_BYTES_MAX = 125
#: With these the other end says that it does not want us, and not that it ends.
_REFUSALS = frozenset(
    (
        Goodbye.NOT_A_MEMBER,
        Goodbye.WRONG_NODE,
        Goodbye.OWN_KEY,
        Goodbye.RECORD,
        Goodbye.HANDSHAKE,
        Goodbye.TOO_SOON,
        Goodbye.BANNED,
    )
)


def binary(payload: bytes, mask: bytes) -> bytes:
    """The frame with this payload; `mask` is 4 random bytes from a client, empty from a server."""
    return _frame(_BINARY, payload, mask)


def close(code: int, mask: bytes) -> bytes:
    """The close frame with this code."""
    return _frame(_CLOSE, code.to_bytes(2, "big"), mask)


class Parser:
    """Bytes of a stream in, payloads of binary frames out.

    `masked` tells whether the other end must mask its frames, i.e. is the client.
    """

    def __init__(self, *, masked: bool) -> None:
        self.size_bytes_max = FRAME_BYTES_MAX_UNPROVEN
        self._masked = masked
        self._buffer = bytearray()

    def __bool__(self) -> bool:
        """Whether there are bytes that `next` has not given."""
        return bool(self._buffer)

    def feed(self, data: bytes | bytearray) -> None:
        """Take bytes in the order in which they came."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The payload of the next frame, or None if more bytes are needed.

        Raises `LinkError` when the other end says goodbye, and for what is not allowed.
        """
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        opcode, size = buffer[0], buffer[1] & 0x7F
        self._check_start(opcode, buffer[1])
        start = 2
        if size == 126:
            start = 4
            size = int.from_bytes(buffer[2:4], "big") if len(buffer) >= 4 else 0
        elif size == 127:
            start = 10
            size = int.from_bytes(buffer[2:10], "big") if len(buffer) >= 10 else 0
        if size > self.size_bytes_max:
            raise LinkError(f"it sent a frame of {size} bytes", Goodbye.TOO_BIG)
        if self._masked:
            start += MASK_BYTES
        end = start + size
        if len(buffer) < end:
            return None
        payload = bytes(buffer[start:end])
        if self._masked:
            payload = _xor(payload, bytes(buffer[start - MASK_BYTES : start]))
        del buffer[:end]
        if opcode == _FIN | _CLOSE:
            raise _farewell(payload)
        return payload

    def _check_start(self, first: int, second: int) -> None:
        if first not in (_FIN | _BINARY, _FIN | _CLOSE):
            raise LinkError(
                "it sent a WebSocket frame of a kind that no node sends", Goodbye.PROTOCOL
            )
        if bool(second & _MASKED) != self._masked:
            raise LinkError("it masked its frames wrongly, against RFC 6455", Goodbye.PROTOCOL)
        if first == _FIN | _CLOSE and second & 0x7F > _CONTROL_BYTES_MAX:
            raise LinkError("it sent a close frame that is too long", Goodbye.PROTOCOL)


def _frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    bit = _MASKED if mask else 0
    if size <= _CONTROL_BYTES_MAX:
        head = bytes((_FIN | opcode, bit | size))
    elif size < 65_536:
        head = bytes((_FIN | opcode, bit | 126, size >> 8, size & 0xFF))
    else:
        head = bytes((_FIN | opcode, bit | 127)) + size.to_bytes(8, "big")
    if mask:
        return b"".join((head, mask, _xor(payload, mask)))
    return head + payload


def _xor(data: bytes, mask: bytes) -> bytes:
    """`data` masked or unmasked: as one long number, which is the quickest way without C."""
    size = len(data)
    key = int.from_bytes((mask * (size // MASK_BYTES + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ key).to_bytes(size, "little")


def _farewell(payload: bytes) -> LinkError:
    code = int.from_bytes(payload[:2], "big")
    try:
        goodbye = Goodbye(code)
    except ValueError:
        return LinkError(f"the other node closed the link (code {code})")
    return LinkError(goodbye.words, what=What.REFUSED if goodbye in _REFUSALS else None)
